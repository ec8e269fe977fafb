package gzip

import "ocikit/tarutil/entropy"

// counts are the frequencies of the symbols in one DEFLATE block.
type counts struct {
	litLen [286]uint32
	dist   [30]uint32
}

// collect sets c to the counts of the tokens from index from on, with one end of block.
func (c *counts) collect(t *tokens, from int, length *[256]lengthCode) {
	var n [512]uint32
	for _, v := range t.list[from:t.n] {
		n[v&tokenLitLen]++
	}
	copy(c.litLen[:], n[:256])
	clear(c.litLen[256:])
	c.litLen[endBlock] = 1
	for i, k := range n[256:] {
		c.litLen[endBlock+int(length[i].sym)] += k
	}
	copy(c.dist[:], t.dist[1:])
}

// sum sets c to the counts of one block which holds what a and b hold.
func (c *counts) sum(a, b *counts) {
	for i := range c.litLen {
		c.litLen[i] = a.litLen[i] + b.litLen[i]
	}
	c.litLen[endBlock] = 1
	for i := range c.dist {
		c.dist[i] = a.dist[i] + b.dist[i]
	}
}

// extraBits returns how many bits follow the codes of the symbols.
func (c *counts) extraBits() int {
	n := 0
	for i, f := range c.dist {
		n += int(f) * distExtra(i)
	}
	for sym := 265; sym < 285; sym++ { // four symbols to each number of extra bits
		n += int(c.litLen[sym]) * ((sym - 261) / 4)
	}
	return n
}

// cost estimates the size of a block with codes of its own, without the extra bits, in
// units of 1/[entropy.One] bit: the entropy and a share of the description for each symbol used.
func (c *counts) cost(log *entropy.Logs) int64 {
	const perBlock, perSymbol = 60 * entropy.One, 3 * entropy.One
	bits1, used1 := log.Bits(c.litLen[:])
	bits2, used2 := log.Bits(c.dist[:])
	return bits1 + bits2 + int64(used1+used2)*perSymbol + perBlock
}
