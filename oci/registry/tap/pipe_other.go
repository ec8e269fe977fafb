//go:build !linux

package tap

import (
	"errors"
	"net"
)

// A pipe would hold bytes in the kernel on their way from one connection to another. Only Linux has
// such: elsewhere all bytes are copied.
type pipe struct{}

func newPipe() (*pipe, error) { return nil, errors.ErrUnsupported }

func (*pipe) close() {}

func (*pipe) fill(*net.TCPConn, int) (int, error) { return 0, errors.ErrUnsupported }

func (*pipe) drain(*net.TCPConn, int) (int, error) { return 0, errors.ErrUnsupported }
