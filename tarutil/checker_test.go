package tarutil

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// check runs a Checker over data, given to it in pieces of n bytes.
func check(c *Checker, data []byte, n int) error {
	for len(data) > 0 {
		k := min(n, len(data))
		if _, err := c.Write(data[:k]); err != nil {
			return err
		}
		data = data[k:]
	}
	return c.Close()
}

// sampleTar is a tar with entries of all kinds, and the offsets where an entry is complete.
func sampleTar(t testing.TB) (data []byte, edges []int64) {
	t.Helper()
	var buf bytes.Buffer
	tw := NewWriter(&buf)
	for _, e := range []struct {
		hdr     tar.Header
		content string
	}{
		{tar.Header{Typeflag: tar.TypeDir, Name: "bin", Mode: 0o755}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: "bin/hello", Mode: 0o755, Size: 5}, "hello"},
		{tar.Header{Typeflag: tar.TypeReg, Name: "even", Mode: 0o644, Size: 512}, strings.Repeat("e", 512)},
		{tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("long/", 60) + "name", Size: 1}, "x"},
		{tar.Header{Typeflag: tar.TypeLink, Name: "hi", Linkname: "bin/hello"}, ""},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "ümlaut", Linkname: "bin"}, ""},
		{tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}, ""},
	} {
		if err := tw.WriteHeader(&e.hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.content); err != nil {
			t.Fatal(err)
		}
		edges = append(edges, int64(buf.Len()+padding(int64(len(e.content)))))
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), edges
}

func TestCheckerWhole(t *testing.T) {
	data, edges := sampleTar(t)
	for _, n := range []int{1, 7, 511, 512, 513, 1 << 20} {
		c := &Checker{}
		if err := check(c, data, n); err != nil || c.Entries() != int64(len(edges)) || !c.Ended() {
			t.Errorf("pieces of %d: %v, %d entries, want %d", n, err, c.Entries(), len(edges))
		}
	}
	c := &Checker{}
	second := append(bytes.Clone(data), data...) // what stands behind the end does not count
	if err := check(c, append(second, "junk"...), 1000); err != nil || c.Entries() != int64(len(edges)) {
		t.Errorf("two tars: %v, %d entries", err, c.Entries())
	}
}

func TestCheckerCut(t *testing.T) {
	data, edges := sampleTar(t)
	atEdge := make(map[int64]bool)
	for _, e := range edges {
		atEdge[e] = true
	}
	end := edges[len(edges)-1]
	for cut := int64(0); cut < int64(len(data)); cut += 128 {
		strict := check(&Checker{}, data[:cut], 300)
		if cut > 0 && strict == nil || cut > 512 && !errors.Is(strict, ErrTruncated) {
			t.Errorf("cut at %d: %v, want ErrTruncated", cut, strict)
		}
		if cut == 0 && !errors.Is(strict, ErrEmpty) {
			t.Errorf("no bytes: %v, want ErrEmpty", strict)
		}
		lax := check(&Checker{AllowNoEnd: true}, data[:cut], 300)
		_, err := countEntries(data[:cut])
		ok := atEdge[cut] || cut == end+blockSize
		ok = ok || lax == nil && err == nil && cut%blockSize != 0 && atEdge[cut+blockSize-cut%blockSize] // within padding
		if (lax == nil) != ok {
			t.Errorf("cut at %d, no end marker wanted: %v, want ok=%v", cut, lax, ok)
		}
	}
}

// patch returns a copy of data with s at offset at, and the checksum of the header at
// block made right.
func patch(data []byte, block, at int, s string) []byte {
	data = bytes.Clone(data)
	copy(data[block+at:], s)
	b := data[block : block+blockSize]
	copy(b[atSum:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[atSum:], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

func TestCheckerRefuses(t *testing.T) {
	data, edges := sampleTar(t)
	second := int(edges[0])
	huge := "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00"
	flip := bytes.Clone(data)
	flip[second+3] ^= 1
	lone := append(bytes.Clone(data[:second]), zeros[:blockSize]...)
	lone = append(lone, data[second:]...)
	tests := []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"second header has a wrong checksum", flip, ErrMalformed, `offset 512: malformed tar: header checksum mismatch`},
		{"random text", bytes.Repeat([]byte("It was a dark night. "), 100), ErrMalformed, "does not begin with a header"},
		{"short text", []byte("hello"), ErrMalformed, "less than one header"},
		{"type flag Z", patch(data, second, atType, "Z"), ErrMalformed, `unknown type flag 'Z'`},
		{"size of 2^62", patch(data, second, atSize, huge), ErrTruncated, `entry "bin/hello" at offset 512`},
		{"size of 2^63-1", patch(data, second, atSize, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), ErrMalformed, "size"},
		{"negative size", patch(data, second, atSize, strings.Repeat("\xff", 12)), ErrMalformed, "size -1"},
		{"size that is not octal", patch(data, second, atSize, "0000000009"), ErrMalformed, "not octal"},
		{"lone zero block", lone, ErrMalformed, "lone zero block at offset 512"},
		{"extended header at the end", append(bytes.Clone(data[:edges[2]+1024]), zeros[:]...), ErrMalformed, "without an entry"},
	}
	for _, tt := range tests {
		for _, n := range []int{100, 512, 4096} {
			err := check(&Checker{}, tt.data, n)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s, pieces of %d: %v, want %v with %q", tt.name, n, err, tt.want, tt.text)
			}
		}
	}
	if err := check(&Checker{AllowUnknownTypes: true}, tests[3].data, 512); err != nil {
		t.Errorf("unknown type allowed: %v", err)
	}
}

// countEntries reads a tar with archive/tar to its end.
func countEntries(data []byte) (n int64, err error) {
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		if _, err := tr.Next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n++
	}
}

// mayBeSparse says whether there is a sparse map in data, which a Checker does not look into.
func mayBeSparse(data []byte) bool {
	for i := atType; i < len(data); i += blockSize {
		if data[i] == tar.TypeGNUSparse {
			return true
		}
	}
	return bytes.Contains(data, []byte("GNU.sparse."))
}

// checkLaw fails if a Checker accepts what archive/tar does not, or sees other entries.
func checkLaw(t *testing.T, data []byte, pieces int) {
	t.Helper()
	c := &Checker{AllowNoEnd: true, AllowUnknownTypes: true}
	if err := check(c, data, pieces); err != nil {
		if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrEmpty) {
			t.Errorf("error without a sentinel: %v", err)
		}
		return
	}
	if mayBeSparse(data) {
		return
	}
	if n, err := countEntries(data); err != nil || n != c.Entries() {
		t.Errorf("accepted with %d entries; archive/tar: %d entries, %v", c.Entries(), n, err)
	}
}

// TestCheckerSamples holds the law on the samples of the Go distribution, if it is there.
func TestCheckerSamples(t *testing.T) {
	for _, data := range goSamples(t) {
		checkLaw(t, data, 512)
		checkLaw(t, data, 77)
	}
}

func goSamples(t testing.TB) map[string][]byte {
	samples := make(map[string][]byte)
	files, _ := filepath.Glob(filepath.Join(goroot(), "src/archive/tar/testdata/*.tar"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		samples[filepath.Base(f)] = data
	}
	return samples
}

func FuzzChecker(f *testing.F) {
	data, _ := sampleTar(f)
	f.Add(data, 100)
	for _, data := range goSamples(f) {
		f.Add(data, 512)
	}
	f.Fuzz(func(t *testing.T, data []byte, pieces int) {
		checkLaw(t, data, max(1, pieces&0xfff))
	})
}

func BenchmarkChecker(b *testing.B) {
	for _, size := range []int{1 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			var buf bytes.Buffer
			tw := NewWriter(&buf)
			tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 16000})
			tw.Write(make([]byte, 16000))
			tw.writeRaw(nil)
			entry := buf.Bytes()
			piece := bytes.Repeat(entry, 64)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				c := &Checker{}
				for n := 0; n < size; n += len(piece) {
					if _, err := c.Write(piece); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := c.Write(zeros[:]); err != nil {
					b.Fatal(err)
				}
				if err := c.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
