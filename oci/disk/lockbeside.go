package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// LockBeside takes an exclusive lock for a file that is replaced when it changes, and so cannot hold
// one itself: on an empty file beside it, which is there as long as the lock is. It reports false if
// another process has the lock. The lock ends with unlock, or with the process: the file that a killed
// one leaves hinders nobody. Where files cannot be locked, all get the lock.
func LockBeside(name string) (unlock func(), ok bool, err error) {
	// All names of a file have one lock. The file itself need not be there.
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	name = filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".ocikit-lock")

	// Whoever has the lock may remove the file between the two looks at it, which does not happen
	// often in a row.
	for range 100 {
		if info, err := os.Lstat(name); err == nil && !info.Mode().IsRegular() {
			return nil, false, fmt.Errorf("%q: it is not a regular file", name)
		}

		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|OpenFlags, 0o600)
		if err != nil {
			return nil, false, err
		}

		if inUse(f) {
			f.Close()
			return nil, false, nil
		}

		is, statErr := os.Lstat(name)
		was, err := f.Stat()
		if err == nil && statErr == nil && os.SameFile(is, was) {
			return func() { removeLocked(f) }, true, nil
		}
		f.Close()
	}

	return nil, false, nil
}

// removeLocked removes a file and then lets go of its lock, in this order, so that a process that has
// waited for the lock sees that the name is gone. Windows removes no file that is open.
func removeLocked(f *os.File) {
	err := os.Remove(f.Name())
	f.Close()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		os.Remove(f.Name())
	}
}
