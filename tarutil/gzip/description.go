package gzip

import "ocikit/tarutil/entropy"

// description holds the code lengths of one DEFLATE block, and how these are written in front of the
// block: as items, which have a third code of their own (RFC 1951, section 3.2.7).
type description struct {
	litLen [288]uint8
	dist   [30]uint8
	nLit   int         // lengths written of litLen
	nDist  int         // and of dist
	items  [320]uint16 // symbol, then from bit 5 on the extra bits
	n      int         // of items
	lens   [19]uint8   // of the code for the items
	codes  [19]uint16
	nLens  int // lengths written of lens
	bits   int // what all of this takes
}

// itemOrder is the order in which the lengths of the third code are written.
const itemOrder = "\x10\x11\x12\x00\x08\x07\x09\x06\x0a\x05\x0b\x04\x0c\x03\x0d\x02\x0e\x01\x0f"

// init finds the codes for the counts, and the shortest description of them.
func (d *description) init(c *counts) {
	entropy.CodeLengths(d.litLen[:286], c.litLen[:], 15)
	entropy.CodeLengths(d.dist[:], c.dist[:], 15)

	// Lengths of zero at the end are not written, but 257 and one must be.
	d.nLit, d.nDist = 286, 30
	for d.litLen[d.nLit-1] == 0 {
		d.nLit--
	}

	d.nLit = max(d.nLit, 257)
	for d.nDist > 1 && d.dist[d.nDist-1] == 0 {
		d.nDist--
	}

	// Both lists of lengths are one sequence, in which a run may go on from the first to the
	// second.
	var all [316]uint8
	n := copy(all[:], d.litLen[:d.nLit])
	n += copy(all[n:], d.dist[:d.nDist])
	d.runs(all[:n])
	var freq [19]uint32
	for _, it := range d.items[:d.n] {
		freq[it&31]++
	}

	entropy.CodeLengths(d.lens[:], freq[:], 7)
	assignCodes(d.codes[:], d.lens[:])
	d.nLens = 19
	for d.lens[itemOrder[d.nLens-1]] == 0 {
		d.nLens--
	}

	d.bits = 5 + 5 + 4 + 3*d.nLens
	for _, it := range d.items[:d.n] {
		d.bits += int(d.lens[it&31]) + itemExtra(it&31)
	}
}

// runs turns lengths into items. Symbol 16 repeats the length before 3 to 6 times; 17 and 18 stand for
// 3 to 10 and for 11 to 138 zeros.
func (d *description) runs(all []uint8) {
	for i := 0; i < len(all); {
		l, n := all[i], 1
		for i+n < len(all) && all[i+n] == l {
			n++
		}

		i += n

		// A length stands once before it can be repeated. Zeros need not.
		if l > 0 {
			d.item(uint16(l), 0)
			n--
		}

		for n >= 3 {
			switch {
			case l > 0:
				k := min(n, 6)
				d.item(16, k-3)
				n -= k
			case n <= 10:
				d.item(17, n-3)
				n = 0
			default:
				k := min(n, 138)
				d.item(18, k-11)
				n -= k
			}
		}

		// Fewer than three are not worth a repeat.
		for ; n > 0; n-- {
			d.item(uint16(l), 0)
		}
	}
}

// item adds an item with the value of its extra bits.
func (d *description) item(sym uint16, extra int) {
	d.items[d.n] = sym | uint16(extra)<<5
	d.n++
}

// itemExtra returns how many extra bits an item has.
func itemExtra(sym uint16) int {
	switch sym {
	case 16:
		return 2
	case 17:
		return 3
	case 18:
		return 7
	}
	return 0
}

// fixed sets the code lengths of RFC 1951, section 3.2.6.
func (d *description) fixed() {
	for i := range d.litLen {
		switch {
		case i < 144:
			d.litLen[i] = 8
		case i < 256:
			d.litLen[i] = 9
		case i < 280:
			d.litLen[i] = 7
		default:
			d.litLen[i] = 8
		}
	}

	for i := range d.dist {
		d.dist[i] = 5
	}
}

// dataBits returns how many bits the symbols of a block take, without the extra bits.
func (d *description) dataBits(c *counts) int {
	n := 0
	for i, f := range c.litLen {
		n += int(f) * int(d.litLen[i])
	}
	for i, f := range c.dist {
		n += int(f) * int(d.dist[i])
	}
	return n
}

// write writes the description, behind the three bits of the block header.
func (d *description) write(w *bitWriter) {
	w.put(uint64(d.nLit-257), 5)
	w.put(uint64(d.nDist-1), 5)
	w.put(uint64(d.nLens-4), 4)
	for _, sym := range itemOrder[:d.nLens] {
		w.put(uint64(d.lens[sym]), 3)
	}
	for _, it := range d.items[:d.n] {
		w.put(uint64(d.codes[it&31]), uint(d.lens[it&31]))
		w.put(uint64(it>>5), uint(itemExtra(it&31)))
	}
}

// codes are the code words of one DEFLATE block, laid out for bitWriter.tokens.
type codes struct {
	litLen [512]uint32 // by bits 0-8 of a token: code with extra bits << 5 | bits in all
	dist   [32]uint32  // by bits 9-13: code << 9 | bits of the code << 5 | bits in all
	end    uint32      // of the end of the block, like litLen
}

// init lays out the codes of d. The extra bits of a length follow its code directly, so they are
// part of the table; those of a distance come from the token.
func (c *codes) init(d *description, length *[256]lengthCode) {
	var lit [288]uint16
	var dist [30]uint16
	assignCodes(lit[:], d.litLen[:])
	assignCodes(dist[:], d.dist[:])
	for i := range 256 {
		c.litLen[i] = uint32(lit[i])<<5 | uint32(d.litLen[i])
		l := length[i]
		sym, n := endBlock+int(l.sym), d.litLen[endBlock+int(l.sym)]
		c.litLen[256+i] = (uint32(lit[sym])|uint32(l.extra)<<n)<<5 | uint32(n+l.n)
	}
	for i, n := range d.dist {
		c.dist[i+1] = uint32(dist[i])<<9 | uint32(n)<<5 | uint32(int(n)+distExtra(i))
	}
	c.end = uint32(lit[endBlock])<<5 | uint32(d.litLen[endBlock])
}
