package tap

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"ocikit/oci/registry/tap/record"
	"ocikit/oci/registry/wire"
)

// secrets are the credentials and tokens that have passed. They are taken out of everything that is
// shown or written.
type secrets struct {
	mu     sync.Mutex
	known  []string // the oldest first
	hidden *wire.Redactor
}

// maxSecrets bounds what is looked for. A token is good for minutes.
const maxSecrets = 400

func newSecrets() *secrets { return &secrets{hidden: &wire.Redactor{}} }

// red returns the redactor of the secrets known so far.
func (s *secrets) red() *wire.Redactor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hidden
}

// add makes the redactor take out words. A redactor forgets nothing, so it is made anew when there
// are too many.
func (s *secrets) add(words ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, word := range words {
		if len(word) < 4 || slices.Contains(s.known, word) {
			continue
		}
		s.known = append(s.known, word)
		if len(s.known) > maxSecrets { // begin again with those that are still in use
			s.known = slices.Clone(s.known[maxSecrets/2:])
			s.hidden = &wire.Redactor{}
			s.hidden.Hide(s.known...)
		}
		s.hidden.Hide(word)
	}
}

// learn takes the credentials out of the header of a request.
func (s *secrets) learn(h http.Header) {
	for name, values := range h {
		if !wire.IsSecretHeader(name) {
			continue
		}
		for _, v := range values {
			s.add(credentials(name, v)...)
		}
	}
}

// credentials returns what is secret in the value of a header, in each spelling in which an answer may
// repeat it.
func credentials(name, v string) []string {
	switch name {
	case "Cookie":
		var list []string
		for pair := range strings.SplitSeq(v, ";") {
			_, value, _ := strings.Cut(pair, "=")
			list = append(list, strings.Trim(value, `" `))
		}
		return list
	case "Authorization", "Proxy-Authorization":
		if _, value, ok := strings.Cut(v, " "); ok {
			v = value
		}
	}

	// A Basic header holds the password in another spelling.
	list := []string{v}
	if plain, err := base64.StdEncoding.DecodeString(v); err == nil {
		if _, password, ok := strings.Cut(string(plain), ":"); ok {
			list = append(list, password)
		}
	}
	return list
}

// learnToken takes the tokens out of an answer of a token server.
func (s *secrets) learnToken(body []byte) {
	var doc map[string]any
	if json.Unmarshal(body, &doc) != nil {
		return
	}
	for key, v := range doc {
		key = strings.ToLower(key)
		if text, ok := v.(string); ok && (strings.Contains(key, "token") || strings.Contains(key, "secret")) {
			s.add(text)
		}
	}
}

// learnForm takes the credentials out of the body of a request for a token (OAuth2).
func (s *secrets) learnForm(body []byte) {
	for pair := range strings.SplitSeq(string(body), "&") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "password", "refresh_token", "access_token", "client_secret":
			s.add(value)
			if plain, err := url.QueryUnescape(value); err == nil {
				s.add(plain)
			}
		}
	}
}

// minSigned is how long a value of a query must be to be looked for in an answer. A shorter one is no
// signature and no state of an upload, but perhaps an ordinary word.
const minSigned = 16

// hideQuery takes out of an exchange what its own address holds of secrets: a signature, or the state
// of an upload. Storage that refuses a request repeats them in its answer. They are good for one
// request each, so they are not remembered as other secrets are.
func (p *passage) hideQuery() {
	values := slices.DeleteFunc(wire.SecretValues(p.target), func(v string) bool { return len(v) < minSigned })
	if len(values) == 0 {
		return
	}

	var red wire.Redactor
	red.Hide(values...)
	e := p.entry
	e.Says, e.Error, p.w.Access.Error = red.Text(e.Says), red.Text(e.Error), red.Text(p.w.Access.Error)
	for _, list := range e.Response {
		for i := range list {
			list[i] = red.Text(list[i])
		}
	}

	for i := range e.Errors {
		e.Errors[i].Message, e.Errors[i].Detail = red.Text(e.Errors[i].Message), red.Text(e.Errors[i].Detail)
	}

	for _, b := range []*record.Body{&e.Asked, &e.Answered} {
		if b.Text != nil {
			*b.Text = red.Text(*b.Text)
		}
	}
}
