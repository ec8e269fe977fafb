package zstd

const fastBits = 16

// fastParser knows one place for each hash of six bytes, the latest, and looks at two positions
// at a time. Of the positions inside a match it enters two, and it strides faster the longer it
// finds nothing.
type fastParser struct {
	start int
	dist  int // the latest
	table [1 << fastBits]place
}

func (p *fastParser) reset(b *ring, start, from int) {
	p.start, p.dist = start, 1
	clear(p.table[:])
	for i := start; i < from; i += 8 {
		p.insert(b, i)
	}
}

func (p *fastParser) insert(b *ring, i int) {
	x := hash6(load64(b, i))
	p.table[x>>(64-fastBits)] = placeOf(x, i)
}

func (p *fastParser) parse(b *ring, from, to int, q *sequences) {
	anchor := from // the bytes from anchor to s are literals not yet added
	s := max(from, p.start+1)
	dist, end := p.dist, to-8 // a match that begins before end is not cut to fewer than four bytes
	for s < end {
		// Two positions at once: neither look into the table has to wait for the other.
		v := load64(b, s)
		x0, x1 := hash6(v), hash6(v>>8)
		c0, c1 := placeOf(x0, s), placeOf(x1, s+1)
		e0 := p.table[x0>>(64-fastBits)]
		p.table[x0>>(64-fastBits)] = c0
		e1 := p.table[x1>>(64-fastBits)]
		p.table[x1>>(64-fastBits)] = c1

		var n int
		switch d := 0; {
		case uint32(load64(b, s+2-dist)) == uint32(v>>16): // the latest distance, once more
			s += 2
			n = matchLen(b, s, dist, 4, to)
		case c0.like(e0):
			d = c0.since(e0)
			if !possible(d, s, p.start) || uint32(load64(b, s-d)^v) != 0 {
				s += 1 + (s-anchor)>>5
				continue
			}
			n = lengthFrom(b, load64(b, s-d)^v, s, d, to)
			dist = d
		case c1.like(e1):
			s++
			d = c1.since(e1)
			if !possible(d, s, p.start) || uint32(load64(b, s-d)^v>>8) != 0 {
				s += 1 + (s-anchor)>>5
				continue
			}
			n = matchLen(b, s, d, 4, to)
			dist = d
		default:
			s += 2 + (s-anchor)>>5
			continue
		}

		// Strides and gaps in the table may have missed the beginning.
		first := extend(b, s, dist, anchor, p.start)
		q.addLiterals(b, anchor, first)
		q.addMatch(first-anchor, n+s-first, dist)
		p.insert(b, first+2)
		s += n
		p.insert(b, s-2)
		anchor = s
	}

	p.dist = dist
	q.addLiterals(b, anchor, to)
}
