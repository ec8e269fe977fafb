package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// A source is the body of a request. It can be opened again if nothing was read of it, or
// if the reader can seek.
type source struct {
	r     io.Reader
	size  int64
	start int64 // offset of r when it was handed to us, if it can seek
	used  bool
	cut   int64 // fail after so many bytes, if > 0
}

func newSource(r io.Reader, size int64) *source {
	s := &source{r: r, size: size}
	if seeker, ok := r.(io.Seeker); ok {
		s.start, _ = seeker.Seek(0, io.SeekCurrent)
	}
	return s
}

var errUsed = errors.New("the body was sent already and cannot be read again")

func (s *source) open() (io.Reader, error) {
	if s.used {
		seeker, ok := s.r.(io.Seeker)
		if !ok {
			return nil, bodyError{errUsed}
		}
		if _, err := seeker.Seek(s.start, io.SeekStart); err != nil {
			return nil, bodyError{err}
		}
		s.used = false
	}
	if s.cut > 0 {
		return &cutter{s.r, s.cut}, nil
	}
	return s.r, nil
}

// A cutter fails after n bytes.
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

// A sender hands a body to the transport, which may go on reading after an answer has come:
// stop takes the reader away from it.
type sender struct {
	mu      sync.Mutex
	r       io.Reader
	src     *source
	n       int64
	err     error
	stopped bool
	watch   *watch
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
	s.watch.touch()
	if s.slow && s.n >= s.src.size {
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

// A watch ends a request whose bytes do not move.
type watch struct {
	mu     sync.Mutex
	timer  *time.Timer
	limit  time.Duration
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func newWatch(parent context.Context, limit time.Duration) (*watch, context.Context) {
	w := &watch{limit: limit}
	w.ctx, w.cancel = context.WithCancelCause(parent)
	w.timer = time.AfterFunc(limit, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cancel(fmt.Errorf("%w for %s", ErrStalled, w.limit))
	})
	return w, w.ctx
}

func (w *watch) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
}

// set changes the limit and starts anew.
func (w *watch) set(limit time.Duration) {
	w.mu.Lock()
	w.limit = limit
	w.mu.Unlock()
	w.touch()
}

// extend gives the registry ten times the time: it moves a blob to its place.
func (w *watch) extend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(10 * w.limit)
	}
}

func (w *watch) cause() error { return context.Cause(w.ctx) }

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.cancel(nil)
}

type touching struct {
	io.Reader
	watch *watch
}

func (t *touching) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if n > 0 {
		t.watch.touch()
	}
	return n, err
}

// A stream is the body of a blob. The time between two reads is the caller's, so the watch
// runs only within them.
type stream struct {
	x    *exchange
	req  *http.Request
	res  *http.Response
	out  *response
	n    int64
	err  error
	once sync.Once
}

func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.x.watch.touch()
	n, err := s.res.Body.Read(p)
	s.x.watch.pause()
	s.n += int64(n)
	if err != nil && err != io.EOF {
		switch cause := s.x.watch.cause(); {
		case s.x.parent.Err() != nil:
			err = context.Cause(s.x.parent)
		default:
			if errors.Is(cause, ErrStalled) {
				err = cause
			}
			err = &ConnError{Method: s.x.r.method, URL: s.x.c.red.url(s.out.url), Stage: "receive body", Err: scrubbed{err, s.x.c.red}}
		}
	}
	s.err = err
	return n, err
}

func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

// Close ends the request and traces it.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.res.Body.Close()
		s.x.watch.stop()
		s.out.event.Received = s.n
		if s.err != nil && s.err != io.EOF {
			s.out.event.Error = s.x.c.red.text(s.err.Error())
		}
		s.out.event.Timing.Total = ms(s.x.c.o.Now().Sub(s.x.start))
		s.x.c.emit(s.out.event)
	})
	return nil
}

// A tracer collects what the transport reports. Its hooks run in other goroutines, also
// after the request is over.
type tracer struct {
	mu                            sync.Mutex
	dnsStart, dialStart, tlsStart time.Time
	dns, dial, tls, first         time.Duration
	remote, proxy                 string
	reused, waited, continued     bool
	tlsErr                        error
}

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

// notTLS reports whether the other side failed the handshake as one that does not know TLS.
func (t *tracer) notTLS() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tlsErr != nil && !isCertificateError(t.tlsErr) && !errors.Is(t.tlsErr, context.Canceled)
}
