// Package deflate holds what the readers and the writers of DEFLATE (RFC 1951) share: the numbers of the
// format, and how the codes of a block are described.
package deflate

import "math/bits"

// The numbers of sections 3.2.5 to 3.2.7.
const (
	MinMatch   = 3
	MaxMatch   = 258
	EndOfBlock = 256 // the symbol
	Literals   = 286 // symbols of literals and lengths; 286 and 287 have fixed codes, and never occur
	Distances  = 30  // symbols; likewise
)

// LengthOrder is the order in which the lengths of the code for code lengths are written.
const LengthOrder = "\x10\x11\x12\x00\x08\x07\x09\x06\x0a\x05\x0b\x04\x0c\x03\x0d\x02\x0e\x01\x0f"

// LengthCode returns the symbol of a length, how many extra bits it has, and their value. A length of 258
// can also be written as 284 with all extra bits set, for which MaxMatch+1 stands.
func LengthCode(n int) (sym, extra, value int) {
	switch {
	case n == MaxMatch:
		return 285, 0, 0
	case n == MaxMatch+1:
		return 284, 5, 31
	case n < 11:
		return 254 + n, 0, 0
	}
	v := n - MinMatch
	extra = bits.Len(uint(v)) - 3
	return 257 + extra<<2 + v>>extra, extra, v & (1<<extra - 1)
}

// LengthBase returns the shortest length of a symbol and how many extra bits it has.
func LengthBase(sym int) (n, extra int) {
	switch s := sym - 257; {
	case sym == 285:
		return MaxMatch, 0
	case s < 8:
		return s + MinMatch, 0
	default:
		extra = s>>2 - 1
		return MinMatch + (4+s&3)<<extra, extra
	}
}

// DistCode returns the symbol of a distance, how many extra bits it has, and their value.
func DistCode(dist int) (sym, extra, value int) {
	v := dist - 1
	if v < 4 {
		return v, 0, 0
	}
	extra = bits.Len(uint(v)) - 2
	return extra<<1 + v>>extra, extra, v & (1<<extra - 1)
}

// DistBase returns the smallest distance of a symbol and how many extra bits it has.
func DistBase(sym int) (dist, extra int) {
	if sym < 4 {
		return sym + 1, 0
	}
	extra = sym>>1 - 1
	return 1 + (2+sym&1)<<extra, extra
}

// Lengths are the code lengths of a block.
type Lengths struct {
	Lit  [288]uint8
	Dist [32]uint8
}

// Fixed returns the lengths of a block with fixed codes (section 3.2.6).
func Fixed() *Lengths {
	l := new(Lengths)
	for i := range l.Lit {
		switch {
		case i < 144:
			l.Lit[i] = 8
		case i < 256:
			l.Lit[i] = 9
		case i < 280:
			l.Lit[i] = 7
		default:
			l.Lit[i] = 8
		}
	}

	for i := range l.Dist {
		l.Dist[i] = 5
	}
	return l
}

// Counts are how often symbols occur in a block.
type Counts struct {
	Lit  [Literals]uint32
	Dist [Distances]uint32
}

// CodeBits returns how many bits the symbols take with these lengths, without the extra bits.
func (c *Counts) CodeBits(l *Lengths) (n int) {
	for sym, f := range c.Lit {
		n += int(f) * int(l.Lit[sym])
	}
	for sym, f := range c.Dist {
		n += int(f) * int(l.Dist[sym])
	}
	return n
}

// ExtraBits returns how many bits follow the codes of the symbols.
func (c *Counts) ExtraBits() (n int) {
	for i, f := range c.Lit[EndOfBlock+1:] {
		_, extra := LengthBase(EndOfBlock + 1 + i)
		n += int(f) * extra
	}
	for sym, f := range c.Dist {
		_, extra := DistBase(sym)
		n += int(f) * extra
	}
	return n
}

// AssignCodes sets codes[i] to the code of symbol i for these lengths (section 3.2.2). Its bits are
// reversed to the order in which they are written.
func AssignCodes(codes []uint16, lengths []uint8) {
	var next [17]int
	for _, n := range lengths {
		next[n+1]++ // the number of codes of this length, first
	}

	next[1] = 0
	for n, code := 1, 0; n < 16; n++ {
		code = (code + next[n]) << 1
		next[n] = code
	}

	for sym, n := range lengths {
		if n > 0 {
			codes[sym] = bits.Reverse16(uint16(next[n])) >> (16 - n)
			next[n]++
		}
	}
}

// AppendRuns appends the symbols that describe code lengths: up to 15 a length itself, 16 repeats the
// length before 3 to 6 times, 17 and 18 stand for 3 to 10 and for 11 to 138 zeros. What their extra bits
// say is shifted by 8.
func AppendRuns(runs []uint16, lengths []uint8) []uint16 {
	for i := 0; i < len(lengths); {
		v, n := lengths[i], 1
		for i+n < len(lengths) && lengths[i+n] == v {
			n++
		}

		i += n

		// A length stands once before it can be repeated. Zeros need not.
		if v > 0 {
			runs = append(runs, uint16(v))
			n--
		}

		for n >= 3 {
			k, sym, least := min(n, 6), 16, 3
			switch {
			case v > 0:
			case n <= 10:
				k, sym = n, 17
			default:
				k, sym, least = min(n, 138), 18, 11
			}
			runs = append(runs, uint16(sym|(k-least)<<8))
			n -= k
		}

		// Fewer than three are not worth a repeat.
		for range n {
			runs = append(runs, uint16(v))
		}
	}

	return runs
}

// RunBits returns how many extra bits a symbol of [AppendRuns] has.
func RunBits(sym int) int {
	if sym < 16 {
		return 0
	}
	return [3]int{2, 3, 7}[sym-16]
}
