package gunzip

import "math/bits"

const (
	maxCodeLen  = 15
	literalBits = 11 // looked up at once, of a code of literals and lengths
	offsetBits  = 9  // the same of a code of distances
	lengthBits  = 7  // and of a code of code lengths
)

// An entry of a table says what the next bits stand for.
//
//	bits 0-7    how many bits the code has; of a link, those that were looked up
//	bits 8-11   how many further bits follow, to be added to the value; of a link, how many
//	            bits look up its table
//	bits 12-15  what it is, one of the kinds below
//	bits 16-31  the value: a literal, a length, a distance, or where a table begins
//
// The entry 0 is that of bits that are not a code.
type entry uint32

const (
	isLiteral entry = 1 << 12
	isValue   entry = 2 << 12 // a length or a distance
	isEnd     entry = 4 << 12
	isLink    entry = 8 << 12
)

func (e entry) bits() uint    { return uint(e & 0xff) }
func (e entry) extra() uint   { return uint(e >> 8 & 15) }
func (e entry) value() uint32 { return uint32(e >> 16) }

// A table decodes one code. Codes that are longer than what is looked up at once go on in
// tables behind the first part.
type table []entry

// build fills the table for a code that has symbols of the given lengths, 0 for those that
// do not occur. It returns false if they make up no code: all bits must stand for a symbol. One
// symbol alone, of length 1, makes up a code, and so does none at all. The function what returns the
// entry of a symbol, without its length.
func (t *table) build(lengths []uint8, first uint, what func(symbol int) entry) bool {
	var count [maxCodeLen + 1]int
	longest := uint8(0)
	for _, n := range lengths {
		count[n]++
		longest = max(longest, n)
	}

	*t = append((*t)[:0], make([]entry, 1<<first)...)
	if longest == 0 {
		return true
	}

	// The codes of one length are numbers in a row, in the order of the symbols; those of the next
	// length begin behind them (RFC 1951, section 3.2.2).
	count[0] = 0
	var next [maxCodeLen + 2]uint // the next code of each length
	code := uint(0)
	for n := uint8(1); n <= longest; n++ {
		code = (code + uint(count[n-1])) << 1
		next[n] = code
	}

	// A code that adds up ends with the last number of its longest length.
	code = next[longest] + uint(count[longest])
	if code != 1<<longest && !(code == 1 && longest == 1) {
		return false
	}

	for symbol, n := range lengths {
		if n == 0 {
			continue
		}

		// Codes are sent with their first bit first, which is the lowest here.
		reversed := uint(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		e := what(symbol) | entry(n)

		// Whatever bits follow a short code, the entry is the same.
		if uint(n) <= first {
			for i := reversed; i < 1<<first; i += 1 << n {
				(*t)[i] = e
			}
			continue
		}

		// Long codes with the same first bits share a table, which is looked up by the rest.
		head, tail := reversed&(1<<first-1), reversed>>first
		link := (*t)[head]
		if link == 0 {
			more := uint(longest) - first
			link = entry(len(*t))<<16 | isLink | entry(more)<<8 | entry(first)
			(*t)[head] = link
			*t = append(*t, make([]entry, 1<<more)...)
		}

		for i := tail; i < 1<<link.extra(); i += 1 << (uint(n) - first) {
			(*t)[uint(link.value())+i] = e
		}
	}

	return true
}

// literal returns the entry of a symbol of literals and lengths.
func literal(symbol int) entry {
	switch {
	case symbol < 256:
		return entry(symbol)<<16 | isLiteral
	case symbol == 256:
		return isEnd
	case symbol < 265:
		return entry(symbol-257+3)<<16 | isValue
	case symbol < 285:
		extra := entry(symbol-261) / 4
		return (3+(entry(symbol-261)%4+4)<<extra)<<16 | isValue | extra<<8
	case symbol == 285:
		return 258<<16 | isValue
	}
	return 0 // 286 and 287 take part in the fixed code, and stand for nothing
}

// offset returns the entry of a symbol of distances.
func offset(symbol int) entry {
	switch {
	case symbol < 4:
		return entry(symbol+1)<<16 | isValue
	case symbol < 30:
		extra := entry(symbol-2) / 2
		return (1+(entry(symbol)%2+2)<<extra)<<16 | isValue | extra<<8
	}
	return 0
}

func lengthCode(symbol int) entry { return entry(symbol)<<16 | isValue }
