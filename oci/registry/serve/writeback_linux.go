package serve

import (
	"os"
	"syscall"
)

// writeBack asks the system to begin writing n bytes at off to the disk, so that the sync
// that comes when they are all there has little left to wait for. It promises nothing.
func writeBack(f *os.File, off, n int64) {
	const rangeWrite = 2 // SYNC_FILE_RANGE_WRITE
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { syscall.SyncFileRange(int(fd), off, n, rangeWrite) })
	}
}
