package probe

import (
	"strings"
	"testing"
	"unicode"
)

func TestHostOf(t *testing.T) {
	for in, want := range map[string]string{
		"https://r.test:5000/v2/x?token=planted": "r.test:5000",
		"//r.test/planted":                       "r.test",
		"http://me:planted@r.test/":              "r.test",
		"http://r.test?planted":                  "r.test",
		"http://r\x1b.test/":                     `"r\x1b.test"`,
		"/planted":                               `""`,
		"":                                       `""`,
	} {
		if got := hostOf(in); got != want {
			t.Errorf("hostOf(%q) = %s, want %s", in, got, want)
		}
	}
}

// What a registry writes stays on its line, short, whatever it is.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "BLOB_UNKNOWN", "a b", "\x1b[31m", "\u202e", "\xff\xfe", "http://a@b/c?d", strings.Repeat("x", 500)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{plain(s), hostOf(s)} {
			bad := func(c rune) bool { return !unicode.IsPrint(c) || unicode.Is(unicode.Bidi_Control, c) }
			if got == "" || len(got) > 1000 || strings.ContainsFunc(got, bad) {
				t.Errorf("%q becomes %q", s, got)
			}
		}
	})
}
