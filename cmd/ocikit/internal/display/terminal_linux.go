package display

import (
	"os"
	"syscall"
	"unsafe"
)

// IsTerminal asks the system: other devices, as /dev/full, are files like any other.
func IsTerminal(f *os.File) bool {
	var t syscall.Termios
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&t)))
	return errno == 0
}
