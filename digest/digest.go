// Package digest holds the names of blobs: an algorithm and the hash of the bytes.
//
// A [Digest] cannot hold a malformed value: it is made by [Parse], which checks the
// grammar, or by hashing. So a Digest may be used as a file name below blobs/ and in the
// path of a URL without a second look.
//
// Bytes are hashed with a [Hasher] as they pass (sha256, its state can be saved and
// restored), and checked with a [Reader], which reports a mismatch from Read in place of
// io.EOF: whoever reads to the end has verified, there is no second call to forget.
package digest

import (
	"errors"
	"fmt"
	"strings"
)

// ErrMalformed is wrapped by every error of [Parse].
var ErrMalformed = errors.New("malformed digest")

// ErrMismatch means that bytes do not have the digest or the size they were named by.
var ErrMismatch = errors.New("content mismatch")

// ErrUnsupported means that a digest is well-formed but of an algorithm that this program
// cannot compute, so nothing can be said about the bytes it names.
var ErrUnsupported = errors.New("cannot verify: unsupported digest algorithm")

// A Digest names content: "algorithm:encoded", as the image-spec defines it under
// "Digests" (descriptor.md). The zero Digest names nothing. Digests are comparable with ==.
type Digest struct{ s string }

// maxLength bounds the text of a digest. The longest registered one, sha512, has 135
// bytes; a blob of a longer name could not be stored as a file anyway.
const maxLength = 200

// Parse returns the digest that s spells. The registered algorithms sha256 and sha512
// must be lower-case hexadecimal of the right length; digests of other algorithms are
// accepted if they follow the grammar, see [Digest.Verifiable].
func Parse(s string) (Digest, error) {
	if len(s) > maxLength || !wellFormed(s) {
		if len(s) > maxLength {
			s = s[:maxLength] + "…"
		}
		return Digest{}, fmt.Errorf("%w %q: want algorithm:encoded", ErrMalformed, s)
	}
	d := Digest{s}
	if alg := d.Algorithm(); alg.Available() {
		if want := alg.hexLen(); len(d.Encoded()) != want || !allIn(d.Encoded(), hexDigits) {
			return Digest{}, fmt.Errorf("%w %q: want %d lower-case hexadecimal digits", ErrMalformed, s, want)
		}
	}
	return d, nil
}

// Characters of the parts of a digest.
const (
	hexDigits      = "0123456789abcdef"
	algorithmChars = "0123456789abcdefghijklmnopqrstuvwxyz"
	separators     = "+._-"
	encodedChars   = algorithmChars + "ABCDEFGHIJKLMNOPQRSTUVWXYZ=_-"
)

// wellFormed reports whether s follows the grammar: components of the algorithm joined by
// one separator each, a colon, the encoded part. A regular expression for that would be
// compiled at the start of every command.
func wellFormed(s string) bool {
	alg, encoded, ok := strings.Cut(s, ":")
	for ok {
		i := strings.IndexAny(alg, separators)
		if i < 0 {
			break
		}
		ok = allIn(alg[:i], algorithmChars)
		alg = alg[i+1:]
	}
	return ok && allIn(alg, algorithmChars) && allIn(encoded, encodedChars)
}

// allIn reports whether s has characters, and all of them are in set.
func allIn(s, set string) bool {
	return s != "" && strings.Trim(s, set) == ""
}

// String returns "algorithm:encoded", or "" for the zero Digest.
func (d Digest) String() string { return d.s }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d.s == "" }

// Algorithm returns the part before the colon.
func (d Digest) Algorithm() Algorithm {
	alg, _, _ := strings.Cut(d.s, ":")
	return Algorithm(alg)
}

// Encoded returns the part behind the colon.
func (d Digest) Encoded() string {
	_, enc, _ := strings.Cut(d.s, ":")
	return enc
}

// Verifiable reports whether bytes can be checked against d: whether it is of a
// registered algorithm.
func (d Digest) Verifiable() bool { return d.Algorithm().Available() }

// Compare orders digests by their text, for slices.SortFunc.
func Compare(a, b Digest) int { return strings.Compare(a.s, b.s) }

// MarshalText returns the text of d. The zero Digest has none and is an error.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, fmt.Errorf("%w: empty", ErrMalformed)
	}
	return []byte(d.s), nil
}

// UnmarshalText is [Parse].
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d, err = Parse(string(text))
	return err
}
