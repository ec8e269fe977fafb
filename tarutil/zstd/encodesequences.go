package zstd

import (
	"math/bits"
	"slices"

	"ocikit/tarutil/entropy"
)

// symbols are the codes of a sequence: of the literals in bits 0-7, of the match in bits 8-15, of
// the distance from bit 16 on.
type symbols uint32

// A sequenceTable is what one kind of symbol needs.
type sequenceTable struct {
	kind   kind
	preset stateTable
	table  stateTable // of the current block
	known  bool       // table is one that was described, so that it can be repeated
	counts [maxSequenceCodes]uint32
	codes  [128]uint8              // of the lowest lengths
	bits   [maxSequenceCodes]uint8 // how many bits follow a code
}

func (t *sequenceTable) init(k kind) {
	t.kind = k
	t.preset.set(k.preset, k.log)
	for i, v := range k.values {
		t.bits[i] = v.bits
	}

	// Each code goes on to where the next one begins.
	c := 0
	for i := range t.codes {
		for c+1 < len(k.values) && k.values[c+1].base-k.values[0].base <= uint32(i) {
			c++
		}
		t.codes[i] = uint8(c)
	}
}

// sequences appends the "Sequences_Section".
func (e *encoder) sequences(q *sequences) {
	const wide = 0x7f00

	// The count takes one, two or three bytes, as the first one says.
	switch n := q.n; {
	case n < 128:
		e.out = append(e.out, byte(n))
	case n < wide:
		e.out = append(e.out, byte(n>>8)+128, byte(n))
	default:
		e.out = append(e.out, 255, byte(n-wide), byte((n-wide)>>8))
	}

	if q.n == 0 {
		return
	}

	e.collect(q)
	modes := len(e.out)
	e.out = append(e.out, 0)
	for i := range e.tables {
		var mode int
		e.out, mode = e.tables[i].choose(e.out, q.n, &e.logs)
		e.out[modes] |= byte(mode << (6 - 2*i))
	}

	e.writeSequences(q)
}

// collect finds the symbols of the sequences and counts them. It replaces each sequence by the bits
// that follow its symbols, with the number of these bits from bit 58 on.
func (e *encoder) collect(q *sequences) {
	lits, matches := &e.tables[kindLiterals], &e.tables[kindMatch]
	var counts [3][maxSequenceCodes]uint32
	r0, r1, r2 := e.repeats[0], e.repeats[1], e.repeats[2]
	list := q.list[:q.n]
	for i, s := range list {
		l, m, d := s.literals(), s.match()-minMatch, s.distance()

		// A distance is written as 1 to 3 if it is one of the latest, or else with 3 added. Without
		// literals the latest cannot be meant: the numbers are for the second, the third, and the
		// first less one.
		none := uint32(0)
		if l == 0 {
			none = 1
		}

		var v uint32
		switch {
		case d == r0 && none == 0:
			v = 1
		case d == r1:
			v = 2 - none
			r0, r1 = d, r0
		case d == r2:
			v = 3 - none
			r0, r1, r2 = d, r0, r1
		default: // the latest from now on
			v = d + 3
			if d+1 == r0 && none == 1 {
				v = 3
			}
			r0, r1, r2 = d, r0, r1
		}

		// The code of a distance is the place of its highest bit, and the bits below follow. Short
		// lengths, as most are, are their own codes, and no bits follow.
		o := uint32(bits.Len32(v)) - 1
		x, n := uint64(v&^(1<<(o&31))), o
		lc, mc := l, m
		if l|m>>1 >= 16 {
			// Lengths have a code for each power of two once they are large.
			lc, mc = uint32(bits.Len32(l))+18, uint32(bits.Len32(m))+35
			if l < 64 {
				lc = uint32(lits.codes[l])
			}
			if m < 128 {
				mc = uint32(matches.codes[m])
			}

			// A decoder reads the bits of the distance first, and so the highest.
			ln, mn := lits.bits[lc&63]&31, matches.bits[mc&63]&31
			x = x<<mn | uint64(m&(1<<mn-1))
			x = x<<ln | uint64(l&(1<<ln-1))
			n += uint32(ln + mn)
		}

		counts[kindLiterals][lc&63]++
		counts[kindMatch][mc&63]++
		counts[kindOffset][o&63]++
		e.symbols[i] = symbols(lc | mc<<8 | o<<16)
		list[i] = sequence(x | uint64(n)<<58)
	}

	e.repeats = repeats{r0, r1, r2}
	for i := range counts {
		e.tables[i].counts = counts[i]
	}
}

// choose sets the table to the one that costs the least for n symbols. It appends what describes
// it, and returns its mode.
func (t *sequenceTable) choose(out []byte, n int, logs *entropy.Logs) ([]byte, int) {
	used, top := usedSymbols(t.counts[:])
	counts := t.counts[:top]

	// One symbol alone takes a byte to describe, and then no bits at all.
	if used == 1 && n > 2 {
		t.table.setSingle(top - 1)
		t.known = false
		return append(out, byte(top-1)), modeSingle
	}

	// The preset table has a share for each symbol that can be.
	least, _ := cost(logs, counts, t.preset.norm[:], t.preset.log)
	mode := modePreset
	if t.known {
		if c, ok := cost(logs, counts, t.table.norm[:], t.table.log); ok && c <= least {
			least, mode = c, modeRepeat
		}
	}

	// A table for these counts costs its description, too. The accuracy grows with the number of
	// symbols: shares that are finer than the counts gain nothing.
	if used > 1 {
		var norm [maxSequenceCodes]int16
		log := uint8(max(bits.Len(uint(n-1))-2, bits.Len(uint(used))+1, 5))
		log = min(log, t.kind.maxLog)
		normalize(logs, norm[:top], counts, log)

		own := appendDistribution(out, norm[:top], log)
		c, _ := cost(logs, counts, norm[:top], log)
		if c+int64(len(own)-len(out))*8*entropy.One < least {
			t.table.set(norm[:top], log)
			t.known = true
			return own, modeTable
		}
	}

	if mode == modePreset {
		t.table, t.known = t.preset, false
	}

	return out, mode
}

// writeSequences appends the bits of the sequences. A decoder reads them from the end, so all is
// written the other way round: the last sequence first, and of each the change of the states behind
// it before the bits that follow its symbols.
func (e *encoder) writeSequences(q *sequences) {
	lits, matches, offsets := &e.tables[kindLiterals].table, &e.tables[kindMatch].table, &e.tables[kindOffset].table
	e.out = slices.Grow(e.out, 12*q.n+64)
	o, buf := len(e.out), e.out[:cap(e.out)]

	// Nothing follows the last sequence, so its states may be any that stand for its symbols.
	list, symbols := q.list[:q.n-1], e.symbols[:q.n-1]
	last := e.symbols[q.n-1]
	l, m, d := lits.first(uint32(last&255)), matches.first(uint32(last>>8&255)), offsets.first(uint32(last>>16))
	acc, n := q.list[q.n-1].further()
	o, acc, n = store(buf, o, acc, n)

	for i := len(list) - 1; i >= 0; i-- {
		c := symbols[i]
		next, k := offsets.step(d, uint32(c>>16))
		acc |= uint64(d&(1<<k-1)) << (n & 63)
		n += uint(k)
		d = next
		next, k = matches.step(m, uint32(c>>8))
		acc |= uint64(m&(1<<k-1)) << (n & 63)
		n += uint(k)
		m = next
		next, k = lits.step(l, uint32(c))
		acc |= uint64(l&(1<<k-1)) << (n & 63)
		n += uint(k)
		l = next

		// Those were 26 bits at most. What follows the symbols are 55 at most, 16 for each length and
		// 23 for the distance, but nearly always few enough to be stored together.
		x, bits := list[i].further()
		if n+bits >= 64 {
			o, acc, n = store(buf, o, acc, n)
		}
		acc |= x << (n & 63)
		n += bits
		o, acc, n = store(buf, o, acc, n)
	}

	// The states that a decoder begins with.
	w := writerAt(buf[:o], acc, n)
	w.Put(uint64(m)&(1<<matches.log-1), uint(matches.log))
	w.Put(uint64(d)&(1<<offsets.log-1), uint(offsets.log))
	w.Put(uint64(l)&(1<<lits.log-1), uint(lits.log))
	e.out = w.mark()
}
