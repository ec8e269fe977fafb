package digest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const emptySHA256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	hex64, hex128 := strings.Repeat("a", 64), strings.Repeat("0", 128)
	for _, c := range []struct {
		name, in   string
		ok, verify bool
	}{
		{"sha256", "sha256:" + hex64, true, true},
		{"sha512", "sha512:" + hex128, true, true},
		{"unknown algorithm", "blake3:abcdef", true, false},
		{"composed algorithm", "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", true, false},
		{"empty", "", false, false},
		{"no algorithm", hex64, false, false},
		{"no hex", "sha256:", false, false},
		{"short", "sha256:abcd", false, false},
		{"long", "sha256:" + hex64 + "a", false, false},
		{"upper case", "sha256:" + strings.Repeat("A", 64), false, false},
		{"climbing", "sha256:../../etc/passwd", false, false},
		{"climbing, unknown algorithm", "x:../../etc/passwd", false, false},
		{"slash in algorithm", "a/b:cd", false, false},
		{"dot dot algorithm", "..:cd", false, false},
		{"second colon", "sha256:" + hex64 + ":t", false, false},
		{"newline", "sha256:" + hex64 + "\n", false, false},
		{"longest", "x:" + strings.Repeat("a", maxLength-2), true, false},
		{"as long, but malformed", "x:" + strings.Repeat("/", maxLength-2), false, false},
		{"too long by one", "x:" + strings.Repeat("a", maxLength-1), false, false},
		{"endless", "x:" + strings.Repeat("a", 1<<20), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Parse(c.in)
			if (err == nil) != c.ok {
				t.Fatalf("Parse(%.80q) = %v, %v, want ok %t", c.in, d, err, c.ok)
			}
			if err != nil {
				if !errors.Is(err, ErrMalformed) || !d.IsZero() || len(err.Error()) > 400 {
					t.Errorf("Parse(%.80q) = %v, %v, want the zero digest and ErrMalformed", c.in, d, err)
				}
				if cut := strings.Contains(err.Error(), "…"); cut != (len(c.in) > maxLength) {
					t.Errorf("Parse(%.80q): %v: shown as cut is %t", c.in, err, cut)
				}
				return
			}
			if d.String() != c.in || d.Verifiable() != c.verify {
				t.Errorf("Parse(%q) = %v, verifiable %t", c.in, d, d.Verifiable())
			}
		})
	}
}

func TestJSON(t *testing.T) {
	var d Digest
	if err := json.Unmarshal([]byte(`"sha256:zz"`), &d); !errors.Is(err, ErrMalformed) {
		t.Errorf("Unmarshal of a malformed digest: %v", err)
	}
	if b, err := json.Marshal(FromBytes(nil)); err != nil || string(b) != `"`+emptySHA256+`"` {
		t.Errorf("Marshal = %s, %v", b, err)
	}
	if _, err := json.Marshal(Digest{}); err == nil {
		t.Error("Marshal of the zero digest succeeded")
	}
}

func TestReader(t *testing.T) {
	data := bytes.Repeat([]byte("layer "), 10_000)
	want := FromBytes(data)
	if err := iotest.TestReader(NewReader(bytes.NewReader(data), want, int64(len(data))), data); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		name string
		r    io.Reader
		want Digest
		size int64
		err  error
	}{
		{"right", bytes.NewReader(data), want, int64(len(data)), nil},
		{"size unknown", bytes.NewReader(data), want, -1, nil},
		{"one byte at a time", iotest.OneByteReader(bytes.NewReader(data)), want, int64(len(data)), nil},
		{"data with EOF", iotest.DataErrReader(bytes.NewReader(data)), want, int64(len(data)), nil},
		{"short", bytes.NewReader(data[1:]), want, int64(len(data)), ErrMismatch},
		{"long", io.MultiReader(bytes.NewReader(data), strings.NewReader("x")), want, int64(len(data)), ErrMismatch},
		{"other bytes", strings.NewReader("other"), want, 5, ErrMismatch},
		{"error in the middle", iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(data))), want, int64(len(data)), iotest.ErrTimeout},
		{"unknown algorithm", bytes.NewReader(data), Digest{"blake3:ab"}, -1, ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := io.Copy(io.Discard, NewReader(c.r, c.want, c.size))
			if !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
		})
	}
}

// An endless source under a promised size must end at once, not fill a disk.
func TestReaderStopsAtSize(t *testing.T) {
	for _, size := range []int64{0, 1, 100} {
		r := NewReader(iotest.OneByteReader(zeros{}), FromBytes(nil), size)
		n, err := io.CopyN(io.Discard, r, 1000)
		if !errors.Is(err, ErrMismatch) || n != size+1 || r.Size() != n {
			t.Errorf("size %d: read %d bytes, counted %d, error %v; want one too many and ErrMismatch", size, n, r.Size(), err)
		}
	}
	if r := NewReader(zeros{}, Digest{"blake3:ab"}, -1); r.Size() != 0 {
		t.Errorf("unknown algorithm: %d bytes before the first was read", r.Size())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRestore(t *testing.T) {
	for _, alg := range []Algorithm{SHA256, SHA512} {
		h := NewHasher(alg)
		io.WriteString(h, "hello, ")
		state, err := h.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		g, err := Restore(alg, state, h.Size())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(h, "world")
		io.WriteString(g, "world")
		if g.Digest() != h.Digest() || g.Size() != 12 {
			t.Errorf("%s: restored hasher gives %s, want %s", alg, g.Digest(), h.Digest())
		}
		if _, err := Restore(alg, state, 8); err == nil {
			t.Errorf("%s: a state was restored under another count", alg)
		}
		if _, err := Restore(alg, state[1:], 7); err == nil {
			t.Errorf("%s: a cut state was restored", alg)
		}
	}
	if _, err := Restore("blake3", nil, 0); !errors.Is(err, ErrUnsupported) {
		t.Errorf("unknown algorithm: %v", err)
	}
}

// A document may be named by any algorithm, whether it is hashed at once or as it passes.
func TestFromBytes(t *testing.T) {
	for _, alg := range []Algorithm{SHA256, SHA512} {
		want, n, err := FromReader(alg, strings.NewReader("document"))
		if got := alg.FromBytes([]byte("document")); got != want || n != 8 || err != nil {
			t.Errorf("%s: FromBytes = %s, FromReader = %s, %d, %v", alg, got, want, n, err)
		}
	}
	if FromBytes(nil).String() != emptySHA256 {
		t.Errorf("FromBytes(nil) = %s", FromBytes(nil))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(emptySHA256)
	f.Add("sha256:../x")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s)
		if err == nil && (d.String() != s || strings.ContainsAny(s, "/\\\x00\n") || d.Algorithm() == "") {
			t.Errorf("Parse(%q) = %q", s, d)
		}
	})
}
