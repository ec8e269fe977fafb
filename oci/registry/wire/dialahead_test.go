package wire

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"testing"
	"time"
)

// Connections are begun to where the transport will ask for them. Behind a proxy, only the transport
// knows where that is.
func TestConnect(t *testing.T) {
	for _, c := range []struct{ base, proxy, want string }{
		{"http://127.0.0.1:1", "", "127.0.0.1:1"},
		{"https://[::1]", "", "[::1]:443"},
		{"http://r.test:1", "http://proxy.test:2", ""},
		{"http://127.0.0.1:1", "http://proxy.test:2", "127.0.0.1:1"},
	} {
		base, err := url.Parse(c.base)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := New(Options{
			Host: base.Host, Base: base, ReadFile: os.ReadFile, Now: time.Now, Timeout: time.Second,
			Getenv: func(name string) string { return map[string]string{"HTTP_PROXY": c.proxy}[name] },
		})
		if err != nil {
			t.Fatal(err)
		}

		conn.Connect(t.Context(), 2)
		got := ""
		for address, pending := range conn.early.pending {
			got = address
			if len(pending) != 2 {
				t.Errorf("%s: %d connections, want 2", c.base, len(pending))
			}
		}
		if got != c.want {
			t.Errorf("%s with the proxy %q: connected to %q, want %q", c.base, c.proxy, got, c.want)
		}
		conn.Close()
	}
}

// An address where nobody answers is waited for once, and not a second time by the request that takes the
// early connection. After any other error the request dials itself.
func TestEarlyErrors(t *testing.T) {
	for _, tt := range []struct {
		err   error
		dials int
	}{
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, 1},
		{errors.New("refused"), 2},
	} {
		dials := make(chan bool, 9)
		w := &aheadDialer{now: time.Now, pending: map[string][]early{}}
		w.dial = func(context.Context, string, string) (net.Conn, error) {
			dials <- true
			return nil, tt.err
		}

		w.begin(t.Context(), "tcp", "r.test:1", 1)
		conn, err := w.DialContext(t.Context(), "tcp", "r.test:1")
		if conn != nil || err != tt.err || len(dials) != tt.dials {
			t.Errorf("%v: %v, %v after %d attempts, want %d", tt.err, conn, err, len(dials), tt.dials)
		}
	}
}
