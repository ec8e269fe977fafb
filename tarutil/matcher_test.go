package tarutil

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMatcher(t *testing.T) {
	tests := []struct {
		patterns string // separated by spaces
		match    string
		not      string
	}{
		{"", "", "a a/b"},
		{"a", "a a/b a/b/c", "b ab b/a"},
		{"/a/", "a a/b", "b/a"},
		{"./a//b", "a/b a/b/c", "a b"},
		{"a/../b", "b b/x", "a"},
		{".", "", "a"},
		{"*", "a .a a/b", ""},
		{"*.go", "x.go .go x.go/y", "x.gob d/x.go"},
		{"*/*.go", "d/x.go", "x.go d/e/x.go"},
		{"a?c", "abc aüc a\xffc", "ac a/c abbc"},
		{"[a-c]x", "ax cx", "dx x /x"},
		{"[^a-c]x", "dx üx", "ax /x"},
		{`\*`, "*", "a"},
		{`[\]]`, "]", `\`},
		{"**", "a a/b .x", ""},
		{"**/a", "a x/a x/y/a a/z", "xa x/ya"},
		{"**/*.go", "x.go a/b/x.go", "x.gob"},
		{"a/**", "a/b a/b/c", "a b ab"},
		{"a/**/b", "a/b a/x/b a/x/y/b", "ab a/xb a b"},
		{"a**", "a ab a/b", "b"},
		{"**a", "a x/a", "xa"},
		{"**/**/b", "b a/b a/a/b", "ab"},
		{"a !a/b", "a a/c", "a/b a/b/c"},
		{"!a/b a", "a a/b", "b"},
		{"* !a", "b", "a a/b"},
		{"a !a/b a/b/c", "a a/b/c", "a/b a/b/d"},
		{"*.md !README.md", "x.md", "README.md"},
		{"*.md !README*.md README-secret.md", "x.md README-secret.md", "README.md"},
		{"\xff*", "\xff \xffa", "\xfe"},
	}
	for _, tt := range tests {
		m, err := NewMatcher(strings.Split(tt.patterns, " "))
		if err != nil {
			t.Errorf("NewMatcher(%q): %v", tt.patterns, err)
			continue
		}
		for _, name := range strings.Fields(tt.match) {
			if !m.Match(name) {
				t.Errorf("%q: Match(%q) = false", tt.patterns, name)
			}
		}
		for _, name := range strings.Fields(tt.not) {
			if m.Match(name) {
				t.Errorf("%q: Match(%q) = true", tt.patterns, name)
			}
		}
	}
}

func TestMatcherErrors(t *testing.T) {
	for _, p := range []string{"!", " ! ", "[", "[]", "[a", "[a-", `\`, "[-a]", `[\`} {
		if _, err := NewMatcher([]string{p}); err == nil {
			t.Errorf("NewMatcher(%q): no error", p)
		}
	}
}

func TestMayReinclude(t *testing.T) {
	tests := []struct {
		patterns, dir string
		want          bool
	}{
		{"a", "a", false},
		{"a !a/b/c", "a", true},
		{"a !a/b/c", "a/b", true},
		{"a !a/b/c", "a/c", false},
		{"a !b", "a", false},
		{"a !ab", "a", false},
		{"* !**/keep", "x/y", true},
		{"a !a/*/c", "a/b", true},
		{"a !a/*/c", "a/b/c", true},
		{"a !a/*/c", "a/b/d", false},
	}
	for _, tt := range tests {
		m, err := NewMatcher(strings.Fields(tt.patterns))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.MayReinclude(tt.dir); got != tt.want {
			t.Errorf("%q: mayReinclude(%q) = %v", tt.patterns, tt.dir, got)
		}
	}
}

func TestReadPatterns(t *testing.T) {
	got, err := ReadPatterns(strings.NewReader("\ufeff# comment\n  a  \n\n!b\r\n#c\n \\#d"))
	if want := []string{"a", "!b", `\#d`}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := ReadPatterns(strings.NewReader(strings.Repeat("x", 1<<20))); err == nil {
		t.Error("line of 1 MiB: no error")
	}
}

// FuzzMatcher compares a glob with the same pattern as a regular expression.
func FuzzMatcher(f *testing.F) {
	for _, s := range []string{"a", "*", "**/a", "a/**/b", "a**b", "[a-c]?", `\*x`, "[^/a]*"} {
		f.Add(s, "a/b/c")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		m, err := NewMatcher([]string{pattern})
		if err != nil {
			return
		}
		got := m.Match(name)
		m.MayReinclude(name)
		if len(m.patterns) == 0 || strings.ContainsAny(pattern, "[\\!\x00") ||
			!utf8.ValidString(pattern) || !utf8.ValidString(name) || !isClean(name) {
			return
		}
		p := strings.TrimLeft(path.Clean(strings.TrimSpace(pattern)), "/")
		r := regexp.MustCompile(`\*\*+/?|\*|\?|[^*?]+`).ReplaceAllStringFunc(p, func(s string) string {
			switch {
			case s == "*":
				return `[^/]*`
			case s == "?":
				return `[^/]`
			case strings.HasPrefix(s, "**"):
				return "\x00"
			}
			return regexp.QuoteMeta(s)
		})
		if s, ok := strings.CutSuffix(r, "\x00"); ok {
			r = s + `.*`
		}
		r = strings.ReplaceAll(r, "\x00", `(.*/)?`)
		if want := regexp.MustCompile(`(?s)^` + r + `(/.*)?$`).MatchString(name); got != want {
			t.Errorf("%q: Match(%q) = %v; as a regular expression %v", pattern, name, got, want)
		}
	})
}
