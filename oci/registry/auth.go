package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// An authenticator finds the Authorization header for requests to the registry. The first
// request goes without; what its 401 asks for is remembered for those that follow.
type authenticator struct {
	c *Client

	ready    sync.Mutex
	prepared bool
	credErr  error

	mu     sync.Mutex // held while a token is fetched, so that parallel requests share it
	cred   *credential
	basic  bool       // Basic was asked for
	bearer *Challenge // the token server that was named, nil before
	realm  string     // the host of the first realm, which must not change for a password
	tokens []*token
	spent  int // tokens that were refused before their time: some are good for a few requests
}

func newAuthenticator(c *Client) *authenticator { return &authenticator{c: c} }

// A token and what it allows.
type token struct {
	text    string
	scopes  []scope
	expires time.Time
}

// prepare finds the credentials, once. A malformed credential file is reported before
// anything is sent, also to a registry that would not ask.
func (a *authenticator) prepare(ctx context.Context) error {
	a.ready.Lock()
	defer a.ready.Unlock()
	if a.prepared {
		return a.credErr
	}
	cred, err := a.c.findCredential(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.prepared, a.cred, a.credErr = true, cred, err
	return err
}

// header returns the Authorization header for r, "" while the registry has not asked. A
// token that is about to expire is replaced first if r has a body.
func (a *authenticator) header(ctx context.Context, r *request) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.cred.registryToken != "":
		return "Bearer " + a.cred.registryToken, nil
	case a.basic:
		return a.basicHeader(), nil
	case a.bearer == nil || len(r.scopes) == 0:
		return "", nil
	}
	margin := 5 * time.Second
	if r.body != nil {
		margin = 60 * time.Second
	}
	// A token that a parallel request may use up first is not worth a body.
	own := a.spent > 1 && r.body != nil && !r.repeat
	t, err := a.token(ctx, r.scopes, margin, own)
	if err != nil {
		return "", err
	}
	return "Bearer " + t.text, nil
}

func (a *authenticator) basicHeader() string {
	if a.cred.username == "" && a.cred.password == "" {
		return ""
	}
	text := base64.StdEncoding.EncodeToString([]byte(a.cred.username + ":" + a.cred.password))
	return "Basic " + text
}

// answer returns the header that satisfies a 401, "" if there is nothing better than what was
// sent. It reads the challenge of the answer, or of a ping where that has none. With own a token
// is one that no other request uses.
func (a *authenticator) answer(ctx context.Context, r *request, resp *response, sent string, own bool) (string, error) {
	challenges := parseChallenges(resp.header)
	if len(challenges) == 0 && r.endpoint != "end-1" {
		ping, err := a.c.follow(ctx, &request{method: http.MethodGet, url: a.c.url(""), endpoint: "end-1"}, "")
		if err == nil && !ping.away {
			challenges = parseChallenges(ping.header)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cred.registryToken != "" {
		return "", nil
	}
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
			if firstErr == nil {
				firstErr = err
			}
		}
	}
	if firstErr == nil && len(schemes) > 0 && !slices.Contains(schemes, "basic") && !slices.Contains(schemes, "bearer") {
		firstErr = fmt.Errorf("%w: the registry offers only %s", ErrDenied, quote(strings.Join(schemes, ", ")))
	}
	return "", firstErr
}

// try answers one challenge.
func (a *authenticator) try(ctx context.Context, r *request, ch Challenge, sent string, own bool) (string, error) {
	if ch.Scheme == "basic" {
		header := a.basicHeader()
		if header == sent {
			return "", nil
		}
		a.basic, a.bearer = true, nil
		return header, nil
	}
	if ch.Params["realm"] == "" {
		return "", fmt.Errorf("%w: challenge without a realm", ErrProtocol)
	}
	want := r.scopes
	if r.endpoint != "end-1" { // registries put a placeholder into the answer to a ping
		want = mergeScopes(want, parseScopes(ch.Params["scope"])...)
	}
	if a.bearer == nil || a.bearer.Params["realm"] != ch.Params["realm"] || a.bearer.Params["service"] != ch.Params["service"] {
		a.bearer = &ch
	}
	// A token that was just refused is of no use, whatever it says; one that a parallel
	// request fetched meanwhile is, unless those have used up that one, too.
	if sent != "" {
		a.spent++
	}
	a.tokens = slices.DeleteFunc(a.tokens, func(t *token) bool { return "Bearer "+t.text == sent })
	t, err := a.token(ctx, want, 0, own)
	if err != nil {
		if !errors.Is(err, ErrDenied) {
			a.bearer = nil
		}
		return "", err
	}
	return "Bearer " + t.text, nil
}

// token returns a token that covers want for at least margin, from the cache or fetched. With
// own it is fetched, and nobody else gets it.
func (a *authenticator) token(ctx context.Context, want []scope, margin time.Duration, own bool) (*token, error) {
	if own {
		return a.fetch(ctx, want)
	}
	now := a.c.o.Now()
	for _, t := range a.tokens {
		if covers(t.scopes, want) && t.expires.Sub(now) > margin {
			return t, nil
		}
	}
	a.tokens = slices.DeleteFunc(a.tokens, func(t *token) bool { return !t.expires.After(now) })
	t, err := a.fetch(ctx, want)
	if err != nil {
		return nil, err
	}
	a.c.red.add(t.text)
	if len(a.tokens) > 64 {
		a.tokens = a.tokens[1:]
	}
	a.tokens = append(a.tokens, t)
	return t, nil
}
