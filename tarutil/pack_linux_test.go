package tarutil

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
	"slices"
	"strings"
	"syscall"
	"testing"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

func TestPackSpecialFiles(t *testing.T) {
	src := tree(t, "file x")
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
	opts := PackOptions{Notice: func(path string) { notices = append(notices, path) }}
	wantList(t, "tree", pack(t, opts, Source{Path: src}), want...)
	wantList(t, "sources", pack(t, opts, Source{filepath.Join(src, "fifo"), "f"}, Source{filepath.Join(src, "socket"), ""}), "f type 6 0:0")
	if socket := filepath.Join(src, "socket"); !slices.Equal(notices, []string{socket, socket}) {
		t.Errorf("notices %q", notices)
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
	lines := list(t, pack(t, PackOptions{}, Source{Path: src}))
	if len(lines) != 53 || lines[50] != deep+"f deep" || lines[51] != "latin1-\xfc/" || lines[52] != "new\nline" {
		t.Errorf("%d lines, the last ones %.200q", len(lines), lines[len(lines)-2:])
	}
}

func TestPackSparse(t *testing.T) {
	src := tree(t, "sparse x")
	if err := os.Truncate(filepath.Join(src, "sparse"), 3<<20+1); err != nil {
		t.Fatal(err)
	}
	want := "sparse x" + strings.Repeat("\x00", 3<<20)
	wantList(t, "dense", pack(t, PackOptions{}, Source{Path: src}), want)
}

func TestPackXattrs(t *testing.T) {
	needRoot(t)
	const v3 = "\x01\x00\x00\x03" + "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\xe8\x03\x00\x00"
	v2 := "\x01\x00\x00\x02" + v3[4:20]
	src := tree(t, "ping x", "dir/ ", "link -> ping")
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
	for policy, want := range map[Xattrs]map[string]string{
		XattrsNone:     {},
		XattrsSecurity: {"ping security.capability": v2},
		XattrsAll:      {"ping security.capability": v2, "ping user.note": "hello", "ping user.long": long, "dir/ trusted.kept": "k"},
	} {
		got := make(map[string]string)
		tr := tar.NewReader(bytes.NewReader(pack(t, PackOptions{Xattrs: policy}, Source{Path: src})))
		for {
			hdr, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range xattrsOf(hdr) {
				got[hdr.Name+" "+strings.TrimPrefix(key, xattrPrefix)] = value
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
	src := tree(t, "dir/x 1", "file 2")
	for _, name := range []string{"file", "dir"} {
		path := filepath.Join(src, name)
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		err := Pack(context.Background(), io.Discard, []Source{{Path: src}}, PackOptions{})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		os.Chmod(path, 0o755)
	}
}

// TestHandles compares the handles of this system with those that every system has.
func TestHandles(t *testing.T) {
	src := tree(t, "file x", "dir/sub/ ", "link -> file", "out -> /etc", "dirlink -> dir")
	if err := syscall.Mkfifo(filepath.Join(src, "fifo"), 0o640); err != nil {
		t.Fatal(err)
	}
	var results []string
	for _, open := range []func(string) (dirHandle, error){openTree, openRootTree} {
		d, err := open(src)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, describe(t, d))
		for _, name := range []string{"link", "out", "dirlink", "fifo", "file"} {
			if h, err := d.openDir(name); err == nil {
				h.Close()
				t.Errorf("openDir(%q): no error", name)
			}
		}
		for _, name := range []string{"link", "out"} {
			if f, err := d.openFile(name); err == nil {
				f.Close()
				t.Errorf("openFile(%q): no error", name)
			}
		}
		if f, err := d.openFile("fifo"); err == nil { // must not wait for a writer
			if info, err := f.info(); err != nil || info.flag != typeFifo {
				t.Errorf("fifo: %+v, %v", info, err)
			}
			f.Close()
		}
		d.Close()
	}
	if results[0] != results[1] {
		t.Errorf("got %s\nwant %s", results[0], results[1])
	}
}

func describe(t *testing.T, d dirHandle) string {
	t.Helper()
	entries, err := d.list()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(entries, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	var s strings.Builder
	for _, e := range entries {
		info, _, err := d.lstat(e.name, XattrsNone)
		fmt.Fprintf(&s, "%+v %+v %v\n", e, info, err)
		if e.flag == typeReg {
			f, err := d.openFile(e.name)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(f)
			info, infoErr := f.info()
			fmt.Fprintf(&s, "%q %+v %v %v\n", content, info, err, infoErr)
			f.Close()
		}
	}
	info, err := d.info()
	fmt.Fprintf(&s, "%+v %v\n", info, err)
	return s.String()
}

// TestPackReplacedByLink makes sure that a directory that turns into a link while the tree
// is walked leads nowhere.
func TestPackReplacedByLink(t *testing.T) {
	outside := tree(t, "secret s")
	src := tree(t, "a "+strings.Repeat("a", 8<<20), "dir/x 1")
	h, err := openTree(src)
	if err != nil {
		t.Fatal(err)
	}
	root := &treeDir{dir: newSharedDir(h), path: src}
	defer root.dir.release()
	w := &walker{opts: &PackOptions{}}
	w.send = func(it item) error {
		defer it.release()
		if it.name != "a" {
			return fmt.Errorf("walked on to %+v", it)
		}
		return errors.Join(os.RemoveAll(filepath.Join(src, "dir")), os.Symlink(outside, filepath.Join(src, "dir")))
	}
	if err := w.walk(context.Background(), nil, []*treeDir{root}, ""); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v, want ENOTDIR", err)
	}
}
