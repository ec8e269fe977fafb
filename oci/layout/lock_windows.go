package layout

import (
	"os"
	"syscall"
	"unsafe"
)

// lockFile is the name of the file that holds the lock of index.json; a directory cannot be
// locked here.
const lockFile = ".ocikit-lock"

const openFlags = 0

func (l *Layout) openLock() (*os.File, error) {
	return l.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o644)
}

// tryLock takes an exclusive lock on an open file if nobody else has one. It ends when the
// file is closed, also by the death of the process.
func tryLock(f *os.File) bool {
	const exclusive, failImmediately = 2, 1
	lockFileEx := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	// A byte far behind the data, so that the lock hinders no reader or writer.
	at := syscall.Overlapped{OffsetHigh: 1 << 30}
	ok, _, _ := lockFileEx.Call(f.Fd(), exclusive|failImmediately, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	return ok != 0
}

// syncDir does nothing: directories cannot be synced here, the file system journals them.
func (l *Layout) syncDir(string) error { return nil }
