package main

import (
	"io"
	"net"
	"syscall"
)

// drop takes n bytes from a connection. MSG_TRUNC makes the system forget them.
func drop(conn *net.TCPConn, n int64) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 4<<20) // its length counts, nothing is written to it
	for n > 0 && err == nil {
		var got int
		var recvErr error
		err = raw.Read(func(fd uintptr) bool {
			got, _, recvErr = syscall.Recvfrom(int(fd), buf[:min(n, int64(len(buf)))], syscall.MSG_TRUNC)
			return recvErr != syscall.EAGAIN
		})
		switch {
		case recvErr != nil && recvErr != syscall.EINTR:
			return recvErr
		case err == nil && recvErr == nil && got == 0:
			return io.ErrUnexpectedEOF
		}
		n -= int64(max(got, 0))
	}
	return err
}
