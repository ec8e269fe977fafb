package commonflags

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"ocikit/cmd/ocikit/internal/cli"
)

// CheckLoopback returns a usage error, with the advice, for an address that others can reach.
// Without TLS all on the way can read what is sent there.
func CheckLoopback(address, advice string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return cli.Usagef("flag --listen: %q: want HOST:PORT", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return &cli.UsageError{Msg: fmt.Sprintf("flag --listen: %q is not a loopback address", address), Advice: advice}
	}
	return nil
}

// Listen accepts connections at an address. An address that another program has gets a hint.
func Listen(address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err == nil {
		return ln, nil
	}

	// The error of package net names the address once more.
	cause := err
	var op *net.OpError
	if errors.As(err, &op) {
		cause = op.Err
	}
	err = fmt.Errorf("listen on %s: %w", address, cause)
	if errors.Is(cause, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(address)
		return nil, cli.WithHint(err, "another program listens there; --listen %s takes a free port", net.JoinHostPort(host, "0"))
	}
	return nil, err
}
