package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

func newLayout(t *testing.T) *Layout {
	t.Helper()
	l, err := Init(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// addImage stores a small image and returns its manifest's descriptor.
func addImage(t *testing.T, l *Layout, note string) oci.Descriptor {
	t.Helper()
	layer, err := l.PutDocument(oci.MediaTypeLayer, []byte("layer "+note))
	if err != nil {
		t.Fatal(err)
	}
	config, err := l.PutDocument("application/x-config", []byte("config "+note))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := oci.Encode(oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: config, Layers: []oci.Descriptor{layer}})
	if err != nil {
		t.Fatal(err)
	}
	desc, err := l.PutDocument(oci.MediaTypeManifest, doc)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func files(t *testing.T, l *Layout) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(l.Name(), func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, strings.TrimPrefix(p, l.Name()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func mustVerify(t *testing.T, l *Layout) {
	t.Helper()
	findings, _, err := l.Verify(t.Context(), VerifyOptions{})
	if err != nil || len(findings) > 0 {
		t.Fatalf("Verify = %+v, %v", findings, err)
	}
}

func TestPutAndBlob(t *testing.T) {
	l := newLayout(t)
	data := bytes.Repeat([]byte("0123456789"), 20_000)
	d, size, err := l.Put(iotest.HalfReader(bytes.NewReader(data)), digest.Digest{})
	if err != nil || d != digest.FromBytes(data) || size != int64(len(data)) {
		t.Fatalf("Put = %s, %d, %v", d, size, err)
	}
	r, err := l.Blob(oci.Descriptor{Digest: d, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, data); err != nil {
		t.Error(err)
	}
	if _, err := l.Blob(oci.Descriptor{Digest: d, Size: size + 1}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Blob with another size: %v", err)
	}
	if _, err := l.Blob(oci.Descriptor{Digest: digest.FromBytes([]byte("x")), Size: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Blob that is absent: %v", err)
	}
	sha512, err := digest.Parse("sha512:" + strings.Repeat("0", 128))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Put(strings.NewReader("x"), sha512); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Put of other bytes: %v", err)
	}
}

// A document of the largest size is read. One that says it is larger is refused, whether it is there
// or not: nothing of it is read.
func TestDocumentLimit(t *testing.T) {
	l := newLayout(t)
	largest := bytes.Repeat([]byte(" "), oci.MaxDocument)
	d, size, err := l.Put(bytes.NewReader(largest), digest.Digest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := l.Document(oci.Descriptor{Digest: d, Size: size}); err != nil || !bytes.Equal(got, largest) {
		t.Errorf("Document of %d bytes: %d bytes, %v", size, len(got), err)
	}
	if _, err := l.Document(oci.Descriptor{Digest: digest.FromBytes(nil), Size: size + 1}); !errors.Is(err, oci.ErrMalformed) {
		t.Errorf("Document of %d bytes: %v, want %v", size+1, err, oci.ErrMalformed)
	}
}

// A reader that fails, a digest that is wrong and a writer that is given up leave nothing.
func TestFailedPutLeavesNothing(t *testing.T) {
	l := newLayout(t)
	before := files(t, l)
	if _, _, err := l.Put(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("abc"))), digest.Digest{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("Put of a failing reader: %v", err)
	}
	if _, _, err := l.Put(strings.NewReader("abc"), digest.FromBytes([]byte("other"))); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Put under a wrong digest: %v", err)
	}
	w, err := l.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "abc")
	w.Abort()
	if after := files(t, l); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("files before %q, after %q", before, after)
	}
}

// Storing a blob again heals a damaged one; other tools keep what is there.
func TestPutHeals(t *testing.T) {
	l := newLayout(t)
	d, size, err := l.Put(strings.NewReader("content"), digest.Digest{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.Name(), blobPath(d))
	for _, damage := range []string{"", "c0ntent", "content and more"} {
		if err := os.WriteFile(file, []byte(damage), 0o644); err != nil {
			t.Fatal(err)
		}
		if r, err := l.Blob(oci.Descriptor{Digest: d, Size: size}); err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
			if !errors.Is(err, digest.ErrMismatch) {
				t.Errorf("damaged blob %q was read: %v", damage, err)
			}
		}
		if _, _, err := l.Put(strings.NewReader("content"), d); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, l)
	}
}

// What a killed writer left is removed by the next one; what a living one writes is not.
func TestLeftovers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files that are open cannot be removed here")
	}
	l := newLayout(t)
	dead := filepath.Join(l.Name(), tempPrefix+"dead")
	if err := os.WriteFile(dead, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	living, err := l.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(living, "living")
	other, err := Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, _, err := other.Put(strings.NewReader("other"), digest.Digest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the leftover is still there: %v", err)
	}
	if _, _, err := living.Commit(digest.FromBytes([]byte("living"))); err != nil {
		t.Errorf("the living writer was disturbed: %v", err)
	}
	mustVerify(t, l)
}

func TestTagsAtOnce(t *testing.T) {
	l := newLayout(t)
	desc := addImage(t, l, "x")
	var wg sync.WaitGroup
	const writers, each = 16, 5
	for w := range writers {
		wg.Go(func() {
			mine, err := Open(l.Name())
			if err != nil {
				t.Error(err)
				return
			}
			defer mine.Close()
			for i := range each {
				if err := mine.Tag(t.Context(), fmt.Sprintf("w%d-%d", w, i), desc, TagOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	stop := make(chan bool)
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := l.Index(); err != nil {
					t.Errorf("a reader saw a torn index: %v", err)
					return
				}
			}
		}
	})
	wg.Wait()
	close(stop)
	readers.Wait()
	x, err := l.Index()
	if err != nil || len(x.Manifests) != writers*each {
		t.Errorf("%d tags of %d, %v", len(x.Manifests), writers*each, err)
	}
}

func TestTag(t *testing.T) {
	l := newLayout(t)
	one, two := addImage(t, l, "1"), addImage(t, l, "2")
	ctx := t.Context()
	for _, c := range []struct {
		name   string
		desc   oci.Descriptor
		expect Expectation
		want   error
	}{
		{"first", one, ExpectAbsent(), nil},
		{"absent was expected", two, ExpectAbsent(), ErrConflict},
		{"another was expected", two, Expect(two.Digest), ErrConflict},
		{"as expected", two, Expect(one.Digest), nil},
		{"whatever is there", one, Expectation{}, nil},
		{"not in the layout", oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromBytes([]byte("x")), Size: 1}, Expectation{}, ErrIncomplete},
		{"not a manifest", oci.Descriptor{MediaType: oci.MediaTypeConfig, Digest: one.Digest, Size: one.Size}, Expectation{}, oci.ErrMalformed},
	} {
		if err := l.Tag(ctx, "t", c.desc, TagOptions{Expect: c.expect}); !errors.Is(err, c.want) {
			t.Errorf("%s: Tag = %v, want %v", c.name, err, c.want)
		}
	}
	got, err := l.Resolve(oci.ImageName{Tag: "t"})
	if err != nil || got.Digest != one.Digest {
		t.Errorf("Resolve = %v, %v", got, err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	unlock, err := l.lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Tag(cancelled, "u", one, TagOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Tag under a foreign lock, cancelled: %v", err)
	}
	unlock()
}

// Other members of index.json and of its entries survive a change.
func TestUpdateKeepsWhatItDoesNotKnow(t *testing.T) {
	l := newLayout(t)
	desc := addImage(t, l, "1")
	index := fmt.Sprintf(`{"schemaVersion":2,"x-index":[1],"manifests":[{"mediaType":"x/y","digest":"%s","size":%d,"x-entry":true}]}`, desc.Digest, desc.Size)
	if err := os.WriteFile(filepath.Join(l.Name(), indexFile), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.Tag(t.Context(), "t", desc, TagOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := l.Untag(t.Context(), "t", Expectation{}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(l.Name(), indexFile))
	if err != nil || !strings.Contains(string(data), `"x-index":[1]`) || !strings.Contains(string(data), `"x-entry":true`) {
		t.Errorf("index.json = %s, %v", data, err)
	}
	if err := l.Untag(t.Context(), "t", Expectation{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Untag twice: %v", err)
	}
}

func TestResolve(t *testing.T) {
	l := newLayout(t)
	one, two := addImage(t, l, "1"), addImage(t, l, "2")
	entries := []oci.Descriptor{
		one.WithAnnotation(oci.AnnotationRefName, "v1"),
		one.WithAnnotation(oci.AnnotationRefName, "docker.io/library/app:v1"),
		two.WithAnnotation(oci.AnnotationRefName, "docker.io/library/app:v2"),
		two.WithAnnotation(oci.AnnotationImageName, "registry.test/x:v3"),
		one.WithAnnotation(oci.AnnotationRefName, "a.test/x:both"),
		two.WithAnnotation(oci.AnnotationRefName, "b.test/x:both"),
	}
	if err := l.Update(t.Context(), func(x *oci.Index) error { x.Manifests = entries; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tag    string
		digest digest.Digest
		want   digest.Digest
		err    error
	}{
		{"v1", digest.Digest{}, one.Digest, nil},
		{"docker.io/library/app:v2", digest.Digest{}, two.Digest, nil},
		{"v2", digest.Digest{}, two.Digest, nil},
		{"registry.test/x:v3", digest.Digest{}, two.Digest, nil},
		{"v3", digest.Digest{}, two.Digest, nil},
		{"app:v2", digest.Digest{}, two.Digest, nil}, // as Docker shows it
		{"docker.io/app:v2", digest.Digest{}, two.Digest, nil},
		{"x:v3", digest.Digest{}, digest.Digest{}, ErrNotFound}, // that would be another registry
		{"app", digest.Digest{}, digest.Digest{}, ErrNotFound},
		{"both", digest.Digest{}, digest.Digest{}, ErrAmbiguous},
		{"none", digest.Digest{}, digest.Digest{}, ErrNotFound},
		{"v1", one.Digest, one.Digest, nil},
		{"v1", two.Digest, digest.Digest{}, digest.ErrMismatch},
		{"", two.Digest, two.Digest, nil},
		{"", digest.FromBytes([]byte("layer 1")), digest.Digest{}, ErrNotFound},
		{"", digest.FromBytes([]byte("nothing")), digest.Digest{}, ErrNotFound},
		{"", digest.Digest{}, digest.Digest{}, ErrNotFound}, // several, and none is "latest"
	} {
		got, err := l.Resolve(oci.ImageName{Tag: c.tag, Digest: c.digest})
		if !errors.Is(err, c.err) || err == nil && got.Digest != c.want {
			t.Errorf("Resolve(%q, %s) = %s, %v; want %s, %v", c.tag, c.digest, got.Digest, err, c.want, c.err)
		}
	}
}

// Blobs and documents that are not regular files are refused without being opened: the other
// end of a pipe may never come.
func TestForeignFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no links here")
	}
	l := newLayout(t)
	desc := addImage(t, l, "1")
	file := filepath.Join(l.Name(), blobPath(desc.Digest))
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Rename(file, outside); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		plant func() error
		kind  string // as it is told
	}{
		{"link out of the layout", func() error { return os.Symlink(outside, file) }, "a symbolic link"},
		{"link inside", func() error { return os.Symlink("../../oci-layout", file) }, "a symbolic link"},
		{"device", func() error { return os.Symlink("/dev/zero", file) }, "a symbolic link"},
		{"pipe", func() error { return mkfifo(file) }, "a named pipe"},
		{"directory", func() error { return os.Mkdir(file, 0o755) }, "a directory"},
	} {
		if err := c.plant(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Document(desc); !errors.Is(err, oci.ErrMalformed) || !strings.Contains(err.Error(), "it is "+c.kind+",") {
			t.Errorf("%s: Document = %v, want that it is %s", c.name, err, c.kind)
		}
		findings, _, err := l.Verify(t.Context(), VerifyOptions{Roots: []oci.Descriptor{desc}})
		if err != nil || len(findings) != 1 || findings[0].Code != CodeBlobNotFile || !strings.Contains(findings[0].Got, "it is "+c.kind+",") {
			t.Errorf("%s: Verify = %+v, %v, want %s", c.name, findings, err, c.kind)
		}
		os.Remove(file)
	}
	index := filepath.Join(l.Name(), indexFile)
	os.Remove(index)
	if err := mkfifo(index); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Index(); !errors.Is(err, oci.ErrMalformed) {
		t.Errorf("index.json is a pipe: %v", err)
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	l, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	desc := addImage(t, l, "x")
	if err := l.Tag(t.Context(), "t", desc, TagOptions{}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	again, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Resolve(oci.ImageName{Tag: "t"}); err != nil {
		t.Errorf("Init of a layout that was there lost a tag: %v", err)
	}
	foreign := t.TempDir()
	os.WriteFile(filepath.Join(foreign, "file"), nil, 0o644)
	if _, err := Init(foreign); !errors.Is(err, ErrNotLayout) {
		t.Errorf("Init of a directory with files: %v", err)
	}
	// An Init that was cut short can be repeated.
	os.Remove(filepath.Join(dir, layoutFile))
	if l, err := Init(dir); err != nil {
		t.Errorf("Init after one that was cut short: %v", err)
	} else {
		l.Close()
	}
}

// Many indexes in one another, and one blob under two types, end in linear time.
func TestWalkIsLinear(t *testing.T) {
	l := newLayout(t)
	desc := addImage(t, l, "x")
	for range 300 {
		docker := desc
		if oci.IsIndex(desc.MediaType) {
			docker.MediaType = oci.MediaTypeDockerList
		}
		doc, err := oci.Encode(oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{desc, docker, desc}})
		if err != nil {
			t.Fatal(err)
		}
		if desc, err = l.PutDocument(oci.MediaTypeIndex, doc); err != nil {
			t.Fatal(err)
		}
	}
	visits := 0
	if err := graph.Walk(l, []oci.Descriptor{desc}, graph.Rules{}, func(graph.Node) error { visits++; return nil }); err != nil {
		t.Fatal(err)
	}
	if visits > 700 {
		t.Errorf("%d visits of 303 blobs", visits)
	}
	if err := graph.Check(l, desc, graph.Rules{}); err != nil {
		t.Error(err)
	}
}

// A layout that nobody may write can be read, and reading leaves no trace.
func TestReadOnly(t *testing.T) {
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("whoever runs this may write everywhere")
	}
	l := newLayout(t)
	desc := addImage(t, l, "x")
	if err := l.Tag(t.Context(), "t", desc, TagOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.Name(), 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(l.Name(), 0o755)
	mustVerify(t, l)
	if err := l.Tag(t.Context(), "u", desc, TagOptions{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Tag in a read-only layout: %v", err)
	}
}
