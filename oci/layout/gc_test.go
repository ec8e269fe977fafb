package layout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// collect runs GC on everything, whatever its age, and returns the digests and paths.
func collect(t *testing.T, l *Layout, o GCOptions) ([]string, error) {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = time.Now().Add(time.Minute)
	}
	var found []string
	_, err := l.GC(t.Context(), o, func(g Garbage) error {
		if g.Digest.IsZero() {
			found = append(found, g.Path)
		} else {
			found = append(found, g.Digest.String())
		}
		return nil
	})
	return found, err
}

func putDocument(t *testing.T, l *Layout, mediaType string, v any) oci.Descriptor {
	t.Helper()
	data, err := oci.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := l.PutDocument(mediaType, data)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

// setIndex makes the entries those of index.json.
func setIndex(t *testing.T, l *Layout, entries ...oci.Descriptor) {
	t.Helper()
	if err := l.Update(t.Context(), func(x *oci.Index) error { x.Manifests = entries; return nil }); err != nil {
		t.Fatal(err)
	}
}

// What other tools' collectors were seen to delete is kept: images of Docker's types, sha512,
// indexes in indexes, subjects, referrers that are not listed, documents of unknown types and
// what they mention.
func TestGCKeeps(t *testing.T) {
	l := newLayout(t)
	image := addImage(t, l, "image")
	artifact := func(note string, subject *oci.Descriptor) oci.Descriptor {
		config, err := l.PutDocument("application/x-config", []byte(note))
		if err != nil {
			t.Fatal(err)
		}
		return putDocument(t, l, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: config, Subject: subject})
	}
	signature := artifact("signature of the image", &image)
	artifact("signature of the signature", &signature)
	base := artifact("subject of what is listed", nil)
	listed := artifact("listed, has a subject", &base)

	wr, err := l.NewWriterFor(digest.SHA512)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(wr, "layer with sha512")
	d512, size, err := wr.Commit(digest.Digest{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := l.PutDocument(oci.MediaTypeDockerConfig, []byte(`{"architecture":"a","os":"o","rootfs":{"type":"layers","diff_ids":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	docker := putDocument(t, l, oci.MediaTypeDockerManifest, oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeDockerManifest, Config: config,
		Layers: []oci.Descriptor{{MediaType: oci.MediaTypeDockerLayer, Digest: d512, Size: size}}})
	list := putDocument(t, l, oci.MediaTypeDockerList, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeDockerList, Manifests: []oci.Descriptor{docker}})
	nested := putDocument(t, l, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{list, image}})

	deep := addImage(t, l, "mentioned")
	unknown := putDocument(t, l, "application/x-list+json", map[string]any{"of": []string{deep.Digest.String()}})
	setIndex(t, l, nested, listed, unknown)

	if found, err := collect(t, l, GCOptions{}); err != nil || len(found) > 0 {
		t.Errorf("GC of a layout without garbage = %q, %v", found, err)
	}
	before := files(t, l)
	loose := artifact("garbage", nil)
	artifact("refers to garbage", &loose)
	found, err := collect(t, l, GCOptions{})
	if err != nil || len(found) != 4 || len(files(t, l)) != len(before)+4 {
		t.Errorf("GC, dry = %q, %v, want 4 blobs", found, err)
	}
	if found, err := collect(t, l, GCOptions{Delete: true, MinAge: time.Hour}); err != nil || len(found) > 0 {
		t.Errorf("GC of young garbage = %q, %v", found, err)
	}
	if _, err := collect(t, l, GCOptions{Delete: true}); err != nil {
		t.Fatal(err)
	}
	if after := files(t, l); !slices.Equal(after, before) {
		t.Errorf("files after GC: %q, want %q", after, before)
	}
	mustVerify(t, l)
}

// Whatever makes it unclear what is needed stops the collection before anything is removed.
// What index.json names counts, not what was read of it before: written in place, within a tick of
// the clock, it looks like the same file.
func TestGCReadsTheIndexAnew(t *testing.T) {
	l := newLayout(t)
	setIndex(t, l, addImage(t, l, "old"))
	before, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	now := addImage(t, l, "new")
	name := filepath.Join(l.Name(), indexFile)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	data = []byte(strings.ReplaceAll(string(data), before.Manifests[0].Digest.String(), now.Digest.String()))
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}

	if _, err := collect(t, l, GCOptions{Delete: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Document(now); err != nil {
		t.Errorf("the image that index.json names: %v", err)
	}
}

func TestGCRefuses(t *testing.T) {
	break_ := func(name string) func(t *testing.T, l *Layout, desc oci.Descriptor) {
		return func(t *testing.T, l *Layout, desc oci.Descriptor) {
			d := desc.Digest
			if name == "layer" {
				d = digest.FromBytes([]byte("layer x"))
			}
			if err := os.Remove(filepath.Join(l.Name(), blobPath(d))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		spoil  func(t *testing.T, l *Layout, desc oci.Descriptor)
		sparse bool // accepted with Sparse
	}{
		{"manifest absent", break_("manifest"), true},
		{"layer absent", break_("layer"), true},
		{"manifest damaged", func(t *testing.T, l *Layout, desc oci.Descriptor) {
			name := filepath.Join(l.Name(), blobPath(desc.Digest))
			data, _ := os.ReadFile(name)
			data[0] ^= 1
			os.WriteFile(name, data, 0o644)
		}, false},
		{"manifest empty", func(t *testing.T, l *Layout, desc oci.Descriptor) {
			os.WriteFile(filepath.Join(l.Name(), blobPath(desc.Digest)), nil, 0o644)
		}, false},
		{"index.json damaged", func(t *testing.T, l *Layout, desc oci.Descriptor) {
			os.WriteFile(filepath.Join(l.Name(), indexFile), []byte("{"), 0o644)
		}, false},
		{"index.json absent", func(t *testing.T, l *Layout, desc oci.Descriptor) { os.Remove(filepath.Join(l.Name(), indexFile)) }, false},
		{"wrong type", func(t *testing.T, l *Layout, desc oci.Descriptor) {
			desc.MediaType = oci.MediaTypeIndex
			setIndex(t, l, desc)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLayout(t)
			addImage(t, l, "garbage")
			desc := addImage(t, l, "x")
			setIndex(t, l, desc)
			c.spoil(t, l, desc)
			before := files(t, l)
			if found, err := collect(t, l, GCOptions{Delete: true}); !errors.Is(err, ErrUnsafe) || len(found) > 0 {
				t.Errorf("GC = %q, %v", found, err)
			}
			if after := files(t, l); !slices.Equal(after, before) {
				t.Errorf("files after: %q, want %q", after, before)
			}
			if _, err := collect(t, l, GCOptions{Delete: true, Sparse: true}); (err == nil) != c.sparse {
				t.Errorf("GC of what is sparse on purpose: %v", err)
			}
		})
	}
	if runtime.GOOS == "windows" {
		return
	}
	l := newLayout(t)
	addImage(t, l, "garbage")
	blobs := filepath.Join(l.Name(), blobsDir)
	os.Rename(blobs, filepath.Join(l.Name(), "pool"))
	if err := os.Symlink("pool", blobs); err != nil {
		t.Fatal(err)
	}
	if found, err := collect(t, l, GCOptions{Delete: true}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("GC through a link = %q, %v", found, err)
	}
}

// A link that the user made of blobs, to share them among layouts, is followed to read. Nothing is
// written or removed behind one that leads out of the layout.
func TestSharedBlobs(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no links here")
	}
	l := newLayout(t)
	desc := addImage(t, l, "1")
	if err := l.Tag(t.Context(), "v1", desc, TagOptions{}); err != nil {
		t.Fatal(err)
	}
	addImage(t, l, "garbage")
	l.Close()
	shared := filepath.Join(t.TempDir(), "shared")
	blobs := filepath.Join(l.Name(), blobsDir)
	if err := os.Rename(blobs, shared); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(shared, blobs); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(filepath.Join(shared, "sha256"))
	if err != nil {
		t.Fatal(err)
	}

	l, err = Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Document(desc); err != nil {
		t.Error(err)
	}
	findings, report, err := l.Verify(t.Context(), VerifyOptions{})
	if err != nil || report.Blobs != len(before) || len(findings) != 0 {
		t.Errorf("Verify() = %+v, %+v, %v, want %d blobs", findings, report, err, len(before))
	}
	to := newLayout(t)
	if err := to.Copy(t.Context(), l, pointers([]oci.Descriptor{desc}), CopyOptions{}); err != nil {
		t.Error(err)
	}
	mustVerify(t, to)

	if _, _, err := l.Put(strings.NewReader("new"), digest.Digest{}); !errors.Is(err, errOutside) {
		t.Errorf("Put() = %v", err)
	}
	other := newLayout(t)
	fresh := addImage(t, other, "2")
	if err := l.Copy(t.Context(), other, pointers([]oci.Descriptor{fresh}), CopyOptions{}); !errors.Is(err, errOutside) {
		t.Errorf("Copy() = %v", err)
	}
	if err := l.Copy(t.Context(), to, pointers([]oci.Descriptor{desc}), CopyOptions{}); err != nil {
		t.Errorf("Copy() of what is there: %v", err)
	}
	if found, err := collect(t, l, GCOptions{Delete: true}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("GC() = %q, %v", found, err)
	}
	if after, err := os.ReadDir(filepath.Join(shared, "sha256")); err != nil || len(after) != len(before) {
		t.Errorf("%d files in the shared directory, %v; before %d", len(after), err, len(before))
	}
}

func TestGCLeftovers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files that are open cannot be removed here")
	}
	l := newLayout(t)
	living, err := l.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	defer living.Abort()
	for _, name := range []string{tempPrefix + "dead", UploadPrefix + "old", UploadPrefix + "new", "foreign"} {
		if err := os.WriteFile(filepath.Join(l.Name(), name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-48 * time.Hour)
	os.Chtimes(filepath.Join(l.Name(), UploadPrefix+"old"), old, old)
	found, err := collect(t, l, GCOptions{Delete: true})
	if want := []string{tempPrefix + "dead", UploadPrefix + "old"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("GC = %q, %v, want %q", found, err, want)
	}
}

// Collections run beside writers that build images out of blobs which are garbage at times:
// whoever was told that his image has its name has it whole.
func TestGCBesideWriters(t *testing.T) {
	t.Run("of all ages", func(t *testing.T) { gcBesideWriters(t, 0) })
	t.Run("of an hour", func(t *testing.T) {
		if refused := gcBesideWriters(t, time.Hour); refused > 0 {
			t.Errorf("%d writers lost young blobs", refused)
		}
	})
}

func gcBesideWriters(t *testing.T, minAge time.Duration) (refused int) {
	l := newLayout(t)
	rounds := digesttest.Reps(20, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var collector sync.WaitGroup
	collections := 0
	collector.Go(func() {
		mine, err := Open(l.Name())
		if err != nil {
			t.Error(err)
			return
		}
		defer mine.Close()
		for ctx.Err() == nil {
			if _, err := mine.GC(ctx, GCOptions{Delete: true, MinAge: minAge, Now: time.Now()}, func(Garbage) error { return nil }); err != nil && ctx.Err() == nil {
				t.Errorf("GC: %v", err)
				return
			}
			collections++
			time.Sleep(3 * time.Millisecond)
		}
	})
	var writers sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for w := range 4 {
		writers.Go(func() {
			mine, err := Open(l.Name())
			if err != nil {
				t.Error(err)
				return
			}
			defer mine.Close()
			for i := range rounds {
				tag := fmt.Sprintf("w%d", w)
				desc, err := tryImage(mine, fmt.Sprint(i))
				if err == nil {
					err = mine.Tag(t.Context(), tag, desc, TagOptions{})
				}
				if err == nil {
					err = graph.Check(mine, desc, graph.Rules{})
					if err != nil {
						t.Errorf("a tag was set, but: %v", err)
					}
					mu.Lock()
					done++
					mu.Unlock()
					continue
				}
				if !errors.Is(err, ErrIncomplete) {
					t.Error(err)
				}
				mu.Lock()
				refused++
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	cancel()
	collector.Wait()
	mustVerify(t, l)
	t.Logf("%d images named, %d refused since a collection took their blobs first, %d collections", done, refused, collections)
	return refused
}

func tryImage(l *Layout, note string) (oci.Descriptor, error) {
	layer, err := l.PutDocument(oci.MediaTypeLayer, []byte("layer "+note))
	if err != nil {
		return layer, err
	}
	config, err := l.PutDocument("application/x-config", []byte("config "+note))
	if err != nil {
		return config, err
	}
	doc, err := oci.Encode(oci.Manifest{SchemaVersion: 2, Config: config, Layers: []oci.Descriptor{layer}})
	if err != nil {
		return config, err
	}
	return l.PutDocument(oci.MediaTypeManifest, doc)
}

func TestCopy(t *testing.T) {
	for _, noLink := range []bool{false, true} {
		from, to := newLayout(t), newLayout(t)
		image, other := addImage(t, from, "1"), addImage(t, from, "2")
		index := putDocument(t, from, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{image, other}})
		config, err := from.PutDocument("application/x-config", []byte("signature"))
		if err != nil {
			t.Fatal(err)
		}
		signature := putDocument(t, from, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: config, Subject: &image})
		setIndex(t, from, index.WithAnnotation(oci.AnnotationRefName, "v1"), signature)
		layer := digest.FromBytes([]byte("layer 1"))
		ways := map[How]int{}
		o := CopyOptions{NoLink: noLink, Report: func(_ oci.Descriptor, how How) error { ways[how]++; return nil }}
		named := index.WithAnnotation(oci.AnnotationRefName, "copied").WithAnnotation(oci.AnnotationDiffID, layer.String())

		// A damaged blob at the target, of the same size.
		if err := to.mkdirs("blobs/sha256"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to.Name(), blobPath(layer)), []byte("lAyer 1"), 0o644); err != nil {
			t.Fatal(err)
		}
		dry := o
		dry.DryRun = true
		if err := to.Copy(t.Context(), from, []*oci.Descriptor{&named}, dry); err != nil || ways[HowRepaired] != 1 {
			t.Errorf("dry run: %v, %v", ways, err)
		}
		if _, err := to.Resolve(oci.ImageName{Tag: "copied"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("dry run named something: %v", err)
		}
		clear(ways)
		if err := to.Copy(t.Context(), from, []*oci.Descriptor{&named}, o); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, to)
		if got, err := to.Resolve(oci.ImageName{Tag: "copied"}); err != nil || got.Digest != index.Digest || graph.Check(to, got, graph.Rules{}) != nil {
			t.Errorf("Resolve = %v, %v", got, err)
		} else if got.Annotations.Get(oci.AnnotationDiffID) != "" {
			t.Errorf("index.json has the diff ID, which is for descriptors in a pipe: %v", got.Annotations)
		}
		if ways[HowRepaired] != 1 || ways[HowLinked]+ways[HowCloned]+ways[HowCopied] != 6 || noLink && ways[HowCopied] != 6 {
			t.Errorf("NoLink %t: %v", noLink, ways)
		}
		if !noLink && ways[HowCopied] > 0 && canLink(t) {
			t.Errorf("blobs were copied where they can be linked: %v", ways)
		}
		clear(ways)
		o.Referrers = true
		if err := to.Copy(t.Context(), from, []*oci.Descriptor{&named}, o); err != nil || ways[HowKept] != 7 {
			t.Errorf("again: %v, %v", ways, err)
		}
		x, err := to.Index()
		if err != nil || len(x.Manifests) != 2 || x.Manifests[1].Digest != signature.Digest {
			t.Errorf("entries: %+v, %v", x.Manifests, err)
		}
		mustVerify(t, to)
	}
}

// canLink reports whether the file system of temporary folders has hard links.
func canLink(t *testing.T) bool {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	return os.WriteFile(name, nil, 0o644) == nil && os.Link(name, filepath.Join(dir, "b")) == nil
}

// A blob that only its descriptor holds becomes a file in the copy, if it is the right one.
func TestCopyOfEmbeddedBlob(t *testing.T) {
	data := []byte("signature")
	config := oci.Descriptor{MediaType: "application/x-config", Digest: digest.FromBytes(data), Size: int64(len(data)), Data: data}
	from, to := newLayout(t), newLayout(t)
	m := putDocument(t, from, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: config})
	if err := to.Copy(t.Context(), from, []*oci.Descriptor{&m}, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if size, err := to.Stat(config.Digest); size != config.Size || err != nil {
		t.Errorf("Stat of the copied blob = %d, %v, want %d", size, err, config.Size)
	}
	mustVerify(t, to)

	config.Data = []byte("sIgnature")
	m = putDocument(t, from, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: config})
	if err := newLayout(t).Copy(t.Context(), from, []*oci.Descriptor{&m}, CopyOptions{}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Copy of wrong embedded data = %v, want %v", err, digest.ErrMismatch)
	}
}

// What is damaged in the source does not get a name in the target, and spoils nothing there.
func TestCopyOfDamage(t *testing.T) {
	layer := digest.FromBytes([]byte("layer x"))
	for _, c := range []struct {
		name  string
		data  string
		o     CopyOptions
		there bool // the target has the blob
		ok    bool
	}{
		{"other bytes", "lAyer x", CopyOptions{NoLink: true}, false, false},
		{"other bytes, linked", "lAyer x", CopyOptions{Verify: true}, false, false},
		{"other size, linked", "layer", CopyOptions{}, false, false},
		{"empty", "", CopyOptions{}, false, false},
		{"other bytes, the target has them right", "lAyer x", CopyOptions{}, true, true},
		{"absent", "absent", CopyOptions{}, false, false},
		{"absent, the target has it", "absent", CopyOptions{}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := newLayout(t), newLayout(t)
			desc := addImage(t, from, "x")
			name := filepath.Join(from.Name(), blobPath(layer))
			if c.there {
				if _, _, err := to.Put(strings.NewReader("layer x"), layer); err != nil {
					t.Fatal(err)
				}
			}
			if c.data == "absent" {
				os.Remove(name)
			} else if err := os.WriteFile(name, []byte(c.data), 0o644); err != nil {
				t.Fatal(err)
			}
			err := to.Copy(t.Context(), from, pointers([]oci.Descriptor{desc.WithAnnotation(oci.AnnotationRefName, "t")}), c.o)
			if (err == nil) != c.ok {
				t.Errorf("Copy = %v", err)
			}
			if _, err := to.Resolve(oci.ImageName{Tag: "t"}); (err == nil) != c.ok {
				t.Errorf("Resolve = %v", err)
			}
			mustVerify(t, to)
		})
	}
}

// Two descriptors of one blob that contradict each other, or the data in one of them, cannot
// both be right: nothing is copied, named or collected by them.
func TestContradictions(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(m *oci.Manifest)
	}{
		{"a layer under two sizes", func(m *oci.Manifest) { m.Layers[1].Size++ }},
		{"data of another blob", func(m *oci.Manifest) { m.Layers[0].Data = []byte("hello") }},
		{"data of another blob, at the second mention", func(m *oci.Manifest) { m.Layers[1].Data = []byte("LAYER x") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := newLayout(t), newLayout(t)
			addImage(t, from, "garbage")
			desc := addImage(t, from, "x")
			doc, err := from.Document(desc)
			if err != nil {
				t.Fatal(err)
			}
			m, err := oci.DecodeManifest(desc, doc)
			if err != nil {
				t.Fatal(err)
			}
			m.Layers = append(m.Layers, m.Layers[0])
			c.spoil(&m)
			desc = putDocument(t, from, oci.MediaTypeManifest, m)
			if err := from.Tag(t.Context(), "t", desc, TagOptions{}); err == nil {
				t.Error("Tag: no error")
			}
			if err := to.Copy(t.Context(), from, pointers([]oci.Descriptor{desc.WithAnnotation(oci.AnnotationRefName, "t")}), CopyOptions{}); err == nil {
				t.Error("Copy: no error")
			}
			mustVerify(t, to)
			setIndex(t, from, desc)
			if found, err := collect(t, from, GCOptions{Delete: true}); !errors.Is(err, ErrUnsafe) || len(found) > 0 {
				t.Errorf("GC = %q, %v", found, err)
			}
		})
	}
}

func TestRepair(t *testing.T) {
	good, bad := newLayout(t), newLayout(t)
	desc := addImage(t, good, "x")
	index := putDocument(t, good, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{desc}})
	setIndex(t, bad, index.WithAnnotation(oci.AnnotationRefName, "t"))
	// Three rounds: the index, its manifest, what that names.
	for n := 1; n > 0; {
		findings, _, err := bad.Verify(t.Context(), VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		repaired, err := bad.Repair(t.Context(), findings, good)
		if n = len(repaired); err != nil {
			t.Fatal(err)
		}
	}
	mustVerify(t, bad)
	if runtime.GOOS != "windows" {
		name := filepath.Join(bad.Name(), blobPath(desc.Digest))
		for what, spoil := range map[string]func() error{
			"link":      func() error { return os.Symlink("/dev/zero", name) },
			"directory": func() error { return os.Mkdir(name, 0o755) },
			"pipe":      func() error { return mkfifo(name) },
		} {
			os.Remove(name)
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			findings, _, err := bad.Verify(t.Context(), VerifyOptions{})
			if err != nil || len(findings) != 1 {
				t.Fatalf("%s: %+v, %v", what, findings, err)
			}
			if got, err := bad.Repair(t.Context(), findings, good); err != nil || len(got) != 1 || got[0].Severity != SeverityRepaired {
				t.Errorf("%s: Repair = %+v, %v", what, got, err)
			}
			mustVerify(t, bad)
		}
	}
	// Of two descriptors of one torn blob the first is wrong; the other can be satisfied.
	layer := oci.Descriptor{MediaType: "application/x", Digest: digest.FromBytes([]byte("layer x")), Size: 7}
	wrong := layer
	wrong.Size = 70
	empty := oci.Describe(oci.MediaTypeEmpty, []byte("{}"))
	two := putDocument(t, bad, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, ArtifactType: "application/x", Config: empty, Layers: []oci.Descriptor{wrong, layer}})
	putDocument(t, bad, oci.MediaTypeEmpty, oci.Object{})
	if err := os.WriteFile(filepath.Join(bad.Name(), blobPath(layer.Digest)), []byte("lay"), 0o644); err != nil {
		t.Fatal(err)
	}
	opts := VerifyOptions{Roots: []oci.Descriptor{two}, Fast: true}
	findings, _, err := bad.Verify(t.Context(), opts)
	if err != nil || len(findings) != 2 {
		t.Fatalf("%+v, %v", findings, err)
	}
	if got, err := bad.Repair(t.Context(), findings, good); err != nil || len(got) != 1 || got[0].Want != "7" {
		t.Errorf("Repair of a torn blob = %+v, %v", got, err)
	}
	mustVerify(t, bad)
	// A source that is damaged itself repairs nothing, and no harm is done.
	for _, l := range []*Layout{good, bad} {
		if err := os.WriteFile(filepath.Join(l.Name(), blobPath(digest.FromBytes([]byte("layer x")))), []byte("lAyer x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	findings, _, err = bad.Verify(t.Context(), VerifyOptions{})
	if err != nil || len(findings) != 1 {
		t.Fatalf("%+v, %v", findings, err)
	}
	if got, err := bad.Repair(t.Context(), findings, good); err != nil || len(got) != 0 {
		t.Errorf("Repair from a damaged source = %+v, %v", got, err)
	}
}

// A torn subject once stayed so, since its finding says more than the size that is wanted.
func TestRepairOfASubject(t *testing.T) {
	good, bad := newLayout(t), newLayout(t)
	subject := addImage(t, good, "x")
	empty := oci.Describe(oci.MediaTypeEmpty, []byte("{}"))
	putDocument(t, bad, oci.MediaTypeEmpty, oci.Object{})
	signature := putDocument(t, bad, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, ArtifactType: "application/x", Config: empty, Layers: []oci.Descriptor{empty}, Subject: &subject})
	if err := os.WriteFile(filepath.Join(bad.Name(), blobPath(subject.Digest)), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	findings, _, err := bad.Verify(t.Context(), VerifyOptions{Roots: []oci.Descriptor{signature}, Deep: true, Fast: true})
	findings = slices.DeleteFunc(findings, func(f Finding) bool { return f.Code != CodeBlobSize })
	if err != nil || len(findings) != 1 {
		t.Fatalf("findings of the size: %+v, %v, want one", findings, err)
	}
	if got, err := bad.Repair(t.Context(), findings, good); err != nil || len(got) != 1 {
		t.Errorf("Repair of %+v = %+v, %v, want it repaired", findings, got, err)
	}
	if size, err := bad.Stat(subject.Digest); err != nil || size != subject.Size {
		t.Errorf("the subject has %d bytes, %v, want %d", size, err, subject.Size)
	}
}

// Verification finds each flipped bit, each other length and each exchange of names, and says
// nothing of a layout that is whole.
func TestVerifyFindsEveryBit(t *testing.T) {
	l := newLayout(t)
	desc := addImage(t, l, "x")
	if err := l.Tag(t.Context(), "t", desc, TagOptions{}); err != nil {
		t.Fatal(err)
	}
	blobs, err := l.Blobs()
	if err != nil {
		t.Fatal(err)
	}
	var all int64
	for _, b := range blobs {
		size, err := l.Stat(b.Digest)
		if err != nil {
			t.Fatal(err)
		}
		all += size
	}
	if _, sum, err := l.Verify(t.Context(), VerifyOptions{}); err != nil || sum.Blobs != len(blobs) || sum.Bytes != all {
		t.Errorf("Verify counted %+v, %v, want %d blobs of %d bytes", sum, err, len(blobs), all)
	}
	tried := 0
	for _, b := range blobs {
		name := filepath.Join(l.Name(), blobPath(b.Digest))
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		try := func(what string, spoiled []byte) {
			t.Helper()
			_, err := f.WriteAt(spoiled, 0)
			if err := errors.Join(err, f.Truncate(int64(len(spoiled)))); err != nil {
				t.Fatal(err)
			}
			findings, _, err := l.Verify(t.Context(), VerifyOptions{})
			if err != nil || len(findings) == 0 || findings[0].Digest != b.Digest.String() {
				t.Errorf("%s of %s: %+v, %v", what, b.Digest, findings, err)
			}
			tried++
		}
		for i := 0; i < len(data)*8; i += digesttest.Reps(1, 17) {
			spoiled := slices.Clone(data)
			spoiled[i/8] ^= 1 << (i % 8)
			try(fmt.Sprintf("bit %d", i), spoiled)
		}
		for i := 0; i < len(data); i += digesttest.Reps(1, 17) {
			try(fmt.Sprintf("first %d bytes", i), data[:i])
		}
		try("one byte more", append(slices.Clone(data), 0))
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, l)
	}
	if tried < 100 {
		t.Errorf("only %d changes were tried", tried)
	}
}

func TestVerifyDeep(t *testing.T) {
	l := newLayout(t)
	desc := addImage(t, l, "x")
	for range maxNesting + 1 {
		desc = putDocument(t, l, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{desc}})
	}
	loop := digest.FromBytes([]byte("loop"))
	text := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%%d}]}`, oci.MediaTypeIndex, loop)
	text = fmt.Sprintf(text, len(text)+1)
	if err := os.WriteFile(filepath.Join(l.Name(), blobPath(loop)), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	absent := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromBytes([]byte("absent")), Size: 1}
	config, err := l.PutDocument("application/x-config", []byte("y"))
	if err != nil {
		t.Fatal(err)
	}
	signature := putDocument(t, l, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: config, Subject: &absent})
	setIndex(t, l, desc.WithAnnotation(oci.AnnotationRefName, "deep"), desc.WithAnnotation(oci.AnnotationRefName, "deep"),
		desc.WithAnnotation(oci.AnnotationRefName, "a b"), signature,
		oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: loop, Size: int64(len(text))})
	for _, name := range []string{tempPrefix + "dead", "notes.txt", "manifest.json"} {
		if err := os.WriteFile(filepath.Join(l.Name(), name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	findings, _, err := l.Verify(t.Context(), VerifyOptions{Deep: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range findings {
		got = append(got, f.Code)
	}
	slices.Sort(got)
	want := []string{CodeBlobDigest, CodeFileForeign, CodeFileLeftover, CodeIndexCycle, CodeIndexDepth, CodeNameDuplicate, CodeNameInvalid, CodeSubjectMissing}
	slices.Sort(want)
	if !slices.Equal(slices.Compact(got), want) {
		t.Errorf("codes %q, want %q", got, want)
	}
	if findings, _, err := l.Verify(t.Context(), VerifyOptions{}); err != nil || len(findings) != 1 {
		t.Errorf("without Deep: %+v, %v", findings, err)
	}
}

// A layout is reached through a link; links inside do not lead out of it.
func TestLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no links here")
	}
	l := newLayout(t)
	desc := addImage(t, l, "x")
	if err := l.Tag(t.Context(), "t", desc, TagOptions{}); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(l.Name(), link); err != nil {
		t.Fatal(err)
	}
	linked, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer linked.Close()
	mustVerify(t, linked)
	to := newLayout(t)
	if err := to.Copy(t.Context(), linked, pointers([]oci.Descriptor{desc}), CopyOptions{}); err != nil {
		t.Error(err)
	}
	if err := linked.Tag(t.Context(), "u", desc, TagOptions{}); err != nil {
		t.Error(err)
	}
	outside := t.TempDir()
	blobs := filepath.Join(l.Name(), blobsDir, "sha256")
	if err := os.Rename(blobs, filepath.Join(outside, "sha256")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "sha256"), blobs); err != nil {
		t.Fatal(err)
	}
	l.Close() // the directory that it has open is outside now
	if l, err = Open(l.Name()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Document(desc); err == nil {
		t.Error("a blob was read through a link that leads out")
	}
	if _, _, err := l.Put(strings.NewReader("new"), digest.Digest{}); err == nil {
		t.Error("a blob was written through a link that leads out")
	}
	if entries, err := os.ReadDir(filepath.Join(outside, "sha256")); err != nil || len(entries) != 3 {
		t.Errorf("%d files outside, %v", len(entries), err)
	}
}

// What has come of an image that is not whole yet is kept; while its manifest is to come,
// nothing is collected.
func TestGCKeepsWhatWaits(t *testing.T) {
	l := newLayout(t)
	desc := addImage(t, l, "x")
	put := func(content string) digest.Digest {
		d, _, err := l.Put(strings.NewReader(content), digest.Digest{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	// A layer that is to be made of others, which no manifest names yet.
	delta := Delta{Delta: put("delta"), Digest: put("result"), Bases: []DeltaBase{{Digest: put("base 1")}, {Digest: put("base 2")}}}
	data, err := oci.Encode(Waiting{Images: []oci.Descriptor{desc}, Deltas: []Delta{delta}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.writeBytes(WaitingFile, data); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(l.Name(), blobPath(digest.FromBytes([]byte("layer x"))))); err != nil {
		t.Fatal(err)
	}
	if found, err := collect(t, l, GCOptions{Delete: true}); err != nil || len(found) > 0 {
		t.Errorf("a layer is to come: GC = %q, %v", found, err)
	}
	if err := os.Remove(filepath.Join(l.Name(), blobPath(desc.Digest))); err != nil {
		t.Fatal(err)
	}
	if found, err := collect(t, l, GCOptions{Delete: true}); !errors.Is(err, ErrUnsafe) || len(found) > 0 {
		t.Errorf("the manifest is to come: GC = %q, %v", found, err)
	}

	// What cannot be read is forgotten too, and nothing more can be.
	if err := l.writeBytes(WaitingFile, []byte("{")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.ForgetWaiting(t.Context()); err != nil {
			t.Errorf("ForgetWaiting = %v", err)
		}
		if w, err := l.Waiting(); err != nil || len(w.Images) > 0 {
			t.Errorf("after ForgetWaiting: %+v, %v", w, err)
		}
	}
}

// A pipe or a file in place of the blobs is an error, and nobody waits for a writer.
func TestBlobsAreNoDirectory(t *testing.T) {
	for what, spoil := range map[string]func(name string) error{
		"pipe": mkfifo, "file": func(name string) error { return os.WriteFile(name, nil, 0o644) },
	} {
		l := newLayout(t)
		blobs := filepath.Join(l.Name(), blobsDir)
		if err := os.RemoveAll(blobs); err != nil {
			t.Fatal(err)
		}
		if err := spoil(blobs); errors.Is(err, errors.ErrUnsupported) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Verify(t.Context(), VerifyOptions{Deep: true}); !errors.Is(err, oci.ErrMalformed) {
			t.Errorf("%s: Verify = %v", what, err)
		}
		if _, err := l.GC(t.Context(), GCOptions{}, func(Garbage) error { return nil }); !errors.Is(err, oci.ErrMalformed) {
			t.Errorf("%s: GC = %v", what, err)
		}

		from := newLayout(t)
		image := addImage(t, from, "1").WithAnnotation(oci.AnnotationRefName, "copied")
		if err := l.Copy(t.Context(), from, pointers([]oci.Descriptor{image}), CopyOptions{}); err == nil {
			t.Errorf("%s: Copy succeeded", what)
		}
		if _, err := l.Resolve(oci.ImageName{Tag: "copied"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: Copy named what is not there: %v", what, err)
		}
	}
}

// A brokenSource has an index that cannot be read.
type brokenSource struct {
	*Layout
	err error
}

func (s brokenSource) Index() (oci.Index, error) { return oci.Index{}, s.err }

// An index that is malformed is a finding, one that cannot be read is an error: neither is sound.
func TestVerifyWithoutIndex(t *testing.T) {
	l := newLayout(t)
	broken := errors.New("input/output error")
	if _, _, err := Verify(t.Context(), brokenSource{l, broken}, VerifyOptions{}); !errors.Is(err, broken) {
		t.Errorf("index that cannot be read: %v, want %v", err, broken)
	}
	for _, cause := range []error{oci.ErrMalformed, ErrNotLayout} {
		findings, _, err := Verify(t.Context(), brokenSource{l, cause}, VerifyOptions{})
		if err != nil || len(findings) != 1 || findings[0].Code != CodeIndexMalformed {
			t.Errorf("%v: Verify = %+v, %v, want that the index is malformed", cause, findings, err)
		}
	}
}

// A link to a pipe, in place of the directory of blobs, is not opened: that would wait for ever.
func TestSharedPipe(t *testing.T) {
	l := newLayout(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if mkfifo(pipe) != nil {
		t.Skip("no pipes here")
	}
	if err := os.RemoveAll(filepath.Join(l.Name(), blobsDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(pipe, filepath.Join(l.Name(), blobsDir)); err != nil {
		t.Fatal(err)
	}

	if _, _, err := l.Verify(t.Context(), VerifyOptions{}); err == nil {
		t.Error("a pipe was taken for a directory")
	}
}

// Nor is a pipe in the place of the directory of an algorithm, or of a layout.
func TestPipesForDirectories(t *testing.T) {
	l := newLayout(t)
	desc := addImage(t, l, "1")
	algorithm := filepath.Join(l.Name(), filepath.Dir(blobPath(desc.Digest)))
	if err := os.RemoveAll(algorithm); err != nil {
		t.Fatal(err)
	}
	if mkfifo(algorithm) != nil {
		t.Skip("no pipes here")
	}
	if _, err := l.Document(desc); err == nil {
		t.Error("a blob was read out of a pipe")
	}
	if _, err := l.PutDocument("text/plain", []byte("x")); err == nil {
		t.Error("a blob was put into a pipe")
	}

	root, err := os.OpenRoot(filepath.Dir(algorithm))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, open := range map[string]func() (*Layout, error){
		"Open":           func() (*Layout, error) { return Open(algorithm) },
		"Init":           func() (*Layout, error) { return Init(algorithm) },
		"OpenBelow":      func() (*Layout, error) { return OpenBelow(root, filepath.Base(algorithm)) },
		"InitBelow":      func() (*Layout, error) { return InitBelow(root, filepath.Base(algorithm), nil) },
		"KnownOpenBelow": func() (*Layout, error) { return new(Known).OpenBelow(root, filepath.Base(algorithm)) },
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s took a pipe for a layout", name)
		}
	}
}
