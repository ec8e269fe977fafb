package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Rename gives a file a name that another may have. Where the file system does not know the way of
// POSIX, Windows refuses it while anybody has the other open, as another process that reads a blob or
// index.json. That takes a moment, so it is tried again for two seconds.
func Rename(root *os.Root, from, to string) error {
	const sharingViolation = syscall.Errno(32)
	for wait := time.Millisecond; ; wait *= 2 {
		err := root.Rename(from, to)
		if wait > time.Second || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, sharingViolation) {
			return err
		}
		time.Sleep(wait)
	}
}
