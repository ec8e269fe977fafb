package recipe

import "ocikit/tarutil/internal/deflate"

// klauspostLazy finds the matches of levels 7 to 9 of the encoder of klauspost/compress and of Go from
// 1.27 on: chains of the places with the same hash of four bytes, and a match that waits for a better
// one, as in zlib. Unlike zlib, a match that waited long enough is compared with one found by the bytes
// behind its end, and long runs without a match are passed faster and faster.
//
// The encoder has a window of 64 KiB, which moves by 32 KiB when it is full. Where it stands shows in
// what it finds: no match leads out of it, and level 9 weighs matches by how often bytes occur in it.
type klauspostLazy struct {
	style
	lazy, nice, chain int

	data      []byte
	end       int
	inserted  int // places before it are in the chains
	base      int // where the window begins
	windowEnd int
	pos       int // the next place to look at
	chainAt   int // the place in the chain that the search at pos begins with
	length    int // the match at the place before, or 3
	dist      int
	waiting   bool // the byte before pos is not written yet
	unmatched uint16
	origin    int                      // where the first window begins
	head      [1 << lazyHashBits]int32 // place+1
	prev      [windowSize]int32        // the place before it with its hash, +1
	costFrom  int
	cost      []int32 // level 9: the bits of the literals from costFrom on
}

const (
	lazyHashBits  = 17
	lazyMin       = 4                  // the shortest match
	lazyAhead     = lazyMin + maxMatch // with fewer bytes ahead the window moves
	lazyFromEnd   = 2                  // where the match at the end of another is compared from
	lazyBlock     = 1 << 15            // tokens in a block
	lazyBaseCost  = 3                  // of a match, beside its extra bits
	lazyLeastGain = 4
)

func newKlauspostLazy(s style) *klauspostLazy {
	c := [3][3]int{{12, 16, 24}, {30, 40, 64}, {258, 258, 1024}}[s.level-7]
	return &klauspostLazy{style: s, lazy: c[0], nice: c[1], chain: c[2]}
}

func (m *klauspostLazy) begin(data []byte, history, start, end, unit int) {
	m.data, m.end, m.origin = data, end, unit
	clear(m.head[:])
	clear(m.prev[:]) // as those of zlibMatcher
	m.inserted = history

	// Of a dictionary the last three places are left out.
	if m.restarts() && start-unit == m.dictionary() {
		m.insert(start - lazyMin + 1)
		for i := m.inserted; i < start; i++ {
			m.prev[i&(windowSize-1)] = 0
		}
		m.inserted = max(m.inserted, start)
	}

	m.insert(start)
	m.windowEnd, m.costFrom = 0, 0
	m.unmatched = 0
	m.restart(start)
}

// restart begins at a place with no match kept back.
func (m *klauspostLazy) restart(pos int) {
	m.pos, m.length, m.dist, m.waiting = pos, lazyMin-1, 0, false
	m.chainAt = -1
	m.moveWindow()
}

// moveWindow lets the window stand where it does for the next place, and weighs literals if it is
// another window than before. After a wrong prediction it may go back.
func (m *klauspostLazy) moveWindow() {
	steps := max(0, (m.pos+lazyAhead-2*windowSize-m.origin+windowSize-1)/windowSize)
	base := m.origin + steps*windowSize
	windowEnd := min(m.end, base+2*windowSize)
	if base == m.base && windowEnd == m.windowEnd && m.pos >= m.costFrom {
		return
	}
	m.base, m.windowEnd = base, windowEnd
	if m.level == 9 {
		m.weigh()
	}
}

// weigh sets the costs of the literals from pos on, up to the end of the window.
func (m *klauspostLazy) weigh() {
	windowEnd := max(m.pos, m.windowEnd)

	var freq [256]uint32
	for _, c := range m.data[m.pos:min(windowEnd, m.pos+windowSize)] {
		freq[c]++
	}
	var lengths [256]uint8
	goLengths(freq[:], 15, lengths[:])
	if m.family == go127Style {
		for i := range lengths {
			lengths[i] = max(lengths[i], 1)
		}
	}

	m.costFrom = m.pos
	m.cost = append(m.cost[:0], 0)
	total := int32(0)
	for _, c := range m.data[m.pos:windowEnd] {
		total += int32(lengths[c])
		m.cost = append(m.cost, total)
	}
}

// insert enters the places before to.
func (m *klauspostLazy) insert(to int) {
	for to = min(to, m.end-lazyMin+1); m.inserted < to; m.inserted++ {
		h := m.hash(m.inserted)
		m.prev[m.inserted&(windowSize-1)] = m.head[h]
		m.head[h] = int32(m.inserted + 1)
	}
}

func (m *klauspostLazy) hash(i int) uint32 {
	d := m.data[i : i+4 : len(m.data)]
	return (uint32(d[0]) | uint32(d[1])<<8 | uint32(d[2])<<16 | uint32(d[3])<<24) * 2654435761 >> (32 - lazyHashBits)
}

// oldest is the first place in which a match for the one at pos may begin.
func (m *klauspostLazy) oldest() int { return max(m.pos-windowSize, m.base, 0) }

// enter enters the place at pos, from where the next search begins.
func (m *klauspostLazy) enter() {
	if m.pos < m.windowEnd-lazyMin+1 {
		m.insert(m.pos + 1)
		m.chainAt = int(m.prev[m.pos&(windowSize-1)]) - 1
	}
}

// find returns the best match at pos, or a length of 3.
func (m *klauspostLazy) find() (length, dist int) {
	longest := min(m.windowEnd-m.pos, maxMatch)
	nice := min(m.nice, longest)
	oldest := m.oldest()
	length = lazyMin - 1
	gain := int32(lazyLeastGain)
	for i, tries := m.chainAt, m.chain; tries > 0 && i < m.pos; tries-- {
		if m.data[m.pos+length] == m.data[i+length] {
			if n := matchLength(m.data, i, m.pos, longest); n > length {
				better := true
				if m.level == 9 {
					g := m.gain(n, m.pos-i)
					if better = g > gain; better {
						gain = g
					}
				}
				if better {
					if length, dist = n, m.pos-i; n >= nice {
						break
					}
				}
			}
		}

		next := int(m.prev[i&(windowSize-1)]) - 1
		if i <= oldest || next < oldest || next >= i {
			break
		}
		i = next
	}

	return length, dist
}

// gain is what a match at pos saves, in bits.
func (m *klauspostLazy) gain(n, dist int) int32 {
	at := m.pos - m.costFrom
	_, lengthExtra, _ := deflate.LengthCode(n)

	// The encoder asks for the extra bits of the next distance, and for those of a short one at the end.
	distExtra := 6
	if dist < windowSize {
		_, distExtra, _ = deflate.DistCode(dist + 1)
	}
	return m.cost[at+n] - m.cost[at] - int32(distExtra) - lazyBaseCost - int32(lengthExtra)
}

// next implements matcher.
func (m *klauspostLazy) next(pos int) (at, n, dist int) {
	if m.pos < pos {
		m.restart(pos)
	}

	for {
		ahead := m.windowEnd - m.pos
		if ahead < lazyAhead && m.windowEnd < m.end {
			m.moveWindow()
			continue
		}
		if ahead <= 0 {
			return m.end, 0, 0
		}

		m.enter()
		prevLength, prevDist := m.length, m.dist
		m.length, m.dist = lazyMin-1, 0
		if m.chainAt >= m.oldest() && ahead > prevLength && prevLength < m.lazy {
			m.length, m.dist = m.find()
		}

		if prevLength >= lazyMin && m.length <= prevLength {
			at, n, dist := m.atEnd(prevLength, prevDist)
			m.insert(min(at+n, m.windowEnd-lazyMin+1))
			m.pos, m.length, m.waiting, m.unmatched = at+n, lazyMin-1, false, 0
			return at, n, dist
		}

		if m.length >= lazyMin {
			m.unmatched = 0
		}
		if !m.waiting {
			m.pos++
			m.waiting = true
			continue
		}
		m.unmatched++
		m.pos++
		m.hurry()
	}
}

// hurry passes over places if there was no match for long.
func (m *klauspostLazy) hurry() {
	n := int(m.unmatched) - m.chain
	if n <= 0 {
		return
	}
	for range 1 + n>>6 {
		if m.pos >= m.windowEnd-1 {
			break
		}
		m.enter()
		m.pos++
	}
	m.waiting = false
}

// atEnd returns the match that waited, or a longer one: the bytes behind its end may lead to one that
// begins up to two bytes later.
func (m *klauspostLazy) atEnd(length, dist int) (at, n, d int) {
	at = m.pos - 1
	if length >= maxMatch-lazyFromEnd || at+length >= m.windowEnd-lazyMin+1 {
		return at, length, dist
	}

	// Places that were entered ahead do not count.
	other := int(m.head[m.hash(at+length)]) - 1
	for other > m.pos {
		next := int(m.prev[other&(windowSize-1)]) - 1
		if next >= other {
			return at, length, dist
		}
		other = next
	}
	other -= length
	if at-other == dist || other <= m.oldest()+lazyFromEnd {
		return at, length, dist
	}

	limit := min(m.windowEnd-m.pos, maxMatch+lazyFromEnd) - lazyFromEnd
	n = matchLength(m.data, other+lazyFromEnd, at+lazyFromEnd, max(limit, 0))
	if n <= length {
		return at, length, dist
	}

	// It is made longer towards its begin. What it does not reach are literals.
	d = at - other
	for i := lazyFromEnd - 1; i >= 0; i-- {
		if n >= maxMatch || m.data[at+i] != m.data[other+i] {
			for range i + 1 {
				m.pos++
				m.enter()
			}
			return at + i + 1, n, d
		}
		n++
	}

	return at, n, d
}

func (m *klauspostLazy) follow(pos, n int, isMatch bool) {
	if isMatch {
		m.unmatched = 0
	} else {
		m.unmatched += uint16(n)
	}
	m.insert(pos + n)
	m.restart(pos + n)
}
