// Package servetest is for tests that need a registry: package serve over a directory of its own. A
// [Registry] records the requests, and a test can also put blobs and manifests there without one.
// [BreakAt] puts a [Fault] in front of its k-th request.
package servetest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve"
)

// A Registry is an http.Handler that ends with its test.
type Registry struct {
	*serve.Server
	t   testing.TB
	dir string

	mu  sync.Mutex
	log []Request
}

// A Request is what a test may want to know about one that came.
type Request struct {
	Method, Path string
	Header       http.Header
}

// New returns an empty registry.
func New(t testing.TB, o serve.Options) *Registry {
	t.Helper()
	g := &Registry{t: t, dir: t.TempDir()}
	var err error
	if g.Server, err = serve.New(g.dir, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Server.Close() })
	return g
}

// ServeHTTP implements http.Handler.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.log = append(g.log, Request{r.Method, r.URL.Path, r.Header.Clone()})
	g.mu.Unlock()
	g.Server.ServeHTTP(w, r)
}

// Serve starts a server for h that ends with the test, and returns its host and port.
func Serve(t interface{ Cleanup(func()) }, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// Client returns a client of the registry at host, which ends with the test.
func Client(t testing.TB, host string, o registry.Options) *registry.Client {
	t.Helper()
	ref, err := registry.ParseHost(host)
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.New(ref, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// layout opens the layout of a repository, which is made if need be.
func (g *Registry) layout(repo string) *layout.Layout {
	g.t.Helper()
	l, err := layout.Init(filepath.Join(g.dir, repo))
	if err != nil {
		g.t.Fatal(err)
	}
	return l
}

// PutBlob stores a blob without a request.
func (g *Registry) PutBlob(repo string, data []byte) digest.Digest {
	g.t.Helper()
	l := g.layout(repo)
	defer l.Close()
	d, _, err := l.Put(bytes.NewReader(data), digest.Digest{})
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}

// PutManifest stores a manifest, whatever it names, under its digest and a tag if that is not empty.
func (g *Registry) PutManifest(repo, tag, mediaType string, data []byte) digest.Digest {
	g.t.Helper()
	d := g.PutBlob(repo, data)
	l := g.layout(repo)
	defer l.Close()
	err := l.Update(context.Background(), func(x *oci.Index) error {
		entry := oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
		x.Manifests = slices.DeleteFunc(x.Manifests, func(e oci.Descriptor) bool {
			return e.Annotations.Get(oci.AnnotationRefName) == tag && (tag != "" || e.Digest == d)
		})
		if tag != "" {
			entry = entry.WithAnnotation(oci.AnnotationRefName, tag)
		}
		x.Manifests = append(x.Manifests, entry)
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}

	return d
}

// Tag returns what a tag names, the zero Digest for nothing.
func (g *Registry) Tag(repo, tag string) digest.Digest {
	g.t.Helper()
	if _, err := os.Stat(filepath.Join(g.dir, repo, "index.json")); errors.Is(err, fs.ErrNotExist) {
		return digest.Digest{}
	}

	l := g.layout(repo)
	defer l.Close()
	x, err := l.Index()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, e := range x.Manifests {
		if e.Annotations.Get(oci.AnnotationRefName) == tag {
			return e.Digest
		}
	}
	return digest.Digest{}
}

// Uploads returns the number of sessions that are open.
func (g *Registry) Uploads() int {
	g.t.Helper()
	open, err := filepath.Glob(filepath.Join(g.dir, "*", layout.UploadPrefix+"*"))
	if err != nil {
		g.t.Fatal(err)
	}
	return len(open)
}

// Requests returns the requests that came so far.
func (g *Registry) Requests() []Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.log)
}
