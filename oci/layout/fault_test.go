package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// A hastySystem does not wait for the disk: what is tested does not depend on it.
type hastySystem struct{ realSystem }

func (hastySystem) sync(*os.File) error { return nil }

// openHasty opens, or makes, a layout with another system.
func openHasty(t *testing.T, dir string, sys system) *Layout {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := at(root, dir)
	l.path, l.sys = dir, hastySystem{}
	if l.checkVersion() != nil {
		if err := l.init(func(fs.DirEntry) bool { return false }, nil); err != nil {
			t.Fatal(err)
		}
	}
	l.sys = sys
	return l
}

// A failingSystem fails at its k-th call, or from then on.
type failingSystem struct {
	hastySystem
	k      int
	onward bool
	err    error
	calls  int
	fired  string // the first call that failed
}

// fail counts a call and says whether it fails.
func (s *failingSystem) fail(call string) bool {
	s.calls++
	if s.calls == s.k || s.onward && s.calls > s.k {
		if s.fired == "" {
			s.fired = call
		}
		return true
	}
	return false
}

func (s *failingSystem) create(root *os.Root, name string) (*os.File, error) {
	if s.fail("create") {
		return nil, s.err
	}
	return s.hastySystem.create(root, name)
}

// write fails as a disk does that gets full: some bytes are written.
func (s *failingSystem) write(f *os.File, p []byte) (int, error) {
	if s.fail("write") {
		n, _ := s.hastySystem.write(f, p[:len(p)/2])
		return n, s.err
	}
	return s.hastySystem.write(f, p)
}

func (s *failingSystem) sync(f *os.File) error {
	if s.fail("sync") {
		return s.err
	}
	return s.hastySystem.sync(f)
}

func (s *failingSystem) close(f *os.File) error {
	if s.fail("close") {
		s.hastySystem.close(f)
		return s.err
	}
	return s.hastySystem.close(f)
}

func (s *failingSystem) rename(root *os.Root, from, to string) error {
	if s.fail("rename") {
		return s.err
	}
	return s.hastySystem.rename(root, from, to)
}

func (s *failingSystem) remove(root *os.Root, name string) error {
	if s.fail("remove") {
		return s.err
	}
	return s.hastySystem.remove(root, name)
}

func (s *failingSystem) mkdirAll(root *os.Root, name string) error {
	if s.fail("mkdir") {
		return s.err
	}
	return s.hastySystem.mkdirAll(root, name)
}

func (s *failingSystem) link(from, to string) error {
	if s.fail("link") {
		return s.err
	}
	return s.hastySystem.link(from, to)
}

func (s *failingSystem) linkBelow(root *os.Root, from, to string) error {
	if s.fail("link") {
		return s.err
	}
	return s.hastySystem.linkBelow(root, from, to)
}

func (s *failingSystem) clone(to, from *os.File) error {
	if s.fail("clone") {
		return s.err
	}
	return s.hastySystem.clone(to, from)
}

// A faultWorld is what the operations under test begin with: a layout with an image named
// "keep", one that nothing names, and a damaged copy of the other layout's blob.
type faultWorld struct {
	l, other  *Layout
	keep      oci.Descriptor
	image     oci.Descriptor // in both, named in none; the layer is damaged in l
	elsewhere oci.Descriptor // in the other only, named "elsewhere" there
	layer     digest.Digest  // of image
}

func newFaultWorld(t *testing.T) *faultWorld {
	t.Helper()
	dir := t.TempDir()
	w := &faultWorld{}
	w.l = openHasty(t, filepath.Join(dir, "layout"), hastySystem{})
	w.other = openHasty(t, filepath.Join(dir, "other"), hastySystem{})
	w.keep = addImage(t, w.l, "keep")
	if err := w.l.Tag(t.Context(), "keep", w.keep, TagOptions{}); err != nil {
		t.Fatal(err)
	}
	addImage(t, w.l, "image")
	w.image = addImage(t, w.other, "image")
	w.elsewhere = addImage(t, w.other, "elsewhere")
	w.layer = digest.FromBytes([]byte("layer image"))
	return w
}

// copied returns a world of its own that is as w is. To copy is faster than to make another.
func (w *faultWorld) copied(t *testing.T) *faultWorld {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Dir(w.l.Name()))); err != nil {
		t.Fatal(err)
	}
	c := *w
	c.l = openHasty(t, filepath.Join(dir, "layout"), hastySystem{})
	c.other = openHasty(t, filepath.Join(dir, "other"), hastySystem{})
	return &c
}

func (w *faultWorld) close() {
	w.l.Close()
	w.other.Close()
	os.RemoveAll(filepath.Dir(w.l.Name()))
}

func (w *faultWorld) damage(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.l.Name(), blobPath(w.layer)), []byte("lAyer image"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A faultOperation is one of the operations that change a layout.
type faultOperation struct {
	name    string
	prepare func(t *testing.T, w *faultWorld) // changes the world first
	do      func(w *faultWorld, l *Layout) error
	done    func(w *faultWorld) error // whether all is done
}

func faultOperations() []faultOperation {
	ctx := context.Background()
	has := func(l *Layout, tag string, want oci.Descriptor) error {
		got, err := l.Resolve(oci.ImageName{Tag: tag})
		if err == nil && got.Digest != want.Digest {
			err = fmt.Errorf("tag %q is %s, want %s", tag, got.Digest, want.Digest)
		}
		if err == nil {
			err = graph.Check(l, got, graph.Rules{})
		}
		return err
	}
	absent := func(l *Layout, d digest.Digest) error {
		if _, err := l.Stat(d); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("blob %s is still there: %v", d, err)
		}
		return nil
	}
	content := strings.Repeat("content ", 40_000)
	contentDigest := digest.FromBytes([]byte(content))
	return []faultOperation{
		{name: "Put", do: func(w *faultWorld, l *Layout) error {
			_, _, err := l.Put(strings.NewReader(content), contentDigest)
			return err
		}, done: func(w *faultWorld) error {
			return graph.Check(w.l, oci.Descriptor{Digest: contentDigest, Size: int64(len(content))}, graph.Rules{})
		}},
		{name: "Put sha512", do: func(w *faultWorld, l *Layout) error {
			wr, err := l.NewWriterFor(digest.SHA512)
			if err != nil {
				return err
			}
			defer wr.Abort()
			io.WriteString(wr, content)
			_, _, err = wr.Commit(digest.Digest{})
			return err
		}, done: func(w *faultWorld) error { return nil }},
		{name: "Put over a damaged blob", prepare: func(t *testing.T, w *faultWorld) { w.damage(t) },
			do: func(w *faultWorld, l *Layout) error {
				_, _, err := l.Put(strings.NewReader("layer image"), w.layer)
				return err
			}, done: func(w *faultWorld) error { return nil }},
		{name: "Tag", do: func(w *faultWorld, l *Layout) error { return l.Tag(ctx, "new", w.image, TagOptions{}) },
			done: func(w *faultWorld) error { return has(w.l, "new", w.image) }},
		{name: "Tag again", do: func(w *faultWorld, l *Layout) error { return l.Tag(ctx, "old", w.image, TagOptions{}) },
			prepare: func(t *testing.T, w *faultWorld) {
				if err := w.l.Tag(ctx, "old", w.keep, TagOptions{}); err != nil {
					t.Fatal(err)
				}
			}, done: func(w *faultWorld) error { return has(w.l, "old", w.image) }},
		{name: "Untag", do: func(w *faultWorld, l *Layout) error {
			err := l.Untag(ctx, "old", Expectation{})
			if errors.Is(err, ErrNotFound) { // done by the time that failed
				err = nil
			}
			return err
		}, prepare: func(t *testing.T, w *faultWorld) {
			if err := w.l.Tag(ctx, "old", w.keep, TagOptions{}); err != nil {
				t.Fatal(err)
			}
		}, done: func(w *faultWorld) error {
			if _, err := w.l.Resolve(oci.ImageName{Tag: "old"}); !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("the tag is still there: %v", err)
			}
			return nil
		}},
		{name: "Copy by links", do: func(w *faultWorld, l *Layout) error {
			return l.Copy(ctx, w.other, pointers([]oci.Descriptor{w.elsewhere.WithAnnotation(oci.AnnotationRefName, "copied")}), CopyOptions{})
		}, done: func(w *faultWorld) error { return has(w.l, "copied", w.elsewhere) }},
		{name: "Copy of bytes", do: func(w *faultWorld, l *Layout) error {
			return l.Copy(ctx, w.other, pointers([]oci.Descriptor{w.elsewhere.WithAnnotation(oci.AnnotationRefName, "copied")}), CopyOptions{NoLink: true})
		}, done: func(w *faultWorld) error { return has(w.l, "copied", w.elsewhere) }},
		{name: "Copy over a damaged blob", prepare: func(t *testing.T, w *faultWorld) { w.damage(t) },
			do: func(w *faultWorld, l *Layout) error {
				return l.Copy(ctx, w.other, pointers([]oci.Descriptor{w.image.WithAnnotation(oci.AnnotationRefName, "copied")}), CopyOptions{})
			}, done: func(w *faultWorld) error { return has(w.l, "copied", w.image) }},
		{name: "GC", do: func(w *faultWorld, l *Layout) error {
			_, err := l.GC(ctx, GCOptions{Delete: true, Now: time.Now().Add(time.Second)}, func(Garbage) error { return nil })
			return err
		}, done: func(w *faultWorld) error { return errors.Join(absent(w.l, w.image.Digest), absent(w.l, w.layer)) }},
		{name: "Repair", prepare: func(t *testing.T, w *faultWorld) { w.damage(t) },
			do: func(w *faultWorld, l *Layout) error {
				findings, _, err := l.Verify(ctx, VerifyOptions{})
				if err == nil {
					_, err = l.Repair(ctx, findings, w.other)
				}
				return err
			}, done: func(w *faultWorld) error { return nil }},
		{name: "Adopt", do: func(w *faultWorld, l *Layout) error {
			name := UploadPrefix + "x"
			if err := l.root.WriteFile(name, []byte("adopted"), 0o644); err != nil {
				return err
			}
			f, err := l.root.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			return l.Adopt(f, name, digest.FromBytes([]byte("adopted")))
		}, done: func(w *faultWorld) error {
			return graph.Check(w.l, oci.Descriptor{Digest: digest.FromBytes([]byte("adopted")), Size: 7}, graph.Rules{})
		}},
		{name: "RemoveBlob", do: func(w *faultWorld, l *Layout) error {
			err := l.RemoveBlob(w.layer)
			if errors.Is(err, ErrNotFound) {
				err = nil
			}
			return err
		}, done: func(w *faultWorld) error { return absent(w.l, w.layer) }},
	}
}

// TestEveryCallFails lets the k-th changing call of each operation fail, for every k, once
// and from then on, with a full and with a broken disk. Afterwards no file lies about its
// digest and the name that was there is there; success means that all is done; and the
// operation succeeds when it is tried again. Under -short each of the four ways to fail meets
// other calls, all four together every call.
func TestEveryCallFails(t *testing.T) {
	for _, op := range faultOperations() {
		t.Run(op.name, func(t *testing.T) {
			world := newFaultWorld(t)
			defer world.close()
			if op.prepare != nil {
				op.prepare(t, world)
			}
			way, tried := 0, 0
			for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
				for _, onward := range []bool{false, true} {
					way++
					for k := digesttest.Reps(1, way); ; k += digesttest.Reps(1, 8) {
						w := world.copied(t)
						what := fmt.Sprintf("call %d, %v, onward %t", k, fault, onward)
						sys := &failingSystem{k: k, onward: onward, err: fault}
						l := openHasty(t, w.l.Name(), sys)
						err := op.do(w, l)
						l.Close()
						if sys.fired == "" && err != nil {
							t.Fatalf("%s: no call failed, but: %v", what, err)
						}
						what += " (" + sys.fired + ")"
						if sys.fired != "" {
							tried++
							w.check(t, what, op.prepare != nil)
							if err == nil {
								if err := op.done(w); err != nil {
									t.Fatalf("%s: success, but: %v", what, err)
								}
							} else if !errors.Is(err, fault) {
								t.Errorf("%s: the error hides its cause: %v", what, err)
							}
						}
						// What a user does next.
						again := openHasty(t, w.l.Name(), hastySystem{})
						if err := errors.Join(op.do(w, again), op.done(w)); err != nil {
							t.Fatalf("%s: the same again: %v", what, err)
						}
						again.Close()
						w.check(t, what+", then again", false)
						if sys.fired == "" {
							w.close()
							break
						}
						w.close()
					}
				}
			}
			if tried == 0 {
				t.Error("no call failed")
			}
		})
	}
}

// A syncedSystem knows what a power cut would lose: the files that were written, and the directories
// that got a new name, since they were synced last.
type syncedSystem struct {
	hastySystem
	t     *testing.T
	dir   string
	loses map[string]bool // by path below dir
}

func (s *syncedSystem) below(name string) string {
	rel, err := filepath.Rel(s.dir, name)
	if err != nil {
		s.t.Error(err)
	}
	return filepath.ToSlash(rel)
}

// named notes that a directory has a new name in it.
func (s *syncedSystem) named(name string) { s.loses[path.Dir(name)] = true }

func (s *syncedSystem) create(root *os.Root, name string) (*os.File, error) {
	s.loses[name] = true
	return s.hastySystem.create(root, name)
}

func (s *syncedSystem) write(f *os.File, p []byte) (int, error) {
	s.loses[s.below(f.Name())] = true
	return s.hastySystem.write(f, p)
}

func (s *syncedSystem) clone(to, from *os.File) error {
	s.loses[s.below(to.Name())] = true
	return s.hastySystem.clone(to, from)
}

func (s *syncedSystem) sync(f *os.File) error {
	delete(s.loses, s.below(f.Name()))
	return nil
}

// rename is where a name begins to count: what it names has to outlive it, and if it is that of
// index.json, so has everything else.
func (s *syncedSystem) rename(root *os.Root, from, to string) error {
	if s.loses[from] {
		s.t.Errorf("%s is renamed to %s before it was synced", from, to)
		delete(s.loses, from)
	}
	if to == indexFile && len(s.loses) > 0 {
		s.t.Errorf("index.json is replaced before these were synced: %q", slices.Sorted(maps.Keys(s.loses)))
	}
	s.named(to)
	return s.hastySystem.rename(root, from, to)
}

func (s *syncedSystem) remove(root *os.Root, name string) error {
	delete(s.loses, name)
	return s.hastySystem.remove(root, name)
}

func (s *syncedSystem) mkdirAll(root *os.Root, name string) error {
	s.named(name)
	return s.hastySystem.mkdirAll(root, name)
}

func (s *syncedSystem) link(from, to string) error {
	s.named(s.below(to))
	return s.hastySystem.link(from, to)
}

func (s *syncedSystem) linkBelow(root *os.Root, from, to string) error {
	s.named(to)
	return s.hastySystem.linkBelow(root, from, to)
}

// Power may fail at any time: index.json never names a blob that is not on the disk yet, and when an
// operation has ended nothing of what it did can be lost.
func TestSyncedBeforeNamed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("directories cannot be synced there")
	}
	for _, op := range faultOperations() {
		t.Run(op.name, func(t *testing.T) {
			w := newFaultWorld(t)
			defer w.close()
			if op.prepare != nil {
				op.prepare(t, w)
			}
			s := &syncedSystem{t: t, dir: w.l.Name(), loses: map[string]bool{}}
			l := openHasty(t, w.l.Name(), s)
			defer l.Close()
			if err := errors.Join(op.do(w, l), op.done(w)); err != nil {
				t.Fatal(err)
			}
			if len(s.loses) > 0 {
				t.Errorf("not synced at the end: %q", slices.Sorted(maps.Keys(s.loses)))
			}
		})
	}
}

// check fails unless the layout is sound, but for the blob that was damaged before.
func (w *faultWorld) check(t *testing.T, what string, damaged bool) {
	t.Helper()
	findings, _, err := w.l.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatalf("%s: Verify: %v", what, err)
	}
	for _, f := range findings {
		if !damaged || f.Digest != w.layer.String() {
			t.Fatalf("%s: %+v", what, f)
		}
	}
	if got, err := w.l.Resolve(oci.ImageName{Tag: "keep"}); err != nil || got.Digest != w.keep.Digest {
		t.Fatalf("%s: the name that was there: %v", what, err)
	}
	next := openHasty(t, w.l.Name(), hastySystem{})
	defer next.Close()
	if _, _, err := next.Put(strings.NewReader("keep"), digest.Digest{}); err != nil {
		t.Fatalf("%s: next Put: %v", what, err)
	}
	for _, name := range files(t, next) {
		if strings.Contains(name, tempPrefix) {
			t.Fatalf("%s: %s is left", what, name)
		}
	}
}

// The first call of Init fails, then the second …: what is left can be made a layout.
func TestInitFails(t *testing.T) {
	for k := 1; ; k++ {
		dir := filepath.Join(t.TempDir(), "new")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		sys := &failingSystem{k: k, err: syscall.ENOSPC}
		l := at(root, dir)
		l.sys = sys
		err = l.init(func(fs.DirEntry) bool { return false }, nil)
		l.Close()
		if sys.fired == "" {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("call %d (%s): init = %v", k, sys.fired, err)
		}
		l, err = Init(dir)
		if err != nil {
			t.Fatalf("call %d (%s), then again: %v", k, sys.fired, err)
		}
		mustVerify(t, l)
		l.Close()
	}
}
