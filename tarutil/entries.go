package tarutil

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultMaxSparse is how many bytes the sparse files of a tar may have all together, holes included, if
// no limit is set.
const DefaultMaxSparse = 8 << 30

// ReadOptions say how an [EntryReader] reads a tar. The zero value is ready for use.
type ReadOptions struct {
	// AllowNoEnd accepts a tar without the two zero blocks at its end.
	AllowNoEnd bool
	// MaxSparse is how many bytes all sparse files may have together, holes included; 0 stands for
	// [DefaultMaxSparse].
	MaxSparse int64
}

// An EntryReader reads the entries of a tar that nobody has verified yet. It reads as a [tar.Reader]
// does, [EntryReader.Next] and then the content by [EntryReader.Read], while a [Checker] follows every
// byte. It is not safe for concurrent use.
type EntryReader struct {
	tr        *tar.Reader
	src       *entrySource
	check     Checker
	maxSparse int64
	sparse    int64 // size of the sparse files so far
	records   RecordsBudget
	behind    trailing          // what follows the end marker
	global    map[string]string // records for all entries that follow
	mark      string            // of the entry that Next returned last
}

// NewEntryReader reads a tar from r, which may be compressed as [Decompress] knows. Reading ends with
// the context. The caller closes r.
func NewEntryReader(ctx context.Context, r io.Reader, opts ReadOptions) (*EntryReader, error) {
	plain, _, err := Decompress(ContextReader(ctx, r))
	if err != nil {
		return nil, err
	}
	return NewPlainEntryReader(plain, opts), nil
}

// NewPlainEntryReader reads a tar that is not compressed from r. The caller closes r.
func NewPlainEntryReader(r io.Reader, opts ReadOptions) *EntryReader {
	e := &EntryReader{check: Checker{AllowNoEnd: opts.AllowNoEnd}, maxSparse: opts.MaxSparse}
	if e.maxSparse == 0 {
		e.maxSparse = DefaultMaxSparse
	}
	e.src = &entrySource{r: r, check: &e.check}
	e.src.skip, _ = r.(discarder)
	e.tr = tar.NewReader(e.src)
	return e
}

// Offset returns where the header of the entry that Next returned last begins, in uncompressed bytes.
func (e *EntryReader) Offset() int64 { return e.check.at }

// SparseSize returns how many bytes all sparse files so far have, holes included.
func (e *EntryReader) SparseSize() int64 { return e.sparse }

// OverlayMark returns the name of an extended attribute by which overlay file systems mark files, if the
// entry that Next returned last had one. Such attributes belong to no image and are dropped, but programs
// that unpack the layer for an overlay may keep them.
func (e *EntryReader) OverlayMark() string { return e.mark }

// EntryError adds the name and offset of the entry that Next returned last to an error. It returns nil
// for nil.
func (e *EntryReader) EntryError(err error) error { return e.check.entryError(err) }

// An entrySource is what archive/tar reads from. A Checker follows, and the error of the source is kept.
type entrySource struct {
	r      io.Reader
	skip   discarder // the same, if it is one
	check  *Checker
	failed error
}

// A discarder can pass over bytes without copying them, as a bufio.Reader.
type discarder interface {
	Discard(n int) (int, error)
}

func (s *entrySource) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.failed = err
	}
	if _, bad := s.check.Write(p[:n]); bad != nil {
		err = bad
	}
	return n, err
}

// Seek passes over contents that nobody reads: archive/tar seeks to their last byte where it can, and
// reads that one, so it sees where the source ends. Nothing but that is possible.
func (s *entrySource) Seek(offset int64, whence int) (int64, error) {
	if s.skip == nil || whence != io.SeekCurrent || offset < 0 {
		return -1, errors.ErrUnsupported
	}

	for offset > 0 && s.failed == nil {
		n, err := s.skip.Discard(int(min(offset, 1<<30)))
		if bad := s.check.Skip(int64(n)); bad != nil {
			return s.check.offset, bad
		}
		if offset -= int64(n); err == io.EOF {
			break
		}
		s.failed = err
	}

	return s.check.offset, s.failed
}

// Next returns the header of the next entry, with name and hard link target as clean paths (see
// [CleanPath]), and with only those PAX records that belong in an image. The root has the name "",
// and is a directory. Global headers are not returned: their words about owner and time are in the
// headers behind them.
//
// At the end of the tar Next reads the rest of the stream, and returns io.EOF only if all was well.
// Other errors wrap one of this package and name the entry and its offset, or come from the stream.
func (e *EntryReader) Next() (*tar.Header, error) {
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
			err = e.addGlobal(hdr)
		} else if err = e.clean(hdr); err == nil {
			return hdr, nil
		}
		if err != nil {
			return nil, e.check.entryError(err)
		}
	}
}

// All yields what [EntryReader.Next] returns, up to the end of the tar or an error, which comes with a nil
// header.
func (e *EntryReader) All() iter.Seq2[*tar.Header, error] {
	return func(yield func(*tar.Header, error) bool) {
		for {
			hdr, err := e.Next()
			if err == io.EOF || !yield(hdr, err) || err != nil {
				return
			}
		}
	}
}

// finish reads what stands behind the end marker, too: it belongs to the stream's digest,
// and its checksum comes last.
func (e *EntryReader) finish() error {
	if _, err := io.Copy(&e.behind, e.src); err != nil {
		return err
	}
	if err := e.check.Close(); err != nil {
		return err
	}
	return io.EOF
}

// bytesBehind returns how many bytes follow the end marker, or 0 if all of them are zeros. It is known once
// Next has returned io.EOF. If there are many, the file is likely no tar but, say, the image of a disk
// that begins with zeros.
func (e *EntryReader) bytesBehind() int64 {
	if !e.behind.data {
		return 0
	}
	return e.behind.n
}

// A trailing counts the bytes behind an end marker.
type trailing struct {
	n    int64
	data bool // one of them is not zero
}

func (t *trailing) Write(p []byte) (int, error) {
	t.n += int64(len(p))
	for i := 0; i < len(p) && !t.data; i++ {
		t.data = p[i] != 0
	}
	return len(p), nil
}

// cause turns an error of archive/tar into one of ours, and passes those of the stream on.
func (e *EntryReader) cause(err error) error {
	switch {
	case err == io.ErrUnexpectedEOF || err == io.EOF:
		if closed := e.check.Close(); closed != nil {
			return closed
		}
		return fmt.Errorf("%w: %v", ErrTruncated, err)
	case e.src.failed == nil: // then it is archive/tar itself that refuses the entry
		return e.check.entryError(fmt.Errorf("%w: %s", ErrMalformed, strings.TrimPrefix(err.Error(), "archive/tar: ")))
	}
	return err
}

// Read reads the content of the entry that Next returned last, with the holes of a sparse file as zeros.
func (e *EntryReader) Read(p []byte) (int, error) {
	n, err := e.tr.Read(p)
	if err != nil && err != io.EOF {
		err = e.cause(err)
	}
	return n, err
}

// clean makes names in hdr clean paths, and refuses what no image can hold.
func (e *EntryReader) clean(hdr *tar.Header) error {
	if err := e.inherit(hdr); err != nil {
		return err
	}
	if err := cleanEntry(hdr); err != nil {
		return err
	}
	if IsSparse(hdr) {
		if hdr.Size > e.maxSparse-e.sparse {
			return fmt.Errorf("%w: sparse files of over %d bytes", ErrMalformed, e.maxSparse)
		}
		e.sparse += hdr.Size
	}
	return e.cleanRecords(hdr)
}

// cleanRecords drops the records that mean nothing in an image. The others are copied, so that they do
// not keep the whole extended header in memory.
func (e *EntryReader) cleanRecords(hdr *tar.Header) error {
	e.mark = ""
	if len(hdr.PAXRecords) == 0 {
		return nil
	}

	// The names may lie in the memory of the extended header too.
	hdr.Name, hdr.Linkname = strings.Clone(hdr.Name), strings.Clone(hdr.Linkname)
	e.mark = overlayMark(hdr.PAXRecords)
	hdr.PAXRecords, hdr.Xattrs = ImageRecords(hdr.PAXRecords), nil // the same once more
	for key, value := range hdr.PAXRecords {
		attr, ok := strings.CutPrefix(key, XattrPrefix)
		if ok && (len(attr) > maxXattrName || len(value) > maxXattrValue) {
			return fmt.Errorf("%w: extended attribute %.40q with a name of %d bytes and a value of %d, over the limits of %d and %d",
				ErrMalformed, attr, len(attr), len(value), maxXattrName, maxXattrValue)
		}
	}

	return e.records.Take(hdr.PAXRecords)
}

// The limits of Linux for one extended attribute, in bytes.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
)

// IsSparse reports whether an entry is a sparse file, of GNU or of PAX. archive/tar reads one of PAX as a
// regular file, so only its records tell.
func IsSparse(hdr *tar.Header) bool {
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

// addGlobal keeps what a global header says of owner and time, for the entries behind it that do not say
// otherwise. It refuses records that make no sense for several entries, and ignores others such as the
// comment that git writes.
func (e *EntryReader) addGlobal(hdr *tar.Header) error {
	// The keys are sorted so that the error, if several are refused, is always the same.
	for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		switch key {
		case keyUID, keyGID, keyUname, keyGname, keyMTime:
			if e.global == nil {
				e.global = make(map[string]string)
			}
			if e.global[key] = hdr.PAXRecords[key]; e.global[key] == "" { // it takes an earlier one back
				delete(e.global, key)
			}
			continue
		case keyPath, keyLink, keySize, keyCharset:
		default:
			if !strings.HasPrefix(key, XattrPrefix) && !strings.HasPrefix(key, "GNU.sparse.") {
				continue
			}
		}

		return fmt.Errorf("%w: record %.40q for all entries", ErrMalformed, key)
	}

	return nil
}

// inherit gives hdr what global headers say and its own extended header does not. archive/tar leaves that
// to its caller.
func (e *EntryReader) inherit(hdr *tar.Header) (err error) {
	for key, value := range e.global {
		if _, own := hdr.PAXRecords[key]; own {
			continue
		}

		switch key {
		case keyUID:
			hdr.Uid, err = strconv.Atoi(value)
		case keyGID:
			hdr.Gid, err = strconv.Atoi(value)
		case keyUname:
			hdr.Uname = value
		case keyGname:
			hdr.Gname = value
		case keyMTime:
			hdr.ModTime, err = parseTime(value)
		}
		if err != nil {
			return fmt.Errorf("%w: record %q for all entries: %.40q", ErrMalformed, key, value)
		}
	}

	return nil
}

// parseTime reads a time as PAX has it: seconds, with a fraction or without.
func parseTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || fraction == "" {
		return time.Unix(sec, 0), err
	}
	fraction = (fraction + "000000000")[:9] // more digits than a time has are cut
	nano, err := strconv.ParseUint(fraction, 10, 32)
	if strings.HasPrefix(whole, "-") {
		return time.Unix(sec, -int64(nano)), err
	}
	return time.Unix(sec, int64(nano)), err
}

// ContextReader returns a reader of r which fails with the context's cause once the context is over. It
// looks before each Read, and does not interrupt one.
func ContextReader(ctx context.Context, r io.Reader) io.Reader { return &contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
