package zstd

const (
	shortBits = 16
	longBits  = 17
)

// doubleParser knows the latest place for each hash of eight bytes and for each of five. It
// tries the former first, which promises the longer match, and before it takes a short one it
// looks for a long one at the next position.
type doubleParser struct {
	start int
	dist  [2]int // the latest two
	short [1 << shortBits]place
	long  [1 << longBits]place
}

// reset enters few positions of what is far away: only long matches pay there, and these
// go through one of the positions that are entered.
func (p *doubleParser) reset(b *ring, start, from int) {
	p.start, p.dist = start, [2]int{1, 1}
	clear(p.short[:])
	clear(p.long[:])
	near := max(start, from-512<<10)
	for i := start; i < near; i += 8 {
		p.insertLong(b, i)
	}
	for i := near; i < from; i += 4 {
		p.insertLong(b, i)
		p.insertShort(b, i)
	}
}

func (p *doubleParser) insertLong(b *ring, i int) {
	x := hash8(load64(b, i))
	p.long[x>>(64-longBits)] = placeOf(x, i)
}

func (p *doubleParser) insertShort(b *ring, i int) {
	x := hash5(load64(b, i))
	p.short[x>>(64-shortBits)] = placeOf(x, i)
}

func (p *doubleParser) parse(b *ring, from, to int, q *sequences) {
	anchor := from // the bytes from anchor to s are literals not yet added
	s := max(from, p.start+1)
	end := to - 8 // a match that begins before it is not cut to fewer than four bytes
	start, d0, d1 := p.start, p.dist[0], p.dist[1]
	for s < end {
		v := load64(b, s)
		xl, xs := hash8(v), hash5(v)
		cl, cs := placeOf(xl, s), placeOf(xs, s)
		el, es := p.long[xl>>(64-longBits)], p.short[xs>>(64-shortBits)]
		p.long[xl>>(64-longBits)], p.short[xs>>(64-shortBits)] = cl, cs

		// An eight-byte match that fails its test leaves the turn to the five-byte one.
		var n, d int
		switch {
		case uint32(load64(b, s+1-d0)) == uint32(v>>8): // the latest distance, once more
			s++
			n, d = matchLen(b, s, d0, 4, to), d0
		case cl.like(el):
			d = cl.since(el)
			if possible(d, s, start) && load64(b, s-d) == v {
				n = matchLen(b, s, d, 8, to)
				break
			}
			fallthrough
		default:
			d = cs.since(es)
			if !cs.like(es) || !possible(d, s, start) || uint32(load64(b, s-d)^v) != 0 {
				s += 1 + (s-anchor)>>7
				continue
			}
			n = lengthFrom(b, load64(b, s-d)^v, s, d, to)
			s, n, d = p.ahead(b, s, n, d, to)
		}

		// Strides and gaps in the tables may have missed the beginning.
		first := extend(b, s, d, anchor, start)
		if d != d0 {
			d0, d1 = d, d0
		}

		q.addLiterals(b, anchor, first)
		q.addMatch(first-anchor, n+s-first, d)

		// Of the positions inside a match two are entered: near its start and near its end.
		p.insertLong(b, first+2)
		p.insertShort(b, first+2)
		s += n
		p.insertLong(b, s-2)
		p.insertShort(b, s-1)

		// Right behind a match, the distance before the latest costs next to nothing.
		for s < end && uint32(load64(b, s-d1)) == uint32(load64(b, s)) {
			n := matchLen(b, s, d1, 4, to)
			d0, d1 = d1, d0
			q.addMatch(0, n, d0)
			p.insertLong(b, s)
			p.insertShort(b, s)
			s += n
		}

		anchor = s
	}

	p.dist = [2]int{d0, d1}
	q.addLiterals(b, anchor, to)
}

// ahead returns the match of n bytes at s, or a longer one at s+1.
func (p *doubleParser) ahead(b *ring, s, n, d, to int) (s1, n1, d1 int) {
	v := load64(b, s+1)
	x := hash8(v)
	c := placeOf(x, s+1)
	e := p.long[x>>(64-longBits)]
	p.long[x>>(64-longBits)] = c
	d1 = c.since(e)
	if c.like(e) && possible(d1, s+1, p.start) && load64(b, s+1-d1) == v {
		if n1 = matchLen(b, s+1, d1, 8, to); n1 > n {
			return s + 1, n1, d1
		}
	}
	return s, n, d
}
