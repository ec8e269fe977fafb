package pushcmd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

const (
	cancelTime = 2 * time.Second
	settleTime = 100 * time.Millisecond
)

// committed asks whether the blob is there after a commit whose answer says nothing certain.
func (t *task) committed(ctx context.Context, f failure) bool {
	// A clear refusal says that nothing was stored. Not so 404, or a session that is unknown:
	// the session may be gone because the commit did its work.
	switch {
	case t.phase != committing:
		return false
	case f.status != nil && f.status.Status < 500 && f.status.Status != http.StatusNotFound && !registry.IsUploadLost(f.err):
		return false
	case f.conn != nil && f.conn.Sent < t.desc.Size-t.up.Offset:
		return false // it did not have all bytes
	}

	there, err := t.p.exists(ctx, t.desc)
	if err != nil || !there {
		return false
	}

	t.because("the answer to the commit was lost, the blob is there")
	t.phase = closed
	return true
}

// shrink goes over to chunks, or to smaller ones.
func (t *task) shrink(ctx context.Context, f failure) error {
	// size is what was refused: a chunk, or the whole blob.
	e, size := f.status, t.desc.Size
	if t.way.mode == ModeChunk || t.up.Offset > 0 {
		size = min(size, t.way.chunk)
	}

	// A 413 mostly comes from a proxy, a 416 from the registry itself; each has a usual limit.
	limit := int64(proxyChunk)
	if e.Status == http.StatusRequestedRangeNotSatisfiable {
		limit = smallChunk
	}

	// A quarter, not a half: each step costs a session, and those are counted.
	if t.way.chunk = limit; size <= limit {
		t.way.chunk = size / 4
	}

	if t.way.chunk < max(minChunk, t.up.ChunkMin) {
		return e
	}

	t.way.mode, t.step.Mode = ModeChunk, ModeChunk
	t.p.learnLimit(t.way.chunk)
	t.because("%v; going on with chunks of %d bytes", e, t.way.chunk)
	t.p.notice(fmt.Sprintf("the registry takes no body of %d bytes; using chunks of %d", size, t.way.chunk))
	return t.renew(ctx, f)
}

// otherMode follows an answer that says that a request is unknown: the next mode that was
// not tried yet, in a new session.
func (t *task) otherMode(ctx context.Context, f failure) error {
	switch {
	case t.way.mode == ModeChunk && t.way.tail:
		t.way.tail = false
		t.because("%v; closing with an empty PUT", f.err)
	case t.nextMode():
		t.because("%v; trying mode %s", f.err, t.way.mode)
	default:
		return f.err
	}
	return t.renew(ctx, f)
}

// nextMode goes over to a mode that was not tried yet.
func (t *task) nextMode() bool {
	for _, m := range []Mode{ModePut, ModeStream, ModeChunk} {
		if !t.way.tried[m] && (m != ModeStream || t.desc.Size > 0) {
			t.way.tried[m] = true
			t.way.mode, t.step.Mode = m, m
			return true
		}
	}
	return false
}

// resume asks where the upload stands and goes on there, or in a new session if that is not
// clear.
func (t *task) resume(ctx context.Context, f failure) error {
	cause := f.err
	for {
		if !t.spend(stalls) {
			return cause
		}

		if err := t.pause(ctx, cause); err != nil {
			return err
		}

		err := t.c.UploadStatus(ctx, &t.up)
		var status *registry.StatusError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			if err := t.settle(ctx); err != nil {
				cause = err
				continue
			}
			return t.goOn(ctx, cause)
		// Where nobody can say how much is there, only a new session is certain.
		case registry.IsUploadLost(err):
			return t.startOver(ctx, cause, false)
		case errors.As(err, &status) && !status.Retryable():
			return t.startOver(ctx, cause, true)
		}

		cause = err
	}
}

// settle asks until the registry says the same twice. Bytes that were on their way when a
// connection broke may still arrive. An offset that was true for a moment only would cost a
// whole body.
func (t *task) settle(ctx context.Context) error {
	for range 8 {
		before := t.up.Server
		if before < 0 || before >= t.reached {
			return nil
		}
		if err := t.p.o.Sleep(ctx, settleTime<<min(t.spent[disorder], 3)); err != nil {
			return err
		}
		if err := t.c.UploadStatus(ctx, &t.up); err != nil || t.up.Server == before {
			return err
		}
	}
	return nil
}

// pause waits before another attempt; not after the first failure since the last progress.
func (t *task) pause(ctx context.Context, cause error) error {
	d := time.Duration(0)
	if n := t.spent[stalls]; n > 1 {
		d = min(200*time.Millisecond<<(n-2), 10*time.Second)
		d += time.Duration(rand.Int64N(int64(d)/4 + 1))
	}

	if status, ok := errors.AsType[*registry.StatusError](cause); ok {
		// A wait of over a minute is for the caller to decide.
		if status.RetryAfter > time.Minute {
			return cause
		}
		d = max(d, status.RetryAfter)
	}

	if d == 0 {
		return nil
	}

	return t.p.o.Sleep(ctx, d)
}

// goOn takes the registry's word for where a live session stands, if it can be right.
func (t *task) goOn(ctx context.Context, cause error) error {
	n := t.up.Server
	var status *registry.StatusError
	refused := errors.As(cause, &status) && t.acked == 0 && t.spent[disorder] == 0 // so it took nothing

	// An offset is of no use if it is not said, or if it is beyond what was handed to the
	// network. "0-0" is one byte or none, unless it is known that nothing was taken.
	switch {
	case n < 0, n > t.reached+1, t.up.Ambiguous && t.reached > 0 && !refused:
		return t.startOver(ctx, cause, true) // says nothing, or what cannot be
	case t.up.Ambiguous:
		n = 0
	case n > t.reached:
		n = t.reached
	}

	// A registry that does not count keeps what it acknowledged.
	if t.frozen && n < t.acked {
		n = t.acked
	}

	if n > t.acked {
		t.progressed(n-t.acked, t.reached-t.acked)
	}

	t.up.Offset, t.acked, t.reached = n, n, n
	t.patched = t.patched || n > 0
	t.step.Action = "resumed"
	t.because("%v; resumed at %d", cause, n)
	t.p.progress(progress.Event{Kind: "resume", Digest: t.desc.Digest, Size: t.desc.Size, Offset: n})
	t.save()
	return nil
}

// renew gives the session up after an answer that makes it useless, and the next attempt opens
// another one: at once the first time.
func (t *task) renew(ctx context.Context, f failure) error {
	if n := t.spent[sessions]; n > 1 && n < sessions.limit() {
		t.spent[stalls]++
		if err := t.pause(ctx, f.err); err != nil {
			return err
		}
	}
	return t.startOver(ctx, f.err, !f.gone())
}

// startOver gives the session up without a pause.
func (t *task) startOver(ctx context.Context, cause error, alive bool) error {
	if alive {
		t.cancel(ctx)
	}
	t.phase = closed
	t.forget()
	if n := t.spent[sessions]; n >= sessions.limit() {
		return fmt.Errorf("given up after %d uploads: %w", n, cause)
	}
	t.because("%v; starting over", cause)
	if _, ok := errors.AsType[*registry.ConnError](cause); ok && t.spent[sessions]%2 == 0 {
		t.nextMode() // what breaks twice may break always
	}
	return nil
}

// cancel closes the session, also after an interrupt. Whether that works does not matter.
func (t *task) cancel(ctx context.Context) {
	if !t.isOpen() {
		return
	}
	t.phase = closed
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer stop()
	t.c.CancelUpload(ctx, t.up)
}
