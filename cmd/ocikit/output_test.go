package main

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
)

// A full disk behind standard output is a failure, a reader that has gone is not a message.
func TestOutputErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"one": `{"a":1}`, "two": `{"a":2}`} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	const full = "write standard output: no space left on device\n"
	for _, c := range []struct {
		line   string
		err    error
		status int
		stderr string
	}{
		{"digest", syscall.ENOSPC, 1, "ocikit digest: " + full},
		{"digest", syscall.EPIPE, 141, ""},
		// A "no" that nobody has seen, and a list that came to nothing beside an error.
		{"why one two", syscall.ENOSPC, 1, "ocikit why: " + full},
		{"why one two", syscall.EPIPE, 141, ""},
		{"digest one absent", syscall.ENOSPC, 4, "ocikit digest: \"absent\": no such file or directory; " + full},
		{"digest one absent", syscall.EPIPE, 4, "ocikit digest: \"absent\": no such file or directory\n"},
	} {
		var errs lockedBuffer
		env := &cli.Env{Stdin: strings.NewReader("x"), Stdout: brokenWriter{c.err}, Stderr: &errs, Getenv: func(string) string { return "" }}
		if status := program().Run(t.Context(), env, strings.Fields(c.line)); status != c.status || string(errs.Bytes()) != c.stderr {
			t.Errorf("%s, %v: status %d, stderr %q; want %d, %q", c.line, c.err, status, errs.Bytes(), c.status, c.stderr)
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
