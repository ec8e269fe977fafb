package delta

import (
	"context"
	"encoding/binary"
	"math/bits"
	"runtime"
)

const (
	window    = 32 // bytes that a hash is of
	indexBits = 23 // most entries, of 8 bytes

	// One place in 32 is selected. Where that is over a million, it is fewer, down to one in 256, which
	// finds hardly less: files that moved are longer. Fewer than these are selected where the table ends.
	mostBits   = 5
	sparseBits = 8
	manyPlaces = 1 << 20

	retry = 16 // behind a run its alignment is tried again after so many bytes, and so on
)

// gear holds the number that each byte adds to a rolling hash: one that forgets a byte after
// 32 others, since it is shifted out.
type gear [256]uint32

func newGear() *gear {
	var g gear

	// The numbers are part of what an inventory of chunks means, so they come from a generator of
	// our own (xorshift64).
	x := uint64(0x9E3779B97F4A7C15)
	for i := range g {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		g[i] = uint32(x >> 32)
	}
	return &g
}

// An index finds where in the bases some bytes are: at places that their own content selects,
// so that the same bytes are found whatever stands before them.
type index struct {
	gear  *gear
	mask  uint32   // a place is selected if these bits of its hash are zero
	shift int      // of a mixed hash, to get an entry
	entry []uint64 // place+1 shifted by tagBits, and a tag
}

const tagBits = 24

func mix(h uint32) uint64 { return uint64(h) * 0x9E3779B97F4A7C15 }

// newIndex reads all bases and enters their selected places.
func newIndex(ctx context.Context, b *Bases) (*index, error) {
	n, every := mostBits, b.size>>mostBits
	for every > manyPlaces && n < sparseBits || every > 1<<(indexBits-1) {
		n++
		every >>= 1
	}

	size := max(10, min(indexBits, bits.Len64(uint64(every))+1))
	x := &index{gear: newGear(), mask: (1<<n - 1) << (32 - n), shift: 64 - size, entry: make([]uint64, 1<<size)}
	return x, x.fill(ctx, b)
}

// A selection is what one block of the bases has for the index: the hashes of its selected places.
type selection struct {
	off  int64
	buf  []byte
	list []selected
	err  error
}

type selected struct {
	hash uint32
	at   uint32 // in the block
}

const indexBlock = 256 << 10

// fill enters the selected places of all bases. Blocks are hashed on several processors, and entered
// in their order: of equal hashes the first place stays.
func (x *index) fill(ctx context.Context, b *Bases) error {
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	queue := make(chan chan *selection, workers)
	free := make(chan *selection, workers+1)
	for range cap(free) {
		free <- &selection{buf: make([]byte, window+indexBlock)}
	}

	// One goroutine hands out blocks, each of which gets a goroutine and a place in the queue. Their
	// memory goes round, which bounds how many are under way.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(queue)
		for off := int64(0); off < b.size && ctx.Err() == nil; off += indexBlock {
			s, done := <-free, make(chan *selection, 1)
			queue <- done
			go func() {
				s.err = x.block(b, off, s)
				done <- s
			}()
		}
	}()

	// After an error the rest is still waited for: the caller may close the bases then.
	var err error
	for done := range queue {
		s := <-done
		if err == nil {
			err = s.err
		}
		if err != nil {
			cancel()
		} else {
			x.enter(s)
		}
		free <- s
	}

	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// block selects places of the block of the bases at off. A hash is of 32 bytes, so those before the
// block are read too.
func (x *index) block(b *Bases, off int64, s *selection) error {
	from := max(0, off-window)
	p := s.buf[:min(indexBlock, b.size-off)+off-from]
	if _, err := b.ReadAt(p, from); err != nil {
		return err
	}

	h := uint32(0)
	for _, c := range p[:off-from] {
		h = h<<1 + x.gear[c]
	}
	s.off, s.list = off, x.sel(p[off-from:], h, s.list[:0])
	return nil
}

// sel appends the selected places of p to list. h is the hash of the bytes before.
func (x *index) sel(p []byte, h uint32, list []selected) []selected {
	g := x.gear
	limit := x.mask & -x.mask // a hash below it has none of the bits
	before := uint32(0)

	// Of four bytes mostly none is selected, which the least of their hashes tells.
	for i := 0; i+4 <= len(p); i += 4 {
		q := p[i : i+4 : i+4]
		h1 := h<<1 + g[q[0]]
		h2 := h1<<1 + g[q[1]]
		h3 := h2<<1 + g[q[2]]
		h = h3<<1 + g[q[3]]
		if min(h1, h2, h3, h) >= limit {
			continue
		}
		for k, v := range [4]uint32{h1, h2, h3, h} {
			if v < limit && v != before { // the same again and again is one byte repeated
				before = v
				list = append(list, selected{v, uint32(i + k)})
			}
		}
	}

	for i := len(p) &^ 3; i < len(p); i++ {
		if h = h<<1 + g[p[i]]; h < limit && h != before {
			before = h
			list = append(list, selected{h, uint32(i)})
		}
	}

	return list
}

// enter enters what was selected, where nothing stands yet.
func (x *index) enter(s *selection) {
	for _, v := range s.list {
		m := mix(v.hash)
		if e := &x.entry[m>>x.shift]; *e == 0 {
			*e = uint64(s.off+int64(v.at)+1)<<tagBits | m&(1<<tagBits-1)
		}
	}
}

// find returns the place behind the last byte that a hash is of. The place may be wrong, for two
// stretches can have one hash, so the caller compares the bytes.
func (x *index) find(h uint32) (int64, bool) {
	m := mix(h)
	e := x.entry[m>>x.shift]
	if e == 0 || e&(1<<tagBits-1) != m&(1<<tagBits-1) {
		return 0, false
	}
	return int64(e >> tagBits), true
}

// A run is a stretch of the target that is in the bases: data[start:end], at this alignment.
type run struct {
	start, end int
	off        int64
}

// runs finds the long stretches of data that are in the bases, in their order and without overlap.
// data begins at pos in the target.
func (x *index) runs(data []byte, pos int64, p *pages) []run {
	var list []run
	done := 0 // the end of the last
	h := uint32(0)
	align, known := int64(0), false
	for i := 0; i < len(data); i++ {
		h = h<<1 + x.gear[data[i]]

		// Places inside the last run are passed over. In its alignment more are tried than are selected: most
		// changes leave what follows where it was.
		isSelected := h&x.mask == 0
		if i < done || i < done+window/2 && i >= window || !isSelected && (!known || (i-done)%retry != 0) {
			continue
		}

		// A run in the alignment of the last one is cheaper to code. Another place is tried only if that
		// run is short, and has to be longer by a window.
		r, ok := run{}, false
		if known {
			r, ok = stretch(data, i, done, pos, align, p)
		}

		at, found := int64(0), false
		if isSelected && (!ok || r.end-r.start < 4*window) {
			at, found = x.find(h)
		}
		if found {
			if other, fits := stretch(data, i, done, pos, at-pos-int64(i)-1, p); fits && (!ok || other.end-other.start > r.end-r.start+window) {
				r, ok = other, true
			}
		}

		if !ok {
			continue
		}

		list = append(list, r)
		align, known, done = r.off, true, r.end
		i = max(i, r.end-window) // the hash needs the bytes before
		h = 0
		for k := max(0, i-window); k <= min(i, len(data)-1); k++ {
			h = h<<1 + x.gear[data[k]]
		}
	}

	return list
}

// stretch returns the run around data[i] at an alignment, as far as it goes in both directions, but
// not before from. It reports false if that is shorter than a window.
func stretch(data []byte, i, from int, pos, off int64, p *pages) (run, bool) {
	at := pos + int64(i) + off
	if at < 0 || at >= p.b.size {
		return run{}, false
	}
	n := p.same(data[i:], at)
	if n == 0 {
		return run{}, false
	}
	r := run{start: i - p.sameBefore(data[from:i], at), end: i + n, off: off}
	return r, r.end-r.start >= window
}

// equal returns how many bytes a and b, which are equally long, have in common at their begin.
func equal(a, b []byte) int {
	n := 0
	for ; n+8 <= len(a); n += 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
	}
	for n < len(a) && a[n] == b[n] {
		n++
	}
	return n
}
