package recipe

import (
	"fmt"
	"io"
	"sync"

	"ocikit/tarutil/gunzip"
)

const (
	unitSize = 32 << 10 // contents between two places of an index, at least
	unitMost = 1 << 20  // and how far tokens are read from such a place
)

// An Index says where in a gzip file the blocks of its contents begin, so that tokens can be read
// from the middle of it. It takes 16 bytes for each 32 KiB of contents at most. It may be used while its
// [Indexer] still reads.
type Index struct {
	mu    sync.Mutex
	grown sync.Cond
	known units
	ended bool // no more comes
}

// Units are the places where blocks begin, and how far the contents are known.
type units struct {
	list []unitAt
	size int64
}

// A unitAt is where a block begins: in the contents, and in bits of the file.
type unitAt struct{ pos, bit int64 }

func newIndex() *Index {
	x := &Index{}
	x.grown.L = &x.mu
	return x
}

// grow changes what is known.
func (x *Index) grow(change func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change()
	x.grown.Broadcast()
}

// upTo returns the units up to a place in the contents at least, which it waits for.
func (x *Index) upTo(pos int64) units {
	x.mu.Lock()
	defer x.mu.Unlock()
	for !x.ended && (len(x.known.list) == 0 || x.known.list[len(x.known.list)-1].pos < pos) {
		x.grown.Wait()
	}
	return x.known
}

// An Indexer reads the contents of a gzip file and makes its Index.
type Indexer struct {
	z     *gunzip.Reader
	index *Index
}

// NewIndexer reads the header of a gzip file, as [gunzip.NewReader] does.
func NewIndexer(r io.Reader) (*Indexer, error) {
	z, err := gunzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}

	x := &Indexer{z, newIndex()}
	z.OnBlock(func(pos, bit int64) {
		list := &x.index.known.list // nothing else changes it
		if n := len(*list); n == 0 || pos-(*list)[n-1].pos >= unitSize {
			x.index.grow(func() { *list = append(*list, unitAt{pos, bit}) })
		}
	})
	return x, nil
}

// Read reads contents. It returns io.EOF only if the file was whole and right.
func (x *Indexer) Read(p []byte) (int, error) {
	n, err := x.z.Read(p)
	x.index.grow(func() {
		x.index.known.size += int64(n)
		x.index.ended = x.index.ended || err != nil
	})
	if err != nil && err != io.EOF {
		err = fmt.Errorf("gzip: %w", err)
	}
	return n, err
}

// Index returns the index. It is whole once Read has returned an error, and ends with what was read if
// [Indexer.End] is called before that: until either happens, a [Kin] that uses it may wait.
func (x *Indexer) Index() *Index { return x.index }

// End says that nothing more is read. It may be called again.
func (x *Indexer) End() { x.index.grow(func() { x.index.ended = true }) }

// end is where the unit with this number ends in the contents.
func (u units) end(unit int) int64 {
	end := u.size
	if unit+1 < len(u.list) {
		end = u.list[unit+1].pos
	}
	return min(end, u.list[unit].pos+unitMost)
}

// A hint is a match that may come at a place.
type hint struct {
	at int
	token
}

// matches returns the matches of a unit, by their places in it.
func (u units) matches(file io.ReaderAt, unit int) ([]hint, error) {
	from := u.list[unit]
	p := newParser(io.NewSectionReader(file, from.bit>>3, 1<<62))
	p.in.take(int(from.bit & 7))
	w := &walker{parser: p, end: int(u.end(unit) - from.pos), list: make([]hint, 0, 1<<13)}
	err := w.walk()
	if p.in.err != nil && p.in.err != io.EOF {
		err = p.in.err
	}
	return w.list, err
}

// A walker collects the matches of blocks without their contents.
type walker struct {
	*parser
	pos, end int
	list     []hint
}

func (w *walker) walk() error {
	for w.pos < w.end {
		final := w.in.take(1) == 1
		var err error
		switch kind(w.in.take(2)) {
		case stored:
			w.in.take(int(-w.in.offset() & 7))
			n := int(w.in.take(16))
			w.in.take(16)
			for range n {
				w.in.take(8)
			}
			w.pos += n
		case fixed:
			w.setFixed()
			err = w.tokens(&w.parser.fixed[0], &w.parser.fixed[1])
		case dynamic:
			if err = w.head(new(block)); err == nil {
				err = w.tokens(&w.lit, &w.dist)
			}
		default:
			err = w.errorf("a block of kind 3")
		}

		// Another member may follow the last block. What else may, has no contents.
		if err == nil && w.in.ended() {
			err = w.cut()
		}
		if err == nil && final && w.pos < w.end {
			w.members = 1
			if _, err = w.trailer(); err == nil {
				_, err = w.between()
			}
			if err == nil && !w.inMember {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}

	return nil
}

// tokens goes over the tokens of a block; see parser.tokens.
func (w *walker) tokens(lit, dist *decoder) error {
	in := w.in
	acc, bits := in.acc, in.n
	for w.pos < w.end {
		if bits < mostBits {
			in.acc, in.n = acc, bits
			in.refill()
			acc, bits = in.acc, in.n
		}

		e := lit.look[acc&(1<<lookBits-1)]
		sym, n := int(e>>4), int(e&15)
		if n == 0 {
			if sym, n = lit.slow(acc); n == 0 {
				in.acc, in.n = acc, bits
				return w.errorf("a code that means nothing")
			}
		}

		acc >>= n & 63
		bits -= n
		if sym < endOfBlock && in.over == 0 {
			w.pos++
			continue
		}

		in.acc, in.n = acc, bits
		switch {
		case sym < endOfBlock:
			if w.pos++; in.ended() {
				return w.cut()
			}
			continue
		case sym == endOfBlock:
			return nil
		}

		length, d, err := w.pair(sym, dist)
		acc, bits = in.acc, in.n
		if err != nil {
			return err
		}
		if in.over > 0 && in.ended() {
			return w.cut()
		}

		t := match(length, d)
		if sym == 284 && length == maxMatch {
			t = match(longAs284, d)
		}
		w.list = append(w.list, hint{w.pos, t})
		w.pos += length
	}

	in.acc, in.n = acc, bits
	return nil
}
