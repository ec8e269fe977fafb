package zstd

import "math/bits"

// A decoded is a sequence as it is executed: literals, then a match.
type decoded struct{ literals, match, offset uint }

// What a plain sequence has at most. Copies of these sizes need no loop and no call.
const (
	plainLiterals = 16
	plainMatch    = 32
)

var errSequencesCut = corrupt("sequences are cut off")

// sequences decodes and executes count sequences, and what literals are left ("Decoding
// Sequences", "Sequence Execution").
func (d *blockDecoder) sequences(r *sequenceReader, x *execution, count int) error {
	if err := r.begin(d); err != nil {
		return err
	}

	for count > 0 {
		// What stops the plain ones was decoded, or is so now.
		todo, s := d.plain(r, x, count)
		if count = todo - 1; s.match == 0 {
			s = d.next(r, count == 0)
		}
		if r.left() < 0 {
			return errSequencesCut
		}
		if err := d.execute(x, s); err != nil {
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
	first, end int  // where the stream is
	taken      uint // how many bits of it were taken, from the end

	lengthState, offsetState, matchState uint

	recent offsets
}

// offsets are the three latest ones, and room for a fourth, so that an index needs no check.
type offsets [4]uint

// left returns how many bits are left; it is negative after an overrun.
func (r *sequenceReader) left() int { return 8*(r.end-r.first) - int(r.taken) }

// take returns the next k bits, at most 31.
func (r *sequenceReader) take(k uint) uint {
	acc := r.packed.before(uint(r.end), r.taken)
	r.taken += k
	return highest(acc, k)
}

// highest returns the k highest bits of acc, at most 63.
func highest(acc uint64, k uint) uint { return uint(acc >> 1 >> (^k & 63)) }

// begin reads the first states.
func (r *sequenceReader) begin(d *blockDecoder) error {
	if r.first == r.end || r.packed[r.end-1] == 0 {
		return errNoStart
	}
	r.taken = uint(bits.LeadingZeros8(r.packed[r.end-1])) + 1
	for i, state := range []*uint{&r.lengthState, &r.offsetState, &r.matchState} {
		*state = r.take(uint(d.tables[i].log))
	}
	return nil
}

// next decodes a sequence; behind the last one of a block there are no states. After an overrun it
// is wrong, but no worse than others that are wrong.
func (d *blockDecoder) next(r *sequenceReader, last bool) decoded {
	const mask = 1<<maxTableLog - 1
	lc := d.tables[kindLiterals].cells[r.lengthState&mask]
	oc := d.tables[kindOffset].cells[r.offsetState&mask]
	mc := d.tables[kindMatch].cells[r.matchState&mask]

	// The further bits: of the offset, of the match, of the literals.
	value := 1<<oc.extra() + r.take(oc.extra())
	match := mc.base() + r.take(mc.extra())
	literals := lc.base() + r.take(lc.extra())

	// The next states: of the literals, of the match, of the offset.
	if !last {
		r.lengthState = lc.next() + r.take(lc.bits())
		r.matchState = mc.next() + r.take(mc.bits())
		r.offsetState = oc.next() + r.take(oc.bits())
	}

	return decoded{literals, match, r.recent.use(value, literals)}
}

// plain decodes and executes up to count sequences, as long as they are plain: few literals, a short
// match that is not too near, and room for both. It does without what the others need: further bits
// of lengths, calls, and most checks. It returns how many are left to do, at least one, and the
// first of these if that is decoded already: it has a match, then.
func (d *blockDecoder) plain(r *sequenceReader, x *execution, count int) (int, decoded) {
	// So many have room whatever they are, and are not the last. They may go back to what was there
	// before the first of them, and pieces of a match must not overlap.
	todo := min(count-1, (x.limit-x.at)/(plainLiterals+plainMatch), (x.literals-x.used)/plainLiterals)
	reach := min(x.window, x.at-x.lowest) - plainLiterals + 1
	if todo <= 0 || reach <= 0 {
		return count, decoded{}
	}

	// The state is in variables of its own here, which the compiler can put into registers. The
	// latest offsets are not: there are too few.
	const mask = 1<<maxTableLog - 1
	lengths, offsets, matches := &d.tables[kindLiterals].cells, &d.tables[kindOffset].cells, &d.tables[kindMatch].cells
	lengthState, offsetState, matchState := r.lengthState, r.offsetState, r.matchState
	end, taken := uint(r.end), r.taken
	buf, at, used := x.buf, uint(x.at), uint(x.used)
	var other decoded
	rest := count - todo

	for ; todo > 0; todo-- {
		lc, oc, mc := lengths[lengthState&mask], offsets[offsetState&mask], matches[matchState&mask]
		sum := lc + oc + mc
		if sum&long != 0 {
			break
		}

		// Only the offset has further bits. With those of the states they are 56 at most.
		acc := d.packed.before(end, taken)
		taken += sum.extra() + sum.bits()
		value := uint((acc>>1 | 1<<63) >> (^sum.extra() & 63))
		states := highest(acc<<sum.extra(), sum.bits())

		// The bits of the states are taken from the lowest on, so in reverse.
		offsetState = oc.next() + states&oc.mask()
		states >>= oc.bits()
		matchState = mc.next() + states&mc.mask()
		states >>= mc.bits()
		lengthState = lc.next() + states

		literals, match := lc.base()&(2*plainLiterals-1), mc.base()
		offset := value - 3
		if value > 3 { // the call of use is written out, for the sake of speed
			r.recent.push(offset)
		} else {
			offset = r.recent.repeat(value, literals)
		}
		if offset-plainLiterals >= uint(reach) {
			other = decoded{literals, match, offset}
			break
		}

		// What a copy writes beyond its end is overwritten by what follows, or lies in the slack.
		p := used & literalsMask
		room := (*[slack]byte)(buf[at : at+slack])
		*(*[16]byte)(room[:16]) = *(*[16]byte)(d.literals[p : p+16])
		from := at + literals - offset
		source := (*[32]byte)(buf[from : from+32])
		*(*[16]byte)(room[literals : literals+16]) = *(*[16]byte)(source[:16])
		*(*[16]byte)(room[literals+16 : literals+32]) = *(*[16]byte)(source[16:])
		used += literals
		at += literals + match
	}

	r.lengthState, r.offsetState, r.matchState, r.taken = lengthState, offsetState, matchState, taken
	x.at, x.used = int(at), int(used)
	return rest + todo, other
}

// use returns the offset that a value stands for, which is then the latest one ("Repeat Offsets"). The
// values 1 to 3 stand for the latest offsets; an offset itself is written with 3 added.
func (o *offsets) use(value, literals uint) uint {
	if value <= 3 {
		return o.repeat(value, literals)
	}
	o.push(value - 3)
	return value - 3
}

func (o *offsets) push(offset uint) { o[0], o[1], o[2] = offset, o[0], o[1] }

// repeat does what use does for the values from 1 to 3. Without literals the latest offset cannot be
// meant, for its match would have been a part of the one before; so the values count from the second
// on, and the last one stands for the latest less one.
func (o *offsets) repeat(value, literals uint) uint {
	if literals == 0 {
		value++
	}
	if value == 1 {
		return o[0]
	}

	latest, offset := o[0], o[(value-1)&3]
	if value == 4 {
		offset = latest - 1
	}
	if value > 2 {
		o[2] = o[1]
	}
	o[0], o[1] = offset, latest
	return offset
}

// An execution is how far the sequences of a block have been executed.
type execution struct {
	buf            []byte // has slack behind limit
	start, at      int    // where the block begins, and where its next byte goes
	limit          int    // where it ends at the latest
	lowest, window int    // where what matches may lead to begins, and how far back they may lead
	literals, used int    // how many literals there are, and were copied
}

// execute executes a sequence. Nothing of it is trusted: each number is checked before it is used.
func (d *blockDecoder) execute(x *execution, s decoded) error {
	literals, match, offset := int(s.literals), int(s.match), int(s.offset)
	to := x.at + literals
	switch {
	case literals > x.literals-x.used:
		return corrupt("more literals used than there are")
	case match > x.limit-to:
		return corrupt("block of over %d bytes", x.limit-x.start)
	case uint(offset-1) >= uint(min(x.window, to-x.lowest)): // one of 0 is wrong, too
		return corrupt("match %d bytes back, where there are %d", offset, min(x.window, to-x.lowest))
	}

	// Here, too, most copies are short, and one of a fixed size needs no call.
	if p := x.used & literalsMask; literals <= 16 {
		*(*[16]byte)(x.buf[x.at : x.at+16]) = *(*[16]byte)(d.literals[p : p+16])
	} else {
		copy(x.buf[x.at:to], d.literals[p:])
	}
	x.used += literals
	x.at = to + match

	// From 16 bytes back on, pieces of 16 do not overlap what they write.
	if offset < 16 || match > slack {
		copyMatch(x.buf[to:x.at], x.buf[to-offset:to])
		return nil
	}
	room, source := (*[slack]byte)(x.buf[to:to+slack]), (*[slack]byte)(x.buf[to-offset:to-offset+slack])
	for i := 0; i < slack; i += 16 {
		*(*[16]byte)(room[i : i+16]) = *(*[16]byte)(source[i : i+16])
	}
	return nil
}

// copyMatch fills dst with src again and again, copying ever longer pieces.
func copyMatch(dst, src []byte) {
	for done := copy(dst, src); done < len(dst); {
		done += copy(dst[done:], dst[:done])
	}
}
