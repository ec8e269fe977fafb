package recipe

// Levels 2, 3 and 4 of klauspost/compress, which pgzip has too. In each the order of the steps is that of the encoder, since
// each of them changes what the tables hold.

const wideBits = 17

// hashWide is the hash of five bytes for a table of 1<<bits places.
func hashWide(v uint64, bits int) uint32 {
	return uint32(v << 24 * 889523592379 >> (64 - bits))
}

// put2 enters a place into the table of level 2, and returns the one that was there.
func (m *klauspostMatcher) put2(i int, v uint64) int {
	e := &m.wide[hashWide(v, wideBits)]
	was := int(*e) - 1
	*e = int32(i + 1)
	return was
}

// search2 is level 2: one table of five bytes, as level 1, with some places inside of matches.
func (m *klauspostMatcher) search2() (at, n, dist int) {
	limit := m.block - klauspostMargin
	s := m.pos
	if m.took {
		m.took = false
		if s >= limit {
			if s+m.n+8 < m.block {
				m.put2(s, m.load(s))
			}
			return m.block, 0, 0
		}

		for i := s - m.n + 2; i < s-5; i += 7 {
			x := m.load(i)
			m.put2(i, x)
			m.put2(i+2, x>>16)
			m.put2(i+4, x>>32)
		}

		// The place behind the match is tried at once.
		x := m.load(s - 2)
		m.put2(s-2, x)
		m.put2(s-1, x>>8)
		x >>= 16
		t := m.put2(s, x)
		if t >= m.oldest && t < s && s-t <= windowSize && uint32(x) == m.load32(t) {
			return m.hit1(s, t, m.nextS)
		}
		s++
	}

	// Two places are tried in each round, of which the second is next to the first of the next round.
	nextS, cv := s, m.load(s)
	for {
		s = nextS
		nextS = s + 2 + (s-m.emit)>>5
		if nextS > limit {
			return m.block, 0, 0
		}

		now := m.load(nextS)
		t := m.put2(s, cv)
		if m.near(s, t, cv) {
			m.put2(nextS, now)
			return m.hit1(s, t, nextS)
		}

		cv, s = now, nextS
		nextS++
		t = m.put2(s, cv)
		if m.near(s, t, cv) {
			return m.hit1(s, t, nextS)
		}

		cv = now >> 8
	}
}

// put3 enters a place into the table of level 3, and returns the two that were there.
func (m *klauspostMatcher) put3(i int, v uint64) (latest, before int) {
	e := m.wide[hashWide(v, wideBits-1)<<1:][:2]
	latest, before = int(e[0])-1, int(e[1])-1
	e[0], e[1] = int32(i+1), e[0]
	return latest, before
}

// search3 is level 3: the latest two places of five bytes.
func (m *klauspostMatcher) search3() (at, n, dist int) {
	const reach = windowSize - 4 // how far back a place may be, or less where it must be nearer
	limit := m.block - klauspostMargin
	s := m.pos
	if m.took {
		m.took = false
		if s >= limit {
			if t := m.emit - m.repeat; t+8 < m.block && t > m.oldest {
				m.put3(t, m.load(t))
			}
			return m.block, 0, 0
		}

		for i := s - m.n + 2; i < s-5; i += 6 {
			m.put3(i, m.load(i))
		}

		x := m.load(s - 2)
		m.put3(s-2, x)
		m.put3(s-1, x>>8)
		x >>= 16
		latest, before := m.put3(s, x)
		if m.within(s, latest, reach-1) {
			for _, t := range []int{latest, before} {
				if m.within(s, t, reach-1) && uint32(x) == m.load32(t) {
					return m.hit1(s, t, m.nextS)
				}
			}
		}
		s++
	}

	nextS, cv := s, m.load(s)
	for {
		s = nextS
		nextS = s + 1 + (s-m.emit)>>7
		if nextS > limit {
			return m.block, 0, 0
		}

		now := m.load(nextS)
		t, before := m.put3(s, cv)
		switch {
		case !m.within(s, t, reach): // then the one before it is farther
		case uint32(cv) == m.load32(t):
			if m.within(s, before, reach) && uint32(cv) == m.load32(before) && m.matchLong(s+4, before+4) > m.matchLong(s+4, t+4) {
				t = before
			}
			return m.hit1(s, t, nextS)
		case m.within(s, before, reach-1) && uint32(cv) == m.load32(before):
			return m.hit1(s, before, nextS)
		}

		cv = now
	}
}

// within reports whether the place t is before s, by reach bytes at most.
func (m *klauspostMatcher) within(s, t, reach int) bool {
	return t >= m.oldest && t < s && s-t <= reach
}

// search4 is level 4: one place of four bytes, and one of seven.
func (m *klauspostMatcher) search4() (at, n, dist int) {
	limit := m.block - klauspostMargin
	if m.took {
		m.took = false
		s := m.pos
		if s >= limit {
			if s+8 < m.block {
				m.putBoth(s, m.load(s))
			}
			return m.block, 0, 0
		}

		for i := m.nextS; i < s-1; i += 3 {
			v := m.load(i)
			m.putLong(i, v)
			m.putLong(i+1, v>>8)
			m.short[hash4(v>>8)] = int32(i + 1 + 1)
		}
		m.putBoth(s-1, m.load(s-1))
	}

	nextS := m.pos
	cv := m.load(nextS)
	for {
		s := nextS
		nextS = s + 1 + (s-m.emit)>>6
		if nextS > limit {
			return m.block, 0, 0
		}

		short, long := int(m.short[hash4(cv)])-1, int(m.long[hash7(cv)][0])-1
		next := m.load(nextS)
		m.putBoth(s, cv)
		if m.near(s, long, cv) {
			return m.hit1(s, long, nextS)
		}

		// The encoder compares a match at the next place with the wrong bytes, which are hardly ever
		// longer than those it has. So the next place is never taken here.
		if m.near(s, short, cv) {
			return m.hit1(s, short, nextS)
		}

		cv = next
	}
}
