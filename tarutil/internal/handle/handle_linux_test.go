package handle

import (
	"archive/tar"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
)

// TestHandles compares the handles of this system with those that every system has.
func TestHandles(t *testing.T) {
	src := tartest.Tree(t, "file x", "dir/sub/ ", "link -> file", "out -> /etc", "dirlink -> dir")
	if err := syscall.Mkfifo(filepath.Join(src, "fifo"), 0o640); err != nil {
		t.Fatal(err)
	}
	var results []string
	for _, open := range []func(string) (Dir, error){Open, openRoot} {
		d, err := open(src)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, describe(t, d))
		for _, name := range []string{"link", "out", "dirlink", "fifo", "file"} {
			if h, err := d.OpenDir(name); err == nil {
				h.Close()
				t.Errorf("openDir(%q): no error", name)
			}
		}
		for _, name := range []string{"link", "out"} {
			if f, err := d.OpenFile(name); err == nil {
				f.Close()
				t.Errorf("openFile(%q): no error", name)
			}
		}
		if f, err := d.OpenFile("fifo"); err == nil { // must not wait for a writer
			if info, err := f.Info(); err != nil || info.Flag != tar.TypeFifo {
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

func describe(t *testing.T, d Dir) string {
	t.Helper()
	entries, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	var s strings.Builder
	for _, e := range entries {
		info, _, err := d.Lstat(e.Name, tarutil.XattrsNone)
		fmt.Fprintf(&s, "%+v %+v %v\n", e, info, err)
		if e.Flag == tar.TypeReg {
			f, err := d.OpenFile(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(f)
			info, infoErr := f.Info()
			fmt.Fprintf(&s, "%q %+v %v %v\n", content, info, err, infoErr)
			f.Close()
		}
	}
	info, err := d.Info()
	fmt.Fprintf(&s, "%+v %v\n", info, err)
	return s.String()
}
