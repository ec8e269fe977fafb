package show

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// An error about a name of a hundred thousand bytes is still one that can be read: what was
// done and why it failed are left.
func TestShorten(t *testing.T) {
	short := "ocikit layer: entry \"a\": no"
	if got := Shorten(short); got != short {
		t.Errorf("shorten(%q) = %q", short, got)
	}
	for _, word := range []string{"n", "é", "€"} {
		got := Shorten("ocikit layer: entry " + strings.Repeat(word, 50_000) + ": it is too long")
		if len(got) > 1100 || !utf8.ValidString(got) || !strings.HasPrefix(got, "ocikit layer: ") || !strings.HasSuffix(got, ": it is too long") {
			t.Errorf("%q: %d bytes, %.40q … %q", word, len(got), got, got[len(got)-40:])
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünïcode":        "plain ünïcode",
		"a\nb\tc":              `a\nb\tc`,
		"\x1b[31mred":          `\x1b[31mred`,
		"c1 \u009b31m":         `c1 \x9b31m`,
		"del \x7f":             `del \x7f`,
		"latin1 \xe4":          `latin1 \xe4`,
		"bidi \u202egnp.exe":   `bidi \u202egnp.exe`,
		"zero width \u200b":    `zero width \u200b`,
		"replacement \ufffd":   `replacement \ufffd`,
		"line separator\u2028": `line separator\u2028`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b]0;x\x07")
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 }) || Printable(got) != got {
			t.Errorf("printable(%q) = %q", s, got)
		}
	})
}
