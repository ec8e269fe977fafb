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

const (
	maxSequences = 1 << 15 // of one block: no match has fewer than four bytes
	minMatch     = 3       // what the format allows, and what lengths are counted from
)

// sequences is what a parser makes of a block: literals, and the sequences that consume them.
type sequences struct {
	n        int // in list
	literals int // in lit
	list     [maxSequences]sequence
	lit      [maxBlock + 2*literalStep]byte
}

// literalStep is how many literals are copied at once. The last step may copy more than are added.
const literalStep = 16

// A sequence is a run of literals and a match after it:
//
//	bits 0-17   how many literals
//	bits 18-35  the length of the match
//	bits 36-63  its distance
type sequence uint64

func (q sequence) literals() uint32 { return uint32(q) & (1<<18 - 1) }
func (q sequence) match() uint32    { return uint32(q>>18) & (1<<18 - 1) }
func (q sequence) distance() uint32 { return uint32(q >> 36) }

// further returns what [encoder.collect] makes of a sequence: bits, and how many.
func (q sequence) further() (uint64, uint) { return uint64(q) << 6 >> 6, uint(q >> 58) }

// addLiterals appends the bytes of the positions from..to-1. It copies whole steps: a fixed size
// needs no call, and what is too much is overwritten by what comes next.
func (q *sequences) addLiterals(b *ring, from, to int) {
	at := q.literals
	for i := from; i < to; i += literalStep {
		p := i & (ringSize - 1)
		o := min(uint(at), maxBlock)
		*(*[literalStep]byte)(q.lit[o : o+literalStep]) = *(*[literalStep]byte)(b[p : p+literalStep])
		at += literalStep
	}
	q.literals += to - from
}

// addMatch appends a sequence, whose literals were added.
func (q *sequences) addMatch(literals, n, dist int) {
	q.list[q.n&(maxSequences-1)] = sequence(literals) | sequence(n)<<18 | sequence(dist)<<36
	q.n++
}

// repeats are the three latest distances ("Repeat Offsets", RFC 8878, section 3.1.1.5). One
// that is 0 is not known: it is from a job that may not be done.
type repeats [3]uint32
