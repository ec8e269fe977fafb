package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// An error about a name of a hundred thousand bytes is still one that can be read: what was
// done and why it failed are left.
func TestShorten(t *testing.T) {
	short := "ocikit layer: entry \"a\": no"
	if got := shorten(short); got != short {
		t.Errorf("shorten(%q) = %q", short, got)
	}
	for _, word := range []string{"n", "é", "€"} {
		got := shorten("ocikit layer: entry " + strings.Repeat(word, 50_000) + ": it is too long")
		if len(got) > 4200 || !utf8.ValidString(got) || !strings.HasPrefix(got, "ocikit layer: ") || !strings.HasSuffix(got, ": it is too long") {
			t.Errorf("%q: %d bytes, %.40q … %q", word, len(got), got, got[len(got)-40:])
		}
	}
}
