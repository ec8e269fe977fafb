package tap

import "net"

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
		return &conn{TCPConn: tcp, hello: l.hello}, err
	}
	return c, err
}

// handshake is the type of a TLS record that begins a connection. No method of HTTP begins with it.
const handshake = 0x16
