package commonflags

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/show"
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

// Listen accepts connections at an address, and prints it then: a script that asked for port 0 waits for
// that, so standard output is flushed at once. An address that another program has gets a hint.
func Listen(env *cli.Env, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError(address, err)
	}

	err = show.WriteLines(env.Stdout, []string{ln.Addr().String()})
	if out, ok := env.Stdout.(interface{ Flush() error }); ok && err == nil {
		err = out.Flush()
	}
	if err != nil {
		ln.Close()
		return nil, err
	}

	return ln, nil
}

// listenError says why nobody can listen at an address.
func listenError(address string, err error) error {
	// The error of package net names the address once more.
	cause := err
	if op, ok := errors.AsType[*net.OpError](err); ok {
		cause = op.Err
	}

	err = fmt.Errorf("listen on %s: %w", address, cause)
	if errors.Is(cause, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(address)
		return cli.WithHint(err, "another program listens there; --listen %s takes a free port", net.JoinHostPort(host, "0"))
	}
	return err
}
