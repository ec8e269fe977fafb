package gzip

import "testing"

// The fields of a token must say what RFC 1951, section 3.2.5 says.
func TestTokens(t *testing.T) {
	var ts tokens
	for dist := 1; dist <= windowSize; dist++ {
		ts.n = 0
		ts.match(maxMatch, dist)
		tok := ts.list[0]
		sym := int(tok>>tokenDistShift&31) - 1
		base := 1 + sym
		if n := distExtra(sym); n > 0 {
			base = 1 + (2+sym&1)<<n
		}
		if got := base + int(tok>>tokenExtraShift); got != dist {
			t.Fatalf("distance %d is read as %d", dist, got)
		}
	}
	base := []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59,
		67, 83, 99, 115, 131, 163, 195, 227, 258}
	for length := minMatch; length <= maxMatch; length++ {
		c := codeOfLength(length)
		if got := base[c.sym-1] + int(c.extra); got != length {
			t.Errorf("length %d is read as %d", length, got)
		}
	}
}
