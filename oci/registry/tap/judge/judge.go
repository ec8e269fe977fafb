// Package judge says who is right: it looks at the exchanges between a client and a registry, one
// after the other, and judges each by the distribution-spec.
//
// A [Verdict] is one finding about an exchange: it is right, differs from the specification in a way
// that clients live with, or is broken by one of the two. The rules are a table, tried in order.
//
// A [Conversation], made by [New], remembers what later rules ask for: which blobs the registry has
// confirmed, which problem has gone away with a repetition. [Conversation.Judge] takes the next
// exchange. [Conversation.Summary] names the first problem that has not gone away.
//
// Everything comes from [record.Entry], so a recording is judged just as the exchanges were when
// they happened.
package judge

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/tap/record"
)

// A Level says who has to change something.
type Level string

const (
	Right     Level = "right"
	Tolerated Level = "tolerated" // not as it is specified, and clients live with it
	Client    Level = "client"    // broken by the client
	Registry  Level = "registry"  // broken by the registry, or by what stands before it

	Unfinished Level = "unfinished" // the tap was ended in the middle of it: nobody is to blame
)

// A Verdict is one finding about an exchange.
type Verdict struct {
	Level  Level  `json:"level"`
	Rule   string `json:"rule"`           // its name, for programs
	Spec   string `json:"spec,omitempty"` // the place in the specification
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"` // what to do
}

// Broken reports whether the client or the registry broke a rule.
func (v Verdict) Broken() bool { return v.Level == Client || v.Level == Registry }

// String returns the verdict as one line.
func (v Verdict) String() string {
	who := map[Level]string{Right: "right", Tolerated: "tolerated", Client: "broken by the client", Registry: "broken by the registry", Unfinished: "unfinished"}[v.Level]
	text := who
	if v.Text != "" {
		text += ": " + v.Text
	}
	if v.Spec != "" {
		text += " [" + v.Spec + "]"
	}
	return text
}

// A Conversation is what has been seen of the exchanges between clients and one registry. What it
// remembers is bounded. It is not safe for concurrent use.
type Conversation struct {
	rules                       []rule
	requests, uploads, finished int
	sent, received              int64
	unhashed, ended             int
	hello                       bool // a client spoke TLS to a port that does not

	stored   map[string]int      // repository and digest: the exchange that confirmed it
	named    map[string]int      // likewise: the manifest that names it
	sessions map[string]accepted // that were opened and are not finished
	led      map[string]int      // host: the latest request whose Location leads there
	problems []*problem          // in the order of their exchanges
	seen     map[string]int      // how often each rule was broken
}

// A problem is a verdict that stands until it goes away.
type problem struct {
	v       Verdict
	n       int
	what    string // the request
	key     string // of what would make it go away
	repo    string
	session string
	write   bool
	waiting bool // it is not a fault of anybody unless nothing follows
	solved  bool
}

// accepted is the latest request about an upload that the registry took.
type accepted struct {
	n           int
	credentials string // redacted; "" if there were none
}

// maxKept bounds what is remembered of a conversation.
const maxKept = 20_000

// New returns a Conversation in which nothing has been said yet.
func New() *Conversation {
	return &Conversation{rules: rules(), stored: map[string]int{}, named: map[string]int{}, sessions: map[string]accepted{}, led: map[string]int{}, seen: map[string]int{}}
}

// Hello notes that a client spoke TLS to a port that speaks plain HTTP. Many clients try that first, so
// it matters only if nothing else comes.
func (c *Conversation) Hello() { c.hello = true }

// A view is one exchange as the rules see it.
type view struct {
	c  *Conversation
	e  *record.Entry
	rt exchange.Route
	ok bool // it is a path of the API
}

// Judge returns the verdicts on the next exchange, at least one, the most important first.
func (c *Conversation) Judge(e *record.Entry) []Verdict {
	x := &view{c: c, e: e}
	x.rt, x.ok = e.Route()
	var list []Verdict

	for _, r := range c.rules {
		if !r.about(e.Endpoint) {
			continue
		}
		text := r.text(x)
		if text == "" {
			continue
		}
		list = append(list, Verdict{r.level, r.id, cmp.Or(r.spec, section(e.Endpoint)), text, r.advice})
		if r.last {
			break
		}
	}

	c.remember(x, list)
	if len(list) == 0 {
		list = []Verdict{{Level: Right, Rule: "right", Spec: section(e.Endpoint)}}
	}

	return list
}

// section returns the place of an endpoint in the distribution-spec.
func section(endpoint string) string {
	name := map[string]string{
		"end-1": "Determining Support", "end-2": "Pulling blobs", "end-3": "Pulling manifests",
		"end-4a": "Pushing blobs", "end-4b": "Single POST", "end-5": "Pushing a blob in chunks", "end-6": "Pushing blobs",
		"end-7a": "Pushing Manifests", "end-7b": "Pushing Manifests", "end-8a": "Listing Tags", "end-8b": "Listing Tags",
		"end-9": "Deleting Manifests", "end-10": "Deleting Blobs", "end-11": "Mounting a blob from another repository",
		"end-12a": "Listing Referrers", "end-13": "Pushing a blob in chunks", "end-14": "Endpoints",
	}[endpoint]
	switch {
	case endpoint == "token":
		return "token server"
	case name == "":
		return ""
	}
	return fmt.Sprintf("distribution-spec %s, %q", endpoint, name)
}

// remember keeps what an exchange means for those that follow.
func (c *Conversation) remember(x *view, list []Verdict) {
	e := x.e
	c.requests++
	c.sent += e.Sent
	c.received += e.Received
	if e.Unhashed && e.Endpoint == "end-2" && e.Status == 200 {
		c.unhashed++
	}

	if e.Cut == "end" {
		c.ended++
	}

	// Half an answer proves nothing, whatever its status, unless its body does not matter.
	good := e.Status >= 200 && e.Status < 400 && (e.Cut == "" || x.unread())
	if good && len(c.stored) < maxKept {
		x.confirm()
	}

	if host := hostOf(e.Head("Location")); host != "" && len(c.led) < maxKept {
		c.led[host] = e.N
	}

	if e.Session != "" {
		c.follow(e, good)
	}
	if broken := c.addProblems(x, list); good && !broken {
		c.solve(x)
	}

	// Who was asked for credentials and came with some has done what was asked, however it ends.
	if e.Ask("Authorization") != "" && e.Endpoint != "token" {
		for _, p := range c.problems {
			p.solved = p.solved || p.v.Rule == "asks"
		}
	}
}

// follow keeps how far an upload session is behind an exchange of it.
func (c *Conversation) follow(e *record.Entry, good bool) {
	switch {
	case e.Endpoint == "end-4a" && e.Status == 202, e.Endpoint == "end-11" && e.Status == 202:
		c.uploads++
		if len(c.sessions) < maxKept {
			c.sessions[e.Session] = accepted{e.N, e.Ask("Authorization")}
		}
	case e.Endpoint == "end-6" && e.Status == 201:
		c.finished++
		delete(c.sessions, e.Session)
	case e.Endpoint == "end-14" && good:
		delete(c.sessions, e.Session)
	case good && !e.Away && c.open(e.Session):
		c.sessions[e.Session] = accepted{e.N, e.Ask("Authorization")}
	}
}

// addProblems keeps what is wrong with an exchange, and reports whether anything is. A problem stays
// open until solve finds that it went away. Some verdicts, such as a 401 that asks for credentials,
// are problems only if nothing follows.
func (c *Conversation) addProblems(x *view, list []Verdict) (broken bool) {
	e := x.e
	for _, v := range list {
		if v.Broken() {
			broken = true
			c.seen[v.Rule]++
		}
		if len(c.problems) < maxKept && (v.Broken() || waits(v)) {
			c.problems = append(c.problems, &problem{
				v: v, n: e.N, what: What(e), key: key(e), repo: x.rt.Repo, session: e.Session,
				write: e.Method != "GET" && e.Method != "HEAD", waiting: !v.Broken(),
			})
		}
	}

	return broken
}

// open reports whether an upload was opened here and is not finished.
func (c *Conversation) open(session string) bool {
	_, ok := c.sessions[session]
	return ok
}

// hostOf returns host and port of an address, "" if it names none.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// waits reports whether a verdict is a problem if nothing follows.
func waits(v Verdict) bool {
	return v.Rule == "asks" || v.Rule == "absent" || v.Rule == "range-ignored"
}

// key is the same for a request and its repetition.
func key(e *record.Entry) string {
	path, _, _ := strings.Cut(e.Path(), "?")
	return e.Method + " " + path
}

// solve marks the problems that a good exchange shows to be over: the same request again, the end of
// the same upload, the manifest that needed what was refused.
func (c *Conversation) solve(x *view) {
	e := x.e
	manifest := e.Method == "PUT" && x.ok && x.rt.Kind == exchange.Manifest
	for _, p := range c.problems {
		switch {
		case p.solved, p.n == e.N:
		case p.key == key(e),
			p.session != "" && p.session == e.Session && e.Endpoint == "end-6",
			manifest && p.repo == x.rt.Repo && p.write: // a manifest that is taken has all its blobs
			p.solved = true
		}
	}
}

// confirm notes the blobs and manifests that the registry says it has, and those that its manifests
// name.
func (x *view) confirm() {
	e := x.e
	d := ""
	switch {
	case e.Endpoint == "end-6" && e.Status == 201, e.Endpoint == "end-4b" && e.Status == 201:
		d = x.query("digest")
	case e.Endpoint == "end-11" && e.Status == 201:
		d = x.query("mount")
	case e.Endpoint == "end-2" && !e.Away && x.ok:
		d = x.rt.Ref
	case (e.Endpoint == "end-7a" || e.Endpoint == "end-7b") && e.Status == 201:
		d = e.Asked.Digest
	case e.Endpoint == "end-3" && e.Answered.Text != nil:
		for _, ref := range refs(*e.Answered.Text) {
			x.c.named[x.rt.Repo+" "+ref] = e.N
		}
	}

	if d != "" {
		x.c.stored[x.rt.Repo+" "+d] = e.N
	}
}

// What returns the method and address of a request as one capped line that can be printed. The host is
// in it only if the request left the registry. Parameters that were redacted are left out.
func What(e *record.Entry) string {
	path, query, _ := strings.Cut(e.Path(), "?")
	var shown []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair != "" && !strings.Contains(pair, "=REDACTED") {
			shown = append(shown, strings.ReplaceAll(pair, "%3A", ":"))
		}
	}

	if len(shown) > 0 {
		path += "?" + strings.Join(shown, "&")
	}

	if len(path) > 300 {
		path = path[:300] + "..."
	}

	if e.Away {
		host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(e.URL, "https://"), "http://"), "/")
		path = host + path
	}

	return exchange.Plain(e.Method) + " " + exchange.Plain(path)
}
