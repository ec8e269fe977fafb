//go:build amd64 || arm64

package disk

import (
	"os"
	"syscall"
)

// StartWriteback asks the system to begin writing a range of a file to the disk, so that the sync
// that comes when all is there has little left to wait for. It does not wait. It is advice: its
// failure means nothing.
func StartWriteback(f *os.File, offset, n int64) {
	const rangeWrite = 2 // SYNC_FILE_RANGE_WRITE
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { syscall.SyncFileRange(int(fd), offset, n, rangeWrite) })
	}
}
