package recipe

import "ocikit/tarutil/internal/deflate"

// block codes a block.
func (k *codec) block(b *block, opened bool) error {
	b.opened = opened

	// An empty block is what a flush leaves behind, so it is likely where the encoder was said to
	// end, and at the end of the segment.
	atEnd := k.pos == k.unitEnd && !k.fresh
	ctx := bit(atEnd)<<1 | bit(k.pos == k.seg.end)
	if !opened && k.Flag(&k.empty[ctx], b.isEmpty()) {
		return k.emptyBlock(b)
	}

	// pigz starts a new encoder after each period, with or without a flush.
	if p := k.period(); p > 0 && k.pos >= k.unit+p {
		k.unit, k.fresh = k.pos, true
	}

	if k.fresh {
		k.beginUnit()
	}

	b.final = k.Flag(&k.final[0], b.final)
	b.cut = k.Flag(&k.final[1], b.cut)
	if k.Flag(&k.isStored[0], b.kind == stored) {
		b.kind = stored
		return k.storedBlock(b)
	}

	begin := k.pos
	k.hasFirst = false
	if err := k.tokens(b); err != nil {
		return err
	}

	b.size = k.pos - begin
	return k.codes(b)
}

// emptyBlock codes a block without bytes: a flush, or the end of what ends so.
func (k *codec) emptyBlock(b *block) error {
	ctx := int(k.bits & 7)
	b.final = k.Flag(&k.final[2+bit(k.pos == k.seg.end)], b.final)

	// zlib ends with a fixed block, mostly behind a flush and so at the begin of a byte. It flushes
	// with a stored block, at any bit. The bits are those of RFC 1951, section 3.2: three of header,
	// then seven of end code, or the padding and two lengths of 16.
	if k.Flag(&k.isFixed[ctx], b.kind == fixed) {
		b.kind = fixed
		k.bits += 3 + 7
	} else if k.Flag(&k.isStored[1], b.kind == stored) {
		b.kind = stored
		k.bits += 3
		k.padding(b)
		k.bits += 32
	} else {
		b.kind = dynamic
		k.freq.reset()
		if err := k.codeHead(b, nil); err != nil {
			return err
		}
		lengths, ok := k.table.set(b)
		if !ok {
			return errorf("impossible code lengths")
		}
		k.bits += 3 + int64(b.head.size()) + int64(lengths.Lit[endOfBlock])
	}

	k.unit, k.fresh = k.pos, true
	return nil
}

// padding codes the bits before the length of a stored block.
func (k *codec) padding(b *block) {
	n := int(-k.bits & 7)
	if k.Flag(&k.pad[1], b.pad != 0) {
		b.pad = byte(k.Raw(uint32(b.pad), 7)) & (1<<n - 1)
	}
	k.bits += int64(n)
}

// storedBlock codes a stored block. The encoder saw its bytes too, so the matcher runs over them.
func (k *codec) storedBlock(b *block) error {
	k.bits += 3
	k.padding(b)
	if k.Flag(&k.sameSize[0], b.size == k.lastSize) {
		b.size = k.lastSize
	} else {
		b.size = int(k.Number(&k.size, uint32(b.size)))
	}
	if b.size > 1<<16-1 || b.size > k.seg.end-k.pos || b.cut {
		return errorf("a stored block of %d bytes", b.size)
	}
	k.lastSize = b.size
	k.bits += 32 + 8*int64(b.size)
	k.over(k.pos + b.size)
	return nil
}

// over moves to a place past bytes that the encoder saw but did not write as it was predicted to.
func (k *codec) over(to int) {
	if k.at < to && (!k.trusting || k.byKin()) {
		if k.at+k.length <= to {
			k.skip(k.at+k.length, to)
		} else {
			k.follow(to, 0, false)
			k.at, k.length, k.dist = k.next(to)
		}
	}
	k.pos = to
}

// tokens codes the tokens of a block.
func (k *codec) tokens(b *block) error {
	if k.Flag(&k.literals[0], k.Writing() && k.onlyLiterals(b)) {
		return k.literalBlock(b)
	}
	k.count.start(k.pos)
	k.count.style, k.count.unit = k.style, k.unit
	if k.Writing() {
		return k.writeTokens(b)
	}
	return k.readTokens(b)
}

// onlyLiterals reports whether a block has no matches though some were expected.
func (k *codec) onlyLiterals(b *block) bool {
	if k.trusting || k.at >= k.pos+len(b.tokens) {
		return false
	}
	for _, t := range b.tokens {
		if !t.isLiteral() {
			return false
		}
	}
	return true
}

// literalBlock codes a block that consists of literals although matches were predicted. Its size
// alone is enough, while corrections would have to name each predicted match.
func (k *codec) literalBlock(b *block) error {
	if k.Flag(&k.sameSize[1], b.size == k.lastSize) {
		b.size = k.lastSize
	} else {
		b.size = int(k.Number(&k.size, uint32(b.size)))
	}

	if b.size > k.seg.end-k.pos {
		return errorf("a block of %d bytes", b.size)
	}

	k.lastSize = b.size
	k.freq.reset()

	// Some styles make the codes of a block from its first 65535 bytes, so the frequencies up to
	// there are kept.
	tokens := k.scratch[:0]
	for i, c := range k.seg.data[k.pos : k.pos+b.size] {
		tokens = append(tokens, token(c))
		if k.freq.Lit[c]++; (k.pos+i+1-k.unit)%fastBlock == 0 && !k.hasFirst {
			k.first, k.hasFirst = k.freq, true
		}
	}

	k.scratch = tokens
	if !k.Writing() { // those that are there must not change when scratch does
		b.tokens = tokens
	}

	k.over(k.pos + b.size)
	return nil
}

// ends reports whether the style would end the block behind a token that ends at pos.
func (k *codec) ends(t token, pos int) bool {
	full := k.count.add(t, pos)
	if full && !k.hasFirst {
		k.first, k.hasFirst = k.freq, true
	}
	return full || pos == k.unitEnd
}

// expected is the token that is predicted at pos.
func (k *codec) expected(pos int) token {
	if pos < k.at || k.length == 0 {
		return token(k.seg.data[pos])
	}
	return match(k.length, k.dist)
}

// advance goes over the token that came at pos.
func (k *codec) advance(pos int, t, expected token) {
	n := t.size()
	switch {
	case t != expected:
		k.follow(pos, n, !t.isLiteral())
		k.at, k.length, k.dist = k.next(pos + n)
	case !t.isLiteral():
		k.at, k.length, k.dist = k.next(pos + n)
	}
}

// writeTokens finds the tokens that were not predicted, and writes them.
func (k *codec) writeTokens(b *block) error {
	k.misses = k.misses[:0]
	k.freq.reset()
	pos, run, natural := k.pos, 0, len(b.tokens) > 0
	for i := 0; i < len(b.tokens); i++ {
		// Literals before the next match that is predicted are right, and are counted in one go. The
		// last token of the block is left for below.
		sure := min(k.count.quiet(pos), k.unitEnd-pos-1)
		if k.length > 0 && (!k.trusting || k.byKin()) {
			sure = min(sure, k.at-pos)
		}
		if sure > 0 {
			n := k.freq.literals(b.tokens[i:min(i+sure, len(b.tokens)-1)])
			k.count.tokens += n
			i, pos, run = i+n, pos+n, run+n
		}

		t := b.tokens[i]
		// A trusted style is taken to be right about every token, and the matcher is not asked. What
		// other files foretell is never trusted.
		e := t
		if !k.trusting || k.byKin() && k.kin.covers(pos) {
			e = k.expected(pos)
		}

		if t == e {
			run++
		} else {
			k.misses = append(k.misses, miss{run, t, e})
			run = 0
			if k.limit > 0 && len(k.misses) > k.limit+64 { // each takes about a byte
				return errTooMany
			}
		}

		switch {
		case !k.trusting:
			k.advance(pos, t, e)
		case k.byKin() && pos+t.size() > k.at:
			k.at, k.length, k.dist = k.next(pos + t.size())
		}
		k.freq.add(t)
		pos += t.size()

		// The block ends naturally if the style ends it at its last token and at no earlier one.
		// Then its number of tokens need not be coded.
		if k.ends(t, pos) != (i == len(b.tokens)-1) {
			natural = false
		}
	}

	k.pos = pos

	// The best case takes one bit for the whole block.
	if k.Flag(&k.right[0], natural && len(k.misses) == 0) {
		return nil
	}

	// Otherwise the corrections follow, each behind the number of right tokens before it.
	if !k.Flag(&k.counted[0], natural) {
		k.Number(&k.tokenCount, uint32(len(b.tokens)))
	}

	for i := range k.misses {
		k.codeMiss(&k.misses[i])
	}

	k.Number(&k.runLength, uint32(run))
	return nil
}

// readTokens makes the tokens of a block. It reads in the order in which writeTokens writes.
func (k *codec) readTokens(b *block) error {
	k.freq.reset()
	right := k.Flag(&k.right[0], false)
	natural := right || k.Flag(&k.counted[0], false)
	left := -1
	if !natural {
		if left = int(k.Number(&k.tokenCount, 0)); left > maxSegment {
			return errorf("a block of %d tokens", left)
		}
	}

	// A run that no block reaches stands for "no more corrections".
	tokens := k.scratch[:0]
	next := miss{run: 1 << 30}
	if !right {
		next.run = int(k.Number(&k.runLength, 0))
	}

	end := k.seg.end
	for pos := k.pos; left != 0; {
		if pos >= end {
			return errorf("a block does not end")
		}

		// Literals before the next match or correction come in one go, but for the last.
		sure := min(k.count.quiet(pos), k.unitEnd-pos-1, next.run, end-pos-1)
		if k.length > 0 {
			sure = min(sure, k.at-pos)
		}
		if left > 0 {
			sure = min(sure, left-1)
		}
		if sure > 0 {
			for _, c := range k.seg.data[pos : pos+sure] {
				tokens = append(tokens, token(c))
				k.freq.Lit[c]++
			}
			k.count.tokens += sure
			next.run -= sure
			pos += sure
			if k.pos = pos; left > 0 {
				left -= sure
			}
		}

		// The prediction stands unless a correction is due. A literal is in the data; a distance
		// must not lead out of the member.
		t := k.expected(pos)
		e := t
		if next.run == 0 {
			next.expected = t
			k.codeMissed(&next)
			t = next.token
			next.run = int(k.Number(&k.runLength, 0)) + 1
			if t.isLiteral() {
				t = token(k.seg.data[pos])
			}
		}

		// What is predicted behind a wrong prediction may lead out of the data too.
		if d := t.dist(); !t.isLiteral() && (d < 1 || d > pos-max(0, k.member)) {
			return errorf("a distance of %d", d)
		}

		next.run--

		// A damaged recipe can make tokens without end.
		if k.Overrun() || pos+t.size() > end {
			return errorf("a block is too long")
		}

		// The state is moved on exactly as by the writer.
		k.advance(pos, t, e)
		k.freq.add(t)
		tokens = append(tokens, t)
		pos += t.size()
		k.pos = pos
		if left > 0 {
			left--
		}

		if k.ends(t, pos) && natural {
			break
		}
	}

	k.scratch, b.tokens = tokens, tokens
	return nil
}

// codeMiss writes one token that was not predicted, and how many before it were.
func (k *codec) codeMiss(m *miss) {
	k.Number(&k.runLength, uint32(m.run))
	k.codeMissed(m)
}

// codeMissed codes a token that is not the expected one. That of a literal is in the data.
func (k *codec) codeMissed(m *miss) {
	ctx := bit(m.expected.isLiteral())
	if !k.Flag(&k.isMatch[ctx], !m.isLiteral()) {
		m.token = 0
		return
	}

	// Often half of the prediction is right: the same distance with another length, or the
	// reverse. If the distance is the same, the length cannot be, so no flag is coded for it.
	n, d := int(m.token>>matchShift), m.dist()
	en, ed := int(m.expected>>matchShift), m.expected.dist()
	if ctx == 0 && k.Flag(&k.sameDist[0], d == ed) {
		d = ed
	} else {
		d = k.codeDist(d)
	}

	if ctx == 0 && d != ed && k.Flag(&k.sameLength[0], n == en) {
		n = en
	} else {
		n = min(k.Tree(k.matchLength[:], max(n-minMatch, 0), 9), longAs284-minMatch) + minMatch
	}

	m.token = match(n, d)
}

// codeDist codes a distance as its DEFLATE symbol and extra bits. The lowest four bits have a
// model, since structured data favours some of them; those above are noise.
func (k *codec) codeDist(d int) int {
	sym, extra, v := 0, 0, 0
	if k.Writing() {
		sym, _, v = deflate.DistCode(d)
	}
	sym = min(k.Tree(k.distSym[:32], sym, 5), distSyms-1)
	d, extra = deflate.DistBase(sym)
	if extra > 4 {
		d += int(k.Raw(uint32(v>>4), extra-4)) << 4
		return d + k.Tree(k.distLow[:], v&15, 4)
	}
	return d + int(k.Raw(uint32(v), extra))
}

// codes codes the kind and the prefix codes of a block whose tokens are known. It also adds up
// the bits of the block, which tell a reader where the next byte begins.
func (k *codec) codes(b *block) error {
	predicted := k.predictCodes(b)
	if k.Flag(&k.isFixed[8+bit(predicted == nil)], b.kind == fixed) {
		b.kind = fixed
	} else {
		b.kind = dynamic
		if err := k.codeHead(b, predicted); err != nil {
			return err
		}
	}

	lengths, ok := k.table.set(b)
	if !ok {
		return errorf("impossible code lengths")
	}

	n, ok := k.freq.bits(lengths)
	if !ok {
		return errorf("a token has no code")
	}

	// A cut block has its end code in a later segment, and an opened one had its header in an
	// earlier.
	if b.cut {
		n -= int(lengths.Lit[endOfBlock])
	}

	if !b.opened {
		if n += 3; b.kind == dynamic {
			n += b.head.size()
		}
	}

	k.bits += int64(n)
	return nil
}

// codeHead codes the codes of a block.
func (k *codec) codeHead(b *block, predicted *head) error {
	if k.Flag(&k.headRight[bit(predicted == nil)], k.Writing() && b.head.equal(predicted)) {
		if predicted == nil {
			return errorf("no codes")
		}
		b.head = predicted
		return nil
	}

	// The three counts and the lengths of the third code come as RFC 1951, section 3.2.7 has
	// them.
	h := new(head)
	if k.Writing() {
		*h = *b.head // a block that was cut has its head in two segments, which are coded at once
	}

	h.lit = 257 + int(k.Raw(uint32(h.lit-257), 5))
	h.dist = 1 + int(k.Raw(uint32(h.dist-1), 5))
	h.lengths = 4 + int(k.Raw(uint32(h.lengths-4), 4))
	if h.lit > litLenSyms {
		return errorf("%d codes for literals and lengths", h.lit)
	}

	for _, sym := range deflate.LengthOrder[:h.lengths] {
		h.length[sym] = uint8(k.Raw(uint32(h.length[sym]), 3))
	}

	// Then the runs. Each symbol is coded with the models of the length that is predicted at its
	// place, since most lengths are right even where the head is not.
	var guess deflate.Lengths
	if predicted != nil {
		predicted.expand(&guess)
	}

	for i, n := 0, 0; n < h.lit+h.dist; i++ {
		ctx := uint8(19)
		if predicted != nil {
			if ctx = guess.Lit[min(n, 287)]; n >= h.lit {
				ctx = guess.Dist[n-h.lit]
			}
		}

		var r uint16
		if k.Writing() {
			r = h.runs[i]
		}

		sym := k.Tree(k.runs[ctx][:], int(r&0xff), 5)
		if sym > 18 {
			return errorf("symbol %d in code lengths", sym)
		}

		run, count := uint16(sym), 1
		if sym >= 16 {
			v := k.Raw(uint32(r>>8), deflate.RunBits(sym))
			run |= uint16(v) << 8
			if count = 3 + int(v); sym == 18 {
				count = 11 + int(v)
			}
		}

		if !k.Writing() {
			h.runs = append(h.runs, run)
		}

		n += count
	}

	b.head = h
	return nil
}

// frequencies are how often symbols occur in a block.
type frequencies struct{ deflate.Counts }

func (f *frequencies) reset() {
	*f = frequencies{}
	f.Lit[endOfBlock] = 1
}

func (f *frequencies) add(t token) {
	if t.isLiteral() {
		f.Lit[t]++
		return
	}
	sym, _, _ := deflate.LengthCode(int(t >> matchShift))
	f.Lit[sym]++
	sym, _, _ = deflate.DistCode(t.dist())
	f.Dist[sym]++
}

// literals adds the literals that tokens begin with, and returns how many there are.
func (f *frequencies) literals(tokens []token) int {
	for i, t := range tokens {
		if !t.isLiteral() {
			return i
		}
		f.Lit[t&0xff]++
	}
	return len(tokens)
}

// bits returns how many bits the tokens take, with the end. It reports false if one of them has
// no code.
func (f *frequencies) bits(l *deflate.Lengths) (n int, ok bool) {
	for sym, c := range f.Lit {
		if c > 0 && l.Lit[sym] == 0 {
			return 0, false
		}
	}
	for sym, c := range f.Dist {
		if c > 0 && l.Dist[sym] == 0 {
			return 0, false
		}
	}
	return f.CodeBits(l) + f.ExtraBits(), true
}

// A codeTable has the codes of a block.
type codeTable struct {
	lengths deflate.Lengths
	lit     [288]uint16
	dist    [32]uint16
}

// set reads the codes of a block. It reports false if there are none.
func (c *codeTable) set(b *block) (*deflate.Lengths, bool) {
	if b.kind == fixed {
		c.lengths = *deflate.Fixed()
		return &c.lengths, true
	}
	if b.head == nil || !b.head.expand(&c.lengths) || c.lengths.Lit[endOfBlock] == 0 {
		return nil, false
	}
	return &c.lengths, isPrefixCode(c.lengths.Lit[:]) && isPrefixCode(c.lengths.Dist[:]) && isPrefixCode(b.head.length[:])
}

// predictCodes returns the codes that the style would give the tokens just coded, or nil for
// fixed codes. Of a block that is only partly in the segment the frequencies are not known, so
// nothing is predicted.
func (k *codec) predictCodes(b *block) *head {
	if b.cut || b.opened {
		return nil
	}

	switch {
	case k.family == goStyle:
		return goCodes(&k.freq, int(k.level), b.size)
	case k.isKlauspost():
		return k.klauspostCodes(b)
	}

	// zlib compares the sizes in whole bytes, and takes fixed codes if they are equal
	// (_tr_flush_block in its trees.c).
	h := zlibHead(&k.freq)
	var own deflate.Lengths
	h.expand(&own)
	ownBits, _ := k.freq.bits(&own)
	fixBits, _ := k.freq.bits(deflate.Fixed())
	if (3+fixBits+7)>>3 <= (3+h.size()+ownBits+7)>>3 {
		return nil
	}

	return h
}
