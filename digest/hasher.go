package digest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
)

// Algorithm is the name of a hash function as it stands in front of a digest's colon.
type Algorithm string

// The registered algorithms of the image-spec that this program computes.
const (
	SHA256 Algorithm = "sha256"
	SHA512 Algorithm = "sha512"
)

// Available reports whether the program can compute digests of this algorithm.
func (a Algorithm) Available() bool { return a == SHA256 || a == SHA512 }

func (a Algorithm) hexLen() int {
	if a == SHA512 {
		return 2 * sha512.Size
	}
	return 2 * sha256.Size
}

func (a Algorithm) new() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	}
	panic("digest: no hash function for " + string(a))
}

// FromBytes returns the sha256 digest of b.
func FromBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return fromSum(SHA256, sum[:])
}

// FromBytes returns the digest of b under the algorithm, which must be available.
func (a Algorithm) FromBytes(b []byte) Digest {
	h := a.new()
	h.Write(b)
	return fromSum(a, h.Sum(nil))
}

// FromReader reads r to its end and returns the digest and the number of bytes read.
func FromReader(a Algorithm, r io.Reader) (Digest, int64, error) {
	h := NewHasher(a)
	_, err := io.CopyBuffer(h, r, make([]byte, 256<<10))
	return h.Digest(), h.Size(), err
}

func fromSum(a Algorithm, sum []byte) Digest {
	return Digest{string(a) + ":" + hex.EncodeToString(sum)}
}

// A Hasher computes a digest of the bytes written to it and counts them. Its state can be
// marshaled, so that hashing may go on in another process. Not safe for concurrent use.
type Hasher struct {
	alg Algorithm
	h   hash.Hash
	n   int64
}

// NewHasher returns a Hasher for an available algorithm; it panics for another one.
func NewHasher(a Algorithm) *Hasher { return &Hasher{alg: a, h: a.new()} }

// Write never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	h.n += int64(len(p))
	return h.h.Write(p)
}

// Digest returns the digest of the bytes written so far. Writing may go on.
func (h *Hasher) Digest() Digest { return fromSum(h.alg, h.h.Sum(nil)) }

// Size returns the number of bytes written so far.
func (h *Hasher) Size() int64 { return h.n }

// MarshalBinary returns the state of the hash function as the standard library encodes
// it, without the count, which the caller keeps beside it.
func (h *Hasher) MarshalBinary() ([]byte, error) {
	return h.h.(encoding.BinaryMarshaler).MarshalBinary()
}

// Restore returns a Hasher that goes on from a state which [Hasher.MarshalBinary]
// returned after n bytes. A state that is not one of the algorithm, or that belongs to
// another count, is an error.
func Restore(a Algorithm, state []byte, n int64) (*Hasher, error) {
	if !a.Available() {
		return nil, fmt.Errorf("algorithm %q: %w", string(a), ErrUnsupported)
	}
	h := NewHasher(a)

	// UnmarshalBinary wants the length of a state to be right, so its last eight bytes are there.
	if err := h.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return nil, fmt.Errorf("state of %s: %w", a, err)
	}
	// The standard library's states end in the count of bytes, big-endian.
	if got := binary.BigEndian.Uint64(state[len(state)-8:]); got != uint64(n) {
		return nil, fmt.Errorf("state of %s: it is one after %d bytes, want %d", a, got, n)
	}
	h.n = n
	return h, nil
}
