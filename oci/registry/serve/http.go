package serve

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// HTTPServer returns an http.Server for the registry with limits that stand against slow
// and greedy clients. Bodies have limits of their own, which move along with the bytes, so
// the server must not be given a ReadTimeout or a WriteTimeout.
func (s *Server) HTTPServer() *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,

		DisableGeneralOptionsHandler: true,                       // it would answer past the log
		ErrorLog:                     log.New(io.Discard, "", 0), // what clients do wrong is not news
	}
}

// Serve answers requests on ln until ctx ends, then gives those in flight the grace of
// [Options], cuts what is left, and returns nil: uploads that were cut are kept to the last
// byte. Any other end is an error. It closes ln, not the Server.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	hs := s.HTTPServer()
	hs.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	hs.RegisterOnShutdown(s.feed.close) // event streams would not end by themselves
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Grace)
		defer cancel()
		if hs.Shutdown(grace) != nil {
			s.sessions.cutAll()
			hs.Close()
		}
	})
	err := hs.Serve(ln)
	if !stop() { // ctx has ended
		<-stopped
	}
	s.sessions.wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// A recorder is a ResponseWriter that counts, and that gives every piece of a body a
// deadline of its own.
type recorder struct {
	http.ResponseWriter
	rc      *http.ResponseController
	idle    time.Duration
	start   time.Time
	head    bool // the answer has no body
	page    bool // it is about the web page
	status  int
	written int64
	access  Access
	body    *body

	edits []func(status int, h http.Header) int // by faults, of the answer
	abort bool                                  // a fault cuts the connection in place of an answer
}

func (s *Server) newRecorder(hw http.ResponseWriter, r *http.Request) *recorder {
	w := &recorder{ResponseWriter: hw, rc: http.NewResponseController(hw), idle: s.opts.IdleTimeout, start: s.opts.Now(), head: r.Method == http.MethodHead}
	w.body = &body{r: r.Body, rc: w.rc, idle: w.idle, last: new(atomic.Int64)}
	w.extend()
	return w
}

// extend gives the next piece of the answer its time. It also takes away the deadline that
// the last request on the connection left behind.
func (w *recorder) extend() { w.rc.SetWriteDeadline(time.Now().Add(w.idle)) }

// scheme returns that of the URL by which a client has found the server, as far as it sees.
func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// Bounds of what is read of a body that was refused.
const (
	lingerTime  = 5 * time.Second
	lingerBytes = 64 << 20
)

// settle is called when the handler has ended. What it left of the body is read for a
// while: a client that is still sending would find the connection broken, and not the
// answer that says why its request was refused.
func (w *recorder) settle(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	w.rc.SetReadDeadline(time.Now().Add(min(w.idle, lingerTime)))
	if w.status >= 400 && !w.body.ended && !w.abort && w.rc.Flush() == nil {
		io.CopyN(io.Discard, r.Body, lingerBytes)
	}
}

// Unwrap lets http.ResponseController find the writer below.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		for _, edit := range w.edits {
			status = edit(status, w.Header())
		}
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.extend()
	n, err := w.ResponseWriter.Write(p)
	if !w.head {
		w.written += int64(n)
	}
	return n, err
}

// piece is how much of a file is sent under one deadline.
const piece = 1 << 20

// ReadFrom sends a file in pieces, each by the operating system without passing through
// this process if r is a file or a limited one.
func (w *recorder) ReadFrom(r io.Reader) (n int64, err error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	rest := int64(-1)
	if lr, ok := r.(*io.LimitedReader); ok {
		r, rest = lr.R, lr.N
	}
	for rest != 0 {
		want := int64(piece)
		if rest > 0 {
			want = min(want, rest)
		}
		w.extend()
		m, err := io.CopyN(w.ResponseWriter, r, want)
		n += m
		w.written += m
		if rest > 0 {
			rest -= m
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// A body reads what a client sends. Every read has a deadline, and another request may cut
// it short.
type body struct {
	r    io.Reader
	rc   *http.ResponseController
	idle time.Duration
	n    int64
	last *atomic.Int64 // when the last byte came, in nanoseconds
	cut  atomic.Bool

	ended bool // whole or not
}

func (b *body) Read(p []byte) (int, error) {
	b.rc.SetReadDeadline(time.Now().Add(b.idle))
	if b.cut.Load() {
		b.stop()
	}
	n, err := b.r.Read(p)
	b.n += int64(n)
	if n > 0 {
		b.last.Store(time.Now().UnixNano())
	}
	b.ended = err != nil
	if err == io.EOF {
		// The server goes on reading, to notice that the client goes away. It may wait.
		b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// stop ends the read in flight and all that follow.
func (b *body) stop() {
	b.cut.Store(true)
	b.rc.SetReadDeadline(time.Unix(1, 0))
}
