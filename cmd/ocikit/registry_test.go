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

// A token server on another host gets the credentials if --trust-realm says so, and only then.
func TestTrustRealm(t *testing.T) {
	auth := &regtest.Auth{Bearer: true, User: "me", Password: "planted-secret"}
	_, port, _ := strings.Cut(regtest.Serve(t, http.HandlerFunc(auth.Token)), ":")
	auth.Realm = "http://localhost:" + port + "/token"
	reg := regtest.New()
	reg.Auth = auth
	host := regtest.Serve(t, reg)
	for _, tt := range []struct {
		flags  []string
		status int
		stderr string
	}{
		{nil, statusNotAllowed, "--trust-realm"},
		{[]string{"--trust-realm", "elsewhere"}, statusNotAllowed, "--trust-realm"},
		{[]string{"--trust-realm", "localhost"}, 0, ""},
	} {
		args := append([]string{"registry", "tags", host + "/app", "--plain-http", "--username", "me", "--password-stdin"}, tt.flags...)
		status, _, stderr := runOcikit(t.Context(), strings.NewReader("planted-secret\n"), args...)
		if tt.status == 0 && status == statusNotThere {
			status = 0 // it was let in; there is no such repository
		}
		if status != tt.status || !strings.Contains(stderr, tt.stderr) || strings.Contains(stderr, "planted-secret") {
			t.Errorf("%q: status %d, want %d: %s", tt.flags, status, tt.status, stderr)
		}
	}
}

// With --strict-location an upload is not sent to where another host's Location leads.
func TestStrictLocation(t *testing.T) {
	reg := regtest.New()
	elsewhere := regtest.Serve(t, reg)
	host := regtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.ServeHTTP(&movedAnswer{ResponseWriter: w, host: elsewhere}, r)
	}))
	file := filepath.Join(t.TempDir(), "blob")
	writeTestFile(t, file, "bytes")
	for _, tt := range []struct {
		flag   string
		status int
	}{{"--strict-location=false", 0}, {"--strict-location", 1}} {
		status, _, stderr := runOcikit(t.Context(), nil, "upload", "blob", host+"/app", file, "--plain-http", tt.flag)
		if status != tt.status || status != 0 && !strings.Contains(stderr, elsewhere) {
			t.Errorf("%s: status %d, want %d: %s", tt.flag, status, tt.status, stderr)
		}
	}
}

// A movedAnswer gives relative Locations another host.
type movedAnswer struct {
	http.ResponseWriter
	host string
}

func (m *movedAnswer) WriteHeader(status int) {
	if loc := m.Header().Get("Location"); strings.HasPrefix(loc, "/") {
		m.Header().Set("Location", "http://"+m.host+loc)
	}
	m.ResponseWriter.WriteHeader(status)
}

// A refusal is explained, too: which credentials were offered, and what was said to them.
func TestExplainRefusal(t *testing.T) {
	reg := regtest.New()
	reg.Auth = &regtest.Auth{Bearer: true, User: "me", Password: "planted-secret"}
	args := []string{"registry", "token", regtest.Serve(t, reg) + "/app", "--plain-http", "--username", "me", "--password-stdin", "--explain"}
	status, stdout, stderr := runOcikit(t.Context(), strings.NewReader("planted-wrong\n"), args...)
	if status != statusNotAllowed || !strings.Contains(stdout, `"source":"options"`) || !strings.Contains(stderr, "401") || strings.Contains(stdout+stderr, "planted-wrong") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
}

// A name that means an image in a layout as well goes to Docker Hub, and the error says so.
func TestHintAtDockerHub(t *testing.T) {
	t.Chdir(t.TempDir())
	if status, _, errs := runOcikit(t.Context(), nil, "init", "app"); status != 0 {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is sent
	for name, want := range map[string]bool{"app:latest": true, "other:latest": false} {
		status, _, errs := runOcikit(ctx, nil, "registry", "head", name)
		if status == 0 || strings.Contains(errs, "taken for a name on Docker Hub") != want {
			t.Errorf("registry head %s: status %d, stderr %q", name, status, errs)
		}
	}
}
