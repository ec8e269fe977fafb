package zstd

import "math/bits"

const (
	maxTableLog = 9   // of all tables of sequences
	maxSymbols  = 256 // of any table; those of sequences have fewer
)

// A cell of a table of finite state entropy says what a state stands for, and how the next state is
// found. It is one number, since the decoder has too few registers for the fields of three. The sum
// of three has the sums of their bits, and says whether one is long.
//
//	bits 0-7    how many bits to read for the next state
//	bits 8-15   how many to read and to add to the base
//	bit 16      it is long, see [table.set]; bit 17 is free, for sums
//	bits 18-35  the base of the value, but of no offset; or the symbol itself
//	bits 36-44  a mask for the bits for the next state
//	bits 48-63  what these are added to
type cell uint64

const long cell = 3 << 16 // in the sum of cells: one is long

func newCell(v value, next uint16, bits uint8) cell {
	c := cell(next)<<48 | (1<<bits-1)<<36 | cell(v.base&(1<<18-1))<<18 | cell(v.bits)<<8 | cell(bits)
	if v.long {
		c |= 1 << 16
	}
	return c
}

func (c cell) next() uint  { return uint(c >> 48) }
func (c cell) mask() uint  { return uint(c>>36) & (1<<maxTableLog - 1) }
func (c cell) base() uint  { return uint(c>>18) & (1<<18 - 1) }
func (c cell) extra() uint { return uint(c>>8) & 63 }
func (c cell) bits() uint  { return uint(c) & 63 }

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
	long bool // not for [blockDecoder.plain]
}

// setSingle makes t decode nothing but one code.
func (t *table) setSingle(v value) {
	t.log, t.ok = 0, true
	t.cells[0] = newCell(v, 0, 0)
}

// set makes t decode by a distribution ("From normalized distribution to decoding tables"):
// counts has the share of each code, -1 for less than one, and they add up to 1<<log.
func (t *table) set(counts []int16, log uint8, values []value) {
	size := uint(1) << log
	t.log, t.ok = log, true
	symbols := spread(counts, log)
	var states [maxSymbols]uint16 // the number of the next state of each code
	for s, c := range counts {
		states[s] = uint16(share(c))
	}

	// The states of a code share out all next states: the earlier ones take one bit more, and with
	// it twice as many.
	for i := range size {
		s := symbols[i]
		x := states[s]
		states[s]++
		n := log + 1 - uint8(bits.Len16(x))
		v := value{base: uint32(s)}
		if values != nil {
			v = values[s]
		}
		t.cells[i] = newCell(v, uint16(uint(x)<<n-size), n)
	}
}

// spread returns which symbol each of the 1<<log states of a distribution stands for.
func spread(counts []int16, log uint8) (symbols [1 << maxTableLog]uint8) {
	size := uint(1) << log

	// Codes with a share of less than one get a state each, from the end.
	high := size
	for s, c := range counts {
		if c == -1 {
			high--
			symbols[high] = uint8(s)
		}
	}

	// The step has no factor in common with the size, so it comes by every state once.
	at, step, mask := uint(0), size>>1+size>>3+3, size-1
	for s, c := range counts {
		for range c {
			symbols[at] = uint8(s)
			for at = (at + step) & mask; at >= high; at = (at + step) & mask {
			}
		}
	}

	return symbols
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

		// Behind a zero stands how many more there are, in numbers of two bits; 3 says that another
		// follows.
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

// kinds returns what the codes of sequences mean ("The Codes for Literals Lengths, Match
// Lengths, and Offsets") and their default distributions.
func kinds() [3]kind {
	return [3]kind{
		kindLiterals: {
			name: "literals lengths", maxLog: 9, log: 6,
			values: lengthCodes(0, 16, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}),
			preset: []int16{
				4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1,
				2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
				-1, -1, -1, -1,
			},
		},
		kindOffset: {
			name: "offsets", maxLog: 8, log: 5,
			values: offsetCodes(),
			preset: []int16{
				1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1,
				1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
			},
		},
		kindMatch: {
			name: "match lengths", maxLog: 9, log: 6,
			values: lengthCodes(3, 32, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}),
			preset: []int16{
				1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1,
				1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
				1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1,
				-1, -1, -1, -1, -1,
			},
		},
	}
}

// lengthCodes returns the values of lengths, the least of which is first: single codes for
// the first few, then codes with as many further bits as extra says, without gaps.
func lengthCodes(first uint32, single int, extra []uint8) []value {
	var list []value
	next := first
	for range single {
		list = append(list, value{base: next, long: next > plainMatch})
		next++
	}
	for _, n := range extra {
		list = append(list, value{next, n, true})
		next += 1 << n
	}
	return list
}

// maxOffsetCode is the largest that is taken: offsets of up to 2 GiB, beyond any window.
const maxOffsetCode = 30

// offsetCodes returns the values of offsets: a code is the number of its further bits.
func offsetCodes() []value {
	var list []value
	for n := range uint8(maxOffsetCode + 1) {
		list = append(list, value{1 << n, n, false})
	}
	return list
}
