package tarutil

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"
)

// maxTail is how many bytes may stand behind the end marker of a tar. Programs pad to a record there, of
// 10 KiB mostly. Without a bound a device of zeros would be an empty tar that never ends.
const maxTail = 64 << 20

// maxMeta is the largest extended header that is taken, as in archive/tar.
const maxMeta = 1 << 20

// A Checker is an [io.Writer] that follows a tar which flows past, and finds out whether it is whole.
// It verifies the checksums and numbers of all headers, the lengths of all entries, extended headers
// and long names, and that the end marker, two zero blocks, is there. Of the bytes behind the end marker
// it only bounds the number, see [maxTail], since no reader takes entries from there.
//
// A tar that a Checker accepts is read by archive/tar without an error, and to the same entries. Only
// the maps of sparse files are not looked into.
//
// Memory is constant, but for an extended header of at most 1 MiB. The zero value is ready for use; a
// Checker is not safe for concurrent use.
type Checker struct {
	// AllowNoEnd accepts a tar without the end marker, as old versions of Docker wrote them, and even
	// one without the padding of its last entry, as umoci did. A cut within an entry is still an
	// error.
	AllowNoEnd bool
	// AllowUnknownTypes accepts type flags that are neither POSIX nor known from GNU tar.
	AllowUnknownTypes bool

	err     error
	offset  int64           // of the next byte
	tail    int64           // bytes behind the end marker
	block   [blockSize]byte // a header that comes in pieces
	filled  int
	state   checkState
	skip    int64  // bytes until the next header
	pad     int64  // as many of them, at most, are padding
	meta    []byte // content of an extended header or long name
	metaLen int
	extra   int // blocks of a sparse map

	entries int64
	header  [blockSize]byte // the last one taken
	raw     rawHeader       // what it says
	at      int64           // its offset
	name    string          // the name of its entry, unless that stands in it
	next    overrides       // what extended headers say about the next entry
}

// Positions of the flags that say that a sparse map goes on in the next block: in a
// header, and in a block of the map.
const atMore, atMoreMap = 482, 504

var errNoEntry = fmt.Errorf("%w: extended header without an entry", ErrMalformed)

type checkState byte

const (
	atHeader checkState = iota
	atSecondZero
	ended
	inMeta
	inSparseMap
)

// Entries returns the number of entries passed so far; global headers count too.
func (c *Checker) Entries() int64 { return c.entries }

// Ended reports whether the end marker was seen.
func (c *Checker) Ended() bool { return c.state == ended }

// Write follows more of the tar. It keeps no reference to p. Its error wraps [ErrMalformed], names entry
// and offset, and is final.
func (c *Checker) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if c.err != nil {
			return total - len(p), c.err
		}

		// Each round takes the bytes of one thing: what is skipped, an extended header, or a block,
		// which may come in pieces.
		var n int
		switch {
		case c.state == ended:
			n = len(p)
			if c.tail += int64(n); c.tail > maxTail {
				c.err = fmt.Errorf("%w: over %d bytes behind its end at offset %d: is it a tar?", ErrMalformed, int64(maxTail), c.offset+int64(n)-c.tail)
			}
		case c.skip > 0:
			n = int(min(c.skip, int64(len(p))))
			c.skip -= int64(n)
		case c.state == inMeta:
			n = min(c.metaLen-len(c.meta), len(p))
			c.meta = append(c.meta, p[:n]...)
			if len(c.meta) == c.metaLen {
				c.err = c.endMeta()
			}
		case c.filled == 0 && len(p) >= blockSize:
			n = blockSize
			c.err = c.take((*[blockSize]byte)(p), c.offset)
		default:
			n = copy(c.block[c.filled:], p)
			if c.filled += n; c.filled == blockSize {
				c.filled = 0
				c.err = c.take(&c.block, c.offset+int64(n)-blockSize)
			}
		}

		c.offset += int64(n)
		p = p[n:]
	}

	return total, c.err
}

// Skip follows n bytes of the current entry's content and padding that did not go through Write, because
// a reader passed over them. More than the entry has is an error wrapping [ErrMalformed].
func (c *Checker) Skip(n int64) error {
	switch {
	case c.err != nil || n == 0:
	case n < 0 || n > c.skip || c.state != atHeader || c.filled > 0:
		c.err = c.entryError(fmt.Errorf("%w: a reader takes %d bytes for its contents", ErrMalformed, n))
	default:
		c.skip -= n
		c.offset += n
	}
	return c.err
}

// Close reports whether the stream that ends here was a whole tar. The error wraps [ErrTruncated] if it
// was cut, [ErrEmpty] if it had no bytes, and [ErrMalformed] if it was not a tar.
func (c *Checker) Close() error {
	// What the stream broke off in is told as exactly as possible: too few bytes for anything, a
	// header, an entry, an extended header, or just the end marker.
	switch {
	case c.err != nil:
	case c.state == ended:
	case c.offset == 0:
		c.err = fmt.Errorf("tar: %w", ErrEmpty)
	case c.entries == 0 && c.filled > 0:
		c.err = noTar(c.block[:c.filled], fmt.Sprintf("%d bytes, less than one header", c.filled))
	case c.filled > 0:
		c.err = fmt.Errorf("%w at offset %d, within a header", ErrTruncated, c.offset)
	// The content is whole and only padding is missing.
	case c.AllowNoEnd && c.state == atHeader && !c.next.any && c.skip > 0 && c.skip <= c.pad:
	case c.skip > 0 || c.state == inMeta || c.state == inSparseMap:
		c.err = c.entryError(fmt.Errorf("%w: it ends at offset %d", ErrTruncated, c.offset))
	case c.next.any:
		c.err = c.entryError(fmt.Errorf("%w: extended header without an entry", ErrTruncated))
	case !c.AllowNoEnd:
		c.err = fmt.Errorf("%w at offset %d: the two zero blocks at its end are missing", ErrTruncated, c.offset)
	}

	return c.err
}

// take follows a block that is not content: a header, a part of a sparse map, or a zero block. It begins
// at offset at.
func (c *Checker) take(b *[blockSize]byte, at int64) error {
	switch {
	case c.state == inSparseMap:
		if c.extra++; c.extra*blockSize > maxMeta {
			return c.entryError(fmt.Errorf("%w: sparse map of more than %d bytes", ErrMalformed, maxMeta))
		}
		if b[atMoreMap] == 0 {
			c.state = atHeader
			return c.content()
		}
		return nil
	// A zero block is half of the end marker. Behind an extended header there has to be an entry.
	case b[0] == 0 && *b == [blockSize]byte{}:
		if c.next.any {
			return c.entryError(errNoEntry)
		}
		c.state++ // to atSecondZero or ended
		return nil
	case c.state == atSecondZero:
		return fmt.Errorf("%w: lone zero block at offset %d", ErrMalformed, at-blockSize)
	}

	return c.takeHeader(b, at)
}

// noTar says of the first bytes of a stream what they are, if they are no header. A layer that was
// compressed twice is the most common one.
func noTar(first []byte, why string) error {
	if f := Sniff(first); f != FormatUnknown && f != FormatTar {
		return fmt.Errorf("%w: it is %s, want a tar: was it compressed twice?", ErrMalformed, f)
	}
	return fmt.Errorf("%w: %s", ErrMalformed, why)
}

// takeHeader follows a header.
func (c *Checker) takeHeader(b *[blockSize]byte, at int64) error {
	first := c.entries == 0 && !c.next.any
	c.header, c.at, c.name = *b, at, c.next.name
	raw, err := parseRaw(b)
	if err != nil && first {
		return noTar(b[:], "it does not begin with a header")
	}
	if err != nil {
		return c.entryError(err)
	}

	c.raw = raw

	// Extended headers and long names are about the next header. A sparse map of GNU goes on in
	// blocks of its own behind the header. Everything else is an entry.
	switch raw.flag {
	case tar.TypeXHeader, tar.TypeXGlobalHeader, tar.TypeGNULongName, tar.TypeGNULongLink:
		if raw.size < 0 || raw.size > maxMeta {
			return c.entryError(fmt.Errorf("%w: extended header of %d bytes", ErrMalformed, raw.size))
		}

		// A global header is an entry of its own, so it cannot stand between an extended header
		// and its entry.
		if raw.flag == tar.TypeXGlobalHeader && c.next.any {
			return c.entryError(errNoEntry)
		}
		c.state, c.metaLen, c.meta = inMeta, int(raw.size), c.meta[:0]
		if raw.size == 0 {
			return c.endMeta()
		}
		return nil
	case tar.TypeGNUSparse:
		if raw.format != formatGNU {
			return c.entryError(fmt.Errorf("%w: sparse file that is not in the GNU format", ErrMalformed))
		}
		if b[atMore] != 0 {
			c.state, c.extra = inSparseMap, 0
			return nil
		}
	}

	return c.content()
}

// endMeta takes in a complete extended header or long name.
func (c *Checker) endMeta() error {
	c.state = atHeader
	c.skip = int64(Padding(int64(c.metaLen)))
	if c.raw.flag == tar.TypeXGlobalHeader {
		c.entries++
		var ignored overrides
		return c.entryError(ignored.addPAX(c.meta))
	}
	return c.entryError(c.next.add(c.raw.flag, c.meta))
}

// content sets how many bytes belong to the entry whose header was taken.
func (c *Checker) content() error {
	size := c.raw.size
	if c.next.hasSize {
		size = c.next.size
	}

	// Only files have content, whatever the size field of other types says.
	c.next = overrides{}
	switch c.raw.flag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
	case 0:
		if strings.HasSuffix(c.entryName(), "/") { // a directory, before there was a flag for it
			size = 0
		}
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		size = 0
	default:
		if !c.AllowUnknownTypes {
			return c.entryError(fmt.Errorf("%w: unknown type flag %q", ErrMalformed, c.raw.flag))
		}
	}

	if size < 0 || size > math.MaxInt64-2*blockSize {
		return c.entryError(fmt.Errorf("%w: size %d", ErrMalformed, size))
	}

	c.entries++
	c.pad = int64(Padding(size))
	c.skip = size + c.pad
	return nil
}

// entryName returns the name of the entry whose header was taken last.
func (c *Checker) entryName() string {
	if c.name != "" {
		return c.name
	}
	return rawName(&c.header)
}

// entryError adds the current entry and its offset to an error, if there is one.
func (c *Checker) entryError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("entry %q at offset %d: %w", c.entryName(), c.at, err)
}
