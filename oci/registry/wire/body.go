package wire

import (
	"errors"
	"io"
	"net"
	"sync"
)

// A Body is the body of a request. It can be sent again if nothing was read of it, or if its reader
// is an [io.Seeker], which goes back to where it was when [NewBody] got it.
type Body struct {
	reader io.Reader
	Size   int64
	start  int64 // offset of r when it was handed to us, if it can seek
	used   bool
	Cut    int64 // fail after so many bytes, if > 0
}

// NewBody returns a Body of the size bytes that r has left. The request fails if r has more or less.
func NewBody(r io.Reader, size int64) *Body {
	s := &Body{reader: r, Size: size}
	if seeker, ok := r.(io.Seeker); ok {
		s.start, _ = seeker.Seek(0, io.SeekCurrent)
	}
	return s
}

var errUsed = errors.New("the body was sent already and cannot be read again")

// open returns the reader of the body, from its beginning again if it was read before.
func (s *Body) open() (io.Reader, error) {
	if s.used {
		seeker, ok := s.reader.(io.Seeker)
		if !ok {
			return nil, bodyError{errUsed}
		}
		if _, err := seeker.Seek(s.start, io.SeekStart); err != nil {
			return nil, bodyError{err}
		}
		s.used = false
	}
	if s.Cut > 0 {
		return &cutter{s.reader, s.Cut}, nil
	}
	return s.reader, nil
}

// A FileSection is the beginning of a part of a file. A reader of such a part has a method
// FileSection() FileSection, so that a curl line can send the same bytes.
type FileSection struct {
	Name   string // "" for none
	Offset int64
}

// A cutter reads n bytes and then fails with [ErrCut].
type cutter struct {
	r io.Reader
	n int64
}

func (c *cutter) Read(p []byte) (int, error) {
	if c.n <= 0 {
		return 0, ErrCut
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.n)])
	c.n -= int64(n)
	return n, err
}

// A sender hands a body to the transport and counts its bytes. The transport may go on reading after
// an answer has come, when the reader is the caller's again: stop takes it away.
type sender struct {
	mu      sync.Mutex
	r       io.Reader
	src     *Body
	n       int64
	err     error
	stopped bool
	watch   *stallTimer
	slow    bool
}

func (s *sender) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return 0, errors.New("request is over")
	}

	s.src.used = true
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}

	// Behind its last byte a blob is hashed and moved by the registry, which sends nothing
	// meanwhile.
	s.watch.touch()
	if s.slow && s.n >= s.src.Size {
		s.watch.extend()
	}

	return n, err
}

func (s *sender) Close() error { return nil }

// stop ends reading and returns the number of bytes that were read.
func (s *sender) stop() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	return s.n
}

func (s *sender) sent() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// pieceSize is how much of a body is read and sent at a time. A [net.TCPConn] alone takes 32 KiB, which
// makes eight times as many calls here, and as many packets and wake-ups at the other end. What has been
// read is still in the processor's cache when it is hashed and sent.
const pieceSize = 256 << 10

// A pieceConn is a plain connection that sends bodies in pieces of pieceSize.
type pieceConn struct {
	*net.TCPConn
	pieces *sync.Pool // of *[pieceSize]byte
}

func newPieces() any { return new([pieceSize]byte) }

// inPieces returns what is used in the place of a new connection. TLS has pieces of its own.
func (c *Conn) inPieces(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &pieceConn{tcp, &c.pieces}
	}
	return conn
}

// ReadFrom implements [io.ReaderFrom]: the transport hands the body of a request to it.
func (c *pieceConn) ReadFrom(r io.Reader) (int64, error) {
	piece := c.pieces.Get().(*[pieceSize]byte)
	defer c.pieces.Put(piece)
	return io.CopyBuffer(struct{ io.Writer }{c.TCPConn}, r, piece[:])
}
