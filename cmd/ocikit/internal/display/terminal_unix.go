//go:build linux || darwin

package display

import (
	"os"
	"syscall"
	"unsafe"
)

// terminalSize returns the columns and rows of a terminal, or 0.
func terminalSize(f *os.File) (cols, rows int) {
	var size struct{ rows, cols, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, 0
	}
	return int(size.cols), int(size.rows)
}

// claimTerminal takes a lock on the device, which the process holds until it ends, and reports
// false if another process holds it. Where devices cannot be locked everyone may draw.
func claimTerminal(f *os.File) bool {
	err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
	return err != syscall.EAGAIN && err != syscall.EACCES
}
