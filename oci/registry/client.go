package registry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocikit/oci/registry/auth"
	"ocikit/oci/registry/wire"
)

// Options are the settings of a [Client]. The zero value is useful: HTTPS (with a fallback to
// HTTP on a loopback address), system certificates, no credentials, no repeats.
type Options struct {
	PlainHTTP bool // talk HTTP; without it HTTPS, where a loopback registry may turn out to talk HTTP
	Insecure  bool // do not verify the certificate of the registry's host

	CAFile   string // PEM certificates to trust besides the system's, wherever the registry leads
	CertFile string // PEM client certificate, for the registry's origin only
	KeyFile  string

	Header  http.Header       // sent along to the registry's origin only
	Resolve map[string]string // by HOST:PORT, the address to dial in its place

	Username, Password string   // used before any other credentials
	IdentityToken      string   // likewise; an OAuth2 refresh token
	RegistryToken      string   // likewise; is sent as it is, as Bearer
	Helpers            *Helpers // answers of credential helpers, for Clients that share them; nil shares none
	AuthFile           string   // the only credential file to read
	StoreFile          string   // that Login and Logout change; "" is the usual one
	TrustRealms        []string // hosts (HOST or HOST:PORT) that may be sent the credentials for a token

	ReadFile func(name string) ([]byte, error) // reads files of certificates and keys; nil is os.ReadFile

	Getenv func(string) string // the environment; nil is an empty one
	Home   string              // home directory; "" means none

	Retry   int           // how often a request is repeated that may be repeated
	Timeout time.Duration // the longest time without a byte moving; 0 is 30 s

	Dialed func(net.Conn) (net.Conn, error) // returns what is used in the place of a new connection; nil: itself

	StrictLocation bool // refuse upload Locations on another host than the registry's

	Trace  func(Event)       // is called once for each request, after its answer; redacted
	Curl   io.Writer         // is written each request to as one curl line, secrets as $VARS
	Notice func(text string) // is told what a user should know once: a fallback, a warning of the registry
	Detail func(text string) // is told what only a curious user wants to know, as HTTP on a loopback address

	UserAgent string // "" is "ocikit"

	Now   func() time.Time                           // nil is time.Now
	Sleep func(context.Context, time.Duration) error // nil waits
}

const defaultTimeout = 30 * time.Second

// A Client talks to one registry. The methods for the endpoints of the distribution-spec send one
// request each, besides those for authorization, redirects and repeats; lists take a request for
// each page. It is safe for concurrent use.
type Client struct {
	o    Options
	ref  Reference
	conn *wire.Conn
	auth *auth.Authenticator

	placed        atomic.Int32 // blobs that are read by [Repository.BlobAt]
	held          chan []byte  // room for the ranges of all blobs; nil is room that was never used
	oneConnection atomic.Bool  // ranges were wrong
	connected     sync.Once    // see Connect
}

// New returns a Client for the registry that ref names; repository, tag and digest of ref do
// not matter. Nothing is sent. Files of certificates are read now, those of credentials
// before the first request.
func New(ref Reference, o Options) (*Client, error) {
	o.setDefaults()
	base, guessed := ref.BaseURL(o.PlainHTTP)
	conn, err := wire.New(wire.Options{
		Host: ref.Host, Base: base, Guessed: guessed, Fixed: ref.Scheme != "", PlainHTTP: o.PlainHTTP,
		Insecure: o.Insecure, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile, ReadFile: o.ReadFile, Getenv: o.Getenv, Home: o.Home,
		Header: o.Header, Resolve: o.Resolve,
		Retry: o.Retry, Timeout: o.Timeout, Dialed: o.Dialed, StrictLocation: o.StrictLocation, UserAgent: o.UserAgent,
		Trace: o.Trace, Curl: o.Curl, Notice: o.Notice, Detail: o.Detail, Now: o.Now, Sleep: o.Sleep,
	}, o.Password, o.IdentityToken, o.RegistryToken)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", ref.Host, err)
	}

	auth, err := auth.New(conn, auth.Options{
		Host: ref.Host, Repo: ref.Repo, TokenHosts: ref.TokenHosts(),
		Username: o.Username, Password: o.Password, IdentityToken: o.IdentityToken, RegistryToken: o.RegistryToken,
		AuthFile: o.AuthFile, StoreFile: o.StoreFile, TrustRealms: o.TrustRealms, Helpers: o.Helpers,
		Getenv: o.Getenv, Home: o.Home, Timeout: o.Timeout, Now: o.Now, Sleep: o.Sleep, ParseHost: hostName,
	})
	if err != nil {
		return nil, err
	}

	// The two need each other: auth asks for tokens over conn, and conn asks auth for headers.
	conn.Authorize(auth)
	c := &Client{o: o, ref: ref, conn: conn, auth: auth, held: make(chan []byte, rangesHeld)}
	for range rangesHeld {
		c.held <- nil
	}
	return c, nil
}

// hostName reads the name of a registry.
func hostName(s string) (string, error) {
	ref, err := ParseHost(s)
	return ref.Host, err
}

// setDefaults fills in what the zero value of Options means, so that no other code asks.
func (o *Options) setDefaults() {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}

	if o.ReadFile == nil {
		o.ReadFile = os.ReadFile
	}

	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}

	o.UserAgent = cmp.Or(o.UserAgent, "ocikit")

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
func (c *Client) URL() string { return c.conn.URL() }

// Ref returns the registry as a [Reference] without a repository, and with the scheme that it
// speaks: enough to make the same Client again.
func (c *Client) Ref() Reference {
	scheme, _, _ := strings.Cut(c.conn.URL(), ":")
	return Reference{Scheme: scheme, Host: c.ref.Host}
}

// ForPush makes later requests to a repository ask for a token that also allows to push, so that one
// token does for all requests of a push.
func (c *Client) ForPush(repo string) { c.conn.Widen(wire.PushScope(repo)) }

// Stats returns how many requests were sent so far, and how many bytes in their bodies.
func (c *Client) Stats() (requests, sent int64) { return c.conn.Stats() }

// Warm makes n more connections along with the next one. It is for a caller that sends so many
// requests at once after the first answer, and spares each of them the round trips of a connection.
// [Client.Close] closes those that were not used.
func (c *Client) Warm(n int) { c.conn.Warm(min(n, slots-1)) }

// Connect begins to make n connections, and does not wait for them. It is for a caller that is about to
// send so many requests at once, but waits for somebody else first. It does so once: later there are
// connections that wait for requests. [Client.Close] closes those that were not used.
func (c *Client) Connect(ctx context.Context, n int) {
	c.connected.Do(func() { c.conn.Connect(ctx, min(n, slots-1)) })
}

// Transport returns the way to the registry below authorization, redirects and repeats: requests are
// sent as they are, see [wire.Conn.RoundTrip].
func (c *Client) Transport() http.RoundTripper { return c.conn }

// Close releases idle connections. The Client may be used afterwards, and then makes new ones.
func (c *Client) Close() { c.conn.Close() }

// Redact returns s without the secrets that the Client knows, for a caller that prints what
// came from the registry.
func (c *Client) Redact(s string) string { return c.conn.Red.Text(s) }

// Call sends one request as call spells it, with the Client's authorization, safety rules and limits,
// and returns the answer of any status. The request is never repeated. An error means that there
// was no answer: the connection broke ([ErrCut] if on purpose), the body was over the limit, or
// credentials could not be had.
func (c *Client) Call(ctx context.Context, call Call) (Answer, error) {
	return c.conn.Call(ctx, call)
}

// Token authorizes for the scopes, each of the form "repository:NAME:pull,push", as a request would,
// and explains how. The scheme is "none" if the registry asks for nothing. A password or a registry
// token, which no token server has judged, is tried with a ping.
func (c *Client) Token(ctx context.Context, scopes ...string) (TokenInfo, error) {
	return c.auth.Token(ctx, scopes...)
}

// notice tells what the user should know.
func (c *Client) notice(format string, args ...any) {
	if c.o.Notice != nil {
		c.o.Notice(fmt.Sprintf(format, args...))
	}
}
