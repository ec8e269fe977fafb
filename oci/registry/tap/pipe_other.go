//go:build !linux

package tap

import (
	"errors"
	"net"
)

// A pipe would hold bytes in the kernel on their way from one connection to another. Only Linux has
// such: elsewhere all bytes are copied.
type pipe struct{ mark []byte }

func newPipe() (*pipe, error) { return nil, errors.ErrUnsupported }

func (*pipe) close() {}

func (*pipe) open(*net.TCPConn) {}

func (*pipe) move(_, _ *net.TCPConn, _ int) (taken, held int, err error) {
	return 0, 0, errors.ErrUnsupported
}

func (*pipe) drain(*net.TCPConn, int) (int, error) { return 0, errors.ErrUnsupported }
