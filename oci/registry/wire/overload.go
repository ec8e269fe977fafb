package wire

import (
	"context"
	"net/http"
	"sync"
)

// A registry that refuses several requests with few good answers between them gets the others one at
// a time, until relaxed of them in a row were answered well.
const (
	strained = 3
	relaxed  = 16
)

// An overload says how a registry bears what it is sent. Its zero value is ready for use.
type overload struct {
	mu      sync.Mutex
	refused int           // answers that ask for less
	well    int           // others since the last of them
	one     chan struct{} // holds a token while the one request is on its way
}

// learn counts an answer.
func (l *overload) learn(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if status == http.StatusTooManyRequests || status >= 500 && status != http.StatusNotImplemented {
		l.refused, l.well = l.refused+1, 0
		return
	}
	if l.well++; l.well >= relaxed {
		l.refused = 0
	}
}

// enter waits until a request may be sent, which is at once unless the registry is strained. The
// caller must call done when there is an answer.
func (l *overload) enter(ctx context.Context) (done func(), err error) {
	l.mu.Lock()
	if l.one == nil {
		l.one = make(chan struct{}, 1)
	}

	one, turns := l.one, l.refused >= strained
	l.mu.Unlock()
	if !turns {
		return func() {}, nil
	}

	select {
	case one <- struct{}{}:
		return func() { <-one }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
