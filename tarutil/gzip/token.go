package gzip

import (
	"math/bits"

	"ocikit/tarutil/internal/deflate"
)

// A token is a literal or a match in 32 bits, laid out for the loop that writes it:
//
//	bits 0-8    the literal, or 256 + length - 3
//	bits 9-13   the distance symbol + 1, or 0 for a literal
//	bits 14-26  the extra bits of the distance
//
// A literal is thus just its value.
const (
	tokenLitLen     = 1<<9 - 1
	tokenDistShift  = 9
	tokenExtraShift = 14
)

const (
	minMatch = deflate.MinMatch
	maxMatch = deflate.MaxMatch
	endBlock = deflate.EndOfBlock
)

const (
	maxTokens = 48 << 10 // of one DEFLATE block; a parser may add some more at its end
	listSize  = 64 << 10
)

// tokens is a list of tokens. The distances are counted while it grows, and the rest later; see
// counts.collect.
type tokens struct {
	n    int                  // tokens in list
	list [listSize + 8]uint32 // some more may be written than are added
	dist [32]uint32           // counts by bits 9-13 since they were last cleared
}

// literals adds the bytes b[from:to]. It writes them by eights, up to seven too many, which the next
// tokens overwrite.
func (t *tokens) literals(b *buffer, from, to int) {
	n := t.n

	// Eight stores without a branch are faster than a loop of the right length.
	for i := from; i < to; i += 8 {
		v := load64(b, i)
		n &= listSize - 1
		l := t.list[n : n+8]
		n += 8
		l[0] = uint32(v & 255)
		l[1] = uint32(v >> 8 & 255)
		l[2] = uint32(v >> 16 & 255)
		l[3] = uint32(v >> 24 & 255)
		l[4] = uint32(v >> 32 & 255)
		l[5] = uint32(v >> 40 & 255)
		l[6] = uint32(v >> 48 & 255)
		l[7] = uint32(v >> 56)
	}

	t.n += to - from
}

// rest adds the bytes b[from:end] as literals unless there are limit tokens already, and
// returns the position it got to.
func (t *tokens) rest(b *buffer, from, end, limit int) int {
	if t.n >= limit {
		return from
	}
	t.literals(b, from, end)
	return end
}

// match adds a match of 3 to 258 bytes at a distance of 1 to 32768. Distance symbols come
// two to each power of two from 4 on (RFC 1951, section 3.2.5).
func (t *tokens) match(length, dist int) {
	// Of x the highest two bits give the symbol, and those below them are the extra bits.
	x := uint32(dist - 1)
	n := uint32(max(bits.Len32(x), 2) - 2)
	top := x >> (n & 31)
	sym := 2*n + top + 1
	extra := x ^ top<<(n&31)
	l := uint32(256 - minMatch + length)
	t.list[t.n&(listSize-1)] = l | sym<<tokenDistShift | extra<<tokenExtraShift
	t.n++
	t.dist[sym&31]++
}

// lengthCode is how the length of a match is written.
type lengthCode struct {
	sym   uint8 // the symbol - endBlock
	n     uint8 // how many extra bits follow it
	extra uint8 // their value
}

// codeOfLength returns the code of a length.
func codeOfLength(length int) lengthCode {
	sym, n, extra := deflate.LengthCode(length)
	return lengthCode{uint8(sym - endBlock), uint8(n), uint8(extra)}
}
