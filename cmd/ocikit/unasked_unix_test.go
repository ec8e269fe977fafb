//go:build unix

package main

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"testing"

	"ocikit/oci/registry/serve/servetest"
)

// What a server sends behind an answer, which may be the password it got, is not printed by a
// package that does not know that it is one.
func TestUnaskedBytesAreNotPrinted(t *testing.T) {
	if testing.Short() {
		t.Skip("it links the program")
	}
	host := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\nplanted-secret")
	}))
	cmd := exec.Command(realBinary(t), "registry", "ping", host, "--plain-http", "--retry", "0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil || bytes.Count(stderr.Bytes(), []byte("\n")) != 1 || bytes.Contains(stderr.Bytes(), []byte("planted-secret")) {
		t.Errorf("%v: %s", err, &stderr)
	}
}
