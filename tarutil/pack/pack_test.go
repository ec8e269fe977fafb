package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
)

func TestPackOrder(t *testing.T) {
	src := tartest.Tree(t, "a.txt 1", "a/b 2", "a-b 3", "a/.x 4", "é 5", "Z 6", "empty/", "link -> /etc/passwd", "loop -> loop")
	tartest.WantList(t, "tree", pack(t, Options{}, Source{Path: src}),
		"Z 6", "a/", "a/.x 4", "a/b 2", "a-b 3", "a.txt 1", "empty/", "link -> /etc/passwd", "loop -> loop", "é 5")
}

func TestPackPlaces(t *testing.T) {
	x := tartest.Tree(t, "bin/x 1", "top 2")
	y := tartest.Tree(t, "bin/y 3", "lib/ -")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(x, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(x, "top")
	tests := []struct {
		name    string
		prefix  string
		sources []Source
		want    []string // "+" marks what comes with Parents only
	}{
		{"nothing", "", nil, nil},
		{"prefix without sources", "p", nil, nil},
		{"directory below a prefix", "/usr//local/", []Source{{x, ""}}, []string{"+usr/", "+usr/local/", "usr/local/bin/", "usr/local/bin/x 1", "usr/local/top 2"}},
		{"destination", "", []Source{{x, "a/b"}}, []string{"+a/", "+a/b/", "a/b/bin/", "a/b/bin/x 1", "a/b/top 2"}},
		{"prefix and destination", "p", []Source{{x, "d"}}, []string{"+p/", "+p/d/", "p/d/bin/", "p/d/bin/x 1", "p/d/top 2"}},
		{"merged", "", []Source{{y, ""}, {x, ""}}, []string{"bin/", "bin/x 1", "bin/y 3", "lib/", "top 2"}},
		{"shared parents", "", []Source{{y, "s/y"}, {x, "s/x"}}, []string{"+s/", "+s/x/", "s/x/bin/", "s/x/bin/x 1", "s/x/top 2", "+s/y/", "s/y/bin/", "s/y/bin/y 3", "s/y/lib/"}},
		{"into another's directory", "", []Source{{x, ""}, {file, "bin/"}}, []string{"bin/", "bin/top 2", "bin/x 1", "top 2"}},
		{"file", "", []Source{{file, ""}}, []string{"top 2"}},
		{"file with a name", "", []Source{{file, "usr/bin/new"}}, []string{"+usr/", "+usr/bin/", "usr/bin/new 2"}},
		{"file into a directory", "", []Source{{file, "usr/bin/"}}, []string{"+usr/", "+usr/bin/", "usr/bin/top 2"}},
		{"link", "", []Source{{link, ""}}, []string{"link -> " + x}},
		{"link and slash", "", []Source{{link + "/", ""}}, []string{"bin/", "bin/x 1", "top 2"}},
		{"link and dot", "", []Source{{link + "/.", ""}}, []string{"bin/", "bin/x 1", "top 2"}},
	}
	for _, tt := range tests {
		var with, without []string
		for _, line := range tt.want {
			name, made := strings.CutPrefix(line, "+")
			with = append(with, name)
			if !made {
				without = append(without, name)
			}
		}
		tartest.WantList(t, tt.name, pack(t, Options{Prefix: tt.prefix}, tt.sources...), without...)
		tartest.WantList(t, tt.name+", with parents", pack(t, Options{Prefix: tt.prefix, Parents: true}, tt.sources...), with...)
	}
}

func TestPackRefuses(t *testing.T) {
	x := tartest.Tree(t, "bin/x 1", "top 2")
	y := tartest.Tree(t, "bin 3")
	z := tartest.Tree(t, "bin -> x")
	wh := tartest.Tree(t, "d/.wh.x 1")
	file := filepath.Join(x, "top")
	tests := []struct {
		name    string
		opts    Options
		sources []Source
		want    error
	}{
		{"missing", Options{}, []Source{{filepath.Join(x, "no"), ""}}, os.ErrNotExist},
		{"missing directory", Options{}, []Source{{filepath.Join(x, "no") + "/", ""}}, os.ErrNotExist},
		{"empty path", Options{}, []Source{{"", ""}}, tarutil.ErrBadPath},
		{"directory and file", Options{}, []Source{{x, ""}, {y, ""}}, tarutil.ErrDuplicate},
		{"directory and link", Options{}, []Source{{x, ""}, {z, ""}}, tarutil.ErrDuplicate},
		{"the same file twice", Options{}, []Source{{file, "a"}, {file, "a"}}, tarutil.ErrDuplicate},
		{"file below a file", Options{}, []Source{{file, "a"}, {file, "a/b"}}, tarutil.ErrDuplicate},
		{"file above a file", Options{}, []Source{{file, "a/b"}, {file, "a"}}, tarutil.ErrDuplicate},
		{"destination is a file of another", Options{}, []Source{{x, ""}, {x, "top"}}, tarutil.ErrDuplicate},
		{"destination climbs", Options{}, []Source{{x, "../x"}}, tarutil.ErrBadPath},
		{"destination is a whiteout", Options{}, []Source{{file, "d/.wh.x"}}, tarutil.ErrWhiteoutName},
		{"prefix climbs", Options{Prefix: "a/.."}, []Source{{x, ""}}, tarutil.ErrBadPath},
		{"prefix with NUL", Options{Prefix: "a\x00"}, []Source{{x, ""}}, tarutil.ErrBadPath},
		{"file at the root", Options{}, []Source{{file, "."}}, tarutil.ErrBadPath},
		{"whiteout name", Options{}, []Source{{wh, ""}}, tarutil.ErrWhiteoutName},
		{"whiteout name as a source", Options{}, []Source{{filepath.Join(wh, "d/.wh.x"), ""}}, tarutil.ErrWhiteoutName},
		{"empty whiteout", Options{Whiteouts: []string{""}}, nil, tarutil.ErrBadPath},
		{"whiteout of the root", Options{Whiteouts: []string{"/"}}, nil, tarutil.ErrBadPath},
		{"whiteout climbs", Options{Whiteouts: []string{"a/../b"}}, nil, tarutil.ErrBadPath},
		{"whiteout of a whiteout", Options{Whiteouts: []string{"a/.wh.b"}}, nil, tarutil.ErrWhiteoutName},
		{"empty opaque", Options{Opaques: []string{""}}, nil, tarutil.ErrBadPath},
		{"opaque root", Options{Opaques: []string{"/"}}, nil, tarutil.ErrOpaqueRoot},
		{"opaque root, as a dot", Options{Opaques: []string{"."}}, nil, tarutil.ErrOpaqueRoot},
		{"removed, and a directory", Options{Whiteouts: []string{"bin"}}, []Source{{x, ""}}, tarutil.ErrDuplicate},
		{"removed, and in the way", Options{Whiteouts: []string{"d"}}, []Source{{file, "d/"}}, tarutil.ErrDuplicate},
		{"opaque climbs", Options{Opaques: []string{".."}}, nil, tarutil.ErrBadPath},
		{"whiteout below a file", Options{Whiteouts: []string{"a/b"}}, []Source{{file, "a"}}, tarutil.ErrDuplicate},
	}
	for _, tt := range tests {
		var buf bytes.Buffer
		err := Tar(context.Background(), &buf, tt.sources, tt.opts)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if tartest.Check(&tarutil.Checker{}, buf.Bytes(), 4096) == nil {
			t.Errorf("%s: the output looks whole", tt.name)
		}
	}
}

func TestPackWhiteouts(t *testing.T) {
	src := tartest.Tree(t, "d/!first 1", "d/new 2")
	opts := Options{
		Prefix:    "p",
		Whiteouts: []string{"/p/d/old", "usr/share/nginx/html", "p/d/old", "p/d/!", "gone/"},
		Opaques:   []string{"p/d"},
	}
	tartest.WantList(t, "with a source", pack(t, opts, Source{Path: src}),
		".wh.gone", "p/d/", "p/d/.wh..wh..opq",
		"p/d/!first 1", "p/d/new 2", "usr/share/nginx/.wh.html")
	tartest.WantList(t, "not opaque", pack(t, Options{Prefix: "p", Whiteouts: opts.Whiteouts}, Source{Path: src}),
		".wh.gone", "p/d/", "p/d/.wh.!", "p/d/.wh.old", "p/d/!first 1", "p/d/new 2", "usr/share/nginx/.wh.html")
	tartest.WantList(t, "alone", pack(t, Options{Whiteouts: []string{"usr/share/nginx/html"}}), "usr/share/nginx/.wh.html")
}

func TestPackExclude(t *testing.T) {
	src := tartest.Tree(t, "a/b/keep 1", "a/b/x 2", "a/y 3", "c/d/ ", "c/z.o 4", "z 5", "wh/.wh.x 6")
	tests := []struct {
		patterns string
		want     []string
	}{
		{"wh a c", []string{"z 5"}},
		{"wh c a !a/b/keep", []string{"a/", "a/b/", "a/b/keep 1", "z 5"}},
		{"wh c a !a/none", []string{"z 5"}},
		{"* !a !c/d", []string{"a/", "a/b/", "a/b/keep 1", "a/b/x 2", "a/y 3", "c/", "c/d/"}},
		{"wh a **/*.o", []string{"c/", "c/d/", "z 5"}},
	}
	for _, tt := range tests {
		m, err := tarutil.NewMatcher(strings.Fields(tt.patterns))
		if err != nil {
			t.Fatal(err)
		}
		tartest.WantList(t, tt.patterns, pack(t, Options{Exclude: m}, Source{Path: src}), tt.want...)
	}
}

func TestPackHardLinks(t *testing.T) {
	big := strings.Repeat("b", 2*wholeFile)
	src := tartest.Tree(t, "a/one x", "a/three = a/one", "b/two = a/one", "sym -> t", "big1 "+big, "big2 = big1")
	if err := os.Link(filepath.Join(src, "sym"), filepath.Join(src, "sym2")); err != nil {
		t.Fatal(err)
	}
	tartest.WantList(t, "all", pack(t, Options{}, Source{Path: src}),
		"a/", "a/one x", "a/three = a/one", "b/", "b/two = a/one", "big1 "+big, "big2 = big1", "sym -> t", "sym2 = sym")
	m, _ := tarutil.NewMatcher([]string{"a/one", "big1", "sym*"})
	tartest.WantList(t, "first name left out", pack(t, Options{Exclude: m, Prefix: "p"}, Source{Path: src}),
		"p/a/", "p/a/three x", "p/b/", "p/b/two = p/a/three", "p/big2 "+big)
}

func TestPackMetadata(t *testing.T) {
	src := tartest.Tree(t, "dir/ ", "file x", "run x")
	stamp := time.Unix(1600000000, 123456789)
	for name, mode := range map[string]os.FileMode{"dir": 0o700 | os.ModeSticky, "file": 0o600, "run": 0o710 | os.ModeSetuid} {
		path := filepath.Join(src, name)
		if err := errors.Join(os.Chmod(path, mode), os.Chtimes(path, stamp, stamp)); err != nil {
			t.Fatal(err)
		}
	}
	epoch, later, before := time.Unix(0, 0), time.Unix(1700000000, 5), time.Unix(1500000000, 0)
	tests := []struct {
		name  string
		opts  Options
		modes []int64
		uid   int
		time  time.Time
	}{
		{"defaults", Options{}, []int64{0o755, 0o1700, 0o600, 0o4710}, 0, epoch},
		{"normalize", Options{Mode: tarutil.ModeNormalize}, []int64{0o755, 0o755, 0o644, 0o755}, 0, epoch},
		{"owner", Options{Owner: tarutil.Owner{UID: 7, GID: 8}}, []int64{0o755, 0o1700, 0o600, 0o4710}, 7, epoch},
		{"keep", Options{Owner: tarutil.Owner{Keep: true}, MTime: tarutil.KeepMTime()}, []int64{0o755, 0o1700, 0o600, 0o4710}, os.Getuid(), stamp},
		{"clamp above", Options{MTime: tarutil.ClampMTime(later)}, []int64{0o755, 0o1700, 0o600, 0o4710}, 0, stamp.Truncate(time.Second)},
		{"clamp below", Options{MTime: tarutil.ClampMTime(before)}, []int64{0o755, 0o1700, 0o600, 0o4710}, 0, before},
		{"fixed", Options{MTime: tarutil.FixedMTime(later)}, []int64{0o755, 0o1700, 0o600, 0o4710}, 0, later.Truncate(time.Second)},
	}
	for _, tt := range tests {
		tt.opts.Prefix, tt.opts.Parents = "p", true
		tr := tar.NewReader(bytes.NewReader(pack(t, tt.opts, Source{Path: src})))
		for i, mode := range tt.modes {
			hdr, err := tr.Next()
			if err != nil {
				t.Fatal(err)
			}
			uid := tt.uid
			want := tt.time
			if i == 0 { // the prefix
				want = tt.opts.MTime.Made()
				if tt.opts.Owner.Keep {
					uid = 0
				}
			}
			if hdr.Mode != mode || hdr.Uid != uid || !hdr.ModTime.Equal(want) || hdr.Uname != "" {
				t.Errorf("%s: %s: mode %o owner %d time %v, want %o, %d, %v", tt.name, hdr.Name, hdr.Mode, hdr.Uid, hdr.ModTime, mode, uid, want)
			}
		}
	}
}

// TestPackStable packs a tree with every kind of entry in several ways; all give the golden digest.
func TestPackStable(t *testing.T) {
	const want = "ee0bda92"
	var lines []string
	for i := range 300 {
		lines = append(lines, fmt.Sprintf("d%d/f%03d %s", i%7, i, strings.Repeat("x", i*i)))
	}
	lines = append(lines, "big "+strings.Repeat("0123456789abcdef", 100_000), "sym -> big", "hard = big", "empty/")
	for _, procs := range []int{1, 2, 8} {
		slices.Reverse(lines[:300]) // another order on disk
		src := tartest.Tree(t, lines...)
		old := runtime.GOMAXPROCS(procs)
		data := pack(t, Options{Mode: tarutil.ModeNormalize, Prefix: "usr/x", Parents: true}, Source{Path: src})
		runtime.GOMAXPROCS(old)
		if got := fmt.Sprintf("%.8x", sha256.Sum256(data)); got[:8] != want {
			t.Errorf("GOMAXPROCS=%d: sha256 %s, want %s", procs, got[:8], want)
		}
	}
}

func TestPackFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which ends when all goroutines have
		src := tartest.Tree(t, "a/x 1", "a/y "+strings.Repeat("y", 3*wholeFile), "b = a/x", "c -> d")
		var whole bytes.Buffer
		if err := Tar(context.Background(), &whole, []Source{{Path: src}}, Options{}); err != nil {
			t.Fatal(err)
		}
		for k := 1; ; k++ {
			w := &tartest.FaultWriter{At: k}
			err := Tar(context.Background(), w, []Source{{Path: src}}, Options{})
			if err == nil {
				if !bytes.Equal(w.Buf.Bytes(), whole.Bytes()) {
					t.Fatalf("call %d broken: success with other bytes", k)
				}
				break
			}
			if !errors.Is(err, tartest.ErrFault) {
				t.Fatalf("call %d broken: %v", k, err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := Tar(ctx, io.Discard, []Source{{Path: src}}, Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// A hookWriter calls hook at its k-th call.
type hookWriter struct {
	k    int
	hook func()
}

func (h *hookWriter) Write(p []byte) (int, error) {
	if h.k--; h.k == 0 {
		h.hook()
	}
	return len(p), nil
}

func TestPackChanged(t *testing.T) {
	content := strings.Repeat("x", 4<<20)
	for name, change := range map[string]func(path string) error{
		"grows":    func(path string) error { return os.Truncate(path, 5<<20) },
		"shrinks":  func(path string) error { return os.Truncate(path, 1<<20) },
		"vanishes": os.Remove,
		"written": func(path string) error {
			return os.Chtimes(path, time.Time{}, time.Unix(1, 0))
		},
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+"2", nil, 0o644), os.Rename(path+"2", path))
		},
	} {
		src := tartest.Tree(t, "file "+content)
		w := &hookWriter{k: 3, hook: func() {
			if err := change(filepath.Join(src, "file")); err != nil {
				t.Error(err)
			}
		}}
		err := Tar(context.Background(), w, []Source{{Path: src}}, Options{})
		if !errors.Is(err, tarutil.ErrChanged) || !strings.Contains(err.Error(), filepath.Join(src, "file")) {
			t.Errorf("%s: %v, want ErrChanged with the path", name, err)
		}
	}
}

// TestPackVanished removes what the walk has listed, before it is opened.
func TestPackVanished(t *testing.T) {
	for _, last := range []string{"file x", "link -> a", "dir/x x"} {
		// There is no batch free for the last name before the large file is written.
		lines := []string{"0 " + strings.Repeat("x", 2*wholeFile), last}
		for i := range (batchCount + 1) * batchItems {
			lines = append(lines, fmt.Sprintf("a%03d x", i))
		}
		src := tartest.Tree(t, lines...)
		name, _, _ := strings.Cut(strings.SplitN(last, " ", 2)[0], "/")
		path := filepath.Join(src, name)

		w := &hookWriter{k: 1, hook: func() { os.RemoveAll(path) }}
		err := Tar(t.Context(), w, []Source{{Path: src}}, Options{})
		if !errors.Is(err, tarutil.ErrChanged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Tar: %v, want ErrChanged with the path", name, err)
		}

		// A tree is read entry by entry.
		src = tartest.Tree(t, "a x", last)
		path = filepath.Join(src, name)
		err = DirTree(src).Walk(t.Context(), func(e tarutil.TreeEntry) error {
			return os.RemoveAll(path)
		})
		if !errors.Is(err, tarutil.ErrChanged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Walk: %v, want ErrChanged with the path", name, err)
		}
	}

	// So it is with a file that is opened once more.
	src := tartest.Tree(t, "a/x x")
	tree := DirTree(src)
	defer tree.Reset()
	var file tarutil.TreeEntry
	if err := tree.Walk(t.Context(), func(e tarutil.TreeEntry) error { file = e; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(src, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Open(file.Header, file.Dev, file.Ino); !errors.Is(err, tarutil.ErrChanged) {
		t.Errorf("Open: %v, want ErrChanged", err)
	}
}

// A sumWriter counts.
type sumWriter struct{ n int64 }

func (s *sumWriter) Write(p []byte) (int, error) { s.n += int64(len(p)); return len(p), nil }

func BenchmarkPack(b *testing.B) {
	for _, size := range []int{1 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("one file of %dMiB", size>>20), func(b *testing.B) {
			src := b.TempDir()
			if err := os.WriteFile(filepath.Join(src, "f"), make([]byte, size), 0o644); err != nil {
				b.Fatal(err)
			}
			benchPack(b, src, int64(size))
		})
	}
	b.Run("goroot", func(b *testing.B) {
		if tartest.GOROOT() == "" {
			b.Skip("no Go distribution")
		}
		var w sumWriter
		if err := Tar(context.Background(), &w, []Source{{Path: tartest.GOROOT()}}, Options{}); err != nil {
			b.Fatal(err)
		}
		benchPack(b, tartest.GOROOT(), w.n)
	})
}

func benchPack(b *testing.B, src string, size int64) {
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if err := Tar(context.Background(), sha256.New(), []Source{{Path: src}}, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// pack packs, and checks that what comes out is whole.
func pack(t testing.TB, opts Options, sources ...Source) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Tar(context.Background(), &buf, sources, opts); err != nil {
		t.Fatal(err)
	}
	if err := tartest.Check(&tarutil.Checker{}, buf.Bytes(), 4096); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
