package tap

import (
	"io"
	"net"
	"syscall"
)

// A pipe holds bytes in the kernel on their way from one connection to another. They are never copied
// into this process, and where both connections allow it, not copied at all. It is for one goroutine.
type pipe struct {
	r, w int
	mark []byte // memory of it is touched only where bytes do not take the pipe
}

// What package syscall lacks: flags of splice(2), the command of fcntl(2) that sets the size of a pipe, and
// the option of tcp(7) that bounds what a connection takes before it can send it.
const (
	spliceMove     = 1
	spliceNonblock = 2
	setPipeSize    = 1031
	tcpNotSentLow  = 25
)

// newPipe returns an empty pipe. One that stays small, since users have only so much room for pipes,
// is slower but works.
func newPipe() (*pipe, error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, err
	}
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), setPipeSize, pipeSize)
	return &pipe{fds[0], fds[1], make([]byte, markSize)}, nil
}

func (p *pipe) close() {
	syscall.Close(p.r)
	syscall.Close(p.w)
}

// open prepares a connection for what comes out of the pipe. It is to take little that it cannot send yet:
// bytes that wait for long have left the processor's cache when they are copied at last.
func (p *pipe) open(to *net.TCPConn) {
	raw, err := to.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLow, maxUnsent) })
	}
}

// move moves up to limit bytes out of one connection through the pipe, which must be empty, into another.
// As a Read does, it waits for the first of them, and tells the end of the stream by io.EOF. It goes on
// while there are more, but waits no more: what the other connection does not take at once is held, in the
// pipe.
func (p *pipe) move(from, to *net.TCPConn, limit int) (taken, held int, err error) {
	in, err := from.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	out, err := to.SyscallConn()
	if err != nil {
		return 0, 0, err
	}

	// The error of one round is not that of the next, which comes after a wait.
	var failed error
	err = in.Read(func(fd uintptr) bool {
		failed = nil
		for failed == nil && held == 0 && taken < limit {
			var n int
			if n, failed = splice(int(fd), p.w, limit-taken); n == 0 && failed == nil {
				failed = io.EOF
			}
			taken += n
			held = n - p.push(out, n)
		}

		// The pipe was empty, so it is the connection that has nothing.
		return taken > 0 || failed != syscall.EAGAIN
	})

	if err == nil && failed != syscall.EAGAIN {
		err = failed
	}
	return taken, held, err
}

// push moves what it can of the n bytes that the pipe holds, without waiting. An error comes again in
// drain.
func (p *pipe) push(to syscall.RawConn, n int) (done int) {
	to.Write(func(fd uintptr) bool {
		for done < n {
			moved, err := splice(p.r, int(fd), n-done)
			if moved <= 0 || err != nil {
				break
			}
			done += moved
		}
		return true
	})
	return done
}

// drain moves up to n bytes, which the pipe must hold, to a connection. It waits until that takes some of
// them, and returns how many have gone.
func (p *pipe) drain(to *net.TCPConn, n int) (done int, err error) {
	raw, err := to.SyscallConn()
	if err != nil {
		return 0, err
	}

	var failed error
	err = raw.Write(func(fd uintptr) bool {
		done, failed = splice(p.r, int(fd), n)
		return failed != syscall.EAGAIN
	})

	switch {
	case err != nil:
		return 0, err
	case failed != nil:
		return 0, failed
	case done == 0:
		return 0, io.ErrUnexpectedEOF
	}
	return done, nil
}

// splice is splice(2), again if a signal came in between. Neither side ever waits, so the scheduler need
// not know of the call: being told of it, it would move other work to another thread each time.
func splice(from, to, n int) (int, error) {
	for {
		moved, _, err := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), spliceMove|spliceNonblock)
		switch err {
		case 0:
			return int(moved), nil
		case syscall.EINTR:
			continue
		}
		return 0, err
	}
}
