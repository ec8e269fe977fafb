package zstd

import (
	"encoding/binary"
	"slices"
)

const (
	oneStream    = 1 << 10 // literals from this number on are cut into four streams
	fewLiterals  = 32      // of which no code is made
	jumpTableLen = 6
)

// literals appends the "Literals_Section".
func (e *encoder) literals(lit []byte) {
	var counts [256]uint32
	countBytes(&counts, lit)

	most := uint32(0)
	for _, k := range counts {
		most = max(most, k)
	}

	switch n := len(lit); {
	case n > 3 && int(most) == n:
		e.out = append(appendPlainHeader(e.out, literalsRepeated, n), lit[0])
		return
	case n >= fewLiterals && int(most) > n>>7+4: // else all are about as frequent: no code saves much
		if e.codedLiterals(lit, &counts) {
			return
		}
	}

	e.out = append(appendPlainHeader(e.out, literalsRaw, len(lit)), lit...)
}

// codedLiterals appends literals in a Huffman code, that of the blocks before or a new one. It
// reports false, and appends nothing, if that saves little.
func (e *encoder) codedLiterals(lit []byte, counts *[256]uint32) bool {
	// Both numbers of the header are as wide as n needs: in a code the literals take fewer bytes.
	n, start := len(lit), len(e.out)
	head := 3
	switch {
	case n >= 16<<10:
		head = 5
	case n >= oneStream:
		head = 4
	}

	e.out = append(e.out, make([]byte, head)...)

	// A new code must save more than its description takes.
	c := &e.newCode
	c.init(counts)
	size, _ := c.bits(counts)
	var described bool
	e.out, described = c.appendTree(e.out, &e.logs)
	tree := len(e.out) - start - head
	mode := literalsCoded

	old, possible := e.code.bits(counts)
	if possible && (!described || old <= size+8*tree) {
		c, size, tree, mode = &e.code, old, 0, literalsCodedAsBefore
		e.out = e.out[:start+head]
	} else if !described {
		e.out = e.out[:start]
		return false
	}

	// A code that saves less than a part in 64 is not worth a decoder's time.
	if head+tree+jumpTableLen+size/8+4 >= n-n>>6 {
		e.out = e.out[:start]
		return false
	}

	e.out = slices.Grow(e.out, 2*n+32)
	if n < oneStream {
		e.out = c.appendStream(e.out, lit)
	} else {
		e.out = c.appendStreams(e.out, lit)
	}

	putCodedHeader(e.out[start:start+head], mode, n, len(e.out)-start-head)
	if mode == literalsCoded {
		e.code = *c
	}

	return true
}

// appendStreams appends four streams behind the lengths of the first three.
func (c *literalCode) appendStreams(out, lit []byte) []byte {
	jump := len(out)
	out = append(out, make([]byte, jumpTableLen)...)
	quarter := (len(lit) + 3) / 4
	for i := range 4 {
		at := len(out)
		out = c.appendStream(out, lit[i*quarter:min((i+1)*quarter, len(lit))])
		if i < 3 {
			binary.LittleEndian.PutUint16(out[jump+2*i:], uint16(len(out)-at))
		}
	}
	return out
}

// putCodedHeader fills in the "Literals_Section_Header" of n literals that take so many bytes.
func putCodedHeader(head []byte, mode, n, packed int) {
	format, width := 0, 10 // one stream
	switch len(head) {
	case 4:
		format, width = 2, 14
	case 5:
		format, width = 3, 18
	}
	h := uint64(mode) | uint64(format)<<2 | uint64(n)<<4 | uint64(packed)<<(4+width)
	for i := range head {
		head[i] = byte(h >> (8 * i))
	}
}

// appendPlainHeader appends the "Literals_Section_Header" of n literals that have no code.
func appendPlainHeader(out []byte, mode, n int) []byte {
	switch {
	case n < 32:
		return append(out, byte(mode|n<<3))
	case n < 4096:
		return appendLittle(out, uint64(mode|1<<2|n<<4), 2)
	}
	return appendLittle(out, uint64(mode|3<<2|n<<4), 3)
}

// countBytes counts the bytes of p, in four tables, so that runs do not wait for one counter.
func countBytes(counts *[256]uint32, p []byte) {
	var more [3][256]uint32
	for ; len(p) >= 8; p = p[8:] {
		v := binary.LittleEndian.Uint64(p)
		counts[v&255]++
		more[0][v>>8&255]++
		more[1][v>>16&255]++
		more[2][v>>24&255]++
		counts[v>>32&255]++
		more[0][v>>40&255]++
		more[1][v>>48&255]++
		more[2][v>>56]++
	}

	for _, c := range p {
		counts[c]++
	}

	for i := range counts {
		counts[i] += more[0][i] + more[1][i] + more[2][i]
	}
}
