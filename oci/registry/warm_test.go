package registry_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
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
	c := servetest.Client(t, strings.TrimPrefix(server.URL, "http://"), registry.Options{PlainHTTP: true})
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

// A connection that was made early and not needed is none any more after a while: servers
// close those on which nothing is asked.
func TestWarmIsNotKept(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusNotFound)
	}))
	made := make(chan net.Conn, 10)
	var asked sync.Map
	server.Config.ConnState = func(conn net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			made <- conn
		case http.StateActive:
			asked.Store(conn, true)
		}
	}
	server.Start()
	defer server.Close()
	ref, err := registry.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/r:v1")
	if err != nil {
		t.Fatal(err)
	}
	var minutes atomic.Int64
	now := func() time.Time { return time.Unix(60*minutes.Load(), 0) }
	c, err := registry.New(ref, registry.Options{PlainHTTP: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head := func() {
		t.Helper()
		if _, err := c.HeadBlob(t.Context(), "r", digest.FromBytes(nil)); !errors.Is(err, registry.ErrNotFound) {
			t.Error(err)
		}
	}
	c.Warm(2)
	head()
	for range 3 {
		if conn := <-made; !loaded(&asked, conn) {
			conn.Close()
		}
	}
	minutes.Add(1)
	head()
	c.Warm(2) // but the next connection is made much later
	minutes.Add(1)
	head()
	c.Close()
	if n := len(made); n != 2 {
		t.Errorf("%d more connections were made, want 2", n)
	}
}

func loaded(m *sync.Map, key any) bool {
	_, ok := m.Load(key)
	return ok
}

// Connections that are wanted before the first request are made at once, and only once; those that
// are wanted along with a request come on top.
func TestConnect(t *testing.T) {
	made := make(chan bool, 20)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made <- true
		}
	}
	server.Start()
	defer server.Close()
	c := servetest.Client(t, strings.TrimPrefix(server.URL, "http://"), registry.Options{PlainHTTP: true})
	defer c.Close()

	c.Connect(t.Context(), 2)
	for range 2 {
		<-made
	}
	c.Connect(t.Context(), 2)
	c.Warm(3)
	for range 2 {
		if _, err := c.HeadBlob(t.Context(), "r", digest.FromBytes(nil)); !errors.Is(err, registry.ErrNotFound) {
			t.Error(err)
		}
	}

	// One of the two is used, so two more are made for the three that follow.
	for range 2 {
		<-made
	}
	if len(made) != 0 {
		t.Errorf("%d connections more than wanted", len(made))
	}
}
