package set

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"ocikit/digest"
)

// A Lock holds the digests that full names had when they were asked for first.
type Lock map[string]digest.Digest

// ReadLock reads what [Lock.Write] wrote.
func ReadLock(r io.Reader) (Lock, error) {
	l := Lock{}
	err := eachLine(r, func(_ int, words []string) error {
		if len(words) != 2 {
			return errors.New("want a name and a digest")
		}

		d, err := digest.Parse(words[1])
		if err != nil {
			return err
		}
		if !d.Verifiable() { // said here, no registry is asked for it
			return fmt.Errorf("%s: %w", d, digest.ErrUnsupported)
		}
		if other, ok := l[words[0]]; ok && other != d {
			return fmt.Errorf("%q is locked to two digests", words[0])
		}

		l[words[0]] = d
		return nil
	})

	return l, err
}

// Write writes a line for each name, NAME DIGEST, sorted.
func (l Lock) Write(w io.Writer) error {
	for _, name := range slices.Sorted(maps.Keys(l)) {
		if _, err := fmt.Fprintf(w, "%s %s\n", name, l[name]); err != nil {
			return err
		}
	}
	return nil
}
