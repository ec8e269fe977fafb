package zstd

import "math/bits"

// A decoded is a sequence as it is executed: literals, then a match.
type decoded struct{ literals, match, offset int }

// Sequences are decoded a few at a time, then executed. So the processor can wait for the memory of
// many matches at once, which it cannot while it is busy with the bits of each.
const decodedAtOnce = 64

// sequences decodes and executes count sequences, and what literals are left ("Decoding
// Sequences", "Sequence Execution").
func (d *blockDecoder) sequences(r *sequenceReader, x *execution, count, literals int) error {
	if err := r.begin(d); err != nil {
		return err
	}

	x.literals = literals
	for count > 0 {
		list := d.decoded[:min(count, decodedAtOnce)]
		count -= len(list)
		d.read(r, list, count == 0)
		if r.left() < 0 {
			return corrupt("sequences are cut off")
		}
		if err := d.execute(x, list); err != nil {
			return err
		}
	}

	// Bits that are left over belong to no sequence, so the count of these was wrong.
	if r.left() != 0 {
		return corrupt("stream of sequences has a wrong length")
	}

	// Literals that the sequences leave come behind the last match.
	if x.literals-x.used > x.limit-x.at {
		return corrupt("block of over %d bytes", x.limit-x.start)
	}

	x.at += copy(x.buf[x.at:], d.literals[x.used:x.literals])
	return nil
}

// A sequenceReader reads the bit stream of sequences. It is a [backward] that does not check where
// the stream begins: it may load bytes of the margin, or of other parts of the block. Whoever uses
// what it read asks left first.
type sequenceReader struct {
	packed     *packedBlock
	first, end int // where the stream is
	at         int // the eight bytes from here on are loaded
	taken      int // how many bits of these were taken

	lengthState, offsetState, matchState uint

	recent [3]int // offsets
}

// left returns how many bits are left; it is negative after an overrun.
func (r *sequenceReader) left() int { return 8*(r.at+8-r.first) - r.taken }

// begin reads the first states.
func (r *sequenceReader) begin(d *blockDecoder) error {
	if r.first == r.end || r.packed[r.end-1] == 0 {
		return errNoStart
	}
	r.at, r.taken = r.end-8, bits.LeadingZeros8(r.packed[r.end-1])+1
	acc := r.packed.load(r.at)
	for i, state := range []*uint{&r.lengthState, &r.offsetState, &r.matchState} {
		log := d.tables[i].log
		*state = peek(acc, r.taken, log)
		r.taken += int(log)
	}
	return nil
}

// read decodes sequences; behind the last one of a block there are no states. After an overrun
// they are wrong, but no worse than others that are wrong.
func (d *blockDecoder) read(r *sequenceReader, list []decoded, last bool) {
	const mask = 1<<maxTableLog - 1
	lengths, offsets, matches := &d.tables[kindLiterals].cells, &d.tables[kindOffset].cells, &d.tables[kindMatch].cells
	lengthState, offsetState, matchState := r.lengthState, r.offsetState, r.matchState
	packed, at, taken := r.packed, r.at, r.taken
	r0, r1, r2 := r.recent[0], r.recent[1], r.recent[2]

	for i := range list {
		// Whole bytes that were taken are passed over, so that less than one taken byte is left.
		at -= taken >> 3
		taken &= 7
		acc := packed.load(at)
		lc, oc, mc := lengths[lengthState&mask], offsets[offsetState&mask], matches[matchState&mask]

		// The further bits: of the offset, of the match, of the literals.
		offset := int(oc>>32) + int(peek(acc, taken, oc.extra()))
		taken += int(oc.extra())
		match := int(mc>>32) + int(peek(acc, taken, mc.extra()))
		taken += int(mc.extra())

		// Up to 26 bits are left to take, and the extra ones of the literals.
		if taken+int(lc.extra()) > 64-26 {
			at -= taken >> 3
			taken &= 7
			acc = packed.load(at)
		}

		length := int(lc>>32) + int(peek(acc, taken, lc.extra()))
		taken += int(lc.extra())

		// The values 1 to 3 stand for the latest offsets; an offset itself is written with 3 added.
		if offset > 3 {
			offset -= 3
			r0, r1, r2 = offset, r0, r1
		} else {
			r0, r1, r2 = repeated(r0, r1, r2, offset, length)
			offset = r0
		}

		list[i] = decoded{length, match, offset}
		if last && i == len(list)-1 {
			break
		}

		// The next states: of the literals, of the match, of the offset.
		lengthState = uint(lc.next()) + peek(acc, taken, lc.bits())
		taken += int(lc.bits())
		matchState = uint(mc.next()) + peek(acc, taken, mc.bits())
		taken += int(mc.bits())
		offsetState = uint(oc.next()) + peek(acc, taken, oc.bits())
		taken += int(oc.bits())
	}

	r.lengthState, r.offsetState, r.matchState = lengthState, offsetState, matchState
	r.at, r.taken = at, taken
	r.recent = [3]int{r0, r1, r2}
}

// repeated returns the latest offsets once the one that a value from 1 to 3 stands for was used. That
// one comes first ("Repeat Offsets"). Without literals the latest offset cannot be meant, for its
// match would have been a part of the one before; so the values count from the second on, and the
// last one stands for the latest less one.
func repeated(r0, r1, r2, value, length int) (int, int, int) {
	if length == 0 {
		value++
	}
	switch value {
	case 1:
		return r0, r1, r2
	case 2:
		return r1, r0, r2
	case 3:
		return r2, r0, r1
	}
	return r0 - 1, r0, r1
}

// An execution is how far the sequences of a block have been executed.
type execution struct {
	buf            []byte // has slack behind limit
	start, at      int    // where the block begins, and where its next byte goes
	limit          int    // where it ends at the latest
	lowest, window int    // where what matches may lead to begins, and how far back they may lead
	literals, used int    // how many literals there are, and were copied
}

// execute executes list. Nothing of it is trusted: each number is checked before it is used.
func (d *blockDecoder) execute(x *execution, list []decoded) error {
	buf, at, used := x.buf, x.at, x.used
	for _, s := range list {
		to := at + s.literals
		switch {
		case s.literals > x.literals-used:
			return corrupt("more literals used than there are")
		case s.match > x.limit-to:
			return corrupt("block of over %d bytes", x.limit-x.start)
		case uint(s.offset-1) >= uint(min(x.window, to-x.lowest)): // one of 0 is wrong, too
			return corrupt("match %d bytes back, where there are %d", s.offset, min(x.window, to-x.lowest))
		}

		// Most copies are short, and one of a fixed size needs no call. What it writes beyond its end
		// is overwritten by what follows, or lies in the slack.
		p := used & literalsMask
		if s.literals <= 16 {
			*(*[16]byte)(buf[at : at+16]) = *(*[16]byte)(d.literals[p : p+16])
		} else {
			copy(buf[at:to], d.literals[p:])
		}

		used += s.literals

		// A match may overlap what it writes. From 16 bytes back on, pieces of 16 do not.
		from := to - s.offset
		at = to + s.match
		if s.offset >= 16 && s.match <= 32 {
			*(*[16]byte)(buf[to : to+16]) = *(*[16]byte)(buf[from : from+16])
			*(*[16]byte)(buf[to+16 : to+32]) = *(*[16]byte)(buf[from+16 : from+32])
		} else {
			copyMatch(buf[to:at], buf[from:to])
		}
	}

	x.at, x.used = at, used
	return nil
}

// copyMatch fills dst with src again and again, copying ever longer pieces.
func copyMatch(dst, src []byte) {
	for done := copy(dst, src); done < len(dst); {
		done += copy(dst[done:], dst[:done])
	}
}
