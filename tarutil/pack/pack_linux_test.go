package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
	"ocikit/tarutil/internal/tartest"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

func TestPackSpecialFiles(t *testing.T) {
	src := tartest.Tree(t, "file x")
	if err := syscall.Mkfifo(filepath.Join(src, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(src, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := []string{"fifo type 6 0:0", "file x"}
	if os.Getuid() == 0 {
		const dev = 0x12345&0xff | 0xabc<<8 | 0x12345&^0xff<<12
		if err := syscall.Mknod(filepath.Join(src, "dev"), syscall.S_IFCHR|0o600, dev); err != nil {
			t.Fatal(err)
		}
		want = slices.Insert(want, 0, fmt.Sprintf("dev type 3 %d:%d", 0xabc, 0x12345))
	}
	var notices []string
	opts := Options{Notice: func(path string) { notices = append(notices, path) }}
	tartest.WantList(t, "tree", pack(t, opts, Source{Path: src}), want...)
	tartest.WantList(t, "sources", pack(t, opts, Source{filepath.Join(src, "fifo"), "f"}, Source{filepath.Join(src, "socket"), ""}), "f type 6 0:0")
	if socket := filepath.Join(src, "socket"); !slices.Equal(notices, []string{socket, socket}) {
		t.Errorf("notices %q", notices)
	}
}

// TestPackNotices has notices of all kinds at once. They come in tree order, and from the goroutine
// that called Tar, so that none needs a lock.
func TestPackNotices(t *testing.T) {
	src := tartest.Tree(t, "a/x "+strings.Repeat("x", 2*wholeFile), "b out", "d/y y", "e out", "g z")
	for _, name := range []string{"a/socket", "c", "f"} {
		l, err := net.Listen("unix", filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}

	var output []fs.FileInfo
	for _, name := range []string{"b", "d", "e"} {
		info, err := os.Stat(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		output = append(output, info)
	}

	var got []string
	tell := func(kind string) func(string) {
		return func(path string) {
			rel, _ := filepath.Rel(src, path)
			got = append(got, kind+" "+rel)
			if stack := debug.Stack(); !bytes.Contains(stack, []byte("pack.Tar(")) {
				t.Errorf("%s: called by another goroutine:\n%s", path, stack)
			}
		}
	}
	opts := Options{Notice: tell("socket"), Output: output, OutputNotice: tell("output")}
	tartest.WantList(t, "tar", pack(t, opts, Source{Path: src}), "a/", "a/x "+strings.Repeat("x", 2*wholeFile), "g z")
	if want := []string{"socket a/socket", "output b", "socket c", "output d", "output e", "socket f"}; !slices.Equal(got, want) {
		t.Errorf("notices %q, want %q", got, want)
	}

	// A tree is walked by the caller, and tells of outputs alone.
	got = nil
	tree := DirTree(src)
	LeaveOut(tree, output, func(path string) { got = append(got, filepath.Base(path)) })
	if err := tree.Walk(t.Context(), func(tarutil.TreeEntry) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"b", "d", "e"}; !slices.Equal(got, want) {
		t.Errorf("a tree leaves out %q, want %q", got, want)
	}
}

// TestPackMarks has an upper directory of an overlay: what it removes and hides is no deletion in the
// tar, so each mark is told of.
func TestPackMarks(t *testing.T) {
	src := tartest.Tree(t, "hides/x x", "moved/", "out/", "plain/y y")
	want := []string{"hides user.overlay.opaque", "moved user.overlay.redirect"}
	for name, attribute := range map[string]string{"hides": "opaque", "moved": "redirect", "out": "opaque", "plain": "origin"} {
		if err := syscall.Setxattr(filepath.Join(src, name), "user.overlay."+attribute, []byte("y"), 0); err != nil {
			t.Skip(err)
		}
	}
	entries := []string{"hides/", "hides/x x", "moved/", "plain/", "plain/y y"}
	if os.Getuid() == 0 {
		for name, dev := range map[string]int{"gone": 0, "null": 1<<8 | 3} {
			if err := syscall.Mknod(filepath.Join(src, name), syscall.S_IFCHR|0o600, dev); err != nil {
				t.Fatal(err)
			}
		}
		want = slices.Insert(want, 0, "gone ")
		entries = slices.Insert(entries, 0, "gone type 3 0:0")
		entries = slices.Insert(entries, 4, "null type 3 1:3")
	}

	exclude, err := tarutil.NewMatcher([]string{"out"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	opts := Options{Exclude: exclude, MarkNotice: func(path, attribute string) {
		got = append(got, filepath.Base(path)+" "+attribute)
	}}
	tartest.WantList(t, "upper", pack(t, opts, Source{Path: src}), entries...)
	if !slices.Equal(got, want) {
		t.Errorf("notices %q, want %q", got, want)
	}
}

func TestPackNames(t *testing.T) {
	src := t.TempDir()
	deep := strings.Repeat(strings.Repeat("d", 79)+"/", 50) // 4,000 bytes
	if err := os.MkdirAll(src+"/latin1-\xfc", 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(src)
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(deep, "/"), "/") {
		if err := dir.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := dir.OpenRoot(name)
		dir.Close()
		if err != nil {
			t.Fatal(err)
		}
		dir = next
	}
	defer dir.Close()
	if err := dir.WriteFile("f", []byte("deep"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(src+"/new\nline", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	lines := tartest.List(t, pack(t, Options{}, Source{Path: src}))
	if len(lines) != 53 || lines[50] != deep+"f deep" || lines[51] != "latin1-\xfc/" || lines[52] != "new\nline" {
		t.Errorf("%d lines, the last ones %.200q", len(lines), lines[len(lines)-2:])
	}
}

func TestPackSparse(t *testing.T) {
	src := tartest.Tree(t, "sparse x")
	if err := os.Truncate(filepath.Join(src, "sparse"), 3<<20+1); err != nil {
		t.Fatal(err)
	}
	want := "sparse x" + strings.Repeat("\x00", 3<<20)
	tartest.WantList(t, "dense", pack(t, Options{}, Source{Path: src}), want)
}

func TestPackXattrs(t *testing.T) {
	needRoot(t)
	const v3 = "\x01\x00\x00\x03" + "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\xe8\x03\x00\x00"
	v2 := "\x01\x00\x00\x02" + v3[4:20]
	src := tartest.Tree(t, "ping x", "dir/ ", "link -> ping")
	long := strings.Repeat("v", 300)
	for _, x := range [][3]string{
		{"ping", "security.capability", v3}, {"ping", "user.note", "hello"}, {"ping", "user.long", long},
		{"dir", "trusted.overlay.opaque", "y"}, {"dir", "user.overlay.opaque", "y"}, {"dir", "trusted.kept", "k"},
		{"ping", "security.selinux", "system_u:object_r:etc_t:s0"},
	} {
		if err := syscall.Setxattr(filepath.Join(src, x[0]), x[1], []byte(x[2]), 0); err != nil {
			t.Skipf("set %s: %v", x[1], err)
		}
	}
	for policy, want := range map[tarutil.Xattrs]map[string]string{
		tarutil.XattrsNone:     {},
		tarutil.XattrsSecurity: {"ping security.capability": v2},
		tarutil.XattrsAll:      {"ping security.capability": v2, "ping user.note": "hello", "ping user.long": long, "dir/ trusted.kept": "k"},
	} {
		got := make(map[string]string)
		tr := tar.NewReader(bytes.NewReader(pack(t, Options{Xattrs: policy}, Source{Path: src})))
		for {
			hdr, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range tartest.Xattrs(hdr) {
				got[hdr.Name+" "+strings.TrimPrefix(key, "SCHILY.xattr.")] = value
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("policy %d: %q, want %q", policy, got, want)
		}
	}
}

func TestPackUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can read all")
	}
	src := tartest.Tree(t, "dir/x 1", "file 2")
	for _, name := range []string{"file", "dir"} {
		path := filepath.Join(src, name)
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		err := Tar(context.Background(), io.Discard, []Source{{Path: src}}, Options{})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		os.Chmod(path, 0o755)
	}
}

// TestPackReplacedByLink makes sure that a directory that turns into a link while the tree
// is walked leads nowhere.
func TestPackReplacedByLink(t *testing.T) {
	outside := tartest.Tree(t, "secret s")
	src := tartest.Tree(t, "a "+strings.Repeat("a", 8<<20), "dir/x 1")
	h, err := handle.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	root := &treeDir{dir: handle.Share(h), path: src}
	defer root.dir.Release()
	w := &walker{opts: &Options{}}
	w.send = func(it item) error {
		defer it.release()
		if it.name != "a" {
			return fmt.Errorf("walked on to %+v", it)
		}
		return errors.Join(os.RemoveAll(filepath.Join(src, "dir")), os.Symlink(outside, filepath.Join(src, "dir")))
	}
	if err := w.walk(context.Background(), nil, []*treeDir{root}, ""); !errors.Is(err, tarutil.ErrChanged) {
		t.Errorf("got %v, want %v", err, tarutil.ErrChanged)
	}
}
