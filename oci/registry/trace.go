package registry

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
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
}

// Timing holds milliseconds. Steps that an open connection saved are 0.
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

func (x *exchange) event(req *http.Request, out *response) *Event {
	red := x.c.red
	e := &Event{
		Time: x.start.UTC(), Method: req.Method, URL: red.url(req.URL), Endpoint: x.r.endpoint,
		Request: red.header(req.Header),
	}
	if x.body != nil {
		e.Sent = x.body.sent()
	}
	if req.ContentLength > 0 || req.Method != http.MethodGet && req.Method != http.MethodHead {
		e.Request["Content-Length"] = []string{fmt.Sprint(req.ContentLength)}
	}
	t := &x.timing
	t.mu.Lock()
	e.Timing = Timing{ms(t.dns), ms(t.dial), ms(t.tls), ms(t.first), ms(x.c.o.Now().Sub(x.start))}
	e.Remote, e.Reused, e.Proxy, e.Continue = t.remote, t.reused, t.proxy, t.continued
	t.mu.Unlock()
	if out != nil {
		e.Status, e.Response, e.Received = out.status, red.header(out.header), int64(len(out.body))
		if out.status >= 400 {
			s := newStatusError(out, red)
			e.Errors, e.RequestID = s.Errors, s.RequestID
		}
	}
	return e
}

// emit hands an event to the sinks.
func (c *Client) emit(e *Event) {
	c.requests.Add(1)
	c.sent.Add(e.Sent)
	for i := range e.Verdicts {
		e.Verdicts[i].Text = c.red.text(e.Verdicts[i].Text)
	}
	if c.o.Trace != nil {
		c.o.Trace(*e)
	}
	if c.o.Curl != nil {
		io.WriteString(c.o.Curl, e.curl())
	}
}

func tlsName(s *tls.ConnectionState) string {
	if s == nil {
		return ""
	}
	name := tls.VersionName(s.Version)
	if len(s.PeerCertificates) > 0 {
		name += " " + quote(s.PeerCertificates[0].Subject.CommonName)
	}
	return name
}

// TraceJSON returns a function for [Options.Trace] that writes each event as one JSON line.
// It may be called concurrently.
func TraceJSON(w io.Writer) func(Event) {
	var mu sync.Mutex
	return func(e Event) {
		line, err := json.Marshal(e)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		w.Write(append(line, '\n'))
	}
}

// TraceText returns a function for [Options.Trace] that writes each event as a few short
// lines for people.
func TraceText(w io.Writer) func(Event) {
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		io.WriteString(w, e.text())
	}
}

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
		fmt.Fprintf(&b, "  ! %s: %s\n", quoteCode(i.Code), quote(i.Message))
	}
	for _, v := range e.Verdicts {
		fmt.Fprintf(&b, "  %s: %s\n", v.Level, printable(v.Text))
	}
	return b.String()
}

// curl returns the request as one shell line. Secrets are variables that the user sets.
func (e Event) curl() string {
	var b strings.Builder
	b.WriteString("curl -sS -D - ")
	switch e.Method {
	case http.MethodGet:
	case http.MethodHead:
		b.WriteString("-I ")
	default:
		fmt.Fprintf(&b, "-X %s ", e.Method)
	}
	for _, name := range sortedKeys(e.Request) {
		if name == "Expect" || name == "Content-Length" && e.Sent > 0 {
			continue
		}
		for _, v := range e.Request[name] {
			if name == "Authorization" {
				scheme, _, _ := strings.Cut(v, " ")
				fmt.Fprintf(&b, `-H "Authorization: %s $REGISTRY_%s" `, scheme, strings.ToUpper(scheme))
				continue
			}
			fmt.Fprintf(&b, "-H %s ", shellQuote(name+": "+v))
		}
	}
	if e.Sent > 0 {
		b.WriteString(`-T "$BODY" `)
	}
	// What was taken out of the URL is the state of the session, from the last Location.
	target := shellQuote(e.URL)
	if strings.Contains(e.URL, "REDACTED-") {
		base, query, _ := strings.Cut(e.URL, "?")
		var keep []string
		for p := range strings.SplitSeq(query, "&") {
			if !strings.Contains(p, "=REDACTED-") {
				keep = append(keep, strings.ReplaceAll(p, "'", `'\''`))
			} else {
				key, _, _ := strings.Cut(p, "=")
				keep = append(keep, strings.ReplaceAll(key, "'", `'\''`)+"='\"$UPLOAD_"+strings.ToUpper(shellName(key))+"\"'")
			}
		}
		target = "'" + strings.ReplaceAll(base, "'", `'\''`) + "?" + strings.Join(keep, "&") + "'"
	}
	b.WriteString(target + "\n")
	return b.String()
}

func shellName(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, s)
}

// shellQuote returns s in single quotes. Control characters, which no header or URL of ours
// holds, are dropped.
func shellQuote(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, s)
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
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
