package layout

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/oci/graph"
)

func mustPartial(t *testing.T, l *Layout, d digest.Digest) *Partial {
	t.Helper()
	p, err := l.OpenPartial(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// What came of a blob outlives the process, and the sweep of leftovers by other writers.
func TestPartial(t *testing.T) {
	l := newLayout(t)
	data := bytes.Repeat([]byte("0123456789"), 1000)
	d := digest.FromBytes(data)
	p := mustPartial(t, l, d)
	if _, err := p.Write(data[:4000]); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Commit of a part = %v, want %v", err, digest.ErrMismatch)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, _, err := other.Put(strings.NewReader("x"), digest.Digest{}); err != nil {
		t.Fatal(err)
	}
	p = mustPartial(t, other, d)
	if p.Size() != 4000 || p.Digest() != digest.FromBytes(data[:4000]) {
		t.Fatalf("%d bytes, %s", p.Size(), p.Digest())
	}
	// Somebody else waits for it, as long as its context lets it.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.OpenPartial(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("OpenPartial of a blob in the making = %v", err)
	}
	if _, err := p.Write(data[4000:]); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, l)
	if size, err := l.Stat(d); err != nil || size != int64(len(data)) {
		t.Errorf("Stat = %d, %v", size, err)
	}
	p = mustPartial(t, l, d)
	if p.Size() != 0 {
		t.Errorf("after Commit %d bytes are left", p.Size())
	}
	p.Write([]byte("junk"))
	if err := p.Reset(); err != nil || p.Size() != 0 {
		t.Errorf("Reset = %v, %d bytes", err, p.Size())
	}
	p.Write([]byte("junk"))
	if err := p.Discard(); err != nil {
		t.Error(err)
	}
	for _, name := range files(t, l) {
		if strings.Contains(name, "ocikit") {
			t.Errorf("%s is left", name)
		}
	}
}

// A link in the place of the file is not followed; a digest that cannot be verified is refused.
func TestPartialRefused(t *testing.T) {
	l := newLayout(t)
	d := digest.FromBytes([]byte("x"))
	if runtime.GOOS != "windows" {
		victim := filepath.Join(t.TempDir(), "victim")
		if err := os.WriteFile(victim, []byte("keep"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{victim, "index.json"} {
			name := filepath.Join(l.Name(), partialPrefix+"sha256-"+d.Encoded())
			if err := os.Symlink(target, name); err != nil {
				t.Fatal(err)
			}
			if _, err := l.OpenPartial(t.Context(), d); err == nil {
				t.Errorf("a link to %s was opened", target)
			}
			os.Remove(name)
		}
	}
	blake, _ := digest.Parse("blake3:" + strings.Repeat("a", 64))
	if _, err := l.OpenPartial(t.Context(), blake); !errors.Is(err, digest.ErrUnsupported) {
		t.Errorf("OpenPartial of blake3 = %v", err)
	}
}

// A file that was given the name of a partial blob too is left as it is.
func TestPartialIsNoHardLink(t *testing.T) {
	l := newLayout(t)
	d := digest.FromBytes([]byte("blob"))
	p := mustPartial(t, l, d)
	p.Write([]byte("bl"))
	p.Close()

	other := filepath.Join(t.TempDir(), "other")
	file := filepath.Join(l.Name(), p.name)
	if err := os.Link(file, other); err != nil {
		t.Skip(err)
	}
	if info, err := os.Stat(other); err != nil || disk.Links(info) == 1 {
		t.Skip("this system does not count the names of a file")
	}
	p = mustPartial(t, l, d)
	if _, err := p.Write([]byte("blob")); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(other); string(data) != "bl" || err != nil {
		t.Errorf("the other name has %q, %v, want %q", data, err, "bl")
	}
	mustVerify(t, l)
}

func TestAddEntries(t *testing.T) {
	l := newLayout(t)
	a, b := addImage(t, l, "a"), addImage(t, l, "b")
	tagged := func(d oci.Descriptor, tag string) oci.Descriptor {
		return d.WithAnnotation(oci.AnnotationRefName, tag)
	}
	if err := l.AddEntries(t.Context(), []oci.Descriptor{tagged(a, "one"), b, b}, graph.Rules{}); err != nil {
		t.Fatal(err)
	}
	if err := l.AddEntries(t.Context(), []oci.Descriptor{tagged(b, "one"), b}, graph.Rules{}); err != nil {
		t.Fatal(err)
	}
	x, err := l.Index()
	if err != nil || len(x.Manifests) != 2 || x.Manifests[0].Digest != b.Digest || x.Manifests[1].Digest != b.Digest {
		t.Fatalf("index %+v, %v", x, err)
	}
	// All or none.
	absent := tagged(oci.Describe(oci.MediaTypeManifest, []byte("{}")), "two")
	if err := l.AddEntries(t.Context(), []oci.Descriptor{tagged(a, "three"), absent}, graph.Rules{}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("AddEntries of an absent image = %v, want %v", err, ErrIncomplete)
	}
	if err := l.AddEntries(t.Context(), []oci.Descriptor{tagged(a, "bad tag")}, graph.Rules{}); err == nil {
		t.Error("a bad tag was taken")
	}
	if again, err := l.Index(); err != nil || len(again.Manifests) != 2 {
		t.Errorf("index %+v, %v", again, err)
	}
}
