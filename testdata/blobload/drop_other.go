//go:build !linux

package main

import (
	"io"
	"net"
)

// drop takes n bytes from a connection.
func drop(conn *net.TCPConn, n int64) error {
	_, err := io.CopyN(io.Discard, conn, n)
	return err
}
