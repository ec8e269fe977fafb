package tarutil

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"ocikit/tarutil/internal/tartest"
)

// sampleTar is a tar with entries of all kinds, and the offsets where an entry is complete.
func sampleTar(t testing.TB) (data []byte, edges []int64) {
	t.Helper()
	var buf bytes.Buffer
	tw := NewWriter(&buf)
	for _, e := range tartest.Sample() {
		if err := tw.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.Content); err != nil {
			t.Fatal(err)
		}
		edges = append(edges, int64(buf.Len()+Padding(int64(len(e.Content)))))
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
		if err := tartest.Check(c, data, n); err != nil || c.Entries() != int64(len(edges)) || !c.Ended() {
			t.Errorf("pieces of %d: %v, %d entries, want %d", n, err, c.Entries(), len(edges))
		}
	}
	c := &Checker{}
	second := append(bytes.Clone(data), data...) // what stands behind the end does not count
	if err := tartest.Check(c, append(second, "junk"...), 1000); err != nil || c.Entries() != int64(len(edges)) {
		t.Errorf("two tars: %v, %d entries", err, c.Entries())
	}
}

// What stands behind the end is bounded: a device of zeros is an empty tar that never ends.
func TestCheckerTail(t *testing.T) {
	for _, c := range []struct {
		tail int
		want error
	}{{maxTail, nil}, {maxTail + 1, ErrMalformed}} {
		check := &Checker{}
		err := tartest.Check(check, make([]byte, 2*blockSize+c.tail), 1<<20)
		if !errors.Is(err, c.want) {
			t.Errorf("%d bytes behind the end: %v, want %v", c.tail, err, c.want)
		}
		if c.want != nil && !strings.Contains(err.Error(), "at offset 1024") {
			t.Errorf("error %q does not say where the tar ends", err)
		}
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
		strict := tartest.Check(&Checker{}, data[:cut], 300)
		if cut > 0 && strict == nil || cut > 512 && !errors.Is(strict, ErrTruncated) {
			t.Errorf("cut at %d: %v, want ErrTruncated", cut, strict)
		}
		if cut == 0 && !errors.Is(strict, ErrEmpty) {
			t.Errorf("no bytes: %v, want ErrEmpty", strict)
		}
		lax := tartest.Check(&Checker{AllowNoEnd: true}, data[:cut], 300)
		_, err := countEntries(data[:cut])
		ok := atEdge[cut] || cut == end+blockSize
		ok = ok || lax == nil && err == nil && cut%blockSize != 0 && atEdge[cut+blockSize-cut%blockSize] // within padding
		if (lax == nil) != ok {
			t.Errorf("cut at %d, no end marker wanted: %v, want ok=%v", cut, lax, ok)
		}
	}
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
		{"type flag Z", tartest.Patch(data, second, atType, "Z"), ErrMalformed, `unknown type flag 'Z'`},
		{"size of 2^62", tartest.Patch(data, second, atSize, huge), ErrTruncated, `entry "bin/hello" at offset 512`},
		{"size of 2^63-1", tartest.Patch(data, second, atSize, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), ErrMalformed, "size"},
		{"negative size", tartest.Patch(data, second, atSize, strings.Repeat("\xff", 12)), ErrMalformed, "size -1"},
		{"size that is not octal", tartest.Patch(data, second, atSize, "0000000009"), ErrMalformed, "not octal"},
		{"lone zero block", lone, ErrMalformed, "lone zero block at offset 512"},
		{"extended header at the end", append(bytes.Clone(data[:edges[2]+1024]), zeros[:]...), ErrMalformed, "without an entry"},
		{"compressed", append([]byte("\x1f\x8b\b"), make([]byte, 600)...), ErrMalformed, "it is gzip, want a tar: was it compressed twice?"},
		{"compressed, and short", []byte("\x28\xb5\x2f\xfd and more"), ErrMalformed, "it is zstd, want a tar"},
	}
	for _, tt := range tests {
		for _, n := range []int{100, 512, 4096} {
			err := tartest.Check(&Checker{}, tt.data, n)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s, pieces of %d: %v, want %v with %q", tt.name, n, err, tt.want, tt.text)
			}
		}
	}
	if err := tartest.Check(&Checker{AllowUnknownTypes: true}, tests[3].data, 512); err != nil {
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
	if err := tartest.Check(c, data, pieces); err != nil {
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

// What archive/tar makes of odd headers is what the checker says too.
func TestCheckerOddHeaders(t *testing.T) {
	data, edges := sampleTar(t)
	second := int(edges[0])
	extended := func(record string) []byte { // a header of records, before the second entry
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": record}}); err != nil {
			t.Fatal(err)
		}
		return tartest.Patch(buf.Bytes()[:1024], 0, atType, "x")
	}
	before := func(blocks ...[]byte) []byte {
		return bytes.Join([][]byte{data[:second], bytes.Join(blocks, nil), data[second:]}, nil)
	}
	records := func(text string) []byte {
		b := extended("12345678901234567890")
		clear(b[512:])
		copy(b[512:], text)
		return tartest.Patch(b, 0, atSize, fmt.Sprintf("%011o", len(text)))
	}
	for name, data := range map[string][]byte{
		"the second extended header counts":  before(records("12 size=100\n"), records("11 path=ab\n")),
		"the size of an extended header":     before(records("12 size=100\n")),
		"a directory of before there was 5":  before(tartest.Patch(tartest.Patch(tartest.Patch(data[:512], 0, 0, "dir/\x00"), 0, atType, "\x00"), 0, atSize, "00000001000")),
		"a device number that is not octal":  tartest.Patch(data, second, atDevmajor, "0000009"),
		"a device number of another kind":    tartest.Patch(data, second, atDevminor, "x"),
		"a time that is not a number":        tartest.Patch(data, second, atMTime, "never"),
		"an owner that is not a number":      tartest.Patch(data, second, atUID, "root"),
		"a mode that is not a number":        tartest.Patch(data, second, atMode, "rwx"),
		"an empty extended header":           before(records("")),
		"a record of an extended time":       before(records("18 mtime=17.250000\n")),
		"a record of a time that is none":    before(records("15 mtime=never\n")),
		"a record that is cut":               before(records("30 mtime=17\n")),
		"a path record that names nothing":   before(records("8 path=\n")),
		"a path record behind a size record": before(records("12 size=100\n11 path=ab\n")),
	} {
		want, wantErr := countEntries(data)
		c := &Checker{AllowNoEnd: true}
		err := tartest.Check(c, data, 512)
		if (err == nil) != (wantErr == nil) || err == nil && c.Entries() != want {
			t.Errorf("%s: %d entries, %v; archive/tar: %d, %v", name, c.Entries(), err, want, wantErr)
		}
	}
}

// TestCheckerSamples holds the law on the samples of the Go distribution, if it is there.
func TestCheckerSamples(t *testing.T) {
	for _, data := range tartest.GoSamples(t) {
		checkLaw(t, data, 512)
		checkLaw(t, data, 77)
	}
}

func FuzzChecker(f *testing.F) {
	data, _ := sampleTar(f)
	f.Add(data, 100)
	for _, data := range tartest.GoSamples(f) {
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
			tw.WriteRaw(nil)
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
