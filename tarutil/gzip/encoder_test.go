package gzip

import (
	"slices"
	"testing"
)

// Every prefix code must be complete and within its limit, whatever the counts are.
func TestCodeLengths(t *testing.T) {
	fib := make([]uint32, 40)
	for i := range fib {
		fib[i] = 1
		if i > 1 {
			fib[i] = min(fib[i-1]+fib[i-2], 1<<20)
		}
	}
	r := random(6)
	skewed := make([]uint32, 286)
	for i := range skewed {
		skewed[i] = uint32(r.next() >> (44 + uint(r.below(20))))
	}
	cases := map[string][]uint32{
		"none":      make([]uint32, 30),
		"first":     append([]uint32{5}, make([]uint32, 29)...),
		"last":      append(make([]uint32, 29), 5),
		"equal":     slices.Repeat([]uint32{7}, 286),
		"fibonacci": fib,
		"skewed":    skewed,
	}
	for name, freq := range cases {
		for _, limit := range []int{9, 15} {
			lens := make([]uint8, len(freq))
			codeLengths(lens, freq, limit)
			space := 0
			for i, l := range lens {
				if int(l) > limit || l == 0 && freq[i] > 0 {
					t.Errorf("%s: symbol %d with count %d has length %d", name, i, freq[i], l)
				}
				if l > 0 {
					space += 1 << (limit - int(l))
				}
			}
			if space != 1<<limit {
				t.Errorf("%s, limit %d: %d of %d used", name, limit, space, 1<<limit)
			}
		}
	}
}

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
