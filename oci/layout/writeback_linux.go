//go:build amd64 || arm64

package layout

import (
	"os"
	"syscall"
)

// startWriteback asks the system to begin writing a range of a file to the disk, and does not
// wait. It is advice: its failure means nothing.
func startWriteback(f *os.File, offset, n int64) {
	const syncFileRangeWrite = 2
	syscall.SyncFileRange(int(f.Fd()), offset, n, syncFileRangeWrite)
}
