package tap

import (
	"io"
	"net"
	"sync/atomic"
)

// A large blob of which nothing is to be looked at goes from the registry's connection to the client's
// through a pipe of the kernel. Of the four copies that its bytes take through a tap two are left, those
// of the registry and of the client.
//
// The transport must not notice: it counts the bytes of an answer to know where the next one begins. So
// the answer is read as always, into a buffer that serves as a mark. The connection below sees by the
// mark that the bytes are meant for the pipe, puts them there, and says how many there were. What the
// transport reads into buffers of its own comes as always.

// Bounds of what passes by itself.
const (
	minPassed = 1 << 20 // a shorter answer is copied
	pipeSize  = 1 << 20 // the most that a user may have unasked
	markSize  = 1 << 20 // bytes that are moved at once
	maxLanes  = 8       // answers at once; more are copied
)

// A lane is a pipe with its mark. Memory of a mark is touched only where bytes do not take the pipe.
type lane struct {
	*pipe
	mark []byte
	held int // bytes that the last read has put into the pipe
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
		return &lane{pipe: p, mark: make([]byte, markSize)}

	default:
		return nil
	}
}

// put gives a lane back. One whose pipe may hold bytes of a broken transfer is closed.
func (free lanes) put(l *lane, broken bool) {
	if broken {
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

// A source is a plain connection to a registry. It has all methods of a TCPConn, which the transport
// asks for.
type source struct {
	*net.TCPConn
	lane atomic.Pointer[lane] // that takes what is read into its mark
}

// Dialed returns a connection that is to be used in the place of c, which was just made to a registry.
// Large answers on it need not be copied. [Options.Transport] works without it.
func Dialed(c net.Conn) net.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		return &source{TCPConn: tcp}
	}
	return c
}

// Read implements [io.Reader].
func (s *source) Read(b []byte) (n int, err error) {
	l := s.lane.Load()
	if l == nil || len(b) == 0 || &b[0] != &l.mark[0] {
		return s.TCPConn.Read(b)
	}
	l.held, err = l.fill(s.TCPConn, len(b))
	return l.held, err
}

// A passing is the middle of an answer on its way: all of what is left but its last byte.
type passing struct {
	w    *answerWriter
	left int64
	lane *lane
	gone bool // the pipe was left with bytes in it
}

// Read reads the answer as if there were no lane, for a client's connection that has no use for one.
func (x *passing) Read(b []byte) (int, error) {
	if x.left == 0 {
		return 0, io.EOF
	}
	n, err := x.w.p.answer.Read(b[:min(int64(len(b)), x.left)])
	x.left -= int64(n)
	return n, err
}

// to moves the answer to the connection of the client.
func (x *passing) to(client *net.TCPConn) (sent int64, err error) {
	src := x.w.p.source
	src.lane.Store(x.lane)
	defer src.lane.Store(nil)
	for x.left > 0 {
		x.lane.held = 0
		n, err := x.Read(x.lane.mark)
		if n > 0 {
			x.w.Extend()
			done, err := x.forward(client, n)
			sent += int64(done)
			if err != nil {
				return sent, err
			}
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// forward sends the n bytes of the last read. They are in the pipe, or in the mark if the transport had
// read them before.
func (x *passing) forward(client *net.TCPConn, n int) (int, error) {
	if x.lane.held == 0 {
		return client.Write(x.lane.mark[:n])
	}
	done, err := x.lane.drain(client, n)
	x.gone = err != nil
	return done, err
}

// pass moves what is left of the answer but for its last byte, if the answer is long and nobody has to
// look into it. What it does not move is copied by the caller as before.
func (w *answerWriter) pass() error {
	p := w.p
	to, ok := w.Recorder.ResponseWriter.(io.ReaderFrom)
	if !ok || w.left == nil || *w.left < minPassed || p.source == nil || !p.answer.idle() {
		return nil
	}

	l := p.lanes.take()
	if l == nil {
		return nil
	}

	x := &passing{w: w, left: *w.left - 1, lane: l}
	defer func() { p.lanes.put(l, x.gone) }()
	n, err := to.ReadFrom(x)
	*w.left -= n
	w.Written += n
	return err
}
