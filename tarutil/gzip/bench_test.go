package gzip

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"ocikit/tarutil/zstd"
)

// corpora returns what layers hold, of each kind 16 MiB at most, from the Go distribution:
// sources, programs and documents.
func corpora(b *testing.B) map[string][]byte {
	const limit = 16 << 20
	all := map[string][]byte{}
	for name, glob := range map[string]string{
		"source":   "src/*/*.go",
		"programs": "pkg/tool/*/*",
		"json":     "src/encoding/json/internal/jsontest/testdata/*.json.zst",
	} {
		files, _ := filepath.Glob(filepath.Join(runtime.GOROOT(), glob))
		var data []byte
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err == nil && filepath.Ext(file) == ".zst" {
				content, err = io.ReadAll(zstd.NewReader(bytes.NewReader(content)))
			}
			if err != nil {
				b.Fatal(err)
			}
			data = append(data, content...)
		}
		if len(data) < 1<<20 {
			b.Skipf("no Go distribution with %s here", glob)
		}
		all[name] = data[:min(len(data), limit)]
	}
	return all
}

// counter counts bytes.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// BenchmarkLevel has std beside ours for each level of which compress/flate has the like.
// Read the ratios of MB/s and of "size" (output by input) within one run, on one processor.
func BenchmarkLevel(b *testing.B) {
	corpora := corpora(b)
	for _, name := range slices.Sorted(maps.Keys(corpora)) {
		for _, level := range []int{0, 1, 6, 9} {
			b.Run(fmt.Sprintf("%s/%d/ours", name, level), func(b *testing.B) {
				benchLevel(b, corpora[name], func(w io.Writer) (io.WriteCloser, error) {
					return NewWriter(w, level, 1)
				})
			})
			b.Run(fmt.Sprintf("%s/%d/std", name, level), func(b *testing.B) {
				benchLevel(b, corpora[name], func(w io.Writer) (io.WriteCloser, error) {
					return flate.NewWriter(w, level)
				})
			})
		}
	}
}

func benchLevel(b *testing.B, data []byte, open func(io.Writer) (io.WriteCloser, error)) {
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var c counter
	for b.Loop() {
		c = 0
		w, err := open(&c)
		if err != nil {
			b.Fatal(err)
		}
		w.Write(data)
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(c)/float64(len(data)), "size")
}

// BenchmarkSize shows that memory does not grow with the input, and what little input costs.
func BenchmarkSize(b *testing.B) {
	data := corpora(b)["source"][:1<<20]
	for _, level := range []int{0, 1, 6, 9} {
		for _, size := range []int{10, 1 << 10, 1 << 20, 16 << 20, 256 << 20} {
			b.Run(fmt.Sprintf("%d/%d", level, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					z, _ := NewWriter(io.Discard, level, 2)
					for n := size; n > 0; {
						k, err := z.Write(data[:min(n, len(data))])
						if err != nil {
							b.Fatal(err)
						}
						n -= k
					}
					if err := z.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
