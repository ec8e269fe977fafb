package wire

import (
	"io"
	"net"
	"sync"
)

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
