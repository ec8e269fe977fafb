package recipe

import (
	"encoding/binary"
	"math/bits"

	"ocikit/tarutil/internal/deflate"
)

// goMatcher finds the matches of levels 2 to 9 of compress/flate, up to Go 1.26. It is much
// like zlib, with hashes of four bytes and no match of three, and what is nearest wins.
type goMatcher struct {
	good, lazy, nice, depth, skip int
	waits                         bool

	data     []byte
	end      int
	unit     int
	inserted int
	head     [1 << goHashBits]int32 // place+1
	prev     [windowSize]int32
	pos      int
	prevLen  int
	prevDist int
	took     int // levels 2 and 3: the length of a match that was returned at pos
}

const (
	goHashBits = 17
	goMinMatch = 4
	goLook     = goMinMatch + maxMatch // so much is read ahead
)

func newGoMatcher(level int) *goMatcher {
	c := [10][5]int{
		2: {4, 0, 16, 8, 5}, 3: {4, 0, 32, 32, 6}, 4: {4, 4, 16, 16}, 5: {8, 16, 32, 32},
		6: {8, 16, 128, 128}, 7: {8, 32, 128, 256}, 8: {32, 128, 258, 1024}, 9: {32, 258, 258, 4096},
	}[level]
	return &goMatcher{good: c[0], lazy: c[1], nice: c[2], depth: c[3], skip: c[4], waits: level > 3}
}

func (g *goMatcher) begin(data []byte, history, start, end, unit int) {
	g.data, g.end, g.unit = data, end, unit
	clear(g.head[:])
	clear(g.prev[:]) // as those of zlibMatcher
	g.inserted = history
	g.insert(start)
	g.restart(start)
}

func (g *goMatcher) restart(pos int) { g.pos, g.prevLen, g.took = pos, goMinMatch-1, 0 }

// insert enters the places before to. A place needs four bytes behind it, so the last ones of the
// data are never entered.
func (g *goMatcher) insert(to int) {
	to = min(to, g.end-goMinMatch+1)
	d := g.data
	for i := g.inserted; i < to; i++ {
		head := &g.head[goHash(d, i)]
		g.prev[i&(windowSize-1)] = *head
		*head = int32(i + 1)
	}
	g.inserted = max(g.inserted, to)
}

func goHash(d []byte, i int) uint32 {
	return binary.BigEndian.Uint32(d[i:]) * 0x1e35a7bd >> (32 - goHashBits)
}

// oldest returns the first place that may be found at i. The encoder holds two windows, and
// drops the first when it has read up to what it looks ahead.
func (g *goMatcher) oldest(i int) int {
	n := i - g.unit
	if n <= 2*windowSize-goLook {
		return max(g.unit, i-windowSize)
	}
	dropped := (n - (2*windowSize - goLook) - 1) / windowSize * windowSize
	return max(g.unit+dropped+windowSize, i-windowSize)
}

func (g *goMatcher) find(i int) (n, dist int) {
	if i+goMinMatch > g.end {
		return goMinMatch - 1, 0
	}

	g.insert(i + 1)
	oldest := max(0, g.oldest(i))
	at := int(g.prev[i&(windowSize-1)]) - 1
	if at < oldest || at >= i { // it was overwritten by a place behind this one
		return goMinMatch - 1, 0
	}

	longest := min(g.end-i, maxMatch)
	nice := min(g.nice, longest)
	depth, best := g.depth, goMinMatch-1
	if best >= g.good {
		depth >>= 2
	}

	// A match of four bytes is taken from at most 4096 bytes back, as farther ones cost more than
	// they save.
	d := g.data
	for ; depth > 0; depth-- {
		if d[at+best] == d[i+best] {
			if k := matchLength(d, at, i, longest); k > best && (k > goMinMatch || i-at <= 4096) {
				best, dist = k, i-at
				if k >= nice || k >= longest {
					break
				}

				// A longer match has these four bytes at its end too. They were entered, like all places up to
				// this one, but for those of a near match.
				if end := best - 3; g.waits && dist >= end && int(g.head[goHash(d, i+end)])-1 < oldest+end {
					break
				}
			}
		}

		// The chains are rings of one window: a place that is not older than the one before it
		// was overwritten.
		if at == i-windowSize {
			break
		}
		next := int(g.prev[at&(windowSize-1)]) - 1
		if next < oldest || next >= at {
			break
		}
		at = next
	}

	if dist == 0 {
		return goMinMatch - 1, 0
	}

	return best, dist
}

// next implements matcher. Lazy levels keep a match back until the next place was searched, and
// take it if that one is not longer.
func (g *goMatcher) next(pos int) (at, n, dist int) {
	if !g.waits {
		return g.nextFast(pos)
	}

	if g.pos < pos {
		g.restart(pos)
	}

	for g.pos < g.end {
		i, n, dist := g.pos, goMinMatch-1, 0
		if g.prevLen < g.lazy && g.end-i > g.prevLen {
			n, dist = g.find(i)
		} else {
			g.insert(i + 1)
		}

		if g.prevLen >= goMinMatch && n <= g.prevLen {
			at, n, dist = i-1, g.prevLen, g.prevDist
			g.restart(at + n)
			g.insert(at + n)
			return at, n, dist
		}

		g.prevLen, g.prevDist = n, dist
		g.pos++
	}

	return g.end, 0, 0
}

// nextFast is next for levels 2 and 3, which take each match at once.
func (g *goMatcher) nextFast(pos int) (at, n, dist int) {
	if g.took > 0 {
		g.enter(g.pos, g.took)
	}
	for i := max(pos, g.pos); i < g.end; i++ {
		if n, dist := g.find(i); n >= goMinMatch {
			g.pos, g.took = i, n
			return i, n, dist
		}
	}
	return g.end, 0, 0
}

// enter goes on behind a match of levels 2 and 3: the places in a long one are not found later.
func (g *goMatcher) enter(at, n int) {
	g.insert(at + 1)
	if n <= g.skip {
		g.insert(at + n)
	}
	g.inserted = max(g.inserted, at+n)
	g.restart(at + n)
}

func (g *goMatcher) follow(pos, n int, isMatch bool) {
	if !g.waits && isMatch {
		g.enter(pos, n)
		return
	}
	if !g.waits {
		g.insert(pos + n)
	}
	g.restart(pos + n)
}

// goFast finds the matches of level 1 of compress/flate, up to Go 1.26: one table, whose
// entries hold four bytes and where they stood, asked less and less often while it finds
// nothing. It works on blocks of 65535 bytes.
type goFast struct {
	data  []byte
	end   int
	unit  int
	block int // where the current block ends
	table [1 << goFastBits]struct {
		val uint32
		at  int32 // place+1
	}
	pos   int  // where the search goes on
	after bool // it stands behind a match
}

const (
	goFastBits   = 14
	goFastMargin = 15
)

func goFastHash(v uint32) uint32 { return v * 0x1e35a7bd >> (32 - goFastBits) }

func (g *goFast) begin(data []byte, _, start, end, unit int) {
	g.data, g.end, g.unit = data, end, unit
	clear(g.table[:])
	g.restart(start)
}

// restart begins at a place as at the begin of a block.
func (g *goFast) restart(pos int) {
	g.pos, g.after = pos, false
	g.block = min(g.end, pos+fastBlock-(pos-g.unit)%fastBlock)
}

func (g *goFast) load(i int) uint32 {
	b := g.data[i : i+4 : len(g.data)]
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// enter puts a place into the table and returns the one that was there.
func (g *goFast) enter(i int, v uint32) (at int, val uint32) {
	e := &g.table[goFastHash(v)]
	at, val = int(e.at)-1, e.val
	e.val, e.at = v, int32(i+1)
	return at, val
}

func (g *goFast) next(pos int) (at, n, dist int) {
	for pos < g.end {
		if pos >= g.block || g.pos < pos {
			g.restart(pos)
		}
		if at, n, dist := g.search(); n > 0 {
			return at, n, dist
		}
		pos = g.block
	}
	return g.end, 0, 0
}

// search looks for a match up to the end of the block. It follows encode and its labels in
// compress/flate/deflatefast.go, so that a place is entered, or not, as it is there.
func (g *goFast) search() (at, n, dist int) {
	limit := g.block - goFastMargin
	s := g.pos
	if g.after {
		g.after = false
		if s >= limit {
			g.pos = g.block
			return g.block, 0, 0
		}

		// Behind a match the last byte of it is entered, and the next place is tried at once.
		g.enter(s-1, g.load(s-1))
		v := g.load(s)
		if c, val := g.enter(s, v); c >= 0 && c < s && val == v && s-c <= windowSize {
			return g.extend(s, c)
		}
		s++
	} else if g.block-s < goFastMargin+2 {
		g.pos = g.block
		return g.block, 0, 0
	}

	// The longer nothing is found, the larger the steps: a byte more after 32 of each size.
	for skip := 32; ; {
		step := skip >> 5
		skip += step
		if s+step > limit {
			g.pos = g.block
			return g.block, 0, 0
		}
		v := g.load(s)
		if c, val := g.enter(s, v); c >= 0 && c < s && val == v && s-c <= windowSize {
			return g.extend(s, c)
		}
		s += step
	}
}

// extend returns the match at s with four bytes at c.
func (g *goFast) extend(s, c int) (at, n, dist int) {
	n = 4 + matchLength(g.data, c+4, s+4, min(maxMatch-4, g.block-s-4))
	g.pos, g.after = s+n, true
	return s, n, s - c
}

func (g *goFast) follow(pos, n int, isMatch bool) {
	g.restart(pos + n)
	g.after = isMatch
}

// goLengths returns the lengths of an optimal prefix code, none above limit. Where two codes
// are equally good, a pair of the level below comes before a leaf of the same frequency.
func goLengths(freq []uint32, limit int, lengths []uint8) {
	var leaves [litLenSyms]uint64 // frequency<<16 | symbol
	n := 0
	for sym, f := range freq {
		lengths[sym] = 0
		if f > 0 {
			leaves[n] = uint64(f)<<16 | uint64(sym)
			n++
		}
	}

	if n <= 2 {
		for _, l := range leaves[:n] {
			lengths[l&0xffff] = 1
		}
		return
	}

	sortLeaves(leaves[:n])
	counts := packageMerge(leaves[:n], min(limit, n-1))

	// The most frequent symbols get the shortest codes.
	for length, end := 1, n; length < len(counts); length++ {
		for range counts[length] {
			end--
			lengths[leaves[end]&0xffff] = uint8(length)
		}
	}
}

// sortLeaves sorts by frequency, and by symbol among equals.
func sortLeaves(a []uint64) {
	var most uint64
	for _, v := range a {
		most |= v
	}

	// It is a radix sort on the used bytes of the frequency and, in the low 16 bits, of the
	// symbol.
	var other [litLenSyms]uint64
	src, dst := a, other[:len(a)]
	for shift := 0; shift < bits.Len64(most); shift += 8 {
		if shift == 8 && most>>8&0xff == 0 {
			continue
		}
		var at [257]int
		for _, v := range src {
			at[v>>shift&0xff+1]++
		}
		for i := range 256 {
			at[i+1] += at[i]
		}
		for _, v := range src {
			dst[at[v>>shift&0xff]] = v
			at[v>>shift&0xff]++
		}
		src, dst = dst, src
	}

	if &src[0] != &a[0] {
		copy(a, src)
	}
}

// packageMerge returns how many codes of each length there are in an optimal code with no length
// above limit. It is the algorithm of Larmore and Hirschberg, with the ties of compress/flate.
func packageMerge(leaves []uint64, limit int) []int {
	n := len(leaves)

	// Each level is the leaves merged with the pairs of the level below; isLeaf says which.
	var isLeaf [16][2 * litLenSyms]bool
	var below, level [2 * litLenSyms]uint64
	size := 0
	for l := 1; l <= limit; l++ {
		pairs := size / 2
		leaf, pair, k := 0, 0, 0
		for leaf < n || pair < pairs {
			fromLeaf := pair == pairs
			if !fromLeaf && leaf < n {
				fromLeaf = leaves[leaf]>>16 < below[2*pair]+below[2*pair+1]
			}

			if fromLeaf {
				level[k] = leaves[leaf] >> 16
				leaf++
			} else {
				level[k] = below[2*pair] + below[2*pair+1]
				pair++
			}
			isLeaf[l][k] = fromLeaf
			k++
		}

		size = k
		below = level
	}

	// 2n-2 of the top level are taken, and of each level below the pairs that those hold.
	counts := make([]int, limit+1)
	need := 2*n - 2
	var active [17]int
	for l := limit; l >= 1; l-- {
		for _, leaf := range isLeaf[l][:need] {
			if leaf {
				active[l]++
			}
		}
		need = 2 * (need - active[l])
	}

	// active[l] symbols are at least limit+1-l deep.
	for l := limit; l >= 1; l-- {
		counts[limit+1-l] = active[l] - active[l-1]
	}

	return counts
}

// goHead returns the codes that compress/flate gives a block; with all, also lengths of 0 at the
// end.
func goHead(f *frequencies, all bool) (*head, *deflate.Lengths) {
	own := new(deflate.Lengths)
	h := &head{lit: litLenSyms, dist: distSyms}
	for !all && f.Lit[h.lit-1] == 0 {
		h.lit--
	}

	for !all && h.dist > 0 && f.Dist[h.dist-1] == 0 {
		h.dist--
	}

	goLengths(f.Lit[:], 15, own.Lit[:litLenSyms])

	// A head has at least one distance code, used or not.
	if h.dist == 0 {
		h.dist, own.Dist[0] = 1, 1
	} else {
		goLengths(f.Dist[:], 15, own.Dist[:distSyms])
	}

	// Unlike in zlib, a run may go on from the one code to the other.
	h.runs = deflate.AppendRuns(nil, append(append([]uint8(nil), own.Lit[:h.lit]...), own.Dist[:h.dist]...))
	var freq [lengthSyms]uint32
	for _, r := range h.runs {
		freq[r&0xff]++
	}

	goLengths(freq[:], 7, h.length[:])
	h.trim()
	return h, own
}

// goCodes returns the codes of a block of size bytes, or nil for fixed ones.
func goCodes(f *frequencies, level, size int) *head {
	// Level 1 never considers fixed codes.
	h, own := goHead(f, false)
	if level == 1 {
		return h
	}

	// Extra bits count only if the block could be stored.
	extra := 0
	if size <= fastBlock {
		extra = f.ExtraBits()
	}

	ownBits := 3 + h.size() + f.CodeBits(own) + extra
	if ownBits < 3+f.CodeBits(deflate.Fixed())+extra {
		return h
	}

	return nil
}
