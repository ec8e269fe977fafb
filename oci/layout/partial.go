package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
)

// partialPrefix begins the names of files that hold the first bytes of blobs whose transfer
// broke off. They outlive the process as those of uploads do; [Layout.GC] takes what was idle
// for long.
const partialPrefix = UploadPrefix + "pull-"

// A Partial is a blob on its way in. If this process ends before the blob is whole, the next one
// goes on with it. Not safe for concurrent use.
type Partial struct {
	hashedFile
	name string
	d    digest.Digest
	done bool
}

// OpenPartial opens the bytes that are there of the blob d, or starts it without any. The bytes are
// hashed again, since nothing else says how far the transfer got. One process at a time has a blob;
// others wait here until it is done or ctx ends. The caller ends it with Commit, Discard, or, to go
// on later, Close.
func (l *Layout) OpenPartial(ctx context.Context, d digest.Digest) (*Partial, error) {
	if !d.Verifiable() {
		return nil, fmt.Errorf("blob %s: %w", d, digest.ErrUnsupported)
	}

	p := &Partial{hashedFile: hashedFile{l: l}, d: d, name: partialPrefix + string(d.Algorithm()) + "-" + d.Encoded()}
	l.sweep.Do(l.removeLeftovers)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		ok, err := p.open()
		if err != nil {
			return nil, fmt.Errorf("layout %q: blob %s: %w", l.dir, d, cause(err))
		}
		if ok {
			return p, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// open opens, locks and reads the file; false if another process has it.
func (p *Partial) open() (bool, error) {
	info, err := p.l.root.Lstat(p.name)
	switch {
	case err != nil: // most likely it is not there
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is a %s, not a regular file", p.name, kind(info.Mode()))
	case disk.Links(info) > 1:
		// Somebody gave a file this name too: to write into it would change that one.
		if err := p.l.sys.remove(p.l.root, p.name); err != nil {
			return false, err
		}
	}

	f, err := p.l.root.OpenFile(p.name, os.O_RDWR|os.O_CREATE|disk.OpenFlags, 0o644)
	if err != nil {
		return false, err
	}

	// The process that had the lock may have finished. Then the file that is open here has become
	// the blob.
	if !disk.TryLock(f) || !p.names(f) {
		f.Close()
		return false, nil
	}

	p.f, p.h = f, digest.NewHasher(p.d.Algorithm())
	if _, err := oci.Copy(p.h, f); err != nil {
		f.Close()
		return false, err
	}

	p.started = p.h.Size()
	return true, nil
}

// names reports whether the name still is that of the open file.
func (p *Partial) names(f *os.File) bool {
	is, err := p.l.root.Lstat(p.name)
	if err != nil {
		return false
	}
	was, err := f.Stat()
	return err == nil && os.SameFile(is, was)
}

// Open opens the file for reading; the caller closes it. It shows the bytes that are there and
// those that come, and stays readable when Commit has made it the blob. After Commit, Open
// finds nothing.
func (p *Partial) Open() (*os.File, error) {
	f, _, err := p.l.open(p.name)
	if err != nil {
		return nil, fmt.Errorf("layout %q: blob %s: %w", p.l.dir, p.d, cause(err))
	}
	return f, nil
}

// Digest returns the digest of the bytes that are there.
func (p *Partial) Digest() digest.Digest { return p.h.Digest() }

// Write adds bytes behind those that are there. After an error Size tells how many are there.
func (p *Partial) Write(b []byte) (int, error) {
	n, err := p.write(b)
	if err != nil {
		err = fmt.Errorf("layout %q: write blob %s: %w", p.l.dir, p.d, cause(err))
	}
	return n, err
}

// Reset drops the bytes that are there.
func (p *Partial) Reset() error {
	p.h, p.started = digest.NewHasher(p.d.Algorithm()), 0
	_, err := p.f.Seek(0, io.SeekStart)
	if err = errors.Join(err, p.f.Truncate(0)); err != nil {
		return fmt.Errorf("layout %q: blob %s: %w", p.l.dir, p.d, cause(err))
	}
	return nil
}

// Commit makes the bytes the blob, durably, and ends the Partial. If they have another digest
// it gives [digest.ErrMismatch], and nothing changes: the caller goes on with Reset, Discard or
// Close.
func (p *Partial) Commit() error {
	if got := p.h.Digest(); got != p.d {
		return &digest.MismatchError{Got: got, Want: p.d}
	}
	p.done = true
	return p.l.Adopt(p.f, p.name, p.d)
}

// Discard removes the bytes and ends the Partial.
func (p *Partial) Discard() error {
	err := p.l.sys.remove(p.l.root, p.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, p.Close())
}

// Close leaves what is there for the next one; nothing is left of a blob without bytes. It
// does nothing after Commit, so it may be deferred.
func (p *Partial) Close() error {
	if p.done {
		return nil
	}
	p.done = true
	if p.h.Size() == 0 {
		p.l.sys.remove(p.l.root, p.name)
	}
	return p.f.Close()
}
