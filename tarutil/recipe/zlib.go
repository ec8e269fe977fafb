package recipe

import (
	"encoding/binary"
	"math/bits"
)

// zlibMatcher finds the matches of zlib and of GNU gzip, which have one algorithm: chains of
// the places with the same hash of three bytes, walked up to a depth, and from level 4 on a
// match waits for a longer one at the next byte.
type zlibMatcher struct {
	good, lazy, nice, depth int
	waits                   bool // from level 4 on

	data       []byte
	end        int
	nothing    int // this place is never found: zlib's index 0 means none
	inserted   int // places before it are in the chains
	chainFrom  int
	head       [1 << zlibHashBits]int32 // place+windowSize, so that 0 is too far from any
	prev       [windowSize]uint16       // how far before a place the one before it with its hash is; 0 if too far
	quads      *quads                   // from level 6 on, where chains are long
	pos        int                      // levels 4 to 9: the next place to look at
	prevLen    int                      // and the match before it, or 2
	prevDist   int
	waiting    bool
	tookAt     int // levels 1 to 3: a match that was returned, and not yet followed
	tookLength int
}

const (
	zlibHashBits = 15
	zlibFar      = windowSize - (maxMatch + minMatch + 1) // no match is farther
	zlibTooFar   = 4096                                   // a match of three bytes is not taken from farther
)

func newZlibMatcher(level int) *zlibMatcher {
	c := [10][4]int{
		1: {4, 4, 8, 4}, 2: {4, 5, 16, 8}, 3: {4, 6, 32, 32}, 4: {4, 4, 16, 16}, 5: {8, 16, 32, 32},
		6: {8, 16, 128, 128}, 7: {8, 32, 128, 256}, 8: {32, 128, 258, 1024}, 9: {32, 258, 258, 4096},
	}[level]
	z := &zlibMatcher{good: c[0], lazy: c[1], nice: c[2], depth: c[3], waits: level > 3}
	if level > 5 {
		z.quads = new(quads)
	}
	return z
}

func (z *zlibMatcher) begin(data []byte, history, start, end, unit int) {
	z.data, z.end = data, end
	z.nothing = unit

	// A place is looked up that was not entered, where tokens come that were not foretold behind some that
	// were. What is found of it must not depend on what was compressed before.
	clear(z.head[:])
	clear(z.prev[:])
	if z.quads != nil {
		*z.quads = quads{}
	}
	z.inserted, z.chainFrom = history, history
	z.insert(start)
	z.restart(start)
}

// restart begins at a place with no match kept back.
func (z *zlibMatcher) restart(pos int) {
	z.pos, z.prevLen, z.waiting, z.tookLength = pos, minMatch-1, false, 0
}

func (z *zlibMatcher) hash(i int) uint32 {
	d := z.data[i : i+3 : len(z.data)]
	return (uint32(d[0])<<10 ^ uint32(d[1])<<5 ^ uint32(d[2])) & (1<<zlibHashBits - 1)
}

// insert enters the places before to.
func (z *zlibMatcher) insert(to int) {
	to = min(to, z.end-minMatch+1)
	if z.quads != nil {
		z.insertQuads(min(to, z.end-3))
	}
	for i := z.inserted; i < to; i++ {
		z.prev[i&(windowSize-1)] = enter(&z.head[z.hash(i)], i)
	}
	z.inserted = max(z.inserted, to)
}

// enter makes a place the latest of a chain, and returns how far before it the one before was, or 0 if that is
// too far.
func enter(head *int32, i int) uint16 {
	back := i + windowSize - int(*head)
	*head = int32(i + windowSize)
	if back >= windowSize {
		return 0
	}
	return uint16(back)
}

// Quads are the places with the same four bytes. Most matches have four bytes and more, and these chains are
// much shorter than those of three, which zlib walks. It walks them up to a depth only, so each place has a
// number in its chain of three.
type quads struct {
	head   [1 << quadBits]int32 // as that of a zlibMatcher
	prev   [windowSize]uint16
	number [windowSize]uint16
}

const quadBits = 15

func quadHash(v uint32) uint32 { return v * 2654435761 >> (32 - quadBits) }

// insertQuads enters the places before to, which have four bytes each, in both chains.
func (z *zlibMatcher) insertQuads(to int) {
	q, d := z.quads, z.data
	for i := z.inserted; i < to; i++ {
		v := binary.LittleEndian.Uint32(d[i:])
		at := i & (windowSize - 1)
		back := enter(&z.head[(v&0xff<<10^v>>8&0xff<<5^v>>16&0xff)&(1<<zlibHashBits-1)], i)
		z.prev[at] = back
		q.number[at] = q.number[(i-int(back))&(windowSize-1)] + 1 // of the first in a chain it may be any
		q.prev[at] = enter(&q.head[quadHash(v)], i)
	}
	z.inserted = max(z.inserted, to)
}

// find returns the longest match at i that is longer than best, or a length of 2.
func (z *zlibMatcher) find(i, best int) (n, dist int) {
	if i+minMatch > z.end {
		return minMatch - 1, 0
	}
	if i >= z.inserted {
		z.insert(i + 1)
	}

	// Where many places behind this one are entered already, what stands here is of one of them, and may
	// lead out of the data.
	back := int(z.prev[i&(windowSize-1)])
	longest := min(z.end-i, maxMatch)
	if back == 0 || i-back == z.nothing || back > min(zlibFar, i) || best >= longest {
		return minMatch - 1, 0
	}

	// With a good match already, a better one is looked for at a quarter of the places.
	depth := z.depth
	if best >= z.good {
		depth >>= 2
	}

	if z.quads == nil {
		return z.walk(i, best, depth)
	}
	if n, dist := z.findQuad(i, best, depth); dist > 0 || best >= minMatch {
		return n, dist
	}
	return z.findThree(i, depth)
}

// findQuad is find for matches of four bytes and more: the same as if the chain of three were walked up to a
// depth, since it is known which places that would come to.
func (z *zlibMatcher) findQuad(i, best, depth int) (n, dist int) {
	if i+4 > z.end {
		return minMatch - 1, 0
	}

	// The walk ends at the place that is never found, too.
	oldest := max(i-zlibFar, -1)
	if z.nothing > oldest && z.nothing >= z.chainFrom && z.nothing < i && z.hash(z.nothing) == z.hash(i) {
		oldest = z.nothing
	}

	least := best
	best = max(best, minMatch)
	d, q := z.data, z.quads
	longest := min(z.end-i, maxMatch)
	nice := min(z.nice, longest)
	first := binary.LittleEndian.Uint32(d[i:])
	ends := binary.LittleEndian.Uint32(d[i+best-3:])
	hopeless := !q.has(ends, oldest+best-3)

	// A candidate is compared in full only if its first four bytes, and those at the end of the best match
	// so far, are right. It must be longer than the best, so the first of equals stays, which is the nearest.
	at, number := i, q.number[i&(windowSize-1)]
	for steps := 1; ; steps++ {
		back := int(q.prev[at&(windowSize-1)])
		if at -= back; back == 0 || at <= oldest && (at < max(i-zlibFar, 0) || at == z.nothing || number-q.number[at&(windowSize-1)] != 1) {
			break
		}
		if hopeless && i-at >= best-3 { // the end of a nearer one is not entered yet
			break
		}
		if steps > 2*depth { // others with the same hash, as nobody makes them by accident
			return z.walk(i, least, depth)
		}

		isLonger := binary.LittleEndian.Uint32(d[at+best-3:]) == ends
		if !isLonger && steps%16 > 0 || binary.LittleEndian.Uint32(d[at:]) != first {
			continue
		}
		if int(number-q.number[at&(windowSize-1)]) > depth {
			break
		}
		if !isLonger {
			continue
		}

		if k := matchLength(d, at, i, longest); k > best {
			best, dist = k, i-at
			if k >= nice {
				break
			}
			ends = binary.LittleEndian.Uint32(d[i+best-3:])
			hopeless = !q.has(ends, oldest+best-3)
		}
	}

	if dist == 0 {
		return minMatch - 1, 0
	}
	return best, dist
}

// has reports whether four bytes may be at a place from oldest on.
func (q *quads) has(v uint32, oldest int) bool {
	return int(q.head[quadHash(v)])-windowSize >= oldest
}

// findThree returns the nearest match of three bytes, where there is none of more, unless it is too far to be
// taken.
func (z *zlibMatcher) findThree(i, depth int) (n, dist int) {
	d := z.data
	oldest := max(i-zlibTooFar-1, -1)
	for at := i; depth > 0; depth-- {
		back := int(z.prev[at&(windowSize-1)])
		at -= back
		if back == 0 || at <= oldest || at == z.nothing {
			break
		}
		if d[at] == d[i] && d[at+1] == d[i+1] && d[at+2] == d[i+2] {
			return minMatch, i - at
		}
	}
	return minMatch - 1, 0
}

// walk is find by the chain of three.
func (z *zlibMatcher) walk(i, best, depth int) (n, dist int) {
	at := i - int(z.prev[i&(windowSize-1)])
	longest := min(z.end-i, maxMatch)
	nice := min(z.nice, longest)

	// The first two bytes are compared, and the last two.
	d, prev, nothing, oldest := z.data, &z.prev, z.nothing, max(i-zlibFar, -1)
	first := binary.LittleEndian.Uint16(d[i:])
	ends := binary.LittleEndian.Uint16(d[i+best-1:])
	for {
		if binary.LittleEndian.Uint16(d[at+best-1:]) == ends && binary.LittleEndian.Uint16(d[at:]) == first {
			if k := matchLength(d, at, i, longest); k > best {
				best, dist = k, i-at
				if k >= nice {
					break
				}
				ends = binary.LittleEndian.Uint16(d[i+best-1:])
			}
		}

		back := int(prev[at&(windowSize-1)])
		at -= back
		if depth--; depth == 0 || back == 0 || at <= oldest || at == nothing {
			break
		}
	}

	if dist == 0 {
		return minMatch - 1, 0
	}

	return best, dist
}

// matchLength compares the bytes at i with those at the earlier place at, and returns how many are
// equal. It compares at most limit bytes, which must not lead behind the data.
func matchLength(d []byte, at, i, limit int) int {
	n := 0
	for n+8 <= limit {
		if x := binary.LittleEndian.Uint64(d[at+n:]) ^ binary.LittleEndian.Uint64(d[i+n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	for n < limit && d[at+n] == d[i+n] {
		n++
	}
	return n
}

// next implements matcher. From level 4 on a match is kept back until the next place was
// searched, and taken if that one is not longer (deflate_slow in zlib).
func (z *zlibMatcher) next(pos int) (at, n, dist int) {
	if !z.waits {
		return z.nextFast(pos)
	}

	if z.pos < pos {
		z.restart(pos)
	}

	for z.pos < z.end {
		i, n, dist := z.pos, minMatch-1, 0
		if z.prevLen < z.lazy {
			n, dist = z.find(i, z.prevLen)
			if n == minMatch && dist > zlibTooFar {
				n = minMatch - 1
			}
		} else {
			z.insert(i + 1)
		}

		if z.prevLen >= minMatch && n <= z.prevLen {
			at, n, dist = i-1, z.prevLen, z.prevDist
			z.restart(at + n)
			z.insert(at + n)
			return at, n, dist
		}

		z.prevLen, z.prevDist = n, dist
		z.pos++
	}

	return z.end, 0, 0
}

// nextFast takes each match at once, and does not enter the places inside long ones.
func (z *zlibMatcher) nextFast(pos int) (at, n, dist int) {
	if z.tookLength > 0 {
		z.enter(z.tookAt, z.tookLength)
	}
	for i := max(pos, z.pos); i < z.end; i++ {
		if n, dist := z.find(i, minMatch-1); n >= minMatch {
			z.pos, z.tookAt, z.tookLength = i, i, n
			return i, n, dist
		}
	}
	return z.end, 0, 0
}

// enter goes on behind a match of levels 1 to 3.
func (z *zlibMatcher) enter(at, n int) {
	z.pos, z.tookLength = at+n, 0
	if n <= z.lazy {
		z.insert(at + n)
	} else {
		z.insert(at + 1)
		z.inserted = max(z.inserted, at+n)
	}
}

func (z *zlibMatcher) follow(pos, n int, isMatch bool) {
	switch {
	case z.waits:
		z.restart(pos + n)
	case isMatch:
		z.enter(pos, n)
	default:
		z.restart(pos + n)
		z.insert(pos + n)
	}
}
