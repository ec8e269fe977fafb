package tarutil

import (
	"archive/tar"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// Files are read ahead in batches: the walker fills a batch with names, a reader turns
// them into encoded entries in the batch's buffer, and the goroutine that called Pack
// writes the buffers in order. A file too large for a buffer is left to the writing
// goroutine, which reads it in pieces, one piece ahead.
const (
	batchItems  = 16      // names in a batch
	batchCount  = 6       // batches under way
	batchBytes  = 1 << 20 // bytes in the buffer of a batch
	wholeFile   = batchBytes / 4
	pieceBytes  = 512 << 10
	readerCount = 4
)

type batch struct {
	items []item
	next  int           // first item that is not in buf yet
	buf   []byte        // encoded entries
	links []linkNote    // those of them that may become hard links
	large *largeFile    // item next, if it does not fit any buffer
	err   error         // of item next
	done  chan struct{} // one token: the reader has finished
	hdr   tar.Header    // scratch
}

// A linkNote remembers where in a buffer an entry with several names is.
type linkNote struct {
	start, end int
	id         fileID
	links      uint64
	hdr        *tar.Header // as a hard link, but for Linkname
}

// A largeFile is open, and its header is known.
type largeFile struct {
	f    fileHandle
	info fileInfo
	hdr  *tar.Header
}

// asLink turns the header of a file into that of a hard link.
func asLink(hdr tar.Header, target string) *tar.Header {
	hdr.Typeflag, hdr.Linkname, hdr.Size, hdr.PAXRecords = tar.TypeLink, target, 0, nil
	return &hdr
}

// read encodes items of b until the buffer is full, a large file comes, or none is left.
func (p *packer) read(b *batch) {
	for b.next < len(b.items) && b.err == nil && b.large == nil {
		it := &b.items[b.next]
		full, err := p.readItem(b, it)
		if err != nil {
			b.err = it.fail(err)
			return
		}
		if full {
			return
		}
		if b.large == nil {
			b.advance()
		}
	}
}

// readItem appends the entry of one item to the buffer. It returns full, and has done
// nothing, if the buffer should be written first.
func (p *packer) readItem(b *batch, it *item) (full bool, err error) {
	if it.hdr != nil {
		b.buf, err = appendHeader(b.buf, it.hdr)
		return false, err
	}
	if it.flag != typeReg {
		info, attrs, err := it.in.dir.lstat(it.base, p.opts.Xattrs)
		if err == nil && info.flag != it.flag {
			err = ErrChanged
		}
		if err != nil {
			return false, err
		}
		p.opts.fill(&b.hdr, it.name, &info, attrs)
		return false, b.add(&info, nil)
	}
	f, err := it.in.dir.openFile(it.base)
	if err != nil {
		return false, err
	}
	info, err := f.info()
	if err == nil && info.flag != typeReg {
		err = ErrChanged
	}
	var attrs map[string]string
	if err == nil && p.opts.Xattrs != XattrsNone {
		attrs, err = f.xattrs(p.opts.Xattrs)
	}
	if err != nil {
		f.Close()
		return false, err
	}
	p.opts.fill(&b.hdr, it.name, &info, attrs)
	if info.size > wholeFile {
		hdr := b.hdr
		b.large = &largeFile{f, info, &hdr}
		return false, nil
	}
	defer f.Close()
	if len(b.buf) > 0 && len(b.buf)+int(info.size) > batchBytes-wholeFile {
		return true, nil
	}
	return false, b.add(&info, f)
}

// add appends an entry with the header b.hdr and, unless f is nil, its content.
func (b *batch) add(info *fileInfo, f fileHandle) (err error) {
	start := len(b.buf)
	if b.buf, err = appendHeader(b.buf, &b.hdr); err != nil {
		return err
	}
	if f != nil {
		size, at := int(info.size), len(b.buf)
		pad := padding(info.size)
		b.buf = slices.Grow(b.buf, size+pad)[:at+size+pad]
		clear(b.buf[at+size:])
		if _, err = readFull(f, b.buf[at:at+size]); err == nil {
			err = unchanged(f, info)
		}
		if err != nil {
			b.buf = b.buf[:start]
			return err
		}
	}
	if info.links > 1 && info.id != (fileID{}) {
		b.links = append(b.links, linkNote{start, len(b.buf), info.id, info.links, asLink(b.hdr, "")})
	}
	return nil
}

// readFull fills buf. A file that ends before has changed.
func readFull(f fileHandle, buf []byte) (int, error) {
	n, err := io.ReadFull(f, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: it shrank", ErrChanged)
	}
	return n, err
}

// unchanged returns an error unless f is as it was before it was read. The count of names
// falls when another file takes its name, or it is removed.
func unchanged(f fileHandle, before *fileInfo) error {
	after, err := f.info()
	if err != nil {
		return err
	}
	switch {
	case after.size != before.size:
		return fmt.Errorf("%w: size %d became %d", ErrChanged, before.size, after.size)
	case after.sec != before.sec || after.nano != before.nano:
		return fmt.Errorf("%w: it was written to", ErrChanged)
	case after.links < before.links:
		return fmt.Errorf("%w: it was replaced or removed", ErrChanged)
	}
	return nil
}

// fail adds the path to an error.
func (it *item) fail(err error) error {
	if err == nil || it.hdr != nil {
		return err
	}
	return fmt.Errorf("file %q: %w", filepath.Join(it.in.path, it.base), err)
}

func (it *item) release() {
	if it.in != nil {
		it.in.dir.release()
	}
}

// advance lets go of the item that is done.
func (b *batch) advance() {
	b.items[b.next].release()
	b.next++
}

// drop lets go of all items, and makes b fit for the next ones.
func (b *batch) drop() {
	if b.large != nil {
		b.large.f.Close()
		b.large = nil
	}
	for b.next < len(b.items) {
		b.advance()
	}
	clear(b.items)
	b.items, b.next, b.buf, b.links, b.err = b.items[:0], 0, b.buf[:0], b.links[:0], nil
}
