package operands

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/tarutil/stack"
)

// IntoEmptyDir has write fill the directory dir, which must be absent or empty. An absent one is
// made under another name beside it, and gets its own when write has succeeded. One that is there
// is filled in place and emptied again after an error. If that fails, the error says that something
// is left.
//
// What a process that was killed has left is removed: a directory beside dir, and a stage in dir, if
// nothing else is there. Whoever writes holds a lock, by which the dead are told from the living. Where
// directories cannot be locked, nothing is removed.
func IntoEmptyDir(dir string, write func(*os.Root) error) error {
	isNew, err := checkTarget(dir)
	if err != nil {
		return err
	}
	if isNew {
		return intoNewDir(dir, write)
	}

	return inEmptyDir(dir, func(root *os.Root, stages []string) error {
		for _, name := range stages {
			if err := root.RemoveAll(name); err != nil {
				return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
			}
		}

		if err := write(root); err != nil {
			return afterRemoving(err, emptyDir(root))
		}
		return nil
	})
}

// CheckEmptyDir returns the error with which [IntoEmptyDir] would refuse a directory, and changes nothing.
func CheckEmptyDir(dir string) error {
	isNew, err := checkTarget(dir)
	if err != nil {
		return err
	}
	if isNew {
		return cli.CheckPlace(dir)
	}
	return inEmptyDir(dir, func(*os.Root, []string) error { return nil })
}

// checkTarget refuses what is there and is no directory. It reports true if nothing is there.
func checkTarget(dir string) (isNew bool, err error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(dir); err == nil {
			return false, fmt.Errorf("%q: it is a link that leads nowhere", dir)
		}
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}
	if !info.IsDir() {
		return false, fmt.Errorf("%q: it is there, and is not a directory", dir)
	}
	return false, nil
}

// inEmptyDir runs use on a directory in which nothing is, but for stages that nobody uses. It is locked
// meanwhile, if that can be.
func inEmptyDir(dir string, use func(root *os.Root, stages []string) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}
	defer root.Close()

	// Files that were there before would be mixed with new ones, and lost with them after an error.
	names, err := namesIn(root, ".")
	if err != nil {
		return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}

	// Without a lock somebody may be at work here.
	unlock, locked := lockDir(root)
	defer unlock()
	if locked && !slices.ContainsFunc(names, func(name string) bool { return !isStage(root, name) }) {
		return use(root, names)
	}

	if len(names) > 0 {
		hint := "name one that is, or a new one"
		if locked && slices.ContainsFunc(names, func(name string) bool { return isStage(root, name) }) {
			hint = "an extraction that was killed was in it: remove what is there, or name a new one"
		}
		return cli.WithHint(fmt.Errorf("%q: the directory is not empty", dir), "%s", hint)
	}

	return use(root, nil)
}

// intoNewDir makes the directory under a temporary name beside it.
func intoNewDir(dir string, write func(*os.Root) error) error {
	clean := filepath.Clean(dir)
	prefix := filepath.Join(filepath.Dir(clean), "."+filepath.Base(clean)+".ocikit-")
	removeDead(prefix)
	tmp, root, unlock, err := newTemporary(prefix)
	if err != nil {
		return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}

	err = write(root)
	unlock()
	root.Close() // some systems rename no directory that is open
	if err == nil {
		if err = os.Rename(tmp, clean); err == nil {
			return nil
		}
		err = fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}

	return afterRemoving(err, removeTree(tmp))
}

// randomDigits is how many hexadecimal digits end the name of a temporary directory.
const randomDigits = 12

// newTemporary makes a directory whose name begins with prefix, and locks it.
func newTemporary(prefix string) (tmp string, root *os.Root, unlock func(), err error) {
	for try := 0; ; try++ {
		var random [randomDigits / 2]byte
		rand.Read(random[:])
		tmp = prefix + hex.EncodeToString(random[:])
		if err := os.Mkdir(tmp, 0o755); err != nil {
			return "", nil, nil, err
		}

		if root, err = os.OpenRoot(tmp); err == nil {
			// Another process may have taken it for one of the dead before it was locked. Where
			// nothing can be locked nobody does that.
			unlock, locked := lockDir(root)
			_, gone := os.Lstat(tmp)
			if locked && gone == nil || try > 2 && gone == nil {
				return tmp, root, unlock, nil
			}
			unlock()
			root.Close()
			err = gone
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) || try > 10 {
			return "", nil, nil, afterRemoving(cmp.Or(err, fs.ErrNotExist), os.RemoveAll(tmp))
		}
		os.Remove(tmp) // it is empty, or gone
	}
}

// removeDead removes the temporary directories with a prefix that nobody has locked. What cannot be
// removed stays: it is in nobody's way.
func removeDead(prefix string) {
	entries, _ := os.ReadDir(filepath.Dir(prefix)) // without them there is nothing to remove
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), filepath.Base(prefix))
		if _, err := hex.DecodeString(random); !ok || err != nil || len(random) != randomDigits || !e.IsDir() {
			continue
		}

		tmp := filepath.Join(filepath.Dir(prefix), e.Name())
		root, err := os.OpenRoot(tmp)
		if err != nil {
			continue
		}
		unlock, locked := lockDir(root)
		if locked {
			removeTree(tmp)
		}
		unlock()
		root.Close()
	}
}

// lockDir locks a directory until unlock is called or the process ends. It reports false if another
// process has the lock, and where directories cannot be locked.
func lockDir(root *os.Root) (unlock func(), locked bool) {
	f, err := root.Open(".")
	if err != nil {
		return func() {}, false
	}
	return func() { f.Close() }, disk.TryLock(f)
}

// isStage reports whether a name is that of a stage, or of the rootfs of a bundle with nothing but that.
func isStage(root *os.Root, name string) bool {
	info, err := root.Lstat(name)
	if err != nil || !info.IsDir() {
		return false
	}
	if name == "rootfs" {
		names, err := namesIn(root, name)
		return err == nil && len(names) == 1 && strings.HasPrefix(names[0], stack.StagePrefix)
	}
	return strings.HasPrefix(name, stack.StagePrefix)
}

// removeTree removes a directory and all that is in it, also directories that are closed to their
// owner.
func removeTree(dir string) error {
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}

	err = emptyDir(root)
	root.Close()
	if err != nil {
		return err
	}

	return os.Remove(dir)
}

// afterRemoving adds to err that what was made could not be removed again.
func afterRemoving(err, removed error) error {
	if removed != nil {
		err = fmt.Errorf("%w; and what was written is left: %v", err, removed)
	}
	return err
}

// emptyDir removes all that is in a directory, also from directories that were made so that
// nobody may write there.
func emptyDir(root *os.Root) error {
	names, err := namesIn(root, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		if root.RemoveAll(name) == nil {
			continue
		}
		openUp(root, name)
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	return root.Chmod(".", 0o755)
}

// openUp lets the owner remove what is in a directory.
func openUp(root *os.Root, dir string) {
	info, err := root.Lstat(dir)
	if err != nil || !info.IsDir() || root.Chmod(dir, 0o700) != nil {
		return
	}
	names, _ := namesIn(root, dir) // what cannot be listed cannot be removed: that is the error
	for _, name := range names {
		openUp(root, path.Join(dir, name))
	}
}

// namesIn lists a directory.
func namesIn(root *os.Root, dir string) ([]string, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// ReadRegular reads the regular file name below root, of at most 4 MiB. A link is an error: name is
// the path that links lead to.
func ReadRegular(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}

	const limit = 4 << 20
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%q: want a file of at most %d bytes", name, limit)
	}

	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}
	defer f.Close()

	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}

	return data, nil
}
