package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"ocikit/oci/registry/wire"
)

// An Authenticator finds the Authorization header for requests to one registry. The first request
// goes without; what its 401 asks for is remembered for those that follow. Credentials are looked
// for only then, since most pulls need none, and a store may take a second or be broken. It is safe
// for concurrent use.
type Authenticator struct {
	c *wire.Conn
	o Options

	mu      sync.Mutex // held while credentials are looked for and a token is fetched, so that parallel requests share them
	cred    *credential
	credErr error      // why the source that knows the registry did not deliver
	basic   bool       // Basic was asked for
	bearer  *Challenge // the token server that was named, nil before
	realm   string     // the host of the first realm, which must not change for a password
	tokens  []*token
	spent   int // tokens that were refused before their time: some are good for a few requests
}

// Options say which registry an [Authenticator] is for, and where credentials come from. Getenv, Now,
// Sleep and ParseHost must not be nil.
type Options struct {
	Host       string   // the registry as users write it
	Repo       string   // that a key of a credential file may name, "" for none
	TokenHosts []string // of token servers that belong to the registry

	Username, Password string
	IdentityToken      string
	RegistryToken      string // is sent as it is, as Bearer
	AuthFile           string // the only credential file to read
	StoreFile          string // that Store writes, "" for the usual one
	TrustRealms        []string

	Getenv    func(string) string
	Home      string
	Timeout   time.Duration
	Now       func() time.Time
	Sleep     func(context.Context, time.Duration) error
	ParseHost func(string) (string, error) // reads the name of a registry
	Helpers   *Helpers                     // asks helpers; nil is one for this Authenticator alone
}

// New returns an Authenticator that asks for tokens over c. A file that Options name is read
// now, since one that cannot be used is a mistake of the caller; others are read when the
// registry asks for credentials.
func New(c *wire.Conn, o Options) (*Authenticator, error) {
	o.Helpers = cmp.Or(o.Helpers, new(Helpers))
	a := &Authenticator{c: c, o: o}
	if o.AuthFile != "" {
		if _, err := readAuthFile(o.AuthFile, false); err != nil {
			return nil, a.unusable(err)
		}
	}
	return a, nil
}

// A token and what it allows.
type token struct {
	text    string
	scopes  []wire.Scope
	expires time.Time
}

// look finds the credentials, once. If the source that knows the registry fails, requests go on as
// nobody: a public image needs no account, and no other account may take the place of the one that
// was meant. The failure is told in a notice when nobody gets a token, and by Explain when nobody is
// refused. The caller holds a.mu.
func (a *Authenticator) look(ctx context.Context) error {
	if a.cred != nil {
		return nil
	}
	cred, err := a.findCredential(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		a.credErr = err
		cred = nobody()
	}
	a.cred = cred
	return nil
}

// Header returns the Authorization header to send r with, "" while the registry has asked for none.
// A token that expires within five seconds is replaced first, or within a minute if r has a body,
// which takes its time and cannot always be sent again.
func (a *Authenticator) Header(ctx context.Context, r *wire.Request) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.cred == nil:
		return "", nil
	case a.cred.registryToken != "":
		return "Bearer " + a.cred.registryToken, nil
	case a.basic:
		return a.basicHeader(), nil
	case a.bearer == nil || len(r.Scopes) == 0:
		return "", nil
	}

	margin := 5 * time.Second
	if r.Body != nil {
		margin = 60 * time.Second
	}

	// Tokens have been used up before their time here. A parallel request could use this one up
	// first, so a body that can be sent only once gets a token of its own.
	own := a.spent > 1 && r.Body != nil && !r.Repeat
	t, err := a.token(ctx, r.Scopes, margin, own)
	if err != nil {
		return "", err
	}

	return "Bearer " + t.text, nil
}

// Explain returns err with the reason why there were no credentials, or as a [GrantError] if the
// token says itself that it allows less than r needs; else err as it is.
func (a *Authenticator) Explain(r *wire.Request, err *wire.StatusError) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.credErr != nil {
		return fmt.Errorf("%w (%w)", err, a.credErr)
	}

	// The header itself is not known any more, but it was one of those that cover the request. The
	// first whose claims fall short explains the refusal.
	given := a.cred != nil && a.cred.registryToken != ""
	sent := []string{}
	if given {
		sent = append(sent, a.cred.registryToken)
	}

	for _, t := range a.tokens {
		if wire.Covers(t.scopes, r.Scopes) {
			sent = append(sent, t.text)
		}
	}

	for _, text := range sent {
		if less := missingActions(grantedScopes(text), r.Scopes); less != "" {
			return &GrantError{Less: less, Given: given, Err: err}
		}
	}

	return err
}

// A GrantError is the refusal of a request that needs more than its token says it allows.
type GrantError struct {
	Less  string // what it allows, and what not
	Given bool   // the token was given by the user, not asked for by this program
	Err   error
}

// Error returns the text of the refusal, and what the token lacks.
func (e *GrantError) Error() string { return fmt.Sprintf("%v (%s)", e.Err, e.Less) }

// Unwrap returns the refusal.
func (e *GrantError) Unwrap() error { return e.Err }

// basicHeader returns the header with user name and password (RFC 7617), "" if there are none.
func (a *Authenticator) basicHeader() string {
	if a.cred.username == "" && a.cred.password == "" {
		return ""
	}
	text := base64.StdEncoding.EncodeToString([]byte(a.cred.username + ":" + a.cred.password))
	return "Basic " + text
}

// Answer returns the header to send r again with after resp, a 401; "" means that there is nothing
// better than sent, the header that was refused. It reads the challenge of resp, or of a ping if
// that has none. With own, a token is fetched for this request alone.
func (a *Authenticator) Answer(ctx context.Context, r *wire.Request, resp *wire.Response, sent string, own bool) (string, error) {
	challenges := ParseChallenges(resp.Header)
	if len(challenges) == 0 && r.Endpoint != "end-1" {
		ping, err := a.c.Follow(ctx, &wire.Request{Method: http.MethodGet, URL: a.c.Endpoint(""), Endpoint: "end-1"}, "")
		if err == nil && !ping.Away {
			challenges = ParseChallenges(ping.Header)
		}
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.look(ctx); err != nil {
		return "", err
	}

	// A token that the user gave is sent whatever the registry asks for, and there is no other.
	if a.cred.registryToken != "" {
		if header := "Bearer " + a.cred.registryToken; header != sent {
			return header, nil
		}
		return "", nil
	}

	// Bearer is tried before Basic, whatever their order in the header. An error of one is
	// forgotten if the other works.
	var schemes []string
	var firstErr error
	for _, want := range []string{"bearer", "basic"} {
		for _, ch := range challenges {
			if ch.Scheme != want {
				schemes = append(schemes, ch.Scheme)
				continue
			}
			header, err := a.try(ctx, r, ch, sent, own)
			if header != "" {
				return header, nil
			}
			firstErr = cmp.Or(firstErr, err)
		}
	}

	if firstErr == nil && len(schemes) > 0 && !slices.Contains(schemes, "basic") && !slices.Contains(schemes, "bearer") {
		firstErr = fmt.Errorf("%w: the registry offers only %s", wire.ErrDenied, wire.Quote(strings.Join(schemes, ", ")))
	}

	return "", firstErr
}

// try answers one challenge.
func (a *Authenticator) try(ctx context.Context, r *wire.Request, ch Challenge, sent string, own bool) (string, error) {
	if ch.Scheme == "basic" {
		header := a.basicHeader()
		if header == "" || header == sent {
			return "", nil
		}
		a.basic, a.bearer = true, nil
		return header, nil
	}

	if ch.Params["realm"] == "" {
		return "", fmt.Errorf("%w: challenge without a realm", wire.ErrProtocol)
	}

	want := r.Scopes
	if r.Endpoint != "end-1" { // registries put a placeholder into the answer to a ping
		want = wire.MergeScopes(want, wire.ParseScopes(ch.Params["scope"])...)
	}

	if a.bearer == nil || a.bearer.Params["realm"] != ch.Params["realm"] || a.bearer.Params["service"] != ch.Params["service"] {
		a.bearer = &ch
	}

	// A token that was just refused is of no use, however long it says it is good. One that a
	// parallel request has fetched meanwhile may be; own is set if that was refused as well.
	if sent != "" {
		a.spent++
	}
	a.tokens = slices.DeleteFunc(a.tokens, func(t *token) bool { return "Bearer "+t.text == sent })

	t, err := a.token(ctx, want, 0, own)
	if err != nil {
		if !errors.Is(err, wire.ErrDenied) {
			a.bearer = nil
		}
		return "", err
	}

	if a.credErr != nil {
		a.c.Notice(fmt.Sprintf("%v; going on without", a.credErr))
	}

	a.basic = false // it was the way while there was no token
	return "Bearer " + t.text, nil
}

// token returns a token that covers want and is good for longer than margin, from the cache or
// fetched. With own it is always fetched, and no other request gets it. The caller holds a.mu.
func (a *Authenticator) token(ctx context.Context, want []wire.Scope, margin time.Duration, own bool) (*token, error) {
	if own {
		return a.fetch(ctx, want)
	}

	now := a.o.Now()
	for _, t := range a.tokens {
		if wire.Covers(t.scopes, want) && t.expires.Sub(now) > margin {
			return t, nil
		}
	}

	// What has expired makes room first. The bound is for a run over a great many repositories.
	a.tokens = slices.DeleteFunc(a.tokens, func(t *token) bool { return !t.expires.After(now) })
	t, err := a.fetch(ctx, want)
	if err != nil {
		return nil, err
	}

	a.c.Red.Hide(t.text)
	if len(a.tokens) > 64 {
		a.tokens = a.tokens[1:]
	}

	a.tokens = append(a.tokens, t)
	return t, nil
}
