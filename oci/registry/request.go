package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"time"
)

// A request is one endpoint's request before authorization, redirects and repeats.
type request struct {
	method   string
	url      *url.URL
	endpoint string // its id in the distribution-spec's table, for traces
	header   http.Header
	body     *source // nil for none
	scopes   []scope // what a token must allow

	once   bool  // never repeat it, though it has no body: it commits something
	repeat bool  // its body may be sent again: the request names its own place
	slow   bool  // the answer may take its time after the body: the registry commits a blob
	stream bool  // leave the body of a 200 or 206 to the caller
	stay   bool  // a redirect is an answer
	limit  int64 // of the answer's body otherwise; 0 is maxErrorBody
	length int64 // Content-Length to claim, if not that of the body; -1 is none: Transfer-Encoding chunked
	expect int   // +1: send Expect: 100-continue, -1: do not, 0: as the size says

	want  []int           // statuses of a success, by the distribution-spec
	check func(*response) // adds more verdicts to the trace
}

// A response is an answer whose body has been read into memory, or is left as a stream.
type response struct {
	method   string
	url      *url.URL // after redirects
	status   int
	header   http.Header
	body     []byte
	stream   io.ReadCloser
	received time.Time
	away     bool  // it came from another origin than the registry's
	unsent   bool  // no byte of the request's body was taken
	sent     int64 // bytes of the body that were taken
	event    *Event
	attempt  int
}

// note adds a verdict to the trace: level is "ok", "note" or "violation".
func (r *response) note(level, format string, args ...any) {
	if r.event != nil {
		r.event.Verdicts = append(r.event.Verdicts, Verdict{level, r.event.Endpoint, fmt.Sprintf(format, args...)})
	}
}

// judgeStatus judges the status of a success.
func (r *response) judgeStatus(want []int) {
	switch {
	case len(want) == 0 || r.status >= 300:
	case slices.Contains(want, r.status):
		r.note("ok", "%d %s", r.status, http.StatusText(r.status))
	default:
		r.note("violation", "status %d, want %d", r.status, want[0])
	}
}

// judge adds the verdicts on an answer.
func (x *exchange) judge(out *response) {
	out.judgeStatus(x.r.want)
	if x.r.check != nil {
		x.r.check(out)
	}
}

// roundTrip sends r to u once. An answer of any status is no error.
func (c *Client) roundTrip(parent context.Context, r *request, u *url.URL, authorization string) (*response, error) {
	w, ctx := newWatch(parent, c.o.Timeout)
	x := &exchange{c: c, r: r, watch: w, parent: parent, start: c.o.Now()}
	ctx = httptrace.WithClientTrace(ctx, x.hooks())
	req, err := x.newRequest(ctx, u, authorization)
	if err != nil {
		w.stop()
		return nil, err
	}
	transport := c.away
	if c.isHome(u) {
		transport = c.home
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, x.fail(req, err)
	}
	return x.finish(req, res)
}

// An exchange is one request on the wire and its answer.
type exchange struct {
	c      *Client
	r      *request
	watch  *watch
	parent context.Context
	start  time.Time
	body   *sender
	timing tracer
}

func (x *exchange) newRequest(ctx context.Context, u *url.URL, authorization string) (*http.Request, error) {
	r := x.r
	if u.User != nil {
		return nil, fmt.Errorf("%w: user information in %s", ErrUnsafe, x.c.red.url(u))
	}
	if proxy, _ := x.c.proxy.forRequest(&http.Request{URL: u}); proxy != nil {
		ctx = context.WithValue(ctx, proxiedKey{}, true)
		x.timing.proxy = proxy.Redacted()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, x.c.red.url(u), ErrProtocol)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", x.c.o.UserAgent)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	req.Body, req.ContentLength = http.NoBody, 0
	if r.body != nil && r.body.size > 0 {
		data, err := r.body.open()
		if err != nil {
			return nil, err
		}
		x.body = &sender{r: data, src: r.body, watch: x.watch, slow: r.slow}
		req.Body, req.ContentLength = x.body, r.body.size
		switch {
		case r.length > 0:
			req.ContentLength = r.length
			x.body.r = io.LimitReader(data, r.length)
		case r.length < 0:
			req.ContentLength = -1
		}
		if x.c.wantsExpect(r) {
			req.Header.Set("Expect", "100-continue")
		}
	} else if r.slow {
		x.watch.extend()
	}
	return req, nil
}

// A registry is asked whether it wants a body before it is sent, since an early refusal is
// cheap then and its text is not lost. Asking costs a round trip, so it is done for a body
// over bigBody; up to sureBody not after the registry has let us write; and for nearly all
// after a connection broke while a body was sent.
const (
	carefulBody = 64 << 10
	bigBody     = 1 << 20
	sureBody    = 4 << 20
)

func (c *Client) wantsExpect(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := r.body.size
	switch {
	case r.expect != 0:
		return r.expect > 0
	case c.noExpect:
		return false
	case c.careful:
		return size > carefulBody
	}
	return size > sureBody || size > bigBody && !c.wrote
}

// fail turns an error of the transport into a [ConnError], unless the caller gave up or the
// body could not be read.
func (x *exchange) fail(req *http.Request, err error) error {
	cause := x.watch.cause()
	x.watch.stop()
	sent := int64(0)
	if x.body != nil {
		sent = x.body.stop()
	}
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
	if sent > 0 {
		x.c.mu.Lock()
		x.c.careful = true
		x.c.mu.Unlock()
	}
	e := &ConnError{Method: x.r.method, URL: x.c.red.url(req.URL), Stage: stage(err, sent), Sent: sent, Err: scrubbed{err, x.c.red}}
	if isBodyError(err) {
		e.Stage = "read body"
	}
	ev := x.event(req, nil)
	ev.Error = e.Stage + ": " + x.c.red.text(err.Error())
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
	red *redactor
}

func (s scrubbed) Error() string { return s.red.text(s.error.Error()) }
func (s scrubbed) Unwrap() error { return s.error }

// finish reads the answer's body, or wraps it if the caller asked for a stream.
func (x *exchange) finish(req *http.Request, res *http.Response) (*response, error) {
	out := &response{
		method: x.r.method, url: req.URL, status: res.StatusCode, header: res.Header,
		received: x.c.o.Now(), away: !x.c.isHome(req.URL), unsent: true,
	}
	x.watch.touch()
	if x.r.stream && (res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent) {
		x.watch.pause()
		out.stream = &stream{x: x, req: req, res: res, out: out}
		out.event = x.event(req, out)
		out.event.Proto, out.event.TLS = res.Proto, tlsName(res.TLS)
		x.judge(out)
		return out, nil
	}
	err := x.slurp(res, out)
	if x.body != nil {
		out.sent = x.body.stop()
		out.unsent = out.sent == 0
		x.c.learnExpect(x)
	}
	if res.StatusCode < 300 && x.r.method != http.MethodGet && x.r.method != http.MethodHead && !out.away {
		x.c.mu.Lock()
		x.c.wrote = true
		x.c.mu.Unlock()
	}
	x.watch.stop()
	out.event = x.event(req, out)
	out.event.Proto, out.event.TLS = res.Proto, tlsName(res.TLS)
	if err == nil {
		x.judge(out)
	}
	if err != nil {
		out.event.Error = x.c.red.text(err.Error())
	}
	x.c.emit(out.event)
	if x.parent.Err() != nil {
		return nil, context.Cause(x.parent)
	}
	return out, err
}

// slurp reads the body of an answer. A refusal may be cut or slow: its status is enough.
func (x *exchange) slurp(res *http.Response, out *response) error {
	defer res.Body.Close()
	limit := x.r.limit
	failed := res.StatusCode >= 300
	if limit == 0 || failed {
		limit = maxErrorBody
	}
	if failed {
		x.watch.set(min(x.c.o.Timeout, 5*time.Second))
	}
	var err error
	out.body, err = io.ReadAll(io.LimitReader(&touching{res.Body, x.watch}, limit+1))
	switch {
	case int64(len(out.body)) > limit && failed:
		out.body = out.body[:limit]
	case int64(len(out.body)) > limit && x.r.limit > 0:
		return fmt.Errorf("%s %s: %w: the answer has over %d bytes", x.r.method, x.c.red.url(out.url), ErrProtocol, limit)
	case err != nil && !failed && x.r.limit > 0:
		if cause := x.watch.cause(); errors.Is(cause, ErrStalled) {
			err = cause
		}
		return &ConnError{Method: x.r.method, URL: x.c.red.url(out.url), Stage: "receive body", Err: scrubbed{err, x.c.red}}
	}
	return nil
}

// learnExpect remembers whether the registry lets Expect: 100-continue time out.
func (c *Client) learnExpect(x *exchange) {
	x.timing.mu.Lock()
	ignored := x.timing.waited && !x.timing.continued && x.body.sent() > 0
	x.timing.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noExpect = c.noExpect || ignored
}
