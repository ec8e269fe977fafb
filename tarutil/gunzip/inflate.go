package gunzip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"ocikit/tarutil/internal/deflate"
)

// errCorrupt says that bytes are not gzip, or were changed.
var errCorrupt = errors.New("corrupt data")

const (
	window  = 32 << 10 // how far back a match may lead
	batch   = 96 << 10 // what is decoded before it is handed out
	longest = 258      // match

	// The last match of a batch goes beyond it, and a copy is rounded up.
	slack = longest + 32

	piece = 64 << 10 // what is read from the source at once
	ahead = 16       // the bytes of the source that fast needs for one round
)

// An inflater decodes the blocks of one member.
type inflater struct {
	src    io.Reader
	failed error // what src ended with
	before int64 // bytes of src that were in front of in
	pos    int   // what is left of in is in[pos:end]
	end    int
	acc    uint64 // bits that were loaded and not used, the next one lowest
	n      uint   // how many

	last    bool // the current block is the last one
	state   blockState
	left    int // bytes that a stored block still has
	onBlock func(pos, bit int64)

	at    int   // where in buf the next byte goes
	start int   // where what matches may reach begins
	gone  int64 // how much of the contents was before buf

	cur, fixed *tables // of the current block, and of blocks with fixed codes; nil before the first one
	own        tables  // of blocks with codes of their own
	codes      [1 << lengthBits]entry
	symbols    struct {
		literals [literalSymbols]entry
		offsets  [offsetSymbols]entry
		lengths  [lengthSymbols]entry
	}

	in  [2*piece + 8]byte
	buf [window + batch + slack]byte
}

// init prepares an inflater for reading from src.
func (f *inflater) init(src io.Reader) {
	f.src = src
	for i := range f.symbols.literals {
		f.symbols.literals[i] = literal(i)
	}
	for i := range f.symbols.offsets {
		f.symbols.offsets[i] = offset(i)
	}
	for i := range f.symbols.lengths {
		f.symbols.lengths[i] = lengthCode(i)
	}
}

type blockState byte

const (
	betweenBlocks blockState = iota
	inStored
	inCompressed
	atEnd
)

// begin starts a member. Bits that are left belong to it.
func (f *inflater) begin() {
	f.state, f.last, f.start = betweenBlocks, false, f.at
}

// slide makes room once the buffer is full, and keeps what matches may lead to. All of buf was
// handed out.
func (f *inflater) slide() {
	if f.at < window+batch {
		return
	}
	keep := min(f.at-f.start, window)
	copy(f.buf[:], f.buf[f.at-keep:f.at])
	f.gone += int64(f.at - keep)
	f.start, f.at = 0, keep
}

// decode decodes until the batch is full, or the member ends.
func (f *inflater) decode() error {
	for f.at < window+batch && f.state != atEnd {
		var err error
		switch f.state {
		case betweenBlocks:
			err = f.nextBlock()
		case inStored:
			err = f.stored()
		case inCompressed:
			err = f.compressed()
		}
		if err != nil {
			return err
		}
	}

	return nil
}

// more reads from the source, behind what is left of in.
func (f *inflater) more() {
	f.before += int64(f.pos)
	f.end = copy(f.in[:], f.in[f.pos:f.end])
	f.pos = 0
	for range 100 { // as often as a bufio.Reader would try it
		if f.failed != nil {
			return
		}
		var n int
		n, f.failed = f.src.Read(f.in[f.end : f.end+piece])
		if f.end += n; n > 0 {
			return
		}
	}
	f.failed = io.ErrNoProgress
}

// some makes sure that there is a byte in in, or returns why there is none.
func (f *inflater) some() error {
	if f.pos == f.end {
		if f.more(); f.pos == f.end {
			return f.failed
		}
	}
	return nil
}

// need loads bits until there are n. Near the end of in it does so one byte at a time.
func (f *inflater) need(n uint) error {
	if f.n < n && f.end-f.pos >= 8 {
		f.acc |= binary.LittleEndian.Uint64(f.in[f.pos:]) << f.n
		f.pos += int(63-f.n) >> 3
		f.n |= 56
		f.acc &= 1<<f.n - 1
	}

	for f.n < n {
		if err := f.some(); err != nil {
			return unexpected(err)
		}
		f.acc |= uint64(f.in[f.pos]) << f.n
		f.pos++
		f.n += 8
	}
	return nil
}

// take returns the next n bits.
func (f *inflater) take(n uint) (uint, error) {
	if err := f.need(n); err != nil {
		return 0, err
	}
	v := uint(f.acc & (1<<n - 1))
	f.acc >>= n
	f.n -= n
	return v, nil
}

// align drops the bits up to the next byte.
func (f *inflater) align() {
	f.acc >>= f.n & 7
	f.n &^= 7
}

// readByte reads a byte; the bits are aligned.
func (f *inflater) readByte() (byte, error) {
	if err := f.need(8); err == io.ErrUnexpectedEOF {
		return 0, io.EOF // whether that is right is for the caller to say
	} else if err != nil {
		return 0, err
	}
	c := byte(f.acc)
	f.acc >>= 8
	f.n -= 8
	return c, nil
}

// nextBlock reads the header of a block.
func (f *inflater) nextBlock() error {
	if f.last { // the trailer begins with a whole byte
		f.align()
		f.state = atEnd
		return nil
	}

	if f.onBlock != nil {
		f.onBlock(f.gone+int64(f.at), 8*(f.before+int64(f.pos))-int64(f.n))
	}

	// The header is three bits: last, and the type (RFC 1951, section 3.2.3).
	h, err := f.take(3)
	if err != nil {
		return err
	}

	f.last = h&1 == 1
	switch h >> 1 {
	case 0: // stored
		f.align()
		sizes, err := f.take(32)
		if err != nil {
			return err
		}
		if sizes&0xffff != ^sizes>>16&0xffff { // the second one is the first one's complement
			return fmt.Errorf("%w: length of a stored block", errCorrupt)
		}
		f.left, f.state = int(sizes&0xffff), inStored
	case 1: // with the fixed codes
		f.useFixed()
		f.state = inCompressed
	case 2: // with codes of its own
		f.state = inCompressed
		return f.dynamic()
	default:
		return fmt.Errorf("%w: block of a reserved type", errCorrupt)
	}

	return nil
}

// stored copies a stored block.
func (f *inflater) stored() error {
	// First the bytes that were loaded as bits, then straight from the source.
	for f.left > 0 && f.n > 0 && f.at < window+batch {
		c, err := f.readByte()
		if err != nil {
			return unexpected(err)
		}
		f.buf[f.at] = c
		f.at++
		f.left--
	}

	for f.left > 0 && f.at < window+batch {
		if err := f.some(); err != nil {
			return unexpected(err)
		}
		n := copy(f.buf[f.at:f.at+min(f.left, window+batch-f.at)], f.in[f.pos:f.end])
		f.pos += n
		f.at += n
		f.left -= n
	}

	if f.left == 0 {
		f.state = betweenBlocks
	}
	return nil
}

// useFixed takes the code that RFC 1951, section 3.2.6, defines.
func (f *inflater) useFixed() {
	if f.fixed == nil { // most streams never need it
		f.fixed = new(tables)
		lengths := deflate.Fixed()
		build(f.fixed.literals[:], lengths.Lit[:], literalBits, f.symbols.literals[:])
		build(f.fixed.offsets[:], lengths.Dist[:], offsetBits, f.symbols.offsets[:])
	}

	f.cur = f.fixed
}

// dynamic reads the codes of a block (section 3.2.7).
func (f *inflater) dynamic() error {
	h, err := f.take(14)
	if err != nil {
		return err
	}

	// The counts have room for more lengths and distances than have a meaning. Such a code is
	// refused, as compress/gzip does.
	literals, offsets, codes := int(h&31)+257, int(h>>5&31)+1, int(h>>10)+4
	if literals > 286 || offsets > 30 {
		return fmt.Errorf("%w: code of %d lengths and %d distances", errCorrupt, literals-257, offsets)
	}

	// The lengths of both codes are in a code themselves. Its own lengths come first, in an order
	// that puts last what most blocks leave out.
	var lengths [286 + 30]uint8
	for _, i := range deflate.LengthOrder[:codes] {
		v, err := f.take(3)
		if err != nil {
			return err
		}
		lengths[i] = uint8(v)
	}

	if !build(f.codes[:], lengths[:lengthSymbols], lengthBits, f.symbols.lengths[:]) {
		return fmt.Errorf("%w: code of code lengths", errCorrupt)
	}

	// Both codes are one list: a run may begin in the first and end in the second.
	clear(lengths[:lengthSymbols])
	for i, n := 0, literals+offsets; i < n; {
		e, err := f.symbol(f.codes[:], lengthBits)
		if err != nil {
			return err
		}

		s := uint8(e.value())
		if s < 16 {
			lengths[i] = s
			i++
			continue
		}

		// 16 repeats the length before, 17 and 18 are runs of zeros.
		times, extra, v := uint(3), uint(3), uint8(0)
		switch s {
		case 16:
			extra = 2
			if i == 0 {
				return fmt.Errorf("%w: nothing to repeat in a code", errCorrupt)
			}
			v = lengths[i-1]
		case 18:
			times, extra = 11, 7
		}

		more, err := f.take(extra)
		if err != nil {
			return err
		}

		if times += more; i+int(times) > n {
			return fmt.Errorf("%w: code with too many lengths", errCorrupt)
		}
		for range times {
			lengths[i] = v
			i++
		}
	}

	if !build(f.own.literals[:], lengths[:literals], literalBits, f.symbols.literals[:]) ||
		!build(f.own.offsets[:], lengths[literals:literals+offsets], offsetBits, f.symbols.offsets[:]) {
		return fmt.Errorf("%w: code that does not add up", errCorrupt)
	}

	f.cur = &f.own
	return nil
}

// symbol decodes one symbol, loading no more bytes than it takes: near the end of a member there may
// be no more.
func (f *inflater) symbol(t []entry, first uint) (entry, error) {
	for {
		// Bits that are not loaded are zeros here. An entry counts only if its code has none of them.
		e := t[f.acc&(1<<first-1)]
		if e&isLink != 0 {
			e = t[uint64(e.value())+f.acc>>first&(1<<e.code()-1)]
		}

		if e.code() != 0 && e.code() <= f.n {
			f.acc >>= e.code()
			f.n -= e.code()
			if e&^0xfff == 0 {
				return 0, fmt.Errorf("%w: symbol without a meaning", errCorrupt)
			}
			return e, nil
		}

		if f.n >= maxCodeLen {
			return 0, fmt.Errorf("%w: bits that are not a code", errCorrupt)
		}

		if err := f.need(f.n + 1); err != nil {
			return 0, err
		}
	}
}

// compressed decodes symbols of the current block.
func (f *inflater) compressed() error {
	for f.at < window+batch {
		if f.end-f.pos < ahead {
			f.more() // an error comes again when there is need
		}
		if err := f.fast(); err != nil {
			return err
		}
		if f.at >= window+batch {
			return nil
		}

		// What is left of in is short, or the symbol is a special one: it is taken with care.
		e, err := f.symbol(f.cur.literals[:], literalBits)
		switch {
		case err != nil:
			return err
		case e&isEnd != 0:
			f.state = betweenBlocks
			return nil
		case e&isLiteral != 0:
			f.buf[f.at] = byte(e.value())
			f.at++
			continue
		}

		// What is left is a match: its length, then its distance.
		more, err := f.take(e.extra())
		if err != nil {
			return err
		}

		length := int(e.value()) + int(more)
		if e, err = f.symbol(f.cur.offsets[:], offsetBits); err != nil {
			return err
		}

		if more, err = f.take(e.extra()); err != nil {
			return err
		}

		// No match leads into an earlier member.
		distance := int(e.value()) + int(more)
		if distance > f.at-f.start {
			return errDistance
		}

		f.at = copyMatch(&f.buf, f.at, distance, length)
	}

	return nil
}

var errDistance = fmt.Errorf("%w: match before the start", errCorrupt)

// fast decodes symbols as long as there are ahead bytes of the source at hand. It leaves a
// symbol that is the end of the block, or that is wrong, to the caller.
func (f *inflater) fast() error {
	// All of the state is in variables of its own here, which the compiler can put into registers.
	pos, end, at, acc, n := f.pos, f.end-ahead, f.at, f.acc, f.n
	t := f.cur

	for at < window+batch && pos <= end {
		// Bits above the n that count are those of in[pos:], and are the same when they are
		// loaded again.
		p := pos & (2*piece - 1)
		acc |= binary.LittleEndian.Uint64(f.in[p:p+8]) << (n & 63)
		pos += int(63-n) >> 3
		n |= 56
		e := t.literals[acc&(1<<literalBits-1)]

		if e&isLiteral != 0 { // up to three of eleven bits, and the code of a fourth symbol
			f.buf[at] = byte(e >> 16)
			at++
			acc >>= e & 63
			n -= uint(e & 63)
			if e = t.literals[acc&(1<<literalBits-1)]; e&isLiteral != 0 {
				f.buf[at] = byte(e >> 16)
				at++
				acc >>= e & 63
				n -= uint(e & 63)
				if e = t.literals[acc&(1<<literalBits-1)]; e&isLiteral != 0 {
					f.buf[at] = byte(e >> 16)
					at++
					acc >>= e & 63
					n -= uint(e & 63)
					continue
				}
			}
		}

		if n < 48 { // a length and a distance take up to 48 bits
			p := pos & (2*piece - 1)
			acc |= binary.LittleEndian.Uint64(f.in[p:p+8]) << (n & 63)
			pos += int(63-n) >> 3
			n |= 56
		}

		if e&isLink != 0 {
			i := uint64(e>>16) + acc>>literalBits&(1<<(e>>8&15)-1)
			e = t.literals[i&uint64(len(t.literals)-1)]
		}

		if e&isLiteral != 0 {
			f.buf[at] = byte(e >> 16)
			at++
			acc >>= e & 63
			n -= uint(e & 63)
			continue
		}

		if e&isValue == 0 {
			break
		}

		// The symbol may turn out wrong: acc and n stay as they are until it is known to be right.
		// The code and the bits behind it go at once; what these add is read beside.
		rest := acc >> (e & 63)
		length := int(e>>16) + int(acc&(1<<(e&63)-1)>>(e>>8&15))

		d := t.offsets[rest&(1<<offsetBits-1)]
		if d&isLink != 0 {
			i := uint64(d>>16) + rest>>offsetBits&(1<<(d>>8&15)-1)
			d = t.offsets[i&uint64(len(t.offsets)-1)]
		}

		if d&isValue == 0 {
			break
		}

		distance := int(d>>16) + int(rest&(1<<(d&63)-1)>>(d>>8&15))
		acc = rest >> (d & 63)
		n -= uint(e&63) + uint(d&63)
		from := at - distance
		if from < f.start {
			return errDistance
		}

		if distance < 16 {
			at = copyMatch(&f.buf, at, distance, length)
			continue
		}

		// Most matches are short, and copies of a fixed size need no call.
		copy(f.buf[at:at+16], f.buf[from:from+16])
		for k := 16; k < length; k += 16 {
			copy(f.buf[at+k:at+k+16], f.buf[from+k:from+k+16])
		}
		at += length
	}

	// Bits beyond the n are cleared: the careful way loads them again, byte by byte.
	f.pos, f.at, f.acc, f.n = pos, at, acc&(1<<n-1), n
	return nil
}

// copyMatch copies length bytes from distance bytes before buf[at], and returns where they
// end. A match that is longer than its distance repeats itself.
func copyMatch(buf *[window + batch + slack]byte, at, distance, length int) int {
	dst := buf[at : at+length]
	if distance >= length {
		copy(dst, buf[at-distance:])
		return at + length
	}
	for done := copy(dst, buf[at-distance:at]); done < length; {
		done += copy(dst[done:], dst[:done])
	}
	return at + length
}

// unexpected makes an end within a member an error.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
