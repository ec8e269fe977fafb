package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ocikit/digest"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
	"ocikit/oci/registry/wire"
)

// A Step is one exchange that was played.
type Step struct {
	N        int    `json:"n"` // in the recording
	Request  string `json:"request"`
	Recorded string `json:"recorded"` // status and error code
	Got      string `json:"got"`
	Same     bool   `json:"same"`
}

// String returns the step as one line.
func (s Step) String() string {
	word := "same"
	if !s.Same {
		word = "DIFFERS"
	}
	return fmt.Sprintf("%d %s: recorded %s, got %s, %s", s.N, s.Request, s.Recorded, s.Got, word)
}

// maxFill bounds the bytes that are made up for one blob.
const maxFill = 1 << 40

// A player sends the requests of a recording. It keeps what the registry calls things that the
// recording calls otherwise: sessions, and digests of blobs whose bytes are made up.
type player struct {
	c     *registry.Client
	blobs Blobs

	sizes     map[string]int64  // of blobs that are pushed
	made      map[string]string // digests of the recording: those of what is sent in their place
	locations map[string]string // session of the recording: where the registry has its own
	sessions  map[string]string // session: the blob that it becomes
}

// Run sends the requests of a recording to the registry of c, one after the other, and calls tell
// after each. Requests that only served to log in are left out, since c logs in by itself, and so are
// those that a fault spoiled or that got no answer. blobs may be nil. An error means that Run could
// not go on; an answer that differs is a [Step], and no error.
func Run(ctx context.Context, c *registry.Client, entries []*record.Entry, blobs Blobs, tell func(Step)) error {
	p := &player{c: c, blobs: blobs, sizes: map[string]int64{}, made: map[string]string{}, locations: map[string]string{}, sessions: map[string]string{}}

	// A digest in a request may be of a blob that is sent later, so all sizes have to be known
	// before the first request.
	for _, e := range entries {
		p.learn(e)
	}

	for _, e := range entries {
		if e.Status == http.StatusUnauthorized || e.Endpoint == "token" || e.Fault != "" || e.Away && e.Session == "" || e.Status == 0 {
			continue
		}
		step, err := p.play(ctx, e)
		if err != nil {
			return fmt.Errorf("exchange %d: %s: %w", e.N, judge.What(e), err)
		}
		tell(step)
	}

	return nil
}

// learn takes from an exchange how large the blobs are that are pushed.
func (p *player) learn(e *record.Entry) {
	d := parameter(e, "digest")
	switch e.Endpoint {
	case "end-4b":
		p.size(d, e.Sent)
	case "end-6":
		p.sessions[e.Session] = d
		if e.From != nil {
			p.size(d, *e.From+e.Sent)
		}
	}
}

func (p *player) size(d string, n int64) {
	if d != "" && n <= maxFill {
		p.sizes[d] = max(p.sizes[d], n)
	}
}

func parameter(e *record.Entry, key string) string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return ""
	}
	return u.Query().Get(key)
}

// have opens the real bytes of a blob, nil if there are none.
func (p *player) have(d digest.Digest) io.ReadCloser {
	if p.blobs == nil {
		return nil
	}
	f, err := p.blobs(d)
	if err != nil {
		return nil
	}
	return f
}

// digest returns the digest to send in place of one of the recording. It is another one only for a
// blob that is pushed without its real bytes.
func (p *player) digest(name string) string {
	if to, ok := p.made[name]; ok {
		return to
	}

	size, pushed := p.sizes[name]
	d, err := digest.Parse(name)
	if err != nil || !pushed || !d.Verifiable() {
		return name
	}

	to := name
	if f := p.have(d); f != nil {
		f.Close()
	} else {
		to = filled(d, size).String()
	}

	p.made[name] = to
	return to
}

// text replaces the digests in a document.
func (p *player) text(s string) string {
	for _, name := range digests(s) {
		if to := p.digest(name); to != name {
			s = strings.ReplaceAll(s, name, to)
		}
	}
	return s
}

// digests returns the strings of a JSON document that are digests.
func digests(text string) []string {
	var doc any
	if json.Unmarshal([]byte(text), &doc) != nil {
		return nil
	}

	var list []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		case string:
			if _, err := digest.Parse(v); err == nil {
				list = append(list, v)
			}
		}
	}

	walk(doc)
	return list
}

// play sends one request.
func (p *player) play(ctx context.Context, e *record.Entry) (Step, error) {
	step := Step{N: e.N, Request: judge.What(e), Recorded: outcome(e.Status, e.Errors)}
	if e.Endpoint == "end-2" && e.Method == http.MethodGet {
		return p.playBlob(ctx, e, step)
	}

	// Redirects are answers to compare, so they are not followed. Other headers are left to the
	// client.
	call := wire.Call{Endpoint: e.Endpoint, Method: e.Method, Header: http.Header{}, Stay: true, Limit: 8 << 20}
	for _, name := range []string{"Accept", "Content-Type", "Content-Range"} {
		if v := e.Request[name]; len(v) > 0 {
			call.Header[name] = v
		}
	}

	call.Chunked = e.Ask("Transfer-Encoding") == "chunked"
	call.Scopes = scopes(e)
	if err := p.aim(e, &call); err != nil {
		return step, err
	}

	closeBody, err := p.body(e, &call)
	if err != nil {
		return step, err
	}
	defer closeBody()

	// No answer is a result like any other: the recording may have been of a registry that gave
	// one.
	a, err := p.c.Call(ctx, call)
	if err != nil {
		if ctx.Err() != nil {
			return step, context.Cause(ctx)
		}
		step.Got = "no answer: " + wire.Quote(p.c.Redact(err.Error()))
		return step, nil
	}

	if e.Session != "" && a.Location != "" && a.Status < 300 {
		p.locations[e.Session] = a.Location
	}

	step.Got = outcome(a.Status, a.Errors)
	step.Same = step.Got == step.Recorded && p.sameHeaders(e, a)
	return step, nil
}

// aim sets where a request goes: a request of an upload to the session that the registry has opened
// for it, every other one to the path of the recording, with the digests that are sent here.
func (p *player) aim(e *record.Entry, call *wire.Call) error {
	u, err := url.Parse(e.URL)
	if err != nil {
		return err
	}

	if e.Session != "" && e.Endpoint != "end-4a" && e.Endpoint != "end-11" {
		p.aimAtSession(e, u, call)
		return nil
	}

	rt, ok := e.Route()
	path := strings.TrimPrefix(u.EscapedPath(), "/v2/")
	if ok && strings.Contains(rt.Ref, ":") {
		path = strings.TrimSuffix(path, rt.Ref) + p.digest(rt.Ref)
	}

	// The manifest names other blobs here, so it has another digest itself. One that was
	// refused keeps its wrong digest: that may be why.
	if (e.Endpoint == "end-7a" || e.Endpoint == "end-7b") && ok && strings.Contains(rt.Ref, ":") && e.Asked.Text != nil {
		if d, _ := digest.Parse(rt.Ref); d.Verifiable() && e.Status < 300 {
			got := d.Algorithm().FromBytes([]byte(p.text(*e.Asked.Text)))
			p.made[rt.Ref] = got.String()
			path = strings.TrimSuffix(strings.TrimPrefix(u.EscapedPath(), "/v2/"), rt.Ref) + got.String()
		}
	}

	// What was redacted is not known. Colons of digests are left unescaped, as clients write
	// them.
	var query []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		if pair != "" && err == nil && !strings.HasPrefix(value, "REDACTED") {
			query = append(query, key+"="+strings.ReplaceAll(url.QueryEscape(p.digest(value)), "%3A", ":"))
		}
	}

	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}

	call.Path = path
	return nil
}

// aimAtSession sends a request of an upload to the session that the registry has opened for it.
func (p *player) aimAtSession(e *record.Entry, u *url.URL, call *wire.Call) {
	if call.Location = p.locations[e.Session]; call.Location == "" {
		call.Path = strings.TrimPrefix(u.EscapedPath(), "/v2/")
		return
	}
	if d := u.Query().Get("digest"); d != "" {
		if e.Whole == "" || e.Whole == d { // else the client lied, and does so again
			d = p.digest(d)
		}
		call.Query = "digest=" + d
	}
}

// body sets the bytes of a request: the text of the recording, those of blobs, or bytes made up. The
// caller calls done when the request is over.
func (p *player) body(e *record.Entry, call *wire.Call) (done func(), err error) {
	done = func() {}
	switch {
	case e.Asked.Text != nil:
		text := p.text(*e.Asked.Text)
		if e.Asked.Digest != "" && text != *e.Asked.Text {
			p.made[e.Asked.Digest] = digest.FromBytes([]byte(text)).String()
		}
		call.Body = []byte(text)
		return done, nil
	case e.Sent == 0:
		return done, nil
	case e.Sent > maxFill:
		return done, errors.New("the body is too large to be made up")
	}

	// A chunk does not name its blob. The last request of its session does.
	name, start := parameter(e, "digest"), int64(0)
	if e.Session != "" {
		name = p.sessions[e.Session]
	}

	if e.From != nil {
		start = *e.From
	}

	name = cmp.Or(name, "session "+e.Session) // an upload that never ended

	call.Size = e.Sent
	if d, err := digest.Parse(name); err == nil && p.digest(name) == name {
		if f := p.have(d); f != nil {
			if _, err := io.CopyN(io.Discard, f, start); err != nil {
				f.Close()
				return done, err
			}
			call.Stream = io.LimitReader(f, e.Sent) // a chunk may end before its blob
			return func() { f.Close() }, nil
		}
	}

	// A client that went away had announced more than it sent, and is cut at the same byte.
	call.Stream = fill(name, start, start+e.Sent)
	if e.Cut == "client" && e.Announced == nil {
		if n, err := strconv.ParseInt(e.Ask("Content-Length"), 10, 64); err == nil && n > e.Sent && n <= maxFill {
			call.Stream, call.Size, call.CutAfter = fill(name, start, start+n), n, e.Sent
		}
	}

	return done, nil
}

// playBlob reads a blob as a stream and drops the bytes: it may be too large for an Answer.
func (p *player) playBlob(ctx context.Context, e *record.Entry, step Step) (Step, error) {
	rt, ok := e.Route()
	d, err := digest.Parse(p.digest(rt.Ref))
	if !ok || err != nil {
		step.Got = "not played: the digest cannot be read"
		return step, nil
	}

	size, err := p.c.HeadBlob(ctx, rt.Repo, d)
	var b io.ReadCloser
	if err == nil {
		b, err = p.c.GetBlob(ctx, rt.Repo, d, 0, size)
	}

	if err == nil {
		defer b.Close()
		_, err = io.Copy(io.Discard, b)
	}

	switch refused, ok := errors.AsType[*registry.StatusError](err); {
	case ctx.Err() != nil:
		return step, context.Cause(ctx)
	case ok:
		step.Got = outcome(refused.Status, refused.Errors)
	case err != nil:
		step.Got = "no blob: " + wire.Quote(p.c.Redact(err.Error()))
	default:
		step.Got = "200"
	}

	// The way to the bytes may differ: a part of them, or a redirect to storage.
	step.Same = step.Got == "200" && e.Status < 400 || step.Got == step.Recorded
	return step, nil
}

// sameHeaders compares what the specification wants to be there.
func (p *player) sameHeaders(e *record.Entry, a wire.Answer) bool {
	differs := func(name string) bool { return (e.Head(name) != "") != (a.Header.Get(name) != "") }
	if slices.ContainsFunc([]string{"Location", "Range", "Oci-Subject"}, differs) {
		return false
	}
	recorded, _, ok := wire.ParseRange(e.Head("Range"))
	return !ok || e.Endpoint == "end-2" || recorded == a.Range
}

// outcome is a status and the first error code.
func outcome(status int, list []wire.ErrorInfo) string {
	text := strconv.Itoa(status)
	if len(list) > 0 && list[0].Code != "" {
		text += " " + exchange.Plain(list[0].Code)
	}
	return text
}

// scopes returns what a token must allow for a request.
func scopes(e *record.Entry) string {
	rt, ok := e.Route()
	if !ok || rt.Repo == "" {
		return ""
	}

	actions := "pull"
	switch e.Method {
	case http.MethodDelete:
		actions = "delete,pull"
	case http.MethodPut, http.MethodPost, http.MethodPatch:
		actions = "pull,push"
	}

	if rt.Kind == exchange.Upload {
		actions = "pull,push"
	}

	return "repository:" + rt.Repo + ":" + actions
}
