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

// A block that is as small with fixed codes as with codes of its own gets the fixed ones.
func TestEqualSizes(t *testing.T) {
	const tie = "abaabaaaaaaaabaabaaaaaaaaaaaaaabaaababaaabaabbaabbaabaaaababbaaaaabaaaaabb"
	e := newEncoder(1)
	var b buffer
	copy(b[:], tie)
	out := e.encode(e.room(len(tie)), &b, 0, len(tie), true)

	var c counts
	var own description
	c.collect(&e.tokens, 0, &e.length)
	own.init(&c)
	if fixed := c.CodeBits(e.fixed); fixed != own.bits+c.CodeBits(&own.Lengths) {
		t.Fatalf("fixed codes take %d bits, others %d", fixed, own.bits+c.CodeBits(&own.Lengths))
	}
	if kind := out[0] >> 1 & 3; kind != 1 {
		t.Errorf("the block is of kind %d", kind)
	}
}
