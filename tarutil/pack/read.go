package pack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
)

// Files are read ahead in batches: the walker fills a batch with names, a reader turns
// them into encoded entries in the batch's buffer, and the goroutine that called Tar
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

// A batch is some names on their way from the walker through a reader to the writer. One of these
// has it at a time.
type batch struct {
	items []item
	next  int           // first item that is not in buf yet
	buf   []byte        // encoded entries
	links []linkNote    // those of them that may become hard links
	large *largeFile    // item next, if it does not fit any buffer
	err   error         // of item next
	done  chan struct{} // one token: the reader has finished
	hdr   tar.Header    // scratch

	notices []notice // of what was left out, to be told before buf is written
}

// A notice is the path of something that is left out, and who is told of it.
type notice struct {
	tell func(path string)
	path string
}

// A linkNote remembers where in a buffer an entry with several names is.
type linkNote struct {
	start, end int
	id         handle.ID
	links      uint64
	hdr        *tar.Header // as a hard link, but for Linkname
}

// A largeFile is open, and its header is known.
type largeFile struct {
	f    handle.File
	info handle.Info
	hdr  *tar.Header
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
		b.buf, err = tarutil.AppendHeader(b.buf, it.hdr)
		return false, err
	}

	// The writer tells of what is left out, so that notices come in order.
	if it.tell != nil {
		b.notices = append(b.notices, notice{it.tell, it.path()})
		return false, nil
	}

	f, info, attrs, err := it.open(p.opts.Xattrs)
	if err != nil {
		return false, err
	}
	if f == nil {
		if tell := p.opts.MarkNotice; tell != nil && info.Flag == tar.TypeChar && info.Major == 0 && info.Minor == 0 {
			b.notices = append(b.notices, notice{func(path string) { tell(path, "") }, it.path()})
		}
		p.opts.fill(&b.hdr, it.name, &info, attrs)
		return false, b.add(&info, nil)
	}

	if p.opts.isOutput(info.ID) {
		if tell := p.opts.OutputNotice; tell != nil {
			b.notices = append(b.notices, notice{tell, it.path()})
		}
		return false, f.Close()
	}

	p.opts.fill(&b.hdr, it.name, &info, attrs)

	// A file that is too large for any buffer is left to the writer. One that only finds the
	// buffer full waits for the next.
	if info.Size > wholeFile {
		hdr := b.hdr
		b.large = &largeFile{f, info, &hdr}
		return false, nil
	}

	defer f.Close()
	if len(b.buf) > 0 && len(b.buf)+int(info.Size) > batchBytes-wholeFile {
		return true, nil
	}

	return false, b.add(&info, f)
}

// open returns what is known of a file, and the file itself if it is a regular one. Links, fifos and
// devices are never opened. What is no longer what was listed wraps [tarutil.ErrChanged].
func (it *item) open(x tarutil.Xattrs) (f handle.File, info handle.Info, attrs map[string]string, err error) {
	if it.flag != tar.TypeReg {
		info, attrs, err = it.in.dir.Lstat(it.base, x)
		if err = vanished(err); err == nil && info.Flag != it.flag {
			err = tarutil.ErrChanged
		}
		return nil, info, attrs, err
	}

	// Whether it still is a regular file is asked of what was opened.
	if f, err = it.in.dir.OpenFile(it.base); err != nil {
		return nil, info, nil, vanished(err)
	}
	if info, err = f.Info(); err == nil && info.Flag != tar.TypeReg {
		err = tarutil.ErrChanged
	}
	if err == nil && x != tarutil.XattrsNone {
		attrs, err = f.Xattrs(x)
	}
	if err != nil {
		f.Close()
		return nil, info, nil, err
	}
	return f, info, attrs, nil
}

// add appends an entry with the header b.hdr and, unless f is nil, its content.
func (b *batch) add(info *handle.Info, f handle.File) (err error) {
	start := len(b.buf)
	if b.buf, err = tarutil.AppendHeader(b.buf, &b.hdr); err != nil {
		return err
	}

	// The header has been encoded with the size, so the content must have it.
	if f != nil {
		size, at := int(info.Size), len(b.buf)
		pad := tarutil.Padding(info.Size)
		b.buf = slices.Grow(b.buf, size+pad)[:at+size+pad]
		clear(b.buf[at+size:])
		if err = readFull(f, b.buf[at:at+size]); err == nil {
			err = unchanged(f, info)
		}
		if err != nil {
			b.buf = b.buf[:start]
			return err
		}
	}

	// Only the writer knows whether another name of the file came before.
	if info.Links > 1 && info.ID != (handle.ID{}) {
		b.links = append(b.links, linkNote{start, len(b.buf), info.ID, info.Links, tarutil.HardLink(b.hdr, "")})
	}

	return nil
}

// vanished returns [tarutil.ErrChanged] in place of an error which says that a name is not there, or is no
// directory: it was listed, and as one.
func vanished(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: it was removed", tarutil.ErrChanged)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: it was replaced", tarutil.ErrChanged)
	}
	return err
}

// readFull fills buf. A file that ends before has changed.
func readFull(f handle.File, buf []byte) error {
	_, err := io.ReadFull(f, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: it shrank", tarutil.ErrChanged)
	}
	return err
}

// unchanged returns an error unless f is as it was before it was read. The count of names
// falls when another file takes its name, or it is removed.
func unchanged(f handle.File, before *handle.Info) error {
	after, err := f.Info()
	if err != nil {
		return err
	}
	switch {
	case after.Size != before.Size:
		return fmt.Errorf("%w: size %d became %d", tarutil.ErrChanged, before.Size, after.Size)
	case after.Sec != before.Sec || after.Nano != before.Nano:
		return fmt.Errorf("%w: it was written to", tarutil.ErrChanged)
	case after.Links < before.Links:
		return fmt.Errorf("%w: it was replaced or removed", tarutil.ErrChanged)
	}
	return nil
}

// fail adds the path to an error.
func (it *item) fail(err error) error {
	if err == nil || it.hdr != nil {
		return err
	}
	return fmt.Errorf("file %q: %w", it.path(), err)
}

// path returns where the item is on the disk.
func (it *item) path() string { return filepath.Join(it.in.path, it.base) }

// release lets go of the directory that the item is in.
func (it *item) release() {
	if it.in != nil {
		it.in.dir.Release()
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
	b.items, b.next, b.buf, b.links, b.notices, b.err = b.items[:0], 0, b.buf[:0], b.links[:0], nil, nil
}
