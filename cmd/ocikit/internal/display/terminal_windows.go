package display

import (
	"os"
	"syscall"
)

// IsTerminal asks the system: package os takes all devices and pipes for one and the same file.
func IsTerminal(f *os.File) bool {
	var mode uint32
	return syscall.GetConsoleMode(syscall.Handle(f.Fd()), &mode) == nil
}

// terminalSize does not know the size of a console.
func terminalSize(*os.File) (cols, rows int) { return 0, 0 }

// claimTerminal has the console understand the codes that bars are drawn with, and reports
// false if it cannot.
func claimTerminal(f *os.File) bool {
	const virtualTerminal = 4 // ENABLE_VIRTUAL_TERMINAL_PROCESSING
	var mode uint32
	if syscall.GetConsoleMode(syscall.Handle(f.Fd()), &mode) != nil {
		return false
	}
	setMode := syscall.NewLazyDLL("kernel32.dll").NewProc("SetConsoleMode")
	ok, _, _ := setMode.Call(f.Fd(), uintptr(mode|virtualTerminal))
	return ok != 0
}
