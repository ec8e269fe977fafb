package recipe

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"
)

// An edit keeps n bytes of a base from off on, behind new bytes.
type edit struct {
	fresh  []byte
	off, n int
}

// edited returns what the edits make of a base.
func edited(base []byte, edits []edit) []byte {
	var b []byte
	for _, e := range edits {
		b = append(append(b, e.fresh...), base[e.off:e.off+e.n]...)
	}
	return b
}

// kinOf returns what a file that the edits make has in common with the base.
func kinOf(t testing.TB, blob []byte, edits []edit) *Kin {
	t.Helper()
	x, err := NewIndexer(iotest.HalfReader(bytes.NewReader(blob)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(x)
	if err != nil {
		t.Fatal(err)
	}
	k := NewKin(KinFile{int64(len(plain)), func() (io.ReaderAt, *Index) { return bytes.NewReader(blob), x.Index() }})
	pos := int64(0)
	for _, e := range edits {
		pos += int64(len(e.fresh))
		k.Add(pos, int64(e.n), int64(e.off))
		pos += int64(e.n)
	}
	return k
}

// stranger compresses as no style does: as package gzip, with a header that it never writes.
func stranger(t testing.TB, plain []byte) []byte {
	return append([]byte("\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03name\x00"), ownGzip(t, 6, plain)[10:]...)
}

// What another file has too is made again from its tokens.
func TestKin(t *testing.T) {
	size, cut := 900_000, 300_000
	if raceDetector {
		size, cut = 150_000, 60_000
	}
	base := mixed(size)
	fresh := makeMixed(size + 9000)[size:]
	edits := []edit{{nil, 0, size / 3}, {fresh[:5000], size/3 + 2000, size / 8}, {fresh[5000:5100], size / 10, size / 2}, {fresh[5100:], size - 100, 90}, {nil, size * 3 / 4, size / 4}}
	now := edited(base, edits)

	for _, c := range []struct {
		name     string
		compress func(testing.TB, []byte) []byte
		share    int // how much of 1000 of the file a recipe may have
		used     bool
	}{
		{"level 6", func(t testing.TB, p []byte) []byte { return compress(t, 6, p) }, 2, true},
		{"level 1", func(t testing.TB, p []byte) []byte { return compress(t, 1, p) }, 10, false}, // its tokens depend on much more than the window
		{"stranger", stranger, 60, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if raceDetector && c.name != "level 6" {
				t.Skip("one of them says what there is to say of races")
			}
			was, blob := c.compress(t, base), c.compress(t, now)
			for _, cuts := range []cuts{usualCuts(), {cut * 4 / 5, cut, cut * 2}} {
				made := makeWith(t, blob, cuts, kinOf(t, was, edits))
				if len(made) > 300+len(blob)*c.share/1000 {
					t.Errorf("%d bytes with a base, for a file of %d", len(made), len(blob))
				}
				var got bytes.Buffer
				err := Run(t.Context(), &got, iotest.HalfReader(bytes.NewReader(now)), bytes.NewReader(made), int64(len(blob)), kinOf(t, was, edits))
				if err != nil || !bytes.Equal(got.Bytes(), blob) {
					t.Errorf("Run: %d bytes of %d: %v", got.Len(), len(blob), err)
				}
				err = Run(t.Context(), io.Discard, bytes.NewReader(now), bytes.NewReader(made), int64(len(blob)), nil)
				if c.used && !errors.Is(err, ErrRecipe) {
					t.Errorf("Run without what the recipe needs: %v", err)
				}
			}
		})
	}
}

// Another style may be tried with a segment, and be no better. What it took from other files must not
// stay with the segment then: a reader would take that for what the corrections go by.
func TestTriesLeaveTheSegment(t *testing.T) {
	base := mixed(200_000)
	edits := []edit{{[]byte("new"), 0, 200_000}}
	kin := kinOf(t, stranger(t, base), edits)
	s, err := newParser(bytes.NewReader(stranger(t, edited(base, edits)))).next()
	if err != nil {
		t.Fatal(err)
	}
	s.stretches = kin.take(0, int64(s.end-s.start))

	var k *codec
	j := &codingJob{s: s, kin: kin}
	if err := j.code(&k); err != nil || j.use == noKin {
		t.Fatalf("use %d, %v, want that the other file is used", j.use, err)
	}
	if s.kin != noKin {
		t.Errorf("the segment says %d", s.kin)
	}
}

// A recipe that goes by another file means the same forever.
func TestKinGolden(t *testing.T) {
	base := mixed(200_000)
	edits := []edit{{nil, 0, 90_000}, {base[5000:6000], 95_000, 50_000}, {base[:10], 100_000, 100_000}}
	now := edited(base, edits)
	was, blob := stranger(t, base), stranger(t, now)
	golden := filepath.Join("testdata", "kin.golden")
	if *update {
		if err := os.WriteFile(golden, makeWith(t, blob, usualCuts(), kinOf(t, was, edits)), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	recipe, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	err = Run(t.Context(), &got, bytes.NewReader(now), bytes.NewReader(recipe), int64(len(blob)), kinOf(t, was, edits))
	if err != nil || !bytes.Equal(got.Bytes(), blob) {
		t.Errorf("got %d bytes, want %d: %v", got.Len(), len(blob), err)
	}
}

// makeWith makes a recipe of segments of other sizes, perhaps with kin.
func makeWith(t testing.TB, blob []byte, c cuts, kin *Kin) []byte {
	t.Helper()
	var recipe, proof bytes.Buffer
	m := &maker{ctx: context.Background(), open: open(blob), kin: kin, w: &recipe, proof: joiner{w: &proof, left: math.MaxInt64}, plain: sha256.New()}
	if _, err := m.make(c); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(proof.Bytes(), blob) {
		t.Fatalf("the proof has %d bytes, and is not the file of %d", proof.Len(), len(blob))
	}
	return recipe.Bytes()
}

// A file of many segments, which end at blocks, at flushes, and within blocks.
func TestSegments(t *testing.T) {
	plain := mixed(300_000)
	if slow() {
		plain = plain[:30_000]
	}
	flushed := func() []byte {
		var buf bytes.Buffer
		z, _ := gzip.NewWriterLevel(&buf, 4)
		for i := 0; i < len(plain); i += 9000 {
			z.Write(plain[i:min(len(plain), i+9000)])
			z.Flush()
		}
		z.Close()
		return buf.Bytes()
	}()
	half := len(plain) / 2
	for name, blob := range map[string][]byte{
		"level 1":  compress(t, 1, plain),
		"level 6":  compress(t, 6, plain),
		"literals": compress(t, gzip.HuffmanOnly, plain),
		"stored":   compress(t, 0, plain),
		"flushed":  flushed,
		"members":  append(compress(t, 9, plain[:half]), compress(t, 2, plain[half:])...),
		"stranger": stranger(t, plain),
	} {
		for _, c := range []cuts{{3000, 4000, 5000}, {6000, 8000, 8001}, {1, 1, 8000}} {
			if raceDetector && name != "level 6" && name != "members" {
				continue
			}
			made := makeWith(t, blob, c, nil)
			if n := bytes.Count(made, []byte{segmentTag}); n < 3 {
				t.Errorf("%s: %d bytes for few segments", name, len(made))
			}
			var got bytes.Buffer
			err := Run(t.Context(), &got, iotest.HalfReader(bytes.NewReader(plain)), bytes.NewReader(made), int64(len(blob)), nil)
			if err != nil || !bytes.Equal(got.Bytes(), blob) {
				t.Errorf("%s, cut at %v: Run gives %d bytes of %d: %v", name, c, got.Len(), len(blob), err)
			}
		}
	}
}

// A recipe is the same whatever the number of processors, also where the first segment misleads.
func TestSegmentsOnProcessors(t *testing.T) {
	plain := mixed(24_000)
	blob := append(compress(t, gzip.HuffmanOnly, plain[:6000]), compress(t, 9, plain[6000:])...)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want []byte
	for _, n := range []int{1, 3, 8} {
		runtime.GOMAXPROCS(n)
		made := makeWith(t, blob, cuts{2000, 2500, 3000}, nil)
		if want == nil {
			want = made
		}
		if !bytes.Equal(made, want) {
			t.Errorf("on %d processors the recipe has %d bytes, on one %d", n, len(made), len(want))
		}
	}
}

// A bit that flips in a recipe of several segments is an error, or gives other bytes, never more.
func TestSegmentsDamaged(t *testing.T) {
	plain := mixed(40_000)
	blob := compress(t, 6, plain)
	made := makeWith(t, blob, cuts{5000, 7000, 9000}, nil)
	r := rand.New(rand.NewPCG(3, 4))
	times := 200
	if slow() {
		times = 20
	}
	for range times {
		bad := bytes.Clone(made)
		at := r.IntN(len(bad))
		bad[at] ^= 1 << r.IntN(8)
		var got bytes.Buffer
		err := Run(t.Context(), &got, bytes.NewReader(plain), bytes.NewReader(bad), int64(len(blob)), nil)
		if got.Len() > len(blob) || err == nil && got.Len() != len(blob) {
			t.Errorf("byte %d flipped: %d bytes, want %d: %v", at, got.Len(), len(blob), err)
		}
	}
}

// Whatever a base says, Run ends and makes no more than it should.
func FuzzKin(f *testing.F) {
	base := mixed(200_000)
	edits := []edit{{[]byte("new"), 0, 150_000}, {nil, 160_000, 40_000}}
	now := edited(base, edits)
	was, blob := compress(f, 6, base), compress(f, 6, now)
	made := makeWith(f, blob, usualCuts(), kinOf(f, was, edits))
	x := kinOf(f, was, edits).files[0]
	_, index := x.Open()
	f.Add(made, was, int64(0))
	f.Add(made, was[:len(was)/2], int64(3))
	f.Fuzz(func(t *testing.T, recipe, other []byte, shift int64) {
		moved := newIndex()
		moved.known.size, moved.ended = x.Size, true
		for _, u := range index.upTo(x.Size).list {
			moved.known.list = append(moved.known.list, unitAt{u.pos, max(0, u.bit+shift%64)})
		}
		k := NewKin(KinFile{x.Size, func() (io.ReaderAt, *Index) { return bytes.NewReader(other), moved }})
		k.Add(3, 150_000, 0)
		k.Add(150_003, 40_000, 160_000)
		var got bytes.Buffer
		err := Run(t.Context(), &got, bytes.NewReader(now), bytes.NewReader(recipe), int64(len(blob)), k)
		if got.Len() > len(blob) || err == nil && got.Len() != len(blob) {
			t.Errorf("%d bytes, want %d: %v", got.Len(), len(blob), err)
		}
	})
}

// Other files are asked for where no encoder of ours wrote the file, and what fails then is an error of
// Make.
func TestKinIsAskedWhereItIsNeeded(t *testing.T) {
	plain := mixed(40_000)
	for name, c := range map[string]struct {
		blob []byte
		want error
	}{
		"ours":    {ownGzip(t, 6, plain), nil},
		"another": {compress(t, 6, plain), io.ErrClosedPipe},
	} {
		file := Source{Open: open(c.blob), Contents: func() io.Reader { return bytes.NewReader(plain) }}
		_, err := Make(t.Context(), io.Discard, io.Discard, file, func() (*Kin, error) { return nil, io.ErrClosedPipe })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: Make = %v, want %v", name, err, c.want)
		}
	}
}
