package recipe

import "math/bits"

const lookBits = 10

// A decoder finds the symbols of a prefix code.
type decoder struct {
	look   [1 << lookBits]uint16 // symbol<<4 | length, or 0
	count  [16]int               // codes of each length
	symbol [288]uint16           // by code
}

// init sets the code, and reports whether the lengths make one. Codes may be missing, as long
// as they do not occur.
func (d *decoder) init(lengths []uint8) bool {
	d.count = [16]int{}
	for _, n := range lengths {
		d.count[n]++
	}

	// The codes of one length are consecutive numbers (RFC 1951, section 3.2.2). If a length
	// needs more codes than are left, there is no prefix code.
	d.count[0] = 0
	left := 1
	var next, offset [17]int
	for n := 1; n < 16; n++ {
		left = left<<1 - d.count[n]
		if left < 0 {
			return false
		}
		next[n+1] = (next[n] + d.count[n]) << 1
		offset[n+1] = offset[n] + d.count[n]
	}

	// The table is asked with the next ten bits of the input. Behind a short code these can be any, so it
	// has an entry for each continuation.
	clear(d.look[:])
	for sym, n := range lengths {
		if n == 0 {
			continue
		}
		d.symbol[offset[n]] = uint16(sym)
		offset[n]++
		code := next[n]
		next[n]++
		if n <= lookBits {
			step := 1 << n
			for i := int(bits.Reverse16(uint16(code)) >> (16 - n)); i < len(d.look); i += step {
				d.look[i] = uint16(sym<<4) | uint16(n)
			}
		}
	}

	return true
}

// isPrefixCode reports whether there is a code with these lengths.
func isPrefixCode(lengths []uint8) bool {
	space := 0
	for _, n := range lengths {
		if n > 0 {
			space += 1 << (15 - n)
		}
	}
	return space <= 1<<15
}

// slow finds a symbol bit by bit. The length is 0 if no code fits.
func (d *decoder) slow(acc uint64) (sym, n int) {
	code, first, index := 0, 0, 0
	for n = 1; n < 16; n++ {
		code |= int(acc & 1)
		acc >>= 1
		count := d.count[n]
		if code-count < first {
			return int(d.symbol[index+code-first]), n
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0
}
