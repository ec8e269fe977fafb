package gunzip

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"ocikit/tarutil/internal/tartest"
)

// model makes content that repeats itself, near and far.
func model(rnd *rand.Rand, size int) []byte {
	alphabet := 1 + rnd.IntN(256)
	out := make([]byte, 0, size)
	for len(out) < size {
		n := 1 + rnd.IntN(1<<rnd.IntN(12))
		if len(out) > 0 && rnd.IntN(3) > 0 {
			from := rnd.IntN(len(out))
			for range n {
				out = append(out, out[from])
				from++
			}
			continue
		}
		for range n {
			out = append(out, byte(rnd.IntN(alphabet)))
		}
	}
	return out[:size]
}

func compress(t testing.TB, content []byte, level int) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, level)
	if err != nil {
		t.Fatal(err)
	}
	zw.Write(content)
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func decompress(r io.Reader) ([]byte, error) {
	z, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(tartest.Reps(25, 8)) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		content := model(rnd, rnd.IntN(1<<rnd.IntN(21)))
		for _, level := range []int{gzip.NoCompression, gzip.BestSpeed, gzip.DefaultCompression, gzip.BestCompression, gzip.HuffmanOnly} {
			packed := compress(t, content, level)
			for name, r := range map[string]io.Reader{"whole": bytes.NewReader(packed), "halves": iotest.HalfReader(bytes.NewReader(packed)), "with error": iotest.DataErrReader(bytes.NewReader(packed))} {
				got, err := decompress(r)
				if err != nil || !bytes.Equal(got, content) {
					t.Fatalf("seed %d, level %d, %s: %d bytes, %v; want %d", seed, level, name, len(got), err, len(content))
				}
			}
		}
	}
}

func TestReaderContract(t *testing.T) {
	content := model(rand.New(rand.NewPCG(1, 1)), 300_000)
	packed := compress(t, content, 6)
	z, err := NewReader(iotest.OneByteReader(bytes.NewReader(packed)))
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(z, content); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if _, err := decompress(io.MultiReader(bytes.NewReader(packed[:5000]), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("error of the source: got %v", err)
	}
	if _, err := decompress(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error at once: got %v", err)
	}
}

func TestMembers(t *testing.T) {
	a, b := compress(t, []byte("first"), 6), compress(t, []byte("second"), 1)
	named := new(bytes.Buffer)
	zw := gzip.NewWriter(named)
	zw.Name, zw.Comment, zw.Extra = "name", "comment", []byte("extra")
	zw.Write([]byte("named"))
	zw.Close()
	for _, test := range []struct {
		name string
		data []byte
		want string
		ok   bool
	}{
		{"two members", append(bytes.Clone(a), b...), "firstsecond", true},
		{"name, comment, extra", named.Bytes(), "named", true},
		{"padding", append(bytes.Clone(a), make([]byte, 1000)...), "first", true},
		{"junk", append(bytes.Clone(a), "junk"...), "first", false},
		{"member behind padding", append(append(bytes.Clone(a), 0), b...), "first", false},
		{"cut second header", append(bytes.Clone(a), b[:5]...), "first", false},
		{"empty member", append(compress(t, nil, 6), b...), "second", true},
		{"no header", []byte("hello, this is no gzip"), "", false},
		{"nothing", nil, "", false},
	} {
		got, err := decompress(bytes.NewReader(test.data))
		if string(got) != test.want || (err == nil) != test.ok {
			t.Errorf("%s: got %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

// sameAsStandard holds what we say of a stream against what compress/gzip says.
func sameAsStandard(t testing.TB, data []byte) {
	t.Helper()
	const most = 16 << 20
	got, err := decompressSome(func(r io.Reader) (io.Reader, error) { return NewReader(r) }, data, most)
	want, wantErr := decompressSome(func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }, data, most)
	padded := len(data) > 0 && data[len(data)-1] == 0 // behind the last member: an error to the one only
	if (err == nil) != (wantErr == nil) && !(err == nil && padded) {
		t.Fatalf("got %d bytes, %v; compress/gzip says %d bytes, %v", len(got), err, len(want), wantErr)
	}
	if err == nil && !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, compress/gzip %d, and they differ", len(got), len(want))
	}
}

func decompressSome(open func(io.Reader) (io.Reader, error), data []byte, most int64) ([]byte, error) {
	r, err := open(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, most))
}

// TestDamage flips bits of streams of all kinds of blocks, and cuts them. A large buffer is made
// once: the race detector is slow to clear many.
func TestDamage(t *testing.T) {
	buffered := bufio.NewReaderSize(nil, 64<<10)
	for seed := range uint64(2) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		content := model(rnd, 1500)
		for _, level := range []int{gzip.NoCompression, gzip.BestSpeed, gzip.BestCompression, gzip.HuffmanOnly} {
			packed := compress(t, content, level)
			for i := 0; i < len(packed); i += tartest.Reps(1, 7) {
				bad := bytes.Clone(packed)
				bad[i] ^= 1 << rnd.IntN(8)
				sameAsStandard(t, bad)
				buffered.Reset(bytes.NewReader(packed[:i]))
				if _, err := decompress(buffered); err == nil {
					t.Fatalf("cut at %d: no error", i)
				}
			}
		}
	}
}

// TestRawBlocks has blocks that no program writes, made of random bits behind a header.
func TestRawBlocks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 9))
	header := compress(t, nil, 6)[:10]
	for range tartest.Reps(6_000, 1_000) {
		data := bytes.Clone(header)
		for range 1 + rnd.IntN(80) {
			data = append(data, byte(rnd.Uint32()))
		}
		// The blocks alone: a checksum would never be right.
		want, wantErr := io.ReadAll(flate.NewReader(bytes.NewReader(data[10:])))
		z, err := NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		err = z.f.decode()
		got := z.f.buf[:z.f.at]
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%x: got %d bytes, %v; compress/flate %d bytes, %v", data[10:], len(got), err, len(want), wantErr)
		}
	}
}

func FuzzReader(f *testing.F) {
	for seed := range uint64(5) {
		content := model(rand.New(rand.NewPCG(seed, 3)), 2000)
		for _, level := range []int{gzip.NoCompression, gzip.BestSpeed, gzip.BestCompression, gzip.HuffmanOnly} {
			f.Add(compress(f, content, level))
		}
	}
	f.Add(append(compress(f, []byte("a"), 1), compress(f, []byte("b"), 9)...))
	f.Fuzz(func(t *testing.T, data []byte) { sameAsStandard(t, data) })
}

func BenchmarkReader(b *testing.B) {
	var content bytes.Buffer
	files, _ := filepath.Glob("../*.go")
	for content.Len() < 8<<20 {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				b.Fatal(err)
			}
			content.Write(data)
		}
		exe, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		data, err := os.ReadFile(exe)
		if err != nil {
			b.Fatal(err)
		}
		content.Write(data[:min(len(data), 4<<20)])
	}
	packed := compress(b, content.Bytes(), 6)
	for name, open := range map[string]func(io.Reader) (io.Reader, error){
		"ours":     func(r io.Reader) (io.Reader, error) { return NewReader(r) },
		"standard": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(content.Len()))
			b.ReportAllocs()
			for b.Loop() {
				r, err := open(bufio.NewReaderSize(bytes.NewReader(packed), 64<<10))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != int64(content.Len()) {
					b.Fatal(fmt.Sprint(n, err))
				}
			}
		})
	}
}
