package tap

import (
	"io"
	"net"
	"syscall"
)

// A pipe holds bytes in the kernel on their way from one connection to another. They are never copied
// into this process, and where both connections allow it, not copied at all. It is for one goroutine.
type pipe struct{ r, w int }

// flags of splice(2) and the command of fcntl(2) that sets the size of a pipe, which package syscall
// lacks.
const (
	spliceMove     = 1
	spliceNonblock = 2
	setPipeSize    = 1031
)

// newPipe returns an empty pipe. One that stays small, since users have only so much room for pipes,
// is slower but works.
func newPipe() (*pipe, error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, err
	}
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), setPipeSize, pipeSize)
	return &pipe{fds[0], fds[1]}, nil
}

func (p *pipe) close() {
	syscall.Close(p.r)
	syscall.Close(p.w)
}

// fill moves up to limit bytes from a connection into the pipe, which must be empty. As a Read does, it
// waits for the first of them, and tells the end of the stream by io.EOF.
func (p *pipe) fill(from *net.TCPConn, limit int) (n int, err error) {
	raw, err := from.SyscallConn()
	if err != nil {
		return 0, err
	}

	var moved int64
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		moved, failed = splice(int(fd), p.w, limit)
		return failed != syscall.EAGAIN // the pipe is empty, so it is the connection that has nothing
	})

	switch {
	case err != nil:
		return 0, err
	case failed != nil:
		return 0, failed
	case moved == 0:
		return 0, io.EOF
	}
	return int(moved), nil
}

// drain moves n bytes, which the pipe must hold, to a connection. It returns how many have gone.
func (p *pipe) drain(to *net.TCPConn, n int) (done int, err error) {
	raw, err := to.SyscallConn()
	if err != nil {
		return 0, err
	}

	for done < n {
		var moved int64
		var failed error
		err := raw.Write(func(fd uintptr) bool {
			moved, failed = splice(p.r, int(fd), n-done)
			return failed != syscall.EAGAIN
		})
		switch {
		case err != nil:
			return done, err
		case failed != nil:
			return done, failed
		case moved == 0:
			return done, io.ErrUnexpectedEOF
		}
		done += int(moved)
	}

	return done, nil
}

// splice is splice(2), again if a signal came in between. Neither side ever waits, so the scheduler need
// not know of the call: being told of it, it would move other work to another thread each time.
func splice(from, to, n int) (int64, error) {
	for {
		moved, _, err := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), spliceMove|spliceNonblock)
		switch err {
		case 0:
			return int64(moved), nil
		case syscall.EINTR:
			continue
		}
		return 0, err
	}
}
