package tarutil

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
	"time"
)

func TestPackOrder(t *testing.T) {
	src := tree(t, "a.txt 1", "a/b 2", "a-b 3", "a/.x 4", "é 5", "Z 6", "empty/", "link -> /etc/passwd", "loop -> loop")
	wantList(t, "tree", pack(t, PackOptions{}, Source{Path: src}),
		"Z 6", "a/", "a/.x 4", "a/b 2", "a-b 3", "a.txt 1", "empty/", "link -> /etc/passwd", "loop -> loop", "é 5")
}

func TestPackPlaces(t *testing.T) {
	x := tree(t, "bin/x 1", "top 2")
	y := tree(t, "bin/y 3", "lib/ -")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(x, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(x, "top")
	tests := []struct {
		name    string
		prefix  string
		sources []Source
		want    []string
	}{
		{"nothing", "", nil, nil},
		{"prefix without sources", "p", nil, nil},
		{"directory below a prefix", "/usr//local/", []Source{{x, ""}}, []string{"usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/x 1", "usr/local/top 2"}},
		{"destination", "", []Source{{x, "a/b"}}, []string{"a/", "a/b/", "a/b/bin/", "a/b/bin/x 1", "a/b/top 2"}},
		{"prefix and destination", "p", []Source{{x, "d"}}, []string{"p/", "p/d/", "p/d/bin/", "p/d/bin/x 1", "p/d/top 2"}},
		{"merged", "", []Source{{y, ""}, {x, ""}}, []string{"bin/", "bin/x 1", "bin/y 3", "lib/", "top 2"}},
		{"shared parents", "", []Source{{y, "s/y"}, {x, "s/x"}}, []string{"s/", "s/x/", "s/x/bin/", "s/x/bin/x 1", "s/x/top 2", "s/y/", "s/y/bin/", "s/y/bin/y 3", "s/y/lib/"}},
		{"into another's directory", "", []Source{{x, ""}, {file, "bin/"}}, []string{"bin/", "bin/top 2", "bin/x 1", "top 2"}},
		{"file", "", []Source{{file, ""}}, []string{"top 2"}},
		{"file with a name", "", []Source{{file, "usr/bin/new"}}, []string{"usr/", "usr/bin/", "usr/bin/new 2"}},
		{"file into a directory", "", []Source{{file, "usr/bin/"}}, []string{"usr/", "usr/bin/", "usr/bin/top 2"}},
		{"link", "", []Source{{link, ""}}, []string{"link -> " + x}},
		{"link and slash", "", []Source{{link + "/", ""}}, []string{"bin/", "bin/x 1", "top 2"}},
		{"link and dot", "", []Source{{link + "/.", ""}}, []string{"bin/", "bin/x 1", "top 2"}},
	}
	for _, tt := range tests {
		wantList(t, tt.name, pack(t, PackOptions{Prefix: tt.prefix}, tt.sources...), tt.want...)
	}
}

func TestPackRefuses(t *testing.T) {
	x := tree(t, "bin/x 1", "top 2")
	y := tree(t, "bin 3")
	z := tree(t, "bin -> x")
	wh := tree(t, "d/.wh.x 1")
	file := filepath.Join(x, "top")
	tests := []struct {
		name    string
		opts    PackOptions
		sources []Source
		want    error
	}{
		{"missing", PackOptions{}, []Source{{filepath.Join(x, "no"), ""}}, os.ErrNotExist},
		{"missing directory", PackOptions{}, []Source{{filepath.Join(x, "no") + "/", ""}}, os.ErrNotExist},
		{"empty path", PackOptions{}, []Source{{"", ""}}, ErrBadPath},
		{"directory and file", PackOptions{}, []Source{{x, ""}, {y, ""}}, ErrDuplicate},
		{"directory and link", PackOptions{}, []Source{{x, ""}, {z, ""}}, ErrDuplicate},
		{"the same file twice", PackOptions{}, []Source{{file, "a"}, {file, "a"}}, ErrDuplicate},
		{"file below a file", PackOptions{}, []Source{{file, "a"}, {file, "a/b"}}, ErrDuplicate},
		{"file above a file", PackOptions{}, []Source{{file, "a/b"}, {file, "a"}}, ErrDuplicate},
		{"destination is a file of another", PackOptions{}, []Source{{x, ""}, {x, "top"}}, ErrDuplicate},
		{"destination climbs", PackOptions{}, []Source{{x, "../x"}}, ErrBadPath},
		{"destination is a whiteout", PackOptions{}, []Source{{file, "d/.wh.x"}}, ErrWhiteoutName},
		{"prefix climbs", PackOptions{Prefix: "a/.."}, []Source{{x, ""}}, ErrBadPath},
		{"prefix with NUL", PackOptions{Prefix: "a\x00"}, []Source{{x, ""}}, ErrBadPath},
		{"file at the root", PackOptions{}, []Source{{file, "."}}, ErrBadPath},
		{"whiteout name", PackOptions{}, []Source{{wh, ""}}, ErrWhiteoutName},
		{"whiteout name as a source", PackOptions{}, []Source{{filepath.Join(wh, "d/.wh.x"), ""}}, ErrWhiteoutName},
		{"empty whiteout", PackOptions{Whiteouts: []string{""}}, nil, ErrBadPath},
		{"whiteout of the root", PackOptions{Whiteouts: []string{"/"}}, nil, ErrBadPath},
		{"whiteout climbs", PackOptions{Whiteouts: []string{"a/../b"}}, nil, ErrBadPath},
		{"whiteout of a whiteout", PackOptions{Whiteouts: []string{"a/.wh.b"}}, nil, ErrWhiteoutName},
		{"empty opaque", PackOptions{Opaques: []string{""}}, nil, ErrBadPath},
		{"opaque climbs", PackOptions{Opaques: []string{".."}}, nil, ErrBadPath},
		{"whiteout below a file", PackOptions{Whiteouts: []string{"a/b"}}, []Source{{file, "a"}}, ErrDuplicate},
	}
	for _, tt := range tests {
		var buf bytes.Buffer
		err := Pack(context.Background(), &buf, tt.sources, tt.opts)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if check(&Checker{}, buf.Bytes(), 4096) == nil {
			t.Errorf("%s: the output looks whole", tt.name)
		}
	}
}

func TestPackWhiteouts(t *testing.T) {
	src := tree(t, "d/!first 1", "d/new 2")
	opts := PackOptions{
		Prefix:    "p",
		Whiteouts: []string{"/p/d/old", "usr/share/nginx/html", "p/d/old", "p/d/!", "gone/"},
		Opaques:   []string{"p/d", "/"},
	}
	wantList(t, "with a source", pack(t, opts, Source{Path: src}),
		".wh..wh..opq", ".wh.gone", "p/", "p/d/", "p/d/.wh..wh..opq", "p/d/.wh.!", "p/d/.wh.old",
		"p/d/!first 1", "p/d/new 2", "usr/share/nginx/.wh.html")
	wantList(t, "alone", pack(t, PackOptions{Whiteouts: []string{"usr/share/nginx/html"}}), "usr/share/nginx/.wh.html")
}

func TestPackExclude(t *testing.T) {
	src := tree(t, "a/b/keep 1", "a/b/x 2", "a/y 3", "c/d/ ", "c/z.o 4", "z 5", "wh/.wh.x 6")
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
		m, err := NewMatcher(strings.Fields(tt.patterns))
		if err != nil {
			t.Fatal(err)
		}
		wantList(t, tt.patterns, pack(t, PackOptions{Exclude: m}, Source{Path: src}), tt.want...)
	}
}

func TestPackHardLinks(t *testing.T) {
	big := strings.Repeat("b", 2*wholeFile)
	src := tree(t, "a/one x", "a/three = a/one", "b/two = a/one", "sym -> t", "big1 "+big, "big2 = big1")
	if err := os.Link(filepath.Join(src, "sym"), filepath.Join(src, "sym2")); err != nil {
		t.Fatal(err)
	}
	wantList(t, "all", pack(t, PackOptions{}, Source{Path: src}),
		"a/", "a/one x", "a/three = a/one", "b/", "b/two = a/one", "big1 "+big, "big2 = big1", "sym -> t", "sym2 = sym")
	m, _ := NewMatcher([]string{"a/one", "big1", "sym*"})
	wantList(t, "first name left out", pack(t, PackOptions{Exclude: m, Prefix: "p"}, Source{Path: src}),
		"p/", "p/a/", "p/a/three x", "p/b/", "p/b/two = p/a/three", "p/big2 "+big)
}

func TestPackMetadata(t *testing.T) {
	src := tree(t, "dir/ ", "file x", "run x")
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
		opts  PackOptions
		modes []int64
		uid   int
		time  time.Time
	}{
		{"defaults", PackOptions{}, []int64{0o755, 0o1700, 0o600, 0o4710}, 0, epoch},
		{"normalize", PackOptions{Mode: ModeNormalize}, []int64{0o755, 0o755, 0o644, 0o755}, 0, epoch},
		{"owner", PackOptions{Owner: Owner{UID: 7, GID: 8}}, []int64{0o755, 0o1700, 0o600, 0o4710}, 7, epoch},
		{"keep", PackOptions{Owner: Owner{Keep: true}, MTime: KeepMTime()}, []int64{0o755, 0o1700, 0o600, 0o4710}, os.Getuid(), stamp},
		{"clamp above", PackOptions{MTime: ClampMTime(later)}, []int64{0o755, 0o1700, 0o600, 0o4710}, 0, stamp.Truncate(time.Second)},
		{"clamp below", PackOptions{MTime: ClampMTime(before)}, []int64{0o755, 0o1700, 0o600, 0o4710}, 0, before},
		{"fixed", PackOptions{MTime: FixedMTime(later)}, []int64{0o755, 0o1700, 0o600, 0o4710}, 0, later.Truncate(time.Second)},
	}
	for _, tt := range tests {
		tt.opts.Prefix = "p"
		tr := tar.NewReader(bytes.NewReader(pack(t, tt.opts, Source{Path: src})))
		for i, mode := range tt.modes {
			hdr, err := tr.Next()
			if err != nil {
				t.Fatal(err)
			}
			uid := tt.uid
			want := tt.time
			if i == 0 { // the prefix
				want = tt.opts.MTime.made()
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
		src := tree(t, lines...)
		old := runtime.GOMAXPROCS(procs)
		data := pack(t, PackOptions{Mode: ModeNormalize, Prefix: "usr/x"}, Source{Path: src})
		runtime.GOMAXPROCS(old)
		if got := fmt.Sprintf("%.8x", sha256.Sum256(data)); got[:8] != want {
			t.Errorf("GOMAXPROCS=%d: sha256 %s, want %s", procs, got[:8], want)
		}
	}
}

func TestPackFaults(t *testing.T) {
	src := tree(t, "a/x 1", "a/y "+strings.Repeat("y", 3*wholeFile), "b = a/x", "c -> d")
	var whole bytes.Buffer
	if err := Pack(context.Background(), &whole, []Source{{Path: src}}, PackOptions{}); err != nil {
		t.Fatal(err)
	}
	goroutines := runtime.NumGoroutine()
	for k := 1; ; k++ {
		w := &faultWriter{at: k}
		err := Pack(context.Background(), w, []Source{{Path: src}}, PackOptions{})
		if err == nil {
			if !bytes.Equal(w.buf.Bytes(), whole.Bytes()) {
				t.Fatalf("call %d broken: success with other bytes", k)
			}
			break
		}
		if !errors.Is(err, errFault) {
			t.Fatalf("call %d broken: %v", k, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Pack(ctx, io.Discard, []Source{{Path: src}}, PackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left", runtime.NumGoroutine()-goroutines)
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
		src := tree(t, "file "+content)
		w := &hookWriter{k: 3, hook: func() {
			if err := change(filepath.Join(src, "file")); err != nil {
				t.Error(err)
			}
		}}
		err := Pack(context.Background(), w, []Source{{Path: src}}, PackOptions{})
		if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), filepath.Join(src, "file")) {
			t.Errorf("%s: %v, want ErrChanged with the path", name, err)
		}
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
		if goroot() == "" {
			b.Skip("no Go distribution")
		}
		var w sumWriter
		if err := Pack(context.Background(), &w, []Source{{Path: goroot()}}, PackOptions{}); err != nil {
			b.Fatal(err)
		}
		benchPack(b, goroot(), w.n)
	})
}

func benchPack(b *testing.B, src string, size int64) {
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if err := Pack(context.Background(), sha256.New(), []Source{{Path: src}}, PackOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
