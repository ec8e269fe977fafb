package main

import (
	"os"
	"syscall"
)

const (
	setPipeSize = 1031 // F_SETPIPE_SZ
	getPipeSize = 1032 // F_GETPIPE_SZ
)

// widenPipe gives the pipe f, if it is one, room for what a command reads or writes at a time: each
// time that it is full or empty, one of two processes has to wait for the other. What one user's
// pipes may hold together is limited, so it is no more than that. A larger pipe stays as it is.
func widenPipe(f *os.File) {
	const room = 256 << 10
	c, err := f.SyscallConn()
	if err != nil {
		return
	}

	// No error matters: the pipe is slower then.
	c.Control(func(fd uintptr) {
		have, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, getPipeSize, 0)
		if errno == 0 && have < room {
			syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, room)
		}
	})
}
