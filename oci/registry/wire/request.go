package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"time"
)

// A Request is a request to an endpoint before authorization, redirects and repeats. Without Once
// and without a body it may be repeated; with a body only if Repeat is set.
type Request struct {
	Method   string
	URL      *url.URL
	Endpoint string // its id in the distribution-spec's table, for traces
	Header   http.Header
	Body     *Body   // nil for none
	Scopes   []Scope // what a token must allow

	Once   bool  // never repeat it, though it has no body: it commits something
	Repeat bool  // its body may be sent again: the request names its own place
	Slow   bool  // the answer may take its time after the body: the registry commits a blob
	Stream bool  // leave the body of a 200 or 206 to the caller
	stay   bool  // a redirect is an answer
	Limit  int64 // of the answer's body otherwise; 0 is maxErrorBody
	Length int64 // Content-Length to claim, if not that of the body; -1 is none: Transfer-Encoding chunked
	Expect bool  // send Expect: 100-continue, whatever the size

	Want  []int           // statuses of a success, by the distribution-spec
	Check func(*Response) // adds more verdicts to the trace
}

// A Response is an answer. If Stream is not nil, it is the body, and the caller closes it.
// Otherwise the body is in Body, capped at [Request.Limit].
type Response struct {
	Method   string
	URL      *url.URL // after redirects
	Status   int
	Header   http.Header
	Body     []byte
	Stream   io.ReadCloser
	Received time.Time
	Away     bool  // it came from another origin than the registry's
	unsent   bool  // no byte of the request's body was taken
	Sent     int64 // bytes of the body that were taken
	Event    *Event
}

// Note adds a verdict to the event of the trace: level is "ok", "note" or "violation". It has no
// effect on an event that has been emitted, so it is for [Request.Check].
func (r *Response) Note(level, format string, args ...any) {
	if r.Event != nil {
		r.Event.Verdicts = append(r.Event.Verdicts, Verdict{level, r.Event.Endpoint, fmt.Sprintf(format, args...)})
	}
}

// judgeStatus judges the status of a success.
func (r *Response) judgeStatus(want []int) {
	switch {
	case len(want) == 0 || r.Status >= 300:
	case slices.Contains(want, r.Status):
		r.Note("ok", "%d %s", r.Status, http.StatusText(r.Status))
	default:
		r.Note("violation", "status %d, want %d", r.Status, want[0])
	}
}

// judge adds the verdicts on an answer.
func (x *exchange) judge(out *Response) {
	out.judgeStatus(x.r.Want)
	if x.r.Check != nil {
		x.r.Check(out)
	}
}

// roundTrip sends r to u once. An answer of any status is not an error. The watch ends the request if no
// byte moves; finish and fail stop it on every way out.
func (c *Conn) roundTrip(parent context.Context, r *Request, u *url.URL, authorization string) (*Response, error) {
	w, ctx := newStallTimer(parent, c.o.Timeout)
	x := &exchange{c: c, r: r, watch: w, parent: parent, start: c.o.Now()}
	ctx = httptrace.WithClientTrace(ctx, x.hooks())
	req, err := x.newRequest(ctx, u, authorization)
	if err != nil {
		w.stop()
		return nil, err
	}
	res, err := c.transport(u).RoundTrip(req)
	if err != nil {
		return nil, x.fail(req, err)
	}
	return x.finish(req, res)
}

// An exchange is one request on the wire and its answer.
type exchange struct {
	c      *Conn
	r      *Request
	watch  *stallTimer
	parent context.Context
	start  time.Time
	body   *sender
	timing tracer
}

// newRequest makes the request of net/http: with the headers of the user, which go to the registry
// alone, and with a body that reports what was taken of it.
func (x *exchange) newRequest(ctx context.Context, u *url.URL, authorization string) (*http.Request, error) {
	r := x.r
	if u.User != nil {
		return nil, fmt.Errorf("%w: user information in %s", ErrUnsafe, x.c.Red.URL(u))
	}

	// Dialling has to know of the proxy: addresses cannot be checked behind one, see checkDial.
	if proxy, _ := x.c.proxy.forRequest(&http.Request{URL: u}); proxy != nil {
		ctx = context.WithValue(ctx, proxiedKey{}, true)
		x.timing.proxy = proxy.Redacted()
	}

	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, x.c.Red.URL(u), ErrProtocol)
	}

	// The user's headers may hold keys, and are for the registry alone.
	maps.Copy(req.Header, r.Header)
	if x.c.IsHome(u) {
		maps.Copy(req.Header, x.c.o.Header)
	}

	req.Header.Set("User-Agent", x.c.o.UserAgent)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}

	return req, x.setBody(req)
}

// setBody gives a request its body, if it has one.
func (x *exchange) setBody(req *http.Request) error {
	r := x.r
	req.Body, req.ContentLength = http.NoBody, 0
	if r.Body == nil || r.Body.Size <= 0 {
		if r.Slow {
			x.watch.extend()
		}
		return nil
	}

	data, err := r.Body.open()
	if err != nil {
		return err
	}

	x.body = &sender{r: data, src: r.Body, watch: x.watch, slow: r.Slow}
	req.Body, req.ContentLength = x.body, r.Body.Size
	switch {
	// A length that is not that of the body is sent on purpose, see Call.
	case r.Length > 0:
		req.ContentLength = r.Length
		x.body.r = io.LimitReader(data, r.Length)
	case r.Length < 0:
		req.ContentLength = -1
	}

	if x.c.wantsExpect(r) {
		req.Header.Set("Expect", "100-continue")
	}

	return nil
}

// Expect: 100-continue asks the registry whether it wants a body before the body is sent. Then an
// early refusal is cheap, and its text is not lost in a broken connection. Asking costs a round
// trip, so it is done for bodies over bigBody only, over sureBody once the registry has accepted a
// write, and over carefulBody once a connection broke while a body was sent.
const (
	carefulBody = 64 << 10
	bigBody     = 1 << 20
	sureBody    = 4 << 20
)

// wantsExpect reports whether r is sent with Expect: 100-continue.
func (c *Conn) wantsExpect(r *Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := r.Body.Size
	switch {
	case r.Expect:
		return true
	case c.noExpect:
		return false
	case c.careful:
		return size > carefulBody
	}
	return size > sureBody || size > bigBody && !c.wrote
}

// fail turns an error of the transport into a [ConnError] and traces it. If the caller gave up, or
// its body could not be read, the error is the caller's own and is returned as it is.
func (x *exchange) fail(req *http.Request, err error) error {
	cause := x.watch.cause()
	x.watch.stop()
	sent := int64(0)
	if x.body != nil {
		sent = x.body.stop()
	}

	// The transport reports a cancelled context for everything that ended the request. The true
	// cause is the body's error, the caller's, or the watch's, in this order.
	switch {
	case x.body != nil && x.body.err != nil:
		err = bodyError{x.body.err}
	case x.parent.Err() != nil:
		err = context.Cause(x.parent)
	case errors.Is(cause, ErrStalled):
		err = cause
	case errors.Is(err, io.EOF):
		err = errors.New("connection closed without an answer")
	}

	// The registry may have refused, and the refusal was lost with the connection. Later bodies
	// ask first.
	if sent > 0 {
		x.c.mu.Lock()
		x.c.careful = true
		x.c.mu.Unlock()
	}

	e := &ConnError{Method: x.r.Method, URL: x.c.Red.URL(req.URL), Stage: stage(err, sent), Sent: sent, Err: scrubbed{err, x.c.Red}}
	if isBodyError(err) {
		e.Stage = "read body"
	}

	ev := x.event(req)
	ev.Error = e.Stage + ": " + x.c.Red.Text(err.Error())
	x.c.emit(ev)
	if x.parent.Err() != nil || isBodyError(err) && !errors.Is(err, ErrCut) {
		return err
	}

	if x.timing.notTLS() && x.parent.Err() == nil {
		return &notTLSError{e}
	}

	return e
}

// notTLSError is a ConnError for a server that does not speak TLS.
type notTLSError struct{ *ConnError }

func (e *notTLSError) Unwrap() error { return e.ConnError }

// scrubbed is an error whose text goes through the redactor.
type scrubbed struct {
	error
	red *Redactor
}

func (s scrubbed) Error() string { return s.red.Text(s.error.Error()) }
func (s scrubbed) Unwrap() error { return s.error }

// finish reads the answer's body, or wraps it if the caller asked for a stream.
func (x *exchange) finish(req *http.Request, res *http.Response) (*Response, error) {
	out := &Response{
		Method: x.r.Method, URL: req.URL, Status: res.StatusCode, Header: res.Header,
		Received: x.c.o.Now(), Away: !x.c.IsHome(req.URL), unsent: true,
	}

	x.watch.touch()

	// A stream lives on behind this function: it has its own use of the watch, and is traced
	// when it is closed.
	if x.r.Stream && (res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent) {
		x.watch.pause()
		out.Stream = &stream{x: x, req: req, res: res, out: out}
		out.Event = x.answered(req, res, out)
		x.judge(out)
		return out, nil
	}

	// An answer may come while the transport still sends the body. stop takes the body away,
	// and says how much of it was taken.
	err := x.slurp(res, out)
	if x.body != nil {
		out.Sent = x.body.stop()
		out.unsent = out.Sent == 0
		x.c.learnExpect(x)
	}

	if res.StatusCode < 300 && x.r.Method != http.MethodGet && x.r.Method != http.MethodHead && !out.Away {
		x.c.mu.Lock()
		x.c.wrote = true
		x.c.mu.Unlock()
	}

	x.watch.stop()
	out.Event = x.answered(req, res, out)
	if err == nil {
		x.judge(out)
	} else {
		out.Event.Error = x.c.Red.Text(err.Error())
	}

	x.c.emit(out.Event)
	if x.parent.Err() != nil {
		return nil, context.Cause(x.parent)
	}

	return out, err
}

// slurp reads the body of an answer. A refusal may be cut or slow: its status is enough.
func (x *exchange) slurp(res *http.Response, out *Response) error {
	defer res.Body.Close()
	limit := x.r.Limit
	failed := res.StatusCode >= 300
	if limit == 0 || failed {
		limit = maxErrorBody
	}

	// The text of a refusal is nice to have, but not worth a long wait.
	if failed {
		x.watch.set(min(x.c.o.Timeout, 5*time.Second))
	}

	// The watch is content with a byte now and then. This bounds the time for the whole document.
	defer x.watch.within(10 * x.c.o.Timeout)()

	// One byte over the limit shows that there is more.
	var err error
	out.Body, err = io.ReadAll(io.LimitReader(&progressReader{res.Body, x.watch}, limit+1))
	switch {
	case int64(len(out.Body)) > limit && failed:
		out.Body = out.Body[:limit]
	case int64(len(out.Body)) > limit && x.r.Limit > 0:
		return fmt.Errorf("%s %s: %w: the answer has over %d bytes", x.r.Method, x.c.Red.URL(out.URL), ErrProtocol, limit)
	case err != nil && !failed && x.r.Limit > 0:
		if cause := x.watch.cause(); errors.Is(cause, ErrStalled) {
			err = cause
		}
		return &ConnError{Method: x.r.Method, URL: x.c.Red.URL(out.URL), Stage: "receive body", Err: scrubbed{err, x.c.Red}}
	}

	return nil
}

// learnExpect remembers that the registry does not answer Expect: 100-continue. The transport then
// waits for its timeout and sends the body, which would cost that time with every body.
func (c *Conn) learnExpect(x *exchange) {
	x.timing.mu.Lock()
	ignored := x.timing.waited && !x.timing.continued && x.body.sent() > 0
	x.timing.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noExpect = c.noExpect || ignored
}
