package archive

import (
	"bytes"
	"compress/gzip"
	"testing"
)

// stdGzip compresses with the standard library, whose bytes no level of ours gives.
func stdGzip(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
