package tap

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A turn says of whom the next byte is awaited.
type turn bool

const (
	theRegistry turn = false
	theClient   turn = true
)

// A watch cuts an exchange whose registry lets nothing move for too long: it takes nothing of the
// request, or sends nothing. While the client is awaited, the deadlines of its connection say how long.
type watch struct {
	idle   time.Duration
	client atomic.Bool  // it is the client's turn
	moved  atomic.Int64 // when the last byte did, in nanoseconds
	cancel context.CancelFunc

	mu      sync.Mutex // of what follows
	timer   *time.Timer
	stopped bool
	cut     bool
}

// start begins to watch, and returns the context that is cancelled if nothing moves. The caller must
// call stop.
func (w *watch) start(ctx context.Context, idle time.Duration) context.Context {
	ctx, w.cancel = context.WithCancel(ctx)
	w.idle = idle
	w.wait(theRegistry)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(idle, w.look)
	return ctx
}

// wait notes whose turn it is from now on.
func (w *watch) wait(whose turn) {
	w.client.Store(bool(whose))
	w.moved.Store(time.Now().UnixNano())
}

// look is called when there may have been silence for too long.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}

	left := w.idle - time.Since(time.Unix(0, w.moved.Load()))
	switch {
	case w.client.Load():
		w.timer.Reset(w.idle)
	case left > 0:
		w.timer.Reset(left)
	default:
		w.cut = true
		w.cancel()
	}
}

// stop ends the watch and releases the context.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
	w.cancel()
}

// silent reports whether the exchange was cut.
func (w *watch) silent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}
