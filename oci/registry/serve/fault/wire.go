package fault

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

// A wire answers on a connection that was taken from the HTTP server, for what that one would
// never do. The connection is closed behind the answer.
type wire struct {
	conn   net.Conn
	header http.Header
	head   func(w io.Writer, head []byte) error // sends status line and headers
	err    error
}

// takeOver lets next answer on a wire. The server sends nothing by itself from then on, also no
// 100 Continue.
func (c *call) takeOver(next func() error, head func(w io.Writer, head []byte) error) error {
	conn, buf, err := c.w.RC.Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()

	c.note()

	// The buffer of the server may hold the beginning of the body.
	c.w.Body.R = io.LimitReader(buf, max(c.r.ContentLength, 0))
	if len(c.r.TransferEncoding) > 0 {
		c.w.Body.R = httputil.NewChunkedReader(buf)
	}

	c.r.Body = http.NoBody // nothing of the server's is left to be read
	c.w.ResponseWriter = &wire{conn: conn, header: c.w.Header().Clone(), head: head}

	// The server cannot answer any more, so an error is answered here.
	if err := next(); err != nil {
		c.w.Fail(err, c.host.Answer(err))
	}

	return nil
}

func (w *wire) Header() http.Header { return w.header }

func (w *wire) WriteHeader(status int) {
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	w.header.Set("Connection", "close")
	w.header.Write(&head)
	head.WriteString("\r\n")
	w.err = w.head(w.conn, head.Bytes())
}

func (w *wire) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	return w.conn.Write(p)
}

// trickle sends one byte a second, until the server ends.
func (c *call) trickle(w io.Writer, head []byte) error {
	for i := range head {
		c.w.Extend()
		if _, err := w.Write(head[i : i+1]); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-c.ended: // the server does not know this connection any more
			return errCut
		}
	}
	return nil
}

func atOnce(w io.Writer, head []byte) error {
	_, err := w.Write(head)
	return err
}

func expects(c *call) bool { return strings.EqualFold(c.r.Header.Get("Expect"), "100-continue") }

// A lateReader waits before its first byte: the server says 100 Continue when it is read.
type lateReader struct {
	io.Reader
	wait func()
}

func (l *lateReader) Read(p []byte) (int, error) {
	if l.wait != nil {
		l.wait()
		l.wait = nil
	}
	return l.Reader.Read(p)
}

func wireFaults() []*fault {
	return []*fault{
		refuse("expect-417", "requests with Expect: 100-continue are refused with 417", expects,
			exchange.Fail(http.StatusExpectationFailed, exchange.CodeUnsupported, "Expect is not supported")),
		{Fault: Fault{"expect-silent", "no 100 Continue is ever sent; who sends the body all the same is served"}, applies: expects,
			commit: func(c *call, next func() error) error { return c.takeOver(next, atOnce) }},
		acts("expect-late", "100 Continue comes after three seconds", expects, func(c *call, next func() error) error {
			c.w.Body.R = &lateReader{c.w.Body.R, func() { c.wait(3 * time.Second) }}
			return next()
		}),
		{Fault: Fault{"headers-slow", "the first answer for each path that is read has its header at one byte a second"},
			applies: func(c *call) bool {
				reads := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
				return reads && c.rt.Kind != exchange.Ping && c.first(1, c.r.Method+" "+c.r.URL.Path)
			},
			commit: func(c *call, next func() error) error {
				return c.takeOver(next, func(w io.Writer, head []byte) error { return c.trickle(w, head) })
			}},
		acts("connection-stale", "the first request of each method on a used connection finds it closed",
			func(c *call) bool { return !c.first(1, c.r.RemoteAddr) && c.first(1, c.r.Method) },
			func(c *call, _ func() error) error {
				c.w.Abort = true
				return errCut
			}),
	}
}
