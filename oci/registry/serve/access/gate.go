package access

import (
	"net/http"
	"sync/atomic"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

// A Gate lets requests in, by name and password or by a token. It is safe for concurrent use.
type Gate struct {
	auth     atomic.Pointer[Auth]
	tokens   *tokenServer // nil: none
	readOnly bool
}

// NewGate returns a Gate that lets in whom auth knows; nil is everybody. No token of a registry
// that is read-only allows to write.
func NewGate(auth *Auth, readOnly bool) *Gate {
	g := &Gate{readOnly: readOnly}
	g.auth.Store(auth)
	return g
}

// SetAuth says who may come in from the next request on.
func (g *Gate) SetAuth(a *Auth) { g.auth.Store(a) }

// AskForTokens makes the gate ask for a token, which [Gate.GiveToken] gives.
func (g *Gate) AskForTokens(now func() time.Time) { g.tokens = newTokenServer(now) }

// AsksForTokens reports whether it does.
func (g *Gate) AsksForTokens() bool { return g.tokens != nil }

// Challenge says what a request is asked for whose token is taken for a bad one; it is "" if no
// tokens are asked for.
func (g *Gate) Challenge(r *http.Request, rt exchange.Route) string {
	if g.tokens == nil {
		return ""
	}
	return bearerChallenge(r, needs(r, rt), "invalid_token")
}

// Admit lets a request in, or answers with a challenge: for a token of the token server if
// there is one, else for name and password. Browsers know nothing of tokens, so the web page
// wants a password either way, and so does the token server itself.
func (g *Gate) Admit(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	switch {
	case rt.Kind == exchange.Token:
		return nil // it asks for itself
	case g.tokens != nil && rt.Kind != exchange.Page:
		return g.admitToken(w, r, rt)
	}
	return g.admitBasic(w, r)
}

// admitBasic asks for name and password. A token of the token file is asked for in the
// same way: there is no place where a client could get one.
func (g *Gate) admitBasic(w *exchange.Recorder, r *http.Request) error {
	a := g.auth.Load()
	if a == nil {
		return nil
	}
	if user, pass, ok := r.BasicAuth(); ok {
		if a.isToken(pass) || a.isUser(r, user, pass) {
			w.Access.User = user
			return nil
		}
	} else if token, ok := exchange.Bearer(r); ok && a.isToken(token) {
		return nil
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="ocikit", charset="UTF-8"`)
	return exchange.Fail(http.StatusUnauthorized, exchange.CodeUnauthorized, "name and password, or a token, are required")
}
