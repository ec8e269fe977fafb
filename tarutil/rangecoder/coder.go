// Package rangecoder codes decisions in as few bits as they are surprising. A [Prob] learns how
// likely a bit is; the likelier the bit that comes, the less it takes.
//
// A [Coder] either writes or reads. Both ways are the same calls in the same order, so that a
// format is written down once, as one function that gets a Coder: when writing, Bit takes the
// bit and returns it; when reading, it ignores what it is given and returns what was written.
//
//	n = c.Number(&model, n) // writes n, or reads it
//
// # Design
//
// The arithmetic is the carry-propagating range coder of LZMA with probabilities of sixteen
// bits. Each of them is the mean of a fast and a slow estimate, which costs one addition and
// saves two or three per cent over either. All numbers are part of the formats built on this
// package: they never change.
package rangecoder

import "math/bits"

const (
	top      = 1 << 24
	fastRate = 4
	slowRate = 7
)

// A Prob is the estimate that a bit is 0. It must be set by [Prob.Reset] before use.
type Prob struct{ fast, slow uint16 }

// Reset makes both bits equally likely.
func (p *Prob) Reset() { p.fast, p.slow = 1<<15, 1<<15 }

// ResetAll resets a whole table.
func ResetAll(table []Prob) {
	for i := range table {
		table[i].Reset()
	}
}

// A Coder writes or reads a sequence of decisions. Make one with [NewWriter] or [NewReader]. The
// reader must make the calls of the writer, in the same order with models of the same history. A
// Coder is not safe for concurrent use.
type Coder struct {
	writing bool
	rng     uint32

	// Writing: low has 33 bits, the highest of them a carry that may still run through the
	// bytes held back, one of any value and then pending ones of 0xff.
	low     uint64
	held    byte
	pending int64
	started bool
	out     []byte

	// Reading.
	code uint32
	in   []byte
	pos  int
}

// NewWriter returns a Coder that writes, appending to buf. The bytes are whole only after
// [Coder.Finish].
func NewWriter(buf []byte) *Coder {
	return &Coder{writing: true, rng: 1<<32 - 1, out: buf}
}

// NewReader returns a Coder that reads what [Coder.Finish] returned. Of other bytes it makes
// some sequence of decisions, which never ends by itself: see [Coder.Overrun].
func NewReader(in []byte) *Coder {
	c := &Coder{rng: 1<<32 - 1, in: in}
	for range 4 {
		c.code = c.code<<8 | uint32(c.next())
	}
	return c
}

// Writing reports whether the Coder writes.
func (c *Coder) Writing() bool { return c.writing }

// Len is how many bytes were written so far, give or take what is held back.
func (c *Coder) Len() int { return len(c.out) + int(c.pending) }

// Overrun reports whether more was read than was written, so that the input must be damaged. It may
// be true only some decisions later, so a loop over input asks again each time.
func (c *Coder) Overrun() bool { return c.pos > len(c.in)+4 }

func (c *Coder) next() byte {
	c.pos++
	if c.pos > len(c.in) {
		return 0
	}
	return c.in[c.pos-1]
}

// Finish ends the sequence and returns all bytes. The Coder must not be used afterwards.
func (c *Coder) Finish() []byte {
	for range 5 {
		c.shift()
	}

	// The reader takes what is missing for zeros, up to what Overrun allows.
	for range 4 {
		if n := len(c.out); n > 0 && c.out[n-1] == 0 {
			c.out = c.out[:n-1]
		}
	}
	return c.out
}

// shift moves the highest byte of low to the output, once no carry can change it.
func (c *Coder) shift() {
	if c.low < 0xff<<24 || c.low >= 1<<32 {
		carry := byte(c.low >> 32)
		if c.started {
			c.out = append(c.out, c.held+carry)
		}
		for ; c.pending > 0; c.pending-- {
			c.out = append(c.out, 0xff+carry)
		}
		c.started, c.held = true, byte(c.low>>24)
	} else {
		c.pending++
	}
	c.low = c.low & (1<<24 - 1) << 8
}

// zero makes a bit 0 likelier.
func (p *Prob) zero() {
	p.fast += (1<<16 - 1 - p.fast) >> fastRate
	p.slow += (1<<16 - 1 - p.slow) >> slowRate
}

// one makes a bit 1 likelier.
func (p *Prob) one() {
	p.fast -= p.fast >> fastRate
	p.slow -= p.slow >> slowRate
}

// bound divides a range in the ratio of the two probabilities. The lower part stands for 0.
func (p *Prob) bound(rng uint32) uint32 {
	return rng >> 16 * ((uint32(p.fast) + uint32(p.slow)) >> 1)
}

// Bit codes one bit.
func (c *Coder) Bit(p *Prob, bit int) int {
	if c.writing {
		c.write(p, bit)
		return bit
	}
	return c.read(p)
}

func (c *Coder) write(p *Prob, bit int) {
	bound := p.bound(c.rng)
	if bit == 0 {
		c.rng = bound
		p.zero()
	} else {
		c.rng -= bound
		c.low += uint64(bound)
		p.one()
	}

	// A byte is settled as soon as the range is within it. That keeps at least 24 bits of
	// precision.
	for c.rng < top {
		c.rng <<= 8
		c.shift()
	}
}

func (c *Coder) read(p *Prob) int {
	bit := 0
	if bound := p.bound(c.rng); c.code < bound {
		c.rng = bound
		p.zero()
	} else {
		c.rng -= bound
		c.code -= bound
		p.one()
		bit = 1
	}
	for c.rng < top {
		c.rng <<= 8
		c.code = c.code<<8 | uint32(c.next())
	}
	return bit
}

// Flag codes a yes or no.
func (c *Coder) Flag(p *Prob, yes bool) bool {
	bit := 0
	if yes {
		bit = 1
	}
	return c.Bit(p, bit) == 1
}

// Raw codes the low n bits of v, at most 32, without a model.
func (c *Coder) Raw(v uint32, n int) uint32 {
	var got uint32
	for n--; n >= 0; n-- {
		// Each bit halves the range.
		c.rng >>= 1
		bit := v >> n & 1
		if !c.writing {
			bit = 1
			if c.code < c.rng {
				bit = 0
			}
		}

		if bit != 0 {
			c.low += uint64(c.rng)
			c.code -= c.rng
		}

		got = got<<1 | bit

		for c.rng < top {
			c.rng <<= 8
			if c.writing {
				c.shift()
			} else {
				c.code = c.code<<8 | uint32(c.next())
			}
		}
	}

	return got
}

// Tree codes a number below 1<<n with a table of 1<<n models, the highest bit first.
func (c *Coder) Tree(table []Prob, v, n int) int {
	if c.writing {
		c.writeTree(table, v, n)
		return v & (1<<n - 1)
	}
	return c.readTree(table, n)
}

// writeTree writes a number bit by bit, with what is needed for each in variables.
func (c *Coder) writeTree(table []Prob, v, n int) {
	rng, low := c.rng, c.low
	at := 1
	for n--; n >= 0; n-- {
		p := &table[at]
		bound := p.bound(rng)
		bit := v >> n & 1
		if bit == 0 {
			rng = bound
			p.zero()
		} else {
			rng -= bound
			low += uint64(bound)
			p.one()
		}
		at = at<<1 | bit
		for rng < top {
			rng <<= 8
			c.low = low
			c.shift()
			low = c.low
		}
	}

	c.rng, c.low = rng, low
}

// readTree reads what writeTree wrote.
func (c *Coder) readTree(table []Prob, n int) int {
	rng, code := c.rng, c.code
	at := 1
	for range n {
		p := &table[at]
		if bound := p.bound(rng); code < bound {
			rng = bound
			p.zero()
			at <<= 1
		} else {
			rng -= bound
			code -= bound
			p.one()
			at = at<<1 | 1
		}
		for rng < top {
			rng <<= 8
			code = code<<8 | uint32(c.next())
		}
	}

	c.rng, c.code = rng, code
	return at - 1<<n
}

// Guided codes a byte of which a guess is known. While its bits are those of the guess, their models depend
// on the bit of the guess too, and from the first other one on they do not.
func (c *Coder) Guided(table *[768]Prob, v, guess byte) byte {
	if c.writing {
		c.writeGuided(table, v, guess)
		return v
	}
	return c.readGuided(table, guess)
}

// guided returns the place in a table of the model for the bit after at, which the guess says to be want.
// Once a bit was another one, apart is all ones.
func guided(at, want, apart int) int { return at + (256+want<<8)&^apart }

func (c *Coder) writeGuided(table *[768]Prob, v, guess byte) {
	rng, low := c.rng, c.low
	at, apart := 1, 0
	for i := 7; i >= 0; i-- {
		bit, want := int(v>>i)&1, int(guess>>i)&1
		p := &table[guided(at, want, apart)]
		bound := p.bound(rng)
		if bit == 0 {
			rng = bound
			p.zero()
		} else {
			rng -= bound
			low += uint64(bound)
			p.one()
		}
		at = at<<1 | bit
		apart |= -(bit ^ want)
		for rng < top {
			rng <<= 8
			c.low = low
			c.shift()
			low = c.low
		}
	}

	c.rng, c.low = rng, low
}

func (c *Coder) readGuided(table *[768]Prob, guess byte) byte {
	rng, code := c.rng, c.code
	at, apart := 1, 0
	for i := 7; i >= 0; i-- {
		want := int(guess>>i) & 1
		p := &table[guided(at, want, apart)]
		bit := 0
		if bound := p.bound(rng); code < bound {
			rng = bound
			p.zero()
		} else {
			rng -= bound
			code -= bound
			p.one()
			bit = 1
		}
		at = at<<1 | bit
		apart |= -(bit ^ want)
		for rng < top {
			rng <<= 8
			code = code<<8 | uint32(c.next())
		}
	}

	c.rng, c.code = rng, code
	return byte(at)
}

// A Number is the model of a number without a limit that is mostly small.
type Number struct {
	class [64]Prob    // a tree of how many bits the number has
	high  [33][8]Prob // a tree of the three bits below the highest
}

// Reset forgets what was learned.
func (n *Number) Reset() {
	ResetAll(n.class[:])
	for i := range n.high {
		ResetAll(n.high[i][:])
	}
}

// Number codes a number below 1<<32.
func (c *Coder) Number(n *Number, v uint32) uint32 {
	class := min(c.Tree(n.class[:], bits.Len32(v), 6), 32) // more only in damaged input
	if class <= 1 {
		return uint32(class)
	}

	// The highest bit is one. The next three are modelled, the rest is noise.
	rest := class - 1
	modelled := min(rest, 3)
	got := uint32(1)<<modelled | uint32(c.Tree(n.high[class][:], int(v>>(rest-modelled)&(1<<modelled-1)), modelled))
	if rest -= modelled; rest > 0 {
		got = got<<rest | c.Raw(v, rest)
	}

	return got
}
