package pushcmd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"ocikit/digest"
	"ocikit/oci/registry"
)

const (
	maxStalls   = 5 // failures without progress
	maxSessions = 8 // of one blob
	maxRefusals = 2 // "these bytes have another digest", of bytes that have the right one
	cancelTime  = 2 * time.Second
	settleTime  = 100 * time.Millisecond
)

// startError is one of opening a session: the client has repeated the request already.
type startError struct{ error }

func (e startError) Unwrap() error { return e.error }

// localError is one of the blob's own bytes.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

// lostError means that the session is of no use any more.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// commitError is one of the request that closes the session.
type commitError struct {
	error
	body bool // it carried bytes
}

func (e commitError) Unwrap() error { return e.error }

// recover decides what to do after a failed request: it returns nil if another attempt makes
// sense, with the session where the registry stands or a new one; [errDone] if the blob is
// there; else the error that ends the upload.
func (t *task) recover(ctx context.Context, err error) error {
	var (
		start  startError
		local  localError
		lost   lostError
		commit commitError
		status *registry.StatusError
		conn   *registry.ConnError
	)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &start):
		return start.error
	case errors.As(err, &local), errors.Is(err, digest.ErrMismatch):
		return err
	case errors.As(err, &lost):
		return t.renew(ctx, err, true)
	}
	if errors.As(err, &commit) && t.committed(ctx, commit.error) {
		return errDone
	}
	switch {
	case errors.As(err, &status):
		return t.refused(ctx, status, errors.As(err, &commit))
	case errors.As(err, &conn) && conn.Retryable(), errors.Is(err, registry.ErrProtocol) && t.open && t.taken(t.up.Offset) > 0:
		return t.resume(ctx, err)
	}
	return err
}

// committed asks whether the blob is there after a commit whose answer says nothing certain.
func (t *task) committed(ctx context.Context, err error) bool {
	var status *registry.StatusError
	if errors.As(err, &status) && status.Status < 500 && status.Status != http.StatusNotFound && !registry.IsUploadLost(err) {
		return false
	}
	var conn *registry.ConnError
	if errors.As(err, &conn) && conn.Sent < t.desc.Size-t.up.Offset {
		return false // it did not have all bytes
	}
	there, err := t.p.exists(ctx, t.desc)
	if err == nil && there {
		t.because("the answer to the commit was lost, the blob is there")
		t.open = false
		return true
	}
	return false
}

// refused decides after an answer with an error.
func (t *task) refused(ctx context.Context, e *registry.StatusError, committing bool) error {
	switch {
	case e.Status == http.StatusUnauthorized:
		if t.denials++; t.denials > 2 {
			return e
		}
		return t.resume(ctx, e) // with a new token
	case e.Status == http.StatusForbidden, e.Status == http.StatusLengthRequired:
		return e
	case e.Status == http.StatusRequestEntityTooLarge, e.Status == http.StatusRequestedRangeNotSatisfiable && e.Says("too large", "larger than", "exceed", "too big"):
		return t.shrink(ctx, e)
	case e.Status == http.StatusRequestedRangeNotSatisfiable:
		t.disorder++
		return t.resume(ctx, e)
	case e.Retryable() && e.Status != http.StatusNotImplemented:
		return t.resume(ctx, e)
	case e.Has("DIGEST_INVALID", "SIZE_INVALID"):
		return t.wrongBytes(ctx, e)
	case e.Has("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID") && (t.patched || committing || t.sessions < 2):
		return t.renew(ctx, e, false)
	case e.Status == http.StatusNotFound, e.Status == http.StatusMethodNotAllowed, e.Status == http.StatusUnsupportedMediaType, e.Status == http.StatusNotImplemented, e.Status == http.StatusBadRequest:
		return t.otherMode(ctx, e)
	}
	return e
}

// wrongBytes follows an answer that calls the digest wrong. The local bytes were verified
// before the last of them left, so the registry's are not ours.
func (t *task) wrongBytes(ctx context.Context, e *registry.StatusError) error {
	if t.refusals++; t.refusals > maxRefusals {
		return fmt.Errorf("the local blob has the right digest, the registry's copy has not: %w", e)
	}
	return t.renew(ctx, e, true)
}

// shrink goes over to chunks, or to smaller ones.
func (t *task) shrink(ctx context.Context, e *registry.StatusError) error {
	size := t.desc.Size
	if t.mode == ModeChunk || t.up.Offset > 0 {
		size = min(size, t.chunk)
	}
	limit := int64(proxyChunk)
	if e.Status == http.StatusRequestedRangeNotSatisfiable {
		limit = smallChunk
	}
	if t.chunk = limit; size <= limit {
		t.chunk = size / 2
	}
	if t.chunk < max(minChunk, t.up.ChunkMin) {
		return e
	}
	t.mode = ModeChunk
	t.step.Mode = ModeChunk
	t.because("%v; going on with chunks of %d bytes", e, t.chunk)
	t.p.notice(fmt.Sprintf("the registry takes no body of %d bytes; using chunks of %d", size, t.chunk))
	return t.renew(ctx, e, true)
}

// otherMode follows an answer that says that a request is unknown: the next mode that was
// not tried yet, in a new session.
func (t *task) otherMode(ctx context.Context, e *registry.StatusError) error {
	if t.mode == ModeChunk && t.tail {
		t.tail = false
		t.because("%v; closing with an empty PUT", e)
		return t.renew(ctx, e, true)
	}
	if t.nextMode() {
		t.because("%v; trying mode %s", e, t.mode)
		return t.renew(ctx, e, true)
	}
	return e
}

// nextMode goes over to a mode that was not tried yet.
func (t *task) nextMode() bool {
	for _, m := range []Mode{ModePut, ModeStream, ModeChunk} {
		if !t.tried[m] && (m != ModeStream || t.desc.Size > 0) {
			t.tried[m] = true
			t.mode, t.step.Mode = m, m
			return true
		}
	}
	return false
}

// resume asks where the upload stands and goes on there, or in a new session if that is not
// clear.
func (t *task) resume(ctx context.Context, cause error) error {
	for {
		if t.stalls++; t.stalls > maxStalls {
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
		case registry.IsUploadLost(err):
			return t.startOver(ctx, cause, false)
		case errors.As(err, &status) && !status.Retryable():
			return t.startOver(ctx, cause, true)
		}
		cause = err
	}
}

// settle asks until the registry says the same twice. What was on its way when a connection
// broke may still arrive, and an offset that was true for a moment costs a whole body.
func (t *task) settle(ctx context.Context) error {
	for range 8 {
		before := t.up.Server
		if before < 0 || before >= t.reached {
			return nil
		}
		if err := t.p.o.Sleep(ctx, settleTime<<min(t.disorder, 3)); err != nil {
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
	if t.stalls > 1 {
		d = min(200*time.Millisecond<<(t.stalls-2), 10*time.Second)
		d += time.Duration(rand.Int64N(int64(d)/4 + 1))
	}
	var status *registry.StatusError
	if errors.As(cause, &status) {
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
	refused := errors.As(cause, &status) && t.acked == 0 && t.disorder == 0 // so it took nothing
	switch {
	case n < 0, n > t.reached+1, t.up.Ambiguous && t.reached > 0 && !refused:
		return t.startOver(ctx, cause, true) // says nothing, or what cannot be
	case t.up.Ambiguous:
		n = 0
	case n > t.reached:
		n = t.reached
	}
	if t.frozen && n < t.acked {
		n = t.acked
	}
	if n > t.acked {
		t.progressed()
	}
	t.up.Offset, t.acked, t.reached = n, n, n
	t.patched = t.patched || n > 0
	t.step.Action = "resumed"
	t.because("%v; resumed at %d", cause, n)
	t.p.progress(Progress{Kind: "resume", Digest: t.desc.Digest, Size: t.desc.Size, Offset: n})
	t.save()
	return nil
}

// renew gives the session up after an answer that makes it useless, and the next attempt opens
// another one: at once the first time.
func (t *task) renew(ctx context.Context, cause error, alive bool) error {
	if t.sessions > 1 && t.sessions < maxSessions {
		t.stalls++
		if err := t.pause(ctx, cause); err != nil {
			return err
		}
	}
	return t.startOver(ctx, cause, alive)
}

// startOver gives the session up without a pause.
func (t *task) startOver(ctx context.Context, cause error, alive bool) error {
	if alive {
		t.cancel(ctx)
	}
	t.open = false
	t.forget()
	if t.sessions >= maxSessions {
		return fmt.Errorf("given up after %d uploads: %w", t.sessions, cause)
	}
	t.because("%v; starting over", cause)
	var conn *registry.ConnError
	if errors.As(cause, &conn) && t.sessions%2 == 0 {
		t.nextMode() // what breaks twice may break always
	}
	return nil
}

// cancel closes the session, also after an interrupt. Whether that works does not matter.
func (t *task) cancel(ctx context.Context) {
	if !t.open {
		return
	}
	t.open = false
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer stop()
	t.c.CancelUpload(ctx, t.up)
}
