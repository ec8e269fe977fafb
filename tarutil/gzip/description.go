package gzip

import (
	"ocikit/tarutil/entropy"
	"ocikit/tarutil/internal/deflate"
)

// description holds the code lengths of one DEFLATE block, and how these are written in front of the
// block: as items, which have a third code of their own (RFC 1951, section 3.2.7).
type description struct {
	deflate.Lengths
	nLit  int         // lengths written of Lit
	nDist int         // and of Dist
	items [320]uint16 // see [deflate.AppendRuns]
	n     int         // of items
	lens  [19]uint8   // of the code for the items
	codes [19]uint16
	nLens int // lengths written of lens
	bits  int // what all of this takes
}

// init finds the codes for the counts, and the shortest description of them.
func (d *description) init(c *counts) {
	entropy.CodeLengths(d.Lit[:286], c.Lit[:], 15)
	entropy.CodeLengths(d.Dist[:30], c.Dist[:], 15)

	// Lengths of zero at the end are not written, but 257 and one must be.
	d.nLit, d.nDist = 286, 30
	for d.Lit[d.nLit-1] == 0 {
		d.nLit--
	}

	d.nLit = max(d.nLit, 257)
	for d.nDist > 1 && d.Dist[d.nDist-1] == 0 {
		d.nDist--
	}

	// Both lists of lengths are one sequence, in which a run may go on from the first to the
	// second.
	var all [316]uint8
	n := copy(all[:], d.Lit[:d.nLit])
	n += copy(all[n:], d.Dist[:d.nDist])
	d.n = len(deflate.AppendRuns(d.items[:0], all[:n]))
	var freq [19]uint32
	for _, it := range d.items[:d.n] {
		freq[it&0xff]++
	}

	entropy.CodeLengths(d.lens[:], freq[:], 7)
	deflate.AssignCodes(d.codes[:], d.lens[:])
	d.nLens = 19
	for d.lens[deflate.LengthOrder[d.nLens-1]] == 0 {
		d.nLens--
	}

	d.bits = 5 + 5 + 4 + 3*d.nLens
	for _, it := range d.items[:d.n] {
		d.bits += int(d.lens[it&0xff]) + deflate.RunBits(int(it&0xff))
	}
}

// write writes the description, behind the three bits of the block header.
func (d *description) write(w *bitWriter) {
	w.Put(uint64(d.nLit-257), 5)
	w.Put(uint64(d.nDist-1), 5)
	w.Put(uint64(d.nLens-4), 4)
	for _, sym := range deflate.LengthOrder[:d.nLens] {
		w.Put(uint64(d.lens[sym]), 3)
	}
	for _, it := range d.items[:d.n] {
		w.Put(uint64(d.codes[it&0xff]), uint(d.lens[it&0xff]))
		w.Put(uint64(it>>8), uint(deflate.RunBits(int(it&0xff))))
	}
}

// codes are the code words of one DEFLATE block, laid out for bitWriter.tokens.
type codes struct {
	litLen [512]uint32 // by bits 0-8 of a token: code with extra bits << 5 | bits in all
	dist   [32]uint32  // by bits 9-13: code << 9 | bits of the code << 5 | bits in all
	end    uint32      // of the end of the block, like litLen
}

// init lays out the codes of these lengths. The extra bits of a match's length follow its code directly,
// so they are part of the table; those of a distance come from the token.
func (c *codes) init(l *deflate.Lengths, length *[256]lengthCode) {
	var lit [288]uint16
	var dist [32]uint16
	deflate.AssignCodes(lit[:], l.Lit[:])
	deflate.AssignCodes(dist[:], l.Dist[:])
	for i := range 256 {
		c.litLen[i] = uint32(lit[i])<<5 | uint32(l.Lit[i])
		m := length[i]
		sym, n := endBlock+int(m.sym), l.Lit[endBlock+int(m.sym)]
		c.litLen[256+i] = (uint32(lit[sym])|uint32(m.extra)<<n)<<5 | uint32(n+m.n)
	}
	for i, n := range l.Dist[:deflate.Distances] {
		_, extra := deflate.DistBase(i)
		c.dist[i+1] = uint32(dist[i])<<9 | uint32(n)<<5 | uint32(int(n)+extra)
	}
	c.end = uint32(lit[endBlock])<<5 | uint32(l.Lit[endBlock])
}
