package registry

import (
	"net/http"
	"slices"
	"strings"
)

// A Challenge is one way a server offers to authorize a request (RFC 9110, section 11).
type Challenge struct {
	Scheme string            `json:"scheme"` // lower case
	Params map[string]string `json:"params,omitempty"`
}

// maxChallenge bounds the headers that are parsed.
const maxChallenge = 8 << 10

// parseChallenges reads all WWW-Authenticate headers. It takes what registries send: several
// challenges in one header, values without quotes, commas within quotes. A header that is
// too long or cannot be read is passed over.
func parseChallenges(h http.Header) []Challenge {
	var list []Challenge
	total := 0
	for _, v := range h.Values("Www-Authenticate") {
		if total += len(v); total > maxChallenge {
			break
		}
		list = append(list, parseChallenge(v)...)
	}
	return list
}

func parseChallenge(s string) []Challenge {
	var list []Challenge
	p := &scanner{s}
	for {
		p.skip(" \t,")
		word := p.until(" \t,=\"")
		if word == "" {
			return list
		}
		p.skip(" \t")
		if p.peek() == '=' && len(list) > 0 {
			p.next()
			p.skip(" \t")
			list[len(list)-1].Params[strings.ToLower(word)] = p.value()
			continue
		}
		if p.peek() == '=' { // a parameter before any scheme, or the padding of a token68
			p.until(" \t,")
			continue
		}
		if len(list) > 0 && p.peek() == ',' && !knownScheme(word) {
			continue // a token68, or rubbish
		}
		list = append(list, Challenge{Scheme: strings.ToLower(word), Params: map[string]string{}})
	}
}

func knownScheme(s string) bool {
	return slices.Contains([]string{"basic", "bearer", "negotiate", "digest", "ntlm"}, strings.ToLower(s))
}

type scanner struct{ s string }

func (p *scanner) skip(set string) { p.s = strings.TrimLeft(p.s, set) }

func (p *scanner) peek() byte {
	if p.s == "" {
		return 0
	}
	return p.s[0]
}

func (p *scanner) next() { p.s = p.s[1:] }

func (p *scanner) until(set string) string {
	i := strings.IndexAny(p.s, set)
	if i < 0 {
		i = len(p.s)
	}
	word := p.s[:i]
	p.s = p.s[i:]
	return word
}

// value reads a quoted string, or a bare word up to a comma or blank.
func (p *scanner) value() string {
	if p.peek() != '"' {
		return p.until(" \t,")
	}
	p.next()
	var b strings.Builder
	for p.s != "" {
		ch := p.peek()
		p.next()
		switch {
		case ch == '"':
			return b.String()
		case ch == '\\' && p.s != "":
			b.WriteByte(p.peek())
			p.next()
		default:
			b.WriteByte(ch)
		}
	}
	return b.String() // the quote was never closed
}

// A scope is what a token allows on one resource: "repository:NAME:pull,push".
type scope struct {
	resource string // type and name
	actions  []string
}

func pull(repo string) scope { return scope{"repository:" + repo, []string{"pull"}} }
func push(repo string) scope { return scope{"repository:" + repo, []string{"pull", "push"}} }

func remove(repo string) scope {
	return scope{"repository:" + repo, []string{"pull", "delete"}}
}

func (s scope) String() string { return s.resource + ":" + strings.Join(s.actions, ",") }

// parseScopes reads the scopes of a challenge, split by blanks.
func parseScopes(s string) []scope {
	var list []scope
	for f := range strings.FieldsSeq(s) {
		i := strings.LastIndexByte(f, ':')
		if i < 0 {
			continue
		}
		list = mergeScopes(list, scope{f[:i], strings.Split(f[i+1:], ",")})
	}
	return list
}

// mergeScopes adds more to list; actions are sets. The order of resources is kept: some
// token servers look at the first only.
func mergeScopes(list []scope, more ...scope) []scope {
	list = slices.Clone(list)
	for _, m := range more {
		i := slices.IndexFunc(list, func(s scope) bool { return s.resource == m.resource })
		if i < 0 {
			list = append(list, scope{m.resource, sortedSet(m.actions)})
			continue
		}
		list[i].actions = sortedSet(append(slices.Clone(list[i].actions), m.actions...))
	}
	return list
}

func sortedSet(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return slices.Compact(words)
}

// covers reports whether list allows all that want asks for.
func covers(list, want []scope) bool {
	for _, w := range want {
		i := slices.IndexFunc(list, func(s scope) bool { return s.resource == w.resource })
		if i < 0 {
			return false
		}
		for _, a := range w.actions {
			if !slices.Contains(list[i].actions, a) && !slices.Contains(list[i].actions, "*") {
				return false
			}
		}
	}
	return true
}
