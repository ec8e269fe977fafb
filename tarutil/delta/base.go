package delta

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
)

// ErrDelta means that a delta is damaged, or not for these bases.
var ErrDelta = errors.New("damaged delta")

func errorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDelta, fmt.Sprintf(format, args...))
}

// A Part is one of the bases: Size bytes that both sides have.
type Part struct {
	io.ReaderAt
	Size int64
}

// Bases are all bases, one behind the other. They are safe for concurrent use if the parts are, as
// [Make] needs.
type Bases struct {
	parts  []Part
	starts []int64
	size   int64

	blind bool        // they cannot be read: see [Known]
	known []stretchOf // then, by their places in the target
}

// NewBases joins bases. A delta holds only for the order in which it was made. NewBases reads
// nothing, and the caller closes the parts.
func NewBases(parts ...Part) *Bases {
	b := &Bases{parts: parts}
	for _, p := range parts {
		b.starts = append(b.starts, b.size)
		b.size += p.Size
	}
	return b
}

// Size is how many bytes the bases have together.
func (b *Bases) Size() int64 { return b.size }

// ReadAt implements io.ReaderAt, across the borders of parts. A part that holds less than its Size
// is an error wrapping io.ErrUnexpectedEOF, which names the part.
func (b *Bases) ReadAt(p []byte, off int64) (int, error) {
	n := 0

	// The last part that begins at or before off.
	i := sort.Search(len(b.starts), func(i int) bool { return b.starts[i] > off }) - 1
	for ; n < len(p); i++ {
		if i < 0 || i >= len(b.parts) || off < 0 {
			return n, io.EOF
		}

		in := off - b.starts[i]
		k := int(min(int64(len(p)-n), b.parts[i].Size-in))
		if k <= 0 {
			continue
		}

		m, err := b.parts[i].ReadAt(p[n:n+k], in)
		n += m
		off += int64(m)
		if m < k {
			if err == nil || err == io.EOF {
				err = fmt.Errorf("base %d at %d: %w", i, in+int64(m), io.ErrUnexpectedEOF)
			}
			return n, err
		}
	}

	return n, nil
}

const (
	pageSize = 64 << 10
	maxPages = 128
)

// pages reads single bytes and short runs of the bases through a cache of pages.
type pages struct {
	b     *Bases
	page  map[int64]*page
	last  *page
	clock int
	err   error // the first; what is read after it are zeros

	passing [pageSize]byte // compared, and not kept
}

type page struct {
	number int64
	used   int
	n      int
	data   [pageSize]byte
}

func newPages(b *Bases) *pages { return &pages{b: b, page: map[int64]*page{}} }

// at returns the bytes from off on that are in one page; none behind the end.
func (p *pages) at(off int64) []byte {
	number := off / pageSize
	if p.last == nil || p.last.number != number {
		p.turn(number)
	}
	in := int(off % pageSize)
	return p.last.data[min(in, p.last.n):p.last.n]
}

// turn makes a page the latest. If it is not in the cache it is read, in the place of the one
// that was not used for longest.
func (p *pages) turn(number int64) {
	p.clock++
	pg := p.page[number]
	if pg == nil {
		if len(p.page) >= maxPages {
			// The cache is small, so a search through all of it is cheap beside a read.
			oldest := p.last
			for _, c := range p.page {
				if oldest == nil || c.used < oldest.used {
					oldest = c
				}
			}
			delete(p.page, oldest.number)
			pg = oldest
		} else {
			pg = new(page)
		}

		pg.number = number
		want := int(max(0, min(pageSize, p.b.size-number*pageSize)))
		n, err := p.b.ReadAt(pg.data[:want], number*pageSize)
		if pg.n = n; n < want && p.err == nil {
			p.err = err
		}
		p.page[number] = pg
	}

	pg.used = p.clock
	p.last = pg
}

// byte returns one byte, 0 behind the end.
func (p *pages) byte(off int64) byte {
	if off < 0 {
		return 0
	}
	if b := p.at(off); len(b) > 0 {
		return b[0]
	}
	return 0
}

// same returns how many bytes of t are those from off on. Of a long stretch whole pages are compared
// outside the cache, where they would take the place of what is needed again.
func (p *pages) same(t []byte, off int64) int {
	n := 0
	for n < len(t) && off >= 0 {
		if at := off + int64(n); n > 0 && len(t)-n >= pageSize && p.isPage(t[n:n+pageSize], at) {
			n += pageSize
			continue
		}

		b := p.at(off + int64(n))
		k := min(len(b), len(t)-n)
		if k == 0 {
			break
		}
		if m := equal(t[n:n+k], b[:k]); m < k {
			return n + m
		}
		n += k
	}
	return n
}

// isPage reports whether t is the page at off, unless that is in the cache.
func (p *pages) isPage(t []byte, off int64) bool {
	if p.page[off/pageSize] != nil || off > p.b.size-pageSize {
		return false
	}
	_, err := p.b.ReadAt(p.passing[:], off)
	return err == nil && bytes.Equal(t, p.passing[:])
}

// sameBefore returns how many bytes at the end of t are those before off.
func (p *pages) sameBefore(t []byte, off int64) int {
	n := 0
	for n < len(t) && off-int64(n) > 0 {
		if p.byte(off-int64(n)-1) != t[len(t)-1-n] {
			break
		}
		n++
	}
	return n
}
