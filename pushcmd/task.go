package pushcmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

// A phase says how far an upload session is, and so which request failed when one did.
type phase int

const (
	closed     phase = iota // there is no session
	opening                 // one is being asked for
	sending                 // it is open, and takes bytes
	committing              // the request that closes it was sent
)

// A task is the upload of one blob through as many sessions as it takes. The table of [rules]
// says what follows a failed request.
type task struct {
	p    *pusher
	c    *registry.Client
	desc oci.Descriptor
	feed *feed
	step Step

	way   way
	phase phase
	session
	frozen bool // the registry's Range does not move though it accepts bytes
	spent  [budgets]int
}

// A way is how the bytes of a blob are sent. It changes when the registry refuses a request.
type way struct {
	mode  Mode
	chunk int64
	tail  bool // in ModeChunk the last bytes go with the PUT
	tried map[Mode]bool
}

// A session is what is known of the one that is open.
type session struct {
	up      registry.Upload
	patched bool  // it has had a PATCH: the next one must say where its bytes belong
	acked   int64 // bytes that the registry has accepted
	reached int64 // bytes that were handed to the network
}

func newTask(p *pusher, desc oci.Descriptor, r io.ReaderAt) *task {
	t := &task{p: p, c: p.c, desc: desc, feed: newFeed(r, desc)}
	t.way = way{mode: p.mode(desc), chunk: p.o.ChunkSize, tail: true}
	t.way.tried = map[Mode]bool{t.way.mode: true}
	if t.way.chunk <= 0 {
		t.way.chunk = defaultChunk
	}

	if limit := p.bodyLimit(); limit > 0 {
		t.way.chunk = min(t.way.chunk, limit)
	}

	t.step = Step{Action: "uploaded", Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size, Mode: t.way.mode}

	// No registry can have more than was handed to the network: reached tells that much.
	t.feed.report = func(at int64) {
		t.reached = max(t.reached, at)
		p.progress(progress.Event{Kind: "bytes", Digest: desc.Digest, Size: desc.Size, Offset: at})
	}

	return t
}

// isOpen reports whether there is a session.
func (t *task) isOpen() bool { return t.phase >= sending }

// errDone means that the blob turned out to be there.
var errDone = errors.New("blob is there")

func (t *task) run(ctx context.Context) error {
	if done, err := t.mount(ctx); done || err != nil {
		return err
	}

	if !t.isOpen() {
		t.restore(ctx)
	}

	for {
		err := t.attempt(ctx)
		if err != nil {
			err = t.recover(ctx, err)
		} else {
			err = errDone
		}
		switch {
		case err == nil: // once more
		case errors.Is(err, errDone):
			t.forget()
			return nil
		default:
			// With a state directory the session stays open: the next process goes on with it.
			if t.p.o.State == "" {
				t.cancel(ctx)
			}
			return err
		}
	}
}

// mount tries the repositories that may have the blob. A session that a registry opens in place
// of a mount is used for the upload.
func (t *task) mount(ctx context.Context) (bool, error) {
	for _, from := range t.p.mountFrom(t.desc.Digest) {
		result, up, err := t.c.Mount(ctx, t.p.repo, t.desc.Digest, from)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}

		if err != nil {
			t.p.origins.setMounts(false)
			t.because("mount from %s: %v", from, err)
			continue
		}

		if result.Mounted {
			// Some registries answer a mount that they do not know with success. One that names
			// the digest did it, and one that was seen to mount before is believed; others are
			// asked.
			if !result.Confirmed && !t.p.origins.trusts() {
				there, err := t.p.exists(ctx, t.desc)
				if err != nil || !there {
					continue
				}
			}
			t.p.origins.setMounts(true)
			t.cancel(ctx) // what another mount opened
			t.step.Action, t.step.From, t.step.Mode = "mounted", from, ""
			if from == t.p.repo {
				t.step.Action, t.step.From = "exists", ""
			}
			return true, nil
		}

		if from != t.p.repo { // it was only asked whether the blob is there
			t.p.origins.setMounts(false)
		}

		t.cancel(ctx) // that of the mount before
		t.begin(up)
	}

	return false, nil
}

func (t *task) begin(up registry.Upload) {
	up.Offset = 0
	t.phase, t.session = sending, session{up: up}
}

// attempt sends what is missing and commits.
func (t *task) attempt(ctx context.Context) error {
	// A remote blob takes a round trip before its first byte, which passes while the session is opened.
	from := int64(0)
	if t.isOpen() {
		from = t.up.Offset
	}
	t.feed.ahead(from)

	if !t.isOpen() {
		t.phase = opening
		up, err := t.c.StartUpload(ctx, t.p.repo, t.desc.Digest.Algorithm())
		if err != nil {
			return err
		}
		t.begin(up)
		t.spent[sessions]++
		t.save()
	}

	t.phase = sending
	mode, size := t.plan()

	// A session that was resumed begins above 0. With tail the last chunk goes with the PUT
	// that commits, which saves a request.
	for mode != ModePut && t.up.Offset < t.desc.Size {
		n := min(size, t.desc.Size-t.up.Offset)
		if mode == ModeChunk && t.way.tail && t.up.Offset+n == t.desc.Size {
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
	size, mode := t.way.chunk, t.way.mode

	// The registry's bounds, OCI-Chunk-Max-Length and OCI-Chunk-Min-Length, count more than
	// what the user asked for.
	if limit := t.up.ChunkMax; limit > 0 && t.desc.Size > limit {
		mode, size = ModeChunk, min(size, limit)
	}
	size = max(size, t.up.ChunkMin)
	if mode == ModeStream {
		size = t.desc.Size
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

// judge compares what the registry says it has after a chunk with what it should have. A
// difference of one byte is none: registries do not agree whether a Range ends with its last
// byte or behind it. Our own count holds, unless the registry has clearly more, or a part of
// the chunk.
func (t *task) judge(ctx context.Context, from, n int64) error {
	want, got := from+n, t.stored(t.up)
	if got >= 0 && got < want-1 && !t.frozen {
		// An answer to a PATCH may be behind. The status of the session has the last word.
		status := t.up
		if err := t.c.UploadStatus(ctx, &status); err == nil {
			t.up.Location, got = status.Location, t.stored(status)
		}
		switch {
		// It has a part of the chunk: the next PATCH goes on behind that.
		case got > from && got < want-1:
			t.because("the registry took %d of %d bytes of a chunk", got-from, n)
			t.up.Offset, t.acked = got, got
			t.progressed(got-from, n)
			t.save()
			if !t.spend(stalls) {
				return fmt.Errorf("%w: it takes only small parts of chunks", registry.ErrProtocol)
			}
			return nil
		// The number did not move, so this registry does not count. To believe it would be to
		// send the chunk for ever.
		case got >= 0 && got < want-1:
			t.frozen = true
			t.because("the registry says it has %d of %d bytes; going by what was sent", got, want)
		}
	}

	// Bytes that were not sent from here are in the session, so its blob would not be ours.
	if got > want+1 {
		return lostError{fmt.Errorf("%w: the registry has %d bytes, %d were sent", registry.ErrProtocol, got, want)}
	}

	t.up.Offset, t.acked = want, want
	t.progressed(n, n)
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

// smallProgress bounds what counts as no progress: fewer bytes than this, if they are also under a
// hundredth of those that were sent.
const smallProgress = 64 << 10

// progressed fills the budgets of failures up again when so many of the bytes that were sent have
// arrived. A few are not enough: a registry that takes ten bytes of each request would be sent the
// rest of the blob again and again. A connection that breaks after ten is another matter.
func (t *task) progressed(arrived, sent int64) {
	if arrived >= smallProgress || arrived >= sent/100 {
		t.spent[stalls], t.spent[denials] = 0, 0
	}
}

// commit closes the session, with the bytes that are left. No byte that completes a wrong
// digest leaves the feed.
func (t *task) commit(ctx context.Context) error {
	from := t.up.Offset
	if err := t.feed.section(from, t.desc.Size); err != nil {
		return localError{err}
	}

	// The registry hashes the blob before it answers. If no bytes move meanwhile, the wait is
	// told as a step.
	body := registry.Body{Size: t.desc.Size - from}
	if body.Size > 0 {
		body.Reader = t.feed
	} else {
		t.p.progress(progress.Event{Kind: "commit", Digest: t.desc.Digest, Size: t.desc.Size, Offset: t.desc.Size})
	}

	t.phase = committing
	err := t.c.PutUpload(ctx, &t.up, t.desc.Digest, body)
	t.step.Sent += t.taken(from)
	if err != nil {
		return err
	}

	t.phase = closed
	if t.desc.Digest.Algorithm() == digest.SHA256 {
		return nil
	}

	// Some registries store a blob of another algorithm under its sha256 digest, so success is
	// proved.
	if there, err := t.p.exists(ctx, t.desc); err != nil || !there {
		return errors.Join(fmt.Errorf("%w: the blob was committed and is not there under its %s digest", registry.ErrProtocol, t.desc.Digest.Algorithm()), err)
	}

	return nil
}

// because notes a reason in the report.
func (t *task) because(format string, args ...any) {
	text := t.c.Redact(fmt.Sprintf(format, args...))
	t.step.Reason = text
	t.p.progress(progress.Event{Kind: "retry", Digest: t.desc.Digest, Size: t.desc.Size, Offset: t.up.Offset, Text: text})
}
