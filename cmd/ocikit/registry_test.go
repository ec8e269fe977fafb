package main

import (
	"net/http"
	"os"
	"testing"

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
