package recipe

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	own "ocikit/tarutil/gzip"
	"ocikit/tarutil/zstd"
)

var update = flag.Bool("update", false, "rewrite the golden recipes")

// The race detector makes everything twenty times as slow, and what it looks for does not
// depend on how much there is: with it, and under -short, samples are smaller.
func slow() bool { return raceDetector || testing.Short() }

// mixed returns n bytes like those of a layer: text, records, noise, copies of what was before.
func mixed(n int) []byte {
	if n <= mixedSize {
		return mixedOnce()[:n:n]
	}
	return makeMixed(n)
}

const mixedSize = 300_000

var mixedOnce = sync.OnceValue(func() []byte { return makeMixed(mixedSize) })

func makeMixed(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	words := make([]string, 2000)
	for i := range words {
		for range 2 + r.IntN(8) {
			words[i] += string(rune('a' + min(r.IntN(26), r.IntN(26))))
		}
	}
	rec := make([]byte, 24)
	for len(b) < n {
		switch r.IntN(5) {
		case 0, 1:
			for range r.IntN(2000) {
				b = append(b, words[min(r.IntN(2000), r.IntN(2000))]...)
				b = append(b, ' ')
			}
		case 2:
			for range r.IntN(400) {
				rec[r.IntN(24)] = byte(r.Uint32() >> (r.IntN(8)))
				b = append(b, rec...)
			}
		case 3:
			for range r.IntN(9000) {
				b = append(b, byte(r.Uint32()))
			}
		default:
			if len(b) > 0 {
				from := r.IntN(len(b))
				b = append(b, b[from:min(len(b), from+r.IntN(40000))]...)
			}
		}
	}
	return b[:n]
}

func open(blob []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }
}

// makeAndRun makes a recipe, runs it, and returns it.
func makeAndRun(t testing.TB, blob, plain []byte) (Info, []byte) {
	t.Helper()
	var recipe, proof, got bytes.Buffer
	info, err := Make(t.Context(), &recipe, &proof, Source{Open: open(blob)}, nil)
	if err != nil {
		t.Fatalf("Make: %v", err)
	}
	if info.Proven != (proof.Len() > 0) || info.Proven && !bytes.Equal(proof.Bytes(), blob) {
		t.Fatalf("the proof of a recipe for %s has %d bytes, and is not the file of %d", info.Encoder, proof.Len(), len(blob))
	}
	if info.Size != int64(len(plain)) || info.Recipe != int64(recipe.Len()) || info.Contents != sha256.Sum256(plain) {
		t.Fatalf("Make = %+v, want %d bytes, %x, and a recipe of %d", info, len(plain), sha256.Sum256(plain), recipe.Len())
	}
	made := bytes.Clone(recipe.Bytes())

	// Contents that are there already save work, and change nothing. They count if the file begins as one
	// of ours, so the others need not be made again.
	ours := bytes.HasPrefix(blob, []byte(defaultHeader)) || bytes.HasPrefix(blob, []byte("\x28\xb5\x2f\xfd"))
	if file := (Source{Open: open(blob), Contents: func() io.Reader { return bytes.NewReader(plain) }}); ours || !slow() {
		var again bytes.Buffer
		if _, err := Make(t.Context(), &again, io.Discard, file, nil); err != nil || !bytes.Equal(again.Bytes(), made) {
			t.Fatalf("Make of the contents that are there = %v, a recipe of %d bytes, want %d", err, again.Len(), len(made))
		}
	}

	if err := Run(t.Context(), &got, iotest.HalfReader(bytes.NewReader(plain)), &recipe, int64(len(blob)), nil); err != nil {
		t.Fatalf("Run of a recipe for %s: %v", info.Encoder, err)
	}
	if !bytes.Equal(got.Bytes(), blob) {
		t.Fatalf("Run of a recipe for %s gives other bytes", info.Encoder)
	}
	return info, made
}

// packed returns what an encoder makes of plain.
func packed[W io.WriteCloser](t testing.TB, newWriter func(io.Writer) (W, error), plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := newWriter(&b)
	if err == nil {
		_, err = z.Write(plain)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compress(t testing.TB, level int, plain []byte) []byte {
	return packed(t, func(w io.Writer) (*gzip.Writer, error) { return gzip.NewWriterLevel(w, level) }, plain)
}

func ownGzip(t testing.TB, level int, plain []byte) []byte {
	return packed(t, func(w io.Writer) (*own.Writer, error) { return own.NewWriter(w, level, 1) }, plain)
}

func ownZstd(t testing.TB, level int, plain []byte) []byte {
	return packed(t, func(w io.Writer) (*zstd.Writer, error) { return zstd.NewWriter(w, level, 1) }, plain)
}

func Example() {
	plain := []byte(strings.Repeat("what is inside a layer\n", 1000))
	var blob, recipe, again bytes.Buffer
	z := gzip.NewWriter(&blob)
	z.Write(plain)
	z.Close()

	Make(context.Background(), &recipe, io.Discard, Source{Open: open(blob.Bytes())}, nil)
	err := Run(context.Background(), &again, bytes.NewReader(plain), &recipe, int64(blob.Len()), nil)
	fmt.Println(err, bytes.Equal(again.Bytes(), blob.Bytes()))
	// Output: <nil> true
}

// What package gzip writes needs nothing but its level.
func TestOwn(t *testing.T) {
	plain := mixed(140_000) // several blocks
	if !slow() {
		plain = mixed(1 << 20)
	}
	for _, level := range []int{0, 1, 6, 9} {
		info, made := makeAndRun(t, ownGzip(t, level, plain), plain)
		if want := fmt.Sprintf("ocikit -%d", level); info.Encoder != want || len(made) > 20 {
			t.Errorf("%d bytes for %s, want %s", len(made), info.Encoder, want)
		}
	}
}

// So does what package zstd writes. What another encoder wrote has no recipe.
func TestZstd(t *testing.T) {
	plain := mixed(140_000)
	blobs := map[string][]byte{}
	for _, level := range zstdLevels() {
		blob := ownZstd(t, level, plain)
		blobs[fmt.Sprint(level)] = blob
		info, made := makeAndRun(t, blob, plain)
		if want := fmt.Sprintf("ocikit zstd -%d", level); info.Encoder != want || len(made) > 8 {
			t.Errorf("%d bytes for %s, want %s", len(made), info.Encoder, want)
		}
	}

	blob := blobs["3"]
	for name, other := range map[string][]byte{
		"two frames":     append(bytes.Clone(blob), blob...),
		"a frame behind": append(bytes.Clone(blob), "\x50\x2a\x4d\x18\x01\x00\x00\x00x"...),
	} {
		if _, err := Make(t.Context(), io.Discard, io.Discard, Source{Open: open(other)}, nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("Make of %s: %v", name, err)
		}
	}
	if _, err := Make(t.Context(), io.Discard, io.Discard, Source{Open: open(blob[:len(blob)-9])}, nil); err == nil {
		t.Error("Make of a file that is cut is not an error")
	}
}

// Encoders names what Make finds, by the beginning alone.
func TestEncoders(t *testing.T) {
	plain := mixed(300_000)
	if slow() {
		plain = plain[:60_000]
	}
	for _, level := range []int{1, 6} {
		list, err := Encoders(open(ownGzip(t, level, plain)))
		if want := []string{fmt.Sprintf("ocikit -%d", level)}; err != nil || !slices.Equal(list, want) {
			t.Errorf("our level %d: %q, %v", level, list, err)
		}
		list, err = Encoders(open(compress(t, level, plain)))
		if known := strings.HasPrefix(runtime.Version(), "go1.26"); err != nil || known && (len(list) == 0 || list[0] != fmt.Sprintf("Go 1.0 to 1.26 -%d", level)) {
			t.Errorf("Go's level %d: %q, %v", level, list, err)
		}
	}
	for _, level := range zstdLevels() { // more than Encoders looks at, of which the header tells
		if slow() {
			break
		}
		list, err := Encoders(open(ownZstd(t, level, bytes.Repeat(plain, 9<<20/len(plain)))))
		if want := []string{zstdName(level)}; err != nil || !slices.Equal(list, want) {
			t.Errorf("our zstd of level %d: %q, %v", level, list, err)
		}
	}
	if list, err := Encoders(open(compress(t, gzip.NoCompression, plain[:60_000]))); err != nil || len(list) > 0 {
		t.Errorf("stored: %q, %v", list, err)
	}
	for _, bad := range []string{"", "no gzip", "\x1f\x8b\x08"} {
		if _, err := Encoders(open([]byte(bad))); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// Go's own encoder is known, as long as this is a Go that has it.
func TestGo(t *testing.T) {
	plain, levels := mixed(300_000), []int{1, 2, 3, 4, 5, 6, 7, 8, 9}
	if slow() {
		plain, levels = plain[:30_000], []int{1, 2, 6, 9} // a level of each kind
	}
	known := strings.HasPrefix(runtime.Version(), "go1.26")
	for _, level := range levels {
		blob := compress(t, level, plain)
		info, made := makeAndRun(t, blob, plain)
		if known && len(made) > 40+len(blob)/1000 {
			t.Errorf("level %d: %d bytes of %d, for %s", level, len(made), len(blob), info.Encoder)
		}
	}
	makeAndRun(t, compress(t, gzip.HuffmanOnly, plain), plain)
	makeAndRun(t, compress(t, gzip.NoCompression, plain), plain)
}

// programs compress standard input; the recipe may have so many bytes of 10000.
func programs() []struct {
	share int
	args  []string
} {
	type program = struct {
		share int
		args  []string
	}
	const python = "import sys,zlib; c=zlib.compressobj(int(sys.argv[1]),8,31); d=sys.stdin.buffer.read(); sys.stdout.buffer.write(c.compress(d)+c.flush())"
	var list []program
	for _, level := range []string{"1", "4", "6", "9"} {
		list = append(list, program{20, []string{"gzip", "-n", "-" + level}}, program{20, []string{"pigz", "-n", "-" + level}}, program{20, []string{"python3", "-c", python, level}})
	}
	return append(list, program{3000, []string{"igzip", "-c"}},
		program{3000, []string{"libdeflate-gzip", "-12"}}, program{3000, []string{"7z", "a", "-tgzip", "-si", "-so", "x"}})
}

func TestPrograms(t *testing.T) {
	size := 600_000
	if slow() {
		size = 12_000
	}
	plain := mixed(size)
	for i, p := range programs() {
		if raceDetector && i%4 != 0 { // each kind of program once
			continue
		}
		t.Run(p.args[0]+p.args[len(p.args)-1], func(t *testing.T) {
			if _, err := exec.LookPath(p.args[0]); err != nil {
				t.Skipf("no %s here", p.args[0])
			}
			cmd := exec.Command(p.args[0], p.args[1:]...)
			cmd.Stdin = bytes.NewReader(plain)
			blob, err := cmd.Output()
			if err != nil {
				t.Skipf("%v: %v", p.args, err)
			}
			info, made := makeAndRun(t, blob, plain)
			if len(made) > 40+p.share*len(blob)/10000 {
				t.Errorf("%d bytes of %d, for %s", len(made), len(blob), info.Encoder)
			}
		})
	}
}

// All that a gzip file may be.
func TestForms(t *testing.T) {
	a, b := mixed(300_000), mixed(90_000)
	if slow() {
		a, b = a[:20_000], b[:8_000]
	}
	named := func() []byte {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		z.Name, z.Comment, z.Extra = "n\u00e4me", "comment", bytes.Repeat([]byte("extra"), 100)
		z.Write(a)
		z.Close()
		return buf.Bytes()
	}()
	flushed := func() []byte {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		for i := 0; i < len(a); i += 4000 {
			z.Write(a[i:min(len(a), i+4000)])
			z.Flush()
		}
		z.Close()
		return buf.Bytes()
	}()
	ga, gb, none := compress(t, 6, a), compress(t, 9, b), compress(t, 6, nil)
	literals := func(p []byte) []byte { return compress(t, gzip.HuffmanOnly, p) }
	join := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	wrong := bytes.Clone(ga)
	wrong[len(wrong)-5]++ // a wrong checksum is for others to find
	for _, c := range []struct {
		name        string
		blob, plain []byte
	}{
		{"empty", none, nil},
		{"three members", join(ga, gb, none), join(a, b)},
		{"zeros behind", join(ga, make([]byte, 3000)), a},
		{"junk behind", join(ga, []byte("junk")), a},
		{"a name", named, a},
		{"flushes", flushed, a},
		{"own, then another", join(ownGzip(t, 6, a), gb), join(a, b)},
		{"own members", join(ownGzip(t, 1, a), ownGzip(t, 1, b)), join(a, b)},
		{"own, with an empty one behind", join(ownGzip(t, 9, a), named[:10], none), a},
		{"a wrong checksum", wrong, a},
		{"no matches where some are expected", join(literals(a[:3000]), literals(b[:7000]), literals(a[3000:8000]), ga), join(a[:3000], b[:7000], a[3000:8000], a)},
		{"stored", compress(t, 0, a), a},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "own, with an empty one behind" {
				c.blob = join(ownGzip(t, 9, a), none)
			}
			makeAndRun(t, c.blob, c.plain)
		})
	}
	for _, bad := range [][]byte{nil, []byte("x"), ga[:9], ga[:1000], ga[:len(ga)-1], join([]byte{0}, ga)} {
		if _, err := Make(t.Context(), io.Discard, io.Discard, Source{Open: open(bad)}, nil); err == nil {
			t.Errorf("Make of %d damaged bytes is not an error", len(bad))
		}
	}
}

// A file of blocks, headers or junk without contents is not taken apart: each would take more memory than
// it has bytes, and nothing bounds how many there are.
func TestHardlyAnyContents(t *testing.T) {
	one := compress(t, 6, []byte("x"))
	none := compress(t, 6, nil)
	name := append([]byte("\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff"), append(bytes.Repeat([]byte("a"), 600_000), 0)...)
	name = append(name, none[10:]...)
	stored := append([]byte(defaultHeader), bytes.Repeat([]byte("\x00\x00\x00\xff\xff"), 20_000)...)
	for what, blob := range map[string][]byte{
		"members": append(bytes.Clone(one), bytes.Repeat(none, 10_000)...),
		"blocks":  append(stored, one[10:]...),
		"names":   bytes.Repeat(name, 3),
		"junk":    append(bytes.Clone(one), make([]byte, 2<<20)...),
		"zstd":    []byte("\x50\x2a\x4d\x18\x00\x00\x00\x00\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00x"), // behind a skippable frame
	} {
		if _, err := Make(t.Context(), io.Discard, io.Discard, Source{Open: open(blob)}, nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v, want %v", what, err, ErrUnknown)
		}
		if names, err := Encoders(open(blob)); len(names) > 0 || err != nil {
			t.Errorf("%s: Encoders = %q, %v, want none", what, names, err)
		}
	}

	// Nor does a recipe get memory for a segment that Make would not have made.
	bad := []byte(magic + "\x01\x00\x00\x00\x00")
	bad = binary.AppendUvarint(bad, maxBits+1)
	if err := Run(t.Context(), io.Discard, strings.NewReader(""), bytes.NewReader(append(bad, 0, 0, 0)), 1<<40, nil); err == nil || !strings.Contains(err.Error(), "the length of a segment") {
		t.Errorf("a segment of %d bits: %v", maxBits+1, err)
	}
}

// A file that ends too early is malformed wherever that is, and a failure of reading is told as it is.
func TestCut(t *testing.T) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	z.Name, z.Comment, z.Extra = "name", "comment", []byte("extra")
	z.Write(mixed(3000))
	z.Close()
	whole := append(buf.Bytes(), compress(t, gzip.HuffmanOnly, []byte("another"))...)
	whole = append(whole, compress(t, gzip.NoCompression, []byte("stored"))...)

	ends := map[int]bool{} // of members, where a file may end, or have a byte of something else
	for n := range whole {
		if n > 0 && bytes.HasPrefix(whole[n:], []byte("\x1f\x8b\x08")) {
			ends[n], ends[n+1] = true, true
		}
	}

	step := 0
	if slow() {
		step = 7
	}
	for n := 0; n < len(whole); n += 1 + bit(n > 40)*step {
		_, err := Encoders(open(whole[:n]))
		if !ends[n] && (!errors.Is(err, ErrFormat) || n != 1 && !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("cut at %d of %d: %v", n, len(whole), err)
		}

		failing := func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(io.ErrClosedPipe))), nil
		}
		if _, err := Encoders(failing); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("unreadable from %d of %d on: %v", n, len(whole), err)
		}
	}
}

// A recipe means the same forever.
func TestGolden(t *testing.T) {
	plain := mixed(300_000)
	golden := filepath.Join("testdata", "golden.txt")
	if *update {
		updateGolden(t, golden, plain)
	}
	data, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range slices.Collect(strings.Lines(string(data))) {
		if raceDetector && i%3 != 0 {
			continue
		}
		var name, want, text string
		var size int64
		fmt.Sscan(line, &name, &size, &want, &text)
		recipe, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := Run(t.Context(), &got, bytes.NewReader(plain), bytes.NewReader(recipe), size, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if sum := fmt.Sprintf("%x", sha256.Sum256(got.Bytes())); sum != want {
			t.Errorf("%s: got %s, want %s", name, sum, want)
		}
	}
}

// updateGolden rewrites the lines of encoders that are here, and keeps those of others.
func updateGolden(t *testing.T, golden string, plain []byte) {
	t.Helper()
	lines := map[string]string{}
	data, _ := os.ReadFile(golden)
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, " ")
		lines[name] = line
	}
	note := func(name string, blob []byte) {
		if _, made := makeAndRun(t, blob, plain); len(made) < 1000 {
			lines[name] = fmt.Sprintf("%s %d %x %x\n", name, len(blob), sha256.Sum256(blob), made)
		}
	}
	for _, p := range programs() {
		cmd := exec.Command(p.args[0], p.args[1:]...)
		cmd.Stdin = bytes.NewReader(plain)
		if blob, err := cmd.Output(); err == nil {
			note(p.args[0]+p.args[len(p.args)-1], blob)
		}
	}
	for level := 1; level <= 9; level++ {
		version, _, _ := strings.Cut(strings.TrimPrefix(runtime.Version(), "go1."), ".")
		note(fmt.Sprintf("go1.%s-%d", version, level), compress(t, level, plain))
	}
	for _, name := range strings.Fields(os.Getenv("OCIKIT_GOLDEN_BLOBS")) { // of other encoders, for the same bytes
		blob, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		note(filepath.Base(name), blob)
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		text.WriteString(lines[name])
	}
	if err := os.WriteFile(golden, []byte(text.String()), 0o666); err != nil {
		t.Fatal(err)
	}
}

// A damaged recipe gives an error or other bytes, never a panic, and never too many.
func TestDamaged(t *testing.T) {
	plain := mixed(200_000)
	if slow() {
		plain = plain[:40_000]
	}
	for _, whole := range [][]byte{ownGzip(t, 6, plain), compress(t, 6, plain)} {
		_, made := makeAndRun(t, whole, plain)
		err := Run(t.Context(), io.Discard, bytes.NewReader(plain), bytes.NewReader(append(made, 0)), int64(len(whole)), nil)
		if !errors.Is(err, ErrRecipe) {
			t.Errorf("a recipe with a byte behind its end: %v", err)
		}
	}

	half := len(plain) / 2
	blob := append(compress(t, 6, plain[:half]), compress(t, 1, plain[half:])...)
	_, made := makeAndRun(t, blob, plain)
	for n := 0; n < len(made); n += 1 + len(made)/40 {
		if err := Run(t.Context(), io.Discard, bytes.NewReader(plain), bytes.NewReader(made[:n]), int64(len(blob)), nil); err == nil {
			t.Errorf("a recipe cut at %d of %d is followed", n, len(made))
		}
		bad := bytes.Clone(made)
		bad[n] ^= 1 << (n % 8)
		var got bytes.Buffer
		if err := Run(t.Context(), &got, bytes.NewReader(plain), bytes.NewReader(bad), int64(len(blob)), nil); got.Len() > len(blob) {
			t.Errorf("byte %d flipped: %d bytes, want %d at most: %v", n, got.Len(), len(blob), err)
		}
	}
	for _, size := range []int64{0, int64(len(blob)) - 1, int64(len(blob)) + 1} {
		if err := Run(t.Context(), io.Discard, bytes.NewReader(plain), bytes.NewReader(made), size, nil); err == nil {
			t.Errorf("%d bytes were made where %d were wanted", len(blob), size)
		}
	}
	for _, n := range []int{0, 1000, len(plain) - 1, len(plain)} {
		p := bytes.NewReader(append(bytes.Clone(plain[:n]), "more"[:4*bit(n == len(plain))]...))
		if err := Run(t.Context(), io.Discard, p, bytes.NewReader(made), int64(len(blob)), nil); err == nil {
			t.Errorf("%d of %d bytes are enough", n, len(plain))
		}
	}
}

func FuzzRun(f *testing.F) {
	plain := mixed(20_000)
	for _, level := range []int{1, 6} {
		blob := compress(f, level, plain)
		_, made := makeAndRun(f, blob, plain)
		f.Add(made, int64(len(blob)))
	}
	_, made := makeAndRun(f, ownGzip(f, 6, plain), plain)
	f.Add(made, int64(len(plain)))
	f.Add([]byte(magic+"\x03\x01"), int64(len(plain)))
	f.Fuzz(func(t *testing.T, recipe []byte, size int64) {
		size = min(size, 1<<20)
		var got bytes.Buffer
		err := Run(t.Context(), &got, bytes.NewReader(plain), bytes.NewReader(recipe), size, nil)
		if err == nil && int64(got.Len()) != size || int64(got.Len()) > max(size, 0) {
			t.Errorf("%d bytes, want %d: %v", got.Len(), size, err)
		}
	})
}

func FuzzMake(f *testing.F) {
	plain := mixed(20_000)
	f.Add(compress(f, 6, plain))
	f.Add(append(compress(f, 1, plain), ownGzip(f, 9, plain[:500])...))
	f.Add(compress(f, gzip.HuffmanOnly, plain))
	f.Fuzz(func(t *testing.T, blob []byte) {
		var recipe, proof bytes.Buffer
		info, err := Make(t.Context(), &recipe, &proof, Source{Open: open(blob)}, nil)
		if err != nil || info.Size > 1<<20 {
			return
		}
		if info.Proven && !bytes.Equal(proof.Bytes(), blob) {
			t.Errorf("the proof for %s is not the file", info.Encoder)
		}
		p := newParser(bytes.NewReader(blob))
		var plain []byte
		for s, err := p.next(); err == nil; s, err = p.next() {
			plain = append(plain, s.data[s.start:s.end]...)
		}
		var got bytes.Buffer
		if err := Run(t.Context(), &got, bytes.NewReader(plain), &recipe, int64(len(blob)), nil); err != nil || !bytes.Equal(got.Bytes(), blob) {
			t.Errorf("Run for %s: %d bytes of %d: %v", info.Encoder, got.Len(), len(blob), err)
		}
	})
}
