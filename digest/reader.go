package digest

import (
	"fmt"
	"io"
)

// A Verifier checks the bytes written to it against a digest and a size. A byte too many is an error of
// Write at once, and anything else one of Close; both wrap [ErrMismatch]. Not safe for concurrent use.
type Verifier struct {
	want Digest
	size int64
	h    *Hasher
	err  error
}

// NewVerifier returns a Verifier that expects size bytes (any number if size is negative) with the
// digest want. If want is of an algorithm that cannot be computed, the first Write and Close say so with
// [ErrUnsupported].
func NewVerifier(want Digest, size int64) *Verifier {
	v := &Verifier{want: want, size: size}
	if want.Verifiable() {
		v.h = NewHasher(want.Algorithm())
	} else {
		v.err = fmt.Errorf("%s: %w", want, ErrUnsupported)
	}
	return v
}

// Write implements io.Writer.
func (v *Verifier) Write(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	v.h.Write(p)
	if v.size >= 0 && v.h.Size() > v.size {
		v.err = fmt.Errorf("blob %s: over %d bytes: %w", v.want, v.size, ErrMismatch)
	}
	return len(p), v.err
}

// Close returns nil if all that was written is what was expected.
func (v *Verifier) Close() error {
	if v.err != nil {
		return v.err
	}
	if v.size >= 0 && v.h.Size() != v.size {
		return fmt.Errorf("blob %s: got %d bytes, want %d: %w", v.want, v.h.Size(), v.size, ErrMismatch)
	}
	if got := v.h.Digest(); got != v.want {
		return &MismatchError{Got: got, Want: v.want}
	}
	return nil
}

// A MismatchError says that bytes of the right size have another digest. It wraps [ErrMismatch].
type MismatchError struct{ Got, Want Digest }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("blob %s: got %s: %v", e.Want, e.Got, ErrMismatch)
}

func (e *MismatchError) Unwrap() error { return ErrMismatch }

// Size returns the number of bytes written so far.
func (v *Verifier) Size() int64 {
	if v.h == nil {
		return 0
	}
	return v.h.Size()
}

// A Reader passes on the bytes of another reader and checks them against a digest and a
// size, as a [Verifier] does. Where the other reader ends, Read returns io.EOF only if both are right,
// and an error that wraps [ErrMismatch] otherwise. A byte too many ends it at once, so an endless
// source is never read past the size that was promised. Not safe for concurrent use.
type Reader struct {
	r   io.Reader
	v   *Verifier
	err error
}

// NewReader returns a Reader of r that expects size bytes (any number if size is negative)
// with the digest want. If want is of an algorithm that cannot be computed, the first Read
// says so with [ErrUnsupported].
func NewReader(r io.Reader, want Digest, size int64) *Reader {
	v := NewVerifier(want, size)
	return &Reader{r, v, v.err}
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	if _, wrong := r.v.Write(p[:n]); wrong != nil {
		err = wrong
	} else if err == io.EOF {
		if wrong := r.v.Close(); wrong != nil {
			err = wrong
		}
	}
	r.err = err
	return n, err
}

// Size returns the number of bytes read so far.
func (r *Reader) Size() int64 { return r.v.Size() }
