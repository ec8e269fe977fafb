package exchange

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A Recorder is the ResponseWriter of one request. It counts what is sent, gives every piece of a
// body a deadline of its own, and holds the [Access] record. It is for one goroutine, but for its
// [Body], which others may stop.
type Recorder struct {
	http.ResponseWriter
	RC      *http.ResponseController
	Access  Access
	Body    *Body
	Start   time.Time
	Status  int    // that was sent; 0: none yet
	Written int64  // bytes of the answer's body
	Page    bool   // it is about the web page
	Base    string // scheme and host to put before a path in a Location; "" if not known
	Abort   bool   // a fault cuts the connection in place of an answer

	idle  time.Duration
	head  bool // the answer has no body
	edits []func(status int, h http.Header) int
}

// NewRecorder returns a Recorder of a request that came at start. Bodies that do not move for
// idle are cut.
func NewRecorder(hw http.ResponseWriter, r *http.Request, start time.Time, idle time.Duration) *Recorder {
	w := &Recorder{ResponseWriter: hw, RC: http.NewResponseController(hw), idle: idle, Start: start, Base: base(r), head: r.Method == http.MethodHead}
	w.Body = &Body{R: r.Body, Last: new(atomic.Int64), rc: w.RC, idle: idle}
	w.Extend()
	return w
}

// Edit lets change have a look at the answer before it is sent. It gets and returns the status.
func (w *Recorder) Edit(change func(status int, h http.Header) int) {
	w.edits = append(w.edits, change)
}

// Extend gives the next piece of the answer its time. It also takes away the deadline that
// the last request on the connection left behind.
func (w *Recorder) Extend() { w.RC.SetWriteDeadline(time.Now().Add(w.idle)) }

// Bounds of what is read of a body that was refused.
const (
	lingerTime  = 5 * time.Second
	lingerBytes = 64 << 20
)

// Settle is called when the handler has ended. It reads for a while what the handler left of the
// body. A client that is still sending would find the connection broken, and not the answer that
// says why its request was refused.
func (w *Recorder) Settle(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	w.RC.SetReadDeadline(time.Now().Add(min(w.idle, lingerTime)))
	if w.Status >= 400 && !w.Body.ended && !w.Abort && w.RC.Flush() == nil {
		io.CopyN(io.Discard, r.Body, lingerBytes)
	}
}

// Unwrap lets http.ResponseController find the writer below.
func (w *Recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter. Edits see the header before it is sent; what comes
// before the answer proper, as 100 Continue, passes.
func (w *Recorder) WriteHeader(status int) {
	if w.Status == 0 && status >= 200 {
		for _, edit := range w.edits {
			status = edit(status, w.Header())
		}
		w.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter, and gives each piece a deadline of its own.
func (w *Recorder) Write(p []byte) (int, error) {
	if w.Status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.Extend()
	n, err := w.ResponseWriter.Write(p)
	if !w.head {
		w.Written += int64(n)
	}
	return n, err
}

// piece is how much of a file is sent under one deadline.
const piece = 1 << 20

// ReadFrom sends a file in pieces, each by the operating system without passing through
// this process if r is a file or a limited one.
func (w *Recorder) ReadFrom(r io.Reader) (n int64, err error) {
	if w.Status == 0 {
		w.WriteHeader(http.StatusOK)
	}

	rest := int64(-1)

	// CopyN puts a limit around r. A second one would hide the file, which the system can send by
	// itself.
	if lr, ok := r.(*io.LimitedReader); ok {
		r, rest = lr.R, lr.N
	}

	for rest != 0 {
		want := int64(piece)
		if rest > 0 {
			want = min(want, rest)
		}
		w.Extend()
		m, err := io.CopyN(w.ResponseWriter, r, want)
		n += m
		w.Written += m
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

// A Body reads what a client sends. Every read has a deadline, and another request may cut
// it short.
type Body struct {
	R    io.Reader
	Last *atomic.Int64 // when the last byte came, in nanoseconds

	rc    *http.ResponseController
	idle  time.Duration
	cut   atomic.Bool
	ended bool // whole or not
}

// Cut reports whether Stop was called.
func (b *Body) Cut() bool { return b.cut.Load() }

// Read implements io.Reader. A client that sends nothing for the idle time gets a timeout.
func (b *Body) Read(p []byte) (int, error) {
	b.rc.SetReadDeadline(time.Now().Add(b.idle))

	// A Stop just before has set a deadline that this read has overwritten.
	if b.cut.Load() {
		b.Stop()
	}

	n, err := b.R.Read(p)
	if n > 0 {
		b.Last.Store(time.Now().UnixNano())
	}

	b.ended = err != nil
	if err == io.EOF {
		// The server goes on reading, to notice that the client goes away. It may wait.
		b.rc.SetReadDeadline(time.Time{})
	}

	return n, err
}

// Stop ends the read in flight and all that follow. Other goroutines may call it.
func (b *Body) Stop() {
	b.cut.Store(true)
	b.rc.SetReadDeadline(time.Unix(1, 0))
}

// Fail says in the log what went wrong, and sends the answer that it stands for if none was sent.
func (w *Recorder) Fail(err error, answer *Failure) {
	w.Access.Error = err.Error()
	if w.Status == 0 && !w.Abort {
		answer.Send(w)
	}
}

// ServeUntil accepts connections on ln until ctx ends, gives the requests in flight so long, and has cut
// called before it breaks those that are left. Then it returns nil. Any other end is an error.
func ServeUntil(ctx context.Context, hs *http.Server, ln net.Listener, grace time.Duration, cut func()) error {
	// The end of ctx must not cancel the requests in flight at once.
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if hs.Shutdown(late) != nil {
			cut()
			hs.Close()
		}
	})

	err := hs.Serve(ln)
	if !stop() { // ctx has ended, and Serve returns before Shutdown has
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
