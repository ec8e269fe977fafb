package gzip

import (
	"compress/flate"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// corpus returns files of the Go distribution, sources and programs, one after the other.
func corpus(b *testing.B, size int) []byte {
	root := filepath.Join(runtime.GOROOT(), "pkg")
	if _, err := os.Stat(root); err != nil {
		b.Skip("no Go distribution here")
	}
	var data []byte
	for _, dir := range []string{"src/go", "src/net", "pkg/tool", "src/runtime", "src/cmd", "test"} {
		limit := len(data) + size/4
		filepath.WalkDir(filepath.Join(runtime.GOROOT(), dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			if len(data) > limit {
				return filepath.SkipAll
			}
			file, err := os.ReadFile(path)
			data = append(data, file...)
			return err
		})
	}
	if len(data) < size {
		b.Skipf("only %d bytes found", len(data))
	}
	return data[:size]
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
	data := corpus(b, 32<<20)
	run := func(name string, open func(io.Writer) io.WriteCloser) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			var c counter
			for b.Loop() {
				c = 0
				w := open(&c)
				w.Write(data)
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c)/float64(len(data)), "size")
		})
	}
	for _, level := range []int{0, 1, 6, 9} {
		run(fmt.Sprintf("%d/ours", level), func(w io.Writer) io.WriteCloser {
			z, _ := NewWriter(w, level, 1)
			return z
		})
		run(fmt.Sprintf("%d/std", level), func(w io.Writer) io.WriteCloser {
			z, _ := flate.NewWriter(w, level)
			return z
		})
	}
}

// BenchmarkSize shows that memory does not grow with the input, and what little input costs.
func BenchmarkSize(b *testing.B) {
	data := corpus(b, 1<<20)
	for _, size := range []int{10, 1 << 10, 1 << 20, 16 << 20, 256 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				z, _ := NewWriter(io.Discard, DefaultLevel, 2)
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
