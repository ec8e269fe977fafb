package commonflags

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
)

// An address that is taken is named once, and the hint says how to get another.
func TestListenTwice(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its errors have other numbers")
	}
	env := &cli.Env{Stdout: io.Discard}
	first, err := Listen(env, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()

	second, err := Listen(env, first.Addr().String())
	if err == nil {
		second.Close()
		t.Fatal("two programs listen at one address")
	}
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "--listen "+net.JoinHostPort("127.0.0.1", "0")) {
		t.Errorf("%v: no hint", err)
	}
	if strings.Count(err.Error(), "127.0.0.1") != 1 {
		t.Errorf("the address is not there once: %v", err)
	}
}
