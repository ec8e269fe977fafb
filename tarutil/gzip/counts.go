package gzip

import "math/bits"

// counts are the frequencies of the symbols in one DEFLATE block.
type counts struct {
	litLen [286]uint32
	dist   [30]uint32
}

// collect takes the counts of the tokens from on, with the end of the block.
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
// units of 1/logOne bit: the entropy and a share of the description for each symbol used.
func (c *counts) cost(log *logTable) int64 {
	const perBlock, perSymbol = 60 * logOne, 3 * logOne
	bits1, used1 := log.entropy(c.litLen[:])
	bits2, used2 := log.entropy(c.dist[:])
	return bits1 + bits2 + int64(used1+used2)*perSymbol + perBlock
}

// logTable holds binary logarithms in fixed point, since floating point would round
// differently where a processor fuses multiplication and addition.
type logTable struct {
	log   [256]uint16     // of 1 + i/256
	times [1 << 10]uint32 // i times the logarithm of i
}

const (
	logBits = 12
	logOne  = 1 << logBits // the 1 of logTable
)

func (t *logTable) init() {
	for i := range t.log {
		x := uint64(256+i) << 22 // from here on 1 is 1<<30
		v := uint16(0)
		for range logBits { // squaring doubles the logarithm: one more bit of it
			x = x * x >> 30
			v <<= 1
			if x >= 2<<30 {
				x >>= 1
				v++
			}
		}
		t.log[i] = v
	}
	for i := 1; i < len(t.times); i++ {
		t.times[i] = uint32(int64(i) * t.of(uint32(i)))
	}
}

// of returns the logarithm of x, which is not zero.
func (t *logTable) of(x uint32) int64 {
	n := bits.LeadingZeros32(x)
	return int64(31-n)<<logBits + int64(t.log[x<<n>>23&255])
}

// entropy returns the entropy of symbols with the frequencies fs, and how many are not zero.
func (t *logTable) entropy(fs []uint32) (sum int64, used int) {
	total := uint32(0)
	for _, f := range fs {
		total += f
		used += int((f + 1<<31 - 1) >> 31) // 1 unless f is 0
		if f < uint32(len(t.times)) {
			sum -= int64(t.times[f])
		} else {
			sum -= int64(f) * t.of(f)
		}
	}
	return sum + int64(total)*t.of(max(total, 1)), used
}
