package disk

import (
	"os"
	"syscall"
	"unsafe"
)

// LockFile is the name of the file that holds the lock of index.json; a directory cannot be
// locked here.
const LockFile = ".ocikit-lock"

// OpenFlags is nothing: an open waits for nobody here.
const OpenFlags = 0

// OpenLock opens what [TryLock] locks for index.json.
func OpenLock(root *os.Root) (*os.File, error) {
	return root.OpenFile(LockFile, os.O_RDWR|os.O_CREATE, 0o644)
}

// TryLock takes an exclusive lock on an open file if nobody else has one. It ends when the
// file is closed, also by the death of the process.
func TryLock(f *os.File) bool { return tryLock(f) == nil }

// inUse is the opposite of [TryLock], but where files cannot be locked nobody has one in use.
func inUse(f *os.File) bool {
	const lockViolation = syscall.Errno(33)
	return tryLock(f) == lockViolation
}

func tryLock(f *os.File) error {
	const exclusive, failImmediately = 2, 1
	lockFileEx := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	// A byte far behind the data, so that the lock hinders no reader or writer.
	at := syscall.Overlapped{OffsetHigh: 1 << 30}
	ok, _, err := lockFileEx.Call(f.Fd(), exclusive|failImmediately, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	if ok != 0 {
		return nil
	}
	return err
}

// SyncsDirectories says that directories cannot be synced here: the file system journals them.
const SyncsDirectories = false
