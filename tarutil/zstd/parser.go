package zstd

// A parser cuts input into literals and matches.
type parser interface {
	// reset forgets all of the past, and takes in the positions from start up to from, which
	// the next ones may refer to.
	reset(b *ring, start, from int)

	// parse adds sequences for the positions from..to-1, and the literals behind the last.
	// It looks at padding bytes behind to, and adds no match of fewer than four bytes.
	parse(b *ring, from, to int, q *sequences)
}

// A place is what a table of a parser holds: the low bits of a position, and above them bits of
// a hash that the index has not used. Nearly all places that would not do are told by these
// bits, without a look at the input, which is not in the cache.
type place uint32

const (
	placeBits = 23
	placeMask = 1<<placeBits - 1
)

// placeOf returns the place of s, which has the hash: the nine lowest bits of its upper half are kept.
func placeOf(hash uint64, s int) place {
	return place(uint32(hash>>(32-placeBits))&^placeMask | uint32(s)&placeMask)
}

// like reports whether q is probably a place of the same bytes.
func (p place) like(q place) bool { return p^q < 1<<placeBits }

// since returns the distance from q to p, modulo 2^23.
func (p place) since(q place) int { return int((p - q) & placeMask) }

// possible reports whether d is the distance of a match at s: one that does not reach beyond
// start. It must be asked before the bytes there are looked at.
func possible(d, s, start int) bool { return uint(d-1) < uint(s-start) }

// The hashes of the first eight, six and five bytes of v. Tables are indexed by the upper bits; the
// lower half is not for use.
func hash8(v uint64) uint64 { return v * hashFactor }
func hash6(v uint64) uint64 { return v << 16 * hashFactor }
func hash5(v uint64) uint64 { return v << 24 * hashFactor }

// hashFactor is 2^64 divided by the golden ratio and made odd.
const hashFactor = 0x9E3779B97F4A7C15

// A level is what depends on the level of compression. All of it is part of the output, and
// frozen.
type level struct {
	overlap   int // how far before its start a job may refer to
	windowLog int // of the window that a decoder needs: no distance is longer
	newParser func() parser
}

// levelOf returns a level from 1 to 9, of which there are three.
func levelOf(n int) level {
	switch {
	case n <= 2:
		return level{1 << 20, 22, func() parser { return new(fastParser) }}
	case n <= 5:
		return level{4 << 20, 23, func() parser { return new(doubleParser) }}
	}
	return level{6 << 20, 23, func() parser { return new(lazyParser) }}
}
