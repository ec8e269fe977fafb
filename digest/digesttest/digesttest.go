// Package digesttest makes bytes for the tests of all packages. It imports none of them.
package digesttest

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"testing"
)

// Reps returns how often a test repeats what it does: short times under -short, else full times.
func Reps(full, short int) int {
	if testing.Short() {
		return short
	}
	return full
}

// Noise returns n bytes that no compression makes shorter, the same for the same n and seed.
func Noise(n, seed int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(n), byte(n >> 8)}).Read(b)
	return b
}

// Gzipped returns data compressed with gzip, by the standard library.
func Gzipped[T []byte | string](data T) T {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // whose errors are those of b, which has none
	z.Write([]byte(data))
	z.Close()
	return T(b.Bytes())
}
