package gzip

import "math/bits"

// assignCodes sets codes[i] to the code of symbol i for the code lengths lens (RFC 1951, section 3.2.2).
// Its bits are reversed to the order in which they are written.
func assignCodes(codes []uint16, lens []uint8) {
	var next [17]uint16
	for _, l := range lens {
		next[l+1]++
	}

	next[1] = 0
	code := uint16(0)
	for l := 1; l < 16; l++ { // next[l] holds the number of codes of length l-1
		code = (code + next[l]) << 1
		next[l] = code
	}

	for i, l := range lens {
		if l > 0 {
			codes[i] = bits.Reverse16(next[l]) >> (16 - l)
			next[l]++
		}
	}
}
