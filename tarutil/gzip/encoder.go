package gzip

import (
	"ocikit/tarutil/entropy"
	"ocikit/tarutil/internal/deflate"
)

const minSegment = 2 << 10 // the least number of tokens in a DEFLATE block that is not the last

// encoder compresses blocks, one after the other. The result for a block does not depend on those
// before, so it is no matter which encoder gets it.
type encoder struct {
	out     []byte // see room
	w       bitWriter
	parse   parser // nil for level 0
	segment int    // tokens between two decisions about where a DEFLATE block ends
	length  [256]lengthCode
	fixed   *deflate.Lengths
	log     entropy.Logs
	tokens  tokens
	codes   codes
}

func newEncoder(level int) *encoder {
	e := &encoder{parse: newParser(level), segment: minSegment, fixed: deflate.Fixed()}
	if level <= 3 {
		e.segment = 8 << 10
	}
	for i := range e.length {
		e.length[i] = codeOfLength(i + minMatch)
	}
	e.log.Init()
	return e
}

// room returns an empty buffer for what encode makes of n bytes, with space for a header and
// a trailer. A DEFLATE block is never longer than stored, 5 bytes and a part of one for each
// 64 KiB, and no shorter than minSegment bytes of input unless it is the last.
func (e *encoder) room(n int) []byte {
	need := n + n/256 + 64 + 2*stepBytes
	if cap(e.out) < need {
		e.out = make([]byte, 0, need)
	}
	return e.out[:0]
}

// encode appends b[window:end] in DEFLATE blocks to out. If last is set, they end the DEFLATE
// stream. If not, they end at a byte boundary, so that others can follow. There must be room
// in out, see [encoder.room].
func (e *encoder) encode(out []byte, b *buffer, window, end int, last bool) []byte {
	e.w = bitWriter{entropy.BitWriter{Out: out}}
	switch {
	case window == end:
		e.w.Put(0b011, 10) // an empty block with fixed codes, the last
	case e.parse == nil:
		e.w.stored(b[window:end], last)
	default:
		clear(b[end : end+padding])
		e.parse.reset(b, window, end)
		e.blocks(b, window, end, last)
	}

	// The next block is joined to this one as bytes.
	if !last && e.w.N > 0 {
		e.w.stored(nil, false)
	}

	return e.w.Align()
}

// blocks cuts the tokens of the input into DEFLATE blocks: a segment joins the block before
// it unless codes of its own would save more than their description takes.
func (e *encoder) blocks(b *buffer, start, end int, last bool) {
	t := &e.tokens
	t.n = 0
	var cur, seg, both counts // of the tokens kept, the latest ones, and both
	pos, curCost := start, int64(0)

	for pos < end {
		from, kept := pos, t.n
		clear(t.dist[:])
		pos = e.parse.next(pos, kept+e.segment, t)
		seg.collect(t, kept, &e.length)
		segCost := seg.cost(&e.log)

		if kept == 0 {
			cur, curCost = seg, segCost
			continue
		}

		// The segment joins if one block costs less than two, unless the list of tokens is full.
		both.sum(&cur, &seg)
		bothCost := both.cost(&e.log)
		if bothCost <= curCost+segCost && t.n <= maxTokens {
			cur, curCost = both, bothCost
			continue
		}

		// Else the block is written without the segment, which begins the next.
		e.block(t.list[:kept], &cur, b[start:from], false)
		t.n = copy(t.list[:], t.list[kept:t.n])
		cur, curCost = seg, segCost
		start = from
	}

	e.block(t.list[:t.n], &cur, b[start:end], last)
}

// block writes one DEFLATE block in the shortest of the three ways.
func (e *encoder) block(ts []uint32, c *counts, in []byte, last bool) {
	var own description
	own.init(c)
	extra := c.ExtraBits()
	ownBits := 3 + own.bits + c.CodeBits(&own.Lengths) + extra
	fixedBits := 3 + c.CodeBits(e.fixed) + extra
	final := uint64(0)
	if last {
		final = 1
	}

	// On equal sizes stored is taken first, then fixed codes.
	if n := storedBits(len(in)); n <= min(ownBits, fixedBits) {
		e.w.stored(in, last)
		return
	}

	if fixedBits <= ownBits {
		e.w.Put(final|1<<1, 3)
		e.codes.init(e.fixed, &e.length)
	} else {
		e.w.Put(final|2<<1, 3)
		own.write(&e.w)
		e.codes.init(&own.Lengths, &e.length)
	}

	e.w.tokens(ts, &e.codes)
	e.w.Put(uint64(e.codes.end>>5), uint(e.codes.end&31))
}
