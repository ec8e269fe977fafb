package main

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
)

// intoEmptyDir has write fill the directory dir, which must be absent or empty. An absent one
// gets its name when it is complete; one that is there is emptied again after an error.
func intoEmptyDir(dir string, write func(*os.Root) error) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return intoNewDir(dir, write)
	case err != nil:
		return fmt.Errorf("%q: %w", dir, pathless(err))
	case !info.IsDir():
		return fmt.Errorf("%q: it is there, and is no directory", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("%q: %w", dir, pathless(err))
	}
	defer root.Close()
	names, err := namesIn(root, ".")
	if err != nil {
		return fmt.Errorf("%q: %w", dir, pathless(err))
	}
	if len(names) > 0 {
		return withHint(fmt.Errorf("%q: the directory is not empty", dir), "name one that is, or a new one")
	}
	if err := write(root); err != nil {
		return afterRemoving(err, emptyDir(root))
	}
	return nil
}

// intoNewDir makes the directory under a temporary name beside it.
func intoNewDir(dir string, write func(*os.Root) error) error {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%q: it is a link that leads nowhere", dir)
	}
	clean := filepath.Clean(dir)
	var random [6]byte
	rand.Read(random[:])
	tmp := filepath.Join(filepath.Dir(clean), "."+filepath.Base(clean)+".ocikit-"+hex.EncodeToString(random[:]))
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return fmt.Errorf("%q: %w", dir, pathless(err))
	}
	root, err := os.OpenRoot(tmp)
	if err != nil {
		return afterRemoving(fmt.Errorf("%q: %w", dir, pathless(err)), os.Remove(tmp))
	}
	err = write(root)
	var removed error
	if err != nil {
		removed = emptyDir(root)
	}
	root.Close()
	if err == nil {
		if err = os.Rename(tmp, clean); err == nil {
			return nil
		}
		err = fmt.Errorf("%q: %w", dir, err)
		removed = os.RemoveAll(tmp)
	}
	if removed == nil {
		removed = os.RemoveAll(tmp)
	}
	return afterRemoving(err, removed)
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

// readRegular reads a small regular file, named by its real path.
func readRegular(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, pathless(err))
	}
	const limit = 4 << 20
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%q: want a file of at most %d bytes", name, limit)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, pathless(err))
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, pathless(err))
	}
	return data, nil
}
