package tap

import (
	"io"
	"net"
)

// A plainListener notices clients that speak TLS to a port that does not. Their connections end before
// there is a request.
type plainListener struct {
	net.Listener
	hello func()
}

// Accept implements [net.Listener].
func (l plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return &plainConn{TCPConn: tcp, hello: l.hello}, err
	}
	return c, err
}

// A plainConn looks at the first byte that comes. It has all methods of a TCPConn, which the server
// asks for.
type plainConn struct {
	*net.TCPConn
	hello func() // nil: something has come
}

// handshake is the type of a TLS record that begins a connection. No method of HTTP begins with it.
const handshake = 0x16

// Read implements [io.Reader].
func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if n > 0 && c.hello != nil {
		if b[0] == handshake {
			c.hello()
		}
		c.hello = nil
	}
	return n, err
}

// ReadFrom implements [io.ReaderFrom]. What passes by itself does not pass through this process.
func (c *plainConn) ReadFrom(r io.Reader) (int64, error) {
	if x, ok := r.(*passing); ok {
		return x.to(c.TCPConn)
	}
	return c.TCPConn.ReadFrom(r)
}
