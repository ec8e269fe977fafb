//go:build unix

package tarutil

import "syscall"

func syscallUmask(mask int) int { return syscall.Umask(mask) }
