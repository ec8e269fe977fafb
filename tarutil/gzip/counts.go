package gzip

import (
	"ocikit/tarutil/entropy"
	"ocikit/tarutil/internal/deflate"
)

// counts are the frequencies of the symbols in one DEFLATE block.
type counts struct{ deflate.Counts }

// collect sets c to the counts of the tokens from index from on, with one end of block.
func (c *counts) collect(t *tokens, from int, length *[256]lengthCode) {
	var n [512]uint32
	for _, v := range t.list[from:t.n] {
		n[v&tokenLitLen]++
	}
	copy(c.Lit[:], n[:256])
	clear(c.Lit[256:])
	c.Lit[endBlock] = 1
	for i, k := range n[256:] {
		c.Lit[endBlock+int(length[i].sym)] += k
	}
	copy(c.Dist[:], t.dist[1:])
}

// sum sets c to the counts of one block which holds what a and b hold.
func (c *counts) sum(a, b *counts) {
	for i := range c.Lit {
		c.Lit[i] = a.Lit[i] + b.Lit[i]
	}
	c.Lit[endBlock] = 1
	for i := range c.Dist {
		c.Dist[i] = a.Dist[i] + b.Dist[i]
	}
}

// cost estimates the size of a block with codes of its own, without the extra bits, in
// units of 1/[entropy.One] bit: the entropy and a share of the description for each symbol used.
func (c *counts) cost(log *entropy.Logs) int64 {
	const perBlock, perSymbol = 60 * entropy.One, 3 * entropy.One
	bits1, used1 := log.Bits(c.Lit[:])
	bits2, used2 := log.Bits(c.Dist[:])
	return bits1 + bits2 + int64(used1+used2)*perSymbol + perBlock
}
