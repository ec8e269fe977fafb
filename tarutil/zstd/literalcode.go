package zstd

import (
	"math/bits"

	"ocikit/tarutil/entropy"
)

// A literalCode is the Huffman code that literals are written in: what [code] decodes.
type literalCode struct {
	log   uint8 // the length of the longest code; 0: there is none yet
	last  int   // the last literal that has one
	lens  [256]uint8
	codes [256]uint16
}

// init makes the best code for the counts, of which two at least are not zero.
func (c *literalCode) init(counts *[256]uint32) {
	entropy.CodeLengths(c.lens[:], counts[:], maxCodeLen)
	var number [maxCodeLen + 1]uint16 // of codes of each length
	for s, n := range c.lens {
		if n > 0 {
			number[n]++
			c.last = s
		}
	}

	c.log = maxCodeLen
	for number[c.log] == 0 {
		c.log--
	}

	// The longest codes come first, and those of one length in the order of the literals.
	var next [maxCodeLen + 1]uint16
	at := uint16(0)
	for n := c.log; n > 0; n-- {
		next[n] = at
		at = (at + number[n]) >> 1
	}

	for s, n := range c.lens {
		if n > 0 {
			c.codes[s] = next[n]
			next[n]++
		}
	}
}

// bits returns how many bits literals with these counts take, or false if one has no code.
func (c *literalCode) bits(counts *[256]uint32) (sum int, ok bool) {
	for s, n := range counts {
		l := c.lens[s]
		if n > 0 && l == 0 {
			return 0, false
		}
		sum += int(n) * int(l)
	}
	return sum, c.log > 0
}

// appendTree appends a "Huffman Tree Description", or reports that there is none for the code.
func (c *literalCode) appendTree(out []byte, logs *entropy.Logs) ([]byte, bool) {
	var weights [maxWeights + 1]uint8
	n := c.last // the weight of the last literal follows from the others
	for s := range n {
		if c.lens[s] > 0 {
			weights[s] = c.log + 1 - c.lens[s]
		}
	}

	// In a code of their own, if its length fits into seven bits and is less than without.
	start := len(out)
	out, ok := appendWeights(append(out, 0), weights[:n], logs)
	size := len(out) - start - 1
	if ok && size < 128 && (n > 128 || size < (n+1)/2) {
		out[start] = byte(size)
		return out, true
	}

	// Or else as they are, when there are at most 128 of them.
	if n > 128 {
		return out[:start], false
	}

	out = append(out[:start], byte(127+n))
	for i := 0; i < n; i += 2 {
		out = append(out, weights[i]<<4|weights[i+1])
	}

	return out, true
}

// appendWeights appends weights by two states in turn, what [readWeights] reads, or reports that
// this is not possible.
func appendWeights(out []byte, weights []uint8, logs *entropy.Logs) ([]byte, bool) {
	var counts [maxCodeLen + 1]uint32
	for _, w := range weights {
		counts[w]++
	}

	// A distribution has two symbols at least.
	used, n := usedSymbols(counts[:])
	if used < 2 || len(weights) < 3 {
		return out, false
	}

	log := uint8(min(max(bits.Len(uint(len(weights)-1))-2, 5), maxWeightLog))
	var norm [maxCodeLen + 1]int16
	normalize(logs, norm[:n], counts[:n], log)

	var t stateTable
	t.set(norm[:n], log)
	w := writerAt(appendDistribution(out, norm[:n], log), 0, 0)

	// From the last to the first, since a decoder reads from the end. The last weight of each
	// state takes no bits: the state begins with it.
	var states [2]uint32
	last := len(weights) - 1
	states[last&1] = t.first(uint32(weights[last]))
	states[(last-1)&1] = t.first(uint32(weights[last-1]))
	for i := last - 2; i >= 0; i-- {
		state := states[i&1]
		next, k := t.step(state, uint32(weights[i]))
		w.Put(uint64(state&(1<<k-1)), uint(k))
		states[i&1] = next
	}

	w.Put(uint64(states[1]&(1<<log-1)), uint(log))
	w.Put(uint64(states[0]&(1<<log-1)), uint(log))
	return w.mark(), true
}

// usedSymbols returns how many counts are not zero, and the number of the last of these plus one.
func usedSymbols(counts []uint32) (used, n int) {
	for s, c := range counts {
		if c > 0 {
			used++
			n = s + 1
		}
	}
	return used, n
}

// appendStream appends the codes of literals, from the last to the first. There must be room for
// two bytes for each, and for 8 more.
func (c *literalCode) appendStream(out, literals []byte) []byte {
	o, buf := len(out), out[:cap(out)]
	acc, n := uint64(0), uint(0)
	for len(literals) >= 5 { // 55 bits at most, and 7 of those before
		l := (*[5]byte)(literals[len(literals)-5:])
		literals = literals[:len(literals)-5]
		acc, n = c.add(acc, n, l[4])
		acc, n = c.add(acc, n, l[3])
		acc, n = c.add(acc, n, l[2])
		acc, n = c.add(acc, n, l[1])
		acc, n = c.add(acc, n, l[0])
		o, acc, n = store(buf, o, acc, n)
	}

	w := writerAt(buf[:o], acc, n)
	for i := len(literals) - 1; i >= 0; i-- {
		w.Put(uint64(c.codes[literals[i]]), uint(c.lens[literals[i]]))
	}

	return w.mark()
}

// add appends the code of a literal to acc, which holds n bits.
func (c *literalCode) add(acc uint64, n uint, literal byte) (uint64, uint) {
	return acc | uint64(c.codes[literal])<<(n&63), n + uint(c.lens[literal])
}
