package registry_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ocikit/digest"
	"ocikit/oci/registry"
)

// A caller that said how many requests follow the first one finds their connections made, no
// more are made than that, and those that nobody took are closed with the client.
func TestWarm(t *testing.T) {
	var made, open atomic.Int32
	all := make(chan struct{}) // is closed when five connections are there
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-all // the first request, too, waits for the others' connections
		w.WriteHeader(http.StatusNotFound)
	}))
	closed := make(chan struct{}, 5)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
			if made.Add(1) == 5 {
				close(all)
			}
		case http.StateClosed:
			open.Add(-1)
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	ref, err := registry.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/r:v1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.New(ref, registry.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	c.Warm(4)
	head := func(ctx context.Context) {
		if _, err := c.HeadBlob(ctx, "r", digest.FromBytes(nil)); err == nil {
			t.Error("a blob that is not there was found")
		}
	}
	head(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { head(t.Context()) })
	}
	wg.Wait()
	if made.Load() != 5 {
		t.Errorf("%d connections were made, want 5", made.Load())
	}
	c.Close()
	for range 5 {
		<-closed
	}
	if open.Load() != 0 {
		t.Errorf("%d connections are open, want none", open.Load())
	}
}
