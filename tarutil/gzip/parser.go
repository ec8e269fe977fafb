package gzip

import (
	"encoding/binary"
	"math/bits"
)

// parser turns bytes into tokens: it decides which matches to take.
type parser interface {
	// reset forgets all of the past and takes in a new block: b[start:end], which may
	// refer to what stands before it. Zeros follow it, as many as padding.
	reset(b *buffer, start, end int)

	// next adds tokens for the bytes from pos on until there are limit of them or the
	// block ends, and returns the position it got to. It adds at most maxRun more.
	next(pos, limit int, t *tokens) int
}

// maxRun is how many literals a parser collects before it adds them, up to one stride more.
const maxRun = 2 << 10

// buffer holds the window and the block after it. It is an array so that an index which
// is masked to its size, a power of two, needs no check against bounds.
//
// Tables refer to positions in it by their low 16 bits. As the window is half of 2^16
// bytes, the difference to the current position is the distance, or too large for one.
// An entry not set, 0, is position 0 or too far away as well, so none needs a mark.
type buffer [bufferSize + padding]byte

const (
	bufferSize = windowSize + blockSize // 2^19
	padding    = 16                     // bytes which parsers may read behind a block
)

const (
	hashMul32 = 0x9E3779B1         // 2^32 and 2^64, divided by the golden ratio
	hashMul64 = 0x9E3779B97F4A7C15 // and made odd
)

// load64 returns the eight bytes at b[i:], the first in the lowest place on every machine.
func load64(b *buffer, i int) uint64 {
	p := i & (bufferSize - 1)
	return binary.LittleEndian.Uint64(b[p : p+8])
}

// tooFar returns 0 if d, from 0 to 2^16-1, can be the distance of a match, and something else if not.
// Joined to a difference of bytes it makes one branch of two. No processor can predict the branch
// between a match and none, and parsing spends most of its time there.
func tooFar(d int) uint32 { return uint32(d-1) / windowSize }

// unequal returns 0 if the four bytes at i equal those d before and d is a distance.
func unequal(b *buffer, i, d int) uint32 {
	return uint32(load64(b, i)^load64(b, i-d)) | tooFar(d)
}

// matchLen returns how many bytes at s equal those d before, when the first eight are known
// to. It may count some bytes behind end or beyond maxMatch.
func matchLen(b *buffer, s, d, end int) int {
	n := 8
	for n < maxMatch && s+n < end {
		if x := load64(b, s+n) ^ load64(b, s+n-d); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	return n
}

// newParser returns the parser of a level, nil for level 0.
func newParser(level int) parser {
	switch {
	case level == 0:
		return nil
	case level <= 3:
		return &fastParser{}
	case level <= 6:
		return &doubleParser{}
	default:
		return &chainParser{}
	}
}
