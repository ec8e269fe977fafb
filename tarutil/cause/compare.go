package cause

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	"ocikit/tarutil"
)

// A comparer is one run of Tars.
type comparer struct {
	a, b     side
	budget   *tarutil.Budget
	seed     maphash.Seed
	found    map[Kind]*finding
	noted    int    // entries, of all causes
	pairs    []pair // entries that both tars have, from where the orders first differed
	parted   bool   // the orders have differed
	apart    bool   // there are too many
	keep     int    // bytes of contents that may still be kept
	words    map[string]string
	spelling []byte // scratch
	bufA     []byte
	bufB     []byte
}

// A pair is an entry of both tars, with its places.
type pair struct {
	a, b int
	path string
}

// A side is one of the two tars.
type side struct {
	there   bool
	in      io.Reader
	raw     *tarutil.RawReader
	entry   tarutil.RawEntry
	rec     *record // of entry, once it was parsed
	place   int     // of entry
	ended   bool
	zeros   int64 // bytes behind the last entry that are zeros
	junk    int64 // and that are not
	waiting map[string][]*record
}

// A record is what is known of an entry.
type record struct {
	path     string
	header   tarutil.RawHeader
	spelling string
	place    int
	odd      bool // the padding before it is not zeros
	size     int64
	blocks   uint64 // hash of the header
	sum      uint64 // hash of the content, if it waits
	data     []byte // the content, if it waits and is small
}

func newComparer(here, there io.Reader, memory int) *comparer {
	c := &comparer{
		budget: tarutil.NewBudget(memory), seed: maphash.MakeSeed(), found: map[Kind]*finding{},
		keep: memory / 4, words: map[string]string{},
		bufA: make([]byte, chunk), bufB: make([]byte, chunk),
	}
	for s, r := range map[*side]io.Reader{&c.a: here, &c.b: there} {
		*s = side{there: s == &c.b, in: r, raw: tarutil.NewRawReader(r), place: -1, waiting: map[string][]*record{}}
	}
	return c
}

// run reads both tars to their ends.
func (c *comparer) run(ctx context.Context) error {
	if err := c.next(&c.a, &c.b); err != nil {
		return err
	}

	for !c.a.ended || !c.b.ended {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if c.apart {
			return c.drain()
		}
		if err := c.step(); err != nil {
			return err
		}
	}

	return c.drain()
}

// next goes to the next entry on each of the sides.
func (c *comparer) next(sides ...*side) (err error) {
	for _, s := range sides {
		s.rec = nil
		s.place++
		if s.entry, err = s.raw.Next(); err == io.EOF {
			s.ended, err = true, nil
		}
		if err != nil {
			return &SideError{s.there, err}
		}
	}
	return nil
}

// step compares the next entries if they belong together. Otherwise it puts one of them by, or
// compares it with one that was put by.
func (c *comparer) step() error {
	a, b := &c.a, &c.b
	if !a.ended && !b.ended {
		// Most headers are equal as bytes, and are not even parsed. Once the orders have parted,
		// the path is needed for the list of pairs.
		if !c.parted && bytes.Equal(a.entry.Blocks, b.entry.Blocks) && a.raw.OddPadding() == b.raw.OddPadding() {
			return c.together(nil, nil)
		}
		x, err := c.record(a)
		if err != nil {
			return err
		}
		y, err := c.record(b)
		if err != nil {
			return err
		}
		if x.path == y.path {
			return c.together(x, y)
		}
	}

	// Here the entries do not belong together. One of them is taken, and the other stays for the
	// next step.
	c.parted = true
	s, other := c.choose()
	rec, err := c.record(s)
	if err != nil {
		return err
	}

	if err := c.hash(s, rec); err != nil {
		return err
	}

	if list := other.waiting[rec.path]; len(list) > 0 {
		if other.waiting[rec.path] = list[1:]; len(list) == 1 {
			delete(other.waiting, rec.path)
		}
		c.budget.Give(list[0].memory())
		c.pairUp(s, rec, list[0])
	} else {
		s.waiting[rec.path] = append(s.waiting[rec.path], rec)
		c.take(rec.memory())
	}

	return c.next(s)
}

// choose returns the side to go on with where the next entries differ: the one whose entry has a
// counterpart that waits, else the one whose entry comes first in tree order, so that tars that are
// sorted meet again at once.
func (c *comparer) choose() (s, other *side) {
	a, b := &c.a, &c.b
	switch {
	case a.ended:
		return b, a
	case b.ended:
		return a, b
	case len(b.waiting[a.rec.path]) > 0:
		return a, b
	case len(a.waiting[b.rec.path]) > 0:
		return b, a
	case tarutil.ComparePaths(a.rec.path, b.rec.path) <= 0:
		return a, b
	}
	return b, a
}

// together compares the current entries of both tars, which have one path. x and y are nil if their
// headers are equal as bytes.
func (c *comparer) together(x, y *record) error {
	if x != nil {
		c.headers(x, y)
		if c.parted {
			c.addPair(pair{x.place, y.place, x.path})
		}
	}
	if (c.a.entry.Size > 0 || c.b.entry.Size > 0) && (x == nil || typeOf(&x.header) == typeOf(&y.header)) {
		if err := c.contents(x); err != nil {
			return err
		}
	}
	return c.next(&c.a, &c.b)
}

// pairUp compares an entry of s with one of the other tar that waited. Both contents are hashed.
func (c *comparer) pairUp(s *side, rec, waited *record) {
	x, y := rec, waited
	if s.there {
		x, y = y, x
	}

	c.headers(x, y)
	c.addPair(pair{x.place, y.place, x.path})
	if x.size == y.size && x.sum == y.sum || x.header.Type != y.header.Type {
		return
	}

	// The place of the difference can be told only if both contents were small enough to be kept.
	f := c.note(Content, x.path, fmt.Sprint(x.size), fmt.Sprint(y.size))
	if f.cause.Count == 1 {
		f.cause.Offset = -1
		if x.data != nil && y.data != nil {
			f.cause.Offset = int64(firstDifference(x.data, y.data))
			f.cause.Inside = lookInside(x.path, x.data, y.data)
		}
	}
}

// addPair notes an entry that both tars have, for the comparison of their orders.
func (c *comparer) addPair(p pair) {
	c.pairs = append(c.pairs, p)
	c.take(len(p.path) + 32)
}

// take counts memory. If there is none left the comparison will end.
func (c *comparer) take(n int) {
	if c.budget.Take(n) != nil {
		c.apart = true
	}
}

// record returns what the entry of a side says.
func (c *comparer) record(s *side) (*record, error) {
	if s.rec != nil {
		return s.rec, nil
	}

	h, err := s.entry.Parse()
	if err != nil {
		return nil, &SideError{s.there, err}
	}

	// The header is kept for long, so texts that repeat are shared, and what points into the
	// blocks is dropped: those are overwritten by the next entry.
	r := &record{path: cleanName(h.Name), header: h, place: s.place, size: s.entry.Size, odd: s.raw.OddPadding()}
	c.spelling = appendSpelling(c.spelling[:0], &h)
	r.spelling = c.internBytes(c.spelling)
	r.blocks = maphash.Bytes(c.seed, s.entry.Blocks)
	r.header.Uname, r.header.Gname = c.intern(h.Uname), c.intern(h.Gname)
	r.header.Main, r.header.Before = nil, nil
	s.rec = r
	return r, nil
}

// intern returns one copy of texts that come again and again, such as names of owners. The number of
// texts is bounded, so that input cannot fill memory with them.
func (c *comparer) intern(s string) string {
	known, ok := c.words[s]
	if !ok {
		if known = strings.Clone(s); len(c.words) < 1<<12 {
			c.words[known] = known
		}
	}
	return known
}

func (c *comparer) internBytes(b []byte) string {
	if known, ok := c.words[string(b)]; ok {
		return known
	}
	return c.intern(string(b))
}

// memory returns about how many bytes a waiting record needs.
func (r *record) memory() int {
	return len(r.path) + len(r.header.Name) + len(r.header.Link) + tarutil.RecordsMemory(r.header.Records) + len(r.data) + 400
}

// hash reads and hashes the content of an entry that has to wait, or to be compared with one that did.
// Small contents are kept too, so that it can be told where they differ.
func (c *comparer) hash(s *side, r *record) error {
	if r.size == 0 {
		return nil
	}

	// A quarter of the memory is for contents. Those that do not fit are known by their hashes
	// alone.
	if r.size <= int64(min(c.keep, 1<<20)) {
		r.data = make([]byte, r.size)
		n, err := readChunk(s.raw, r.data)
		if err != nil {
			return &SideError{s.there, err}
		}
		r.data = r.data[:n]
		c.keep -= n
		r.sum = maphash.Bytes(c.seed, r.data)
		return nil
	}

	var h maphash.Hash
	h.SetSeed(c.seed)
	for {
		n, err := readChunk(s.raw, c.bufA)
		if err != nil {
			return &SideError{s.there, err}
		}
		if n == 0 {
			r.sum = h.Sum64()
			return nil
		}
		h.Write(c.bufA[:n])
	}
}

// contents compares the contents of the current entries. It reads up to the first difference; the
// rest is passed over by next. x is the record of the first side, or nil if that was not parsed.
func (c *comparer) contents(x *record) error {
	a, b := &c.a, &c.b
	limit := chunk
	sizeA, sizeB := a.entry.Size, b.entry.Size
	var at int64
	for first := true; ; first = false {
		n, err := readChunk(a.raw, c.bufA[:limit])
		if err != nil {
			return &SideError{false, err}
		}

		m, err := readChunk(b.raw, c.bufB[:limit])
		if err != nil {
			return &SideError{true, err}
		}

		if n == 0 && m == 0 {
			return nil
		}

		diff := firstDifference(c.bufA[:n], c.bufB[:m])
		if diff < 0 {
			at += int64(n)
			continue
		}

		if x == nil {
			if x, err = c.record(a); err != nil {
				return err
			}
		}

		// Only the first entry with another content is looked into.
		f := c.note(Content, x.path, fmt.Sprint(sizeA), fmt.Sprint(sizeB))
		if f.cause.Count > 1 {
			return nil
		}

		f.cause.Offset = at + int64(diff)
		if !first || max(sizeA, sizeB) > insideLimit || !hasInside(x.path, c.bufA[:n]) {
			return nil
		}

		// Both are small enough to be held, and of a kind that is looked into.
		f.cause.Inside, err = c.inside(x.path, n, m)
		return err
	}
}

// inside looks into two files that differ in their first chunk: what was read of them, n and m bytes, is
// all in the buffers.
func (c *comparer) inside(path string, n, m int) (Inside, error) {
	a, err := appendAll(bytes.Clone(c.bufA[:n]), c.a.raw)
	if err != nil {
		return Inside{}, &SideError{false, err}
	}

	b, err := appendAll(bytes.Clone(c.bufB[:m]), c.b.raw)
	if err != nil {
		return Inside{}, &SideError{true, err}
	}
	return lookInside(path, a, b), nil
}

// appendAll reads the rest of a content, whose size is known to be small.
func appendAll(p []byte, r io.Reader) ([]byte, error) {
	rest, err := io.ReadAll(r)
	return append(p, rest...), err
}

// drain reads both tars to their ends, and counts what stands behind the last entries.
func (c *comparer) drain() error {
	for _, s := range []*side{&c.a, &c.b} {
		for !s.ended { // the comparison was given up
			if err := c.next(s); err != nil {
				return err
			}
		}

		for {
			n, err := readChunk(s.in, c.bufA)
			if err != nil {
				return &SideError{s.there, err}
			}
			if n == 0 {
				break
			}

			for _, v := range c.bufA[:n] {
				if v != 0 {
					s.junk++
				}
			}
			s.zeros += int64(n)
		}
	}

	return nil
}

// causes adds what is known only at the end, and returns what was found.
func (c *comparer) causes() []Cause {
	c.onlyOne(OnlyHere, &c.a)
	c.onlyOne(OnlyThere, &c.b)
	c.order()
	c.end()

	// If the comparison was given up, an entry without a counterpart may have one further on.
	if c.apart {
		delete(c.found, OnlyHere)
		delete(c.found, OnlyThere)
		c.note(Apart, "", "", "").cause.Count = min(c.a.place, c.b.place)
	}

	c.fold()

	var list []Cause
	for _, kind := range kinds() {
		if f := c.found[kind]; f != nil {
			list = append(list, f.finish())
		}
	}

	return list
}

// kinds returns all kinds in the order in which they are told.
func kinds() []Kind {
	return []Kind{OnlyHere, OnlyThere, Order, Types, Content, Links, Devices, Modes, Owners, OwnerNames, Times, AccessTimes, Xattrs, Names, Form, Padding, End, Apart}
}

// onlyOne notes the entries of a side that still wait for a counterpart.
func (c *comparer) onlyOne(kind Kind, s *side) {
	count, first := 0, (*record)(nil)
	for _, list := range s.waiting {
		count += len(list)
		if first == nil || list[0].place < first.place {
			first = list[0]
		}
	}
	if count > 0 {
		c.note(kind, first.path, "", "").cause.Count = count
	}
}

// order compares the orders of the entries that both tars have. Until the orders parted there is
// nothing to compare.
func (c *comparer) order() {
	inA, inB := slices.Clone(c.pairs), c.pairs
	slices.SortFunc(inA, func(x, y pair) int { return cmp.Compare(x.a, y.a) })
	slices.SortFunc(inB, func(x, y pair) int { return cmp.Compare(x.b, y.b) })
	for i := range inA {
		if inA[i] != inB[i] {
			c.note(Order, inA[i].path, inA[i].path, inB[i].path)
		}
	}
	if f := c.found[Order]; f != nil {
		f.cause.SameHere, f.cause.SameThere = isSorted(inA), isSorted(inB)
	}
}

// isSorted reports whether entries come in the order of their names, as bytes or as a tree.
func isSorted(list []pair) bool {
	bytewise := slices.IsSortedFunc(list, func(x, y pair) int { return strings.Compare(x.path, y.path) })
	return bytewise || slices.IsSortedFunc(list, func(x, y pair) int { return tarutil.ComparePaths(x.path, y.path) })
}

// end compares what stands behind the last entries.
func (c *comparer) end() {
	a, b := &c.a, &c.b
	if a.raw.OddPadding() != b.raw.OddPadding() {
		c.note(Padding, "", "", "")
	}

	// GNU tar pads to a record, so the number of zero blocks differs if something before them
	// does. That is not a cause of its own.
	if a.ending() == b.ending() || a.isPadded() && b.isPadded() {
		return
	}
	c.note(End, "", a.ending(), b.ending())
}

// record is what GNU tar, and other programs after it, pad a tar to.
const recordSize = 20 * 512

// isPadded reports whether a tar is filled up with zeros to a whole record, so that the number of zero
// blocks follows from what is before them.
func (s *side) isPadded() bool {
	return s.raw.Ended() && s.junk == 0 && s.zeros < recordSize && (s.raw.Offset()+s.zeros)%recordSize == 0
}

// ending describes how a tar ends.
func (s *side) ending() string {
	switch {
	case !s.raw.Ended():
		return noEnd
	case s.junk > 0:
		return fmt.Sprintf("%d bytes that are not zeros", s.junk)
	case s.isPadded() && s.zeros > 0:
		return "padded to 10240 bytes"
	}
	return fmt.Sprintf("%d zero blocks", 2+s.zeros/512)
}

// noEnd is the text for a tar without an end marker, in [Cause.Here] and There of kind [End].
const noEnd = "no end marker"
