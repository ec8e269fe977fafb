package tarutil

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"
)

// A Matcher selects paths by patterns that mean what they mean in a .dockerignore file. It is safe for
// concurrent use. A nil Matcher selects nothing.
type Matcher struct {
	patterns []pattern
	negated  bool // there is a pattern that begins with "!"
}

type pattern struct {
	negate bool
	glob   glob
}

// NewMatcher returns a Matcher of the patterns, in their order. In a pattern,
//
//   - "*" stands for any text without a slash, "?" for one character but the slash,
//     "[a-z]" and "[^a-z]" for one character of (or not of) a set; a backslash takes the
//     special meaning away from what follows;
//   - "**" stands for any number of directories, none included;
//   - a leading "/" and a trailing "/" mean nothing: all patterns begin at the root;
//   - a leading "!" makes paths that match no longer selected.
//
// A pattern matches a path when it matches it or one of the directories it lies in. The last pattern that
// matches decides. Spaces around a pattern, empty patterns and "." are ignored. Names are compared byte by
// byte where they are not valid UTF-8. A pattern that cannot be read is an error that quotes it and wraps
// [path.ErrBadPattern], unless it is a lone "!".
func NewMatcher(patterns []string) (*Matcher, error) {
	m := &Matcher{}
	for _, text := range patterns {
		s := strings.TrimSpace(text)
		rest, negate := strings.CutPrefix(s, "!")
		if negate {
			rest = strings.TrimSpace(rest)
		}

		if rest == "" {
			if negate {
				return nil, fmt.Errorf("pattern %q: nothing behind the exclamation mark", text)
			}
			continue
		}

		// Cleaning makes "a/", "./a" and "/a" the same pattern.
		rest = strings.TrimLeft(path.Clean(rest), "/")
		if rest == "." || rest == "" {
			continue
		}

		g, err := parseGlob(rest)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}

		m.patterns = append(m.patterns, pattern{negate, g})
		m.negated = m.negated || negate
	}

	return m, nil
}

// ReadPatterns reads one pattern a line from r, to its end. Empty lines and lines that begin with "#" are
// left out, and a byte order mark at the start is skipped. A line over 64 KiB is an error.
func ReadPatterns(r io.Reader) ([]string, error) {
	var patterns []string
	lines := bufio.NewScanner(r)
	for first := true; lines.Scan(); first = false {
		line := lines.Text()
		if first {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		if line = strings.TrimSpace(line); line != "" {
			patterns = append(patterns, line)
		}
	}

	return patterns, lines.Err()
}

// Match reports whether the patterns select name, a clean path (see [CleanPath]).
func (m *Matcher) Match(name string) bool {
	if m == nil {
		return false
	}
	for i := len(m.patterns) - 1; i >= 0; i-- { // the last one that matches decides
		p := &m.patterns[i]
		if ok, _ := p.glob.match(name, false); ok {
			return !p.negate
		}
	}
	return false
}

// MayReinclude reports whether a path below dir, a clean path, could be matched by a pattern with "!".
// Then a directory that is left out has to be searched all the same.
func (m *Matcher) MayReinclude(dir string) bool {
	if m == nil || !m.negated {
		return false
	}
	for i := range m.patterns {
		p := &m.patterns[i]
		if !p.negate {
			continue
		}
		if ok, alive := p.glob.match(dir, true); ok || alive {
			return true
		}
	}
	return false
}
