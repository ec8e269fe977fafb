package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"ocikit/oci/registry/wire"
)

const (
	maxTokenBody  = 128 << 10
	minTokenLife  = 60 * time.Second // also what an answer without expires_in means
	maxTokenLife  = 24 * time.Hour
	tokenClientID = "ocikit"
)

// fetch asks the token server for a token. The caller holds a.mu.
func (a *Authenticator) fetch(ctx context.Context, want []wire.Scope) (*token, error) {
	realm, err := a.realmURL()
	if err != nil {
		return nil, err
	}

	trusted := a.trusts(realm)
	cred := a.cred
	if !trusted && !cred.none() {
		a.c.Notice(fmt.Sprintf("the token server %s is on another host than %s and is asked without credentials", realm.Host, a.o.Host))
		cred = &credential{}
	}

	// A registry has one token server. A second one, in the middle of the work, could be a way
	// to collect the password.
	if trusted {
		if a.realm != "" && a.realm != realm.Host && !cred.none() {
			return nil, fmt.Errorf("token server of %s: %w: its host changed from %s to %s", a.o.Host, wire.ErrUnsafe, wire.Quote(a.realm), wire.Quote(realm.Host))
		}
		a.realm = realm.Host
	}

	resp, err := a.askToken(ctx, realm, want, cred)
	if err != nil {
		return nil, err
	}

	// A refusal often has another cause than the account: the credentials were held back, or
	// could not be had. The error says so.
	switch {
	case resp.Status == http.StatusUnauthorized || resp.Status == http.StatusForbidden:
		err := fmt.Errorf("token: %w", wire.NewStatusError(resp, a.c.Red))
		switch {
		case !trusted && !a.cred.none():
			err = &UntrustedError{realm.Host, err}
		case a.credErr != nil:
			err = fmt.Errorf("%w (%w)", err, a.credErr)
		}
		return nil, err
	case resp.Status != http.StatusOK:
		return nil, fmt.Errorf("token: %w", wire.NewStatusError(resp, a.c.Red))
	}

	return a.parseToken(resp, want)
}

// An UntrustedError is the refusal of a token server that was asked without the credentials, because
// it is not one that may be sent them. [Options.TrustRealms] changes that.
type UntrustedError struct {
	Host string // of the token server
	Err  error
}

// Error returns the text of the refusal, and why the credentials were held back.
func (e *UntrustedError) Error() string {
	return fmt.Sprintf("%v (it was asked without credentials: %s is not on the registry's host)", e.Err, wire.Quote(e.Host))
}

// Unwrap returns the refusal.
func (e *UntrustedError) Unwrap() error { return e.Err }

// realmURL resolves the realm of the challenge and refuses what is unsafe by its text alone.
// Addresses are checked when they are dialled.
func (a *Authenticator) realmURL() (*url.URL, error) {
	base := a.c.Endpoint("")
	text := a.bearer.Params["realm"]
	u, err := base.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		err = errors.New("it is not a URL")
	case u.User != nil:
		err = errors.New("it holds user information")
	case u.Scheme == "http" && base.Scheme == "https":
		err = errors.New("it is not https")
	default:
		return u, nil
	}
	return nil, fmt.Errorf("token server of %s: %w: realm %s: %w", a.o.Host, wire.ErrUnsafe, wire.Quote(redactRealm(text)), err)
}

// redactRealm returns a realm for a message, without user information and query.
func redactRealm(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = "…" + s[i:]
	}
	s, _, _ = strings.Cut(s, "?")
	return s
}

// trusts reports whether the token server may be sent the registry's credentials: it is on
// the same host, known to belong to it, or named by the user.
func (a *Authenticator) trusts(realm *url.URL) bool {
	host := strings.ToLower(realm.Hostname())
	if host == strings.ToLower(a.c.Hostname) || slices.Contains(a.o.TokenHosts, host) {
		return true
	}
	return slices.ContainsFunc(a.o.TrustRealms, func(t string) bool {
		t = strings.ToLower(t)
		return t == host || t == strings.ToLower(realm.Host)
	})
}

// askToken sends the token request: OAuth2 with an identity token, else the GET of the
// Docker token specification.
func (a *Authenticator) askToken(ctx context.Context, realm *url.URL, want []wire.Scope, cred *credential) (*wire.Response, error) {
	// Some token servers have no OAuth2 endpoint. The GET below is then asked without the
	// identity token, which it has no place for.
	if cred.identityToken != "" {
		resp, err := a.send(ctx, a.oauthRequest(realm, want, cred))
		if err != nil || resp.Status != http.StatusNotFound && resp.Status != http.StatusMethodNotAllowed && resp.Status != http.StatusNotImplemented {
			return resp, err
		}
	}

	u := *realm
	q := u.Query()
	if service := a.bearer.Params["service"]; service != "" {
		q.Set("service", service)
	}

	for _, s := range want {
		q.Add("scope", s.String())
	}

	r := &wire.Request{Method: http.MethodGet, URL: &u, Endpoint: "token", Limit: maxTokenBody, Header: http.Header{}}
	if cred.username != "" || cred.password != "" {
		q.Set("account", cred.username)
		r.Header.Set("Authorization", a.basicHeader())
	}

	q.Set("client_id", tokenClientID)
	u.RawQuery = q.Encode()
	return a.send(ctx, r)
}

// oauthRequest returns the request that trades an identity token for an access token (RFC 6749,
// section 6).
func (a *Authenticator) oauthRequest(realm *url.URL, want []wire.Scope, cred *credential) *wire.Request {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {cred.identityToken}, "client_id": {tokenClientID},
	}

	if service := a.bearer.Params["service"]; service != "" {
		form.Set("service", service)
	}

	form.Set("scope", strings.Join(scopeWords(want), " "))
	text := form.Encode()
	return &wire.Request{
		Method: http.MethodPost, URL: realm, Endpoint: "token", Limit: maxTokenBody, Repeat: true,
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		Body:   wire.NewBody(strings.NewReader(text), int64(len(text))),
	}
}

// send sends a token request, and repeats it as Conn.Do would, but with the realm's own rule for
// redirects: a request with credentials is redirected only within the origin that may have them.
func (a *Authenticator) send(ctx context.Context, r *wire.Request) (*wire.Response, error) {
	secret := r.Body != nil || r.Header.Get("Authorization") != ""
	for n, hop := 0, 0; ; {
		resp, err := a.c.Attempt(ctx, r, r.URL, "")
		if err == nil {
			// "Not implemented" is an answer like others below 500: it will not be another one later.
			mayPass := resp.Status == http.StatusTooManyRequests || resp.Status >= 500 && resp.Status != http.StatusNotImplemented

			var next *url.URL
			if next, err = a.c.Redirect(r, resp, hop); err == nil && next == nil && !mayPass {
				return resp, nil
			}
			if err != nil {
				return nil, fmt.Errorf("token: %w", err)
			}
			if next != nil {
				if secret && wire.Origin(next) != wire.Origin(r.URL) {
					return nil, fmt.Errorf("token: %w: redirect with credentials from %s to %s", wire.ErrUnsafe, a.c.Red.URL(r.URL), a.c.Red.URL(next))
				}
				r.URL, hop = next, hop+1
				continue
			}
			err = wire.NewStatusError(resp, a.c.Red)
		}

		wait, again := a.c.Retry(r, err, n)
		if !again {
			return nil, fmt.Errorf("token: %w", err)
		}

		if err := a.o.Sleep(ctx, wait); err != nil {
			return nil, err
		}

		n++
	}
}

// parseToken reads the answer. Its times are bounded: some servers count nanoseconds.
func (a *Authenticator) parseToken(resp *wire.Response, want []wire.Scope) (*token, error) {
	var doc struct {
		Token        string      `json:"token"`
		AccessToken  string      `json:"access_token"`
		RefreshToken string      `json:"refresh_token"`
		ExpiresIn    looseNumber `json:"expires_in"`
	}
	where := a.c.Red.URL(resp.URL)
	if err := json.Unmarshal(resp.Body, &doc); err != nil {
		return nil, fmt.Errorf("token: %s: %w: the answer is not the JSON of a token server", where, wire.ErrProtocol)
	}

	text := cmp.Or(doc.AccessToken, doc.Token)

	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return nil, fmt.Errorf("token: %s: %w: the answer holds no usable token", where, wire.ErrProtocol)
	}

	a.c.Red.Hide(text, doc.RefreshToken, doc.Token)

	// A server may hand out a new identity token and drop the old one. It counts for this
	// Authenticator alone: the file of the user stays as it is.
	if doc.RefreshToken != "" && a.cred.identityToken != "" && a.trusts(resp.URL) {
		next := *a.cred
		next.identityToken = doc.RefreshToken
		a.cred = &next
	}

	// Without expires_in a token is good for 60 seconds (Docker token specification), and never
	// for less.
	life := minTokenLife
	if s := float64(doc.ExpiresIn); s > minTokenLife.Seconds() {
		life = maxTokenLife
		if s < maxTokenLife.Seconds() {
			life = time.Duration(s * float64(time.Second))
		}
	}

	return &token{text: text, scopes: want, expires: resp.Received.Add(life)}, nil
}

// A looseNumber is a number that may be written as a text. What is neither counts as 0.
type looseNumber float64

func (n *looseNumber) UnmarshalJSON(data []byte) error {
	var f float64
	if json.Unmarshal([]byte(strings.Trim(string(data), `"`)), &f) == nil {
		*n = looseNumber(f)
	}
	return nil
}

// A TokenInfo explains an authorization. Token is the secret itself and is left out of JSON; the other
// fields hold no secret.
type TokenInfo struct {
	Scheme     string         `json:"scheme"` // that the registry asks for: "bearer", "basic", another word, or "none"
	Realm      string         `json:"realm,omitempty"`
	Service    string         `json:"service,omitempty"`
	Scopes     []string       `json:"scopes,omitempty"`  // that were asked for
	Granted    []string       `json:"granted,omitempty"` // that the token says it allows, if it can be read
	Less       string         `json:"less,omitempty"`    // what of the scopes it does not allow, in words
	Expires    time.Time      `json:"expires,omitzero"`
	Trusted    bool           `json:"trusted"` // the realm was sent the credentials
	Credential CredentialInfo `json:"credential"`
	Token      string         `json:"-"`
}

// Token authorizes for the scopes, each of the form "repository:NAME:pull,push", as a request would,
// and explains how. The scheme is what the registry asks for, "none" if nothing. A password or a
// registry token, which no token server has judged, is tried with a ping. With an error, the
// TokenInfo holds what was found out before.
func (a *Authenticator) Token(ctx context.Context, scopes ...string) (TokenInfo, error) {
	var info TokenInfo
	want := wire.MergeScopes(nil, wire.ParseScopes(strings.Join(scopes, " "))...)

	a.mu.Lock()
	err := a.look(ctx)
	if err == nil {
		info.Credential = a.cred.info
	}
	a.mu.Unlock()

	if err != nil {
		return info, err
	}

	r := &wire.Request{Method: http.MethodGet, URL: a.c.Endpoint(""), Endpoint: "end-1"}
	resp, err := a.c.Follow(ctx, r, "")
	if err != nil {
		return info, err
	}

	// A registry that is overloaded has not said what it asks for.
	info.Scheme = "none"
	if refusal := wire.NewStatusError(resp, a.c.Red); refusal.Retryable() {
		return info, refusal
	}

	if resp.Status != http.StatusUnauthorized {
		return info, nil
	}

	// The answer is that of a ping with the scopes of the caller. A password or a registry
	// token goes to the registry itself, so only a second ping tells whether it is any good.
	info.asked(ParseChallenges(resp.Header))
	header, err := a.Answer(ctx, &wire.Request{Scopes: want, Endpoint: "end-1"}, resp, "", false)
	if info.Credential.Kind == "registry token" || strings.HasPrefix(header, "Basic ") {
		if resp, err = a.c.Follow(ctx, r, header); err == nil && (resp.Status == http.StatusUnauthorized || resp.Status == http.StatusForbidden) {
			err = wire.NewStatusError(resp, a.c.Red)
		}
	}

	a.explain(&info, want, header)
	if err == nil && header == "" {
		err = cmp.Or(a.credErr, fmt.Errorf("%s: %w: no credentials, and the registry wants some", a.o.Host, wire.ErrDenied))
	}

	return info, err
}

// asked notes what a 401 asks for: a token where that is offered, else a password.
func (info *TokenInfo) asked(challenges []Challenge) {
	for _, scheme := range []string{"bearer", "basic"} {
		for _, ch := range challenges {
			if ch.Scheme == scheme {
				info.Scheme, info.Service = ch.Scheme, ch.Params["service"]
				return
			}
		}
	}
	if len(challenges) > 0 {
		info.Scheme = challenges[0].Scheme
	}
}

// explain fills in how the header came about.
func (a *Authenticator) explain(info *TokenInfo, want []wire.Scope, header string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.cred.registryToken != "":
		info.Scheme, info.Trusted = "bearer", true
	case a.bearer != nil:
		info.Scheme, info.Service = "bearer", a.bearer.Params["service"]
		if realm, err := a.realmURL(); err == nil {
			info.Realm, info.Trusted = a.c.Red.URL(realm), a.trusts(realm)
		}
		info.Scopes = scopeWords(want)
	case a.basic:
		info.Scheme, info.Trusted = "basic", true
	}

	// The header may hold a token of the user's own, of which nothing is known here but what it
	// says itself.
	_, info.Token, _ = strings.Cut(header, " ")
	for _, t := range a.tokens {
		if t.text == info.Token {
			info.Expires = t.expires.UTC()
		}
	}

	info.Granted = grantedScopes(info.Token)
	info.Less = missingActions(info.Granted, want)
}

func scopeWords(scopes []wire.Scope) []string {
	var words []string
	for _, s := range scopes {
		words = append(words, s.String())
	}
	return words
}

// missingActions says what of want a token does not allow, by what it says itself, "" for
// nothing or a token that does not say.
func missingActions(granted []string, want []wire.Scope) string {
	if granted == nil {
		return ""
	}

	has := wire.ParseScopes(strings.Join(granted, " "))
	var less []string
	for _, w := range want {
		for _, action := range w.Actions {
			if !wire.Covers(has, []wire.Scope{{Resource: w.Resource, Actions: []string{action}}}) {
				less = append(less, action+" on "+w.Resource)
			}
		}
	}

	if len(less) == 0 {
		return ""
	}

	if len(granted) == 0 {
		granted = []string{"nothing"}
	}

	return fmt.Sprintf("the token server granted %s, not %s", wire.Truncate(strings.Join(granted, " "), 200), wire.Truncate(strings.Join(less, ", "), 200))
}

// grantedScopes reads the claim "access" of a token that is a JWT. Nothing is verified: it
// is shown, not believed.
func grantedScopes(text string) []string {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil
	}

	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil
	}

	var claims struct {
		Access []struct {
			Type    string   `json:"type"`
			Name    string   `json:"name"`
			Actions []string `json:"actions"`
		} `json:"access"`
	}
	if json.Unmarshal(data, &claims) != nil {
		return nil
	}

	// Not nil: a token without access grants nothing, where one that cannot be read says
	// nothing.
	list := []string{}
	for _, a := range claims.Access {
		list = append(list, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
	}

	return list
}
