package main

import (
	"strings"
	"syscall"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
)

// A full disk behind standard output is a failure, a reader that has gone is not a message.
func TestOutputErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		stderr string
	}{
		{syscall.ENOSPC, 1, "ocikit digest: write standard output: no space left on device\n"},
		{syscall.EPIPE, 141, ""},
	} {
		var errs lockedBuffer
		env := &cli.Env{Stdin: strings.NewReader("x"), Stdout: brokenWriter{c.err}, Stderr: &errs, Getenv: func(string) string { return "" }}
		if status := program().Run(t.Context(), env, []string{"digest"}); status != c.status || string(errs.Bytes()) != c.stderr {
			t.Errorf("%v: status %d, stderr %q; want %d, %q", c.err, status, errs.Bytes(), c.status, c.stderr)
		}
	}
}

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }

// Bytes that are not text do not go to a terminal unless they are sent there by name.
func TestTerminalIsSpared(t *testing.T) {
	for _, c := range []struct {
		input  string
		out    string // of -o
		status int
	}{
		{"{\"a\": 1}\n", "", 0},
		{"\x1f\x8b\x08", "", 2},
		{"\x1f\x8b\x08", "-", 0},
	} {
		var out, errs lockedBuffer
		t.Chdir(t.TempDir())
		must := mustRun(t)
		must("", "init", "app")
		must(c.input, "put", "app")
		digest := strings.TrimSpace(must(c.input, "digest"))
		env := &cli.Env{Stdout: &out, Stderr: &errs, OutTTY: true, Getenv: func(string) string { return "" }}
		args := []string{"cat", "app@" + digest}
		if c.out != "" {
			args = append(args, "-o", c.out)
		}
		if status := program().Run(t.Context(), env, args); status != c.status || status == 0 && string(out.Bytes()) != c.input {
			t.Errorf("cat %q -o %q: status %d, stdout %q, stderr %q", c.input, c.out, status, out.Bytes(), errs.Bytes())
		}
	}
}
