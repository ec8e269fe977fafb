package operands

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocikit/tarutil/stack"
)

// Where another took the name meanwhile, that one stays, nothing is left of ours, and the error says
// nothing of the name that it had until then.
func TestNameIsTaken(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "new")
	err := IntoEmptyDir(name, func(root *os.Root) error {
		if err := root.MkdirAll("closed/deep", 0o755); err != nil {
			return err
		}

		// What a tar holds may be closed to its owner; root does not notice.
		if err := root.Chmod("closed", 0o500); err != nil {
			return err
		}
		if err := root.Chmod(".", 0); err != nil {
			return err
		}
		return os.WriteFile(name, []byte("other"), 0o644)
	})
	if err == nil || strings.Contains(err.Error(), ".ocikit-") || strings.Contains(err.Error(), "rename") {
		t.Errorf("error %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "new" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// What the dead have left is removed. What the living are at, and what is not known, stays.
func TestLeftByTheDead(t *testing.T) {
	const stage = stack.StagePrefix + "0123456789ab"
	needLocks(t)
	nothing := func(*os.Root) error { return nil }
	for _, c := range []struct {
		name string
		made []string // below a directory; those in "dir" are in the operand itself
		want []string // of those, what is left
		ok   bool
	}{
		{"a stage", []string{"dir/" + stage}, nil, true},
		{"two stages", []string{"dir/" + stage, "dir/" + stage + "f"}, nil, true},
		{"the stage of a bundle", []string{"dir/rootfs/" + stage}, nil, true},
		{"a stage and a name", []string{"dir/" + stage, "dir/etc"}, []string{"dir/" + stage, "dir/etc"}, false},
		{"a rootfs", []string{"dir/rootfs/etc"}, []string{"dir/rootfs/etc"}, false},
		{"beside", []string{".dir.ocikit-0123456789ab/x"}, nil, true},
		{"beside, of others", []string{".dir.ocikit-0123", ".other.ocikit-0123456789ab"}, []string{".dir.ocikit-0123", ".other.ocikit-0123456789ab"}, true},
	} {
		top := t.TempDir()
		for _, name := range c.made {
			if err := os.MkdirAll(filepath.Join(top, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}

		// Whether it would go well is found out without a change.
		if err := CheckEmptyDir(filepath.Join(top, "dir")); (err == nil) != c.ok {
			t.Errorf("%s: to check it: %v", c.name, err)
		}
		for _, name := range c.made {
			if _, err := os.Lstat(filepath.Join(top, name)); err != nil {
				t.Errorf("%s: after a check: %v", c.name, err)
			}
		}

		err := IntoEmptyDir(filepath.Join(top, "dir"), nothing)
		if (err == nil) != c.ok {
			t.Errorf("%s: error %v", c.name, err)
		}
		for _, name := range c.made {
			_, err := os.Lstat(filepath.Join(top, name))
			if left := slices.Contains(c.want, name); (err == nil) != left {
				t.Errorf("%s: %s is left: %v, want %v", c.name, name, err == nil, left)
			}
		}
	}
}

// Two who write to one place do not take each other for dead.
func TestLivingAreLeft(t *testing.T) {
	needLocks(t)
	dir := filepath.Join(t.TempDir(), "dir")
	write := func(root *os.Root) error { return root.Mkdir(stack.StagePrefix+"0123456789ab", 0o700) }
	refused := func(*os.Root) error { return errors.New("refused") }

	err := IntoEmptyDir(dir, func(root *os.Root) error {
		if err := write(root); err != nil {
			return err
		}
		if err := IntoEmptyDir(dir, refused); err == nil || err.Error() != "refused" {
			t.Errorf("beside another: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	if err := IntoEmptyDir(dir, func(root *os.Root) error {
		if err := write(root); err != nil {
			return err
		}
		if err := IntoEmptyDir(dir, refused); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("in the same directory: %v", err)
		}
		_, err := root.Lstat(stack.StagePrefix + "0123456789ab")
		return err
	}); err != nil {
		t.Error(err)
	}
}

// needLocks skips a test where directories cannot be locked.
func needLocks(t *testing.T) {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	unlock, locked := lockDir(root)
	defer unlock()
	if !locked {
		t.Skip("directories cannot be locked here")
	}
}
