package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the settings of a [Client]. The zero value is useful: HTTPS (with a fallback to
// HTTP on a loopback address), system certificates, no credentials, no repeats.
type Options struct {
	PlainHTTP bool // talk HTTP; without it HTTPS, where a loopback registry may turn out to talk HTTP
	Insecure  bool // do not verify the registry's certificate

	CAFile   string // PEM certificates to trust besides the system's, for the registry only
	CertFile string // PEM client certificate, for the registry only
	KeyFile  string

	Username, Password string   // used before any other credentials
	IdentityToken      string   // likewise; an OAuth2 refresh token
	AuthFile           string   // the only credential file to read
	TrustRealms        []string // hosts (HOST or HOST:PORT) that may be sent the credentials for a token

	Getenv func(string) string // the environment; nil is an empty one
	Home   string              // home directory; "" means none

	Retry   int           // how often a request is repeated that may be repeated
	Timeout time.Duration // the longest time without a byte moving; 0 is 30 s

	StrictLocation bool // refuse upload Locations on another host than the registry's

	Trace  func(Event)       // is called once for each request, after its answer; redacted
	Curl   io.Writer         // is written each request to as one curl line, secrets as $VARS
	Notice func(text string) // is told what a user should know once: a fallback, a warning of the registry
	Detail func(text string) // is told what only a curious user wants to know, as HTTP on a loopback address

	UserAgent string // "" is "ocikit"

	Now   func() time.Time                           // nil is time.Now
	Sleep func(context.Context, time.Duration) error // nil waits
}

const (
	defaultTimeout = 30 * time.Second
	// maxPause is the longest Retry-After that is slept through; a longer one is reported.
	maxPause = 60 * time.Second
)

// A Client talks to one registry. Its methods send one request each, besides those for
// authorization, redirects and repeats. It is safe for concurrent use.
type Client struct {
	o     Options
	ref   Reference
	red   *redactor
	auth  *authenticator
	home  *http.Transport // to the registry: its certificates
	early *warmDialer     // for home
	away  *http.Transport // to everybody else: dialled addresses are checked
	proxy proxyConfig

	hostname string // of the registry, without port

	requests, sent atomic.Int64
	mu             sync.Mutex
	base           *url.URL
	undecided      bool             // HTTPS was assumed for a loopback address and has not been tried
	noExpect       bool             // the registry does not answer Expect: 100-continue
	wrote          bool             // the registry has taken something
	careful        bool             // a connection broke while a body was sent
	seen           map[string]bool  // notices
	pause          time.Time        // no request starts before
	wide           map[string]scope // by resource; see ForPush

	load load
}

// New returns a Client for the registry that ref names; repository, tag and digest of ref do
// not matter. Nothing is sent. Files of certificates are read now, those of credentials
// before the first request.
func New(ref Reference, o Options) (*Client, error) {
	o.setDefaults()
	c := &Client{o: o, ref: ref, red: &redactor{}, seen: map[string]bool{}, wide: map[string]scope{}}
	c.red.add(o.Password, o.IdentityToken)
	c.base, c.undecided = ref.BaseURL(o.PlainHTTP)
	c.hostname = c.base.Hostname()
	c.proxy = newProxyConfig(o.Getenv)
	for _, secret := range c.proxy.secrets() {
		c.red.add(secret)
	}
	c.auth = newAuthenticator(c)
	if err := c.newTransports(); err != nil {
		return nil, fmt.Errorf("registry %s: %w", ref.Host, err)
	}
	if o.Insecure && c.base.Scheme == "https" {
		c.notice(fmt.Sprintf("the certificate of %s is not verified", ref.Host))
	}
	return c, nil
}

func (o *Options) setDefaults() {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.UserAgent == "" {
		o.UserAgent = "ocikit"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = Sleep
	}
}

// Sleep returns nil after d, or the cause of ctx's end if that comes first.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Host returns the registry's name as users write it.
func (c *Client) Host() string { return c.ref.Host }

// URL returns scheme, host and port that requests go to. The scheme of a loopback registry
// is certain only after a request.
func (c *Client) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base.String()
}

// Ref returns the registry as a [Reference] without a repository, and with the scheme that it
// speaks: enough to make the same Client again.
func (c *Client) Ref() Reference {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Reference{Scheme: c.base.Scheme, Host: c.ref.Host}
}

// ForPush makes later requests to a repository ask for the right to push along with whatever
// they need, so that one token does for all of them.
func (c *Client) ForPush(repo string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wide[push(repo).resource] = push(repo)
}

// Stats returns how many requests were sent so far, and how many bytes in their bodies.
func (c *Client) Stats() (requests, sent int64) { return c.requests.Load(), c.sent.Load() }

// Warm makes the next connection bring n more with it, for a caller who is going to send as
// many requests at once after the first answer: each of them is spared a round trip.
// [Client.Close] closes those that were not needed.
func (c *Client) Warm(n int) { c.early.warm(min(n, slots-1)) }

// Close releases idle connections. The Client may still be used.
func (c *Client) Close() {
	c.early.close()
	c.home.CloseIdleConnections()
	c.away.CloseIdleConnections()
}

// Redact returns s without the secrets that the Client knows, for a caller that prints what
// came from the registry.
func (c *Client) Redact(s string) string { return c.red.text(s) }

// notice tells the user something, once.
func (c *Client) notice(text string) {
	text = c.red.text(text)
	c.mu.Lock()
	seen := c.seen[text] || len(c.seen) > 1000
	c.seen[text] = true
	c.mu.Unlock()
	if !seen && c.o.Notice != nil {
		c.o.Notice(text)
	}
}

// detail tells a curious user something.
func (c *Client) detail(text string) {
	if c.o.Detail != nil {
		c.o.Detail(c.red.text(text))
	}
}

// url returns the URL of an endpoint of a repository. Path elements have been checked by
// their grammars, so they need no escapes; registries refuse an escaped colon in a digest.
func (c *Client) url(repo string, elem ...string) *url.URL {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := *c.base
	u.Path = "/v2/"
	if repo != "" {
		u.Path += repo + "/" + strings.Join(elem, "/")
	}
	return &u
}

// origin returns scheme, host and port of u, the thing credentials belong to.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// isHome reports whether u is on the registry's own origin.
func (c *Client) isHome(u *url.URL) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return origin(u) == origin(c.base)
}
