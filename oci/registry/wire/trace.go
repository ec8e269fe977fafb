package wire

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"ocikit/oci"
)

// An Event describes one request and its answer. It holds no secrets: they were taken out
// before the event left the package.
type Event struct {
	Time      time.Time           `json:"time"`
	Method    string              `json:"method"`
	URL       string              `json:"url"`
	Endpoint  string              `json:"endpoint,omitempty"` // in the table of the distribution-spec, or "token"
	Status    int                 `json:"status,omitempty"`
	Error     string              `json:"error,omitempty"` // of a request without an answer
	Sent      int64               `json:"sent"`            // bytes of the body
	Received  int64               `json:"received"`        // bytes of the body
	Timing    Timing              `json:"timing"`
	Remote    string              `json:"remote,omitempty"`
	Reused    bool                `json:"reused,omitempty"` // an open connection was used
	Proxy     string              `json:"proxy,omitempty"`
	Proto     string              `json:"proto,omitempty"`
	TLS       string              `json:"tls,omitempty"`      // version and name of the peer's certificate
	Continue  bool                `json:"continue,omitempty"` // 100 Continue came
	RequestID string              `json:"requestId,omitempty"`
	Request   map[string][]string `json:"request"`
	Response  map[string][]string `json:"response,omitempty"`
	Errors    []ErrorInfo         `json:"errors,omitempty"`
	Verdicts  []Verdict           `json:"verdicts,omitempty"`

	file FileSection // that the body came from, if it is one
}

// Timing holds durations in milliseconds. Steps that an open connection saved are 0.
type Timing struct {
	DNS       float64 `json:"dns,omitempty"`
	Connect   float64 `json:"connect,omitempty"`
	TLS       float64 `json:"tls,omitempty"`
	FirstByte float64 `json:"firstByte,omitempty"` // from the start of the request
	Total     float64 `json:"total"`
}

// A Verdict judges an answer by the distribution-spec.
type Verdict struct {
	Level string `json:"level"`          // "ok", "note" or "violation"
	Spec  string `json:"spec,omitempty"` // the endpoint's id
	Text  string `json:"text"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// event returns the event of a request without its answer. The verdicts are added by others.
func (x *exchange) event(req *http.Request) *Event {
	red := x.c.Red
	e := &Event{
		Time: x.start.UTC(), Method: req.Method, URL: red.URL(req.URL), Endpoint: x.r.Endpoint,
		Request: red.Header(req.Header),
	}

	if x.body != nil {
		e.Sent = x.body.sent()
		if section, ok := x.body.src.reader.(interface{ FileSection() FileSection }); ok {
			e.file = section.FileSection()
		}
	}

	// net/http writes these two headers itself, so they are not in req.Header. They are what a
	// reader of a trace looks for first.
	switch {
	case req.ContentLength < 0:
		e.Request["Transfer-Encoding"] = []string{"chunked"}
	case req.ContentLength > 0 || req.Method != http.MethodGet && req.Method != http.MethodHead:
		e.Request["Content-Length"] = []string{fmt.Sprint(req.ContentLength)}
	}

	t := &x.timing
	t.mu.Lock()
	e.Timing = Timing{ms(t.dns), ms(t.dial), ms(t.tls), ms(t.first), ms(x.c.o.Now().Sub(x.start))}
	e.Remote, e.Reused, e.Proxy, e.Continue = t.remote, t.reused, t.proxy, t.continued
	t.mu.Unlock()

	return e
}

// answered returns the event of a request and its answer.
func (x *exchange) answered(req *http.Request, res *http.Response, out *Response) *Event {
	e, red := x.event(req), x.c.Red
	e.Proto, e.TLS = res.Proto, tlsName(res.TLS)
	e.Status, e.Response, e.Received = out.Status, red.Header(out.Header), int64(len(out.Body))
	if out.Status >= 400 {
		s := NewStatusError(out, red)
		e.Errors, e.RequestID = s.Errors, s.RequestID
	}
	return e
}

// emit hands an event to the sinks.
func (c *Conn) emit(e *Event) {
	c.requests.Add(1)
	c.sent.Add(e.Sent)
	for i := range e.Verdicts {
		e.Verdicts[i].Text = c.Red.Text(e.Verdicts[i].Text)
	}
	if c.o.Trace != nil {
		c.o.Trace(*e)
	}
	if c.o.Curl != nil {
		io.WriteString(c.o.Curl, c.curl(e))
	}
}

// tlsName returns the version of TLS and the name of the peer's certificate, "" without TLS.
func tlsName(s *tls.ConnectionState) string {
	if s == nil {
		return ""
	}
	name := tls.VersionName(s.Version)
	if len(s.PeerCertificates) > 0 {
		name += " " + Quote(s.PeerCertificates[0].Subject.CommonName)
	}
	return name
}

// TraceJSON returns a function for [Options.Trace] that writes each event as one JSON line. Errors of
// w are ignored. It may be called concurrently.
func TraceJSON(w io.Writer) func(Event) {
	var mu sync.Mutex
	return func(e Event) {
		line, err := oci.EncodeLine(e)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		w.Write(line)
	}
}

// TraceText returns a function for [Options.Trace] that writes each event as a few short lines for
// people. What the registry says is quoted or escaped. It may be called concurrently.
func TraceText(w io.Writer) func(Event) {
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		io.WriteString(w, e.text())
	}
}

// text returns the event as lines for people: the request and its result, then the headers that
// tell something about the protocol, then errors and verdicts.
func (e Event) text() string {
	var b strings.Builder
	result := fmt.Sprint(e.Status)
	if e.Status == 0 {
		result = "no answer"
	}

	fmt.Fprintf(&b, "%s %s: %s", e.Method, e.URL, result)
	if e.Endpoint != "" {
		fmt.Fprintf(&b, " (%s)", e.Endpoint)
	}

	fmt.Fprintf(&b, " %.1f ms", e.Timing.Total)
	if e.Sent > 0 {
		fmt.Fprintf(&b, ", %d bytes sent", e.Sent)
	}

	if e.Received > 0 {
		fmt.Fprintf(&b, ", %d bytes received", e.Received)
	}

	b.WriteByte('\n')
	for _, side := range []struct {
		sign    string
		headers map[string][]string
	}{{">", e.Request}, {"<", e.Response}} {
		for _, name := range sortedKeys(side.headers) {
			if !isShown(name) {
				continue
			}
			for _, v := range side.headers[name] {
				fmt.Fprintf(&b, "  %s %s: %s\n", side.sign, name, printable(v))
			}
		}
	}

	if e.Error != "" {
		fmt.Fprintf(&b, "  ! %s\n", printable(e.Error))
	}

	for _, i := range e.Errors {
		fmt.Fprintf(&b, "  ! %s: %s\n", quoteCode(i.Code), Quote(i.Message))
	}

	for _, v := range e.Verdicts {
		fmt.Fprintf(&b, "  %s %s: %s\n", v.Level, v.Spec, printable(v.Text))
	}

	return b.String()
}

// isShown reports whether a header tells something about the protocol.
func isShown(name string) bool {
	switch name {
	case "Authorization", "Content-Length", "Content-Range", "Content-Type", "Docker-Content-Digest", "Location", "Range", "Retry-After", "Warning", "Www-Authenticate":
		return true
	}
	return strings.HasPrefix(name, "Oci-")
}

func sortedKeys(m map[string][]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
