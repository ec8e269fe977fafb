package zstd

import "math/bits"

const (
	maxTableLog = 9   // of all tables of sequences
	maxSymbols  = 256 // of any table; those of sequences have fewer
)

// A cell of a table of finite state entropy: what a state stands for, and how the next
// state is found.
type cell struct {
	base  uint32 // of the value; or the symbol itself
	next  uint16 // what the bits are added to
	bits  uint8  // to read for the next state
	extra uint8  // to read and to add to base
}

// A table decodes one kind of symbol.
type table struct {
	log   uint8
	ok    bool // there is something to repeat
	cells [1 << maxTableLog]cell
}

// A kind is one of the three symbols of a sequence.
type kind struct {
	name   string
	maxLog uint8
	values []value // of its codes
	preset []int16 // the default distribution
	log    uint8   // of the latter
}

// A value is a number that a code begins with, and how many bits follow for the rest.
type value struct {
	base uint32
	bits uint8
}

// setSingle makes t decode nothing but one code.
func (t *table) setSingle(v value) {
	t.log, t.ok = 0, true
	t.cells[0] = cell{base: v.base, extra: v.bits}
}

// set makes t decode by a distribution ("From normalized distribution to decoding tables"):
// counts has the share of each code, -1 for less than one, and they add up to 1<<log.
func (t *table) set(counts []int16, log uint8, values []value) {
	size := uint(1) << log
	t.log, t.ok = log, true
	var symbols [1 << maxTableLog]uint8
	var states [maxSymbols]uint16 // the number of the next state of each code
	high := size
	for s, c := range counts {
		if c == -1 {
			high--
			symbols[high] = uint8(s)
			states[s] = 1
		} else {
			states[s] = uint16(c)
		}
	}
	at, step, mask := uint(0), size>>1+size>>3+3, size-1
	for s, c := range counts {
		for range c {
			symbols[at] = uint8(s)
			for at = (at + step) & mask; at >= high; at = (at + step) & mask {
			}
		}
	}
	for i := range size {
		s := symbols[i]
		x := states[s]
		states[s]++
		n := log + 1 - uint8(bits.Len16(x))
		c := cell{base: uint32(s), bits: n, next: uint16(uint(x)<<n - size)}
		if values != nil {
			c.base, c.extra = values[s].base, values[s].bits
		}
		t.cells[i] = c
	}
}

// readCounts reads a distribution ("FSE Table Description") of at most len(counts) codes. It
// returns those that there are, the accuracy and the number of bytes read.
func readCounts(data []byte, counts []int16, maxLog uint8) ([]int16, uint8, int, error) {
	f := forward{data: data}
	log := uint8(f.peek(4)) + 5
	f.at += 4
	if log > maxLog {
		return nil, 0, 0, corrupt("table of accuracy %d, over the limit of %d", log, maxLog)
	}
	left := 1 << log // what is to be shared out
	n := 0
	for left > 0 {
		if n == len(counts) {
			return nil, 0, 0, corrupt("table with more than %d codes", len(counts))
		}
		// A number from 0 to left+1. The small ones take one bit less.
		width := uint(bits.Len(uint(left + 1)))
		short := uint(1)<<width - uint(left+2) // how many do
		v := f.peek(width)
		if low := v & (1<<(width-1) - 1); low < short {
			v = low
			f.at += width - 1
		} else {
			if v >= 1<<(width-1) {
				v -= short
			}
			f.at += width
		}
		c := int16(v) - 1
		counts[n] = c
		n++
		if c == 0 {
			for more := uint(3); more == 3; {
				more = f.peek(2)
				f.at += 2
				if n+int(more) > len(counts) {
					return nil, 0, 0, corrupt("table with more than %d codes", len(counts))
				}
				clear(counts[n : n+int(more)])
				n += int(more)
			}
		} else {
			left -= max(int(c), 1)
		}
	}
	used, ok := f.bytes()
	if left < 0 || !ok {
		return nil, 0, 0, corrupt("table that does not add up")
	}
	return counts[:n], log, used, nil
}
