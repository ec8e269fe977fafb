package recipe

import (
	"encoding/binary"

	"ocikit/tarutil/internal/deflate"
)

// klauspostMatcher finds the matches of the fast levels of the encoder of klauspost/compress,
// which pgzip uses, and which Go has taken over in 1.27: hash tables of the latest place, or the
// latest two, of four, five and seven bytes. It works on blocks of 65535 bytes.
type klauspostMatcher struct {
	level int

	data   []byte
	end    int
	unit   int
	oldest int                       // no place before it is found
	block  int                       // where the current block ends
	pos    int                       // where the search goes on
	emit   int                       // what is before it is in tokens
	repeat int                       // level 6: the distance of the last match
	short  [1 << klauspostBits]int32 // place+1
	long   [1 << klauspostBits][2]int32
	wide   []int32 // levels 2 and 3: of five bytes, by more bits

	took           bool // a match of n bytes that ends at pos was returned, and is not in the tables
	n, nextS       int
	rest, restDist int // of a match that is too long for one token
	restAt         int
	known          [8]measured
}

const (
	klauspostBits   = 15
	klauspostMargin = 11
)

func (m *klauspostMatcher) begin(data []byte, history, start, end, unit int) {
	m.data, m.end, m.unit, m.oldest = data, end, unit, history
	clear(m.short[:])
	clear(m.long[:])
	if clear(m.wide); m.wide == nil && (m.level == 2 || m.level == 3) {
		m.wide = make([]int32, 1<<wideBits)
	}
	clear(m.known[:])

	// The dictionary is compressed, and what comes of it is thrown away.
	if history < start {
		m.restart(history)
		m.block = start
		for {
			if _, n, _ := m.search(); n == 0 {
				break
			}
		}
	}

	m.restart(start)
}

// restart begins at a place as at the begin of a block.
func (m *klauspostMatcher) restart(pos int) {
	m.pos, m.emit, m.took, m.rest, m.repeat = pos, pos, false, 0, 1
	m.block = min(m.end, pos+fastBlock-(pos-m.unit)%fastBlock)
}

func (m *klauspostMatcher) load(i int) uint64 {
	return binary.LittleEndian.Uint64(m.data[i : i+8 : len(m.data)])
}

func (m *klauspostMatcher) load32(i int) uint32 {
	return binary.LittleEndian.Uint32(m.data[i : i+4 : len(m.data)])
}

func hash4(v uint64) uint32 { return uint32(v) * 2654435761 >> (32 - klauspostBits) }
func hash5(v uint64) uint32 { return uint32(v << 24 * 889523592379 >> (64 - klauspostBits)) }
func hash7(v uint64) uint32 { return uint32(v << 8 * 58295818150454627 >> (64 - klauspostBits)) }

func (m *klauspostMatcher) next(pos int) (at, n, dist int) {
	if m.rest > 0 {
		return m.piece(m.restAt, m.rest, m.restDist)
	}
	for pos < m.end {
		if pos >= m.block || m.emit < pos {
			m.restart(pos)
		}
		if at, n, dist := m.search(); n > 0 {
			return m.piece(at, n, dist)
		}
		m.took = false
		pos = m.block
	}
	return m.end, 0, 0
}

// piece cuts a match to what a token may hold; what is left must not be shorter than that.
func (m *klauspostMatcher) piece(at, n, dist int) (int, int, int) {
	k := n
	if k > maxMatch {
		if k = maxMatch; n <= maxMatch+minMatch {
			k = maxMatch - minMatch
		}
	}
	m.rest, m.restAt, m.restDist = n-k, at+k, dist
	return at, k, dist
}

// follow goes on behind a match as the encoder does, though not all that it entered before is
// known.
func (m *klauspostMatcher) follow(pos, n int, isMatch bool) {
	m.restart(pos + n)
	if isMatch && pos+n < m.block {
		m.took, m.n, m.nextS = true, n, pos
	}
}

// search returns the next match of the block, of any length.
func (m *klauspostMatcher) search() (at, n, dist int) {
	if !m.took && m.block-m.pos < klauspostMargin+2 && m.pos == m.emit {
		return m.block, 0, 0
	}
	switch m.level {
	case 1:
		return m.search1()
	case 2:
		return m.search2()
	case 3:
		return m.search3()
	case 4:
		return m.search4()
	case 5:
		return m.search5()
	}
	return m.search6()
}

// found notes a match from s on with the bytes from t on, and returns it.
func (m *klauspostMatcher) found(s, t, l, nextS int) (at, n, dist int) {
	m.took, m.n, m.nextS = true, l, nextS
	m.pos, m.emit = s+l, s+l
	if nextS >= m.pos {
		m.pos = nextS + 1
	}
	m.repeat = s - t
	return s, l, s - t
}

// back makes a match begin earlier.
func (m *klauspostMatcher) back(s, t, l int) (int, int, int) {
	for t > m.oldest && s > m.emit && m.data[t-1] == m.data[s-1] {
		s--
		t--
		l++
	}
	return s, t, l
}

// near reports whether the place t is near enough before s, and has the same four bytes. After a
// wrong prediction the tables hold places that are still ahead.
func (m *klauspostMatcher) near(s, t int, v uint64) bool {
	return t >= m.oldest && t < s && s-t < windowSize && uint32(v) == m.load32(t)
}

// matchLong returns the length of a match up to the end of the block. Where another encoder took
// shorter ones, the same long match is asked for again at each of its bytes, so it is kept.
func (m *klauspostMatcher) matchLong(s, t int) int {
	k := &m.known[uint(s-t)%uint(len(m.known))]
	if k.dist == s-t && k.from <= s && s <= k.to && k.block == m.block {
		return k.to - s
	}
	n := matchLength(m.data, t, s, m.block-s)
	if n > maxMatch {
		*k = measured{s - t, s, s + n, m.block}
	}
	return n
}

// measured is a match whose bytes were compared.
type measured struct{ dist, from, to, block int }

// matchShort returns the length of a match whose first four bytes are known, up to what one
// token holds.
func (m *klauspostMatcher) matchShort(s, t int) int {
	return 4 + matchLength(m.data, t+4, s+4, min(maxMatch-4, m.block-s-4))
}

// put1 enters a place into the table of five bytes, and returns the one that was there.
func (m *klauspostMatcher) put1(i int, v uint64) int {
	e := &m.short[hash5(v)]
	was := int(*e) - 1
	*e = int32(i + 1)
	return was
}

// search1 is level 1 of Go 1.27. The order of its steps is that of the encoder, since each of
// them changes what the tables hold.
func (m *klauspostMatcher) search1() (at, n, dist int) {
	limit := m.block - klauspostMargin
	s := m.pos
	if m.took {
		m.took = false
		if s >= limit {
			if s+m.n+8 < m.block {
				m.put1(s, m.load(s))
			}
			return m.block, 0, 0
		}

		// Behind a match two places are entered, and the second is tried at once.
		x := m.load(s - 2)
		m.put1(s-2, x)
		x >>= 16
		t := m.put1(s, x)
		if t >= m.oldest && t < s && s-t <= windowSize && uint32(x) == m.load32(t) {
			return m.hit1(s, t, m.nextS)
		}
		s++
	}

	cv := m.load(s)
	for {
		h := hash5(cv)
		t := int(m.short[h]) - 1
		nextS := s + 2 + (s-m.emit)>>5
		if nextS > limit {
			return m.block, 0, 0
		}

		now := m.load(nextS)
		m.short[h] = int32(s + 1)
		if m.near(s, t, cv) {
			m.short[hash5(now)] = int32(nextS + 1)
			return m.hit1(s, t, nextS)
		}

		cv, s = now, nextS
		nextS++
		h = hash5(now)
		t = int(m.short[h]) - 1
		now >>= 8
		m.short[h] = int32(s + 1)
		if m.near(s, t, cv) {
			m.short[h] = int32(nextS + 1)
			return m.hit1(s, t, nextS)
		}

		cv, s = now, nextS
	}
}

// hit1 returns the match at s with four bytes at t, as long as it gets in both directions.
func (m *klauspostMatcher) hit1(s, t, nextS int) (at, n, dist int) {
	l := m.matchLong(s+4, t+4) + 4
	s, t, l = m.back(s, t, l)
	return m.found(s, t, l, nextS)
}

// putLong enters a place into the table of seven bytes.
func (m *klauspostMatcher) putLong(i int, v uint64) {
	e := &m.long[hash7(v)]
	e[0], e[1] = int32(i+1), e[0]
}

// putBoth enters a place into both tables.
func (m *klauspostMatcher) putBoth(i int, v uint64) {
	m.short[hash4(v)] = int32(i + 1)
	m.putLong(i, v)
}

// search5 is level 5, the default of pgzip.
func (m *klauspostMatcher) search5() (at, n, dist int) {
	limit := m.block - klauspostMargin
	if m.took {
		m.took = false
		if m.pos >= limit {
			return m.block, 0, 0
		}
		m.enter5()
	}

	s, t, l, nextS := m.find(6, limit)
	if nextS == 0 {
		return m.block, 0, 0
	}

	// A short match is compared with one found by the bytes behind its end.
	if end := s + l; l < 30 && end < limit {
		t2 := int(m.long[hash7(m.load(end))][0]) - 1 - l + 2
		s, t, l = m.earlier(s, t, l, t2)
	}

	s, t, l = m.back(s, t, l)
	return m.found(s, t, l, nextS)
}

// enter5 enters places inside a match.
func (m *klauspostMatcher) enter5() {
	s := m.pos
	if i := s - m.n + 1; i < s-1 {
		v := m.load(i)
		m.putBoth(i, v)
		m.putLong(i+1, v>>8)
		m.short[hash4(v>>16)] = int32(i + 2 + 1)
		for i += 4; i < s-1; i += 3 {
			v := m.load(i)
			m.putLong(i, v)
			m.short[hash4(v>>8)] = int32(i + 1 + 1)
		}
	}
	m.putBoth(s-1, m.load(s-1))
}

// earlier returns the match that was found by the bytes behind another one, if it is longer.
func (m *klauspostMatcher) earlier(s, t, l, t2 int) (int, int, int) {
	s2 := s + 2
	if off := s2 - t2; t2 >= m.oldest && off < windowSize && off > 0 {
		if l2 := m.matchLong(s2, t2); l2 > l {
			return s2, t2, l2
		}
	}
	return s, t, l
}

// find is what levels 5 and 6 have in common: the first place with a match, and the better of
// several. It returns a nextS of 0 at the end of the block.
func (m *klauspostMatcher) find(skip, limit int) (s, t, l, nextS int) {
	nextS = m.pos
	cv := m.load(nextS)
	for {
		s = nextS
		nextS = s + 1 + (s-m.emit)>>skip
		if nextS > limit {
			return 0, 0, 0, 0
		}

		// The tables are read before the place is entered into them.
		st := int(m.short[hash4(cv)]) - 1
		long := m.long[hash7(cv)]
		next := m.load(nextS)
		m.putBoth(s, cv)

		// A match of seven bytes comes before one of four. Of two, the longer is taken.
		t = int(long[0]) - 1
		if t < s && s-t < windowSize && t >= m.oldest {
			t2 := int(long[1]) - 1
			if uint32(cv) == m.load32(t) {
				m.putBoth(nextS, next)
				if m.near(s, t2, cv) {
					l = m.matchShort(s, t)
					if l2 := m.matchShort(s, t2); l2 > l {
						t, l = t2, l2
					}
				}
				break
			}
			if t = t2; m.near(s, t, cv) {
				m.putBoth(nextS, next)
				break
			}
		}

		// A match of four bytes is the last resort, and has to stand a comparison with the next
		// place.
		if t = st; m.near(s, t, cv) {
			l = m.matchShort(s, t)
			long = m.long[hash7(next)]
			m.putBoth(nextS, next)
			s, t, l = m.better(s, t, l, nextS, long, next, cv)
			break
		}

		cv = next
	}

	// Lengths compared so far end at what one token holds.
	if l == 0 {
		l = m.matchLong(s+4, t+4) + 4
	} else if l == maxMatch {
		l += m.matchLong(s+l, t+l)
	}

	return s, t, l, nextS
}

// better returns a longer match at the next place, or with the last distance.
func (m *klauspostMatcher) better(s, t, l, nextS int, long [2]int32, next, cv uint64) (int, int, int) {
	// Level 6 first tries the distance of the last match.
	if m.level == 6 {
		if t2 := s - m.repeat + 1; t2 >= m.oldest && m.load32(t2) == uint32(cv>>8) {
			if l2 := m.matchShort(s+1, t2); l2 > l {
				return s + 1, t2, l2
			}
		}
	}

	// Then the next place is tried, with the two places for its seven bytes.
	t2 := int(long[0]) - 1
	if nextS-t2 >= windowSize || t2 < m.oldest {
		return s, t, l
	}

	at := s
	if m.load32(t2) == uint32(next) {
		if l2 := m.matchShort(nextS, t2); l2 > l {
			at, t, l = nextS, t2, l2
			if m.level == 5 {
				return at, t, l
			}
		}
	}

	if t2 = int(long[1]) - 1; m.near(nextS, t2, next) {
		if l2 := m.matchShort(nextS, t2); l2 > l {
			at, t, l = nextS, t2, l2
		}
	}

	return at, t, l
}

// search6 is level 6, the default of Go 1.27.
func (m *klauspostMatcher) search6() (at, n, dist int) {
	limit := m.block - klauspostMargin
	if m.took {
		m.took = false
		if m.pos >= limit {
			for i := m.nextS + 1; i < m.block-8; i += 2 {
				m.putBoth(i, m.load(i))
			}
			return m.block, 0, 0
		}
		for i := m.nextS + 1; i < m.pos-1; i += 2 {
			v := m.load(i)
			m.putLong(i, v)
			m.putLong(i+1, v>>8)
			m.short[hash4(v)] = int32(i + 1)
		}
	}

	s, t, l, nextS := m.find(7, limit)
	if nextS == 0 {
		return m.block, 0, 0
	}

	// Both places that the bytes behind the match lead to may give a longer one.
	if end := s + l; end < limit {
		e := m.long[hash7(m.load(end))]
		s2, l0 := s, l
		if t2 := int(e[0]) - 1 - l0 + 2; s+2-t2 < windowSize {
			s2, t, l = m.earlier(s, t, l, t2)
			t2 = int(e[1]) - 1 - l + 2
			if off := s + 2 - t2; off > 0 && off < windowSize && t2 >= m.oldest {
				if l2 := m.matchLong(s+2, t2); l2 > l {
					s2, t, l = s+2, t2, l2
				}
			}
		}
		s = s2
	}

	s, t, l = m.back(s, t, l)
	return m.found(s, t, l, nextS)
}

const klauspostFixed = 250 // from so many tokens on, fixed codes are not considered

// klauspostCodes returns the codes of a block, or nil for fixed ones. They are made of its first
// 65535 bytes, and kept for more if that is cheaper.
func (k *codec) klauspostCodes(b *block) *head {
	if !k.hasFirst {
		k.first = k.freq
	}

	isDynamic := false
	for _, n := range k.first.Dist {
		isDynamic = isDynamic || n > 0
	}

	// The old encoder leaves room in the head for symbols that may still come.
	h, own := goHead(&k.first, k.namesAll() && k.hasFirst && isDynamic)
	if len(b.tokens) >= klauspostFixed {
		return h
	}

	// Short blocks are compared with fixed codes.
	if 3+k.freq.CodeBits(deflate.Fixed()) <= 3+h.size()+k.freq.CodeBits(own) {
		return nil
	}

	return h
}
