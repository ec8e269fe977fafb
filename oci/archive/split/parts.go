package split

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"ocikit/oci"
)

// IsSet reports whether a directory holds parts and their index.
func IsSet(dir string) bool {
	files, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(files, func(f os.DirEntry) bool { return IsIndex(f.Name()) })
}

// IsIndex reports whether a file is called as the index of parts is.
func IsIndex(name string) bool {
	return strings.HasSuffix(name, indexSuffix) && !strings.HasPrefix(name, tempPrefix)
}

// maxOpen is how many parts are open at once.
const maxOpen = 16

// Parts reads the stream at any offset, without joining the parts. The size of a part is
// checked when it is opened, its digest is not: readers know the digests of what the stream
// holds, or call [Parts.Verify]. Parts may be used concurrently.
type Parts struct {
	s *Set

	mu       sync.Mutex
	open     map[int]*os.File // by the number of the part
	recent   []int            // the numbers in open, the one that was used last at the end
	verified map[int]bool
}

// ReaderAt returns a reader of the parts, which the caller closes before the Set.
func (s *Set) ReaderAt() *Parts {
	return &Parts{s: s, open: map[int]*os.File{}, verified: map[int]bool{}}
}

// ReadAt reads from as many parts as need be. A part that is missing, or of another size, gives an
// error that wraps [ErrBad].
func (p *Parts) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		at := off + int64(n)
		if at >= p.s.Index.Size {
			return n, io.EOF
		}
		i := int(at / p.s.Index.PartSize)
		inPart := at % p.s.Index.PartSize
		rest := p.s.Index.Parts[i].Size - inPart
		k, err := p.readPart(i, b[n:min(int64(len(b)), int64(n)+rest)], inPart)
		n += k
		if err != nil {
			return n, err
		}
	}

	return n, nil
}

// readPart fills b from one part.
func (p *Parts) readPart(i int, b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.part(i)
	if err != nil {
		return 0, p.bad(err)
	}
	n, err := f.ReadAt(b, off)
	switch {
	case n == len(b):
		return n, nil
	case err == io.EOF: // it was cut meanwhile
		err = io.ErrUnexpectedEOF
	}
	return n, p.bad(fmt.Errorf("%q: %w", p.s.Index.Parts[i].Name, oci.Pathless(err)))
}

// part returns the open file of a part, and closes the one that was not used for the longest time
// if there are too many.
func (p *Parts) part(i int) (*os.File, error) {
	if f, ok := p.open[i]; ok {
		p.use(i)
		return f, nil
	}

	f, err := p.s.openPart(p.s.Index.Parts[i])
	if err != nil {
		return nil, err
	}

	if len(p.open) == maxOpen {
		p.open[p.recent[0]].Close()
		delete(p.open, p.recent[0])
		p.recent = p.recent[1:]
	}

	p.open[i] = f
	p.use(i)
	return f, nil
}

// use makes a part the one that was used last.
func (p *Parts) use(i int) {
	if n := len(p.recent); n > 0 && p.recent[n-1] == i {
		return
	}
	recent := make([]int, 0, maxOpen+1)
	for _, r := range p.recent {
		if r != i {
			recent = append(recent, r)
		}
	}
	p.recent = append(recent, i)
}

// Verify hashes the parts that hold size bytes at off, each once. A part that is missing or bad
// gives an error that wraps [ErrBad].
func (p *Parts) Verify(ctx context.Context, off, size int64) error {
	if size <= 0 {
		return nil
	}

	for i := int(off / p.s.Index.PartSize); i <= int((off+size-1)/p.s.Index.PartSize) && i < len(p.s.Index.Parts); i++ {
		p.mu.Lock()
		done := p.verified[i]
		p.mu.Unlock()
		if done {
			continue
		}
		err := p.s.read(ctx, io.Discard, p.s.Index.Parts[i], io.Discard, func() error { return nil })
		if err != nil {
			return p.bad(err)
		}
		p.mu.Lock()
		p.verified[i] = true
		p.mu.Unlock()
	}

	return nil
}

// bad makes what is wrong with a part an [ErrBad].
func (p *Parts) bad(err error) error {
	if _, ok := errors.AsType[*partError](err); ok || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	return err
}

// Close closes the parts that are open.
func (p *Parts) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, f := range p.open {
		errs = append(errs, f.Close())
	}
	p.open, p.recent = map[int]*os.File{}, nil
	return errors.Join(errs...)
}
