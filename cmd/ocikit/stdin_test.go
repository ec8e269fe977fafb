package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
)

// TestFileOnStandardInput wants an archive that is redirected to standard input read where it is, from
// the offset at which it stands, and one that comes through a pipe kept in a temporary file.
func TestFileOnStandardInput(t *testing.T) {
	t.Chdir(t.TempDir())
	must := mustRun(t)
	must("", "init", "app")
	writeTestFile(t, "tree/a", "text")
	must(must(must(must("", "layer", "app", "tree"), "config", "app"), "manifest", "app"), "tag", "app:v1")
	must("", "save", "app:v1", "-o", "app.tar")
	archive, err := os.ReadFile("app.tar")
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, "behind.tar", "12345"+string(archive))

	pipe, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		to.Write(archive)
		to.Close()
	}()

	for _, tt := range []struct {
		name   string
		f      *os.File
		spools bool
	}{
		{"a file", open(t, "app.tar", 0), false},
		{"a file from an offset", open(t, "behind.tar", 5), false},
		{"a pipe", pipe, true},
	} {
		var out, errs lockedBuffer
		env := &cli.Env{Stdin: standardInput(t.Context(), tt.f), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
		status := program().Run(t.Context(), env, []string{"files", "-"})
		if got := string(out.Bytes()); status != 0 || !strings.Contains(got, " a\n") {
			t.Errorf("%s: status %d, %q: %s", tt.name, status, got, errs.Bytes())
		}
		if spools := strings.Contains(string(errs.Bytes()), "temporary file"); spools != tt.spools {
			t.Errorf("%s: a temporary file: %v, want %v", tt.name, spools, tt.spools)
		}
		tt.f.Close()
	}
}

// TestStandardInputEnds wants reads to end with the context, of a file and of a pipe nobody writes to.
func TestStandardInputEnds(t *testing.T) {
	silent, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer to.Close()

	dir := t.TempDir()
	writeTestFile(t, dir+"/file", "text")
	for _, f := range []*os.File{open(t, dir+"/file", 0), silent} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cli.ErrInterrupted)
		if _, err := oci.CopyUntil(t.Context(), io.Discard, standardInput(ctx, f)); !errors.Is(err, cli.ErrInterrupted) {
			t.Errorf("%s: %v", f.Name(), err)
		}
		f.Close()
	}
}

func open(t *testing.T, name string, offset int64) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Standard input can be read once. Where "-" is given twice, the second was an empty file.
func TestStandardInputTwice(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, line := range []string{
		"digest - -",
		"why - -",
		"config --from - --merge-patch -",
		"config --layer - --layer -",
	} {
		in := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
		if strings.Contains(line, "--layer") {
			in = strings.Repeat("\x00", 1024)
		}
		status, _, errs := runOcikit(t.Context(), strings.NewReader(in), strings.Fields(line)...)
		if status != 2 || !strings.Contains(errs, "can be read once") {
			t.Errorf("%s: status %d: %s", line, status, errs)
		}
	}
}
