package diff

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
	"ocikit/tarutil/pack"
)

// changes describes changes: kind, path, what.
func changes(list *Changes) []string {
	var lines []string
	if list == nil {
		return nil
	}
	for c := range list.All() {
		line := fmt.Sprintf("%.1s %s", c.Kind, c.Path)
		if c.Aspects != 0 {
			line += " " + c.Aspects.String()
		}
		lines = append(lines, line)
	}
	return lines
}

func tarTree(t testing.TB, data []byte) *tarutil.TarFile {
	return tarutil.TarTree(bytes.NewReader(data), t.TempDir())
}

func TestDiff(t *testing.T) {
	base := []string{"d/", "d/a 1", "d/b 2", "d/sub/", "d/sub/x 3", "f 4", "l -> f"}
	tests := []struct {
		name     string
		old, new []string
		want     []string
		layer    []string
	}{
		{"alike", base, base, nil, nil},
		{"other order", []string{"b 1", "a 2"}, []string{"a 2", "b 1"}, nil, nil},
		{"no entries for directories", []string{"d/", "d/a 1"}, []string{"d/a 1"}, nil, nil},
		{"content", base, []string{"d/", "d/a 9", "d/b 2", "d/sub/", "d/sub/x 3", "f 4", "l -> f"},
			[]string{"C d/a content"}, []string{"d/", "d/a 9"}},
		{"content of another size", []string{"a 1"}, []string{"a 12"}, []string{"C a content"}, []string{"a 12"}},
		{"link", []string{"l -> a"}, []string{"l -> b"}, []string{"C l link"}, []string{"l -> b"}},
		{"added", []string{"a 1"}, []string{"a 1", "b/", "b/c 2"}, []string{"A b", "A b/c"}, []string{"b/", "b/c 2"}},
		{"deleted file", base, []string{"d/", "d/b 2", "d/sub/", "d/sub/x 3", "f 4", "l -> f"},
			[]string{"D d/a"}, []string{"d/", "d/.wh.a"}},
		{"deleted directory", base, []string{"f 4", "l -> f"},
			[]string{"D d", "D d/a", "D d/b", "D d/sub", "D d/sub/x"}, []string{".wh.d"}},
		{"emptied directory", base, []string{"d/", "f 4", "l -> f"},
			[]string{"D d/a", "D d/b", "D d/sub", "D d/sub/x"}, []string{"d/", "d/.wh..wh..opq"}},
		{"replaced content of a directory", base, []string{"d/", "d/new 5", "f 4", "l -> f"},
			[]string{"D d/a", "D d/b", "A d/new", "D d/sub", "D d/sub/x"}, []string{"d/", "d/.wh..wh..opq", "d/new 5"}},
		{"file becomes directory", []string{"x 1"}, []string{"x/", "x/y 2"}, []string{"C x type", "A x/y"}, []string{"x/", "x/y 2"}},
		{"directory becomes file", []string{"x/", "x/y 2"}, []string{"x 1"}, []string{"C x type", "D x/y"}, []string{"x 1"}},
		{"directory becomes link", []string{"x/", "x/y 2"}, []string{"x -> y"}, []string{"C x type", "D x/y"}, []string{"x -> y"}},
		{"one of two hard links", []string{"a 1", "b 1"}, []string{"a 1", "b = a"}, []string{"C b link"}, []string{"a 1", "b = a"}},
		{"new hard link", []string{"d/", "d/a 1"}, []string{"d/", "d/a 1", "z = d/a"}, []string{"A z"}, []string{"d/", "d/a 1", "z = d/a"}},
		{"first name of hard links", []string{"b 1"}, []string{"b 1", "a = b"}, []string{"A a", "C b link"}, []string{"a 1", "b = a"}},
		{"hard links torn", []string{"a 1", "b = a"}, []string{"a 1", "b 1"}, []string{"C b link"}, []string{"b 1"}},
		{"all gone", []string{"a 1", "b 2"}, nil, []string{"D a", "D b"}, []string{".wh.a", ".wh.b"}},
		{"from nothing", nil, []string{"a 1"}, []string{"A a"}, []string{"a 1"}},
	}
	for _, tt := range tests {
		a, b := tartest.Layer(t, tt.old...), tartest.Gzipped(t, tartest.Layer(t, tt.new...))
		got, err := Trees(context.Background(), tarTree(t, a), tarTree(t, b), Options{})
		for i, line := range tt.want {
			tt.want[i] = strings.NewReplacer("A ", "a ", "C ", "c ", "D ", "d ").Replace(line[:2]) + line[2:]
		}
		if err != nil || !slices.Equal(changes(got), tt.want) {
			t.Errorf("%s: %v\ngot  %q\nwant %q", tt.name, err, changes(got), tt.want)
		}
		piped := tarutil.TarTree(iotest.HalfReader(bytes.NewReader(b)), t.TempDir())
		var buf bytes.Buffer
		_, err = WriteLayer(context.Background(), &buf, tarTree(t, a), piped, Options{TempDir: t.TempDir()})
		if err := errors.Join(err, piped.Close()); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		tartest.WantList(t, tt.name, buf.Bytes(), tt.layer...)
	}
}

// unreadable is a tree of one file, the content of which cannot be read.
type unreadable struct{}

func (unreadable) Walk(_ context.Context, fn func(tarutil.TreeEntry) error) error {
	return fn(tarutil.TreeEntry{Header: &tar.Header{Name: "f", Size: 9}, Content: iotest.ErrReader(io.ErrClosedPipe)})
}

// Contents that do not count are not read.
func TestIgnoredContent(t *testing.T) {
	for ignore, want := range map[Aspects]error{Content: nil, Mode: io.ErrClosedPipe} {
		list, err := Trees(t.Context(), unreadable{}, unreadable{}, Options{Ignore: ignore})
		if len(changes(list)) > 0 || !errors.Is(err, want) {
			t.Errorf("Ignore %s: %q, %v, want %v", ignore, changes(list), err, want)
		}
	}
}

// many is a tree of many files, in directories of a thousand.
type many int

func (m many) Walk(_ context.Context, fn func(tarutil.TreeEntry) error) error {
	for i := range int(m) {
		hdr := &tar.Header{Name: fmt.Sprintf("%d/%d", i/1000, i), Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(int64(i), 0)}
		if err := fn(tarutil.TreeEntry{Header: hdr, Content: strings.NewReader("")}); err != nil {
			return err
		}
	}
	return nil
}

// A million files have to fit beside the stack of layers that they come from, twice if they are alike.
func TestMemoryOfFiles(t *testing.T) {
	const files, nameSize = 50_000, 4
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	d, err := newDiffer(t.Context(), many(files), many(files), &Options{})
	if err != nil || d.changes.Len() > 0 {
		t.Fatalf("%q, %v", changes(&d.changes), err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)

	if got := int(after.HeapAlloc-before.HeapAlloc) / files; got > 140 {
		t.Errorf("a file takes %d bytes", got)
	}
	want := tarutil.PathMemory + nameSize + fileMemory + 8
	if got := d.paths.Budget.Used() / files; got < want || got > want+5 {
		t.Errorf("a file takes %d bytes of the budget, want %d", got, want)
	}

	const stack = 75 // what it takes for a file besides its path, see package stack
	if million := 1_000_000 * (tarutil.PathMemory + 20 + fileMemory + stack); million > tarutil.DefaultMaxMemory {
		t.Errorf("a million files take %d bytes, more than there are", million)
	}
	runtime.KeepAlive(d)
}

func TestDiffWhat(t *testing.T) {
	at := time.Unix(1, 5)
	base := tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: at}
	for _, tt := range []struct {
		what   string
		change func(h *tar.Header)
	}{
		{"", func(h *tar.Header) { h.ModTime = time.Unix(1, 0) }},
		{"", func(h *tar.Header) { h.Uname = "root" }},
		{"times", func(h *tar.Header) { h.ModTime = time.Unix(1, 6) }},
		{"times", func(h *tar.Header) { h.ModTime = time.Unix(2, 5) }},
		{"mode", func(h *tar.Header) { h.Mode = 0o4644 }},
		{"owner", func(h *tar.Header) { h.Gid = 1 }},
		{"xattrs", func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1"} }},
		{"", func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.security.selinux": "1"} }},
		{"type", func(h *tar.Header) { h.Typeflag = tar.TypeFifo; h.Mode = 0 }},
		{"mode,owner", func(h *tar.Header) { h.Mode, h.Uid = 0, 5 }},
	} {
		other := base
		tt.change(&other)
		var trees [2]*tarutil.TarFile
		for i, hdr := range []tar.Header{base, other} {
			var buf bytes.Buffer
			tw := tarutil.NewWriter(&buf)
			if err := errors.Join(tw.WriteHeader(&hdr), tw.Close()); err != nil {
				t.Fatal(err)
			}
			trees[i] = tarTree(t, buf.Bytes())
		}
		list, err := Trees(context.Background(), trees[0], trees[1], Options{})
		got := ""
		if len(changes(list)) > 0 {
			got = list.At(0).Aspects.String()
		}
		if err != nil || got != tt.what {
			t.Errorf("got %q, %v, want %q", got, err, tt.what)
		}
		if len(changes(list)) > 0 {
			list, err = Trees(context.Background(), trees[0], trees[1], Options{Ignore: list.At(0).Aspects})
			if err != nil || len(changes(list)) != 0 {
				t.Errorf("%s ignored: %v, %v", tt.what, changes(list), err)
			}
		}
	}
}

func TestDiffRefuses(t *testing.T) {
	good := tartest.Layer(t, "a 1")
	for name, tt := range map[string]struct {
		data []byte
		want error
	}{
		"whiteout":                  {tartest.Layer(t, "d/.wh.x"), tarutil.ErrWhiteoutName},
		"path twice":                {tartest.Layer(t, "a 1", "a 2"), tarutil.ErrDuplicate},
		"file with something in it": {tartest.Layer(t, "a 1", "a/b 2"), tarutil.ErrMalformed},
		"hard link to nothing":      {tartest.Layer(t, "a = b"), tarutil.ErrMalformed},
		"hard link to a directory":  {tartest.Layer(t, "d/", "a = d"), tarutil.ErrMalformed},
		"climbing":                  {tartest.Layer(t, "../a 1"), tarutil.ErrBadPath},
		"cut":                       {good[:700], tarutil.ErrTruncated},
	} {
		if _, err := Trees(context.Background(), tarTree(t, good), tarTree(t, tt.data), Options{}); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if _, err := Trees(context.Background(), pack.DirTree(t.TempDir()+"/no"), tarTree(t, good), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestDiffDirs(t *testing.T) {
	a := tartest.Tree(t, "d/x 1", "d/y 2", "same 3", "big "+strings.Repeat("x", 1<<20), "l -> d")
	b := tartest.Tree(t, "d/x 1", "d/y 9", "new 4", "l -> d", "h = new")
	if err := os.Link(filepath.Join(a, "same"), filepath.Join(b, "same")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(b, "same"), 1); err != nil {
		t.Fatal(err)
	}
	opts := Options{Ignore: Times | Mode}
	got, err := Trees(context.Background(), pack.DirTree(a), pack.DirTree(b), opts)
	want := []string{"d big", "c d/y content", "a h", "a new"}
	if err != nil || !slices.Equal(changes(got), want) {
		t.Errorf("%v\ngot  %q\nwant %q", err, changes(got), want)
	}
	var buf bytes.Buffer
	matcher, err := tarutil.NewMatcher([]string{"h"})
	if err != nil {
		t.Fatal(err)
	}
	opts.Exclude = matcher
	if _, err := WriteLayer(context.Background(), &buf, pack.DirTree(a), pack.DirTree(b), opts); err != nil {
		t.Fatal(err)
	}
	tartest.WantList(t, "layer", buf.Bytes(), ".wh.big", "d/", "d/y 9", "new 4")
	buf.Reset()
	if err := pack.Tar(t.Context(), &buf, []pack.Source{{Path: b}}, pack.Options{Owner: tarutil.Owner{Keep: true}, MTime: tarutil.KeepMTime(), Xattrs: tarutil.XattrsAll}); err != nil {
		t.Fatal(err)
	}
	packed := tarTree(t, buf.Bytes())
	if got, err := Trees(context.Background(), pack.DirTree(b), packed, Options{}); err != nil || len(changes(got)) > 0 {
		t.Errorf("a directory and its tar: %v, %q", err, changes(got))
	}
}

// TestDiffApply holds the law that the layer, applied to OLD, gives NEW.
func TestDiffApply(t *testing.T) {
	for seed := range uint64(tartest.Reps(300, 20)) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := randomLayer(t, r), randomLayer(t, r)
		var buf bytes.Buffer
		_, err := WriteLayer(context.Background(), &buf, tarTree(t, a), tarTree(t, b), Options{TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		got, want := make(map[string]string), make(map[string]string)
		apply(t, got, a)
		apply(t, got, buf.Bytes())
		apply(t, want, b)
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d:\nold   %q\nnew   %q\nlayer %q\ngives %q", seed, tartest.List(t, a), tartest.List(t, b), tartest.List(t, buf.Bytes()), got)
		}
	}
}

// randomLayer makes a tar of a small random tree.
func randomLayer(t *testing.T, r *rand.Rand) []byte {
	var lines, files []string
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		for _, name := range []string{"a", "b", "c", "d"} {
			path := dir + name
			switch r.IntN(8) {
			case 0, 1:
				lines = append(lines, fmt.Sprintf("%s %d", path, r.IntN(3)))
				files = append(files, path)
			case 2:
				lines = append(lines, fmt.Sprintf("%s -> %d", path, r.IntN(2)))
			case 3, 4:
				if depth < 3 {
					lines = append(lines, path+"/")
					fill(path+"/", depth+1)
				}
			case 5:
				if len(files) > 0 {
					lines = append(lines, path+" = "+files[r.IntN(len(files))])
				}
			}
		}
	}
	fill("", 0)
	return tartest.Layer(t, lines...)
}

// apply applies a layer to a model of a file system: whiteouts to what was there before.
func apply(t *testing.T, fs map[string]string, data []byte) {
	t.Helper()
	remove := func(path string) {
		for p := range fs {
			if p == path || strings.HasPrefix(p, path+"/") {
				delete(fs, p)
			}
		}
	}
	for pass := range 2 {
		tr := tar.NewReader(bytes.NewReader(data))
		for {
			hdr, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(hdr.Name, "/")
			dir, base := tarutil.SplitPath(name)
			rest, whiteout := strings.CutPrefix(base, tarutil.WhiteoutPrefix)
			switch {
			case whiteout && pass == 1 || !whiteout && pass == 0:
			case base == tarutil.OpaqueName:
				for p := range fs {
					if dir == "" || strings.HasPrefix(p, dir+"/") {
						delete(fs, p)
					}
				}
			case whiteout:
				remove(tarutil.JoinPath(dir, rest))
			case hdr.Typeflag == tar.TypeDir:
				if !strings.HasPrefix(fs[name], "dir") {
					remove(name)
				}
				fs[name] = fmt.Sprintf("dir %o", hdr.Mode)
			case hdr.Typeflag == tar.TypeLink:
				remove(name)
				fs[name] = fs[hdr.Linkname]
			default:
				content, err := io.ReadAll(tr)
				if err != nil {
					t.Fatal(err)
				}
				remove(name)
				fs[name] = fmt.Sprintf("%c %s %s", hdr.Typeflag, hdr.Linkname, content)
			}
		}
	}
}

// A directory without an entry has attributes of its own, and not those of what came first.
func TestImpliedDirs(t *testing.T) {
	tree := func(names ...string) *tarutil.TarFile {
		var buf bytes.Buffer
		tw := tarutil.NewWriter(&buf)
		for _, name := range names {
			hdr := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Uid: 7}
			if err := tw.WriteHeader(hdr); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		return tarTree(t, buf.Bytes())
	}

	list, err := Trees(t.Context(), tree("a"), tree("a", "dir/b"), Options{})
	if err != nil || list.Len() != 2 {
		t.Fatalf("%d changes, %v", list.Len(), err)
	}
	if dir := list.At(0).New; dir.Name != "dir" || dir.Mode != 0 || dir.Uid != 0 {
		t.Errorf("%s has mode %o and owner %d, want neither", dir.Name, dir.Mode, dir.Uid)
	}
}
