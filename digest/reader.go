package digest

import (
	"fmt"
	"io"
)

// A Reader passes on the bytes of another reader and checks them against a digest and a
// size. Where the other reader ends, Read returns io.EOF only if both are right, and an
// error that wraps [ErrMismatch] otherwise. A byte too many ends it at once, so an endless
// source is never read past the size that was promised. Not safe for concurrent use.
type Reader struct {
	r    io.Reader
	want Digest
	size int64
	h    *Hasher
	err  error
}

// NewReader returns a Reader of r that expects size bytes (any number if size is negative)
// with the digest want. If want is of an algorithm that cannot be computed, the first Read
// says so with [ErrUnsupported].
func NewReader(r io.Reader, want Digest, size int64) *Reader {
	v := &Reader{r: r, want: want, size: size}
	if want.Verifiable() {
		v.h = NewHasher(want.Algorithm())
	} else {
		v.err = fmt.Errorf("%s: %w", want, ErrUnsupported)
	}
	return v
}

// Read implements io.Reader.
func (v *Reader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(p)
	v.h.Write(p[:n])
	switch {
	case v.size >= 0 && v.h.Size() > v.size:
		err = fmt.Errorf("blob %s: over %d bytes: %w", v.want, v.size, ErrMismatch)
	case err == io.EOF:
		err = v.atEnd()
	}
	v.err = err
	return n, err
}

// Size returns the number of bytes read so far.
func (v *Reader) Size() int64 {
	if v.h == nil {
		return 0
	}
	return v.h.Size()
}

func (v *Reader) atEnd() error {
	if v.size >= 0 && v.h.Size() != v.size {
		return fmt.Errorf("blob %s: got %d bytes, want %d: %w", v.want, v.h.Size(), v.size, ErrMismatch)
	}
	if got := v.h.Digest(); got != v.want {
		return fmt.Errorf("blob %s: got %s: %w", v.want, got, ErrMismatch)
	}
	return io.EOF
}
