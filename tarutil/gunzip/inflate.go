package gunzip

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt says that bytes are not gzip, or were changed.
var ErrCorrupt = errors.New("corrupt data")

const (
	window  = 32 << 10     // how far back a match may lead
	batch   = 96 << 10     // what is decoded before it is handed out
	longest = 258          // match
	slack   = longest + 16 // behind the batch: the last match, and a copy that is rounded up
)

// An inflater decodes the blocks of one member.
type inflater struct {
	src   *bufio.Reader
	acc   uint64 // bits that were loaded and not used, the next one lowest
	n     uint   // how many
	last  bool   // the current block is the last one
	state blockState
	left  int // bytes that a stored block still has

	literals, offsets           table
	fixedLiterals, fixedOffsets table
	codes                       table
	curLiterals, curOffsets     table // of the current block

	buf   [window + batch + slack]byte
	at    int   // where the next byte goes
	start int   // where what matches may reach begins
	gone  int64 // how much of the contents was before buf

	read    *counter // src reads from it
	onBlock func(pos, bit int64)
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

// need loads bits, one byte at a time, until there are n.
func (f *inflater) need(n uint) error {
	for f.n < n {
		c, err := f.src.ReadByte()
		if err != nil {
			return unexpected(err)
		}
		f.acc |= uint64(c) << f.n
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
	if f.n == 0 {
		return f.src.ReadByte()
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
		f.onBlock(f.gone+int64(f.at), 8*(f.read.n-int64(f.src.Buffered()))-int64(f.n))
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
			return fmt.Errorf("%w: length of a stored block", ErrCorrupt)
		}
		f.left, f.state = int(sizes&0xffff), inStored
	case 1: // with the fixed codes
		f.fixed()
		f.state = inCompressed
	case 2: // with codes of its own
		f.state = inCompressed
		return f.dynamic()
	default:
		return fmt.Errorf("%w: block of a reserved type", ErrCorrupt)
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

	n, err := io.ReadFull(f.src, f.buf[f.at:f.at+min(f.left, window+batch-f.at)])
	f.at += n
	if f.left -= n; f.left == 0 {
		f.state = betweenBlocks
	}

	return unexpected(err)
}

// fixed takes the code that RFC 1951, section 3.2.6, defines.
func (f *inflater) fixed() {
	if len(f.fixedLiterals) == 0 { // most streams never need them
		var lengths [288]uint8
		for i := range lengths {
			switch {
			case i < 144:
				lengths[i] = 8
			case i < 256:
				lengths[i] = 9
			case i < 280:
				lengths[i] = 7
			default:
				lengths[i] = 8
			}
		}
		f.fixedLiterals.build(lengths[:], literalBits, literal)
		for i := range 32 {
			lengths[i] = 5
		}
		f.fixedOffsets.build(lengths[:32], offsetBits, offset)
	}

	f.curLiterals, f.curOffsets = f.fixedLiterals, f.fixedOffsets
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
		return fmt.Errorf("%w: code of %d lengths and %d distances", ErrCorrupt, literals-257, offsets)
	}

	// The lengths of both codes are in a code themselves. Its own lengths come first, in an order
	// that puts last what most blocks leave out.
	var lengths [286 + 30]uint8
	order := [...]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	for _, i := range order[:codes] {
		v, err := f.take(3)
		if err != nil {
			return err
		}
		lengths[i] = uint8(v)
	}

	if !f.codes.build(lengths[:19], lengthBits, lengthCode) {
		return fmt.Errorf("%w: code of code lengths", ErrCorrupt)
	}

	// Both codes are one list: a run may begin in the first and end in the second.
	clear(lengths[:19])
	for i, n := 0, literals+offsets; i < n; {
		e, err := f.symbol(f.codes, lengthBits)
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
				return fmt.Errorf("%w: nothing to repeat in a code", ErrCorrupt)
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
			return fmt.Errorf("%w: code with too many lengths", ErrCorrupt)
		}
		for range times {
			lengths[i] = v
			i++
		}
	}

	if !f.literals.build(lengths[:literals], literalBits, literal) || !f.offsets.build(lengths[literals:literals+offsets], offsetBits, offset) {
		return fmt.Errorf("%w: code that does not add up", ErrCorrupt)
	}

	f.curLiterals, f.curOffsets = f.literals, f.offsets
	return nil
}

// symbol decodes one symbol, loading no more bytes than it takes: near the end of a member there may
// be no more.
func (f *inflater) symbol(t table, first uint) (entry, error) {
	for {
		// Bits that are not loaded are zeros here. An entry counts only if its code has none of them.
		e := t[f.acc&(1<<first-1)]
		if e&isLink != 0 {
			e = t[uint64(e.value())+f.acc>>first&(1<<e.extra()-1)]
		}

		if e.bits() != 0 && e.bits() <= f.n {
			f.acc >>= e.bits()
			f.n -= e.bits()
			if e&^0xff == 0 {
				return 0, fmt.Errorf("%w: symbol without a meaning", ErrCorrupt)
			}
			return e, nil
		}

		if f.n >= maxCodeLen {
			return 0, fmt.Errorf("%w: bits that are not a code", ErrCorrupt)
		}

		if err := f.need(f.n + 1); err != nil {
			return 0, err
		}
	}
}

// compressed decodes symbols of the current block.
func (f *inflater) compressed() error {
	for f.at < window+batch {
		if err := f.fast(); err != nil {
			return err
		}
		if f.at >= window+batch {
			return nil
		}

		// What is left of the source's buffer is short: one symbol with care.
		e, err := f.symbol(f.curLiterals, literalBits)
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
		if e, err = f.symbol(f.curOffsets, offsetBits); err != nil {
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

var errDistance = fmt.Errorf("%w: match before the start", ErrCorrupt)

// fast decodes symbols as long as the source has eight bytes for each at hand. It leaves a
// symbol that is the end of the block, or that is wrong, to the caller.
func (f *inflater) fast() error {
	if f.src.Buffered() == 0 {
		f.src.Peek(1) // an error comes again when there is need
	}

	// All of the state is in variables of its own here, which the compiler can put into registers.
	// The two tables are long enough for every index: the loop need not check that again.
	in, _ := f.src.Peek(f.src.Buffered())
	pos, at, acc, n := 0, f.at, f.acc, f.n
	literals, offsets := f.curLiterals, f.curOffsets
	_ = literals[1<<literalBits-1]
	_ = offsets[1<<offsetBits-1]
	buf := &f.buf

	for at < window+batch && pos+16 <= len(in) {
		// Bits above the n that count are those of in[pos:], and are the same when they are
		// loaded again.
		acc |= binary.LittleEndian.Uint64(in[pos:]) << (n & 63)
		pos += int(63-n) >> 3
		n |= 56
		e := literals[acc&(1<<literalBits-1)]

		if e&isLiteral != 0 { // up to three of eleven bits, and the code of a fourth symbol
			buf[at] = byte(e >> 16)
			at++
			acc >>= e & 63
			n -= uint(e & 63)
			if e = literals[acc&(1<<literalBits-1)]; e&isLiteral != 0 {
				buf[at] = byte(e >> 16)
				at++
				acc >>= e & 63
				n -= uint(e & 63)
				if e = literals[acc&(1<<literalBits-1)]; e&isLiteral != 0 {
					buf[at] = byte(e >> 16)
					at++
					acc >>= e & 63
					n -= uint(e & 63)
					continue
				}
			}
		}

		if n < 48 { // a length and a distance take up to 48 bits
			acc |= binary.LittleEndian.Uint64(in[pos:]) << (n & 63)
			pos += int(63-n) >> 3
			n |= 56
		}

		if e&isLink != 0 {
			e = literals[uint64(e>>16)+acc>>literalBits&(1<<e.extra()-1)]
		}

		if e&isLiteral != 0 {
			buf[at] = byte(e >> 16)
			at++
			acc >>= e & 63
			n -= uint(e & 63)
			continue
		}

		if e&isValue == 0 {
			break
		}

		// The symbol may turn out wrong: acc and n stay as they are until it is known to be right.
		rest, left := acc>>(e&63), n-uint(e&63)
		length := int(e>>16) + int(rest&(1<<e.extra()-1))
		rest >>= e.extra()
		left -= e.extra()

		d := offsets[rest&(1<<offsetBits-1)]
		if d&isLink != 0 {
			d = offsets[uint64(d>>16)+rest>>offsetBits&(1<<d.extra()-1)]
		}

		if d&isValue == 0 {
			break
		}

		rest >>= d & 63
		left -= uint(d & 63)
		distance := int(d>>16) + int(rest&(1<<d.extra()-1))
		acc, n = rest>>d.extra(), left-d.extra()
		if distance > at-f.start {
			return errDistance
		}

		// Most matches are short, and a copy of a fixed size needs no call.
		if distance >= 16 && length <= 16 {
			from := at - distance
			copy(buf[at:at+16], buf[from:from+16])
			at += length
			continue
		}

		at = copyMatch(buf, at, distance, length)
	}

	// Bits beyond the n are cleared: the careful way loads them again, byte by byte.
	f.at, f.acc, f.n = at, acc&(1<<n-1), n
	f.src.Discard(pos) // they are in its buffer
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
