package servetest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"ocikit/oci/registry/serve/exchange"
)

// A Fault serves a request in place of h, or with its help.
type Fault func(h http.Handler, w http.ResponseWriter, r *http.Request)

// A Breaker is a handler with a fault in it.
type Breaker struct {
	h     http.Handler
	fault Fault
	match func(n int, r *http.Request) bool

	mu    sync.Mutex
	n     int
	fired int
}

// BreakAt spoils the k-th request that comes to h, counted from 1.
func BreakAt(k int, fault Fault, h http.Handler) *Breaker {
	return &Breaker{h: h, fault: fault, match: func(n int, _ *http.Request) bool { return n == k }}
}

// BreakFrom spoils the k-th request and all that follow.
func BreakFrom(k int, fault Fault, h http.Handler) *Breaker {
	return &Breaker{h: h, fault: fault, match: func(n int, _ *http.Request) bool { return n >= k }}
}

// BreakIf spoils the first times requests for which match is true.
func BreakIf(times int, match func(*http.Request) bool, fault Fault, h http.Handler) *Breaker {
	b := &Breaker{h: h, fault: fault}
	b.match = func(_ int, r *http.Request) bool { return match(r) && b.fired < times }
	return b
}

// ServeHTTP implements http.Handler.
func (b *Breaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.n++
	spoil := b.match(b.n, r)
	if spoil {
		b.fired++
	}
	b.mu.Unlock()
	if spoil {
		b.fault(b.h, w, r)
		return
	}
	b.h.ServeHTTP(w, r)
}

// Count returns how many requests came, and how many of them were spoiled.
func (b *Breaker) Count() (requests, spoiled int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n, b.fired
}

// Reset breaks the connection without an answer, before anything is read.
func Reset(_ http.Handler, w http.ResponseWriter, _ *http.Request) { reset(w) }

// reset ends the connection so that the client gets a reset, not an end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// CutBody lets the registry have n bytes of the body, and breaks the connection.
func CutBody(n int64) Fault {
	return func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.ContentLength <= n {
			h.ServeHTTP(w, r)
			return
		}

		// The registry's answer is lost as well, and the client sees a reset.
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(r.Body, n), broken{}), r.Body}
		h.ServeHTTP(httptest.NewRecorder(), r)
		reset(w)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection broken") }

// LostAnswer lets the registry do its work, and breaks the connection in place of the answer.
func LostAnswer(h http.Handler, w http.ResponseWriter, r *http.Request) {
	h.ServeHTTP(httptest.NewRecorder(), r)
	reset(w)
}

// Answer answers with a status and a body, without the registry. header holds names and values in
// turn.
func Answer(status int, body string, header ...string) Fault {
	return func(_ http.Handler, w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// LateAnswer lets the registry do its work, and answers with another status.
func LateAnswer(status int) Fault {
	return func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(httptest.NewRecorder(), r)
		exchange.Fail(status, exchange.CodeUnknown, "after the work was done").Send(w)
	}
}

// Rewrite lets the registry answer. change edits the header of the answer and returns the status to
// send.
func Rewrite(change func(status int, header http.Header) int) Fault {
	return func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		status := change(rec.Code, rec.Header())
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		w.Write(rec.Body.Bytes())
	}
}

// CutAnswer sends the head of the answer and n bytes of its body.
func CutAnswer(n int) Fault {
	return func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if len(body) <= n {
			reset(w)
			return
		}

		for name, values := range rec.Header() {
			w.Header()[name] = values
		}

		// The full length is announced, and the rest never comes.
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(rec.Code)
		w.Write(body[:n])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// Hang answers nothing until the client is gone.
func Hang(_ http.Handler, _ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}
