package tap

import (
	"io"
	"net"
	"sync/atomic"
)

// A large blob of which nothing is to be looked at goes from one connection to the other through a pipe
// of the kernel. Of the four copies that its bytes take through a tap two are left, those of the registry
// and of the client.
//
// Server and transport must not notice: they count the bytes of a body to know where it ends. So the body
// is read as always, into a buffer that serves as a mark. The connection below sees by the mark that the
// bytes are meant for the pipe, moves them on, and says how many there were. What the layers between had
// read into buffers of their own comes as always.

// Bounds of what passes by itself.
const (
	minPassed = 1 << 20 // a shorter body is copied
	pipeSize  = 1 << 20 // the most that a user may have unasked
	markSize  = 1 << 20 // bytes that are moved at once
	maxUnsent = 1 << 19 // bytes that a connection takes before it can send them
	maxLanes  = 8       // bodies at once; more are copied
)

// A lane is a pipe with its mark, and the connection at its end.
type lane struct {
	*pipe
	to    *net.TCPConn
	taken int // bytes of the last read that have taken the pipe
	held  int // how many of them are still in it
}

// lanes are the pipes that are free, and room for those that are not made yet.
type lanes chan *lane

// newLanes returns no pipe yet, but room for as many as there may be.
func newLanes() lanes {
	free := make(lanes, maxLanes)
	for range maxLanes {
		free <- nil
	}
	return free
}

// take returns a free lane, nil if there is none or the system has no pipes.
func (free lanes) take() *lane {
	select {
	case l := <-free:
		if l != nil {
			return l
		}
		p, err := newPipe()
		if err != nil {
			free <- nil
			return nil
		}
		return &lane{pipe: p}

	default:
		return nil
	}
}

// put gives a lane back. One whose pipe may hold bytes of a broken transfer is closed.
func (free lanes) put(l *lane) {
	if l.held > 0 {
		l.close()
		l = nil
	}
	free <- l
}

// close closes the pipes, all of which must be free.
func (free lanes) close() {
	for range maxLanes {
		if l := <-free; l != nil {
			l.close()
		}
		free <- nil
	}
}

// A conn is a plain connection of a client, or to a registry. It has all methods of a TCPConn, which
// server and transport ask for.
type conn struct {
	*net.TCPConn
	lane  atomic.Pointer[lane] // that takes what is read into its mark
	hello func()               // is called if the first byte begins TLS; nil: a byte has come
}

// Dialed returns a connection that is to be used in the place of c, which was just made to a registry.
// Large bodies on it need not be copied. [Options.Transport] works without it.
func Dialed(c net.Conn) net.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		return &conn{TCPConn: tcp}
	}
	return c
}

// Read implements [io.Reader].
func (c *conn) Read(b []byte) (n int, err error) {
	if l := c.lane.Load(); l != nil && len(b) > 0 && &b[0] == &l.mark[0] {
		l.taken, l.held, err = l.move(c.TCPConn, l.to, len(b))
		return l.taken, err
	}

	n, err = c.TCPConn.Read(b)
	if n > 0 && c.hello != nil {
		if b[0] == handshake {
			c.hello()
		}
		c.hello = nil
	}
	return n, err
}

// ReadFrom implements [io.ReaderFrom]. The transport calls it with the body of a request, and the server
// with an answer. What passes by itself does not pass through this process.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	switch r := r.(type) {
	case *passing:
		return r.to(c.TCPConn)

	case *io.LimitedReader:
		if m, ok := r.R.(*meter); ok {
			if x := m.passing(r); x != nil {
				defer x.end()
				return x.to(c.TCPConn)
			}
		}
	}
	return c.TCPConn.ReadFrom(r)
}

// A passing is what is left of a body on its way. A connection that has no use for its lane reads it as any
// other.
type passing struct {
	*io.LimitedReader // of a meter
	from              *conn
	lane              *lane
	lanes             lanes  // to which it belongs
	extend            func() // gives the next piece its time
}

// passing returns what is left of r, which reads m, as something that passes by itself: if it is long and
// nobody has to look into it. It returns nil if not. The caller must call end.
func (m *meter) passing(r *io.LimitedReader) *passing {
	if r.N < minPassed || r.N <= int64(m.limit) || m.from == nil || m.hashed() {
		return nil
	}
	l := m.lanes.take()
	if l == nil {
		return nil
	}
	m.limit = -1 // nothing is kept any more
	return &passing{LimitedReader: r, from: m.from, lane: l, lanes: m.lanes, extend: func() {}}
}

func (x *passing) end() { x.lanes.put(x.lane) }

// to moves the body to a connection.
func (x *passing) to(c *net.TCPConn) (sent int64, err error) {
	l := x.lane
	l.to = c
	l.open(c)
	x.from.lane.Store(l)
	defer x.from.lane.Store(nil)
	for x.N > 0 {
		l.taken = 0
		n, failed := x.Read(l.mark)
		if n > 0 {
			done, err := x.forward(n)
			sent += int64(done)
			if err != nil {
				return sent, err
			}
		}
		if failed == io.EOF {
			break
		}
		if failed != nil {
			return sent, failed
		}
	}

	return sent, nil
}

// forward sends what of the n bytes of the last read has not gone yet. They have taken the pipe, or are in
// the mark if they had been read before.
func (x *passing) forward(n int) (done int, err error) {
	l := x.lane
	if l.taken == 0 {
		x.extend()
		return l.to.Write(l.mark[:n])
	}

	for l.held > 0 {
		x.extend()
		moved, err := l.drain(l.to, l.held)
		l.held -= moved
		if err != nil {
			return n - l.held, err
		}
	}
	return n, nil
}

// pass moves what is left of the answer but for its last byte, if it can pass by itself. What it does not
// move is copied by the caller as before.
func (w *answerWriter) pass() error {
	to, ok := w.Recorder.ResponseWriter.(io.ReaderFrom)
	if !ok || w.left == nil {
		return nil
	}

	x := w.p.answer.passing(&io.LimitedReader{R: w.p.answer, N: *w.left - 1})
	if x == nil {
		return nil
	}

	defer x.end()
	x.extend = w.Extend
	n, err := to.ReadFrom(x)
	*w.left -= n
	w.Written += n
	return err
}
