package recipe

import (
	"math/bits"
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

// lengthCode returns the symbol of a length, how many extra bits it has, and their value.
func lengthCode(n int) (sym, extra, value int) {
	switch {
	case n == maxMatch:
		return 285, 0, 0
	case n == longAs284:
		return 284, 5, 31
	case n < 11:
		return 254 + n, 0, 0
	}
	v := n - minMatch
	extra = bits.Len(uint(v)) - 3
	return 257 + extra<<2 + v>>extra, extra, v & (1<<extra - 1)
}

// lengthBase returns the shortest length of a symbol and how many extra bits it has.
func lengthBase(sym int) (n, extra int) {
	switch s := sym - 257; {
	case sym == 285:
		return maxMatch, 0
	case s < 8:
		return s + minMatch, 0
	default:
		extra = s>>2 - 1
		return minMatch + (4+s&3)<<extra, extra
	}
}

// distCode returns the symbol of a distance, how many extra bits it has, and their value.
func distCode(dist int) (sym, extra, value int) {
	v := dist - 1
	if v < 4 {
		return v, 0, 0
	}
	extra = bits.Len(uint(v)) - 2
	return extra<<1 + v>>extra, extra, v & (1<<extra - 1)
}

// distBase returns the smallest distance of a symbol and how many extra bits it has.
func distBase(sym int) (dist, extra int) {
	if sym < 4 {
		return sym + 1, 0
	}
	extra = sym>>1 - 1
	return 1 + (2+sym&1)<<extra, extra
}

// lengthOrder is the order in which the lengths of the code for code lengths are written.
func lengthOrder() [lengthSyms]uint8 {
	return [lengthSyms]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
}

// repeatBits is how many bits follow the symbols 16, 17 and 18.
func repeatBits(sym int) int { return [3]int{2, 3, 7}[sym-16] }

// fixedLengths are the code lengths of a block with fixed codes.
func fixedLengths() (lit [288]uint8, dist [32]uint8) {
	for i := range lit {
		switch {
		case i < 144:
			lit[i] = 8
		case i < 256:
			lit[i] = 9
		case i < 280:
			lit[i] = 7
		default:
			lit[i] = 8
		}
	}

	for i := range dist {
		dist[i] = 5
	}

	return lit, dist
}

// A head is what stands before the tokens of a block with codes of its own.
type head struct {
	lit, dist, lengths int // how many code lengths are written of each kind
	length             [lengthSyms]uint8
	runs               []uint16 // symbols of the code for code lengths; from 16 on with what repeatBits says, shifted by 8
}

func (h *head) equal(o *head) bool {
	if o == nil || h.lit != o.lit || h.dist != o.dist || h.lengths != o.lengths || h.length != o.length || len(h.runs) != len(o.runs) {
		return false
	}
	for i, v := range h.runs {
		if o.runs[i] != v {
			return false
		}
	}
	return true
}

// expand returns the code lengths that the runs stand for. It reports false if they are not
// as many as the head says, or repeat what is not there.
func (h *head) expand(lit *[288]uint8, dist *[32]uint8) bool {
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

	*lit, *dist = [288]uint8{}, [32]uint8{}
	copy(lit[:], all[:h.lit])
	copy(dist[:], all[h.lit:want])
	return true
}

// size is how many bits the head takes, without the three before it.
func (h *head) size() int {
	n := 5 + 5 + 4 + 3*h.lengths
	for _, r := range h.runs {
		sym := int(r & 0xff)
		n += int(h.length[sym])
		if sym >= 16 {
			n += repeatBits(sym)
		}
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
		w.put(uint64(e.raw[0]), int(-w.offset()&7))
		w.bytes(e.raw[1:])
	default:
		k.emitBlock(w, &e.block)
	}
}

func (k *codec) emitBlock(w *bitWriter, b *block) {
	if !b.opened {
		w.put(uint64(bit(b.final))|uint64(b.kind)<<1, 3)
	}

	if b.kind == stored {
		w.put(uint64(b.pad), int(-w.offset()&7))
		w.put(uint64(b.size)|uint64(^uint16(b.size))<<16, 32)
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
		w.put(uint64(k.table.lit[endOfBlock]), int(k.table.lengths.lit[endOfBlock]))
	}
}

// emitHead writes the code lengths of a block (RFC 1951, section 3.2.7).
func emitHead(w *bitWriter, h *head) {
	w.put(uint64(h.lit-257), 5)
	w.put(uint64(h.dist-1), 5)
	w.put(uint64(h.lengths-4), 4)
	order := lengthOrder()
	for _, sym := range order[:h.lengths] {
		w.put(uint64(h.length[sym]), 3)
	}

	var codes [lengthSyms]uint16
	assign(codes[:], h.length[:])
	for _, r := range h.runs {
		sym := int(r & 0xff)
		w.put(uint64(codes[sym]), int(h.length[sym]))
		if sym >= 16 {
			w.put(uint64(r>>8), repeatBits(sym))
		}
	}
}

func (c *codeTable) assign() {
	assign(c.lit[:], c.lengths.lit[:])
	assign(c.dist[:], c.lengths.dist[:])
}

// emit writes tokens.
func (c *codeTable) emit(w *bitWriter, tokens []token) {
	for _, t := range tokens {
		if t.isLiteral() {
			w.put(uint64(c.lit[t]), int(c.lengths.lit[t]))
			continue
		}

		// Length, distance and their extra bits are 48 bits at most, which go in one piece.
		sym, extra, v := lengthCode(int(t >> matchShift))
		n := int(c.lengths.lit[sym])
		code := uint64(c.lit[sym]) | uint64(v)<<n
		n += extra
		sym, extra, v = distCode(t.dist())
		code |= uint64(c.dist[sym]) << n
		n += int(c.lengths.dist[sym])
		code |= uint64(v) << n
		w.put(code, n+extra)
	}
}
