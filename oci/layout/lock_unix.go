//go:build unix && !solaris && !aix

package layout

import (
	"fmt"
	"os"
	"syscall"
)

// lockFile is the name of the file that holds the lock of index.json where a directory
// cannot be locked itself.
const lockFile = ".ocikit-lock"

// openFlags keep an open from waiting for the other end of a named pipe.
const openFlags = syscall.O_NONBLOCK

// openLock opens what tryLock locks for index.json: the directory itself. Some network
// file systems lock only what is open for writing; there it is a file.
func (l *Layout) openLock() (*os.File, error) {
	f, err := l.root.Open(".")
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil || err == syscall.EWOULDBLOCK || err == syscall.EINTR {
		syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		return f, nil
	}
	f.Close()
	if f, err = l.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err != nil && err != syscall.EWOULDBLOCK && err != syscall.EINTR {
		f.Close()
		return nil, fmt.Errorf("files cannot be locked here: %w", err)
	}
	syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	return f, nil
}

// tryLock takes an exclusive lock on an open file if nobody else has one. It ends when the
// file is closed, also by the death of the process.
func tryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func (l *Layout) syncDir(name string) error {
	d, err := l.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return l.sys.sync(d)
}
