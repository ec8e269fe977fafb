package layout

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci/disk"
)

func openRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestBelow(t *testing.T) {
	root := openRoot(t)
	if _, err := OpenBelow(root, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenBelow of nothing = %v", err)
	}
	for _, name := range []string{"a/b", "a", "a/b/c", "a"} {
		l, err := InitBelow(root, name, nil)
		if err != nil {
			t.Fatalf("InitBelow(%q) = %v", name, err)
		}
		if findings, _, err := l.Verify(context.Background(), VerifyOptions{}); err != nil || len(findings) > 0 {
			t.Errorf("Verify = %v, %v", findings, err)
		}
		l.Close()
	}
	if err := root.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFile("d/notes.txt", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := InitBelow(root, "d", nil); !errors.Is(err, ErrNotLayout) {
		t.Errorf("InitBelow beside foreign files = %v", err)
	}
	if err := root.Mkdir("u", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFile("u/"+UploadPrefix+"1", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := InitBelow(root, "u", nil)
	if err != nil {
		t.Fatalf("InitBelow beside an upload = %v", err)
	}
	l.Close()
	if _, err := InitBelow(root, "a/oci-layout/x", nil); err == nil {
		t.Error("InitBelow below a file succeeded")
	}
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(root.Name(), "out")); err == nil {
		if _, err := InitBelow(root, "out", nil); err == nil {
			t.Error("InitBelow followed a link out of the root")
		}
	}
}

func TestAdoptLinkRemove(t *testing.T) {
	root := openRoot(t)
	a, err := InitBelow(root, "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := InitBelow(root, "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	text := "hello"
	d, _, _ := digest.FromReader(digest.SHA512, strings.NewReader(text))
	name := UploadPrefix + "x"
	f, err := root.Create("a/" + name)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(text)
	if !disk.TryLock(f) {
		t.Error("TryLock of a file of one's own failed")
	}
	if err := a.Adopt(f, name, d); err != nil {
		t.Fatal(err)
	}
	if size, err := a.Stat(d); size != 5 || err != nil {
		t.Errorf("Stat after Adopt = %d, %v", size, err)
	}
	if _, err := root.Lstat("a/" + name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if err := LinkBlob(root, "b", "a", d); !errors.Is(err, ErrNotFound) {
		t.Errorf("LinkBlob of an absent blob = %v", err)
	}
	for range 2 {
		if err := LinkBlob(root, "a", "b", d); err != nil {
			t.Errorf("LinkBlob = %v", err)
		}
	}
	if err := a.RemoveBlob(d); err != nil {
		t.Errorf("RemoveBlob = %v", err)
	}
	if err := a.RemoveBlob(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("RemoveBlob again = %v", err)
	}
	for _, l := range []*Layout{a, b} {
		if findings, _, err := l.Verify(context.Background(), VerifyOptions{}); err != nil || len(findings) > 0 {
			t.Errorf("Verify = %v, %v", findings, err)
		}
	}
	if size, err := b.Stat(d); size != 5 || err != nil {
		t.Errorf("the linked blob: %d, %v", size, err)
	}
}
