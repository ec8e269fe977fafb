package gzip

import "math/bits"

const (
	chainBits  = 15
	threeBits  = 14
	threeFar   = 4 << 10 // a match of three bytes from farther away saves nothing
	chainDepth = 24      // places tried at most
	goodMatch  = 8       // from this length on, a quarter of that for a longer match
	fineMatch  = 128     // from this length on, none
)

// chainParser walks the chain of the places in the window with the same hash of four bytes,
// and takes a match only when there is no longer one at the next two positions.
type chainParser struct {
	b        *buffer
	end      int
	inserted int                    // the positions before it are in the tables
	head     [1 << chainBits]uint16 // by hash of four bytes: the latest place
	prev     [windowSize]uint16     // by place: the one before it in the chain
	three    [1 << threeBits]uint16 // by hash of three bytes: the latest place
}

func chainHash(v uint64) uint32 { return uint32(v) * hashMul32 >> (32 - chainBits) }
func threeHash(v uint64) uint32 { return uint32(v<<8) * hashMul32 >> (32 - threeBits) }

func (p *chainParser) reset(b *buffer, start, end int) {
	p.b, p.end, p.inserted = b, end, 0
	clear(p.head[:])
	clear(p.three[:])
	p.insert(start)
}

// insert enters the positions up to and without to.
func (p *chainParser) insert(to int) {
	for i := p.inserted; i < to; i++ {
		v := load64(p.b, i)
		h := chainHash(v)
		p.prev[i&(windowSize-1)] = p.head[h]
		p.head[h] = uint16(i)
		p.three[threeHash(v)] = uint16(i)
	}
	p.inserted = max(p.inserted, to)
}

// next implements parser. Behind bytes without a match it takes steps that grow slowly, since
// data of that kind is mostly not compressible.
func (p *chainParser) next(pos, limit int, t *tokens) int {
	b, end := p.b, p.end
	s, anchor := pos, pos // the bytes from anchor to s are literals not yet added
	for s < end && t.n < limit {
		n, d := p.nearest(s)
		n, d = p.longer(s, n, d, chainDepth)
		if n < minMatch {
			s += 1 + (s-anchor)>>9
			if s-anchor >= maxRun {
				s = min(s, end)
				t.literals(b, anchor, s)
				anchor = s
			}
			continue
		}

		s, n, d = p.ahead(s, n, d)
		t.literals(b, anchor, s)
		t.match(n, d)
		s += n
		anchor = s
	}

	return t.rest(b, anchor, end, limit)
}

// nearest returns the nearest match of three bytes at s, or a length of 0.
func (p *chainParser) nearest(s int) (n, dist int) {
	p.insert(s)
	v := load64(p.b, s)
	d := int(uint16(s) - p.three[threeHash(v)])
	if x := load64(p.b, s-d) ^ v; x<<40 != 0 || uint(d-1) >= threeFar || s+minMatch > p.end {
		return 0, 0
	}
	return minMatch, d
}

// longer returns the longest match at s found in depth steps, or else the one given.
func (p *chainParser) longer(s, n, dist, depth int) (n1, dist1 int) {
	b, best, last := p.b, max(n, minMatch), 0
	p.insert(s)
	v := load64(b, s)
	c := p.head[chainHash(v)]
	ends := uint32(load64(b, s+best-3)) // a longer match has these four bytes at its end

	// The places in a chain get ever farther away. One that does not was overwritten, and ends
	// it.
	for range depth {
		d := int(uint16(s) - c)
		if d <= last || d > windowSize {
			break
		}

		last = d
		c = p.prev[c&(windowSize-1)]
		if uint32(load64(b, s-d+best-3)) != ends {
			continue
		}

		// The first eight bytes are compared at once, and the rest only if all of them agree.
		x := load64(b, s-d) ^ v
		k := bits.TrailingZeros64(x) >> 3
		if x == 0 {
			k = matchLen(b, s, d, p.end)
		}

		if k = min(k, p.end-s, maxMatch); k > best {
			best, n, dist = k, k, d
			if k >= fineMatch {
				break
			}
			ends = uint32(load64(b, s+best-3))
		}
	}

	return n, dist
}

// ahead returns the match of n bytes at s, or a longer one that begins one or two bytes behind it. That
// one is tried in the same way, again and again.
func (p *chainParser) ahead(s, n, d int) (s1, n1, d1 int) {
	for n < fineMatch && s+2 < p.end {
		// The better the match at hand, the less is spent on another.
		depth := chainDepth
		if n >= goodMatch {
			depth /= 4
		}

		next := n
		for i := 1; i <= 2 && next == n; i++ {
			if next, d1 = p.longer(s+i, n, d, depth/i); next > n {
				s, d = s+i, d1
			}
		}

		if next == n {
			break
		}

		n = next
	}

	return s, n, d
}
