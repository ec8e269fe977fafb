package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
)

// startServe runs "ocikit serve" in this process until the test ends, and returns its address.
func startServe(t *testing.T, args ...string) string {
	t.Helper()
	return startListener(t, "serve", args...)
}

// startListener runs a command that answers on an address in this process until the test ends.
func startListener(t *testing.T, command string, args ...string) string {
	t.Helper()
	l := newListener(t, func(string) string { return "" }, append([]string{command, "--listen", "127.0.0.1:0"}, args...))
	t.Cleanup(func() {
		if status, _, errs := l.end(); status != 0 {
			t.Errorf("%s ended with status %d\n%s", command, status, errs)
		}
	})
	return l.address
}

// A listener is a command that runs in this process and answers on an address.
type listener struct {
	address string
	end     func() (status int, stdout, stderr []byte) // interrupts it; what it printed behind the address
}

// newListener starts a command. It is interrupted when the test ends, at the latest.
func newListener(t *testing.T, getenv func(string) string, args []string) *listener {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	var out, errs lockedBuffer
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: w, Stderr: &errs, Getenv: getenv, Now: time.Now}
	done := make(chan int, 1)
	go func() {
		status := program().Run(ctx, env, args)
		w.CloseWithError(io.ErrUnexpectedEOF)
		done <- status
	}()
	stdout := bufio.NewReader(r)
	address, err := stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("%q did not start: %v\n%s", args, err, errs.Bytes())
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(&out, stdout) // what it says at its end
	}()
	end := sync.OnceValue(func() int {
		cancel(nil)
		<-read
		return <-done
	})
	t.Cleanup(func() { end() })
	return &listener{strings.TrimSpace(address), func() (int, []byte, []byte) { return end(), out.Bytes(), errs.Bytes() }}
}

// freeAddress returns an address of this machine that nobody listens on. Its port is none of those that
// systems give to whoever asks for any, since the next one who asks could be given it.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+mathrand.IntN(20_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// selfSigned writes a certificate for the loopback address, and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeTestFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return "cert.pem", "key.pem"
}

func TestServeWithTLSAndPasswords(t *testing.T) {
	t.Chdir(t.TempDir())
	must := func(want int, stdin string, args ...string) string {
		t.Helper()
		out, errs := wantRun(t, want, stdin, args...)
		if strings.Contains(errs, "s3cret") || strings.Contains(errs, "t0ken") {
			t.Fatalf("ocikit %q prints the secret: %s", args, errs)
		}
		return out
	}
	writeTestFile(t, "tree/a", "x")
	must(0, "", "init", "app")
	layer := must(0, "", "layer", "app", "tree")
	manifest := must(0, must(0, layer, "config", "app"), "manifest", "app")
	must(0, manifest, "tag", "app:v1")

	cert, key := selfSigned(t)
	writeTestFile(t, "passwords", "# who may come in\n"+must(0, "s3cret\n", "serve", "--make-password", "user"))
	writeTestFile(t, "tokens", "t0ken-of-a-script\n")
	reg := startServe(t, "layouts", "--tls-cert", cert, "--tls-key", key, "--htpasswd", "passwords", "--token-file", "tokens", "--log", "json")

	must(3, "", "registry", "ping", "--retry", "0", "--plain-http", "127.0.0.1:1")
	if status, _, errs := runOcikit(t.Context(), strings.NewReader(""), "registry", "tags", reg+"/app"); status == 0 {
		t.Fatalf("an unknown certificate was accepted: %s", errs)
	}
	must(5, "", "registry", "tags", reg+"/app", "--ca-file", cert)
	must(5, "", "push", "app:v1", reg+"/app:v1", "--ca-file", cert)
	must(5, "wrong\n", "push", "app:v1", reg+"/app:v1", "--ca-file", cert, "--username", "user", "--password-stdin")
	must(0, "s3cret\n", "push", "app:v1", reg+"/app:v1", "--ca-file", cert, "--username", "user", "--password-stdin")
	must(0, "t0ken-of-a-script\n", "registry", "tags", reg+"/app", "--ca-file", cert, "--username", "any", "--password-stdin")
	must(0, "", "verify", "layouts/app")
	if _, err := os.Stat("layouts/app/index.json"); err != nil {
		t.Error(err)
	}

	readOnly := startServe(t, "layouts", "--read-only", "--log", "none")
	if got := must(0, "", "registry", "tags", readOnly+"/app"); got != "v1\n" {
		t.Errorf("tags of the read-only registry: %q", got)
	}
	must(1, "", "registry", "delete", readOnly+"/app:v1")
}

// What login keeps is what every command uses, and what docker, podman, skopeo and crane read;
// what the registry refuses is not kept; logout forgets it. A store that the file names gets it
// instead of the file.
func TestLogin(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the store is a shell script")
	}
	t.Chdir(t.TempDir())
	dir, _ := os.Getwd()
	writeTestFile(t, "home/.docker/config.json", `{"psFormat":"x","auths":{"other.test":{"auth":"YTpi"}}}`)
	writeTestFile(t, "bin/docker-credential-test", "#!/bin/sh\necho \"$1\" >>"+dir+"/calls\n"+`case $1 in
store) cat >`+dir+`/kept;;
get) cat >/dev/null; if [ -e `+dir+`/kept ]; then cat `+dir+`/kept; else echo "credentials not found in native keychain"; exit 1; fi;;
erase) cat >/dev/null; rm -f `+dir+`/kept;;
esac
`)
	if err := os.Chmod("bin/docker-credential-test", 0o700); err != nil {
		t.Fatal(err)
	}
	ocikit := func(want int, stdin string, args ...string) (out, errs string) {
		t.Helper()
		var o, e lockedBuffer
		env := &cli.Env{Stdin: strings.NewReader(stdin), Stdout: &o, Stderr: &e, Now: time.Now, Getenv: func(name string) string {
			return map[string]string{"HOME": dir + "/home", "PATH": dir + "/bin:/usr/bin:/bin"}[name]
		}}
		if status := program().Run(t.Context(), env, args); status != want {
			t.Fatalf("ocikit %q: status %d, want %d\n%s%s", args, status, want, o.Bytes(), e.Bytes())
		}
		if strings.Contains(string(e.Bytes()), "s3cret") {
			t.Fatalf("ocikit %q prints the secret: %s", args, e.Bytes())
		}
		return string(o.Bytes()), string(e.Bytes())
	}
	config := func() string {
		t.Helper()
		data, err := os.ReadFile("home/.docker/config.json")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	password, _ := ocikit(0, "s3cret\n", "serve", "--make-password", "user")
	writeTestFile(t, "passwords", password)
	reg := startServe(t, "layouts", "--htpasswd", "passwords", "--log", "none")

	ocikit(5, "", "registry", "ping", reg)
	ocikit(2, "", "login", reg)
	ocikit(5, "wrong\n", "login", reg, "--username", "user", "--password-stdin")
	if strings.Contains(config(), reg) {
		t.Errorf("a refused password was kept: %s", config())
	}
	if _, errs := ocikit(0, "s3cret\n", "login", reg, "--username", "user", "--password-stdin"); !strings.Contains(errs, "as it is") {
		t.Errorf("no warning: %q", errs)
	}
	ocikit(0, "", "registry", "ping", reg)
	if got := config(); !strings.Contains(got, "psFormat") || !strings.Contains(got, "other.test") {
		t.Errorf("login lost what else was in the file: %s", got)
	}
	if info, err := os.Stat("home/.docker/config.json"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	ocikit(0, "", "logout", reg)
	ocikit(5, "", "registry", "ping", reg)
	if got := config(); strings.Contains(got, reg) || !strings.Contains(got, "other.test") {
		t.Errorf("after logout: %s", got)
	}
	if _, errs := ocikit(0, "", "logout", reg); !strings.Contains(errs, "no credentials") {
		t.Errorf("a second logout says %q", errs)
	}

	writeTestFile(t, "home/.docker/config.json", `{"credsStore":"test"}`)
	ocikit(0, "s3cret\n", "login", reg, "--username", "user", "--password-stdin")
	if got := config(); strings.Contains(got, "czNjcmV0") || !strings.Contains(got, "credsStore") {
		t.Errorf("with a store the file holds %s", got)
	}
	os.Remove("calls")
	ocikit(0, "", "registry", "ping", reg)
	if calls, _ := os.ReadFile("calls"); string(calls) != "get\n" {
		t.Errorf("calls of the store: %q", calls)
	}
	ocikit(0, "", "logout", reg)
	ocikit(5, "", "registry", "ping", reg)

	// A file of one's own.
	ocikit(0, "s3cret\n", "login", reg, "--username", "user", "--password-stdin", "--authfile", "own.json")
	ocikit(0, "", "registry", "ping", reg, "--authfile", "own.json")
}

// A registry with passwords, a copy of it that has one and lets everybody in, and who has a name.
func TestServeUpstream(t *testing.T) {
	t.Chdir(t.TempDir())
	ocikit := func(want int, stdin string, args ...string) string {
		t.Helper()
		out, _ := wantRun(t, want, stdin, args...)
		return out
	}
	writeTestFile(t, "tree/a", "x")
	ocikit(0, "", "init", "app")
	manifest := ocikit(0, ocikit(0, ocikit(0, "", "layer", "app", "tree"), "config", "app"), "manifest", "app")
	ocikit(0, manifest, "tag", "app:v1")
	writeTestFile(t, "passwords", ocikit(0, "s3cret\n", "serve", "--make-password", "user"))
	upstream := startServe(t, "registry", "--htpasswd", "passwords")
	ocikit(0, "s3cret\n", "login", upstream, "--authfile", "auth.json", "--username", "user", "--password-stdin")
	ocikit(0, "", "push", "app:v1", upstream+"/team/app:v1", "--authfile", "auth.json")

	one := startServe(t, "one", "--upstream", upstream, "--authfile", "auth.json")
	many := startServe(t, "many", "--upstream", "team.test="+upstream, "--upstream", "*", "--authfile", "auth.json")
	for i, ref := range []string{one + "/team/app:v1", many + "/team.test/team/app:v1", many + "/" + strings.ReplaceAll(upstream, ":", "_") + "/team/app:v1"} {
		got := fmt.Sprint("got", i)
		ocikit(0, "", "pull", ref, got)
		ocikit(0, "", "verify", got)
	}
	for _, dir := range []string{"one/team/app:v1", "many/team.test/team/app:v1"} {
		ocikit(0, "", "verify", dir)
		if got := ocikit(0, "", "resolve", dir); got != manifest {
			t.Errorf("resolve %s = %s, want %s", dir, got, manifest)
		}
	}
	ocikit(5, "", "push", "app:v1", one+"/team/app:v2")

	// Without credentials there is nothing to be had, and who asks is not told that credentials of
	// theirs would help.
	bare := startServe(t, "bare", "--upstream", upstream)
	ocikit(5, "", "resolve", "docker://"+bare+"/team/app:v1")
	offline := startServe(t, "one", "--upstream", upstream, "--offline")
	ocikit(0, "", "resolve", "docker://"+offline+"/team/app:v1")
	ocikit(4, "", "resolve", "docker://"+offline+"/team/app:v2")
}
