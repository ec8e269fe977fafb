package pushcmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry"
)

const (
	smallBlob    = 4 << 20 // up to here one PUT saves a request
	defaultChunk = 16 << 20
	smallChunk   = 4 << 20  // what a registry takes that calls a chunk too large
	proxyChunk   = 80 << 20 // what passes proxies that refuse a large body
	minChunk     = 256 << 10
)

// mode returns the mode to begin with.
func (p *pusher) mode(desc oci.Descriptor) Mode {
	switch {
	case p.o.Mode != ModeAuto:
		return p.o.Mode
	case p.o.ChunkSize > 0 && desc.Size > p.o.ChunkSize:
		return ModeChunk
	case desc.Size <= smallBlob:
		return ModePut
	}
	return ModeStream
}

// UploadBlob brings one blob into a repository the way [Push] does: it asks whether it is
// there, mounts it, or sends it in whatever mode works, and goes on after a broken request.
// The bytes come from r; if they are not those of desc nothing is committed and the error is
// [digest.ErrMismatch].
func UploadBlob(ctx context.Context, c *registry.Client, repo string, desc oci.Descriptor, r io.ReaderAt, o Options) (Step, error) {
	p := newPusher(c, nil, repo, o)
	step := Step{Action: "exists", Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}
	if !desc.Digest.Verifiable() {
		return step, fmt.Errorf("blob %s: %w", desc.Digest, digest.ErrUnsupported)
	}
	if !o.Force {
		there, err := p.exists(ctx, desc)
		if err != nil || there {
			return step, err
		}
	}
	return p.sendFile(ctx, desc, r)
}

// sendBlob uploads a blob of the source.
func (p *pusher) sendBlob(ctx context.Context, desc oci.Descriptor) (Step, error) {
	f, err := p.open(desc)
	if err != nil {
		return Step{Action: "upload", Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}, err
	}
	defer f.close()
	return p.sendFile(ctx, desc, f)
}

func (p *pusher) sendFile(ctx context.Context, desc oci.Descriptor, r io.ReaderAt) (Step, error) {
	t := &task{p: p, c: p.c, desc: desc, feed: newFeed(r, desc), mode: p.mode(desc), chunk: p.o.ChunkSize, tail: true}
	if t.chunk <= 0 {
		t.chunk = defaultChunk
	}
	t.step = Step{Action: "uploaded", Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size, Mode: t.mode}
	t.feed.report = func(at int64) {
		t.reached = max(t.reached, at)
		p.progress(Progress{Kind: "bytes", Digest: desc.Digest, Size: desc.Size, Offset: at})
	}
	p.progress(Progress{Kind: "start", Digest: desc.Digest, Size: desc.Size})
	err := t.run(ctx)
	if err == nil {
		p.progress(Progress{Kind: "done", Digest: desc.Digest, Size: desc.Size, Text: t.step.Action})
	}
	return t.step, err
}

// A task is the upload of one blob through as many sessions as it takes.
type task struct {
	p    *pusher
	c    *registry.Client
	desc oci.Descriptor
	feed *feed
	step Step

	mode  Mode
	chunk int64
	tail  bool // in ModeChunk the last bytes go with the PUT

	up       registry.Upload
	open     bool  // there is a session
	patched  bool  // and it has had a PATCH: the next one must say where its bytes belong
	acked    int64 // bytes of the session that the registry has accepted
	reached  int64 // bytes of the session that were handed to the network
	frozen   bool  // the registry's Range does not move though it accepts bytes
	sessions int
	stalls   int // failures since the last progress
	refusals int // answers that say that the bytes are wrong
	disorder int // answers that say that the bytes belong elsewhere
	denials  int
	tried    map[Mode]bool
}

// errDone means that the blob turned out to be there.
var errDone = errors.New("blob is there")

func (t *task) run(ctx context.Context) error {
	t.tried = map[Mode]bool{t.mode: true}
	if done, err := t.mount(ctx); done || err != nil {
		return err
	}
	if !t.open {
		t.restore(ctx)
	}
	for {
		err := t.attempt(ctx)
		if err == nil {
			t.forget()
			return nil
		}
		if err = t.recover(ctx, err); err == errDone {
			t.forget()
			return nil
		}
		if err != nil {
			if t.p.o.State == "" || !t.open {
				t.cancel(ctx)
			}
			return err
		}
	}
}

// mount tries the repositories that may have the blob. What a registry opens in place of a
// mount is used for the upload.
func (t *task) mount(ctx context.Context) (bool, error) {
	for _, from := range t.p.o.MountFrom {
		if from == t.p.repo {
			continue
		}
		result, up, err := t.c.Mount(ctx, t.p.repo, t.desc.Digest, from)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err != nil {
			t.because("mount from %s: %v", from, err)
			continue
		}
		if result.Mounted {
			if there, err := t.p.exists(ctx, t.desc); result.Confirmed || err == nil && there {
				t.cancel(ctx) // what another mount opened
				t.step.Action, t.step.From, t.step.Mode = "mounted", from, ""
				return true, nil
			}
			continue
		}
		if t.open {
			t.cancel(ctx)
		}
		t.begin(up)
	}
	return false, nil
}

func (t *task) begin(up registry.Upload) {
	t.up, t.open, t.patched = up, true, false
	t.up.Offset, t.acked, t.reached = 0, 0, 0
}

// attempt sends what is missing and commits.
func (t *task) attempt(ctx context.Context) error {
	if !t.open {
		up, err := t.c.StartUpload(ctx, t.p.repo, t.desc.Digest.Algorithm())
		if err != nil {
			return startError{err}
		}
		t.begin(up)
		t.sessions++
		t.save()
	}
	mode, size := t.plan()
	for mode != ModePut && t.up.Offset < t.desc.Size {
		n := min(size, t.desc.Size-t.up.Offset)
		if mode == ModeChunk && t.tail && t.up.Offset+n == t.desc.Size {
			break
		}
		if err := t.patch(ctx, n, mode == ModeStream && !t.patched); err != nil {
			return err
		}
	}
	return t.commit(ctx)
}

// plan returns the mode for this session and the size of its chunks.
func (t *task) plan() (Mode, int64) {
	size, mode := t.chunk, t.mode
	if limit := t.up.ChunkMax; limit > 0 && t.desc.Size > limit {
		mode, size = ModeChunk, min(size, limit)
	}
	size = max(size, t.up.ChunkMin)
	if mode == ModeStream {
		size = t.desc.Size
	}
	if mode == ModePut && t.up.Offset == 0 && t.desc.Size == 0 {
		return ModePut, 0
	}
	return mode, size
}

func (t *task) patch(ctx context.Context, n int64, noRange bool) error {
	from := t.up.Offset
	if err := t.feed.section(from, from+n); err != nil {
		return localError{err}
	}
	err := t.c.PatchUpload(ctx, &t.up, registry.Body{Reader: t.feed, Size: n, NoRange: noRange})
	t.step.Sent += t.taken(from)
	if err != nil {
		return err
	}
	t.patched = true
	return t.judge(ctx, from, n)
}

// taken returns how many bytes of the section that began at from were handed out.
func (t *task) taken(from int64) int64 { return max(t.feed.at-from, 0) }

// judge compares what the registry says it has after a chunk with what it should have. What
// was sent counts, besides when the registry has clearly more, or a part.
func (t *task) judge(ctx context.Context, from, n int64) error {
	want, got := from+n, t.stored(t.up)
	if got >= 0 && got < want-1 && !t.frozen {
		status := t.up
		if err := t.c.UploadStatus(ctx, &status); err == nil {
			t.up.Location, got = status.Location, t.stored(status)
		}
		switch {
		case got > from && got < want-1:
			t.because("the registry took %d of %d bytes of a chunk", got-from, n)
			t.up.Offset, t.acked = got, got
			t.progressed()
			t.save()
			if t.stalls++; t.stalls > maxStalls {
				return fmt.Errorf("%w: it takes only parts of chunks", registry.ErrProtocol)
			}
			if t.mode == ModeStream {
				return t.patch(ctx, want-got, false)
			}
			return nil
		case got >= 0 && got < want-1:
			t.frozen = true
			t.because("the registry says it has %d of %d bytes; going by what was sent", got, want)
		}
	}
	if got > want+1 {
		return lostError{fmt.Errorf("%w: the registry has %d bytes, %d were sent", registry.ErrProtocol, got, want)}
	}
	t.up.Offset, t.acked = want, want
	t.progressed()
	t.save()
	return nil
}

// stored returns how many bytes the registry says it has after some were sent: "0-0" stands
// for none then, since that is what registries write that do not count.
func (t *task) stored(up registry.Upload) int64 {
	if up.Ambiguous && up.Server > 0 && t.reached > 1 {
		return 0
	}
	return up.Server
}

func (t *task) progressed() { t.stalls, t.denials = 0, 0 }

// commit closes the session, with the bytes that are left. No byte that completes a wrong
// digest leaves the feed.
func (t *task) commit(ctx context.Context) error {
	from := t.up.Offset
	if err := t.feed.section(from, t.desc.Size); err != nil {
		return localError{err}
	}
	body := registry.Body{Size: t.desc.Size - from}
	if body.Size > 0 {
		body.Reader = t.feed
	} else {
		t.p.progress(Progress{Kind: "commit", Digest: t.desc.Digest, Size: t.desc.Size, Offset: t.desc.Size})
	}
	err := t.c.PutUpload(ctx, &t.up, t.desc.Digest, body)
	t.step.Sent += t.taken(from)
	if err != nil {
		return commitError{err, body.Size > 0}
	}
	t.open = false
	if t.desc.Digest.Algorithm() == digest.SHA256 {
		return nil
	}
	// Some registries file other digests under sha256.
	if there, err := t.p.exists(ctx, t.desc); err != nil || !there {
		return startError{errors.Join(fmt.Errorf("%w: the blob was committed and is not there under its %s digest", registry.ErrProtocol, t.desc.Digest.Algorithm()), err)}
	}
	return nil
}

// because notes a reason in the report.
func (t *task) because(format string, args ...any) {
	text := t.c.Redact(fmt.Sprintf(format, args...))
	t.step.Reason = text
	t.p.progress(Progress{Kind: "retry", Digest: t.desc.Digest, Size: t.desc.Size, Offset: t.up.Offset, Text: text})
}
