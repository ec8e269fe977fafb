package wire

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// An aheadDialer dials ahead: while the first request waits for its connection, or for another
// registry, the others that will be wanted right after it are made, so they cost no round trip of
// their own.
type aheadDialer struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	now  func() time.Time

	mu      sync.Mutex
	want    int // connections to make along with the next one
	asked   time.Time
	pending map[string][]early
}

// An early connection is under way, or made.
type early struct {
	conn  chan dialled
	since time.Time
}

// A dialled is what became of an early connection: Conn is nil if there is an error.
type dialled struct {
	net.Conn
	err error
}

// earlyLife is how long an early connection is good for: servers close those on which
// nothing is asked, many after a minute.
const earlyLife = 10 * time.Second

// warm asks for n connections besides the next one that is dialled, if that is soon.
func (w *aheadDialer) warm(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want, w.asked = n, w.now()
}

// DialContext returns a connection that is under way already, or dials one.
func (w *aheadDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if made := w.next(ctx, network, address); made != nil {
		select {
		case d := <-made:
			// What has just timed out would do so again. After another error the second attempt may succeed, and
			// takes no time.
			if failed, ok := errors.AsType[net.Error](d.err); d.err == nil || ok && failed.Timeout() {
				return d.Conn, d.err
			}
		case <-ctx.Done():
			go closeEarly(made)
			return nil, context.Cause(ctx)
		}
	}
	return w.dial(ctx, network, address)
}

// begin dials until n connections to an address are under way or made. It does not wait for them.
func (w *aheadDialer) begin(ctx context.Context, network, address string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fill(ctx, network, address, n)
}

// next takes the oldest early connection to an address that is still good, nil if there is none, and
// begins those that are wanted besides.
func (w *aheadDialer) next(ctx context.Context, network, address string) chan dialled {
	w.mu.Lock()
	defer w.mu.Unlock()
	var first chan dialled
	now := w.now()
	for first == nil && len(w.pending[address]) > 0 {
		e := w.pending[address][0]
		w.pending[address] = w.pending[address][1:]
		if now.Sub(e.since) < earlyLife {
			first = e.conn
		} else {
			go closeEarly(e.conn)
		}
	}

	// Connections that were asked for long ago are not needed any more: the burst of requests that
	// they were for is over.
	if now.Sub(w.asked) < earlyLife {
		w.fill(ctx, network, address, w.want)
	}

	w.want = 0
	return first
}

// fill does the work of begin. The caller holds w.mu.
func (w *aheadDialer) fill(ctx context.Context, network, address string, n int) {
	// An early connection outlives the request that it was begun with, so the end of that
	// request must not end it.
	ctx = context.WithoutCancel(ctx)
	for len(w.pending[address]) < n {
		e := early{make(chan dialled, 1), w.now()}
		w.pending[address] = append(w.pending[address], e)
		go func() {
			conn, err := w.dial(ctx, network, address)
			if err != nil {
				conn = nil
			}
			e.conn <- dialled{conn, err}
		}()
	}
}

// close closes the connections that nobody took.
func (w *aheadDialer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range w.pending {
		for _, e := range list {
			go closeEarly(e.conn)
		}
	}
	clear(w.pending)
}

func closeEarly(made chan dialled) {
	if d := <-made; d.err == nil {
		d.Close()
	}
}
