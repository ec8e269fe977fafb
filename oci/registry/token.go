package registry

import (
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
)

const (
	maxTokenBody  = 128 << 10
	minTokenLife  = 60 * time.Second // also what an answer without expires_in means
	maxTokenLife  = 24 * time.Hour
	tokenClientID = "ocikit"
)

// fetch asks the token server for a token. The caller holds a.mu.
func (a *authenticator) fetch(ctx context.Context, want []scope) (*token, error) {
	realm, err := a.realmURL()
	if err != nil {
		return nil, err
	}
	trusted := a.c.trusts(realm)
	cred := a.cred
	if !trusted && !cred.none() {
		a.c.notice(fmt.Sprintf("the token server %s is on another host than %s and is asked without credentials; --trust-realm %[1]s sends them", realm.Host, a.c.ref.Host))
		cred = &credential{}
	}
	if trusted {
		if a.realm != "" && a.realm != realm.Host && !cred.none() {
			return nil, fmt.Errorf("token server of %s: %w: its host changed from %s to %s", a.c.ref.Host, ErrUnsafe, quote(a.realm), quote(realm.Host))
		}
		a.realm = realm.Host
	}
	resp, err := a.askToken(ctx, realm, want, cred)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.status == http.StatusUnauthorized || resp.status == http.StatusForbidden:
		err := fmt.Errorf("token: %w", newStatusError(resp, a.c.red))
		if !trusted && !a.cred.none() {
			err = fmt.Errorf("%w (it was asked without credentials: %s is not on the registry's host; --trust-realm sends them)", err, quote(realm.Host))
		}
		return nil, err
	case resp.status != http.StatusOK:
		return nil, fmt.Errorf("token: %w", newStatusError(resp, a.c.red))
	}
	return a.parseToken(resp, want)
}

// realmURL resolves the realm of the challenge and refuses what is unsafe by its text alone.
// Addresses are checked when they are dialled.
func (a *authenticator) realmURL() (*url.URL, error) {
	base := a.c.url("")
	text := a.bearer.Params["realm"]
	u, err := base.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		err = errors.New("it is no URL")
	case u.User != nil:
		err = errors.New("it holds user information")
	case u.Scheme == "http" && base.Scheme == "https":
		err = errors.New("it is not https")
	default:
		return u, nil
	}
	return nil, fmt.Errorf("token server of %s: %w: realm %s: %w", a.c.ref.Host, ErrUnsafe, quote(redactRealm(text)), err)
}

func redactRealm(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = "…" + s[i:]
	}
	s, _, _ = strings.Cut(s, "?")
	return s
}

// trusts reports whether the token server may be sent the registry's credentials: it is on
// the same host, known to belong to it, or named by the user.
func (c *Client) trusts(realm *url.URL) bool {
	host := strings.ToLower(realm.Hostname())
	if host == strings.ToLower(c.hostname) || slices.Contains(c.ref.TokenHosts(), host) {
		return true
	}
	return slices.ContainsFunc(c.o.TrustRealms, func(t string) bool {
		t = strings.ToLower(t)
		return t == host || t == strings.ToLower(realm.Host)
	})
}

// askToken sends the token request: OAuth2 with an identity token, else the GET of the
// Docker token specification.
func (a *authenticator) askToken(ctx context.Context, realm *url.URL, want []scope, cred *credential) (*response, error) {
	if cred.identityToken != "" {
		resp, err := a.send(ctx, a.oauthRequest(realm, want, cred))
		if err != nil || resp.status != http.StatusNotFound && resp.status != http.StatusMethodNotAllowed && resp.status != http.StatusNotImplemented {
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
	r := &request{method: http.MethodGet, url: &u, endpoint: "token", limit: maxTokenBody, header: http.Header{}}
	if cred.username != "" || cred.password != "" {
		q.Set("account", cred.username)
		r.header.Set("Authorization", a.basicHeader())
	}
	q.Set("client_id", tokenClientID)
	u.RawQuery = q.Encode()
	return a.send(ctx, r)
}

func (a *authenticator) oauthRequest(realm *url.URL, want []scope, cred *credential) *request {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {cred.identityToken}, "client_id": {tokenClientID},
	}
	if service := a.bearer.Params["service"]; service != "" {
		form.Set("service", service)
	}
	var words []string
	for _, s := range want {
		words = append(words, s.String())
	}
	form.Set("scope", strings.Join(words, " "))
	text := form.Encode()
	return &request{
		method: http.MethodPost, url: realm, endpoint: "token", limit: maxTokenBody, repeat: true,
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		body:   newSource(strings.NewReader(text), int64(len(text))),
	}
}

// send sends a token request, with repeats. A redirect is followed only for a request that
// carries no credentials, or within the realm's origin.
func (a *authenticator) send(ctx context.Context, r *request) (*response, error) {
	secret := r.body != nil || r.header.Get("Authorization") != ""
	for n, hop := 0, 0; ; {
		resp, err := a.c.attempt(ctx, r, r.url, "")
		if err == nil {
			var next *url.URL
			if next, err = a.c.redirect(r, resp, hop); err == nil && next == nil && resp.status < 500 && resp.status != http.StatusTooManyRequests {
				return resp, nil
			}
			if err != nil {
				return nil, fmt.Errorf("token: %w", err)
			}
			if next != nil {
				if secret && origin(next) != origin(r.url) {
					return nil, fmt.Errorf("token: %w: redirect with credentials from %s to %s", ErrUnsafe, a.c.red.url(r.url), a.c.red.url(next))
				}
				r.url, hop = next, hop+1
				continue
			}
			err = newStatusError(resp, a.c.red)
		}
		wait, again := a.c.retry(r, err, n)
		if !again {
			return nil, fmt.Errorf("token: %w", err)
		}
		if err := a.c.o.Sleep(ctx, wait); err != nil {
			return nil, err
		}
		n++
	}
}

// parseToken reads the answer. Its times are bounded: some servers count nanoseconds.
func (a *authenticator) parseToken(resp *response, want []scope) (*token, error) {
	var doc struct {
		Token        string      `json:"token"`
		AccessToken  string      `json:"access_token"`
		RefreshToken string      `json:"refresh_token"`
		ExpiresIn    looseNumber `json:"expires_in"`
	}
	where := a.c.red.url(resp.url)
	if err := json.Unmarshal(resp.body, &doc); err != nil {
		return nil, fmt.Errorf("token: %s: %w: the answer is not the JSON of a token server", where, ErrProtocol)
	}
	text := doc.AccessToken
	if text == "" {
		text = doc.Token
	}
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return nil, fmt.Errorf("token: %s: %w: the answer holds no usable token", where, ErrProtocol)
	}
	a.c.red.add(text, doc.RefreshToken, doc.Token)
	if doc.RefreshToken != "" && a.cred.identityToken != "" && a.c.trusts(resp.url) {
		next := *a.cred
		next.identityToken = doc.RefreshToken
		a.cred = &next
	}
	life := minTokenLife
	if s := float64(doc.ExpiresIn); s > minTokenLife.Seconds() {
		life = maxTokenLife
		if s < maxTokenLife.Seconds() {
			life = time.Duration(s * float64(time.Second))
		}
	}
	return &token{text: text, scopes: want, expires: resp.received.Add(life)}, nil
}

// A looseNumber is a number that may be written as a text.
type looseNumber float64

func (n *looseNumber) UnmarshalJSON(data []byte) error {
	var f float64
	if json.Unmarshal([]byte(strings.Trim(string(data), `"`)), &f) == nil {
		*n = looseNumber(f)
	}
	return nil
}

// A TokenInfo explains an authorization. Token is the secret itself, for the caller who
// asked for it.
type TokenInfo struct {
	Scheme     string         `json:"scheme"` // "bearer", "basic" or "none"
	Realm      string         `json:"realm,omitempty"`
	Service    string         `json:"service,omitempty"`
	Scopes     []string       `json:"scopes,omitempty"`  // that were asked for
	Granted    []string       `json:"granted,omitempty"` // that the token says it allows, if it can be read
	Expires    time.Time      `json:"expires,omitzero"`
	Trusted    bool           `json:"trusted"` // the realm was sent the credentials
	Credential CredentialInfo `json:"credential"`
	Token      string         `json:"-"`
}

// Token authorizes for the scopes, each "repository:NAME:pull,push" or alike, as a request
// would, and explains how. A registry that asks for nothing gives the scheme "none". What no
// token server has judged, a password or a registry token, is tried with a ping.
func (c *Client) Token(ctx context.Context, scopes ...string) (TokenInfo, error) {
	var info TokenInfo
	if err := c.auth.prepare(ctx); err != nil {
		return info, err
	}
	want := mergeScopes(nil, parseScopes(strings.Join(scopes, " "))...)
	a := c.auth
	a.mu.Lock()
	info.Credential = a.cred.info
	registryToken := a.cred.registryToken
	a.mu.Unlock()
	r := &request{method: http.MethodGet, url: c.url(""), endpoint: "end-1"}
	resp, err := c.follow(ctx, r, "")
	if err != nil {
		return info, err
	}
	info.Scheme = "none"
	if resp.status >= 500 || resp.status == http.StatusTooManyRequests {
		return info, newStatusError(resp, c.red)
	}
	if resp.status != http.StatusUnauthorized {
		return info, nil
	}
	header, err := a.answer(ctx, &request{scopes: want, endpoint: "end-1"}, resp, "", false)
	if registryToken != "" {
		header = "Bearer " + registryToken
	}
	if registryToken != "" || strings.HasPrefix(header, "Basic ") {
		if resp, err = c.follow(ctx, r, header); err == nil && (resp.status == http.StatusUnauthorized || resp.status == http.StatusForbidden) {
			err = newStatusError(resp, c.red)
		}
	}
	a.explain(&info, want, header)
	if err == nil && header == "" {
		err = fmt.Errorf("%s: %w: no credentials, and the registry wants some", c.ref.Host, ErrDenied)
	}
	return info, err
}

// explain fills in how the header came about.
func (a *authenticator) explain(info *TokenInfo, want []scope, header string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.cred.registryToken != "":
		info.Scheme, info.Trusted = "bearer", true
	case a.bearer != nil:
		info.Scheme, info.Service = "bearer", a.bearer.Params["service"]
		if realm, err := a.realmURL(); err == nil {
			info.Realm, info.Trusted = a.c.red.url(realm), a.c.trusts(realm)
		}
		for _, s := range want {
			info.Scopes = append(info.Scopes, s.String())
		}
	case a.basic:
		info.Scheme, info.Trusted = "basic", true
	}
	_, info.Token, _ = strings.Cut(header, " ")
	for _, t := range a.tokens {
		if t.text == info.Token {
			info.Expires = t.expires.UTC()
		}
	}
	info.Granted = grantedScopes(info.Token)
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
	var list []string
	for _, a := range claims.Access {
		list = append(list, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
	}
	return list
}
