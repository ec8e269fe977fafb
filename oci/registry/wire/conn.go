package wire

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options say which registry a [Conn] is for, and how to talk to it.
type Options struct {
	Host      string   // the registry as users write it, for messages and directories of certificates
	Base      *url.URL // scheme, host and port that requests go to
	Guessed   bool     // Base is HTTPS by assumption: it may turn out to be HTTP
	Fixed     bool     // the user named the scheme
	PlainHTTP bool

	Insecure bool   // do not verify the certificate of the registry's host, on any port
	CAFile   string // PEM certificates to trust besides the system's, wherever the registry leads
	CertFile string // PEM client certificate, for the registry's origin alone
	KeyFile  string

	ReadFile func(name string) ([]byte, error) // reads these and other certificates; must not be nil

	Header  http.Header       // sent along to the registry's origin alone
	Resolve map[string]string // by HOST:PORT, the address to dial in its place

	Getenv func(string) string // must not be nil, likewise Now and Sleep
	Home   string              // home directory; "" means none

	Retry   int           // how often a request is repeated that may be repeated
	Timeout time.Duration // the longest time without a byte moving

	Dialed func(net.Conn) (net.Conn, error) // returns what is used in the place of a new connection; nil: itself

	StrictLocation bool // refuse Locations of uploads on another host than the registry's

	UserAgent string
	Trace     func(Event)       // is called once for each request, after its answer; redacted
	Curl      io.Writer         // is written each request to as one curl line, secrets as $VARS
	Notice    func(text string) // is told what a user should know once
	Detail    func(text string) // is told what only a curious user wants to know

	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

// maxPause is the longest Retry-After that is slept through; a longer one is reported.
const maxPause = 60 * time.Second

// A Conn is the way to one registry: it sends requests, authorized by an [Authorizer], follows
// redirects, repeats what may be repeated, and traces all of it without secrets. It is safe for
// concurrent use.
type Conn struct {
	o     Options
	Red   *Redactor
	auth  Authorizer
	home  *http.Transport // to the registry: its certificates
	early *aheadDialer    // for home
	near  *http.Transport // to its host on another port, without a client certificate
	away  *http.Transport // to everybody else; the addresses that near and away dial are checked
	proxy proxyConfig

	pieces sync.Pool // see [pieceConn]

	Hostname string // of the registry, without port

	requests, sent atomic.Int64
	mu             sync.Mutex
	base           *url.URL
	undecided      bool             // HTTPS was assumed for a loopback address and has not been tried
	noExpect       bool             // the registry does not answer Expect: 100-continue
	wrote          bool             // the registry has taken something
	careful        bool             // a connection broke while a body was sent
	seen           map[string]bool  // notices
	pause          time.Time        // no request starts before
	wide           map[string]Scope // by resource; see Widen

	overload overload
}

// An Authorizer finds the Authorization header for requests to the registry.
type Authorizer interface {
	// Header returns the header to send r with, "" while the registry has asked for none.
	Header(ctx context.Context, r *Request) (string, error)
	// Answer returns the header to send r again with after resp, a 401. sent is the header that
	// was refused; "" means that there is nothing better. With own the header is for this request
	// alone: no other one gets the same token.
	Answer(ctx context.Context, r *Request, resp *Response, sent string, own bool) (string, error)
	// Explain returns err, the refusal of r, with what the authorizer knows about its cause.
	Explain(r *Request, err *StatusError) error
}

// New returns a Conn that never prints the secrets. Nothing is sent. Files of certificates are read,
// and one that cannot be used is an error.
func New(o Options, secrets ...string) (*Conn, error) {
	c := &Conn{o: o, Red: &Redactor{}, base: o.Base, undecided: o.Guessed, seen: map[string]bool{}, wide: map[string]Scope{}}
	c.pieces.New = newPieces
	c.Red.Hide(secrets...)
	c.Hostname = c.base.Hostname()
	c.proxy = newProxyConfig(o.Getenv)
	c.Red.Hide(c.proxy.secrets()...)
	for _, values := range o.Header {
		c.Red.Hide(values...) // a header that a user has to add is often a key
	}

	if err := c.newTransports(); err != nil {
		return nil, err
	}

	if o.Insecure && c.base.Scheme == "https" {
		c.Notice(fmt.Sprintf("the certificate of %s is not verified", o.Host))
	}

	return c, nil
}

// Authorize sets the Authorizer of all requests. It must be called once, before the first of them.
func (c *Conn) Authorize(auth Authorizer) { c.auth = auth }

// Widen makes later requests that need a scope on the resource of s ask for the actions of s as well,
// so that one token does for all of them.
func (c *Conn) Widen(s Scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wide[s.Resource] = s
}

// URL returns scheme, host and port that requests go to.
func (c *Conn) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base.String()
}

// Stats returns how many requests were sent so far, and how many bytes in their bodies.
func (c *Conn) Stats() (requests, sent int64) { return c.requests.Load(), c.sent.Load() }

// Warm makes n more connections to the registry along with the next one, if that is made within ten
// seconds.
func (c *Conn) Warm(n int) { c.early.warm(n) }

// Connect begins to make n connections to the registry for requests that are sent within ten seconds,
// and does not wait for them. Behind a proxy it makes none.
func (c *Conn) Connect(ctx context.Context, n int) {
	u := c.Endpoint("")
	if proxy, err := c.proxy.forRequest(&http.Request{URL: u}); proxy != nil || err != nil {
		return
	}
	c.early.begin(ctx, "tcp", net.JoinHostPort(u.Hostname(), portOf(u)), n)
}

// Close closes idle connections. Requests under way go on, and later ones make new connections.
func (c *Conn) Close() {
	c.early.close()
	c.home.CloseIdleConnections()
	c.near.CloseIdleConnections()
	c.away.CloseIdleConnections()
}

// Notice hands text to [Options.Notice] without secrets, the same text only once.
func (c *Conn) Notice(text string) {
	text = c.Red.Text(text)
	c.mu.Lock()
	seen := c.seen[text] || len(c.seen) > 1000
	c.seen[text] = true
	c.mu.Unlock()
	if !seen && c.o.Notice != nil {
		c.o.Notice(text)
	}
}

// detail hands text to [Options.Detail] without secrets.
func (c *Conn) detail(text string) {
	if c.o.Detail != nil {
		c.o.Detail(c.Red.Text(text))
	}
}

// Endpoint returns the URL of an endpoint of a repository. Path elements have been checked by
// their grammars, so they need no escapes; registries refuse an escaped colon in a digest.
func (c *Conn) Endpoint(repo string, elem ...string) *url.URL {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := *c.base
	u.Path = "/v2/"
	if repo != "" {
		u.Path += repo + "/" + strings.Join(elem, "/")
	}
	return &u
}

// Origin returns scheme, host and port of u (RFC 6454): what credentials belong to. A default port is
// written out, so equal origins are equal strings.
func Origin(u *url.URL) string {
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + portOf(u)
}

// portOf returns the port of u, or the default one of its scheme.
func portOf(u *url.URL) string {
	return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

// IsHome reports whether u is on the registry's own origin.
func (c *Conn) IsHome(u *url.URL) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Origin(u) == Origin(c.base)
}
