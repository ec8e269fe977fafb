package gzip

import "math/bits"

const (
	shortBits = 15
	longBits  = 16
	longMatch = 32 // from this length on a match is taken without a look ahead
	fewEnds   = 16 // of a match twice as long, so many positions are entered at either end
)

// doubleParser knows the latest place for each hash of eight bytes and for each of four. It
// tries the former first, which promises the longer match, and before it takes a match it
// looks for a long one at the next two positions.
type doubleParser struct {
	b     *buffer
	end   int
	short [1 << shortBits]uint16
	long  [1 << longBits]uint16
}

func shortHash(v uint64) uint32 { return uint32(v) * hashMul32 >> (32 - shortBits) }
func longHash(v uint64) uint32  { return uint32(v * hashMul64 >> (64 - longBits)) }

func (p *doubleParser) reset(b *buffer, start, end int) {
	p.b, p.end = b, end
	clear(p.short[:])
	clear(p.long[:])
	for i := 0; i < start; i += 2 {
		p.insert(i)
	}
}

func (p *doubleParser) insert(i int) {
	v := load64(p.b, i)
	p.short[shortHash(v)] = uint16(i)
	p.long[longHash(v)] = uint16(i)
}

// insertMatch enters the positions from..to-1, the middle of many left out.
func (p *doubleParser) insertMatch(from, to int) {
	if to-from > 2*fewEnds {
		for i := from; i < from+fewEnds; i++ {
			p.insert(i)
		}
		from = to - fewEnds
	}
	for i := from; i < to; i++ {
		p.insert(i)
	}
}

func (p *doubleParser) next(pos, limit int, t *tokens) int {
	b, end := p.b, p.end
	s, anchor := pos, pos // the bytes from anchor to s are literals not yet added
	for s < end && t.n < limit {
		// Both tables are asked and updated. A place for eight equal bytes is tried first, and
		// that for four only if it is none.
		v := load64(b, s)
		hs, hl := shortHash(v), longHash(v)
		ds, dl := int(uint16(s)-p.short[hs]), int(uint16(s)-p.long[hl])
		p.short[hs], p.long[hl] = uint16(s), uint16(s)
		d, x := dl, load64(b, s-dl)^v
		if uint32(x)|tooFar(d) != 0 {
			d, x = ds, load64(b, s-ds)^v
		}

		if uint32(x)|tooFar(d) != 0 {
			s += 1 + (s-anchor)>>7
			if s-anchor >= maxRun {
				s = min(s, end)
				t.literals(b, anchor, s)
				anchor = s
			}
			continue
		}

		// Most matches are shorter than sixteen bytes, and these are measured without a loop.
		n := bits.TrailingZeros64(x) >> 3
		if x == 0 {
			x = load64(b, s+8) ^ load64(b, s+8-d)
			if n += bits.TrailingZeros64(x) >> 3; x == 0 || s+8 >= end {
				n = matchLen(b, s, d, end)
			}
		}

		if n < longMatch {
			s, n, d = p.ahead(s, n, d)
		}

		for s > anchor && s > d && b[(s-1)&(bufferSize-1)] == b[(s-1-d)&(bufferSize-1)] {
			s-- // strides and gaps in the tables may have missed the beginning
			n++
		}

		// A match may have been measured past the end of the block. If too little is left of it,
		// the block ends with literals.
		n = min(n, end-s, maxMatch)
		if n < 4 {
			break
		}

		t.literals(b, anchor, s)
		t.match(n, d)
		p.insertMatch(s+1, s+n)
		s += n
		anchor = s
	}

	return t.rest(b, anchor, end, limit)
}

// ahead returns the match of n bytes at s, or a longer one at s+1 or s+2. The last place of
// the four bytes at s+1 is tried as well when the match is short.
func (p *doubleParser) ahead(s, n, d int) (s1, n1, d1 int) {
	b := p.b
	s1, n1, d1 = s, n, d
	v1, v2 := load64(b, s+1), load64(b, s+2)
	long1, long2 := p.long[longHash(v1)], p.long[longHash(v2)]
	short1 := p.short[shortHash(v1)]

	// A longer match has equal bytes where its last four would be.
	if d := int(uint16(s+1) - long1); unequal(b, s+n1-2, d) == 0 {
		if n := p.length(s+1, d); n > n1 {
			s1, n1, d1 = s+1, n, d
		}
	}

	if d := int(uint16(s+2) - long2); unequal(b, s+n1-1, d) == 0 {
		if n := p.length(s+2, d); n > n1 {
			s1, n1, d1 = s+2, n, d
		}
	}

	if n1 >= 8 {
		return s1, n1, d1
	}

	if d := int(uint16(s+1) - short1); unequal(b, s+n1-2, d) == 0 {
		if n := p.length(s+1, d); n > n1 {
			return s + 1, n, d
		}
	}

	return s1, n1, d1
}

// length returns how many bytes at s equal those d before.
func (p *doubleParser) length(s, d int) int {
	if x := load64(p.b, s-d) ^ load64(p.b, s); x != 0 {
		return bits.TrailingZeros64(x) >> 3
	}
	return matchLen(p.b, s, d, p.end)
}
