//go:build unix && !solaris && !aix

package disk

import (
	"fmt"
	"os"
	"syscall"
)

// LockFile is the name of the file that holds the lock of index.json where a directory
// cannot be locked itself.
const LockFile = ".ocikit-lock"

// OpenFlags keeps an open from waiting for the other end of a named pipe.
const OpenFlags = syscall.O_NONBLOCK

// OpenLock opens what [TryLock] locks for index.json: the directory itself. Some network
// file systems lock only what is open for writing; there it is a file.
func OpenLock(root *os.Root) (*os.File, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}

	// The lock is only tried here, to see whether there can be one. EWOULDBLOCK says that there
	// can, and that another process has it.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil || err == syscall.EWOULDBLOCK || err == syscall.EINTR {
		syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		return f, nil
	}

	f.Close()
	if f, err = root.OpenFile(LockFile, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
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

// TryLock takes an exclusive lock on an open file if nobody else has one. It ends when the
// file is closed, also by the death of the process.
func TryLock(f *os.File) bool { return tryLock(f) == nil }

// inUse is the opposite of [TryLock], but where files cannot be locked nobody has one in use.
func inUse(f *os.File) bool { return tryLock(f) == syscall.EWOULDBLOCK }

func tryLock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// SyncsDirectories says that a directory must be synced for a new name in it to last.
const SyncsDirectories = true
