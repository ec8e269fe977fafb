//go:build unix

package main

import (
	"bufio"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A hangingUp is "ocikit serve" as a process of its own, for SIGHUP.
type hangingUp struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string
}

// asProgram has the tests be the program, in a process of their own, without linking it once more.
const asProgram = "OCIKIT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// serveProcess runs "ocikit serve" until the test ends.
func serveProcess(t *testing.T, stdin string, args ...string) *hangingUp {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"serve", "--listen", "127.0.0.1:0", "--log", "none"}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // how it ends in order, and how soon, is no matter here
		cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &hangingUp{t, cmd, strings.TrimSpace(address)}
}

// status returns the status of a request by the user with a password.
func (h *hangingUp) status(path, password string) int {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "http://"+h.address+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	req.SetBasicAuth("user", password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (h *hangingUp) enters(password string) bool {
	h.t.Helper()
	return h.status("/v2/", password) == http.StatusOK
}

// reload sends SIGHUP and waits for what it is to bring.
func (h *hangingUp) reload(done func() bool) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		h.t.Fatal(err)
	}
	for !done() {
	}
}

// passwordLine returns the line of a password file for the user, of one round: a test asks until it is let in.
func passwordLine(t *testing.T, password string) string {
	t.Helper()
	hash, err := pbkdf2.Key(sha256.New, password, []byte("salt"), 1, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	adapted := base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./").WithPadding(base64.NoPadding)
	return fmt.Sprintf("user:$pbkdf2-sha256$1$%s$%s\n", adapted.EncodeToString([]byte("salt")), adapted.EncodeToString(hash))
}

// SIGHUP has serve read its files again, and nothing ends.
func TestServeReadsAgainAtHangup(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"passwords", reloadPasswords},
		{"standard input stays", reloadTokensAlone},
		{"upstreams without passwords", reloadUpstreams},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t) })
	}
}

// Who may come in changes.
func reloadPasswords(t *testing.T) {
	t.Chdir(t.TempDir())
	writeTestFile(t, "passwords", passwordLine(t, "first"))
	h := serveProcess(t, "", "layouts", "--htpasswd", "passwords")
	if !h.enters("first") {
		t.Fatal("the first password is refused")
	}

	writeTestFile(t, "passwords", passwordLine(t, "second"))
	h.reload(func() bool { return h.enters("second") })
	if h.enters("first") {
		t.Error("the first password is still taken")
	}
}

// Passwords from standard input stay when the tokens are read again. They were lost, since standard
// input was read again as well.
func reloadTokensAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	writeTestFile(t, "tokens", "token-number-one\n")
	h := serveProcess(t, passwordLine(t, "first"), "layouts", "--htpasswd", "-", "--token-file", "tokens")
	if !h.enters("first") {
		t.Fatal("the password is refused")
	}

	writeTestFile(t, "tokens", "token-number-two\n")
	h.reload(func() bool { return h.enters("token-number-two") })
	if !h.enters("first") {
		t.Error("the password is refused after a reload")
	}
}

// The credentials for upstreams are read again even if the passwords are not there.
func reloadUpstreams(t *testing.T) {
	t.Chdir(t.TempDir())
	writeTestFile(t, "tokens", "token-number-one\n")
	if status, _, errs := runOcikit(t.Context(), strings.NewReader(""), "init", "far/app"); status != 0 {
		t.Fatal(errs)
	}
	upstream := startServe(t, "far", "--token-file", "tokens")

	writeTestFile(t, "passwords", passwordLine(t, "first"))
	writeTestFile(t, "auth.json", "{}")
	h := serveProcess(t, "", "near", "--htpasswd", "passwords", "--upstream", "http://"+upstream, "--authfile", "auth.json")
	const tags = "/v2/app/tags/list"
	if got := h.status(tags, "first"); got == http.StatusOK {
		t.Fatal("the upstream lets everybody in")
	}

	credentials := base64.StdEncoding.EncodeToString([]byte("user:token-number-one"))
	writeTestFile(t, "auth.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, upstream, credentials))
	if err := os.Remove("passwords"); err != nil {
		t.Fatal(err)
	}
	h.reload(func() bool { return h.status(tags, "first") == http.StatusOK })
}
