package recipe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"ocikit/tarutil/rangecoder"
)

// ErrRecipe means that a recipe is damaged, or not for these bytes.
var ErrRecipe = errors.New("damaged recipe")

var (
	errTooMany = errors.New("more corrections than wanted")
	errOther   = errorf("other tokens than wanted")
)

func errorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRecipe, fmt.Sprintf(format, args...))
}

// A codec codes the corrections of a segment. Writing, it is given complete events and writes
// where the style is wrong about them. Reading, it completes the events from the style and the
// corrections. Both ways are the same walk through the same functions; see package rangecoder.
type codec struct {
	*rangecoder.Coder
	models
	style
	matcher // the style's, or kin
	own     matcher
	kin     kinMatcher
	seg     *segment

	pos      int   // in data: where the next block begins
	bits     int64 // how far the output is
	member   int   // in data: where the member begins, as far as that matters; may be below 0
	memberAt int   // in data: where it really begins
	unit     int   // in data: where the encoder began
	unitEnd  int   // where it is flushed or ends, as far as that is known
	lastUnit int   // how long the unit before was
	lastSize int   // of the stored block before
	fresh    bool  // the matcher must begin before the next token
	eventAt  int   // the number of the event being coded
	crcFrom  int   // where a member begins in this segment, or -1
	header   []byte

	at, length, dist int // the next match that is predicted
	count            counter
	misses           []miss
	freq             frequencies
	first            frequencies // as far as a head is made of them
	hasFirst         bool
	table            codeTable
	scratch          []token
	out              bitWriter
	limit            int // more than so many bytes are an error

	trusting bool    // writing: the style is taken to be right about every token
	expect   []event // reading: what must come, or nil
}

// A miss is a token that was not predicted.
type miss struct {
	run int // so many before it were
	token
	expected token
}

type models struct {
	more, empty, isStored, final          [8]rangecoder.Prob
	isFixed                               [16]rangecoder.Prob
	sameSize, sameUnit, isUnit, pad       [2]rangecoder.Prob
	literals, right, counted, headRight   [2]rangecoder.Prob
	sameHeader, sameTrailer, between      [4]rangecoder.Prob
	isMatch, sameLength, sameDist         [3]rangecoder.Prob
	matchLength, raw                      [512]rangecoder.Prob
	distSym                               [64]rangecoder.Prob
	distLow                               [16]rangecoder.Prob
	runs                                  [20][32]rangecoder.Prob
	size, unitSize, tokenCount, runLength rangecoder.Number
}

func (m *models) reset() {
	for _, list := range [][]rangecoder.Prob{
		m.more[:], m.empty[:], m.isStored[:], m.isFixed[:], m.final[:], m.sameSize[:], m.sameUnit[:], m.isUnit[:], m.pad[:],
		m.literals[:], m.right[:], m.counted[:], m.headRight[:], m.sameHeader[:], m.sameTrailer[:], m.between[:],
		m.isMatch[:], m.sameLength[:], m.sameDist[:], m.matchLength[:], m.raw[:], m.distSym[:], m.distLow[:],
	} {
		rangecoder.ResetAll(list)
	}
	for i := range m.runs {
		rangecoder.ResetAll(m.runs[i][:])
	}
	for _, n := range []*rangecoder.Number{&m.size, &m.unitSize, &m.tokenCount, &m.runLength} {
		n.Reset()
	}
}

// defaultHeader is what a header is compared with first.
const defaultHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// run codes a segment: its events are complete when writing, and become so when reading.
func (k *codec) run(c *rangecoder.Coder, s *segment) error {
	// The member and the encoder may have begun before the segment. Their positions are counted
	// from its first byte, so they may be negative. Farther than historySize it does not matter
	// where the member began.
	k.Coder, k.seg = c, s
	k.models.reset()
	k.matcher = k.own
	if s.spans != nil {
		k.kin = kinMatcher{matcher: k.own, spans: s.spans, mute: k.trusting}
		k.matcher = &k.kin
	}

	k.pos, k.bits, k.crcFrom = s.start, int64(s.phase), -1
	k.member = s.start - int(min(s.member, historySize+1))
	k.memberAt = s.start - int(min(s.member, 1<<48))
	k.header = append(k.header[:0], defaultHeader...)
	k.lastUnit, k.lastSize = 0, 0
	k.unit = s.start - int(s.unit)
	if p := k.period(); p > 0 {
		k.unit = s.start - int(s.unit%int64(p))
	}

	k.fresh = s.inMember

	// A reader does not know how many events follow, so a flag is coded wherever the segment could
	// end. Elsewhere there is none: a block in the middle of a member always has one behind it.
	end := int64(s.phase) + s.bits
	inMember, isFinal := s.inMember, false
	for n := 0; ; n++ {
		more := true
		if !inMember || k.pos == s.end && !(n == 0 && s.opened) && !isFinal {
			more = k.Flag(&k.more[bit(inMember)], n < len(s.events))
		}

		if !more {
			break
		}

		e := new(event)
		if k.Writing() {
			e = &s.events[n]
		} else if k.Overrun() || k.bits > end {
			return errorf("segment %d: it would be too long", s.contentOf)
		}

		// The search for a style gives up on one that is worse than the best so far.
		if k.limit > 0 && c.Len() > k.limit {
			return errTooMany
		}

		// What follows is settled by the event before, except between members, where a header or
		// junk may come.
		k.eventAt = n
		switch {
		case isFinal:
			e.what = aTrailer
		case inMember:
			e.what = aBlock
		case k.Flag(&k.between[0], e.what == aJunk):
			e.what = aJunk
		default:
			e.what = aHeader
		}

		if err := k.event(e, n == 0 && s.opened); err != nil {
			return err
		}

		// Corrections that trusted the style are checked here, at the first block that differs.
		if k.expect != nil && (n >= len(k.expect) || !slices.Equal(e.block.tokens, k.expect[n].block.tokens)) {
			return errOther
		}

		inMember = e.what == aHeader || e.what == aBlock
		isFinal = e.what == aBlock && e.block.final

		// A cut block is the last event of its segment by definition.
		if e.what == aBlock && e.block.cut {
			break
		}
	}

	return k.finish(end)
}

// finish checks that a segment became what it should.
func (k *codec) finish(end int64) error {
	if k.seg.bits < 0 { // a sample
		return nil
	}

	// A reader would otherwise accept corrections for another segment.
	if k.pos != k.seg.end || k.bits != end || k.Overrun() {
		return errorf("segment %d: got %d bytes in %d bits, want %d in %d", k.seg.contentOf, k.pos-k.seg.start, k.bits, k.seg.end-k.seg.start, end)
	}
	return nil
}

func bit(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// byKin reports whether other files foretell tokens.
func (k *codec) byKin() bool { return k.matcher == &k.kin }

// event codes one event. It is written to the output at once, if it was read or may be trusted.
func (k *codec) event(e *event, opened bool) error {
	var err error
	switch e.what {
	case aJunk:
		err = k.junk(e)
	case aHeader:
		err = k.memberHeader(e)
	case aTrailer:
		k.trailer(e)
	default:
		err = k.block(&e.block, opened)
	}
	if err == nil && (k.trusting && !k.byKin() || !k.Writing()) {
		k.emit(e)
	}

	return err
}

// bytes codes n bytes of which nothing is predicted.
func (k *codec) bytes(raw []byte, n int) []byte {
	if !k.Writing() {
		raw = make([]byte, n)
	}
	for i := range raw {
		raw[i] = byte(k.Tree(k.raw[:256], int(raw[i]), 8))
	}
	k.bits += int64(8 * len(raw))
	return raw
}

// junk codes bytes behind the last member.
func (k *codec) junk(e *event) error {
	n := k.Number(&k.size, uint32(len(e.raw)))
	if n > maxHeader || n == 0 {
		return errorf("%d bytes behind the last member", n)
	}
	e.raw = k.bytes(e.raw, int(n))
	return nil
}

// memberHeader codes the header of a member. It is likely the same as the one before, so that is
// compared first. An encoder begins behind it.
func (k *codec) memberHeader(e *event) error {
	if k.Flag(&k.sameHeader[0], string(e.raw) == string(k.header)) {
		e.raw = append([]byte(nil), k.header...)
		k.bits += int64(8 * len(e.raw))
	} else {
		n := k.Number(&k.size, uint32(len(e.raw)))
		if n > 2*maxHeader {
			return errorf("a header of %d bytes", n)
		}
		e.raw = k.bytes(e.raw, int(n))
		k.header = append(k.header[:0], e.raw...)
	}
	k.member, k.memberAt, k.unit, k.crcFrom = k.pos, k.pos, k.pos, k.pos
	k.fresh = true
	return nil
}

// trailer codes the CRC and size that end a member, and the bits that fill up the byte before
// them. They are predicted if all bytes of the member are in the segment.
func (k *codec) trailer(e *event) {
	fill := int(-k.bits & 7)
	k.bits += int64(fill)
	want := make([]byte, 9)
	if k.crcFrom >= 0 {
		binary.LittleEndian.PutUint32(want[1:], crc32.ChecksumIEEE(k.seg.data[k.crcFrom:k.pos]))
		binary.LittleEndian.PutUint32(want[5:], uint32(k.pos-k.crcFrom))
	}

	ctx := bit(k.crcFrom >= 0)
	if k.Flag(&k.sameTrailer[ctx], string(e.raw) == string(want)) {
		e.raw = want
		k.bits += 64
		return
	}

	// The padding bits are nearly always zero, so one flag settles them apart from the rest.
	var raw []byte
	if k.Writing() {
		raw = e.raw[1:]
		want[0] = e.raw[0]
	}

	pad := byte(0)
	if k.Flag(&k.pad[0], want[0] != 0) {
		pad = byte(k.Raw(uint32(want[0]), 7)) & (1<<fill - 1)
	}

	e.raw = append([]byte{pad}, k.bytes(raw, 8)...)
}

// beginUnit starts the imitated encoder for the tokens that follow. An encoder that began before
// the segment is brought to the state that it would have here.
func (k *codec) beginUnit() {
	k.fresh = false
	k.codeUnitEnd()
	data, history := k.seg.data, max(0, k.member)
	origin := k.unit
	if k.restarts() {
		history = max(history, k.unit-k.dictionary())
	}

	// pigz hands its dictionary to a new encoder, which counts positions from the start of the
	// dictionary.
	if k.family == pigzStyle {
		origin = history // its dictionary counts too
	}

	// The windows of others are counted from the begin of the member, or of the dictionary.
	if k.isLazyKlauspost() {
		origin = k.memberAt
		if k.restarts() && k.unit > k.memberAt {
			origin = k.unit - k.dictionary()
		}
	}

	// If other files say what comes, there may be no need for the encoder.
	if k.byKin() {
		k.begin(data, history, max(history, k.unit, k.pos-historySize), k.unitEnd, origin)
		k.at, k.length, k.dist = k.next(k.pos)
		return
	}

	// Nothing is predicted then. The unit end had to be coded all the same.
	if k.trusting {
		return
	}

	// An encoder that began long ago has forgotten what was before this. It is run over the bytes
	// from there on, with a window before them.
	from := max(history, k.unit, k.pos-historySize)
	if from > k.unit || from == k.pos && !k.restarts() {
		history = max(history, from-windowSize)
	}

	k.begin(data, history, from, k.unitEnd, origin)
	k.skip(from, k.pos)
}

// codeUnitEnd codes where the encoder is flushed or ends. Encoders look ahead to that place and
// not past it, which changes their last matches.
func (k *codec) codeUnitEnd() {
	end := 0
	if k.Writing() {
		end = k.findUnitEnd()
	}

	k.unitEnd = len(k.seg.data)

	// Files that are flushed at all are mostly flushed at even distances.
	if k.Flag(&k.isUnit[0], end > 0) {
		size := end - k.pos
		if k.Flag(&k.sameUnit[0], size == k.lastUnit) {
			size = k.lastUnit
		} else {
			size = int(k.Number(&k.unitSize, uint32(size)))
		}
		k.lastUnit = size
		k.unitEnd = min(k.unitEnd, k.pos+size)
	}

	if p := k.period(); p > 0 {
		k.unitEnd = min(k.unitEnd, k.unit+p)
	}
}

// findUnitEnd returns where the next empty block stands, or the last one of the member. A
// style with a period needs that only if it is nearer.
func (k *codec) findUnitEnd() int {
	pos := k.pos
	for i := k.eventAt; i < len(k.seg.events); i++ {
		e := &k.seg.events[i]
		if e.what != aBlock {
			continue
		}
		b := &e.block
		if pos += b.size; b.isEmpty() && pos > k.pos || b.final && !b.cut {
			if p := k.period(); p > 0 && pos >= k.unit+p {
				return 0
			}
			return pos
		}
	}

	return 0
}

// skip lets the matcher run over bytes whose tokens are not known.
func (k *codec) skip(from, to int) {
	for pos := from; ; pos = k.at + k.length {
		if k.at, k.length, k.dist = k.next(pos); k.at >= to || k.length == 0 {
			return
		}

		// The match crosses the border. Only its first part was written there, and the encoder
		// goes on from the border.
		if k.at+k.length > to {
			k.follow(to, 0, false)
			k.at, k.length, k.dist = k.next(to)
			return
		}
	}
}
