package entropy

import (
	"math/rand/v2"
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
	r := rand.New(rand.NewPCG(6, 6))
	skewed := make([]uint32, 286)
	for i := range skewed {
		skewed[i] = uint32(r.Uint64() >> (44 + uint(r.IntN(20))))
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
			CodeLengths(lens, freq, limit)
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
