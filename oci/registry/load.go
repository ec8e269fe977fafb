package registry

import (
	"context"
	"net/http"
	"sync"
)

// A registry that refuses so many requests in a row, or nearly so, gets the others one at a
// time, until so many of them were answered well.
const (
	strained = 3
	relaxed  = 16
)

// A load says how a registry bears what it is sent. Its zero value is ready for use.
type load struct {
	mu      sync.Mutex
	refused int           // answers that ask for less
	well    int           // others since the last of them
	one     chan struct{} // holds a token while the one request is on its way
}

// learn counts an answer.
func (l *load) learn(status int) {
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

// enter waits for the turn of a request, if there are turns. The caller calls done when it
// is over.
func (l *load) enter(ctx context.Context) (done func(), err error) {
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
