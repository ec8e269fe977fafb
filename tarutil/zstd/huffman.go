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

// A code decodes literals. It is looked up by the next maxCodeLen bits, however long its codes are.
type code struct {
	ok    bool // there is one
	cells [1 << maxCodeLen]codeCell
}

// A codeCell is a literal, in the upper byte, and the length of its code, in the lower one.
type codeCell uint16

// next returns the literal whose code word begins with, and what is behind that.
func (c *code) next(word uint64) (byte, uint64) {
	e := uint(c.cells[word>>(64-maxCodeLen)])
	return byte(e >> 8), word << (e & 63)
}

// codesAtOnce is how many codes a word is enough for: 55 bits at most.
const codesAtOnce = 5

var errLiteralsLength = corrupt("stream of literals has a wrong length")

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
		states[turn] = uint64(c.next()) + b.take(uint8(c.bits()))
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
	c.ok = false // no code is left if this one is wrong

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

	// Shorter codes have more cells each, if no code is as long as may be.
	more := maxCodeLen - log
	for s, w := range weights[:n+1] {
		if w == 0 {
			continue
		}
		size := uint(1) << (w - 1)
		e := codeCell(s)<<8 | codeCell(log+1-uint(w))
		cells := c.cells[next[w]<<more : (next[w]+size)<<more]
		next[w] += size
		for i := range cells {
			cells[i] = e
		}
	}

	c.ok = true
	return nil
}

// decode1 decodes one stream, which has to give all of dst.
func (c *code) decode1(dst, data []byte) error {
	var b backward
	if err := b.init(data); err != nil {
		return err
	}

	// Five codes have at most 55 bits, so one fill is enough for them.
	for len(dst) >= codesAtOnce {
		b.fill()
		for i := range codesAtOnce {
			dst[i] = b.literal(c)
		}
		dst = dst[codesAtOnce:]
	}

	b.fill()
	for i := range dst {
		dst[i] = b.literal(c)
	}

	if !b.done() {
		return errLiteralsLength
	}

	return nil
}

// literal returns the next literal by c.
func (b *backward) literal(c *code) byte {
	e := uint(c.cells[b.acc>>(64-maxCodeLen)])
	b.skip(e & 63)
	return byte(e >> 8)
}

// decode4 decodes four streams, which stand behind the lengths of the first three, in packed. They are
// decoded in turns, so that the processor need not wait for the one to go on with the other.
func (c *code) decode4(dst, data []byte, packed *packedBlock) error {
	streams, err := split4(data)
	if err != nil {
		return err
	}

	// All streams but the last give the same number of literals.
	quarter := (len(dst) + 3) / 4
	if 3*quarter > len(dst) {
		return corrupt("four streams for %d literals", len(dst))
	}

	d0, d1, d2, d3 := dst[:quarter], dst[quarter:2*quarter], dst[2*quarter:3*quarter], dst[3*quarter:]
	i0, w0 := packed.first(streams[0])
	i1, w1 := packed.first(streams[1])
	i2, w2 := packed.first(streams[2])
	i3, w3 := packed.first(streams[3])
	at := 0

	// The last stream is the shortest one, so its room is room in all. That a stream is overrun
	// shows at the end: until then, what is loaded belongs to packed in any case.
	for ; at+codesAtOnce <= len(d3); at += codesAtOnce {
		o0, o1, o2, o3 := (*[codesAtOnce]byte)(d0[at:]), (*[codesAtOnce]byte)(d1[at:]), (*[codesAtOnce]byte)(d2[at:]), (*[codesAtOnce]byte)(d3[at:])
		for i := range codesAtOnce {
			o0[i], w0 = c.next(w0)
			o1[i], w1 = c.next(w1)
			o2[i], w2 = c.next(w2)
			o3[i], w3 = c.next(w3)
		}
		i0, w0 = packed.reload(i0, w0)
		i1, w1 = packed.reload(i1, w1)
		i2, w2 = packed.reload(i2, w2)
		i3, w3 = packed.reload(i3, w3)
	}

	// The few that are left are decoded one by one.
	ends := [4]int{i0, i1, i2, i3}
	words := [4]uint64{w0, w1, w2, w3}
	for i, d := range [][]byte{d0[at:], d1[at:], d2[at:], d3[at:]} {
		taken := 8*(packed.end(streams[i])-ends[i]) + bits.TrailingZeros64(words[i])
		if err := c.finish(streams[i], taken, d); err != nil {
			return err
		}
	}

	return nil
}

// split4 returns the four streams that data holds, each of which has a mark.
func split4(data []byte) (streams [4][]byte, err error) {
	const jumpTable = 6
	if len(data) < jumpTable {
		return streams, corrupt("streams of literals are cut off")
	}

	rest := data[jumpTable:]
	for i := range streams {
		n := len(rest)
		if i < 3 {
			n = int(binary.LittleEndian.Uint16(data[2*i:]))
		}
		if n > len(rest) {
			return streams, corrupt("streams of literals are cut off")
		}
		if n == 0 || rest[n-1] == 0 {
			return streams, errNoStart
		}
		streams[i], rest = rest[:n], rest[n:]
	}

	return streams, nil
}

// finish decodes what is left of a stream, of which some bits were taken.
func (c *code) finish(data []byte, taken int, dst []byte) error {
	if taken > 8*len(data) {
		return errLiteralsLength
	}

	b := backward{data: data, off: len(data) - taken>>3}
	b.fill()
	b.skip(uint(taken & 7))
	for i := range dst {
		b.fill()
		if b.overrun() {
			break
		}
		dst[i] = b.literal(c)
	}

	if !b.done() {
		return errLiteralsLength
	}
	return nil
}
