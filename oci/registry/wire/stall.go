package wire

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// A stallTimer cancels the context of a request whose bytes do not move for as long as its limit.
type stallTimer struct {
	mu     sync.Mutex
	timer  *time.Timer
	limit  time.Duration
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// newStallTimer returns a running timer and the context that it cancels. The caller must call stop.
func newStallTimer(parent context.Context, limit time.Duration) (*stallTimer, context.Context) {
	w := &stallTimer{limit: limit}
	w.ctx, w.cancel = context.WithCancelCause(parent)
	w.timer = time.AfterFunc(limit, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cancel(fmt.Errorf("%w for %s", ErrStalled, w.limit))
	})
	return w, w.ctx
}

// touch starts the time anew: a byte has moved.
func (w *stallTimer) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
}

// set changes the limit and starts anew.
func (w *stallTimer) set(limit time.Duration) {
	w.mu.Lock()
	w.limit = limit
	w.mu.Unlock()
	w.touch()
}

// extend gives the registry ten times the limit for its next byte: behind the end of a blob it
// computes the digest and moves the blob to its place.
func (w *stallTimer) extend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(10 * w.limit)
	}
}

// within cancels the request after d even if its bytes move, unless stop is called before.
func (w *stallTimer) within(d time.Duration) (stop func() bool) {
	return time.AfterFunc(d, func() { w.cancel(fmt.Errorf("%w: the answer was not whole after %s", ErrStalled, d)) }).Stop
}

func (w *stallTimer) cause() error { return context.Cause(w.ctx) }

// stop ends the watch and releases the context. Nothing can start it again.
func (w *stallTimer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.cancel(nil)
}

// A progressReader touches the watch with each byte that comes.
type progressReader struct {
	io.Reader
	watch *stallTimer
}

func (t *progressReader) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if n > 0 {
		t.watch.touch()
	}
	return n, err
}

// pause stops the time until the next touch.
func (w *stallTimer) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}
