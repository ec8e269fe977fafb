package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// startServe runs "ocikit serve" in this process until the test ends, and returns its address.
func startServe(t *testing.T, args ...string) string {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	var errs lockedBuffer
	env := &Env{Stdin: strings.NewReader(""), Stdout: w, Stderr: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
	done := make(chan int)
	go func() {
		status := run(ctx, env, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...))
		w.CloseWithError(io.ErrUnexpectedEOF)
		done <- status
	}()
	address, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("serve did not start: %v\n%s", err, errs.Bytes())
	}
	t.Cleanup(func() {
		cancel(nil)
		if status := <-done; status != 0 {
			t.Errorf("serve ended with status %d\n%s", status, errs.Bytes())
		}
	})
	return strings.TrimSpace(address)
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
		status, out, errs := runOcikit(t.Context(), strings.NewReader(stdin), args...)
		if status != want {
			t.Fatalf("ocikit %q: status %d, want %d\n%s%s", args, status, want, out, errs)
		}
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
