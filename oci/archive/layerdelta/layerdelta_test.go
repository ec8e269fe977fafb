package layerdelta

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"ocikit/digest"
)

// layer returns a layer of twenty files, of which a version changes two.
func layer(version int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := range 20 {
		seed := uint64(i)
		if i%10 == 3 {
			seed += uint64(version) << 20
		}
		r := rand.New(rand.NewPCG(seed, 5))
		data := make([]byte, 3000)
		for k := range data {
			data[k] = byte(r.IntN(16))
		}
		w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file%d", i), Mode: 0o644, Size: int64(len(data))})
		w.Write(data)
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

func opener(blob []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// made is a delta from version 0 to version 1.
type made struct {
	old, now []byte
	delta    []byte
	tarSize  int64
	oldSize  int64
}

func makeDelta(ctx context.Context) (m made, err error) {
	m.old, m.now = layer(0), layer(1)
	base, err := UnpackPlain(ctx, bytes.NewReader(m.old))
	if err != nil {
		return m, err
	}
	base.Keep(memory{bytes.NewReader(m.old)})
	defer base.Close()
	target, err := Unpack(ctx, bytes.NewReader(m.now))
	if err != nil {
		return m, err
	}
	defer target.Close()
	m.tarSize, m.oldSize = target.Size, base.Size
	f, err := Temp()
	if err != nil {
		return m, err
	}
	defer f.Close()
	h := digest.NewHasher(digest.SHA256)
	h.Write(m.now)
	_, err = Make(ctx, f.File, Layer{Digest: h.Digest(), Size: int64(len(m.now)), Tar: target, Open: opener(m.now)}, NewBases(base))
	if err == nil {
		size, _ := f.Seek(0, io.SeekEnd)
		m.delta = make([]byte, size)
		_, err = f.ReadAt(m.delta, 0)
	}
	return m, err
}

func (m made) apply(ctx context.Context, w io.Writer, data []byte) error {
	base := NewLazy(ctx, digest.Digest{}, m.oldSize, opener(m.old), func() (Blob, error) { return memory{bytes.NewReader(m.old)}, nil })
	defer base.Close()
	return Apply(ctx, w, io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), NewBases(base), m.tarSize, int64(len(m.now)))
}

func Example() {
	ctx := context.Background()
	m, err := makeDelta(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	var got bytes.Buffer
	err = m.apply(ctx, &got, m.delta)
	fmt.Println(err, bytes.Equal(got.Bytes(), m.now), len(m.delta)*3 < len(m.now))
	// Output: <nil> true true
}

func TestNoUse(t *testing.T) {
	now := layer(1)
	target, err := Unpack(t.Context(), bytes.NewReader(now))
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	f, err := Temp()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := digest.NewHasher(digest.SHA256)
	h.Write(now)
	l := Layer{Digest: h.Digest(), Size: int64(len(now)) / 3, Tar: target, Open: opener(now)}
	if _, err := Make(t.Context(), f.File, l, NewBases()); !errors.Is(err, ErrNoUse) {
		t.Errorf("a delta that is larger than its layer: %v", err)
	}
	h.Write([]byte("x"))
	l.Digest, l.Size = h.Digest(), int64(len(now))
	if _, err := Make(t.Context(), f.File, l, NewBases()); !errors.Is(err, ErrNoUse) || !strings.Contains(err.Error(), "recipe") {
		t.Errorf("a recipe that makes another file: %v", err)
	}
}

// closing counts what is open.
type closing struct {
	io.Reader
	open *int
}

func (c closing) Close() error { *c.open--; return nil }

// A layer that cannot be made again travels whole. One that cannot be read is another matter.
func TestMakeOfOtherLayers(t *testing.T) {
	target, err := Unpack(t.Context(), bytes.NewReader(layer(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		blob string
		err  error // of Open
		want error
	}{
		{"xz", "\xfd7zXZ\x00", nil, ErrNoUse},
		{"zstd of another encoder", "\x28\xb5\x2f\xfd\x00\x58\x21\x00\x00abcd", nil, ErrNoUse},
		{"gzip that is none", "\x1f\x8b\x08 and so on, but not as gzip goes on", nil, ErrNoUse},
		{"unreadable", "", broken, broken},
	} {
		f, err := Temp()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()

		open := 0
		l := Layer{Size: 1 << 20, Tar: target, Open: func() (io.ReadCloser, error) {
			if c.err != nil {
				return nil, c.err
			}
			open++
			return closing{strings.NewReader(c.blob), &open}, nil
		}}
		l.Digest = digest.FromBytes([]byte(c.blob))
		if _, err := Make(t.Context(), f.File, l, NewBases()); !errors.Is(err, c.want) || open != 0 {
			t.Errorf("%s: %v, want %v; %d left open", c.name, err, c.want, open)
		}
	}
}

// What is wrong with a base is the error, and names it. Nothing stays open.
func TestBadBase(t *testing.T) {
	m, err := makeDelta(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !IsDelta(bytes.NewReader(m.delta)) || IsDelta(bytes.NewReader(m.now)) || IsDelta(bytes.NewReader(nil)) {
		t.Error("IsDelta takes something else for a delta")
	}

	broken := errors.New("broken")
	desc := digest.FromBytes(m.old)
	for _, c := range []struct {
		name     string
		blob     []byte
		size     int64
		open, at error
		want     error // nil: any
	}{
		{"cannot be opened", m.old, m.oldSize, broken, nil, broken},
		{"cannot be read anywhere", m.old, m.oldSize, nil, broken, broken},
		{"another size", m.old, m.oldSize + 512, nil, nil, nil},
		{"is cut", m.old[:len(m.old)/2], m.oldSize, nil, nil, io.ErrUnexpectedEOF},
		{"is no gzip", []byte("\x1f\x8b\x08"), m.oldSize, nil, nil, io.ErrUnexpectedEOF},
	} {
		open := 0
		base := NewLazy(t.Context(), desc, c.size, func() (io.ReadCloser, error) {
			if c.open != nil {
				return nil, c.open
			}
			open++
			return closing{bytes.NewReader(c.blob), &open}, nil
		}, func() (Blob, error) {
			if c.at != nil {
				return nil, c.at
			}
			open++
			return struct {
				io.ReaderAt
				io.Closer
			}{bytes.NewReader(c.blob), closing{nil, &open}}, nil
		})

		// A delta for bases of another size is refused before they are read.
		data := m.delta
		if c.size != m.oldSize {
			base.ReadAt(make([]byte, 1), 0)
			data = nil
		}
		err := Apply(t.Context(), io.Discard, io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), NewBases(base), m.tarSize, int64(len(m.now)))
		base.Close()
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), desc.String()) || open != 0 {
			t.Errorf("a base that %s: %v, want %v; %d left open", c.name, err, c.want, open)
		}
	}

	for name, data := range map[string][]byte{"nothing": nil, "a layer": m.now, "cut in its recipe": m.delta[:len(magic)+2], "no recipe, and no tar": append([]byte(magic), 0)} {
		if err := m.apply(t.Context(), io.Discard, data); !errors.Is(err, errDamaged) {
			t.Errorf("%s for a delta: %v", name, err)
		}
	}
	if err := m.apply(t.Context(), io.Discard, m.delta); err != nil {
		t.Error(err)
	}
}

func TestLazyLimit(t *testing.T) {
	old := layer(0)
	l := NewLazy(t.Context(), digest.Digest{}, 1000, opener(old), func() (Blob, error) { return memory{bytes.NewReader(old)}, nil })
	defer l.Close()
	l.ReadAt(make([]byte, 1), 0)
	if err := l.finish(); !errors.Is(err, errDamaged) {
		t.Errorf("a base that is longer than it should be: %v", err)
	}
}

func FuzzApply(f *testing.F) {
	m, err := makeDelta(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.delta)
	f.Add(m.delta[:len(m.delta)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		var got bytes.Buffer
		if err := m.apply(t.Context(), &got, data); got.Len() > len(m.now) || err == nil && got.Len() != len(m.now) {
			t.Errorf("%d bytes, want %d: %v", got.Len(), len(m.now), err)
		}
	})
}
