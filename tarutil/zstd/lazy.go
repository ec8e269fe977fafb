package zstd

import "math/bits"

const (
	nearBits = 16
	nearSize = 4
	farBits  = 19
	farSize  = 2
	ahead    = 16 // positions whose cells are asked for at once
	lookout  = 1  // positions behind a match at which a better one is looked for
	niceLen  = 64 // from this length on, none is
)

// lazyParser knows the latest few places for each hash of eight bytes and for each of five, and
// takes a match only when there is no better one at the next position.
type lazyParser struct {
	start    int
	inserted int    // the positions before it are in the tables
	awaited  int    // the cells of the positions before it were asked for
	seen     place  // of these cells
	dist     [2]int // the latest two
	near     [1 << nearBits][nearSize]place
	far      [1 << farBits][farSize]place
}

// A match is one that might be taken.
type match struct {
	at, n, dist int
	price       int // the binary logarithm of the distance, or 0 for the latest
}

// gain tells how much m saves, in quarters of a byte.
func (m *match) gain() int { return 4*m.n - m.price }

// reset enters every second position of the last mebibyte before from. Of what is farther away it
// enters every fourth, and only for long matches: short ones do not pay there.
func (p *lazyParser) reset(b *ring, start, from int) {
	p.start, p.dist = start, [2]int{1, 1}
	clear(p.near[:])
	clear(p.far[:])
	near := max(start, from-1<<20)
	for i := start; i < near; i += 4 {
		x := hash8(load64(b, i))
		p.insertFar(x, placeOf(x, i))
	}
	for i := near; i < from; i += 2 {
		p.insertOne(b, i)
	}
	p.inserted, p.awaited = from, from
}

func (p *lazyParser) insertFar(x uint64, c place) {
	t := &p.far[x>>(64-farBits)]
	t[1], t[0] = t[0], c
}

func (p *lazyParser) insertNear(x uint64, c place) {
	t := &p.near[x>>(64-nearBits)]
	t[3], t[2], t[1], t[0] = t[2], t[1], t[0], c
}

func (p *lazyParser) insertOne(b *ring, i int) {
	v := load64(b, i)
	x := hash8(v)
	p.insertFar(x, placeOf(x, i))
	x = hash5(v)
	p.insertNear(x, placeOf(x, i))
}

func (p *lazyParser) parse(b *ring, from, to int, q *sequences) {
	anchor := from // the bytes from anchor to s are literals not yet added
	s := max(from, p.start+1)
	end := to - 16 // a match that begins before it is not cut to fewer than four bytes
	for s < end {
		m, ok := p.first(b, s, to)
		if !ok { // the longer nothing was found, the fewer positions are tried
			s += 1 + (s-anchor)>>8
			continue
		}

		p.better(b, s, end, to, &m)
		s = m.at
		if m.price > 0 {
			s = extend(b, s, m.dist, anchor, p.start)
		}
		if m.dist != p.dist[0] {
			p.dist = [2]int{m.dist, p.dist[0]}
		}

		q.addLiterals(b, anchor, s)
		q.addMatch(s-anchor, m.n+m.at-s, m.dist)
		s = m.at + m.n
		anchor = s

		// Right behind a match, the distance before the latest costs next to nothing.
		for s < end {
			n := p.repeated(b, s, p.dist[1], to)
			if n == 0 {
				break
			}
			p.dist[0], p.dist[1] = p.dist[1], p.dist[0]
			q.addMatch(0, n, p.dist[0])
			s += n
			anchor = s
		}
	}

	q.addLiterals(b, anchor, to)
}

// first returns a match at s, or at s+1 with the latest distance, or false.
func (p *lazyParser) first(b *ring, s, to int) (match, bool) {
	n := p.repeated(b, s+1, p.dist[0], to)
	if m, ok := p.search(b, s, max(n, 4), to); ok {
		return m, true
	}
	return match{at: s + 1, n: n, dist: p.dist[0]}, n > 0
}

// better sets m to a better match than m at one of the positions behind s. For each position
// that is given up, it has to gain more.
func (p *lazyParser) better(b *ring, s, end, to int, m *match) {
	for i := 1; i <= lookout && m.n < niceLen && s+1 < end; i++ {
		s++
		if n := p.repeated(b, s, p.dist[0], to); n > 0 && 4*n > m.gain()+1 {
			*m = match{at: s, n: n, dist: p.dist[0]}
		}
		if next, ok := p.search(b, s, 4, to); ok && next.gain() > m.gain()+1+3*i {
			*m = next
			i = 0
		}
	}
}

// repeated returns how many bytes at s equal those d before, or 0 if it is not four.
func (p *lazyParser) repeated(b *ring, s, d, to int) int {
	if uint32(load64(b, s)) != uint32(load64(b, s-d)) {
		return 0
	}
	return matchLen(b, s, d, 4, to)
}

// await looks at the cells of the positions before to. The table is larger than a cache, and every
// position is entered; so the processor waits once for the memory of many cells, and not for
// each when it is needed.
func (p *lazyParser) await(b *ring, to int) {
	all := p.seen // a use of what is loaded
	for i := p.awaited; i < to; i++ {
		all |= p.far[hash8(load64(b, i))>>(64-farBits)][0]
	}
	p.seen, p.awaited = all, to
}

// search enters the positions up to s, and returns the longest match at s, which is over n bytes
// long, or false.
func (p *lazyParser) search(b *ring, s, n, to int) (match, bool) {
	if s >= p.awaited {
		p.await(b, min(s+ahead, to))
	}

	for ; p.inserted < s; p.inserted++ {
		p.insertOne(b, p.inserted)
	}

	p.inserted = max(p.inserted, s+1)
	v := load64(b, s)
	dist := 0

	// First those with eight equal bytes, which are likely to be the longest.
	x := hash8(v)
	c := placeOf(x, s)
	for _, e := range &p.far[x>>(64-farBits)] {
		d := c.since(e)
		if c.like(e) && possible(d, s, p.start) && load64(b, s-d) == v {
			if k := matchLen(b, s, d, 8, to); k > n {
				n, dist = k, d
			}
		}
	}

	p.insertFar(x, c)

	// A short match must be longer, or as long and nearer.
	x = hash5(v)
	c = placeOf(x, s)
	for _, e := range &p.near[x>>(64-nearBits)] {
		d := c.since(e)
		if !c.like(e) || !possible(d, s, p.start) {
			continue
		}
		diff := load64(b, s-d) ^ v
		if uint32(diff) != 0 {
			continue
		}
		if k := lengthFrom(b, diff, s, d, to); k > n || k == n && d < dist {
			n, dist = k, d
		}
	}

	p.insertNear(x, c)
	return match{s, n, dist, bits.Len32(uint32(dist))}, dist > 0
}
