package gzip

import "math/bits"

const fastBits = 14

// fastParser knows one place for each hash of five bytes, the latest, and takes what it
// finds there. Of the positions inside a match it enters only the ends, and it strides
// faster the longer it finds nothing.
type fastParser struct {
	b     *buffer
	end   int
	table [1 << fastBits]uint16
}

func fastHash(v uint64) uint32 {
	return uint32(v << 24 * hashMul64 >> (64 - fastBits))
}

func (p *fastParser) reset(b *buffer, start, end int) {
	p.b, p.end = b, end
	clear(p.table[:])
	for i := range start {
		p.insert(i)
	}
}

func (p *fastParser) insert(i int) {
	p.table[fastHash(load64(p.b, i))] = uint16(i)
}

// next implements parser.
func (p *fastParser) next(pos, limit int, t *tokens) int {
	b, end := p.b, p.end
	s, anchor := pos, pos // the bytes from anchor to s are literals not yet added
	for s < end && t.n < limit {
		v := load64(b, s)
		h := fastHash(v)
		d := int(uint16(s) - p.table[h])
		p.table[h] = uint16(s)
		x := load64(b, s-d) ^ v

		if uint32(x)|tooFar(d) != 0 {
			s += 1 + (s-anchor)>>5
			if s-anchor >= maxRun {
				s = min(s, end)
				t.literals(b, anchor, s)
				anchor = s
			}
			continue
		}

		n := bits.TrailingZeros64(x) >> 3
		if x == 0 {
			n = matchLen(b, s, d, end)
		}

		n = min(n, end-s, maxMatch)
		if n < 4 {
			break
		}

		t.literals(b, anchor, s)
		t.match(n, d)

		// Only two positions at either end of the match are entered.
		p.insert(s + 1)
		p.insert(s + 2)
		s += n
		p.insert(s - 2)
		p.insert(s - 1)
		anchor = s
	}

	return t.rest(b, anchor, end, limit)
}
