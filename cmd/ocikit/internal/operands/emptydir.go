package operands

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
)

// IntoEmptyDir has write fill the directory dir, which must be absent or empty. An absent one is
// made under another name beside it, and gets its own when write has succeeded. One that is there
// is filled in place and emptied again after an error. If that fails, the error says that something
// is left.
func IntoEmptyDir(dir string, write func(*os.Root) error) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return intoNewDir(dir, write)
	case err != nil:
		return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	case !info.IsDir():
		return fmt.Errorf("%q: it is there, and is not a directory", dir)
	}

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

	if len(names) > 0 {
		return cli.WithHint(fmt.Errorf("%q: the directory is not empty", dir), "name one that is, or a new one")
	}

	if err := write(root); err != nil {
		return afterRemoving(err, emptyDir(root))
	}

	return nil
}

// intoNewDir makes the directory under a temporary name beside it.
func intoNewDir(dir string, write func(*os.Root) error) error {
	// os.Stat has found nothing there, so what is there is a link.
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%q: it is a link that leads nowhere", dir)
	}

	clean := filepath.Clean(dir)
	var random [6]byte
	rand.Read(random[:])
	tmp := filepath.Join(filepath.Dir(clean), "."+filepath.Base(clean)+".ocikit-"+hex.EncodeToString(random[:]))
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}

	root, err := os.OpenRoot(tmp)
	if err != nil {
		return afterRemoving(fmt.Errorf("%q: %w", dir, oci.Pathless(err)), os.Remove(tmp))
	}

	err = write(root)
	root.Close() // some systems rename no directory that is open
	if err == nil {
		if err = os.Rename(tmp, clean); err == nil {
			return nil
		}
		err = fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}

	return afterRemoving(err, removeTree(tmp))
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
