package registry

import (
	"context"
	"net"
	"sync"
)

// A warmDialer dials ahead: while the first request waits for its connection, the others
// that will be wanted right after it are made, so they cost no round trip of their own.
type warmDialer struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu      sync.Mutex
	want    int // connections to make along with the next one
	pending map[string][]chan net.Conn
}

// warm asks for n connections besides the next one that is dialled.
func (w *warmDialer) warm(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want = n
}

// DialContext returns a connection that is under way already, or dials one.
func (w *warmDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if early := w.next(ctx, network, address); early != nil {
		select {
		case conn := <-early:
			if conn != nil {
				return conn, nil
			}
		case <-ctx.Done():
			go closeEarly(early)
			return nil, context.Cause(ctx)
		}
	}
	return w.dial(ctx, network, address)
}

// next takes the oldest early connection to an address. If there is none it begins those
// that are wanted, and returns nil.
func (w *warmDialer) next(ctx context.Context, network, address string) chan net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if list := w.pending[address]; len(list) > 0 {
		w.pending[address] = list[1:]
		return list[0]
	}
	for range w.want {
		early := make(chan net.Conn, 1)
		w.pending[address] = append(w.pending[address], early)
		go func() {
			conn, err := w.dial(context.WithoutCancel(ctx), network, address)
			if err != nil {
				conn = nil // whoever takes it dials again, and meets the error then
			}
			early <- conn
		}()
	}
	w.want = 0
	return nil
}

// close closes the connections that nobody took.
func (w *warmDialer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range w.pending {
		for _, early := range list {
			go closeEarly(early)
		}
	}
	clear(w.pending)
}

func closeEarly(early chan net.Conn) {
	if conn := <-early; conn != nil {
		conn.Close()
	}
}
