package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"ocikit/tarutil/rangecoder"
)

func part(b []byte) Part { return Part{bytes.NewReader(b), int64(len(b))} }

func Example() {
	old := []byte(strings.Repeat("some words that stay the same\n", 1000))
	now := append([]byte("one line more\n"), old...)
	bases := NewBases(Part{bytes.NewReader(old), int64(len(old))})
	var d, got bytes.Buffer
	Make(context.Background(), &d, bytes.NewReader(now), bases)
	size := d.Len()
	err := Apply(context.Background(), &got, &d, bases, int64(len(now)), nil)
	fmt.Println(size < 200, err, bytes.Equal(got.Bytes(), now))
	// Output: true <nil> true
}

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32() >> 24)
	}
	return b
}

// program returns n bytes like machine code: instructions, many with an address in them, which
// moves by shift.
func program(n, shift int) []byte {
	r := rand.New(rand.NewPCG(7, 1))
	var b []byte
	for len(b) < n {
		op := noise(r.Uint64()%400, 3+r.IntN(12))
		b = append(b, op...)
		b = binary.LittleEndian.AppendUint32(b, uint32(r.IntN(1<<20)+shift))
	}
	return b[:n]
}

func roundTrip(t testing.TB, target []byte, parts ...Part) []byte {
	t.Helper()
	bases := NewBases(parts...)
	var d, got bytes.Buffer
	if err := Make(t.Context(), &d, iotest.HalfReader(bytes.NewReader(target)), bases); err != nil {
		t.Fatalf("Make: %v", err)
	}
	made := bytes.Clone(d.Bytes())
	if err := Apply(t.Context(), &got, &d, bases, int64(len(target)), nil); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if !bytes.Equal(got.Bytes(), target) {
		t.Fatal("Apply gives other bytes")
	}
	return made
}

func TestSizes(t *testing.T) {
	a, b := noise(1, 300_000), noise(2, 200_000)
	changed := bytes.Clone(a)
	for i := 0; i < len(changed); i += 3000 {
		changed[i]++
	}
	join := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	for _, c := range []struct {
		name   string
		target []byte
		bases  []Part
		most   int
	}{
		{"nothing of nothing", nil, nil, 20},
		{"nothing of something", nil, []Part{part(a)}, 20},
		{"something of nothing", a, nil, len(a) + 5000},
		{"the same", a, []Part{part(a)}, 60},
		{"one of two", b, []Part{part(a), part(b)}, 60},
		{"across the border of two", a, []Part{part(a[:1000]), part(nil), part(a[1000:])}, 60},
		{"something before", join([]byte("x"), a), []Part{part(a)}, 60},
		{"parts in another order", join(b, a[100_000:], a[:100_000]), []Part{part(join(a, b))}, 120},
		{"a byte now and then", changed, []Part{part(a)}, 600},
		{"a program whose addresses moved", program(300_000, 64), []Part{part(program(300_000, 0))}, 60_000},
		{"the same again", join(b, b[:100_000]), nil, len(b) + 5000},
		{"zeros", make([]byte, 3_000_000), nil, 100},
		{"more than a segment", join(make([]byte, segmentSize-5), a), []Part{part(a)}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n := len(roundTrip(t, c.target, c.bases...)); n > c.most {
				t.Errorf("%d bytes, want %d at most", n, c.most)
			}
		})
	}
}

// The bytes are the same whatever the number of processors, and as they are today.
func TestSameBytes(t *testing.T) {
	old, now := program(300_000, 0), program(300_000, 64)
	one := roundTrip(t, now, part(old))
	if two := roundTrip(t, now, part(old)); !bytes.Equal(one, two) {
		t.Error("a second delta differs")
	}

	mixed, bases := mixed()
	for _, c := range []struct {
		made []byte
		sum  string
	}{
		{one, "c57e78f01c43b0ef"},
		{roundTrip(t, mixed, bases.parts...), "a65e4713e520c035"},
	} {
		if sum := fmt.Sprintf("%.8x", sha256.Sum256(c.made)); sum != c.sum {
			t.Errorf("%d bytes with the sum %s, want %s", len(c.made), sum, c.sum)
		}
	}
}

// mixed returns bytes of many kinds, and bases for them: machine code of which the addresses move, zeros,
// and a text whose parts change places, in part with other words between them.
func mixed() (target []byte, bases *Bases) {
	r := rand.New(rand.NewPCG(11, 1))
	var text []byte
	for range 4000 {
		text = append(text, noise(uint64(r.IntN(1+r.IntN(400))), 2+r.IntN(6))...)
		text = append(text, ' ')
	}

	target = append(program(4000, 64), make([]byte, 500)...)
	for at := 0; at < len(text); {
		n := min(10+r.IntN(1+r.IntN(400)), len(text)-at)
		switch r.IntN(5) {
		case 0: // this part is not in the target
		case 1:
			from := max(0, at-r.IntN(300))
			target = append(target, text[from:from+n]...)
		case 2:
			from := r.IntN(len(text) - n)
			target = append(append(target, "not there"...), text[from:from+n/4]...)
		default:
			target = append(target, text[at:at+n]...)
		}
		at += n
	}
	return target, NewBases(part(program(4000, 0)), part(text))
}

// A delta that an earlier version has written is read for ever.
func TestReleased(t *testing.T) {
	target, bases := mixed()
	d, err := os.ReadFile(filepath.Join("testdata", "v1.delta"))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := Apply(t.Context(), &got, bytes.NewReader(d), bases, int64(len(target)), nil); err != nil || !bytes.Equal(got.Bytes(), target) {
		t.Errorf("Apply: %d bytes, want %d: %v", got.Len(), len(target), err)
	}
}

// A payload may hold any steps. None of them leads out of the bases or of the target.
func TestHostileSteps(t *testing.T) {
	old := noise(4, 2*pageSize)
	const size = 100
	last := int64(len(old)) - 5
	for _, c := range []struct {
		name string
		st   step
		ok   bool
	}{
		{"the begin of the bases", step{length: 5, place: place{true, -1}}, true},
		{"the end of the bases", step{length: 5, place: place{true, last - 1}}, true},
		{"before the bases", step{length: 5, place: place{true, -2}}, false},
		{"behind the bases", step{length: 5, place: place{true, last}}, false},
		{"the begin of the target", step{length: 5, place: place{false, 1}}, true},
		{"before the target", step{length: 5, place: place{false, 2}}, false},
		{"more than the segment has", step{length: size, place: place{true, 0}}, false},
		{"all that the segment has", step{length: size - 1, place: place{true, 0}}, true},
	} {
		w := rangecoder.NewWriter(nil)
		s := newState(w)
		s.codeStep(&step{rep: -1})
		s.codeLiteral('x', 0, int(old[0]))
		c.st.rep = -1
		s.codeStep(&c.st)
		payload := w.Finish()

		made := min(1+c.st.length, size)
		d := append([]byte(magic), 0)
		for _, n := range []int{len(old), made, len(payload)} {
			d = binary.AppendUvarint(d, uint64(n))
		}
		d = append(append(d, payload...), 0)
		err := Apply(t.Context(), io.Discard, bytes.NewReader(d), NewBases(part(old)), int64(made), nil)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrDelta) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A segment is coded alike by a new coder and by one that had another segment: which of them takes it is
// left to chance.
func TestUsedCoder(t *testing.T) {
	const size = 100_000
	old := noise(5, size)
	bases := NewBases(part(old))
	x, err := newIndex(t.Context(), bases)
	if err != nil {
		t.Fatal(err)
	}

	m := &maker{ctx: t.Context(), bases: bases, find: x.runs}
	code := func(c *coder, data []byte) []byte {
		copy(c.buf[maxParts:], data)
		payload, err := c.segment(len(data), 0)
		if err != nil {
			t.Fatal(err)
		}
		return payload
	}

	// The last part of the bases ends with nine bytes that the segment has twice, the second time in
	// an alignment that is cheap. But the place before in the segment has ten of the same, so the
	// base's must be left out, even if the byte behind the part happens to be the one wanted there.
	gap := noise(6, 1400)
	ten := append(bytes.Clone(old[size-9:]), 'x')
	copy(gap[100:], ten)
	copy(gap[612:], old[size-500:size-480])
	copy(gap[1100:], ten)
	const behind = 1001 // so that the nine bytes are at a place of the part that is entered
	data := append(bytes.Clone(old[size-behind-3000:size-behind]), gap...)

	// An earlier segment loads a longer part, whose byte stands there.
	begin := 23000 - margin(500)/4
	stale := old[begin+margin(1400)/4+behind+1]
	data[3000+1100+10] = stale
	earlier := append(bytes.Clone(old[20000:23000]), noise(7, 500)...)

	used := newCoder(m)
	code(used, earlier)
	if got, want := code(used, data), code(newCoder(m), data); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, by a new coder %d", len(got), len(want))
	}
}

// A chunk is what it is in inventories that exist, and has some bytes.
func TestChunks(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing": {nil, "[]"},
		"zeros":   {make([]byte, 2*MaxChunk+1), "[{10000 de2f256064a0af79} {10000 de2f256064a0af79} {1 6e340b9cffb37a98}]"},
		"noise":   {noise(1, 40_000), "[{b8a c7f419abc2029ae5} {18c8 6aa5e8fb5967d57d} {31ca f65fcb7f9e8529ea} {4624 6f34cd4f0cf529fe}]"},
	} {
		list := []Chunk{}
		err := Chunks(t.Context(), bytes.NewReader(c.data), func(c Chunk) error {
			list = append(list, c)
			return nil
		})
		if got := fmt.Sprintf("%x", list); err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, c.want)
		}
	}
}

// Who knows the chunks of a base alone makes a delta that is right for the base.
func TestKnown(t *testing.T) {
	a, b := noise(1, 700_000), noise(2, 100_000)
	now := bytes.Join([][]byte{b, a[:300_000], b[:5000], a[310_000:], b}, nil)
	var k Known
	for _, base := range [][]byte{a, b} {
		var list []Chunk
		if err := Chunks(t.Context(), iotest.HalfReader(bytes.NewReader(base)), func(c Chunk) error {
			list = append(list, c)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		k.Add(list)
	}
	known, err := k.Bases(t.Context(), bytes.NewReader(now), int64(len(now)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(known.known); n != 4 {
		t.Errorf("%d stretches: chunks that go on from one another are one", n)
	}
	var d bytes.Buffer
	if err := Make(t.Context(), &d, bytes.NewReader(now), known); err != nil {
		t.Fatal(err)
	}
	made := bytes.Clone(d.Bytes())
	if len(made) > 100_000 {
		t.Errorf("%d bytes", len(made))
	}
	for name, bases := range map[string]*Bases{"what stands for them": known, "the bases": NewBases(part(a), part(b))} {
		var got bytes.Buffer
		if err := Apply(t.Context(), &got, bytes.NewReader(made), bases, int64(len(now)), nil); err != nil || !bytes.Equal(got.Bytes(), now) {
			t.Errorf("Apply with %s: %v", name, err)
		}
	}
}

func TestDamaged(t *testing.T) {
	old, now := program(100_000, 0), program(100_000, 64)
	made := roundTrip(t, now, part(old))
	bases := NewBases(part(old))
	step := 1 + len(made)/50
	for n := 0; n < len(made); n += step {
		err := Apply(t.Context(), io.Discard, bytes.NewReader(made[:n]), bases, int64(len(now)), nil)
		if !errors.Is(err, ErrDelta) {
			t.Errorf("cut at %d of %d: %v", n, len(made), err)
		}
		bad := bytes.Clone(made)
		bad[n] ^= 1 << (n % 8)
		var got bytes.Buffer
		err = Apply(t.Context(), &got, bytes.NewReader(bad), bases, int64(len(now)), nil)
		if got.Len() > len(now) || err == nil && bytes.Equal(got.Bytes(), now) {
			t.Errorf("a bit at %d flipped: %d bytes, %v", n, got.Len(), err)
		}
	}
	for _, c := range []struct {
		name  string
		delta []byte
		bases *Bases
		size  int
	}{
		{"a base too few", made, NewBases(), len(now)},
		{"a base too many", made, NewBases(part(old), part(old)), len(now)},
		{"a shorter target", made, bases, len(now) - 1},
		{"a longer target", made, bases, len(now) + 1},
		{"something behind", append(bytes.Clone(made), 0), bases, len(now)},
		{"cut in front of its end", made[:len(made)-1], bases, len(now)},
	} {
		if err := Apply(t.Context(), io.Discard, bytes.NewReader(c.delta), c.bases, int64(c.size), nil); !errors.Is(err, ErrDelta) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A base that cannot be read is an error, on both sides.
func TestUnreadable(t *testing.T) {
	old := noise(3, 500_000)
	made := roundTrip(t, old, part(old))
	short := NewBases(Part{bytes.NewReader(old[:250_000]), int64(len(old))})
	if err := Make(t.Context(), io.Discard, bytes.NewReader(old), short); err == nil {
		t.Error("Make with a base that ends early is not an error")
	}
	if err := Make(t.Context(), io.Discard, strings.NewReader("nothing of the base"), short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Make with a base that ends early, and is of no use: %v", err)
	}
	if err := Apply(t.Context(), io.Discard, bytes.NewReader(made), short, int64(len(old)), nil); err == nil {
		t.Error("Apply with a base that ends early is not an error")
	}
	if err := Make(t.Context(), io.Discard, iotest.ErrReader(io.ErrClosedPipe), NewBases(part(old))); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Make of a target that cannot be read: %v", err)
	}
}

// readerAt is a base that takes its time.
type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// The cache keeps the pages that were used last, and they hold what the bases do.
func TestPages(t *testing.T) {
	reads := 0
	base := readerAt(func(p []byte, off int64) (int, error) {
		reads++
		for i := range p {
			p[i] = byte((off + int64(i)) / pageSize)
		}
		return len(p), nil
	})
	p := newPages(NewBases(Part{base, (maxPages + 2) * pageSize}))
	for _, c := range []struct {
		page int64
		read bool
	}{{0, false}, {maxPages, true}, {0, false}, {maxPages, false}, {2, false}, {1, true}, {2, false}, {3, true}} {
		if reads == 0 {
			for page := range int64(maxPages) {
				p.byte(page * pageSize)
			}
		}
		before := reads
		if got := p.byte(c.page*pageSize + 7); got != byte(c.page) || c.read != (reads > before) {
			t.Errorf("page %d: byte %d, read %t, want %t", c.page, got, reads > before, c.read)
		}
	}
}

// Nothing reads the bases after Make returned, as soon as that may be.
func TestEarlyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := noise(8, 100_000)
		over := false
		base := readerAt(func(p []byte, off int64) (int, error) {
			time.Sleep(time.Second)
			if over {
				t.Error("a base is read after Make returned")
			}
			return bytes.NewReader(old).ReadAt(p, off)
		})

		target := io.MultiReader(bytes.NewReader(old), iotest.ErrReader(io.ErrClosedPipe))
		err := Make(t.Context(), io.Discard, target, NewBases(Part{base, int64(len(old))}))
		over = true
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Make of a target that cannot be read: %v", err)
		}

		time.Sleep(time.Hour)
	})
}

func FuzzApply(f *testing.F) {
	old, now := program(50_000, 0), program(50_000, 64)
	bases := NewBases(part(old))
	f.Add(roundTrip(f, now, part(old)), len(now))
	f.Add(roundTrip(f, old, part(old)), len(old))
	f.Fuzz(func(t *testing.T, delta []byte, size int) {
		size = min(size, 1<<20)
		var got bytes.Buffer
		if err := Apply(t.Context(), &got, bytes.NewReader(delta), bases, int64(size), nil); got.Len() > max(size, 0) || err == nil && got.Len() != size {
			t.Errorf("%d bytes, want %d: %v", got.Len(), size, err)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("some words, and the same words"), []byte("the same words"), uint8(3))
	f.Fuzz(func(t *testing.T, target, base []byte, times uint8) {
		base = bytes.Repeat(base, int(times))
		roundTrip(t, append(bytes.Repeat(target, 1+int(times)/2), base...), part(base), part(target))
	})
}
