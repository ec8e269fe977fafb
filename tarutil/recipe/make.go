package recipe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"

	"ocikit/tarutil"
	"ocikit/tarutil/gzip"
	"ocikit/tarutil/internal/inorder"
	"ocikit/tarutil/rangecoder"
)

// ErrUnknown means that nothing is known here of how a file was compressed.
var ErrUnknown = errors.New("unknown compression")

// Info says what was found out about a compressed file.
type Info struct {
	Encoder string // the one that predicts the file best, with its level
	Size    int64  // of the uncompressed bytes
	Recipe  int64  // the size of the recipe
	Proven  bool   // the recipe was followed, and its result was written to proof

	// Contents is the hash of the uncompressed bytes, or zero if the caller had them.
	Contents [sha256.Size]byte
}

// A Source is a gzip or zstd file.
type Source struct {
	// Open opens the file, each time anew.
	Open func() (io.ReadCloser, error)

	// Contents opens what the file contains, if the caller has that already uncompressed, each time anew. It
	// may be nil. A file that contains something else is an error.
	Contents func() io.Reader
}

// Make writes to w a recipe for a gzip file, or for a zstd file that package zstd wrote. A zstd
// file of another encoder is an error wrapping [ErrUnknown], a file that is neither is one wrapping
// [ErrFormat], and a gzip file that is cut is one wrapping [io.ErrUnexpectedEOF] too. Make opens the
// file several times, and closes what it gets.
//
// Make follows the recipe as it goes along and writes the result to proof. The caller compares
// that with the file. If the recipe only names a level of our own encoders, nothing is written to
// proof and Info.Proven is false: then Make has compressed the contents at this level, and compared
// all bytes with those of the file.
//
// kin, which may be nil, is called where no encoder of ours wrote the file. It may wait until what is in
// other files too is known. The recipe can then be run only with the same; without a Kin, an error of kin
// is that of Make.
//
// Make uses up to three processors, and needs up to 50 MiB of memory for each.
func Make(ctx context.Context, w, proof io.Writer, file Source, kin func() (*Kin, error)) (Info, error) {
	m := &maker{ctx: ctx, open: file.Open, contents: file.Contents, askKin: kin, w: w, proof: joiner{w: proof, left: math.MaxInt64}, plain: sha256.New()}
	return m.make(usualCuts())
}

// make is Make, with segments of another size.
func (m *maker) make(c cuts) (Info, error) {
	if is, err := isZstd(m.open); err != nil || is {
		if err == nil {
			err = m.zstd()
		}
		return m.info, err
	}

	r, err := m.open()
	if err != nil {
		return Info{}, err
	}
	defer r.Close()

	p := newParser(r)
	p.cuts = c
	first, err := p.next()
	if err != nil {
		return Info{}, err
	}

	// A file written by package gzip needs next to nothing.
	if recipe, err := m.own(first); recipe != nil || err != nil {
		if err == nil {
			err = m.write(recipe)
		}
		return m.info, err
	}

	m.info = Info{}
	m.begin()
	m.style = m.detect(first)
	if m.askKin != nil {
		if m.kin, err = m.askKin(); err != nil {
			return Info{}, err
		}
	}
	err = m.segments(p, first)
	m.info.Encoder = m.style.String()
	return m.info, err
}

type maker struct {
	ctx  context.Context
	open func() (io.ReadCloser, error)

	contents func() io.Reader // or nil

	w     io.Writer
	proof joiner
	plain hash.Hash
	same  *comparer // of the contents, or nil
	info  Info
	style style
	tries int

	askKin func() (*Kin, error) // or nil
	kin    *Kin
}

func (m *maker) write(p []byte) error {
	m.info.Recipe += int64(len(p))
	_, err := m.w.Write(p)
	return err
}

// allStyles are those that are tried, the likely ones first.
func allStyles() []style {
	list := []style{{}} // which is quick
	for _, level := range []uint8{6, 9, 1, 5, 7, 4, 3, 8, 2} {
		for f := zlibStyle; f < families; f++ {
			if s := (style{f, level}); s.newMatcher() != nil {
				list = append(list, s)
			}
		}
	}
	return list
}

// String names the style for people.
func (s style) String() string {
	names := [families]string{"none", "zlib", "pigz", "GNU gzip", "Go 1.0 to 1.26", "klauspost 1.0", "klauspost", "pgzip 1.0", "pgzip", "Go 1.27"}
	if s.family == plain {
		return names[plain]
	}
	return fmt.Sprintf("%s -%d", names[s.family], s.level)
}

// detect returns the style that predicts a segment best, or the plain one.
func (m *maker) detect(s *segment) style {
	return append(nearStyles(s), style{})[0]
}

// nearStyles returns the style that predicts a segment best, followed by those that are as good
// within a few bytes. All styles are tried with a little of the segment, where most wrong ones
// show within a few tokens. The remaining ones are tried with more of it: some differ only in how
// deep they search, where a block ends, or where an encoder begins anew.
func nearStyles(s *segment) []style {
	if !s.hasTokens() {
		return nil
	}
	near := allStyles()
	for _, size := range []int{32 << 10, 256 << 10} {
		if near = bestStyles(s.sample(size), near); len(near) == 1 {
			return near
		}
	}
	return bestStyles(s, near)
}

// bestStyles returns those of the styles that predict a segment best within a few bytes, the best
// one first.
func bestStyles(s *segment, styles []style) []style {
	const near = 16
	sizes := make([]int, len(styles))
	best := -1
	for i, st := range styles {
		// A style may not get larger than the best so far allows, which ends most tries early.
		c := rangecoder.NewWriter(nil)
		k := (*codec)(nil).of(st)
		if best >= 0 {
			k.limit = sizes[best] + near
		}
		if k.run(c, s) != nil {
			continue // not better
		}
		if sizes[i] = len(c.Finish()); best < 0 || sizes[i] < sizes[best] {
			best = i
		}
	}

	if best < 0 {
		return nil
	}

	list := []style{styles[best]}
	for i, st := range styles {
		if i != best && sizes[i] > 0 && sizes[i] <= sizes[best]+near {
			list = append(list, st)
		}
	}

	return list
}

// hasTokens reports whether an encoder chose anything here: blocks that are stored, or empty, show
// nothing of it.
func (s *segment) hasTokens() bool {
	for i := range s.events {
		if e := &s.events[i]; e.what == aBlock && len(e.block.tokens) > 0 {
			return true
		}
	}
	return false
}

// sample returns the first bytes of a segment, size of them or a few more.
func (s *segment) sample(size int) *segment {
	t := *s
	t.end, t.bits, t.cut = s.start, -1, false
	for i := range s.events {
		e := s.events[i]
		left := size - (t.end - s.start)
		if left <= 0 {
			t.events = s.events[:i]
			break
		}

		// A block that is too long is cut. Stored blocks stay whole; a style says nothing about
		// them.
		if e.what == aBlock && e.block.size > left && e.block.kind != stored {
			e.block.begin(left)
			t.events = append(append([]event(nil), s.events[:i]...), e)
			t.end += e.block.size
			break
		}
		t.end += e.block.size
	}

	t.data = s.data[:min(len(s.data), t.end+aheadSize)]
	return &t
}

// begin shortens a block to its first tokens, as many as make up size bytes.
func (b *block) begin(size int) {
	n := 0
	for i, t := range b.tokens {
		if n += t.size(); n >= size {
			b.tokens, b.size, b.cut, b.final = b.tokens[:i+1], n, true, false
			return
		}
	}
}

// segments writes the recipe of a file that no encoder of ours wrote, segment by segment.
func (m *maker) segments(p *parser, first *segment) error {
	if err := m.write([]byte(magic)); err != nil {
		return err
	}

	var waiting []*segment // for the bytes behind them
	queue := inorder.New[*codec](workers(), m.finish)
	start := func(s *segment) error {
		s.stretches = m.kin.take(m.info.Size, int64(s.end-s.start))
		m.info.Size += int64(s.end - s.start)
		j := &codingJob{s: s, style: m.style, kin: m.kin}
		queue.Start(queue.Take(), j, j.code)
		return queue.Finish(segmentLag)
	}

	for s, err := first, error(nil); ; s, err = p.next() {
		if cause := context.Cause(m.ctx); cause != nil {
			return cause
		}
		if err != nil && err != io.EOF {
			return err
		}

		// Encoders look ahead, so a segment is coded only when the bytes behind it are known. A
		// short segment may not have enough of them for the one before.
		if s != nil {
			for _, before := range waiting {
				missing := aheadSize - (len(before.data) - before.end)
				before.data = append(before.data, s.data[s.start:min(s.end, s.start+missing)]...)
			}
			waiting = append(waiting, s)
		}

		// Those that have all they need are started; at the end of the file, all.
		for len(waiting) > 0 && (err == io.EOF || len(waiting[0].data)-waiting[0].end == aheadSize) {
			if err := start(waiting[0]); err != nil {
				return err
			}
			waiting = waiting[1:]
		}

		if err == io.EOF {
			break
		}
	}

	if err := queue.Finish(0); err != nil {
		return err
	}

	m.info.Proven = true
	if err := m.end(); err != nil {
		return err
	}
	return m.write([]byte{endMark})
}

// begin is called before the contents are noted. Those that the caller has are compared, which is quicker
// than their hash.
func (m *maker) begin() {
	m.plain.Reset()
	if m.contents != nil {
		m.same = &comparer{want: m.contents()}
	}
}

// note gets the contents, piece by piece.
func (m *maker) note(p []byte) error {
	if m.same == nil {
		m.plain.Write(p)
	} else if _, err := m.same.Write(p); err != nil {
		return cmp.Or(m.same.failure, errorf("it contains other bytes"))
	}
	return nil
}

// end is called behind the contents.
func (m *maker) end() error {
	if m.same == nil {
		m.plain.Sum(m.info.Contents[:0])
	} else if m.same.end() != nil {
		return cmp.Or(m.same.failure, errorf("it contains fewer bytes"))
	}
	return nil
}

// A codingJob is a segment whose corrections are written by a goroutine.
type codingJob struct {
	s       *segment
	style   style
	kin     *Kin
	use     kinUse // that the payload needs
	payload []byte
	made    []byte // of the payload, by following it
}

// code writes the corrections, and proves them by making the segment from them.
//
// Running a style takes at least as long as compressing with the encoder that it imitates. So the
// corrections are first written as if the style were right about every token, which does not run
// it. Following them runs it once and shows whether it was. Only if not, the corrections are
// written again in earnest.
func (j *codingJob) code(kept **codec) error {
	*kept = (*kept).of(j.style)
	k := *kept
	use := j.style.kinUse()
	if use != noKin {
		if done, err := j.byKin(k, use); done || err != nil {
			return err
		}
	}

	payload, err := k.corrections(j.s, true)
	if err != nil {
		return err
	}

	want := k.out.Out
	made, err := k.made(j.s, payload)
	if err == nil && bytes.Equal(made, want) {
		j.keep(noKin, payload, made)
	} else if err := j.earnest(k, noKin); err != nil {
		return err
	} else if !bytes.Equal(j.made, want) && j.use == noKin {
		return errorf("segment %d: it makes other bytes", j.s.contentOf)
	}

	// Others may know better what an encoder does that is not imitated.
	if j.isBad() && use != eagerKin {
		_, err := j.byKin(k, eagerKin)
		return err
	}

	return nil
}

// isBad reports whether the corrections are more than those of a good style.
func (j *codingJob) isBad() bool { return int64(len(j.payload)) > 200+j.s.bits/8/250 }

// keep takes corrections, and what comes of them, unless there are better ones.
func (j *codingJob) keep(use kinUse, payload, made []byte) {
	if j.made == nil || len(payload) < len(j.payload) {
		j.use, j.payload, j.made = use, payload, made
	}
}

// byKin writes corrections of what other files foretell. It reports false if these are of no use.
func (j *codingJob) byKin(k *codec, use kinUse) (bool, error) {
	if len(j.s.stretches) == 0 {
		return false, nil
	}

	var err error
	defer func() { j.s.spans = nil }()
	if j.s.spans, err = j.kin.spans(j.s, use == eagerKin); err != nil || !j.s.right(j.s.spans) {
		return false, err
	}

	// Where the others say nothing the style is trusted first, as in code. Without the compressed
	// segment to compare with, the tokens are compared alone: what is made of them is theirs.
	payload, err := k.corrections(j.s, true)
	if err != nil {
		return false, err
	}
	if made, err := k.made(j.s, payload); err == nil {
		j.keep(use, payload, made)
	} else if err := j.earnest(k, use); err != nil {
		return false, err
	}

	return !j.isBad(), nil
}

// earnest writes and proves corrections of tokens that are really foretold.
func (j *codingJob) earnest(k *codec, use kinUse) error {
	payload, err := k.corrections(j.s, false)
	if err != nil {
		return err
	}

	made, err := k.made(j.s, payload)
	if err != nil {
		return fmt.Errorf("recipe: %w", err)
	}

	j.keep(use, payload, made)
	return nil
}

// corrections returns the corrections for a segment. With trusting they are right only if the
// style is; then the compressed segment is left in k.out too.
func (k *codec) corrections(s *segment, trusting bool) ([]byte, error) {
	c := rangecoder.NewWriter(nil)
	k.trusting, k.limit, k.out = trusting, 0, writerBehind(s.phase)
	err := k.run(c, s)
	k.trusting = false
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	k.out.Align()
	payload := c.Finish()
	if len(payload) > maxPayload {
		return nil, errorf("corrections of %d bytes", len(payload))
	}
	return payload, nil
}

// made returns the compressed segment that corrections make. It stops early with errOther at a
// block whose tokens are not those of s.
func (k *codec) made(s *segment, payload []byte) ([]byte, error) {
	t := *s
	t.events = nil
	k.expect, k.out = s.events, writerBehind(s.phase)
	err := k.run(rangecoder.NewReader(payload), &t)
	k.expect = nil
	k.out.Align()
	return k.out.Out, err
}

// finish writes a coded segment. If it was predicted badly, all styles are tried with it, and the
// best of them becomes the style of those that follow. That takes long, so it is done twice at
// most.
func (m *maker) finish(j *codingJob) error {
	if size := j.s.bits / 8; int64(len(j.payload)) > 200+size/500 && m.tries < 2 && j.use == noKin {
		m.tries++
		if st := m.detect(j.s); st != j.style {
			other := &codingJob{s: j.s, style: st, kin: m.kin}
			var k *codec
			if err := other.code(&k); err == nil && len(other.payload) < len(j.payload) {
				j, m.style = other, st
			}
		}
	}

	if err := m.note(j.s.data[j.s.start:j.s.end]); err != nil {
		return err
	}
	if err := m.proof.write(j.made, j.s.phase, j.s.bits); err != nil {
		return err
	}

	// Only what is written needs to know of other files what these corrections go by.
	j.s.kin = j.use
	return m.write(appendSegment(nil, j.s, j.style, j.payload))
}

var errDiffers = errorf("the bytes differ")

// own returns the recipe for a file written by package gzip, or nil.
func (m *maker) own(first *segment) ([]byte, error) {
	if len(first.events) == 0 || string(first.events[0].raw) != defaultHeader {
		return nil, nil
	}

	// One level of each kind that package gzip has. A short beginning separates them; the whole
	// file decides.
	for _, level := range []int{6, 1, 9, 0} {
		if ok, err := m.isOwn(first, level); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		recipe, err := m.ownSingle(first, level)
		if recipe == nil && err == nil {
			recipe, err = m.ownLevel(level)
		}
		if err == nil || !errors.Is(err, errDiffers) {
			m.info.Encoder = ownName(level)
			return recipe, err
		}
	}

	return nil, nil
}

// ownName names a level of package gzip for people.
func ownName(level int) string { return fmt.Sprintf("ocikit -%d", level) }

// isOwn reports whether the file begins as package gzip would write it.
func (m *maker) isOwn(first *segment, level int) (bool, error) {
	const enough = 1 << 20 // more than two of its blocks
	r, err := m.open()
	if err != nil {
		return false, err
	}
	defer r.Close()

	same := &comparer{want: r}
	z, err := gzip.NewWriter(same, level, 1)
	if err != nil {
		return false, err
	}

	// Only the first member is compared, so that its end need not be right.
	data := first.data[first.start:first.end]
	for _, e := range first.events {
		if e.what == aTrailer { // the rest is another member
			data = data[:min(len(data), memberSize(first.events))]
			break
		}
	}

	z.Write(data[:min(len(data), enough)])
	z.Close() // of what comes of the end, nothing need be right
	return same.n >= 512 || same.err == nil, same.failure
}

// memberSize is the size of the first member.
func memberSize(events []event) (n int) {
	for _, e := range events {
		if e.what == aTrailer {
			break
		}
		n += e.block.size
	}
	return n
}

// ownSingle makes a file of one member again, of contents that need not be uncompressed for it. It
// returns nil if it cannot: then ownLevel may.
func (m *maker) ownSingle(first *segment, level int) ([]byte, error) {
	isSingle := !slices.ContainsFunc(first.events, func(e event) bool { return e.what == aTrailer })
	if m.contents == nil || !isSingle {
		return nil, nil
	}

	want, err := m.open()
	if err != nil {
		return nil, err
	}
	defer want.Close()

	same := &comparer{want: want}
	z, err := gzip.NewWriter(same, level, 0)
	if err != nil {
		return nil, err
	}

	// Contents that give the file bit for bit are its own.
	n, err := io.CopyBuffer(writerOnly{z}, tarutil.ContextReader(m.ctx, m.contents()), make([]byte, 256<<10))
	if err == nil {
		err = z.Close()
	}
	if same.failure != nil {
		err = same.failure
	} else if errors.Is(err, errDiffers) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	// Whatever is behind the member may have contents, of which there are none left.
	if err := same.end(); err != nil {
		return nil, same.failure
	}

	m.info.Size = n
	return ownRecipe(level, []int64{n}, nil), nil
}

// ownLevel makes the whole file again, and returns the recipe, or errDiffers.
func (m *maker) ownLevel(level int) ([]byte, error) {
	r, err := m.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()

	want, err := m.open()
	if err != nil {
		return nil, err
	}
	defer want.Close()

	m.info.Size = 0
	m.begin()
	same := &comparer{want: want}
	z, err := gzip.NewWriter(same, level, 0)
	if err != nil {
		return nil, err
	}

	// The file is compressed from its own contents into a comparer, which fails at the first byte
	// that differs.
	sizes, err := m.ownMembers(z, newParser(r))
	if err == nil && same.failure == nil {
		err = z.Close()
	}
	if err == nil {
		err = same.failure
	}
	if err != nil {
		return nil, err
	}

	// The rest of the file is not a member of ours, such as an empty member or padding.
	tail, err := io.ReadAll(io.LimitReader(want, maxHeader+1))
	if err != nil {
		return nil, err
	}

	if len(sizes) > maxMembers || len(tail) > maxHeader {
		return nil, errDiffers
	}

	if err := m.end(); err != nil {
		return nil, err
	}
	return ownRecipe(level, sizes, tail), nil
}

// ownRecipe returns the recipe of a file that package gzip wrote.
func ownRecipe(level int, sizes []int64, tail []byte) []byte {
	recipe := append([]byte(magic), ownTag, byte(level))
	recipe = binary.AppendUvarint(recipe, uint64(len(sizes)))
	for _, n := range sizes {
		recipe = binary.AppendUvarint(recipe, uint64(n))
	}

	recipe = binary.AppendUvarint(recipe, uint64(len(tail)))
	return append(recipe, tail...)
}

// ownMembers writes the contents of all members to z and returns their sizes. Members that package
// gzip would not write may only stand at the end, and must be empty: they go into the tail. If one
// has contents, the error is errDiffers.
func (m *maker) ownMembers(z *gzip.Writer, p *parser) ([]int64, error) {
	var sizes []int64
	var size int64
	foreign := false
	for {
		if err := context.Cause(m.ctx); err != nil {
			return nil, err
		}

		s, err := p.next()
		if err == io.EOF {
			return sizes, nil
		}
		if err != nil {
			return nil, err
		}

		m.info.Size += int64(s.end - s.start)
		if err := m.note(s.data[s.start:s.end]); err != nil {
			return nil, err
		}

		// Each event is a part of the contents, or stands between such parts.
		pos := s.start
		for _, e := range s.events {
			n := e.block.size
			switch {
			case e.what == aHeader && string(e.raw) != defaultHeader, e.what == aJunk:
				foreign = true
			case foreign && n > 0:
				return nil, errDiffers
			case foreign:
			case e.what == aTrailer:
				if err := z.EndMember(nil); err != nil {
					return nil, err
				}
				sizes, size = append(sizes, size), 0
			default:
				if _, err := z.Write(s.data[pos : pos+n]); err != nil {
					return nil, err
				}
				size += int64(n)
			}
			pos += n
		}
	}
}

// Same returns a Writer that fails where the bytes written are not those of want, with an error that wraps
// [ErrRecipe], or where want fails, with its error.
func Same(want io.Reader) io.Writer { return &comparer{want: want} }

// A comparer is a Writer that fails with errDiffers where the bytes written are not those of want.
type comparer struct {
	want    io.Reader
	buf     [64 << 10]byte
	n       int64 // how much was the same
	err     error
	failure error // of the reader
}

// end returns errDiffers if there is more to come.
func (c *comparer) end() error {
	n, err := io.ReadFull(c.want, c.buf[:1])
	if n > 0 {
		return errDiffers
	}
	if err != io.EOF {
		c.failure = err
		return err
	}
	return nil
}

func (c *comparer) Write(p []byte) (n int, err error) {
	for n < len(p) && c.err == nil {
		part := p[n:min(len(p), n+len(c.buf))]
		c.compare(part)
		n += len(part)
	}
	if c.err != nil {
		return 0, c.err
	}
	return n, nil
}

// compare compares the next bytes, which fit into buf.
func (c *comparer) compare(p []byte) {
	got := c.buf[:len(p)]
	n, err := io.ReadFull(c.want, got)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		c.failure, c.err = err, err
		return
	}

	if n == len(p) && bytes.Equal(got, p) {
		c.n += int64(n)
		return
	}

	// The place of the first difference tells a likely encoder from an unlikely one, so it is
	// counted exactly.
	c.err = errDiffers
	for i := range n {
		if got[i] != p[i] {
			break
		}
		c.n++
	}
}
