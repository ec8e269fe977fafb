package zstd

import (
	"encoding/binary"
	"math/bits"
)

const (
	maxCodeLen   = 11  // of the Huffman code of literals
	maxWeights   = 255 // that are described; that of the last byte follows from them
	maxWeightLog = 6   // accuracy of the table that weights may be coded by
)

// A code decodes literals. It is looked up by the next log bits.
type code struct {
	log   uint8 // 0: there is none yet
	cells [1 << maxCodeLen]codeCell
}

type codeCell struct {
	symbol byte
	len    uint8
}

// read reads a "Huffman Tree Description" at the start of data, and returns its length.
func (c *code) read(data []byte, scratch *table) (int, error) {
	if len(data) == 0 {
		return 0, corrupt("literals without a Huffman code")
	}

	// From 128 on, the first byte says how many weights follow, of four bits each. Below, it says how
	// many bytes a code of the weights takes.
	var weights [maxWeights + 1]uint8
	var n, used int
	if head := int(data[0]); head >= 128 {
		n = head - 127
		used = 1 + (n+1)/2
		if used > len(data) {
			return 0, corrupt("Huffman code is cut off")
		}
		for i := range n {
			weights[i] = data[1+i/2] >> (4 * (1 - i&1)) & 15
		}
	} else {
		used = 1 + head
		if used > len(data) {
			return 0, corrupt("Huffman code is cut off")
		}
		var err error
		if n, err = readWeights(data[1:used], weights[:maxWeights], scratch); err != nil {
			return 0, err
		}
	}

	return used, c.set(&weights, n)
}

// readWeights decodes weights that two states in turn give.
func readWeights(data []byte, weights []uint8, t *table) (int, error) {
	var counts [maxSymbols]int16
	dist, log, used, err := readCounts(data, counts[:], maxWeightLog)
	if err != nil {
		return 0, err
	}

	t.set(dist, log, nil)
	var b backward
	if err := b.init(data[used:]); err != nil {
		return 0, err
	}

	var states [2]uint64
	for i := range states {
		states[i] = b.take(log)
	}
	if b.overrun() {
		return 0, corrupt("weights of a Huffman code are cut off")
	}

	// No count says how many weights there are: they end when the bits do. The state that would
	// have been next then gives the last weight.
	for n := 0; ; {
		turn := n & 1
		c := t.cells[states[turn]]
		if n == len(weights) {
			return 0, corrupt("Huffman code of more than 256 literals")
		}
		weights[n] = uint8(c.base())
		n++

		b.fill()
		states[turn] = uint64(c.next()) + b.take(c.bits())
		if !b.overrun() {
			continue
		}
		if n == len(weights) {
			return 0, corrupt("Huffman code of more than 256 literals")
		}
		weights[n] = uint8(t.cells[states[1-turn]].base())
		return n + 1, nil
	}
}

// set makes the table from n weights, and that of the literal behind them.
func (c *code) set(weights *[maxWeights + 1]uint8, n int) error {
	c.log = 0 // no code is left if this one is wrong

	var ranks [maxCodeLen + 2]uint // how many have each weight
	sum := uint(0)
	for _, w := range weights[:n] {
		if w > maxCodeLen {
			return corrupt("weight %d in a Huffman code", w)
		}
		ranks[w]++
		if w > 0 {
			sum += 1 << (w - 1)
		}
	}

	log := uint(bits.Len(sum))
	if sum == 0 || log > maxCodeLen {
		return corrupt("Huffman code that does not add up")
	}

	// The cells that the described weights leave free belong to the last literal. Their number must
	// be a power of two, as that of any literal is.
	rest := uint(1)<<log - sum
	if rest&(rest-1) != 0 {
		return corrupt("Huffman code that does not add up")
	}

	last := uint8(bits.Len(rest))
	weights[n] = last
	ranks[last]++
	if ranks[1] < 2 {
		return corrupt("Huffman code without a longest one")
	}

	// The codes of the lowest weight come first, each with 1<<(weight-1) cells.
	var next [maxCodeLen + 2]uint
	at := uint(0)
	for w := uint(1); w <= log; w++ {
		next[w] = at
		at += ranks[w] << (w - 1)
	}

	for s, w := range weights[:n+1] {
		if w == 0 {
			continue
		}
		size := uint(1) << (w - 1)
		cells := c.cells[next[w] : next[w]+size]
		next[w] += size
		for i := range cells {
			cells[i] = codeCell{byte(s), uint8(log) + 1 - w}
		}
	}

	c.log = uint8(log)
	return nil
}

// decode1 decodes one stream, which has to give all of dst.
func (c *code) decode1(dst, data []byte) error {
	var b backward
	if err := b.init(data); err != nil {
		return err
	}

	// Five codes have at most 55 bits, so one fill is enough for them.
	shift := 64 - c.log
	for len(dst) >= 5 {
		b.fill()
		for i := range 5 {
			e := c.cells[b.acc>>(shift&63)&(1<<maxCodeLen-1)]
			dst[i] = e.symbol
			b.skip(uint(e.len) & 63)
		}
		dst = dst[5:]
	}

	b.fill()
	for i := range dst {
		e := c.cells[b.acc>>(shift&63)&(1<<maxCodeLen-1)]
		dst[i] = e.symbol
		b.skip(uint(e.len) & 63)
	}

	if !b.done() {
		return corrupt("stream of literals has a wrong length")
	}

	return nil
}

// decode4 decodes four streams, which stand behind the lengths of the first three. They are
// decoded in turns, so that the processor need not wait for the one to go on with the other.
func (c *code) decode4(dst, data []byte) error {
	const jumpTable = 6
	if len(data) < jumpTable {
		return corrupt("streams of literals are cut off")
	}

	var b [4]backward
	rest := data[jumpTable:]
	for i := range b {
		n := len(rest)
		if i < 3 {
			n = int(binary.LittleEndian.Uint16(data[2*i:]))
		}
		if n > len(rest) {
			return corrupt("streams of literals are cut off")
		}
		if err := b[i].init(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}

	// All streams but the last give the same number of literals.
	quarter := (len(dst) + 3) / 4
	if 3*quarter > len(dst) {
		return corrupt("four streams for %d literals", len(dst))
	}

	d0, d1, d2, d3 := dst[:quarter], dst[quarter:2*quarter], dst[2*quarter:3*quarter], dst[3*quarter:]
	b0, b1, b2, b3 := &b[0], &b[1], &b[2], &b[3]
	shift := 64 - c.log
	at := 0

	// The last stream is the shortest one, so its room is room in all. The state of the streams is
	// kept in variables of its own here, which the compiler can put into registers.
	for ; at+5 <= len(d3); at += 5 {
		b0.fill()
		b1.fill()
		b2.fill()
		b3.fill()

		o0, o1, o2, o3 := d0[at:at+5], d1[at:at+5], d2[at:at+5], d3[at:at+5]
		a0, a1, a2, a3 := b0.acc, b1.acc, b2.acc, b3.acc
		n0, n1, n2, n3 := b0.n, b1.n, b2.n, b3.n
		for i := range 5 {
			e0 := c.cells[a0>>(shift&63)&(1<<maxCodeLen-1)]
			e1 := c.cells[a1>>(shift&63)&(1<<maxCodeLen-1)]
			e2 := c.cells[a2>>(shift&63)&(1<<maxCodeLen-1)]
			e3 := c.cells[a3>>(shift&63)&(1<<maxCodeLen-1)]
			o0[i], o1[i], o2[i], o3[i] = e0.symbol, e1.symbol, e2.symbol, e3.symbol
			a0 <<= e0.len & 63
			a1 <<= e1.len & 63
			a2 <<= e2.len & 63
			a3 <<= e3.len & 63
			n0 -= int(e0.len)
			n1 -= int(e1.len)
			n2 -= int(e2.len)
			n3 -= int(e3.len)
		}

		b0.acc, b1.acc, b2.acc, b3.acc = a0, a1, a2, a3
		b0.n, b1.n, b2.n, b3.n = n0, n1, n2, n3
		if n0|n1|n2|n3 < 0 { // one was overrun
			return corrupt("stream of literals has a wrong length")
		}
	}

	for i, d := range [][]byte{d0[at:], d1[at:], d2[at:], d3[at:]} {
		if err := c.finish(&b[i], d); err != nil {
			return err
		}
	}

	return nil
}

// finish decodes what is left of a stream.
func (c *code) finish(b *backward, dst []byte) error {
	for i := range dst {
		b.fill()
		if b.overrun() {
			break
		}
		e := c.cells[b.acc>>(64-uint(c.log))&(1<<maxCodeLen-1)]
		dst[i] = e.symbol
		b.skip(uint(e.len))
	}
	if !b.done() {
		return corrupt("stream of literals has a wrong length")
	}
	return nil
}
