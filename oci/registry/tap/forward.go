package tap

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/tap/record"
)

// begin starts the entry of an exchange with what the client asks for.
func (t *Tap) begin(w *exchange.Recorder, r *http.Request) *passage {
	p := &passage{w: w, in: r, sessions: t.sessions, base: exchange.Scheme(r) + "://" + r.Host}
	p.rt, _ = t.route(r.URL)
	p.away, p.target = t.target(r.URL)
	w.Access.Repository = p.rt.Repo

	// The secrets are learned before anything of the request is written down.
	t.secrets.learn(r.Header)
	e := &record.Entry{N: int(t.requests.Add(1)), Client: t.secrets.red().Text(r.UserAgent())}
	e.Time, e.Method = w.Start.UTC(), r.Method
	e.Request = t.secrets.red().Header(r.Header)
	switch {
	case len(r.TransferEncoding) > 0:
		e.Request["Transfer-Encoding"] = r.TransferEncoding
	case r.ContentLength > 0 || r.Method != http.MethodGet && r.Method != http.MethodHead:
		e.Request["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	}

	// A fault may do anything to a body.
	if len(t.opts.Faults) == 0 {
		p.client, _ = r.Context().Value(clientKey{}).(*conn)
	}

	p.entry = e
	t.describe(p)
	if p.rt.Kind == exchange.Upload {
		p.session = t.sessions.enter(p, r)
	}

	return p
}

// route returns the endpoint that an address of the tap stands for. The only thing outside of the API
// that clients ask a registry's host for is a token.
func (t *Tap) route(u *url.URL) (exchange.Route, error) {
	if exchange.Known(u.Path) {
		return exchange.ParseURL(u)
	}
	if p, _ := t.places.get(u); p != nil {
		return exchange.Route{Kind: p.kind}, nil
	}
	return exchange.Route{Kind: exchange.Token}, nil
}

// target returns what an address of the tap stands for, and the place if it is not the registry.
func (t *Tap) target(u *url.URL) (*place, *url.URL) {
	if isPlace(u.Path) {
		if p, target := t.places.get(u); p != nil {
			return p, target
		}
	}
	target := *u
	target.Scheme, target.Host = t.opts.Registry.Scheme, t.opts.Registry.Host
	return nil, &target
}

// describe writes down where the request goes.
func (t *Tap) describe(p *passage) {
	p.entry.URL, p.entry.Away = t.secrets.red().URL(p.target), p.away != nil
	p.entry.Endpoint = p.rt.ID(p.in.Method, p.target.Query())
}

// rewrite makes the request that goes out: the one that came in, with another address.
func (t *Tap) rewrite(pr *httputil.ProxyRequest) {
	p := pr.In.Context().Value(passageKey{}).(*passage)
	p.away, p.target = t.target(pr.In.URL)
	t.describe(p) // a fault may have changed it
	pr.Out.URL, pr.Out.Host = p.target, p.target.Host

	// ReverseProxy takes these headers away. The registry should get exactly what it would get
	// without the tap.
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v := pr.In.Header[name]; v != nil {
			pr.Out.Header[name] = v
		}
	}

	// The client takes the tap for the registry and sends its credentials along. By itself it
	// would send none to another host.
	if p.away != nil && !p.away.trust {
		pr.Out.Header.Del("Authorization")
		pr.Out.Header.Del("Cookie")
	}

	if pr.Out.Body != nil && pr.Out.Body != http.NoBody && pr.In.ContentLength != 0 {
		p.request = t.newMeter(p, pr.Out.Body, pr.In.Header.Get("Content-Type"), pr.In.ContentLength)
		pr.Out.Body = p.request
	}

	start := p.w.Start
	trace := &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			p.connected.Store(true)
			p.entry.Remote, p.entry.Reused = i.Conn.RemoteAddr().String(), i.Reused
			p.registry, _ = i.Conn.(*conn)
		},
		Got100Continue:       func() { p.continued.Store(true) },
		GotFirstResponseByte: func() { p.firstByte.Store(int64(t.opts.Now().Sub(start))) },
	}

	pr.Out = pr.Out.WithContext(httptrace.WithClientTrace(pr.Out.Context(), trace))
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// answered writes down an answer, and changes the addresses in it, before it goes to the client.
func (t *Tap) answered(resp *http.Response) error {
	p := resp.Request.Context().Value(passageKey{}).(*passage)
	e := p.entry
	e.Status, e.Proto = resp.StatusCode, resp.Proto
	e.Response = t.secrets.red().Header(resp.Header)
	if resp.ContentLength >= 0 {
		n := resp.ContentLength
		e.Announced = &n
	}

	if e.Method != http.MethodHead && resp.Body != nil {
		p.again = t.pulledBefore(p, false)
		p.answer = t.newMeter(p, resp.Body, resp.Header.Get("Content-Type"), resp.ContentLength)
		resp.Body = p.answer
	}

	// The entry above has the addresses of the registry. From here on the client sees those of
	// the tap.
	loc := resp.Header.Get("Location")
	t.places.rewriteHeader(resp.Header, p.base, p.target, p.rt, resp.StatusCode)
	if p.rt.Kind == exchange.Uploads && resp.StatusCode == http.StatusAccepted && loc != "" {
		p.session = t.sessions.open(p)
	}

	if p.session != nil {
		p.session.answered(p, resp)
		e.Offset = p.w.Access.Offset
	}

	return nil
}

// An answerWriter sends an answer on at once, but for its last byte: that stays behind until the handler
// is done. A client that has all of an answer may send its next request, or read what was recorded, and
// must find the exchange written down. An answer of unknown length ends with the handler anyway.
type answerWriter struct {
	*exchange.Recorder
	p    *passage
	left *int64 // bytes of the body that are to come; nil: not known
}

// WriteHeader implements [http.ResponseWriter].
func (w *answerWriter) WriteHeader(status int) {
	w.left = nil
	if e := w.p.entry; e.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
		w.left = new(int64)
	} else if e.Announced != nil {
		w.left = new(*e.Announced)
	}
	w.Recorder.WriteHeader(status)
}

// Write implements [io.Writer]. The last byte alone is less than the server's buffer, which keeps it.
func (w *answerWriter) Write(b []byte) (n int, err error) {
	if w.left != nil {
		*w.left -= int64(len(b))
		if *w.left <= 0 && len(b) > 1 {
			if n, err = w.Recorder.Write(b[:len(b)-1]); err != nil {
				return n, err
			}
		}
	}
	m, err := w.Recorder.Write(b[n:])
	if err == nil {
		err = w.pass()
	}

	w.p.late = w.p.late || errors.Is(err, os.ErrDeadlineExceeded)
	return n + m, err
}

// FlushError is called by [http.ResponseController] behind each piece, and after the head.
func (w *answerWriter) FlushError() error {
	if w.left != nil && *w.left <= 0 {
		return nil
	}
	return http.NewResponseController(w.Recorder).Flush()
}

// maxPulled bounds how many large blobs are remembered.
const maxPulled = 4096

// pulledBefore reports whether a large blob has passed before without being hashed. With now set, it
// remembers that one has.
func (t *Tap) pulledBefore(p *passage, now bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.pulled[p.target.Path]
	if now && len(t.pulled) < maxPulled {
		t.pulled[p.target.Path] = true
	}
	return before
}

// unanswered is called if there was no answer. If there was a connection and it broke, that of the
// client is broken as well. If none could be made, the client gets an answer that says so.
func (t *Tap) unanswered(_ http.ResponseWriter, r *http.Request, err error) {
	p := r.Context().Value(passageKey{}).(*passage)
	p.failed = err
	p.w.Abort = p.connected.Load() || r.Context().Err() != nil
}

// cause returns the text of an error of the transport without the URL, which may hold secrets.
func cause(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return err.Error()
}

// finish writes down how a passage has ended, has it judged, and shows it.
func (t *Tap) finish(p *passage, broken bool) {
	defer t.underWay.Done()
	e := p.entry
	e.Timing.Total = millis(t.opts.Now().Sub(p.w.Start))
	e.Timing.FirstByte, e.Continue = millis(time.Duration(p.firstByte.Load())), p.continued.Load()
	e.Fault = p.w.Access.Fault
	t.blame(p, broken, t.finishBodies(p))

	// A fault, or an answer of our own, is not what the registry said.
	if p.w.Status != e.Status && (p.w.Status != 0 || e.Fault != "") {
		e.Shown = p.w.Status
	}

	// Only now is it known how the request ended, which decides what the session's digest is
	// worth.
	if p.session != nil {
		p.session.leave(p)
		if e.Status == http.StatusCreated || e.Method == http.MethodDelete && e.Status >= 200 && e.Status < 300 {
			t.sessions.close(p.session)
		}
	}

	// A large upload was refused and its digest is not known. The next try has to tell who was
	// wrong, so from now on everything is hashed.
	if e.Status == http.StatusBadRequest && (e.Unhashed || p.session != nil && p.session.tooLarge()) {
		e.Unhashed = true
		t.doubt.Store(true)
	}

	for _, done := range p.release {
		done()
	}

	p.hideQuery()
	t.show(p)
}

// finishBodies writes down how much of the bodies has passed, and what they were. It reports whether
// the client has gone away.
func (t *Tap) finishBodies(p *passage) (clientGone bool) {
	e := p.entry
	clientGone = p.in.Context().Err() != nil

	// The transport may still be reading the request's body. What a meter has counted is final
	// only after halt.
	if p.request != nil {
		p.request.halt(p.w)
		if p.rt.Kind == exchange.Token {
			t.secrets.learnForm(p.request.text())
		}
		e.Sent, e.Asked = p.request.n.Load(), p.request.body(t, e.Method != http.MethodPost || p.rt.Kind != exchange.Token)
		clientGone = clientGone || p.request.err != nil && p.request.err != io.EOF
		e.Unhashed = p.request.unhashed()
	}

	if p.answer != nil {
		p.answer.halt(nil)
		e.Received, e.Answered = p.answer.n.Load(), p.answer.body(t, true)
		if p.answer.unhashed() {
			e.Unhashed = true
			t.pulledBefore(p, true)
		}
		t.learnAnswer(p)

		// Reading was given up because the client was gone.
		clientGone = clientGone || errors.Is(p.answer.err, context.Canceled) || errors.Is(p.answer.err, http.ErrBodyReadAfterClose)
	}

	return clientGone
}

// blame writes down who broke the connection. A failure while the client was still there is the
// registry's. A client that went away ends the connection to the registry, too, and must not be
// mistaken for it.
func (t *Tap) blame(p *passage, broken, clientGone bool) {
	e := p.entry
	half := broken || p.failed != nil
	switch {
	case p.panicked != "":
		e.Error, e.Cut = t.secrets.red().Text(p.panicked), "tap"
	case t.ended() && (half || clientGone && e.Status == 0 && e.Fault == ""):
		e.Cut = "end"
	case p.watch.silent() && half:
		e.Cut, e.Stalled = "registry", true
	case p.failed != nil && !clientGone && !errors.Is(p.failed, context.Canceled):
		e.Error = t.secrets.red().Text(cause(p.failed))
		if p.connected.Load() {
			e.Cut = "registry"
		}
	case broken && p.answer != nil && p.answer.err != nil && p.answer.err != io.EOF && !clientGone:
		e.Cut = "registry"
	case half || clientGone && e.Status == 0 && e.Fault == "":
		e.Cut = "client"
		e.Stalled = p.late || p.request != nil && errors.Is(p.request.err, os.ErrDeadlineExceeded)
	}
}

// learnAnswer takes out of the body of an answer the tokens, which no record may show, and the text of
// an error.
func (t *Tap) learnAnswer(p *passage) {
	e := p.entry
	text := p.answer.text()
	if p.rt.Kind == exchange.Token {
		t.secrets.learnToken(text)
	}

	if e.Answered.Text != nil { // once more: it may be a token that was not known before
		*e.Answered.Text = t.secrets.red().Text(*e.Answered.Text)
	}

	if e.Status < 400 || len(text) == 0 {
		return
	}

	e.Errors = decodeErrors(text, t.secrets.red())
	if len(e.Errors) == 0 {
		e.Says = says(t.secrets.red().Text(string(text)))
	}
}

// says returns the words at the beginning of a text, or of a page without its tags. It is what a proxy
// says in place of the registry's JSON. A heading that repeats the title is
// left out.
func says(text string) string {
	var pieces []string
	var b strings.Builder
	end := func() {
		piece := strings.Join(strings.Fields(b.String()), " ")
		b.Reset()
		if piece != "" && (len(pieces) == 0 || pieces[len(pieces)-1] != piece) {
			pieces = append(pieces, piece)
		}
	}

	tag := false
	for _, c := range text[:min(len(text), 2000)] {
		switch {
		case c == '<':
			tag = true
			end()
		case c == '>':
			tag = false
		case !tag && c >= ' ' && c != 0x7f:
			b.WriteRune(c)
		case !tag:
			b.WriteByte(' ')
		}
	}

	end()
	words := strings.Join(pieces, " ")
	return words[:min(len(words), 200)]
}
