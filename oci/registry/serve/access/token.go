package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

// TokenPath is where the token server answers, if there is one.
const TokenPath = "/token"

// tokenService is the name that tokens are meant for.
const tokenService = "ocikit"

// Limits of the token server. A token goes into one header, so it cannot grow at will.
const (
	tokenLife = 5 * time.Minute
	maxScopes = 50
)

// A tokenServer gives out tokens and knows them again. It keeps no list of them: a token is a
// JSON Web Token (RFC 7519) signed with a key that the process has made up, and ends with it.
type tokenServer struct {
	key []byte
	now func() time.Time
}

func newTokenServer(now func() time.Time) *tokenServer {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return &tokenServer{key, now}
}

// claims are what a token says.
type claims struct {
	Issuer   string  `json:"iss"`
	Subject  string  `json:"sub"` // the user
	Audience string  `json:"aud"`
	Issued   int64   `json:"iat"`
	Expires  int64   `json:"exp"`
	ID       string  `json:"jti"`
	Access   []grant `json:"access"`
}

// A grant is what a token allows on one resource; as text "repository:NAME:pull,push".
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (g grant) String() string { return g.Type + ":" + g.Name + ":" + strings.Join(g.Actions, ",") }

// tokenHeader says how a token is signed. It is part of what is signed, and no other is taken.
const tokenHeader = `{"alg":"HS256","typ":"JWT"}`

// sign returns the token of a user.
func (ts *tokenServer) sign(user string, access []grant) (string, claims) {
	now := ts.now()
	c := claims{tokenService, user, tokenService, now.Unix(), now.Add(tokenLife).Unix(), exchange.NewID(), access}
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // it is numbers and text
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(tokenHeader)) + "." + enc.EncodeToString(body)
	return text + "." + enc.EncodeToString(ts.mac(text)), c
}

func (ts *tokenServer) mac(text string) []byte {
	m := hmac.New(sha256.New, ts.key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// read returns what a token says, and whether it was signed here and is still good.
func (ts *tokenServer) read(token string) (c claims, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return c, false
	}

	enc := base64.RawURLEncoding
	mac, err := enc.DecodeString(token[i+1:])
	if err != nil || !hmac.Equal(mac, ts.mac(token[:i])) {
		return c, false
	}

	// The header needs no look: the signature covers it, and only one is ever signed here.
	_, part, _ := strings.Cut(token[:i], ".")
	body, err := enc.DecodeString(part)
	if err != nil || json.Unmarshal(body, &c) != nil {
		return c, false
	}

	return c, ts.now().Unix() < c.Expires
}

// allows reports whether a token with the grants is good for all of what is needed. A token may have
// several grants for one repository: containerd asks for "pull" and for "pull,push".
func allows(have, need []grant) bool {
	for _, n := range need {
		for _, action := range n.Actions {
			if !slices.ContainsFunc(have, func(g grant) bool {
				return g.Type == n.Type && g.Name == n.Name && slices.Contains(g.Actions, action)
			}) {
				return false
			}
		}
	}
	return true
}

// needs returns what a token must allow for a request.
func needs(r *http.Request, rt exchange.Route) []grant {
	if rt.Kind == exchange.Catalog {
		return []grant{{"registry", "catalog", []string{"*"}}}
	}

	// Where no repository is named, as at /v2/, any token will do.
	if rt.Repo == "" || exchange.CheckName(rt.Repo) != nil {
		return nil
	}

	// A push needs the right to pull as well, as in other registries.
	actions := []string{"pull"}
	switch {
	case rt.Kind == exchange.Uploads, rt.Kind == exchange.Upload, r.Method == http.MethodPut:
		actions = []string{"pull", "push"}
	case r.Method == http.MethodDelete:
		actions = []string{"delete"}
	}

	// A mount reads from the other repository.
	need := []grant{{"repository", rt.Repo, actions}}
	if from := r.URL.Query().Get("from"); rt.Kind == exchange.Uploads && from != rt.Repo && exchange.CheckName(from) == nil {
		need = append(need, grant{"repository", from, []string{"pull"}})
	}

	return need
}

// admitToken lets a request in that has a token which is good for it.
func (g *Gate) admitToken(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	need, problem := needs(r, rt), ""
	if token, ok := exchange.Bearer(r); ok {
		// A token of the token file is good for everything, here too.
		if a := g.auth.Load(); a != nil && a.isToken(token) {
			return nil
		}
		c, good := g.tokens.read(token)
		if good && allows(c.Access, need) {
			w.Access.User = c.Subject
			return nil
		}
		if problem = "invalid_token"; good {
			problem = "insufficient_scope"
		}
	}

	w.Header().Set("WWW-Authenticate", bearerChallenge(r, need, problem))
	return exchange.Fail(http.StatusUnauthorized, exchange.CodeUnauthorized, "a token of %s is required", TokenPath)
}

// MayPull reports whether the token of a request that was let in is good for another
// repository, too.
func (g *Gate) MayPull(r *http.Request, repo string) bool {
	token, ok := exchange.Bearer(r)
	if a := g.auth.Load(); g.tokens == nil || ok && a != nil && a.isToken(token) {
		return true
	}
	c, good := g.tokens.read(token)
	return good && allows(c.Access, []grant{{"repository", repo, []string{"pull"}}})
}

// bearerChallenge says where to get a token, and which one. The address is that by which the
// client has found the registry: no other is known to lead here.
func bearerChallenge(r *http.Request, need []grant, problem string) string {
	// A Host with a quote in it would end the value. Then the realm is the path alone.
	realm := TokenPath
	if r.Host != "" && !strings.ContainsAny(r.Host, `"\`) {
		realm = exchange.Scheme(r) + "://" + r.Host + TokenPath
	}

	text := fmt.Sprintf(`Bearer realm="%s",service="%s"`, realm, tokenService)

	// The scope tells the client which token to ask for.
	if len(need) > 0 {
		var words []string
		for _, g := range need {
			words = append(words, g.String())
		}
		text += fmt.Sprintf(`,scope="%s"`, strings.Join(words, " "))
	}

	if problem != "" {
		text += fmt.Sprintf(`,error="%s"`, problem)
	}

	return text
}

// A tokenAnswer is what the token server sends. Some clients look for one name of the token,
// some for the other.
type tokenAnswer struct {
	Token       string    `json:"token"`
	AccessToken string    `json:"access_token"`
	ExpiresIn   int64     `json:"expires_in"` // seconds
	IssuedAt    time.Time `json:"issued_at"`
}

// GiveToken answers the GET of a token.
func (g *Gate) GiveToken(w *exchange.Recorder, r *http.Request) error {
	answer, err := g.newToken(w, r)
	if err != nil {
		return err
	}
	return exchange.SendJSON(w, "application/json", answer)
}

// newToken makes the token that a request asks for. It wants name and password if anything
// does.
func (g *Gate) newToken(w *exchange.Recorder, r *http.Request) (tokenAnswer, error) {
	if err := g.admitBasic(w, r); err != nil {
		return tokenAnswer{}, err
	}
	q, err := exchange.Query(r)
	if err != nil {
		return tokenAnswer{}, err
	}
	access, err := g.grants(q["scope"])
	if err != nil {
		return tokenAnswer{}, err
	}
	token, c := g.tokens.sign(w.Access.User, access)
	w.Header().Set("Cache-Control", "no-store")
	return tokenAnswer{token, token, c.Expires - c.Issued, time.Unix(c.Issued, 0).UTC()}, nil
}

// grants returns what is allowed of what a client asks for: all that the registry does. Scopes
// that mean nothing here allow nothing.
func (g *Gate) grants(scopes []string) ([]grant, error) {
	list := []grant{}
	words := strings.Fields(strings.Join(scopes, " "))
	if len(words) > maxScopes {
		return nil, exchange.Fail(http.StatusBadRequest, exchange.CodeDenied, "%d scopes, the limit is %d", len(words), maxScopes)
	}

	for _, word := range words {
		// A name may hold colons itself. So the type ends at the first, and the actions begin
		// behind the last.
		i, j := strings.IndexByte(word, ':'), strings.LastIndexByte(word, ':')
		if i < 0 || i == j {
			continue
		}
		want := grant{word[:i], word[i+1 : j], []string{}}
		for a := range strings.SplitSeq(word[j+1:], ",") {
			if g.mayGrant(want, a) && !slices.Contains(want.Actions, a) {
				want.Actions = append(want.Actions, a)
			}
		}
		list = append(list, want)
	}

	return list, nil
}

func (g *Gate) mayGrant(want grant, action string) bool {
	if want.Type == "registry" {
		return want.Name == "catalog" && action == "*"
	}
	writes := action == "push" || action == "delete"
	return want.Type == "repository" && exchange.CheckName(want.Name) == nil && (action == "pull" || writes && !g.readOnly)
}
