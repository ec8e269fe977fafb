package serve

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
)

// tokenPath is where the token server answers, if there is one.
const tokenPath = "/token"

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
	c := claims{tokenService, user, tokenService, now.Unix(), now.Add(tokenLife).Unix(), newID(), access}
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
	_, part, _ := strings.Cut(token[:i], ".")
	body, err := enc.DecodeString(part)
	if err != nil || json.Unmarshal(body, &c) != nil {
		return c, false
	}
	return c, ts.now().Unix() < c.Expires
}

// allows reports whether a token with the grants is good for all of what is needed.
func allows(have, need []grant) bool {
	for _, n := range need {
		i := slices.IndexFunc(have, func(g grant) bool { return g.Type == n.Type && g.Name == n.Name })
		if i < 0 {
			return false
		}
		for _, a := range n.Actions {
			if !slices.Contains(have[i].Actions, a) {
				return false
			}
		}
	}
	return true
}

// needs returns what a token must allow for a request.
func needs(r *http.Request, rt route) []grant {
	if rt.kind == endCatalog {
		return []grant{{"registry", "catalog", []string{"*"}}}
	}
	if rt.repo == "" || checkName(rt.repo) != nil {
		return nil
	}
	actions := []string{"pull"}
	switch {
	case rt.kind == endUploads, rt.kind == endUpload, r.Method == http.MethodPut:
		actions = []string{"pull", "push"}
	case r.Method == http.MethodDelete:
		actions = []string{"delete"}
	}
	need := []grant{{"repository", rt.repo, actions}}
	if from := r.URL.Query().Get("from"); rt.kind == endUploads && from != rt.repo && checkName(from) == nil {
		need = append(need, grant{"repository", from, []string{"pull"}})
	}
	return need
}

// authorizeToken lets a request in that has a token which is good for it.
func (s *Server) authorizeToken(w *recorder, r *http.Request, rt route) error {
	need, problem := needs(r, rt), ""
	if token, ok := bearer(r); ok {
		if s.opts.Auth != nil && s.opts.Auth.isToken(token) {
			return nil
		}
		c, good := s.tokens.read(token)
		if good && allows(c.Access, need) {
			w.access.User = c.Subject
			return nil
		}
		if problem = "invalid_token"; good {
			problem = "insufficient_scope"
		}
	}
	w.Header().Set("WWW-Authenticate", bearerChallenge(r, need, problem))
	return fail(http.StatusUnauthorized, codeUnauthorized, "a token of %s is required", tokenPath)
}

// bearer returns the token that a request has.
func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// bearerChallenge says where to get a token, and which one. The address is that by which the
// client has found the registry: no other is known to lead here.
func bearerChallenge(r *http.Request, need []grant, problem string) string {
	realm := tokenPath
	if r.Host != "" && !strings.ContainsAny(r.Host, `"\`) {
		realm = scheme(r) + "://" + r.Host + tokenPath
	}
	text := fmt.Sprintf(`Bearer realm="%s",service="%s"`, realm, tokenService)
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

// giveToken is GET of a token.
func (s *Server) giveToken(w *recorder, r *http.Request) error {
	answer, err := s.newToken(w, r)
	if err != nil {
		return err
	}
	return sendJSON(w, "application/json", answer)
}

// newToken makes the token that a request asks for. It wants name and password if anything
// does.
func (s *Server) newToken(w *recorder, r *http.Request) (tokenAnswer, error) {
	if err := s.authorizeBasic(w, r); err != nil {
		return tokenAnswer{}, err
	}
	q, err := query(r)
	if err != nil {
		return tokenAnswer{}, err
	}
	access, err := s.grants(q["scope"])
	if err != nil {
		return tokenAnswer{}, err
	}
	token, c := s.tokens.sign(w.access.User, access)
	w.Header().Set("Cache-Control", "no-store")
	return tokenAnswer{token, token, c.Expires - c.Issued, time.Unix(c.Issued, 0).UTC()}, nil
}

// grants returns what is allowed of what a client asks for: all that the registry does. Scopes
// that mean nothing here allow nothing.
func (s *Server) grants(scopes []string) ([]grant, error) {
	list := []grant{}
	words := strings.Fields(strings.Join(scopes, " "))
	if len(words) > maxScopes {
		return nil, fail(http.StatusBadRequest, codeDenied, "%d scopes, the limit is %d", len(words), maxScopes)
	}
	for _, word := range words {
		i, j := strings.IndexByte(word, ':'), strings.LastIndexByte(word, ':')
		if i < 0 || i == j {
			continue
		}
		g := grant{word[:i], word[i+1 : j], []string{}}
		for a := range strings.SplitSeq(word[j+1:], ",") {
			if s.mayGrant(g, a) && !slices.Contains(g.Actions, a) {
				g.Actions = append(g.Actions, a)
			}
		}
		list = append(list, g)
	}
	return list, nil
}

func (s *Server) mayGrant(g grant, action string) bool {
	if g.Type == "registry" {
		return g.Name == "catalog" && action == "*"
	}
	writes := action == "push" || action == "delete"
	return g.Type == "repository" && checkName(g.Name) == nil && (action == "pull" || writes && !s.opts.ReadOnly)
}
