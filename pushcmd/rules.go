package pushcmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"ocikit/digest"
	"ocikit/oci/registry"
)

// A failure is the error of a request, taken apart.
type failure struct {
	err    error
	status *registry.StatusError // the answer, nil if there was none
	conn   *registry.ConnError   // the connection that broke, nil if none did
}

func failureOf(err error) failure {
	f := failure{err: err}
	errors.As(err, &f.status)
	errors.As(err, &f.conn)
	return f
}

// is reports whether an answer with one of the statuses came.
func (f failure) is(statuses ...int) bool {
	return f.status != nil && slices.Contains(statuses, f.status.Status)
}

// has reports whether an answer with one of the codes came.
func (f failure) has(codes ...string) bool { return f.status != nil && f.status.Has(codes...) }

// gone reports whether the answer says that the session does not exist any more.
func (f failure) gone() bool { return f.has("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID") }

// tooLarge reports whether the answer is about the size of the body.
func (f failure) tooLarge() bool {
	return f.is(http.StatusRequestEntityTooLarge) ||
		f.is(http.StatusRequestedRangeNotSatisfiable) && f.status.Says("too large", "larger than", "exceed", "too big")
}

// A localError is one of the blob's own bytes.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

// A lostError means that the session is of no use any more.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// A budget is what runs out when nothing helps.
type budget int

const (
	free     budget = iota
	stalls          // failures without progress
	sessions        // of one blob
	refusals        // "these bytes have another digest", of bytes that have the right one
	denials         // 401 since the last progress
	disorder        // answers that say that the bytes belong elsewhere; counted only
	budgets
)

// limit returns how often something may happen, 0 for without limit.
func (b budget) limit() int { return [budgets]int{stalls: 5, sessions: 8, refusals: 2, denials: 2}[b] }

// spend takes one from a budget, and reports whether there was one left.
func (t *task) spend(b budget) bool {
	t.spent[b]++
	return b.limit() == 0 || t.spent[b] <= b.limit()
}

// A rule says what follows a failed request. The first one that fits counts.
type rule struct {
	what string // that came, in words
	when func(t *task, ctx context.Context, f failure) bool
	most budget // that it takes from
	do   step
	why  string
}

// A step is what a rule does. It returns nil if another attempt makes sense, with the session
// where the registry stands or a new one; [errDone] if the blob is there; else the error that
// ends the upload.
type step struct {
	name string
	take func(t *task, ctx context.Context, f failure) error
}

// rules returns the table of what follows a failed request.
func rules() []rule {
	var (
		stop      = step{"stop", func(_ *task, _ context.Context, f failure) error { return f.err }}
		done      = step{"done", func(*task, context.Context, failure) error { return errDone }}
		resume    = step{"resume", (*task).resume}
		renew     = step{"renew", (*task).renew}
		shrink    = step{"smaller chunks", (*task).shrink}
		otherMode = step{"another mode", (*task).otherMode}
		interrupt = step{"stop", func(_ *task, ctx context.Context, _ failure) error { return context.Cause(ctx) }}
	)
	return []rule{
		{"the caller gave up", func(_ *task, ctx context.Context, _ failure) bool { return ctx.Err() != nil },
			free, interrupt, "nobody waits for it"},
		{"no session is open", func(t *task, _ context.Context, _ failure) bool { return t.phase <= opening },
			free, stop, "the client has repeated the request that opens one"},
		{"the local bytes are bad", func(_ *task, _ context.Context, f failure) bool {
			return errors.As(f.err, new(localError)) || errors.Is(f.err, digest.ErrMismatch)
		}, free, stop, "no registry can mend them"},
		{"the registry has more than was sent", func(_ *task, _ context.Context, f failure) bool { return errors.As(f.err, new(lostError)) },
			free, renew, "what it has is not ours"},
		{"the commit has an unclear answer, and the blob is there", (*task).committed,
			free, done, "the answer was lost, not the work"},
		{"it is busy: 429, 5xx, a rate limit in words", func(_ *task, _ context.Context, f failure) bool {
			return f.status != nil && f.status.Retryable() && !f.is(http.StatusNotImplemented)
		}, free, resume, "it says itself that it is for a time"},
		{"401", func(_ *task, _ context.Context, f failure) bool { return f.is(http.StatusUnauthorized) },
			denials, resume, "a token may end within a blob; the client asks for another"},
		{"403, 411", func(_ *task, _ context.Context, f failure) bool {
			return f.is(http.StatusForbidden, http.StatusLengthRequired)
		},
			free, stop, "the same request would fail the same way"},
		{"413, or 416 about the size", func(_ *task, _ context.Context, f failure) bool { return f.tooLarge() },
			free, shrink, "a proxy or the registry limits a body"},
		{"416", func(_ *task, _ context.Context, f failure) bool { return f.is(http.StatusRequestedRangeNotSatisfiable) },
			disorder, resume, "it stands elsewhere than we think"},
		{"DIGEST_INVALID, SIZE_INVALID", func(_ *task, _ context.Context, f failure) bool { return f.has("DIGEST_INVALID", "SIZE_INVALID") },
			refusals, renew, "ours were verified before the last of them left, so its bytes are not ours"},
		{"the session is unknown", func(t *task, _ context.Context, f failure) bool {
			return f.gone() && (t.patched || t.phase == committing || t.spent[sessions] < 2)
		}, free, renew, "it was forgotten, or belongs to another process of the registry"},
		{"400, 404, 405, 415, 501", func(_ *task, _ context.Context, f failure) bool {
			return f.is(http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotImplemented)
		}, free, otherMode, "it may not know this kind of request"},
		{"the connection broke", func(_ *task, _ context.Context, f failure) bool {
			return f.status == nil && f.conn != nil && f.conn.Retryable()
		}, free, resume, "what it has stored it alone knows"},
		{"nonsense in the middle of a body", func(t *task, _ context.Context, f failure) bool {
			return f.status == nil && errors.Is(f.err, registry.ErrProtocol) && t.taken(t.up.Offset) > 0
		}, free, resume, "a proxy may have answered in its place"},
		{"anything else", func(*task, context.Context, failure) bool { return true },
			free, stop, ""},
	}
}

// recover takes the step of the first rule that fits a failed request.
func (t *task) recover(ctx context.Context, err error) error {
	f := failureOf(err)
	for _, r := range rules() {
		if !r.when(t, ctx, f) {
			continue
		}
		switch left := t.spend(r.most); {
		case !left && r.most == refusals:
			return fmt.Errorf("the local blob has the right digest, the registry's copy has not: %w", err)
		case !left:
			return err
		}
		return r.do.take(t, ctx, f)
	}
	return err
}
