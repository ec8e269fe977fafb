//go:build unix

package tartest

import "syscall"

// Umask sets the umask, and returns the one before.
func Umask(mask int) int { return syscall.Umask(mask) }
