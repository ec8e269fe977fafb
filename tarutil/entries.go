package tarutil

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// DefaultMaxSparse is the size above which the sparse files of a tar, all together, are
// refused if no limit is set.
const DefaultMaxSparse = 8 << 30

// What Linux can hold of one extended attribute, and how much all of a tar may be together:
// who compares or applies trees keeps them in memory.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxXattrs     = 32 << 20
)

// An entryReader reads the entries of a tar that nobody has verified yet, under the eyes
// of a Checker.
type entryReader struct {
	tr        *tar.Reader
	src       io.Reader
	check     Checker
	maxSparse int64
	sparse    int64 // size of the sparse files so far
	xattrs    int   // size of the extended attributes so far
}

// newEntryReader reads a tar, compressed or not, from r.
func newEntryReader(ctx context.Context, r io.Reader, allowNoEnd bool, maxSparse int64) (*entryReader, error) {
	plain, _, err := Decompress(&contextReader{ctx, r})
	if err != nil {
		return nil, err
	}
	e := &entryReader{check: Checker{AllowNoEnd: allowNoEnd}, maxSparse: maxSparse}
	if e.maxSparse == 0 {
		e.maxSparse = DefaultMaxSparse
	}
	e.src = io.TeeReader(plain, &e.check)
	e.tr = tar.NewReader(e.src)
	return e, nil
}

// next returns the next header, with name and hard link target cleaned, and with those records
// alone that belong in an image. The root is "", and is a directory. At the end of the tar it reads the rest of the stream, and returns io.EOF
// if all is well.
func (e *entryReader) next() (*tar.Header, error) {
	for {
		hdr, err := e.tr.Next()
		if e.check.err != nil { // it knows more about the cause, and saw it first
			return nil, e.check.err
		}
		if err == io.EOF {
			return nil, e.finish()
		}
		if err != nil {
			return nil, e.cause(err)
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			err = checkGlobal(hdr)
		} else if err = e.clean(hdr); err == nil {
			return hdr, nil
		}
		if err != nil {
			return nil, e.check.entryError(err)
		}
	}
}

// finish reads what stands behind the end marker, too: it belongs to the stream's digest,
// and its checksum comes last.
func (e *entryReader) finish() error {
	if _, err := io.Copy(io.Discard, e.src); err != nil {
		return err
	}
	if err := e.check.Close(); err != nil {
		return err
	}
	return io.EOF
}

// cause makes an error of archive/tar one of ours.
func (e *entryReader) cause(err error) error {
	switch {
	case err == io.ErrUnexpectedEOF || err == io.EOF:
		if closed := e.check.Close(); closed != nil {
			return closed
		}
		return fmt.Errorf("%w: %v", ErrTruncated, err)
	case errors.Is(err, tar.ErrHeader):
		return e.check.entryError(fmt.Errorf("%w: %v", ErrMalformed, err))
	}
	return err
}

// Read reads content of the entry that next returned. Its error names the entry.
func (e *entryReader) Read(p []byte) (int, error) {
	n, err := e.tr.Read(p)
	if err != nil && err != io.EOF {
		err = e.cause(err)
	}
	return n, err
}

// clean makes names in hdr clean paths, and refuses what no image can hold.
func (e *entryReader) clean(hdr *tar.Header) error {
	var err error
	if hdr.Name, err = cleanPath(hdr.Name); err != nil {
		return err
	}
	if hdr.Name == "" && hdr.Typeflag != typeDir {
		return fmt.Errorf("%w: the root can only be a directory", ErrBadPath)
	}
	if err := checkLengths(hdr.Name); err != nil {
		return err
	}
	if hdr.Typeflag == typeLink {
		target := hdr.Linkname
		if hdr.Linkname, err = cleanPath(target); err == nil && hdr.Linkname == "" {
			err = fmt.Errorf("%q: %w", target, ErrBadPath)
		}
		if err != nil {
			return fmt.Errorf("hard link to %w", err)
		}
	}
	if isSparse(hdr) {
		if hdr.Size > e.maxSparse-e.sparse {
			return fmt.Errorf("%w: sparse files of over %d bytes", ErrMalformed, e.maxSparse)
		}
		e.sparse += hdr.Size
	}
	return e.cleanRecords(hdr)
}

// cleanRecords drops the records that mean nothing in an image. What is kept lives apart from
// the rest, which may be as large as an extended header.
func (e *entryReader) cleanRecords(hdr *tar.Header) error {
	if len(hdr.PAXRecords) == 0 {
		return nil
	}
	hdr.Name, hdr.Linkname = strings.Clone(hdr.Name), strings.Clone(hdr.Linkname)
	hdr.PAXRecords, hdr.Xattrs = imageRecords(hdr.PAXRecords), nil // the same once more
	for key, value := range hdr.PAXRecords {
		attr, ok := strings.CutPrefix(key, xattrPrefix)
		if ok && (len(attr) > maxXattrName || len(value) > maxXattrValue) {
			return fmt.Errorf("%w: extended attribute %.40q with a name of %d bytes and a value of %d, over the limits of %d and %d",
				ErrMalformed, attr, len(attr), len(value), maxXattrName, maxXattrValue)
		}
	}
	if e.xattrs += recordsSize(hdr.PAXRecords); e.xattrs > maxXattrs {
		return errXattrs
	}
	return nil
}

var errXattrs = fmt.Errorf("%w: extended attributes of over %d bytes in all", ErrMalformed, maxXattrs)

func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// checkGlobal refuses a global header that would change the entries behind it: readers
// of images differ in whether they heed it. A comment, as git writes it, means nothing.
func checkGlobal(hdr *tar.Header) error {
	for key := range hdr.PAXRecords {
		switch key {
		case keyPath, keyLink, keySize, keyUID, keyGID, keyUname, keyGname, keyMTime, keyCharset:
		default:
			if !strings.HasPrefix(key, xattrPrefix) && !strings.HasPrefix(key, "GNU.sparse.") {
				continue
			}
		}
		return fmt.Errorf("%w: record %q for all entries", ErrMalformed, key)
	}
	return nil
}

// A contextReader ends with the context's error once that is over.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
