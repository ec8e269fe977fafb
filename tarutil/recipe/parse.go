package recipe

import (
	"errors"
	"fmt"
	"io"

	"ocikit/tarutil/internal/deflate"
)

// ErrFormat means that the input is not a gzip file, or a damaged one.
var ErrFormat = errors.New("malformed gzip")

// A parser reads a gzip file, uncompresses it, and cuts it into segments. It does not check the
// trailers: a recipe makes a wrong one again as it is.
type parser struct {
	in       *bitReader
	history  []byte // what comes before the next segment
	inMember bool
	open     *block // was cut
	member   int64  // bytes since the member began
	unit     int64  // bytes since the encoder began or was flushed
	members  int
	number   int
	cuts     cuts

	lit, dist decoder
	fixed     *[2]decoder

	tokensBefore int // in the block before
}

// mostBits is how many bits a token takes at most.
const mostBits = 15 + 5 + 15 + 13

func newParser(r io.Reader) *parser {
	return &parser{in: newBitReader(r), cuts: usualCuts()}
}

// errorf returns an error about the input, unless it ended before: the zeros that stand for what is
// missing say nothing.
func (p *parser) errorf(format string, args ...any) error {
	if err := p.in.err; p.in.over > 0 && err != nil && err != io.EOF {
		return err
	}
	cause := fmt.Errorf(format, args...)
	if p.in.ended() {
		cause = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: at byte %d: %w", ErrFormat, p.in.offset()/8, cause)
}

// cut returns the error of an input that ends too early.
func (p *parser) cut() error { return p.errorf("%w", io.ErrUnexpectedEOF) }

// next returns the next segment, or io.EOF after the last.
func (p *parser) next() (*segment, error) {
	from := p.in.offset()
	s := &segment{
		data: make([]byte, 0, len(p.history)+blockCut+aheadSize), start: len(p.history),
		phase: int(from & 7), inMember: p.inMember, opened: p.open != nil,
		member: p.member, unit: p.unit, contentOf: p.number,
	}

	p.number++
	s.data = append(s.data, p.history...)
	done, err := p.fill(s)
	if err != nil {
		return nil, err
	}

	if done && len(s.events) == 0 {
		return nil, io.EOF
	}

	// The next segment begins with a copy of the bytes before it, for the encoders to find their
	// state again.
	s.end = len(s.data)
	s.bits = p.in.offset() - from
	s.cut = p.open != nil
	p.history = append(p.history[:0], s.data[max(0, len(s.data)-historySize):]...)
	return s, nil
}

// fill reads events until the segment is full. It reports true at the end of the file.
func (p *parser) fill(s *segment) (bool, error) {
	raw := 0
	for {
		size := len(s.data) - s.start
		flushed := p.unit == 0

		// Blocks are not cut unless they are very long. A flush is the best place to end, since the
		// encoder did not look beyond it.
		if p.open == nil && (size >= p.cuts.block || flushed && size >= p.cuts.flush) {
			return false, nil
		}

		// Empty blocks, headers and junk without end take memory and time that no contents pay for.
		if len(s.events) >= maxEvents || raw >= maxRaw {
			if size < leastSize {
				return false, fmt.Errorf("%w: gzip with hardly any contents", ErrUnknown)
			}
			return false, nil
		}

		if !p.inMember {
			e, err := p.between()
			if err == io.EOF {
				return true, nil
			}
			if err != nil {
				return false, err
			}
			s.events = append(s.events, e)
			raw += len(e.raw)
			continue
		}

		b, err := p.block(s)
		if err != nil {
			return false, err
		}

		s.events = append(s.events, event{what: aBlock, block: b})
		if b.cut {
			return false, nil
		}

		if !b.final {
			continue
		}

		t, err := p.trailer()
		if err != nil {
			return false, err
		}

		s.events = append(s.events, t)
	}
}

// between reads the header of a member, or what is behind the last member.
func (p *parser) between() (event, error) {
	if !p.in.more() {
		if p.in.err != nil && p.in.err != io.EOF {
			return event{}, p.in.err
		}
		if p.members == 0 {
			return event{}, p.cut()
		}
		return event{}, io.EOF
	}

	if p.in.n < 16 {
		p.in.refill()
	}

	// Bytes behind the last member that are not a header are kept as they are. Before the first
	// member they are an error.
	if p.in.acc&0xffff != 0x8b1f {
		if p.members == 0 {
			return event{}, p.errorf("no header")
		}
		return p.junk(), nil
	}

	raw, err := p.header()
	if err != nil {
		return event{}, err
	}

	p.members++
	p.inMember, p.member, p.unit = true, 0, 0
	return event{what: aHeader, raw: raw}, nil
}

// junk reads bytes that are not a member, up to the end of the file.
func (p *parser) junk() event {
	var raw []byte
	for len(raw) < maxHeader/16 && p.in.more() {
		raw = append(raw, byte(p.in.take(8)))
	}
	return event{what: aJunk, raw: raw}
}

// header reads the header of a member (RFC 1952, section 2.3).
func (p *parser) header() ([]byte, error) {
	var raw []byte
	read := func(n int) {
		for ; n > 0 && !p.in.ended(); n-- {
			raw = append(raw, byte(p.in.take(8)))
		}
	}

	// The header is kept as bytes. It is taken apart only as far as its length needs.
	if read(10); p.in.ended() {
		return nil, p.cut()
	}

	if raw[2] != 8 || raw[3]&0xe0 != 0 {
		return nil, p.errorf("method %d, flags %#x", raw[2], raw[3])
	}

	flags := raw[3]
	if flags&4 != 0 {
		read(2)
		if !p.in.ended() {
			read(int(raw[10]) | int(raw[11])<<8)
		}
	}

	// Name and comment end with a zero byte, and may be of any length.
	for _, bit := range []byte{8, 16} {
		for flags&bit != 0 && !p.in.ended() {
			if read(1); raw[len(raw)-1] == 0 {
				break
			}
			if len(raw) > maxHeader {
				return nil, p.errorf("a header of over %d bytes", maxHeader)
			}
		}
	}

	if flags&2 != 0 {
		read(2)
	}

	if p.in.ended() {
		return nil, p.cut()
	}

	return raw, nil
}

// trailer reads the rest of the last byte, which should be zeros, and the CRC and size behind it
// (RFC 1952, section 2.3.1).
func (p *parser) trailer() (event, error) {
	fill := byte(p.in.take(int(-p.in.offset() & 7)))
	raw := []byte{fill}
	for range 8 {
		raw = append(raw, byte(p.in.take(8)))
	}
	if p.in.ended() {
		return event{}, p.cut()
	}
	p.inMember = false
	p.unit, p.member = 0, 0
	return event{what: aTrailer, raw: raw}, nil
}

// block reads a block, the rest of one that was cut, or the beginning of one that is too long for
// a segment.
func (p *parser) block(s *segment) (block, error) {
	var b block
	if p.open != nil {
		b = *p.open
		b.opened, b.cut, b.size, b.tokens, b.pad = true, false, 0, nil, 0
		p.open = nil
	} else {
		b.final = p.in.take(1) == 1
		b.kind = kind(p.in.take(2))
	}

	var err error
	switch {
	case b.kind == stored:
		err = p.stored(s, &b)
	case b.kind == fixed:
		err = p.fixedCodes(s, &b)
	case b.kind == dynamic && b.opened:
		err = p.tokens(s, &b, &p.lit, &p.dist)
	case b.kind == dynamic:
		if err = p.head(&b); err == nil {
			err = p.tokens(s, &b, &p.lit, &p.dist)
		}
	default:
		err = p.errorf("a block of kind 3")
	}
	if err == nil && p.in.ended() {
		err = p.cut()
	}
	if err != nil {
		return b, err
	}

	// An empty block is a flush: what is counted in p.unit begins there anew.
	p.member += int64(b.size)
	p.unit += int64(b.size)
	switch {
	case b.cut:
		p.open = &b
	case b.isEmpty():
		p.unit = 0
	}

	return b, nil
}

// stored reads a stored block (RFC 1951, section 3.2.4). None is longer than a segment.
func (p *parser) stored(s *segment, b *block) error {
	b.pad = uint8(p.in.take(int(-p.in.offset() & 7)))
	n := p.in.take(16)
	if p.in.take(16) != n^0xffff && !p.in.ended() {
		return p.errorf("the length of a stored block is damaged")
	}
	for range n {
		s.data = append(s.data, byte(p.in.take(8)))
		if p.in.ended() {
			return p.cut()
		}
	}
	b.size = int(n)
	return nil
}

func (p *parser) fixedCodes(s *segment, b *block) error {
	p.setFixed()
	return p.tokens(s, b, &p.fixed[0], &p.fixed[1])
}

func (p *parser) setFixed() {
	if p.fixed == nil {
		p.fixed = new([2]decoder)
		lengths := deflate.Fixed()
		p.fixed[0].init(lengths.Lit[:])
		p.fixed[1].init(lengths.Dist[:])
	}
}

// head reads the codes of a block (RFC 1951, section 3.2.7).
func (p *parser) head(b *block) error {
	h := &head{lit: 257 + int(p.in.take(5)), dist: 1 + int(p.in.take(5)), lengths: 4 + int(p.in.take(4))}
	if h.lit > litLenSyms {
		return p.errorf("%d codes for literals and lengths", h.lit)
	}

	for _, sym := range deflate.LengthOrder[:h.lengths] {
		h.length[sym] = uint8(p.in.take(3))
	}

	if !p.lit.init(h.length[:]) {
		return p.errorf("the code of the code lengths is impossible")
	}

	// The runs are kept as they stand there, since equal lengths can be written in several ways.
	for n := 0; n < h.lit+h.dist; {
		sym, err := p.symbol(&p.lit)
		if err != nil {
			return err
		}
		run, count := uint16(sym), 1
		if sym >= 16 {
			v := int(p.in.take(deflate.RunBits(sym)))
			run |= uint16(v) << 8
			if count = 3 + v; sym == 18 {
				count = 11 + v
			}
		}
		h.runs = append(h.runs, run)
		n += count
	}

	var l deflate.Lengths
	if !h.expand(&l) || !p.lit.init(l.Lit[:]) || !p.dist.init(l.Dist[:]) {
		return p.errorf("the code lengths are impossible")
	}

	b.head = h
	return nil
}

func (p *parser) symbol(d *decoder) (int, error) {
	if p.in.n < 15 {
		p.in.refill()
	}
	sym, n := int(d.look[p.in.acc&(1<<lookBits-1)]>>4), int(d.look[p.in.acc&(1<<lookBits-1)]&15)
	if n == 0 {
		if sym, n = d.slow(p.in.acc); n == 0 {
			return 0, p.errorf("a code that means nothing")
		}
	}
	p.in.drop(n)
	if p.in.ended() {
		return 0, p.cut()
	}
	return sym, nil
}

// pair reads what follows the symbol of a length: its extra bits, and the distance. The caller has
// refilled the input, and asks whether it has ended.
func (p *parser) pair(sym int, dist *decoder) (length, d int, err error) {
	if sym > 285 {
		return 0, 0, p.errorf("length symbol %d", sym)
	}

	in := p.in
	length, extra := deflate.LengthBase(sym)
	length += int(in.acc & (1<<extra - 1))
	in.drop(extra)

	e := dist.look[in.acc&(1<<lookBits-1)]
	dsym, n := int(e>>4), int(e&15)
	if n == 0 {
		if dsym, n = dist.slow(in.acc); n == 0 {
			return 0, 0, p.errorf("a code that means nothing")
		}
	}

	in.drop(n)
	if dsym >= distSyms {
		return 0, 0, p.errorf("distance symbol %d", dsym)
	}

	d, extra = deflate.DistBase(dsym)
	d += int(in.acc & (1<<extra - 1))
	in.drop(extra)
	return length, d, nil
}

// tokens reads the tokens of a block and uncompresses them (RFC 1951, section 3.2.5). It is the
// innermost loop of parsing, so bits are taken in the open, from variables, and the end of the input is
// looked for only where it may have been reached.
func (p *parser) tokens(s *segment, b *block, lit, dist *decoder) error {
	in := p.in
	begin, limit := len(s.data), s.start+p.cuts.force
	oldest := begin - int(min(p.member, windowSize))
	tokens := make([]token, 0, max(1<<10, p.tokensBefore+p.tokensBefore/16))
	data := s.data
	acc, bits := in.acc, in.n
	defer func() {
		in.acc, in.n = acc, bits
		p.tokensBefore = len(tokens)
		if cap(tokens) > 2*len(tokens) {
			tokens = append(make([]token, 0, len(tokens)), tokens...) // small blocks may be many
		}
		s.data, b.tokens, b.size = data, tokens, len(data)-begin
	}()

	for {
		if bits < mostBits {
			in.acc, in.n = acc, bits
			in.refill()
			acc, bits = in.acc, in.n
		}

		e := lit.look[acc&(1<<lookBits-1)]
		sym, n := int(e>>4), int(e&15)
		if n == 0 {
			if sym, n = lit.slow(acc); n == 0 {
				in.acc, in.n = acc, bits
				return p.errorf("a code that means nothing")
			}
		}

		acc >>= n & 63
		bits -= n
		if sym < endOfBlock {
			data = append(data, byte(sym))
			tokens = append(tokens, token(sym))
			if len(data) >= limit || in.over > 0 {
				if in.over > bits {
					in.acc, in.n = acc, bits
					return p.cut()
				}
				if b.cut = len(data) >= limit; b.cut {
					return nil
				}
			}
			continue
		}

		if sym == endOfBlock {
			return nil
		}

		in.acc, in.n = acc, bits
		length, d, err := p.pair(sym, dist)
		acc, bits = in.acc, in.n
		if err != nil {
			return err
		}
		if in.ended() {
			return p.cut()
		}

		// A match must not lead out of the window, nor out of its member.
		from := len(data) - d
		if from < oldest {
			return p.errorf("a distance of %d", d)
		}

		// 258 can be written in two ways; which one it was must be kept.
		t := match(length, d)
		if sym == 284 && length == maxMatch {
			t = match(longAs284, d)
		}

		tokens = append(tokens, t)

		// Where the match overlaps what it makes, the bytes have to be copied one by one.
		if d >= length {
			data = append(data, data[from:from+length]...)
		} else {
			for i := range length {
				data = append(data, data[from+i])
			}
		}

		if b.cut = len(data) >= limit; b.cut {
			return nil
		}
	}
}
