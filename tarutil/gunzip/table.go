package gunzip

import (
	"math/bits"

	"ocikit/tarutil/internal/deflate"
)

const (
	maxCodeLen  = 15
	literalBits = 11 // looked up at once, of a code of literals and lengths
	offsetBits  = 9  // the same of a code of distances
	lengthBits  = 7  // and of a code of code lengths
)

// The most symbols that a code has. Some of the last have no meaning.
const (
	literalSymbols = 288
	offsetSymbols  = 32
	lengthSymbols  = 19
)

// An entry of a table says what the next bits stand for.
//
//	bits 0-7    how many bits are used up: by the code, and by further bits behind it that are
//	            to be added to the value; of a link, those that were looked up
//	bits 8-11   how many of these are the code; of a link, how many bits look up its table
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

func (e entry) code() uint    { return uint(e >> 8 & 15) }
func (e entry) extra() uint   { return uint(e&0xff) - e.code() }
func (e entry) value() uint32 { return uint32(e >> 16) }

// Tables decode the codes of a block. What is looked up at once comes first; codes that are longer go
// on in tables behind it. Of these there are no more than pairs of symbols. The arrays have room for
// that, and a power of two as their length, so that a masked index needs no check.
type tables struct {
	literals [1 << 13]entry
	offsets  [1 << 11]entry
}

// build fills a table for a code that has symbols of the given lengths, 0 for those that do not
// occur. It returns false if they make up no code: all bits must stand for a symbol. One symbol
// alone, of length 1, makes up a code, and so does none at all. Of symbols are the entries, without
// lengths.
func build(t []entry, lengths []uint8, first uint, symbols []entry) bool {
	var count [maxCodeLen + 1]uint
	for _, n := range lengths {
		count[n&maxCodeLen]++
	}
	count[0] = 0

	// The codes of one length are numbers in a row, in the order of the symbols; those of the next
	// length begin behind them (RFC 1951, section 3.2.2). A code that adds up ends with the last
	// number of its longest length.
	var places [maxCodeLen + 2]uint // in sorted, where symbols of a length begin
	longest, code := uint(0), uint(0)
	for n := uint(1); n <= maxCodeLen; n++ {
		places[n+1] = places[n] + count[n]
		if code = code<<1 + count[n]; count[n] > 0 {
			longest = n
		}
	}
	if longest == 0 {
		clear(t[:1<<first])
		return true
	}
	if code != 1<<maxCodeLen && !(code == 1<<(maxCodeLen-1) && longest == 1) {
		return false
	}

	var sorted [literalSymbols]uint16
	for symbol, n := range lengths {
		if n > 0 {
			sorted[places[n&maxCodeLen]] = uint16(symbol)
			places[n&maxCodeLen]++
		}
	}

	// Codes are sent with their first bit first, which is the lowest here. Whatever bits follow a
	// short code, the entry is the same: so a table for one bit more is the table twice.
	b := builder{t: t, sorted: sorted[:], symbols: symbols}
	t[0], t[1] = 0, 0
	for n := uint(1); n <= first; n++ {
		if size := 1 << (n - 1); n > 1 {
			copy(t[size:2*size], t[:size])
		}
		for range count[n] {
			code := b.code
			t[code] = b.next(n)
		}
	}

	if longest > first {
		b.long(&count, first, longest)
	}
	return true
}

// A builder goes through the symbols of a code in the order of their codes.
type builder struct {
	t       []entry
	sorted  []uint16 // what is left of the symbols
	symbols []entry
	code    uint // of the next one, its first bit lowest
}

// next returns the entry of the next symbol, which has a code of n bits.
func (b *builder) next(n uint) entry {
	e := b.symbols[b.sorted[0]] + entry(n<<8|n)
	b.sorted = b.sorted[1:]

	// One is added to the number whose highest bit is the lowest here: ones become zeros up to the
	// first zero, which becomes a one. Behind the last code of a length all are ones.
	if free := b.code ^ (1<<n - 1); free != 0 {
		bit := uint(1) << (bits.Len(free) - 1)
		b.code = b.code&(bit-1) | bit
	}
	return e
}

// long fills in the codes that are longer than what is looked up at once. Those with the same first
// bits follow each other, and share a table that is looked up by the rest.
func (b *builder) long(count *[maxCodeLen + 1]uint, first, longest uint) {
	more := longest - first
	head, at := uint(1)<<first, uint(1)<<first-1<<more
	for n := first + 1; n <= longest; n++ {
		for range count[n] {
			if h := b.code & (1<<first - 1); h != head {
				head, at = h, at+1<<more
				b.t[head] = entry(at)<<16 | isLink | entry(more)<<8 | entry(first)
			}

			tail := b.code >> first
			e := b.next(n)
			for i := tail; i < 1<<more; i += 1 << (n - first) {
				b.t[at+i] = e
			}
		}
	}
}

// literal returns the entry of a symbol of literals and lengths.
func literal(symbol int) entry {
	switch {
	case symbol < 256:
		return entry(symbol)<<16 | isLiteral
	case symbol == 256:
		return isEnd
	case symbol <= 285:
		base, extra := deflate.LengthBase(symbol)
		return entry(base)<<16 | isValue | entry(extra)
	}
	return 0 // 286 and 287 take part in the fixed code, and stand for nothing
}

// offset returns the entry of a symbol of distances.
func offset(symbol int) entry {
	if symbol < deflate.Distances {
		base, extra := deflate.DistBase(symbol)
		return entry(base)<<16 | isValue | entry(extra)
	}
	return 0
}

func lengthCode(symbol int) entry { return entry(symbol)<<16 | isValue }
