package layout

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is known of a layout holds for the file that it was learnt from, and no other.
func TestKnown(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	file := filepath.Join(dir, "a", layoutFile)
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(version string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(file, []byte(`{"imageLayoutVersion":"`+version+`"}`), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}

	var k Known
	open := func() error {
		l, err := k.OpenBelow(root, "a")
		if err == nil {
			l.Close()
		}
		return err
	}
	if err := open(); !errors.Is(err, ErrNotLayout) {
		t.Errorf("without a file: %v", err)
	}

	// A file that is not older than the clock of the file system tells is read each time.
	old, young := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	write("1.0.0", young)
	if err := open(); err != nil || len(k.files) != 0 {
		t.Errorf("a young file: %v, %d known", err, len(k.files))
	}
	write("1.0.0", old)
	for range 2 {
		if err := open(); err != nil || len(k.files) != 1 {
			t.Errorf("an old file: %v, %d known", err, len(k.files))
		}
	}

	for name, at := range map[string]time.Time{"another time": old.Add(time.Minute), "young again": young} {
		write("9.0.0", at)
		if err := open(); !errors.Is(err, ErrNotLayout) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A file of another size, or another file of the same time.
	write("10.0.0", old)
	if err := open(); !errors.Is(err, ErrNotLayout) {
		t.Errorf("another size: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := open(); !errors.Is(err, ErrNotLayout) {
		t.Errorf("a file that is gone: %v", err)
	}
}
