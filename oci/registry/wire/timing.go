package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http/httptrace"
	"sync"
	"time"
)

// A tracer collects what the transport reports about one request. Its hooks run in other goroutines
// and may do so after the request is over, so everything is under mu.
type tracer struct {
	mu                            sync.Mutex
	dnsStart, dialStart, tlsStart time.Time
	dns, dial, tls, first         time.Duration
	remote, proxy                 string
	reused, waited, continued     bool
	tlsErr                        error
}

// hooks returns the hooks that fill x.timing.
func (x *exchange) hooks() *httptrace.ClientTrace {
	t, now := &x.timing, x.c.o.Now
	locked := func(f func()) {
		t.mu.Lock()
		defer t.mu.Unlock()
		f()
	}

	return &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { locked(func() { t.dnsStart = now() }) },
		DNSDone:           func(httptrace.DNSDoneInfo) { locked(func() { t.dns = now().Sub(t.dnsStart) }) },
		ConnectStart:      func(string, string) { locked(func() { t.dialStart = now() }) },
		ConnectDone:       func(string, string, error) { locked(func() { t.dial = now().Sub(t.dialStart) }) },
		TLSHandshakeStart: func() { locked(func() { t.tlsStart = now() }) },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			locked(func() { t.tls, t.tlsErr = now().Sub(t.tlsStart), err })
		},
		GotConn: func(i httptrace.GotConnInfo) {
			locked(func() { t.remote, t.reused = i.Conn.RemoteAddr().String(), i.Reused })
		},
		Wait100Continue:      func() { locked(func() { t.waited = true }) },
		Got100Continue:       func() { locked(func() { t.continued = true }) },
		GotFirstResponseByte: func() { locked(func() { t.first = now().Sub(x.start) }) },
	}
}

// notTLS reports whether the handshake failed as it does with a server that does not know TLS: not
// because of a certificate, and not because the caller gave up.
func (t *tracer) notTLS() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tlsErr != nil && !isCertificateError(t.tlsErr) && !errors.Is(t.tlsErr, context.Canceled)
}
