package zstd

import (
	"math/bits"

	"ocikit/tarutil/entropy"
)

// A stateTable encodes one kind of symbol by finite state entropy: what [table] decodes. A
// state is a number from 1<<log to 2<<log-1. To write a symbol that has a share of c states,
// low bits are shifted out until the state is one of c to 2c-1, and that number chooses
// the next one.
type stateTable struct {
	log   uint8
	next  [1 << maxTableLog]uint16
	steps [maxSequenceCodes]step
	norm  [maxSequenceCodes]int16 // the share of each symbol
}

// maxSequenceCodes is more than any kind of a sequence has, and than there are weights.
const maxSequenceCodes = 64

// A step is how a symbol changes the state.
type step struct {
	bits  uint32 // this and the state: the upper 16 bits are how many bits are shifted out
	place int32  // this and what is left of the state: the place in next
}

// set makes t encode by a distribution, as [table.set] does for decoding.
func (t *stateTable) set(norm []int16, log uint8) {
	t.log = log
	clear(t.norm[:])
	copy(t.norm[:], norm)
	size := uint32(1) << log

	// The states of each symbol stand together in next, in ascending order.
	var place [maxSequenceCodes]uint32
	sum := uint32(0)
	for s, c := range norm {
		place[s] = sum
		if c == 0 {
			continue
		}
		n := share(c)
		most := uint32(log) // bits shifted out at most
		if n > 1 {
			most -= uint32(bits.Len32(n-1)) - 1
		}
		t.steps[s] = step{bits: most<<16 - n<<most, place: int32(sum) - int32(n)}
		sum += n
	}

	// The state size+i here is the state i of a decoder, which stands for symbols[i].
	symbols := spread(norm, log)
	for i := range size {
		s := symbols[i]
		t.next[place[s]] = uint16(size + i)
		place[s]++
	}
}

// share returns how many states a symbol has.
func share(c int16) uint32 {
	if c < 0 {
		return 1
	}
	return uint32(c)
}

// setSingle makes t encode nothing but one symbol, which takes no bits.
func (t *stateTable) setSingle(s int) {
	t.log = 0
	clear(t.norm[:])
	t.norm[s] = 1
	t.steps[s] = step{place: -1}
	t.next[0] = 1
}

// first returns the state to begin with: the lowest of the symbol s.
func (t *stateTable) first(s uint32) uint32 {
	c := share(t.norm[s])
	return uint32(t.next[t.steps[s].place+int32(c)])
}

// step returns the state behind the symbol s, and how many low bits of the old one are written.
func (t *stateTable) step(state, s uint32) (next, n uint32) {
	st := t.steps[s&(maxSequenceCodes-1)]
	n = (state + st.bits) >> 16 & 31
	return uint32(t.next[uint32(int32(state>>n)+st.place)&(1<<maxTableLog-1)]), n
}

// normalize sets norm to shares of 1<<log states for symbols with these counts. Each that is
// there gets one: there must be fewer symbols than states, and at least two.
func normalize(logs *entropy.Logs, norm []int16, counts []uint32, log uint8) {
	total := uint64(0)
	for _, c := range counts {
		total += uint64(c)
	}

	left := 1 << log
	for s, c := range counts {
		n := (uint64(c)<<log + total/2) / total
		norm[s] = int16(n)
		if n == 0 && c > 0 {
			norm[s] = -1 // less than one, but a state it needs
		}
		left -= int(share(norm[s]))
	}

	// Rounding made them too few or too many.
	for ; left > 0; left-- {
		adjust(logs, norm, counts, 1)
	}
	for ; left < 0; left++ {
		adjust(logs, norm, counts, -1)
	}
}

// adjust adds by, which is 1 or -1, to the share where that saves the most bits or costs the fewest.
func adjust(logs *entropy.Logs, norm []int16, counts []uint32, by int16) {
	best, most := -1, int64(0)
	for s, c := range counts {
		n := norm[s]
		if n < 1 || n+by < 1 {
			continue
		}
		gain := int64(c) * (logs.Of(uint32(n+by)) - logs.Of(uint32(n)))
		if best < 0 || gain > most {
			best, most = s, gain
		}
	}
	norm[best] += by
}

// cost returns how many bits symbols with these counts take by a distribution, in units of
// 1/[entropy.One], or false if there is a symbol without a share.
func cost(logs *entropy.Logs, counts []uint32, norm []int16, log uint8) (int64, bool) {
	sum := int64(0)
	for s, c := range counts {
		if c == 0 {
			continue
		}
		if s >= len(norm) || norm[s] == 0 {
			return 0, false
		}
		sum += int64(c) * (int64(log)*entropy.One - logs.Of(share(norm[s])))
	}
	return sum, true
}

// appendDistribution appends what [readCounts] reads.
func appendDistribution(out []byte, norm []int16, log uint8) []byte {
	w := entropy.BitWriter{Out: out}
	w.Put(uint64(log-5), 4)
	left := 1 << log
	for s := 0; left > 0; s++ {
		// A number from 0 to left+1. The small ones take one bit less.
		width := uint(bits.Len(uint(left + 1)))
		short := 1<<width - (left + 2) // how many do
		switch v := int(norm[s]) + 1; {
		case v < short:
			w.Put(uint64(v), width-1)
		case v < 1<<(width-1):
			w.Put(uint64(v), width)
		default:
			w.Put(uint64(v+short), width)
		}

		left -= int(share(norm[s]))
		if norm[s] != 0 {
			continue
		}

		// Behind a zero stands how many more there are.
		more := 0
		for norm[s+1+more] == 0 {
			more++
		}

		s += more
		for ; more >= 3; more -= 3 { // and 3 says that another number follows
			w.Put(3, 2)
		}
		w.Put(uint64(more), 2)
	}

	return w.Align()
}
