package servetest

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"ocikit/oci/registry/serve/exchange"
)

// Auth makes a registry ask for credentials: Basic, or a token of its own server at /token. Its
// exported fields are set before the first request.
type Auth struct {
	User, Password string
	Bearer         bool
	Realm          string                                                     // of the challenge; "" is "/token", on the registry
	Challenge      string                                                     // the whole header, in place of the usual one
	Uses           int                                                        // a token is good for so many requests; 0 is all
	Answer         func(w http.ResponseWriter, r *http.Request, token string) // of the token server, nil is the usual one
	Deny           string                                                     // a token for a scope that contains this is refused with 403

	mu     sync.Mutex
	tokens map[string]int // uses left, -1 without end
	issued int
}

// Issued returns how many tokens were handed out.
func (a *Auth) Issued() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issued
}

// Revoke makes all tokens invalid.
func (a *Auth) Revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = nil
}

func (a *Auth) allow(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path == "/token" {
		a.Token(w, r)
		return false
	}

	user, password, basic := r.BasicAuth()
	switch {
	case !a.Bearer && basic && user == a.User && password == a.Password:
		return true
	case a.Bearer && a.use(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")):
		return true
	}

	// The scope of the challenge is made from path and method, as registries do.
	challenge := a.Challenge
	if challenge == "" {
		challenge = `Basic realm="test"`
		if a.Bearer {
			realm := cmp.Or(a.Realm, "/token")
			challenge = fmt.Sprintf(`Bearer realm="%s",service="test registry"`, realm)
			if _, rest, ok := strings.Cut(r.URL.Path, "/v2/"); ok && rest != "" {
				for _, sep := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
					rest, _, _ = strings.Cut(rest, sep)
				}
				actions := "pull"
				if r.Method != http.MethodGet && r.Method != http.MethodHead {
					actions = "push,pull"
				}
				challenge += fmt.Sprintf(`,scope="repository:%s:%s"`, rest, actions)
			}
		}
	}

	w.Header().Set("Www-Authenticate", challenge)
	fail(w, 401, "UNAUTHORIZED", "authentication required")
	return false
}

func (a *Auth) use(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	left, ok := a.tokens[token]
	if !ok || left == 0 {
		return false
	}
	if left > 0 {
		a.tokens[token]--
	}
	return true
}

// Token is the token server, an http.HandlerFunc, for tests that have it on another host.
func (a *Auth) Token(w http.ResponseWriter, r *http.Request) {
	user, password, basic := r.BasicAuth()

	// The form has a refresh token in the place of the password (OAuth2).
	if r.Method == http.MethodPost {
		basic, user, password = true, a.User, r.PostFormValue("refresh_token")
	}

	if a.User != "" && (!basic || user != a.User || password != a.Password) {
		fail(w, 401, "UNAUTHORIZED", "wrong user name or password")
		return
	}

	if a.Deny != "" && strings.Contains(strings.Join(r.URL.Query()["scope"], " "), a.Deny) {
		fail(w, 403, "DENIED", "scope")
		return
	}

	a.mu.Lock()
	a.issued++
	token := fmt.Sprintf("planted-token-%d-%s", a.issued, exchange.NewID())
	if a.tokens == nil {
		a.tokens = map[string]int{}
	}

	a.tokens[token] = a.Uses
	if a.Uses == 0 {
		a.tokens[token] = -1
	}

	a.mu.Unlock()
	if a.Answer != nil {
		a.Answer(w, r, token)
		return
	}

	fmt.Fprintf(w, `{"token":%q,"expires_in":300}`, token)
}
