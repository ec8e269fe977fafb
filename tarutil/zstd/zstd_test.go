package zstd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"ocikit/tarutil/internal/tartest"
)

var update = flag.Bool("update", false, "make the samples in testdata again, with the zstd program")

// corpus returns contents of many sorts, always the same.
func corpus() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	var text bytes.Buffer
	words := strings.Fields("the quick brown fox jumps over a lazy dog while 7 zebras quietly vex 13 big jocks; {}[]() = := return err nil func")
	for text.Len() < 700_000 {
		text.WriteString(words[rnd.IntN(len(words))])
		text.WriteByte(" \n\t."[min(rnd.IntN(12), 3)])
	}
	skewed := make([]byte, 200_000)
	for i := range skewed {
		skewed[i] = byte(min(rnd.ExpFloat64()*6, 255))
	}
	far := append(bytes.Clone(noise), make([]byte, 200_000)...)
	far = append(far, noise...)
	long := bytes.Repeat([]byte("abcdefg"), 100_000)
	return map[string][]byte{
		"empty": {}, "one": {'x'}, "zeros": make([]byte, 1_000_000), "noise": noise, "text": text.Bytes(),
		"skewed": skewed, "far": far, "period": long, "mixed": append(append(append([]byte{}, text.Bytes()[:100_000]...), noise[:150_000]...), long[:200_000]...),
		"short": []byte("hello, hello, hello world"), "two": bytes.Repeat([]byte{0, 1}, 70_000),
	}
}

func decompress(data []byte) ([]byte, error) { return io.ReadAll(NewReader(bytes.NewReader(data))) }

// compress runs the zstd program.
func compress(t testing.TB, content []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("zstd", append([]string{"-q", "-c"}, args...)...)
	cmd.Stdin = bytes.NewReader(content)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("zstd %v: %v: %s", args, err, stderr.Bytes())
	}
	return out
}

func needProgram(t testing.TB) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Skip("the program zstd is not installed")
	}
}

func TestAgainstProgram(t *testing.T) {
	needProgram(t)
	contents := corpus()
	for i, name := range slices.Sorted(maps.Keys(contents)) {
		content := contents[name]
		for j, args := range [][]string{
			{"-1"}, {"-3"}, {"-19"}, {"--fast=5"}, {"-3", "--long"}, {"-19", "--long=27"}, {"-3", "--no-check"},
			{"-3", fmt.Sprintf("--stream-size=%d", len(content))}, {"-1", "--no-compress-literals"}, {"-3", "--rsyncable"},
		} {
			if (i+j)%tartest.Reps(1, 10) != 0 { // -short: each in one way
				continue
			}
			packed := compress(t, content, args...)
			got, err := decompress(packed)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, zstd %v: %d bytes, %v; want %d bytes", name, args, len(got), err, len(content))
			}
		}
	}
}

// TestRandomContent is the same with contents from a model that repeats itself in odd ways.
func TestRandomContent(t *testing.T) {
	needProgram(t)
	for seed := range 8 {
		rnd := rand.New(rand.NewPCG(uint64(seed), 5))
		content := model(rnd, 1+rnd.IntN(1<<20))
		for i, level := range []string{"-1", "-3", "-12", "-19"} {
			if (seed+i)%tartest.Reps(1, 16) != 0 {
				continue
			}
			got, err := decompress(compress(t, content, level))
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("seed %d, level %s: %d bytes, %v; want %d bytes", seed, level, len(got), err, len(content))
			}
		}
	}
}

func model(rnd *rand.Rand, size int) []byte {
	alphabet := 1 + rnd.IntN(256)
	out := make([]byte, 0, size)
	for len(out) < size {
		switch n := 1 + rnd.IntN(1<<rnd.IntN(13)); {
		case len(out) > 0 && rnd.IntN(3) > 0:
			from := rnd.IntN(len(out))
			for range n {
				out = append(out, out[from])
				from++
			}
		default:
			for range n {
				out = append(out, byte(rnd.IntN(alphabet)))
			}
		}
	}
	return out[:size]
}

// samples are the files in testdata: how they are made, and of what.
func samples() map[string][]string {
	return map[string][]string{
		"level1": {"-1"}, "level3": {"-3"}, "level19": {"-19"}, "long": {"-3", "--long=27"}, "nocheck": {"-3", "--no-check"},
		"single": {"-19", "--stream-size=60000"}, "fast": {"--fast=9"}, "rawliterals": {"-3", "--no-compress-literals"},
	}
}

func sampleContent() []byte { return model(rand.New(rand.NewPCG(3, 4)), 60_000) }

// TestSamples needs no program: its output was kept.
func TestSamples(t *testing.T) {
	content := sampleContent()
	for name, args := range samples() {
		file := filepath.Join("testdata", name+".zst")
		if *update {
			if err := os.WriteFile(file, compress(t, content, args...), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		packed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decompress(packed)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v; want %d bytes", file, len(got), err, len(content))
		}
	}
}

func readSample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestReaderContract(t *testing.T) {
	packed, content := readSample(t, "level19"), sampleContent()
	if err := iotest.TestReader(NewReader(bytes.NewReader(packed)), content); err != nil {
		t.Error(err)
	}
	if err := iotest.TestReader(NewReader(iotest.OneByteReader(bytes.NewReader(packed))), content); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
	broken := errors.New("broken")
	for _, r := range []io.Reader{iotest.ErrReader(broken), io.MultiReader(bytes.NewReader(packed[:5000]), iotest.ErrReader(broken))} {
		if _, err := io.ReadAll(NewReader(r)); !errors.Is(err, broken) {
			t.Errorf("error of the source: got %v, want %v", err, broken)
		}
	}
}

// frame makes a frame without a size and a checksum, of blocks that are given raw.
func frame(window byte, blocks ...[]byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, magic)
	return append(append(out, 0, window), bytes.Join(blocks, nil)...)
}

// block makes a block; size is that in its header.
func block(last bool, kind, size int, content ...byte) []byte {
	h := uint32(size<<3 | kind<<1)
	if last {
		h |= 1
	}
	return append([]byte{byte(h), byte(h >> 8), byte(h >> 16)}, content...)
}

func skippable(nibble byte, content string) []byte {
	out := binary.LittleEndian.AppendUint32(nil, magicSkip|uint32(nibble))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(content)))
	return append(out, content...)
}

func TestFrames(t *testing.T) {
	ab := frame(0, block(false, 0, 2, 'a', 'b'), block(true, 1, 3, 'c'))
	for _, test := range []struct {
		name string
		data []byte
		want string
		err  error
	}{
		{"nothing", nil, "", nil},
		{"raw and repeated", ab, "abccc", nil},
		{"two frames", append(bytes.Clone(ab), ab...), "abcccabccc", nil},
		{"only a frame to skip", skippable(7, "xyz"), "", nil},
		{"frames to skip around", bytes.Join([][]byte{skippable(0, ""), ab, skippable(15, "note"), ab, skippable(3, "end")}, nil), "abcccabccc", nil},
		{"empty last block", frame(0, block(false, 0, 1, 'x'), block(true, 0, 0)), "x", nil},
		{"cut magic", ab[:3], "", io.ErrUnexpectedEOF},
		{"cut header", ab[:5], "", io.ErrUnexpectedEOF},
		{"cut in a block", ab[:10], "", io.ErrUnexpectedEOF},
		{"no last block", ab[:len(ab)-4], "ab", io.ErrUnexpectedEOF},
		{"cut frame to skip", skippable(0, "abc")[:9], "", io.ErrUnexpectedEOF},
		{"no frame", []byte("hello"), "", ErrCorrupt},
		{"junk behind", append(bytes.Clone(ab), "junk"...), "abccc", ErrCorrupt},
		{"zeros behind", append(bytes.Clone(ab), make([]byte, 512)...), "abccc", ErrCorrupt},
		{"reserved bit", func() []byte { f := bytes.Clone(ab); f[4] |= 8; return f }(), "", ErrCorrupt},
		{"reserved block", frame(0, block(true, 3, 0)), "", ErrCorrupt},
		{"block over the window", frame(0, block(true, 1, 1025, 'c')), "", ErrCorrupt},
		{"block over 128 KiB", frame(0x80, block(true, 1, 128<<10+1, 'c')), "", ErrCorrupt},
		{"dictionary", append(binary.LittleEndian.AppendUint32(nil, magic), 1, 0, 77), "", ErrUnsupported},
		{"dictionary 0 is none", append(append(binary.LittleEndian.AppendUint32(nil, magic), 1, 0, 0), block(true, 0, 1, 'x')...), "x", nil},
		{"window of 128 MiB", frame(17<<3, block(true, 0, 1, 'x')), "x", nil},
		{"window over 128 MiB", frame(17<<3|1, block(true, 0, 1, 'x')), "", ErrUnsupported},
		{"largest window", frame(0xff, block(true, 0, 1, 'x')), "", ErrUnsupported},
		{"single segment of 1 GiB", append(binary.LittleEndian.AppendUint32(nil, magic), 0xa0, 0, 0, 0, 0x40), "", ErrUnsupported},
		{"too little content", append(binary.LittleEndian.AppendUint32(nil, magic), append([]byte{0x20, 3}, block(true, 0, 2, 'a', 'b')...)...), "ab", ErrCorrupt},
		{"too much content", append(binary.LittleEndian.AppendUint32(nil, magic), append([]byte{0x20, 1}, append(block(false, 1, 1, 'a'), block(true, 1, 1, 'a')...)...)...), "aa", ErrCorrupt},
		{"block over the size of a single segment", append(binary.LittleEndian.AppendUint32(nil, magic), append([]byte{0x20, 1}, block(true, 0, 2, 'a', 'b')...)...), "", ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := decompress(test.data)
			if !errors.Is(err, test.err) || !strings.HasPrefix(test.want, string(got)) || err == nil && string(got) != test.want {
				t.Errorf("got %q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

// coded is a block of size literals in a Huffman code, in one stream, and no sequences.
func coded(mode, size int, packed ...byte) []byte {
	h := mode | size<<4 | len(packed)<<14
	return append(append([]byte{byte(h), byte(h >> 8), byte(h >> 16)}, packed...), 0)
}

// TestBlocks are compressed blocks that no program writes.
func TestBlocks(t *testing.T) {
	const literal = 1<<3 | literalsRaw // one raw literal
	for _, test := range []struct {
		name  string
		block []byte
		want  string
	}{
		{"literals alone", []byte{3<<3 | literalsRaw, 'a', 'b', 'c', 0}, "abc"},
		{"repeated literal", []byte{5<<3 | literalsRepeated, 'z', 0}, "zzzzz"},
		{"no bytes", nil, ""},
		{"no sequences section", []byte{literal, 'a'}, ""},
		{"literals cut", []byte{3<<3 | literalsRaw, 'a'}, ""},
		{"bytes behind no sequences", []byte{literal, 'a', 0, 0}, ""},
		{"long count of no sequences", []byte{literal, 'a', 0x80, 0}, "a"},
		{"treeless first", coded(literalsCodedAsBefore, 1, 1), ""},
		{"repeat mode first", []byte{literal, 'a', 1, 0xff &^ 3, 1}, ""},
		{"reserved modes", []byte{literal, 'a', 1, 1, 1}, ""},
		{"no bit stream", []byte{literal, 'a', 1, 0}, ""},
		{"bit stream without mark", []byte{literal, 'a', 1, 0, 0}, ""},
		{"bit stream too short", []byte{literal, 'a', 1, 0, 1}, ""},
		{"single codes", []byte{literal, 'a', 1, modeSingle<<6 | modeSingle<<4 | modeSingle<<2, 1, 0, 7, 1}, "a" + strings.Repeat("a", 10)},
		{"single codes, two sequences, one literal", []byte{literal, 'a', 2, modeSingle<<6 | modeSingle<<4 | modeSingle<<2, 1, 0, 7, 1}, ""},
		{"code of lengths over the last", []byte{literal, 'a', 1, modeSingle<<6 | modeSingle<<4 | modeSingle<<2, 36, 0, 7, 1}, ""},
		{"code of offsets over the last", []byte{literal, 'a', 1, modeSingle<<6 | modeSingle<<4 | modeSingle<<2, 1, 31, 7, 1}, ""},
		{"match before the start", []byte{literal, 'a', 1, modeSingle<<6 | modeSingle<<4 | modeSingle<<2, 1, 3, 0, 1 << 3}, ""},
		{"bits left over", []byte{literal, 'a', 1, modeSingle<<6 | modeSingle<<4 | modeSingle<<2, 1, 0, 7, 2}, ""},
		{"table of accuracy 10", []byte{literal, 'a', 1, modeTable << 6, 0xf5, 0xff, 0xff}, ""},
		{"table without end", []byte{literal, 'a', 1, modeTable << 6, 0}, ""},
		{"weights over 11", coded(literalsCoded, 4, 129, 0xcc, 1, 1, 1), ""},
		{"no weight of 1", coded(literalsCoded, 4, 128, 0x20, 1, 1, 1), ""},
		{"one literal only", coded(literalsCoded, 4, 128, 0x00, 1, 1, 1), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := decompress(frame(0x50, block(true, 2, len(test.block), test.block...)))
			if test.want == "" && !errors.Is(err, ErrCorrupt) || test.want != "" && (err != nil || string(got) != test.want) {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// TestDamage flips each bit and cuts at each byte of a sample with a checksum: nothing of it
// goes unseen, and what comes before the end is the right content or an error.
func TestDamage(t *testing.T) {
	content := []byte(strings.Repeat("hello, damaged world; ", 30) + "tail 12345678")
	packed := append(binary.LittleEndian.AppendUint32(nil, magic), 4, 0)
	var x xxhash
	x.reset()
	x.write(content)
	for rest := content; len(rest) > 0; {
		n := min(len(rest), 300)
		packed = append(packed, block(n == len(rest), 0, n, rest[:n]...)...)
		rest = rest[n:]
	}
	packed = binary.LittleEndian.AppendUint32(packed, uint32(x.sum()))
	if got, err := decompress(packed); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("undamaged: %v", err)
	}
	for i := 0; i < len(packed); i += tartest.Reps(1, 21) {
		if _, err := decompress(packed[:i]); i > 0 && err == nil {
			t.Errorf("cut at %d: no error", i)
		}
		for bit := range 8 {
			if i == 4 && bit == 4 || i == 5 { // the bit that means nothing; another window
				continue
			}
			bad := bytes.Clone(packed)
			bad[i] ^= 1 << bit
			if _, err := decompress(bad); err == nil {
				t.Errorf("bit %d of byte %d flipped: no error", bit, i)
			}
		}
	}
	sample := readSample(t, "level19")
	want := sampleContent()
	for i := 6; i < len(sample); i += tartest.Reps(37, 37*7) {
		bad := bytes.Clone(sample)
		bad[i] ^= 1 << (i % 8)
		if got, err := decompress(bad); err == nil && !bytes.Equal(got, want) {
			t.Errorf("level19, byte %d: wrong content without an error", i)
		}
	}
}

// TestMemoryIsNotClaimed reads a frame that claims 128 MiB of window and has little content.
func TestMemoryIsNotClaimed(t *testing.T) {
	data := frame(17<<3, block(false, 0, 1, 'x'), block(true, 0, 1, 'y'))
	small := NewReader(bytes.NewReader(data))
	if got, err := io.ReadAll(small); err != nil || string(got) != "xy" || cap(small.buf) > 2<<20 {
		t.Errorf("read %q into a buffer of %d bytes, %v", got, cap(small.buf), err)
	}

	var zeros [][]byte // 300 MiB in 10 kB
	for range 2400 {
		zeros = append(zeros, block(false, 1, 128<<10, 0))
	}
	z := NewReader(bytes.NewReader(frame(17<<3, append(zeros, block(true, 0, 0))...)))
	if n, err := io.Copy(io.Discard, z); err != nil || n != 2400*128<<10 || cap(z.buf) > MaxWindow*5/4+1<<20 {
		t.Errorf("%d bytes, %v, buffer of %d", n, err, cap(z.buf))
	}
}

func TestXXH64(t *testing.T) {
	for in, want := range map[string]uint64{
		"":    0xef46db3751d8e999,
		"a":   0xd24ec4f1a98c6e5b,
		"abc": 0x44bc2cf5ad770999,
		"Nobody inspects the spammish repetition": 0xfbcea83c8a378bf1,
	} {
		var x xxhash
		x.reset()
		for i := range len(in) {
			x.write([]byte(in[i : i+1]))
		}
		var y xxhash
		y.reset()
		y.write([]byte(in))
		if x.sum() != want || y.sum() != want {
			t.Errorf("xxh64(%q) = %x, %x; want %x", in, x.sum(), y.sum(), want)
		}
	}
}

// FuzzReader checks that no input makes the decoder panic or write where it should not, and,
// where the program is at hand, that what one accepts as whole the other does, too.
func FuzzReader(f *testing.F) {
	for name := range samples() {
		data := readSample(f, name)
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add(frame(0, block(false, 0, 2, 'a', 'b'), block(true, 1, 3, 'c')))
	f.Add(append(skippable(1, "x"), frame(0x50, block(true, 2, 8, 1<<3, 'a', 1, 0x54, 1, 0, 7, 1))...))
	program, _ := exec.LookPath("zstd")
	f.Fuzz(func(t *testing.T, data []byte) {
		h := fnv.New64a()
		n, err := io.Copy(h, io.LimitReader(NewReader(bytes.NewReader(data)), 64<<20))
		small := fnv.New64a()
		m, err2 := io.Copy(small, io.LimitReader(NewReader(iotest.HalfReader(bytes.NewReader(data))), 64<<20))
		if n != m || (err == nil) != (err2 == nil) || h.Sum64() != small.Sum64() {
			t.Fatalf("read at once: %d bytes, %v; in pieces: %d bytes, %v", n, err, m, err2)
		}
		if err != nil || n == 0 || n == 64<<20 || program == "" || os.Getenv("OCIKIT_FUZZ_PROGRAM") == "" {
			return
		}
		cmd := exec.Command(program, "-dcq", "--long=27")
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		other := fnv.New64a()
		other.Write(out)
		if err != nil || other.Sum64() != h.Sum64() {
			t.Fatalf("we read %d bytes, zstd %d and %v", n, len(out), err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	needProgram(b)
	var content bytes.Buffer
	files, _ := filepath.Glob("../*.go")
	for content.Len() < 4<<20 {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				b.Fatal(err)
			}
			content.Write(data)
			content.Write(model(rand.New(rand.NewPCG(uint64(content.Len()), 1)), 10_000))
		}
	}
	for _, level := range []string{"-1", "-3", "-19"} {
		packed := compress(b, content.Bytes(), level)
		b.Run("level"+level, func(b *testing.B) {
			b.SetBytes(int64(content.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.Copy(io.Discard, struct{ io.Reader }{NewReader(bytes.NewReader(packed))}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
