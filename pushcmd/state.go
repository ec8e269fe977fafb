package pushcmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ocikit/oci/progress"
)

// stateFile returns the file that keeps this blob's session between processes, "" for none.
func (t *task) stateFile() string {
	if t.p.o.State == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(t.c.Host() + "/" + t.p.repo + "@" + t.desc.Digest.String()))
	return filepath.Join(t.p.o.State, "upload-"+hex.EncodeToString(sum[:16])+".json")
}

// save writes the session's file. A failure costs the resume of a later process, not the
// upload of this one.
func (t *task) save() {
	name := t.stateFile()
	if name == "" {
		return
	}

	s := Session{Registry: t.c.Ref(), Upload: t.up, alg: t.desc.Digest.Algorithm(), Digest: t.desc.Digest, Size: t.desc.Size}
	if t.feed.h.Size() == t.up.Offset {
		s.hash = t.feed.h
	}

	err := os.MkdirAll(t.p.o.State, 0o700)
	if err == nil {
		err = s.Save(name)
	}
	if err != nil {
		t.p.notice(fmt.Sprintf("state of uploads: %v", err))
	}
}

func (t *task) forget() {
	if name := t.stateFile(); name != "" {
		RemoveSession(name)
	}
}

// restore takes up the session that an earlier process left, if the registry still knows it
// and says clearly how much it has.
func (t *task) restore(ctx context.Context) {
	s := t.saved()
	if s == nil {
		return
	}

	// The file is a hint. Only the registry knows whether the session lives, and what it has.
	up := s.Upload
	if err := t.c.UploadStatus(ctx, &up); err != nil {
		if ctx.Err() == nil {
			t.p.notice(fmt.Sprintf("blob %s: the upload of before is gone; starting over", t.desc.Digest))
			t.forget()
		}
		return
	}

	if up.Server <= 0 || up.Ambiguous || up.Server > t.desc.Size {
		// "0-0" may be a byte or none: a new session costs less than a wrong guess.
		t.phase, t.up = sending, up
		t.cancel(ctx)
		t.forget()
		return
	}

	t.begin(up)
	t.spent[sessions]++
	t.up.Offset, t.acked, t.reached, t.patched = up.Server, up.Server, up.Server, true
	// A hash that is ahead of the registry cannot go back. Without it the feed hashes the blob
	// from its start.
	if s.hash != nil && s.hash.Size() <= up.Server {
		t.feed.h = s.hash
	}

	t.step.Action = "resumed"
	t.because("an earlier process sent %d bytes", up.Server)
	t.p.progress(progress.Event{Kind: "resume", Digest: t.desc.Digest, Size: t.desc.Size, Offset: up.Server})
}

// saved returns the session that an earlier process left, or nil. A file that is of no use is removed.
func (t *task) saved() *Session {
	name := t.stateFile()
	if name == "" {
		return nil
	}

	s, err := LoadSession(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	if err == nil && (s.Digest != t.desc.Digest || s.Size != t.desc.Size || s.Upload.Repo != t.p.repo || s.Registry.Host != t.c.Ref().Host) {
		err = fmt.Errorf("%w: it is for another blob", ErrSession)
	}
	if err != nil {
		t.p.notice(fmt.Sprintf("%v; starting over", err))
		t.forget()
		return nil
	}
	return s
}
