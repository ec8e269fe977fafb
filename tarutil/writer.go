package tarutil

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
)

// blockSize is the unit of tar: headers are one block, contents are padded to blocks.
const blockSize = 512

// copySize is the size of the buffers that contents are copied through.
const copySize = 256 << 10

var zeros [2 * blockSize]byte

// A Writer writes tar entries. Its bytes depend on the headers and contents alone and never change
// between releases; [Writer.WriteHeader] states the rule.
//
// Any error is final: later calls return it again. A Writer is not safe for concurrent use.
type Writer struct {
	w      io.Writer
	err    error
	name   string // of the open entry
	left   int64  // bytes of content that the open entry still lacks
	pad    int    // zero bytes owed after that content
	closed bool
	head   []byte // scratch for headers
	buf    []byte // scratch for ReadFrom
}

// NewWriter returns a Writer of entries to w. It does not buffer: a header is one call
// of w.Write, and contents pass as they come.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w}
}

// WriteHeader begins an entry; hdr.Size bytes of content must follow through [Writer.Write]
// or [Writer.ReadFrom]. It returns an error when the entry before is not complete.
//
// The rule of the format: a POSIX ustar header, if every field fits it. Otherwise a PAX extended header
// comes before it (type flag x, named "././@PaxHeader", all its numbers but the size zero), with the
// fields that do not fit, sorted by key.
//
//   - A name fits when it is ASCII and at most 100 bytes, or splits at a slash into at
//     most 155 and 100 bytes; the last such slash is taken. A link target fits when it is
//     ASCII and at most 100 bytes, an owner name when it is ASCII and at most 31.
//   - Size and time fit from 0 to 8^11-1, in whole seconds; uid and gid to 8^7-1.
//   - A field that does not fit is written as far as it is ASCII and has room (other bytes
//     become '_', slashes at the cut are dropped), a number as 0, a time as whole seconds
//     or 0.
//   - If a name, link target or owner name is not valid UTF-8, the record
//     hdrcharset=BINARY says so.
//
// Of hdr.PAXRecords, extended attributes ("SCHILY.xattr.") and what Windows layers need
// ("MSWINDOWS.", "LIBARCHIVE.creationtime") are written; the rest follows from the fields or
// is left out, as are Format, AccessTime and ChangeTime. A zero ModTime means the epoch. Of Mode
// only the lowest 12 bits count. A directory's name gets a slash at its end.
// TypeRegA, TypeCont and TypeGNUSparse become TypeReg.
//
// Refused are unknown type flags, names and targets that are empty or hold a NUL byte, a
// name of a file that ends in a slash, negative numbers other than times, content in an
// entry that can have none, owners of 2^32 or more, and device numbers of 2^21 or more.
func (t *Writer) WriteHeader(hdr *tar.Header) error {
	if err := t.ready(); err != nil {
		return err
	}

	if t.left > 0 {
		return t.fail(t.short())
	}

	// The padding of the entry before is written with this header, in one call.
	head := append(t.head[:0], zeros[:t.pad]...)
	head, err := AppendHeader(head, hdr)
	if err != nil {
		return t.fail(err)
	}

	t.head = head
	if err := t.put(head); err != nil {
		return err
	}

	t.name, t.left, t.pad = hdr.Name, hdr.Size, Padding(hdr.Size)
	return nil
}

// Write writes content of the open entry. Bytes beyond the size in the header are not
// written, and are an error.
func (t *Writer) Write(p []byte) (int, error) {
	if err := t.ready(); err != nil {
		return 0, err
	}
	if int64(len(p)) > t.left {
		return 0, t.fail(fmt.Errorf("entry %q: %w: %d bytes too many",
			t.name, errContentSize, int64(len(p))-t.left))
	}
	if err := t.put(p); err != nil {
		return 0, err
	}
	t.left -= int64(len(p))
	return len(p), nil
}

// ReadFrom writes all of r as content of the open entry, through one buffer that lives as long as t. An
// error of r is returned as it is, and is final for t too. If r ends early, the next call of t finds that
// the entry is not complete.
func (t *Writer) ReadFrom(r io.Reader) (int64, error) {
	if err := t.ready(); err != nil {
		return 0, err
	}

	if t.buf == nil {
		t.buf = make([]byte, copySize)
	}

	var total int64
	for {
		n, rerr := r.Read(t.buf)
		if n > 0 {
			if _, err := t.Write(t.buf[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if rerr == io.EOF {
			return total, nil
		}
		if rerr != nil {
			return total, t.fail(rerr)
		}
	}
}

// Close writes the two zero blocks that make a tar whole. Call it only when all went well: without them
// readers see that the stream is torn. If the last entry is not complete, Close writes nothing and returns
// an error. It does not close the underlying writer. A second Close does
// nothing.
func (t *Writer) Close() error {
	if t.closed {
		return nil
	}

	if t.err != nil {
		return t.err
	}

	if t.left > 0 {
		return t.fail(t.short())
	}

	// The padding of the last entry and the end marker go in one call, too.
	tail := append(t.head[:0], zeros[:t.pad]...)
	if err := t.put(append(tail, zeros[:]...)); err != nil {
		return err
	}

	t.closed = true
	return nil
}

// WriteRaw writes p, a part of entries that a Writer has encoded already, with headers and padding. Before
// any other method is called, those entries must be whole, which WriteRaw does not check.
func (t *Writer) WriteRaw(p []byte) error {
	if err := t.ready(); err != nil {
		return err
	}
	if t.left > 0 {
		return t.fail(t.short())
	}
	if t.pad > 0 {
		if err := t.put(zeros[:t.pad]); err != nil {
			return err
		}
		t.pad = 0
	}
	return t.put(p)
}

// put writes p. Its error is final.
func (t *Writer) put(p []byte) error {
	n, err := t.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return t.fail(err)
	}
	return nil
}

// ready returns the error of a call that comes after an error or after Close.
func (t *Writer) ready() error {
	if t.err == nil && t.closed {
		return errors.New("write to a closed tar")
	}
	return t.err
}

func (t *Writer) fail(err error) error {
	t.err = err
	return err
}

// short returns the error for an entry that lacks content.
func (t *Writer) short() error {
	return fmt.Errorf("entry %q: %w: %d bytes are missing", t.name, errContentSize, t.left)
}

// Padding returns how many zero bytes follow a content of size bytes, up to a whole block.
func Padding(size int64) int {
	return int(-size & (blockSize - 1))
}
