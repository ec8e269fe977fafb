package record

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"ocikit/oci/registry/serve/exchange"
)

// A Namer takes the names out of entries: hosts, repositories, tags and sessions become
// host-1.example, repo-1, tag-1 and session-1, and the same name becomes the same word each time.
// Digests, sizes and statuses stay, so the verdicts stay as well. Of documents only what makes an
// image is kept: media types, digests, sizes. A Namer is safe for concurrent use.
//
// # Design
//
// A name may stand anywhere, so nothing is kept because nobody thought of it: a text stays only where
// its grammar has no room for a name (a digest, a number, an action, a media type), and each key of a
// query or a document only if it is listed.
type Namer struct {
	mu    sync.Mutex
	known map[string]string // "host NAME": what stands for it
	count map[string]int
}

// NewNamer returns a Namer that knows no name yet.
func NewNamer() *Namer { return &Namer{known: map[string]string{}, count: map[string]int{}} }

// Grammars of what may stay.
var (
	digestIn    = grammar(`sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})`)
	digestOnly  = grammar(`^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$`)
	digestTag   = grammar(`^sha(256-[0-9a-f]{64}|512-[0-9a-f]{128})(\.(sig|att|sbom))?$`)
	mediaType   = grammar(`^[a-z]+/[A-Za-z0-9!#$&^_.+-]+$`)
	codeGrammar = grammar(`^[A-Z][A-Z_]*$`)
	plainWord   = grammar(`^[a-z0-9_.]{1,20}$`)
	numberOnly  = grammar(`^[0-9]+$`)
	redacted    = grammar(`REDACTED( \([0-9]+ bytes)?(, |-)[0-9a-f]{6}\)?`)
)

func grammar(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// name returns the word that stands for a name of a kind.
func (n *Namer) name(kind, name string) string {
	if name == "" {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := kind + " " + name
	if _, ok := n.known[key]; !ok {
		n.count[kind]++
		n.known[key] = fmt.Sprintf("%s-%d", kind, n.count[kind])
		if kind == "host" {
			n.known[key] += ".example"
		}
	}
	return n.known[key]
}

// kept returns v if it is all of a grammar, else a word for it.
func (n *Namer) kept(grammar func() *regexp.Regexp, kind, v string) string {
	if grammar().MatchString(v) {
		return v
	}
	return n.name(kind, v)
}

// tag keeps those that are made of a digest.
func (n *Namer) tag(tag string) string { return n.kept(digestTag, "tag", tag) }

// URL returns an address without names.
func (n *Namer) URL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" {
		return "redacted:" // a host with its port reads like a scheme
	}

	if u.Host != "" {
		u.Host = n.name("host", u.Host)
	}

	// Of a path of the API only repository, tag and session are names. Any other path may say
	// anything, so it is replaced whole; below /v2/ by one that cannot be parsed either.
	rt, err := exchange.ParseURL(u)
	switch api := exchange.Known(u.Path); {
	case api && err == nil && rt.Repo != "":
		rest := strings.TrimPrefix(u.Path, "/v2/"+rt.Repo)
		u.Path = "/v2/" + n.name("repo", rt.Repo) + strings.TrimSuffix(rest, rt.Ref) + n.reference(rt)
	case api && err == nil, u.Path == "", u.Path == "/":
	case api:
		u.Path = "/v2/" + n.name("path", u.Path)
	default:
		u.Path = "/" + n.name("path", u.Path)
	}

	// What cannot be parsed in a query is left out by Query.
	q := url.Values{}
	for key, values := range u.Query() {
		for _, v := range values {
			q.Add(n.key(key), n.parameter(rt.Kind, key, v))
		}
	}

	u.User, u.RawPath, u.Fragment, u.RawFragment, u.RawQuery = nil, "", "", "", q.Encode()
	return u.String()
}

// reference returns the last word of a path of the API without names.
func (n *Namer) reference(rt exchange.Route) string {
	switch {
	case rt.Kind == exchange.Upload:
		return n.name("session", rt.Ref)
	case digestOnly().MatchString(rt.Ref):
		return rt.Ref
	}
	return n.tag(rt.Ref)
}

// key keeps the parameters that clients of registries and token servers send.
func (n *Namer) key(key string) string {
	known := []string{
		"digest", "digest-algorithm", "mount", "from", "n", "last", "tag", "ns", "artifactType", "_state", "state",
		"service", "scope", "account", "client_id", "offline_token", "access_type", "grant_type",
	}
	if slices.Contains(known, key) {
		return key
	}
	return n.name("key", key)
}

// parameter returns the value of a parameter of a query without names. One that is not known may
// hold a name. The word for a value that was redacted keeps saying so.
func (n *Namer) parameter(kind exchange.Endpoint, key, v string) string {
	switch key {
	case "digest", "mount":
		return n.kept(digestOnly, "value", v)
	case "digest-algorithm":
		return n.kept(plainWord, "value", v)
	case "n":
		return n.kept(numberOnly, "value", v)
	case "from":
		return n.name("repo", v)
	case "last":
		if kind == exchange.Catalog {
			return n.name("repo", v)
		}
		return n.tag(v)
	case "tag":
		return n.tag(v)
	case "scope":
		return n.scope(v)
	case "service", "ns":
		return n.name("host", v)
	}

	if strings.HasPrefix(v, "REDACTED") {
		return n.name("REDACTED", v)
	}
	return n.name("value", v)
}

// scope replaces the name in repository:NAME:ACTIONS, and all of what is not of that form.
func (n *Namer) scope(v string) string {
	words := strings.Fields(v)
	for i, w := range words {
		kind, rest, _ := strings.Cut(w, ":")
		j := strings.LastIndexByte(rest, ':')
		if j < 0 || kind != "repository" && kind != "registry" {
			words[i] = n.name("value", w)
			continue
		}

		name, actions := rest[:j], strings.Split(rest[j+1:], ",")
		for k, action := range actions {
			if !slices.Contains([]string{"pull", "push", "delete", "*"}, action) {
				actions[k] = n.name("action", action)
			}
		}

		if kind != "registry" || name != "catalog" {
			name = n.name("repo", name)
		}
		words[i] = kind + ":" + name + ":" + strings.Join(actions, ",")
	}
	return strings.Join(words, " ")
}

// plainHeaders are those whose values hold no names.
func plainHeaders() []string {
	return []string{
		"Accept", "Accept-Encoding", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Range",
		"Content-Type", "Date", "Docker-Distribution-Api-Version", "Expect", "Oci-Chunk-Min-Length", "Oci-Chunk-Max-Length",
		"Range", "Retry-After", "Transfer-Encoding", "X-Content-Type-Options",
	}
}

// headers returns headers without names. One that is not known here is left out.
func (n *Namer) headers(h map[string][]string) map[string][]string {
	out := map[string][]string{}
	for name, values := range h {
		for _, v := range values {
			if bare, ok := n.header(name, v); ok {
				out[name] = append(out[name], bare)
			}
		}
	}
	return out
}

// header returns the value of one header without names; ok is false for a header that is not known.
func (n *Namer) header(name, v string) (bare string, ok bool) {
	switch name {
	case "Location", "Content-Location", "Referer":
		return n.URL(v), true
	case "Link":
		return "<" + n.URL(strings.Trim(strings.SplitN(v, ";", 2)[0], "<> ")) + `>; rel="next"`, true
	case "Www-Authenticate":
		return n.challenge(v), true
	case "Oci-Tag":
		return n.tag(v), true
	case "Docker-Content-Digest", "Oci-Subject":
		return n.kept(digestOnly, "value", v), true
	case "Docker-Upload-Uuid":
		return n.name("session", v), true
	case "User-Agent", "Server":
		return n.product(v), true
	case "Authorization":
		return n.credentials(v), true
	}
	return v, slices.Contains(plainHeaders(), name)
}

// product returns what a program calls itself, unless a name that is known so far is in it.
func (n *Namer) product(v string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key := range n.known {
		_, name, _ := strings.Cut(key, " ")
		if len(name) > 3 && strings.Contains(v, name) {
			return "REDACTED"
		}
	}
	return v
}

// credentials puts a number in the place of the mark by which two redacted secrets are told apart:
// the mark is made of the secret, so somebody who guesses it can find out that he did.
func (n *Namer) credentials(v string) string {
	return redacted().ReplaceAllStringFunc(v, func(m string) string {
		if strings.HasPrefix(m, "REDACTED (4 bytes") { // an empty login, which a rule looks for
			return "REDACTED (4 bytes)"
		}
		return "REDACTED (" + n.name("secret", m) + ")"
	})
}

var challengeParameter = grammar(`([A-Za-z_]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,]+)|[^\s,]+`)

// challenge replaces the names in WWW-Authenticate and leaves its form, which a rule looks at.
func (n *Namer) challenge(v string) string {
	return challengeParameter().ReplaceAllStringFunc(v, func(m string) string {
		parts := challengeParameter().FindStringSubmatch(m)
		if parts[1] == "" { // a scheme
			if slices.Contains([]string{"basic", "bearer", "digest", "negotiate", "ntlm"}, strings.ToLower(m)) {
				return m
			}
			return "REDACTED"
		}

		key, text := strings.ToLower(parts[1]), strings.Trim(parts[2], `"`)
		value := n.name("value", text)
		switch {
		case key == "scope":
			value = n.scope(text)
		case key == "service":
			value = n.name("host", text)
		case key == "realm" && strings.Contains(text, "://"):
			value = n.URL(text)
		case key == "error" && slices.Contains([]string{"insufficient_scope", "invalid_token", "invalid_request"}, text):
			value = text
		}
		if !slices.Contains([]string{"realm", "service", "scope", "error", "error_description", "charset"}, key) {
			parts[1] = n.name("key", key)
		}
		return parts[1] + `="` + value + `"`
	})
}

// told returns of an error or a page only the words that rules look for.
func told(text string) string {
	if text == "" {
		return ""
	}
	out := "REDACTED"
	for _, phrase := range []string{"certificate", "tls:", "server gave HTTP response to HTTPS client", "plain HTTP request", "the address leads back to the tap"} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(phrase)) {
			out += " " + phrase
		}
	}
	return out
}

// Entry returns a copy of e without names.
func (n *Namer) Entry(e *Entry) *Entry {
	c := *e
	c.URL, c.Session = n.URL(e.URL), n.name("session", e.Session)
	c.Request, c.Response = n.headers(e.Request), n.headers(e.Response)
	c.Remote, c.Proxy, c.TLS, c.RequestID, c.Verdicts = "", "", "", "", nil
	c.Client, c.Error, c.Says = n.product(e.Client), told(e.Error), told(e.Says)

	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	if !slices.Contains(methods, e.Method) {
		c.Method = n.name("method", e.Method)
	}

	// Messages may name anything. The digests in them are kept, since a rule asks for the one
	// that an error is about.
	c.Errors = slices.Clone(e.Errors)
	for i := range c.Errors {
		c.Errors[i].Code = n.kept(codeGrammar, "code", e.Errors[i].Code)
		c.Errors[i].Detail = strings.Join(digestIn().FindAllString(e.Errors[i].Message+" "+e.Errors[i].Detail, -1), " ")
		c.Errors[i].Message = ""
	}

	c.Asked, c.Answered = n.body(e.Endpoint, e.Asked), n.body(e.Endpoint, e.Answered)
	return &c
}
