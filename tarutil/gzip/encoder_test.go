package gzip

import (
	"testing"

	"ocikit/tarutil/internal/deflate"
)

// The fields of a token must say what RFC 1951, section 3.2.5 says.
func TestTokens(t *testing.T) {
	var ts tokens
	for dist := 1; dist <= windowSize; dist++ {
		ts.n = 0
		ts.match(maxMatch, dist)
		tok := ts.list[0]
		base, _ := deflate.DistBase(int(tok>>tokenDistShift&31) - 1)
		if got := base + int(tok>>tokenExtraShift); got != dist {
			t.Fatalf("distance %d is read as %d", dist, got)
		}
	}
}
