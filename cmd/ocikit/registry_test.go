package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocikit/oci/registry/regtest"
	"ocikit/oci/registry/serve"
)

func newTestRegistry(t *testing.T, dir string) http.Handler {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := serve.New(dir, serve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// F52: an interrupt while bytes are on their way gives the session back, or keeps it for the
// next process if there is a place for that, and the exit status says what happened.
func TestInterruptedPush(t *testing.T) {
	dir := t.TempDir()
	layout := filepath.Join(dir, "app")
	writeTestFile(t, filepath.Join(dir, "tree", "file"), strings.Repeat("x", 100_000))
	out := ""
	for _, args := range [][]string{
		{"init", layout}, {"layer", layout, filepath.Join(dir, "tree")}, {"config", layout}, {"manifest", layout}, {"tag", layout + ":v1"},
	} {
		var status int
		var stderr string
		if status, out, stderr = runOcikit(t.Context(), strings.NewReader(out), args...); status != 0 {
			t.Fatalf("ocikit %q: status %d: %s", args, status, stderr)
		}
	}
	for _, state := range []string{"", filepath.Join(dir, "state")} {
		reg := regtest.New()
		ctx, cancel := context.WithCancelCause(t.Context())
		h := regtest.BreakIf(1, func(r *http.Request) bool { return r.Method == http.MethodPatch }, func(_ http.Handler, _ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			cancel(errInterrupted)
			<-r.Context().Done()
		}, reg)
		args := []string{"push", layout + ":v1", regtest.Serve(t, h) + "/app:v1", "--plain-http", "--mode", "stream", "-j", "1"}
		if state != "" {
			args = append(args, "--state", state)
		}
		status, _, stderr := runOcikit(ctx, nil, args...)
		if status != statusInterrupted {
			t.Errorf("status %d: %s", status, stderr)
		}
		files, _ := os.ReadDir(state)
		if kept := state != ""; (reg.Uploads() > 0) != kept || (len(files) > 0) != kept {
			t.Errorf("state %q: %d uploads are open, %d files are kept", state, reg.Uploads(), len(files))
		}
	}
}
