package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/archive/split"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/oci/source"
	"ocikit/tarutil"
)

// write writes an archive to a file.
func write(t testing.TB, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// open opens an archive, which is closed at the end of the test.
func open(t testing.TB, name string, o OpenOptions) (*Archive, error) {
	t.Helper()
	a, err := Open(t.Context(), name, o)
	if err == nil {
		t.Cleanup(func() {
			if err := a.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
		})
	}
	return a, err
}

// blobsOf returns the bytes of everything that the images of a source are made of, by digest.
func blobsOf(t testing.TB, s source.Source) map[string]string {
	t.Helper()
	x, err := s.Index()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	err = graph.Walk(s, x.Manifests, graph.Rules{}, func(n graph.Node) error {
		r, err := s.Blob(n.Desc)
		if err != nil {
			return err
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		all[n.Desc.Digest.String()] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// entriesOf returns names and digests in a source.
func entriesOf(t testing.TB, s source.Source) (all []string) {
	t.Helper()
	x, err := s.Index()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range x.Manifests {
		all = append(all, strings.Join([]string{d.Annotations.Get(oci.AnnotationRefName), d.Annotations.Get(oci.AnnotationImageName), d.MediaType, d.Digest.String()}, " "))
	}
	slices.Sort(all)
	return all
}

// samples returns archives as programs write them.
func samples(t testing.TB) map[string][]byte {
	l := layouttest.New(t)
	one, two := addImage(t, l, "amd64", "a", "b", "a"), addImage(t, l, "arm64", "c")
	images := []Image{{l, one, "v1", "docker.io/library/app:v1"}, {l, two, "v1", "example.com/app:v1"}}
	all := map[string][]byte{}
	for _, f := range []Format{Both, OCI, Docker} {
		all[string(f)] = save(t, f, images...)
	}

	a := newDockerArchive(t)
	all["docker save of old"] = tarOf(t, a.entries()...)
	a = newDockerArchive(t)
	a.config = strings.Replace(a.config, digest.FromBytes(a.layers[1]).String(), digest.FromBytes(a.layers[0]).String(), 1)
	e := a.entries()
	e[3] = link("2/layer.tar", "../1/layer.tar", tar.TypeSymlink)
	all["a layer that is a link"] = tarOf(t, e...)
	a = newDockerArchive(t)
	e = a.entries()
	e[2] = file("1/layer.tar", string(digesttest.Gzipped(a.layers[0])))
	all["crane"] = tarOf(t, e...)
	return all
}

// An archive that is read where it is has the names, the digests and the bytes of the layout that
// it makes when it is loaded: as a file, compressed, in parts, and from a pipe.
func TestSource(t *testing.T) {
	for name, data := range samples(t) {
		t.Run(name, func(t *testing.T) {
			l := layouttest.New(t)
			if _, err := Load(t.Context(), l, bytes.NewReader(data), LoadOptions{}); err != nil {
				t.Fatal(err)
			}
			wantEntries, wantBlobs := entriesOf(t, l), blobsOf(t, l)

			temp, parts := t.TempDir(), filepath.Join(t.TempDir(), "parts")
			if _, err := split.Split(t.Context(), bytes.NewReader(data), parts, split.Options{Name: "x", Size: 1000}); err != nil {
				t.Fatal(err)
			}
			o := OpenOptions{TempDir: temp}
			opened := map[string]func() (*Archive, error){
				"plain":      func() (*Archive, error) { return open(t, write(t, data), o) },
				"compressed": func() (*Archive, error) { return open(t, write(t, digesttest.Gzipped(data)), o) },
				"parts":      func() (*Archive, error) { return open(t, parts, o) },
				"a pipe": func() (*Archive, error) {
					return OpenStream(t.Context(), iotest.HalfReader(bytes.NewReader(data)), "-", o)
				},
			}
			for how, open := range opened {
				a, err := open()
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				if got := entriesOf(t, a); !slices.Equal(got, wantEntries) {
					t.Errorf("%s: entries %q, want %q", how, got, wantEntries)
				}
				got := blobsOf(t, a)
				if len(got) != len(wantBlobs) {
					t.Errorf("%s: %d blobs, want %d", how, len(got), len(wantBlobs))
				}
				for d, want := range wantBlobs {
					if got[d] != want {
						t.Errorf("%s: blob %s differs", how, d)
					}
				}
				if err := a.Close(); err != nil {
					t.Errorf("%s: Close = %v", how, err)
				}
			}
			if files, _ := os.ReadDir(temp); len(files) > 0 {
				t.Errorf("%d temporary files are left", len(files))
			}
			mustResolve(t, l, data)
		})
	}
}

// mustResolve compares what names mean in an archive and in a layout.
func mustResolve(t *testing.T, l *layout.Layout, data []byte) {
	t.Helper()
	a, err := open(t, write(t, data), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	names := []oci.ImageName{{}, {Tag: "v1"}, {Tag: "none"}, {Tag: "docker.io/library/app:v1"}, {Digest: digest.FromBytes([]byte("none"))}}
	for _, e := range x.Manifests {
		names = append(names, oci.ImageName{Digest: e.Digest}, oci.ImageName{Tag: e.Annotations.Get(oci.AnnotationImageName)})
	}
	for _, n := range names {
		got, err := a.Resolve(n)
		want, wantErr := l.Resolve(n)
		if got.Digest != want.Digest || errors.Is(err, graph.ErrNotFound) != errors.Is(wantErr, graph.ErrNotFound) || errors.Is(err, graph.ErrAmbiguous) != errors.Is(wantErr, graph.ErrAmbiguous) {
			t.Errorf("Resolve(%v) = %s, %v, want %s, %v", n, got.Digest, err, want.Digest, wantErr)
		}
	}
}

// A blob passes the exams of a reader, and one that is damaged says so in place of its end.
func TestSourceBlob(t *testing.T) {
	l := layouttest.New(t)
	desc := addImage(t, l, "amd64", strings.Repeat("a", 5000))
	data := save(t, Both, Image{l, desc, "v1", ""})
	a, err := open(t, write(t, data), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	layer := layersOf(t, l, desc)[1]
	want := read(t, l, layer)
	r, err := a.Blob(layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(struct{ io.Reader }{r}, want); err != nil {
		t.Error(err)
	}
	at, err := a.BlobAt(layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(io.NewSectionReader(at, 0, layer.Size), want); err != nil {
		t.Error(err)
	}
	longer := layer
	longer.Size++
	if _, err := a.Blob(longer); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Blob of another size = %v", err)
	}
	if _, err := a.Blob(oci.Descriptor{Digest: digest.FromBytes([]byte("none"))}); !errors.Is(err, graph.ErrNotFound) {
		t.Errorf("Blob that is absent = %v", err)
	}

	spoiled := bytes.Replace(bytes.Clone(data), want[20:60], append([]byte("x"), want[21:60]...), 1)
	if a, err = open(t, write(t, spoiled), OpenOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, err = a.Blob(layer); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("a damaged blob was read with %v", err)
	}
}

// moby/moby#47517: files that no document can name are passed over with a notice, as they are in
// the directory of a layout.
func TestForeignMembers(t *testing.T) {
	l := layouttest.New(t)
	desc := addImage(t, l, "amd64", "a")
	var entries []entry
	tr := tar.NewReader(bytes.NewReader(save(t, Both, Image{l, desc, "v1", "docker.io/library/app:v1"})))
	for hdr, err := tr.Next(); err == nil; hdr, err = tr.Next() {
		content, _ := io.ReadAll(tr)
		entries = append(entries, entry{*hdr, string(content)})
	}
	const blobs = 3 // manifest, config, layer
	for _, name := range []string{
		"blobs/sha256/._" + desc.Digest.Encoded(), "blobs/sha256/.DS_Store", "blobs/sha256/x.tmp", "blobs/x", "._index.json", ".DS_Store",
		"blobs/blake3/" + strings.Repeat("a", 64), "blobs/sha256/" + strings.Repeat("A", 64),
		"blobs/sha256/" + desc.Digest.Encoded() + "/x",
	} {
		data := tarOf(t, append(entries[:len(entries):len(entries)], file(name, "x"))...)
		var notices []string
		notice := func(text string) { notices = append(notices, text) }
		a, err := open(t, write(t, data), OpenOptions{Notice: notice})
		if err != nil || len(notices) != 1 || !strings.Contains(notices[0], name) {
			t.Errorf("%s: Open = %v, with notices %q", name, err, notices)
			continue
		}
		if got := len(blobsOf(t, a)); got != blobs {
			t.Errorf("%s: %d blobs, want %d", name, got, blobs)
		}
		for what, bring := range map[string]func(l *layout.Layout) error{
			"Load": func(l *layout.Layout) error {
				_, err := Load(t.Context(), l, bytes.NewReader(data), LoadOptions{Notice: notice})
				return err
			},
			"Unbundle": func(l *layout.Layout) error {
				_, err := Unbundle(t.Context(), l, bytes.NewReader(data), UnbundleOptions{Notice: notice})
				return err
			},
		} {
			to := layouttest.New(t)
			if err := bring(to); err != nil {
				t.Errorf("%s: %s = %v", name, what, err)
				continue
			}
			if stored, err := to.Blobs(); err != nil || len(stored) != blobs {
				t.Errorf("%s: %s stored %d blobs, %v, want %d", name, what, len(stored), err, blobs)
			}
		}
	}
}

// Whatever comes: no panic, and what is read in place has the names, the digests and the bytes of the
// layout that it makes when it is loaded.
func FuzzOpen(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := layouttest.New(t)
		_, loadErr := Load(t.Context(), l, bytes.NewReader(data), LoadOptions{})
		if tarutil.Sniff(data[:min(len(data), tarutil.SniffLen)]) != tarutil.FormatTar {
			return // decompressed first
		}
		err := readInPlace(t, data)
		if loadErr != nil {
			return
		}
		if err != nil && !errors.Is(err, graph.ErrIncomplete) {
			t.Fatalf("it is loaded, and not read in place: %v", err)
		}
		a, err := open(t, write(t, data), OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := entriesOf(t, a), entriesOf(t, l); !slices.Equal(got, want) {
			t.Errorf("entries %q, want %q", got, want)
		}
	})
}
