package tarutil

import (
	"archive/tar"
	"bytes"
	"os"
	"runtime"
	"testing"
)

// A temporary file gives up its name at once, where it can: a process that a pipe ends leaves none.
func TestTemporaryFilesAreNameless(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file keeps its name here")
	}
	dir := t.TempDir()
	names := func() []os.DirEntry {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}

	var b bytes.Buffer
	err := WriteSorted(t.Context(), &b, dir, func(w *Writer) error {
		if list := names(); len(list) > 0 {
			t.Errorf("sorting leaves %v", list)
		}
		return w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg})
	})
	if err != nil {
		t.Fatal(err)
	}

	f, remove, err := createTemp(dir, "x-*")
	if err != nil || len(names()) > 0 {
		t.Errorf("createTemp: %v, %v", err, names())
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Error(err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
}
