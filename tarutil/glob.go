package tarutil

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// A glob is one pattern, taken apart. Matching follows all ways at once, so its time is
// at most the length of the pattern times the length of the name.
type glob struct {
	literal string // if tokens is nil: the pattern, which has no special characters
	tokens  []token
}

type tokenKind byte

const (
	tokenRune  tokenKind = iota // one given character
	tokenAny                    // ?
	tokenClass                  // [...]
	tokenStar                   // *
	tokenAll                    // ** at the end: any text
	tokenEnter                  // ** and the slash behind it: any text that ends in a slash, or none
	tokenLoop                   // what tokenEnter goes through
)

type token struct {
	kind   tokenKind
	char   rune
	negate bool
	ranges [][2]rune
}

// notUTF8 is added to a byte that is part of no valid UTF-8 character, which makes a
// character that differs from all others.
const notUTF8 = utf8.MaxRune + 1

// nextRune returns the first character of s and how many bytes it has.
func nextRune(s string) (rune, int) {
	c, n := utf8.DecodeRuneInString(s)
	if c == utf8.RuneError && n == 1 {
		c = notUTF8 + rune(s[0])
	}
	return c, n
}

// parseGlob takes a cleaned pattern apart. The error is [path.ErrBadPattern].
func parseGlob(s string) (glob, error) {
	if !strings.ContainsAny(s, `*?[\`) {
		return glob{literal: s}, nil
	}

	var g glob
	for len(s) > 0 {
		c, n := nextRune(s)
		rest := s[n:]
		switch c {
		case '*':
			if !strings.HasPrefix(rest, "*") {
				g.tokens = append(g.tokens, token{kind: tokenStar})
				break
			}

			// Two stars or more pass over any number of directories. With the slash behind them
			// they also stand for none.
			rest = strings.TrimPrefix(strings.TrimLeft(rest, "*"), "/")
			if rest == "" {
				g.tokens = append(g.tokens, token{kind: tokenAll})
			} else {
				g.tokens = append(g.tokens, token{kind: tokenEnter}, token{kind: tokenLoop})
			}
		case '?':
			g.tokens = append(g.tokens, token{kind: tokenAny})
		case '[':
			class, after, err := parseClass(rest)
			if err != nil {
				return glob{}, err
			}
			g.tokens, rest = append(g.tokens, class), after
		case '\\':
			if rest == "" {
				return glob{}, path.ErrBadPattern
			}
			c, n = nextRune(rest)
			g.tokens, rest = append(g.tokens, token{char: c}), rest[n:]
		default:
			g.tokens = append(g.tokens, token{char: c})
		}

		s = rest
	}

	return g, nil
}

// parseClass reads a set of characters, from behind its opening bracket. A set must hold something.
func parseClass(s string) (class token, rest string, err error) {
	class.kind = tokenClass
	s, class.negate = strings.CutPrefix(s, "^")
	for {
		// As in path.Match, a bracket at the begin of the set does not end it but is an error.
		if strings.HasPrefix(s, "]") && len(class.ranges) > 0 {
			return class, s[1:], nil
		}

		var lo, hi rune
		if lo, s, err = classRune(s); err != nil {
			return class, s, err
		}

		hi = lo
		if strings.HasPrefix(s, "-") {
			if hi, s, err = classRune(s[1:]); err != nil {
				return class, s, err
			}
		}

		class.ranges = append(class.ranges, [2]rune{lo, hi})
	}
}

// classRune reads one character of a set.
func classRune(s string) (rune, string, error) {
	if s == "" || s[0] == '-' || s[0] == ']' {
		return 0, s, path.ErrBadPattern
	}
	if s[0] == '\\' {
		if s = s[1:]; s == "" {
			return 0, s, path.ErrBadPattern
		}
	}
	c, n := nextRune(s)
	return c, s[n:], nil
}

// match reports whether g matches name or a directory that it lies in. If below is set and it does not,
// alive reports whether g could match a path below name.
func (g *glob) match(name string, below bool) (ok, alive bool) {
	if g.tokens == nil {
		ok = name == g.literal || strings.HasPrefix(name, g.literal) && name[len(g.literal)] == '/'
		return ok, below && strings.HasPrefix(g.literal, name) && len(g.literal) > len(name) && g.literal[len(name)] == '/'
	}

	var scratch [2 * 128]bool
	n := len(g.tokens) + 1
	buf := scratch[:]
	if 2*n > len(buf) {
		buf = make([]bool, 2*n)
	}

	// All positions in the pattern that the text so far can lead to are followed at once. There
	// is no going back, so no pattern takes exponential time.
	now, next := buf[:n], buf[n:2*n] // now[i]: all tokens before i are matched
	g.reach(now, 0)
	for len(name) > 0 {
		c, size := nextRune(name)
		if c == '/' && now[n-1] {
			return true, true
		}
		if !g.step(now, next, c) {
			return false, false
		}
		now, next = next, now
		name = name[size:]
	}

	if now[n-1] {
		return true, true
	}

	return false, below && g.step(now, next, '/')
}

// reach marks position i, and those that follow without a further character.
func (g *glob) reach(set []bool, i int) {
	for !set[i] {
		set[i] = true
		if i == len(g.tokens) {
			return
		}
		switch g.tokens[i].kind {
		case tokenStar, tokenAll:
			i++
		case tokenEnter:
			set[i+1] = true
			i += 2
		default:
			return
		}
	}
}

// step follows the character c from the positions in now to those in next, and reports whether there are
// any.
func (g *glob) step(now, next []bool, c rune) bool {
	// A star stays where it is and does not cross a slash. What reach marks beyond it needs no
	// character.
	clear(next)
	for i := range g.tokens {
		if !now[i] {
			continue
		}

		switch t := &g.tokens[i]; t.kind {
		case tokenStar:
			if c != '/' {
				g.reach(next, i)
			}
		case tokenAll:
			g.reach(next, i)
		case tokenLoop:
			next[i] = true
			if c == '/' {
				g.reach(next, i+1)
			}
		case tokenEnter: // passed by reach
		default:
			if t.accepts(c) {
				g.reach(next, i+1)
			}
		}
	}

	return slices.Contains(next, true)
}

// accepts reports whether t, a token for one character, stands for c. Only a literal slash stands for a
// slash.
func (t *token) accepts(c rune) bool {
	switch {
	case t.kind == tokenRune:
		return c == t.char
	case c == '/':
		return false
	case t.kind == tokenAny:
		return true
	}
	for _, r := range t.ranges {
		if r[0] <= c && c <= r[1] {
			return !t.negate
		}
	}
	return t.negate
}
