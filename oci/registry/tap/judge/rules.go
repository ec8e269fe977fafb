package judge

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/wire"
)

// A rule is one row of the table.
type rule struct {
	id     string
	ends   string // endpoints that it is about, "" for all
	level  Level
	last   bool   // nothing else is worth saying then
	spec   string // "" is the section of the endpoint
	text   func(x *view) string
	advice string
}

func (r rule) about(endpoint string) bool {
	return r.ends == "" || slices.Contains(strings.Fields(r.ends), endpoint)
}

// Endpoints by what they are about.
const (
	uploading = "end-5 end-6"
	writing   = "end-4a end-4b end-5 end-6 end-7a end-7b end-11"
	manifests = "end-7a end-7b"
)

// rules returns the table. Its order matters: the first rule that has something to say names the
// cause, and a rule marked last keeps those behind it from blaming the consequences.
func rules() []rule {
	return slices.Concat(connectionRules(), statusRules(), authRules(), uploadRules(), blobRules(), manifestRules(), answerRules())
}

// query returns a parameter of the request, "" if there is none.
func (x *view) query(key string) string {
	u, err := url.Parse(x.e.URL)
	if err != nil {
		return ""
	}
	return u.Query().Get(key)
}

// server names what answered, as far as it says so.
func (x *view) server() string {
	if s := x.e.Head("Server"); s != "" {
		return short(s, 60)
	}
	return "the registry"
}

// short returns the first n bytes of s as a word that can be printed. The sign that something is left out
// comes last, since [exchange.Plain] would escape it.
func short(s string, n int) string {
	if len(s) <= n {
		return exchange.Plain(s)
	}
	return exchange.Plain(strings.TrimSuffix(wire.Truncate(s, n), "…")) + "…"
}

// said adds what the answer says of the error.
func (x *view) said() string {
	switch {
	case len(x.e.Errors) > 0:
		return fmt.Sprintf(", %s %s", exchange.Plain(x.e.Errors[0].Code), wire.Quote(x.e.Errors[0].Message))
	case x.e.Says != "":
		return ", " + wire.Quote(x.e.Says)
	}
	return ""
}

func (x *view) status(list ...int) bool { return slices.Contains(list, x.e.Status) }

// chunked reports whether the body came without a length.
func (x *view) chunked() bool { return strings.Contains(x.e.Ask("Transfer-Encoding"), "chunked") }

// when returns the text of a rule if cond holds, else "": the rule has nothing to say.
func when(cond bool, format string, args ...any) string {
	if !cond {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// ToItself is in the error of a request that would have come back to the tap which sent it.
const ToItself = "the address leads back to the tap"

// connectionRules are about exchanges that did not come to an end. Nothing else can be said of
// those.
func connectionRules() []rule {
	return []rule{
		{id: "fault", level: Registry, last: true, spec: "the tap", text: func(x *view) string {
			return when(x.e.Fault != "", "the tap committed the fault %s here, on purpose", exchange.Plain(x.e.Fault))
		}, advice: "see what the client makes of it"},
		{id: "tap-cut", level: Tolerated, last: true, spec: "the tap", text: func(x *view) string {
			return when(x.e.Cut == "tap", "the tap itself failed and broke the connection: %s", wire.Quote(x.e.Error))
		}, advice: "report this fault of ocikit; it says nothing about the client or the registry"},
		{id: "ended", level: Unfinished, last: true, spec: "the tap", text: func(x *view) string {
			return when(x.e.Cut == "end", "the tap was ended after %d bytes of the request and %d of the answer%s", x.e.Sent, x.e.Received, x.announced())
		}, advice: "let the client end before the tap does"},
		{id: "stalled", level: Registry, last: true, spec: "the tap, --timeout", text: func(x *view) string {
			return when(x.e.Cut == "registry" && x.e.Stalled, "it neither took nor sent a byte for the time of --timeout: the tap broke the connection after %d bytes of the request and %d of the answer%s", x.e.Sent, x.e.Received, x.announced())
		}, advice: "look into the log of the registry, and at what stands before it, at this time; if it only needs longer, give the tap a longer --timeout"},
		{id: "client-stalled", level: Client, last: true, spec: "the tap, --timeout", text: func(x *view) string {
			return when(x.e.Cut == "client" && x.e.Stalled, "it neither sent nor took a byte for the time of --timeout: the tap broke the connection after %d bytes of the request and %d of the answer%s", x.e.Sent, x.e.Received, x.announced())
		}, advice: "look at what the client does at this time; if it only needs longer, give the tap a longer --timeout"},
		{id: "tls", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Error != "" && x.e.Status == 0 && (strings.Contains(x.e.Error, "certificate") || strings.Contains(x.e.Error, "tls:")), "no TLS connection can be made: %s", wire.Quote(x.e.Error))
		}, advice: "trust the certificate authority of the registry, or check under which names its certificate is good"},
		{id: "plain", level: Registry, last: true, text: func(x *view) string {
			return when(strings.Contains(x.e.Error, "server gave HTTP response to HTTPS client"), "it speaks plain HTTP and was asked in HTTPS")
		}, advice: "talk plain HTTP to it, or give it a certificate"},
		{id: "token-unreachable", ends: "token", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Error != "" && x.e.Cut == "", "the token server that the registry names cannot be reached: %s", wire.Quote(x.e.Error))
		}, advice: "correct the realm in the configuration of the registry, or make its host reachable from here"},
		{id: "upload-unreachable", ends: "end-5 end-6 end-13 end-14", level: Registry, last: true, text: func(x *view) string {
			return x.ledAstray()
		}, advice: "let the registry name the address that clients use (distribution: http.host, or http.relativeurls: true; what stands before it: pass Host and X-Forwarded-Proto on)"},
		{id: "storage-unreachable", ends: "end-2 end-3", level: Registry, last: true, text: func(x *view) string {
			return x.ledAstray()
		}, advice: "make that host reachable from here, or let the registry serve the bytes itself (distribution: storage.redirect.disable)"},
		{id: "itself", level: Registry, last: true, text: func(x *view) string {
			return when(strings.Contains(x.e.Error, ToItself), "its address leads back to the tap")
		}, advice: "give the tap another --listen than the address of the registry; if clients find the tap by the name of the registry, give --resolve HOST:PORT:ADDRESS with the true address of the registry"},
		{id: "unreachable", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Error != "" && x.e.Cut == "", "it cannot be reached: %s", wire.Quote(x.e.Error))
		}, advice: "check its name and port, and whether it runs"},
		{id: "cut", level: Registry, last: true, text: func(x *view) string {
			if x.e.Cut != "registry" {
				return ""
			}
			if x.e.Status > 0 {
				return fmt.Sprintf("the connection broke after %d bytes of the answer%s", x.e.Received, x.announced())
			}
			return fmt.Sprintf("the connection broke after %d bytes of the request, and there was no answer", x.e.Sent)
		}, advice: "look into the log of the registry, and at the timeouts and limits of what stands before it, at this time"},
		{id: "client-cut", level: Client, last: true, text: func(x *view) string {
			if x.e.Cut != "client" || x.unread() {
				return ""
			}
			if x.e.Status > 0 {
				return fmt.Sprintf("it broke the connection after %d bytes of the answer%s", x.e.Received, x.announced())
			}
			return fmt.Sprintf("it broke the connection after %d bytes of its request, %.0f ms after the beginning", x.e.Sent, x.e.Timing.Total)
		}, advice: "look at what the client says: a timeout of its own, an interruption, a file that ended early"},
	}
}

// unread reports whether the client broke the connection when it had the head of an answer and needed
// nothing else of it: the answer to a ping or to a write, a redirect, a refusal. Some clients drop such
// a body as a habit. The head is judged as that of any other answer.
func (x *view) unread() bool {
	e := x.e
	if e.Cut != "client" || e.Status == 0 {
		return false
	}
	body := e.Method == "GET" && e.Endpoint != "end-1" || e.Endpoint == "token" // it is what was asked for
	return !body || e.Status >= 300 || x.html()
}

// html reports whether a page for people came.
func (x *view) html() bool { return strings.HasPrefix(x.e.Head("Content-Type"), "text/html") }

// ledAstray says which Location led to a host that cannot be reached.
func (x *view) ledAstray() string {
	host := hostOf(x.e.URL)
	n := x.c.led[host]
	return when(x.e.Error != "" && x.e.Cut == "" && x.e.Away && n > 0, "its Location in the answer to request %d leads to %s, which cannot be reached: %s", n, exchange.Plain(host), wire.Quote(x.e.Error))
}

func (x *view) announced() string {
	if x.e.Announced == nil {
		return ""
	}
	return fmt.Sprintf(" of %d", *x.e.Announced)
}

// statusRules are about answers that come from what stands before the registry, or mean the same at
// every endpoint.
func statusRules() []rule {
	return []rule{
		{id: "portal", level: Registry, last: true, text: func(x *view) string {
			return when(x.html() && x.e.Status == 200 && !x.e.Away, "a page of HTML comes in place of an answer, from %s", x.server())
		}, advice: "something else answers under this name (a portal, a proxy, a web site): check the address, and that /v2/ leads to the registry"},
		{id: "body-limit", level: Registry, last: true, spec: "RFC 9110, 15.5.14", text: func(x *view) string {
			return when(x.e.Status == 413, "%s refuses a body of %s: too large (413)", x.server(), x.length())
		}, advice: "raise the limit for bodies of what stands before the registry (nginx: client_max_body_size 0;), or have the client send smaller chunks"},
		{id: "length-required", level: Registry, last: true, spec: "RFC 9112, 7.1", text: func(x *view) string {
			refused := x.e.Status == 411 || x.chunked() && x.status(400, 501)
			return when(refused, "%s takes no body without a Content-Length (Transfer-Encoding: chunked): %d%s", x.server(), x.e.Status, x.said())
		}, advice: "let what stands before the registry pass chunked bodies on (HTTP/1.1, no request inspection), or use a client that sends the length"},
		{id: "https-port", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status == 400 && strings.Contains(strings.ToLower(x.e.Says), "plain http request"), "the request went in plain HTTP to a port that speaks HTTPS, where an address of the registry had led")
		}, advice: "tell the registry that it is reached by https (distribution: http.host, or X-Forwarded-Proto from the proxy)"},
		{id: "location-http", level: Registry, text: func(x *view) string {
			return when(strings.HasPrefix(x.e.URL, "https:") && !x.e.Away && strings.HasPrefix(x.e.Head("Location"), "http:"), "its Location leads from https to plain http: %s", short(x.e.Head("Location"), 100))
		}, advice: "tell the registry that it is reached by https (distribution: http.host, or X-Forwarded-Proto from the proxy)"},
		{id: "rate", level: Registry, last: true, spec: "RFC 6585, 4", text: func(x *view) string {
			wait := "and does not say how long to wait"
			if s := x.e.Head("Retry-After"); s != "" {
				wait = "and asks to wait: Retry-After " + exchange.Plain(s)
			}
			return when(x.e.Status == 429, "too many requests (429), %s", wait)
		}, advice: "wait, send fewer requests at once, or log in: accounts have higher limits"},
		{id: "gateway", level: Registry, last: true, text: func(x *view) string {
			late := ""
			if x.status(504) {
				late = " in time"
			}
			return when(x.status(502, 503, 504), "%s gets no answer from the registry behind it%s: %d after %.1f s%s", x.server(), late, x.e.Status, x.e.Timing.Total/1000, x.said())
		}, advice: "check that the registry behind it runs and look into its log, and raise the timeouts of what stands before it (nginx: proxy_read_timeout, proxy_send_timeout, proxy_request_buffering off;)"},
		{id: "disk-full", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status == 507, "its disk is full (507)%s", x.said())
		}, advice: "make room on the disk of the registry"},
		{id: "internal", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status >= 500, "it failed: %d%s", x.e.Status, x.said())
		}, advice: "look into the log of the registry at this time"},
		{id: "name-invalid", level: Client, last: true, text: func(x *view) string {
			u, err := url.Parse(x.e.URL)
			if err != nil || !x.status(400, 404) || !x.e.HasCode(exchange.CodeNameInvalid) {
				return ""
			}
			_, err = exchange.ParseURL(u)
			return when(err != nil, "it asks for a name that no repository can have%s", x.said())
		}, advice: "give the repository another name: lower-case letters and digits, joined by one of . _ __ - and /"},
		{id: "no-api", ends: "end-1", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status == 404, "there is no registry under this address: /v2/ is not there (404, from %s)", x.server())
		}, advice: "check the address: name, port, and that /v2/ leads to the registry"},
		{id: "storage", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Away && x.e.Endpoint != "token" && x.status(400, 401, 403, 404), "the storage that the registry leads to refuses: %d%s", x.e.Status, x.said())
		}, advice: "check the clocks of registry and storage and how long its signed URLs are good, or let the registry serve the bytes itself (distribution: storage.redirect.disable)"},
	}
}

// length returns the length that the request announced, for people.
func (x *view) length() string {
	if x.chunked() {
		return "unknown length"
	}
	if s := x.e.Ask("Content-Length"); s != "" {
		return exchange.Plain(s) + " bytes"
	}
	return strconv.FormatInt(x.e.Sent, 10) + " bytes"
}

// authRules are about logging in. The rule "asks" is behind those that know better why a 401 came.
func authRules() []rule {
	return []rule{
		{id: "no-oauth", ends: "token", level: Tolerated, last: true, text: func(x *view) string {
			return when(x.e.Method == "POST" && x.status(404, 405), "the token server takes no POST (%d), which is optional: the client has to ask with GET", x.e.Status)
		}},
		{id: "old-protocol", ends: "token", level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status >= 400 && strings.HasPrefix(x.e.Path(), "/v1/"), "it asks in the protocol before this one, /v1/, which the registry does not speak (%d)", x.e.Status)
		}, advice: "use a client, or a command of it, that asks under /v2/: \"docker search\" does not"},
		{id: "token-refused", ends: "token", level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status >= 400, "the token server refuses the credentials: %d%s", x.e.Status, x.said())
		}, advice: "log in again, with an account that may use the repository"},
		{id: "token-absent", ends: "token", level: Registry, last: true, text: func(x *view) string {
			var doc struct {
				Token       string `json:"token"`
				AccessToken string `json:"access_token"`
			}
			ok := x.e.Answered.Text != nil && json.Unmarshal([]byte(*x.e.Answered.Text), &doc) == nil && doc.Token+doc.AccessToken != ""
			return when(x.e.Status == 200 && !ok, "the token server answers without a token")
		}, advice: "look at the token server: it must answer {\"token\": …}"},
		{id: "upload-asks", ends: "end-5 end-6 end-13 end-14", level: Registry, last: true, text: func(x *view) string {
			before, open := x.c.sessions[x.e.Session]
			if x.e.Status != 401 || !open || bearer(x) || before.credentials != x.e.Ask("Authorization") {
				return ""
			}
			if before.credentials == "" {
				return fmt.Sprintf("it wants credentials in the middle of an upload (401), and took it without any before, at request %d", before.n)
			}
			return fmt.Sprintf("it refuses the credentials in the middle of an upload (401), and it took the same credentials before, at request %d", before.n)
		}, advice: "let the registry and what stands before it ask for the same login at every request of an upload, whatever its method or path; if several registries answer under one name, let them know the same accounts"},
		{id: "no-challenge", level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status == 401 && x.e.Head("Www-Authenticate") == "", "a 401 does not say how to log in (no WWW-Authenticate)")
		}, advice: "let what stands before the registry pass WWW-Authenticate on"},
		{id: "scope", level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status == 401 && strings.Contains(x.e.Head("Www-Authenticate"), "insufficient_scope"), "the token does not allow what the client does, it needs %s", scopeOf(x.e.Head("Www-Authenticate")))
		}, advice: "the client should ask for a token with this scope; if it did, the account lacks the right"},
		{id: "token-expired", ends: writing, level: Registry, last: true, text: func(x *view) string {
			return when(x.e.Status == 401 && bearer(x), "the token is not good any more in the middle of a push (401)")
		}, advice: "let tokens live longer than an upload takes, or use a client that renews its token and goes on"},
		{id: "no-name", level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status == 401 && x.e.Ask("Authorization") != "" && emptyLogin(x.e.Ask("Authorization")), "it logs in with an empty name and an empty password")
		}, advice: "log in: the client has no credentials for this name"},
		{id: "credentials", level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status == 401 && x.e.Ask("Authorization") != "", "the registry refuses the credentials (401)%s", x.said())
		}, advice: "log in again"},
		{id: "asks", level: Right, last: true, text: func(x *view) string {
			return when(x.e.Status == 401, "the registry asks who it is, as it may")
		}, advice: "log in: the client sent no credentials"},
		{id: "denied", level: Client, last: true, text: func(x *view) string {
			return when(x.e.Status == 403, "the account may not do this (403)%s", x.said())
		}, advice: "get the right on this repository, or use another account"},
	}
}

// emptyLogin reports whether a redacted header of Basic credentials is that of ":".
func emptyLogin(header string) bool { return strings.HasPrefix(header, "Basic REDACTED (4 bytes") }

func bearer(x *view) bool { return strings.HasPrefix(x.e.Ask("Authorization"), "Bearer") }

func scopeOf(challenge string) string {
	_, rest, _ := strings.Cut(challenge, `scope="`)
	scope, _, _ := strings.Cut(rest, `"`)
	return short(scope, 100)
}
