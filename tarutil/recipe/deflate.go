package recipe

import (
	"slices"

	"ocikit/tarutil/internal/deflate"
)

// The numbers of RFC 1951, section 3.2.
const (
	windowSize = 32 << 10
	minMatch   = 3
	maxMatch   = 258
	endOfBlock = 256
	litLenSyms = 286 // 286 and 287 have fixed codes, but never occur
	distSyms   = 30
	lengthSyms = 19 // of the code that the code lengths are written in
)

// A token is a literal, the byte itself, or a match: its length shifted by matchShift, and its
// distance. The length longAs284 is 258 written as code 284 with all extra bits set, which is
// as valid as code 285.
type token uint32

const (
	matchShift = 16
	longAs284  = maxMatch + 1
)

func match(n, dist int) token { return token(n<<matchShift | dist) }

// size is how many bytes the token stands for.
func (t token) size() int {
	n := int(t >> matchShift)
	if n == 0 {
		return 1
	}
	return min(n, maxMatch)
}

// isLiteral reports whether the token is one byte.
func (t token) isLiteral() bool { return t>>matchShift == 0 }

func (t token) dist() int { return int(t & (1<<matchShift - 1)) }

// A head is what stands before the tokens of a block with codes of its own.
type head struct {
	lit, dist, lengths int // how many code lengths are written of each kind
	length             [lengthSyms]uint8
	runs               []uint16 // symbols of the code for code lengths; see [deflate.AppendRuns]
}

func (h *head) equal(o *head) bool {
	return o != nil && h.lit == o.lit && h.dist == o.dist && h.lengths == o.lengths && h.length == o.length && slices.Equal(h.runs, o.runs)
}

// expand returns the code lengths that the runs stand for. It reports false if they are not
// as many as the head says, or repeat what is not there.
func (h *head) expand(l *deflate.Lengths) bool {
	var all [288 + 32]uint8
	n, want := 0, h.lit+h.dist

	// Codes 16 to 18 repeat (RFC 1951, section 3.2.7). A repeat may lead from one list of lengths
	// into the other.
	for _, r := range h.runs {
		sym, count, value := int(r&0xff), 1, uint8(r&0xff)
		switch {
		case sym == 16:
			if n == 0 {
				return false
			}
			count, value = 3+int(r>>8), all[n-1]
		case sym == 17:
			count, value = 3+int(r>>8), 0
		case sym == 18:
			count, value = 11+int(r>>8), 0
		}

		if n+count > want {
			return false
		}
		for range count {
			all[n] = value
			n++
		}
	}

	if n != want {
		return false
	}

	*l = deflate.Lengths{}
	copy(l.Lit[:], all[:h.lit])
	copy(l.Dist[:], all[h.lit:want])
	return true
}

// size is how many bits the head takes, without the three before it.
func (h *head) size() int {
	n := 5 + 5 + 4 + 3*h.lengths
	for _, r := range h.runs {
		sym := int(r & 0xff)
		n += int(h.length[sym]) + deflate.RunBits(sym)
	}
	return n
}

// A kind is how a block is written: the number is the one in the stream.
type kind uint8

const (
	stored kind = iota
	fixed
	dynamic
)

// A block is a DEFLATE block, or a part of one.
type block struct {
	kind   kind
	final  bool
	opened bool  // it began in the segment before
	cut    bool  // it goes on in the segment after
	pad    uint8 // the bits that are skipped before the length of a stored block
	size   int   // how many bytes it stands for
	head   *head // of a dynamic block, also of one that began before
	tokens []token
}

// isEmpty reports whether the block stands for nothing, as those do that a flush writes.
func (b *block) isEmpty() bool { return b.size == 0 && !b.opened && !b.cut }

// emit writes an event.
func (k *codec) emit(e *event) {
	w := &k.out
	switch e.what {
	case aHeader, aJunk:
		w.bytes(e.raw)
	case aTrailer:
		w.Put(uint64(e.raw[0]), uint(-w.offset()&7))
		w.bytes(e.raw[1:])
	default:
		k.emitBlock(w, &e.block)
	}
}

func (k *codec) emitBlock(w *bitWriter, b *block) {
	if !b.opened {
		w.Put(uint64(bit(b.final))|uint64(b.kind)<<1, 3)
	}

	if b.kind == stored {
		w.Put(uint64(b.pad), uint(-w.offset()&7))
		w.Put(uint64(b.size)|uint64(^uint16(b.size))<<16, 32)
		w.bytes(k.seg.data[k.pos-b.size : k.pos])
		return
	}

	if b.kind == dynamic && !b.opened {
		emitHead(w, b.head)
	}

	// The codes of other blocks were set when their tokens were coded.
	if b.isEmpty() {
		k.table.set(b)
	}

	k.table.assign()
	k.table.emit(w, b.tokens)
	if !b.cut {
		w.Put(uint64(k.table.lit[endOfBlock]), uint(k.table.lengths.Lit[endOfBlock]))
	}
}

// emitHead writes the code lengths of a block (RFC 1951, section 3.2.7).
func emitHead(w *bitWriter, h *head) {
	w.Put(uint64(h.lit-257), 5)
	w.Put(uint64(h.dist-1), 5)
	w.Put(uint64(h.lengths-4), 4)
	for _, sym := range deflate.LengthOrder[:h.lengths] {
		w.Put(uint64(h.length[sym]), 3)
	}

	var codes [lengthSyms]uint16
	deflate.AssignCodes(codes[:], h.length[:])
	for _, r := range h.runs {
		sym := int(r & 0xff)
		w.Put(uint64(codes[sym]), uint(h.length[sym]))
		w.Put(uint64(r>>8), uint(deflate.RunBits(sym)))
	}
}

func (c *codeTable) assign() {
	deflate.AssignCodes(c.lit[:], c.lengths.Lit[:])
	deflate.AssignCodes(c.dist[:], c.lengths.Dist[:])
}

// emit writes tokens.
func (c *codeTable) emit(w *bitWriter, tokens []token) {
	for _, t := range tokens {
		if t.isLiteral() {
			w.Put(uint64(c.lit[t]), uint(c.lengths.Lit[t]))
			continue
		}

		// Length, distance and their extra bits are 48 bits at most, which go in one piece.
		sym, extra, v := deflate.LengthCode(int(t >> matchShift))
		n := int(c.lengths.Lit[sym])
		code := uint64(c.lit[sym]) | uint64(v)<<n
		n += extra
		sym, extra, v = deflate.DistCode(t.dist())
		code |= uint64(c.dist[sym]) << n
		n += int(c.lengths.Dist[sym])
		code |= uint64(v) << n
		w.Put(code, uint(n+extra))
	}
}
