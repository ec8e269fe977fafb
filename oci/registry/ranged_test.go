package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocikit/oci"
	"ocikit/oci/layout/layouttest"
	"ocikit/oci/registry"
	"ocikit/oci/registry/pull"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/oci/registry/wire"
)

// A slowServer gives each answer with a large blob so many bytes in a millisecond.
type slowServer struct {
	http.Handler
	perMilli int
	ranges   atomic.Int64
	wholes   atomic.Int64                                                 // requests for all of it
	spoil    func(http.ResponseWriter, *http.Request) http.ResponseWriter // of a request for a range; nil spoils nothing
}

func (s *slowServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		if r.Header.Get("Range") != "" {
			s.ranges.Add(1)
			if s.spoil != nil {
				w = s.spoil(w, r)
			}
		} else {
			s.wholes.Add(1)
		}
		w = &slowWriter{w, s.perMilli}
	}
	s.Handler.ServeHTTP(w, r)
}

type slowWriter struct {
	http.ResponseWriter
	perMilli int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		k := min(len(p)-n, 20*w.perMilli)
		if _, err := w.ResponseWriter.Write(p[n : n+k]); err != nil {
			return n, err
		}
		n += k
		time.Sleep(time.Duration(k/w.perMilli) * time.Millisecond)
	}
	return len(p), nil
}

func largeBlob(size int) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// readLarge reads a blob as pulls do, in large pieces.
func readLarge(t *testing.T, r *rig, blob oci.Descriptor) []byte {
	t.Helper()
	body, err := r.OpenBlob(t.Context(), "app", blob)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got := make([]byte, blob.Size)
	if _, err := io.ReadFull(body, got); err != nil {
		t.Fatal(err)
	}
	if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	return got
}

// A registry that limits each connection is asked for ranges, over several.
func TestRangedBlob(t *testing.T) {
	data := largeBlob(26 << 20)
	reg := servetest.New(t, serve.Options{})
	_, blob := image(reg, "app", "v1", data)
	slow := &slowServer{Handler: reg, perMilli: 12 << 10}
	r := newRig(t, servetest.Serve(t, slow))
	// Whether it is the network that takes long is measured, so a busy machine gets more tries.
	for tries := 1; slow.ranges.Load() < 3; tries++ {
		slow.ranges.Store(0)
		slow.wholes.Store(0)
		if got := readLarge(t, r, blob); !bytes.Equal(got, data) {
			t.Fatalf("%d bytes", len(got))
		}
		if tries == 5 {
			t.Fatal("never in ranges")
		}
	}
	if slow.wholes.Load() != 1 {
		t.Errorf("%d ranges and %d requests for all", slow.ranges.Load(), slow.wholes.Load())
	}
	// Whoever stops in the middle leaves nothing behind.
	body, err := r.OpenBlob(t.Context(), "app", blob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, body, 15<<20); err != nil {
		t.Error(err)
	}
	body.Close()
	if got := readLarge(t, r, blob); !bytes.Equal(got, data) {
		t.Errorf("after a read that was given up: %d bytes", len(got))
	}
}

// Blobs that are read side by side to go elsewhere come over one connection each, however slow that is:
// what takes long there is where they go, and ranges would only fill memory.
func TestBlobsSideBySideAreNotRanged(t *testing.T) {
	data := largeBlob(20 << 20)
	reg := servetest.New(t, serve.Options{})
	_, blob := image(reg, "app", "v1", data)
	slow := &slowServer{Handler: reg, perMilli: 24 << 10}

	// A machine that stands still for a while must not look like a connection that does: a blob that was
	// cut off is gone on with by a range.
	r := newRig(t, servetest.Serve(t, slow), func(o *registry.Options) { o.Timeout = time.Hour })
	repo := registry.NewRepository(t.Context(), r.Client, registry.Reference{Host: "r.test", Repo: "app"}, nil)

	var readers []io.Reader
	for range 2 {
		b, err := repo.BlobAt(blob)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		readers = append(readers, io.NewSectionReader(b, 0, blob.Size))
	}

	// Both are under way before the first one is read further.
	for _, n := range []int64{1000, blob.Size - 1000} {
		for _, b := range readers {
			if _, err := io.CopyN(io.Discard, b, n); err != nil {
				t.Fatal(err)
			}
		}
	}

	if ranges, wholes := slow.ranges.Load(), slow.wholes.Load(); ranges != 0 || wholes != 2 {
		t.Errorf("%d ranges and %d requests for all, want 0 and 2", ranges, wholes)
	}
}

// A fast registry gets one request for a blob.
func TestFastBlobIsOneRequest(t *testing.T) {
	data := largeBlob(20 << 20)
	reg := servetest.New(t, serve.Options{})
	_, blob := image(reg, "app", "v1", data)
	fast := &slowServer{Handler: reg, perMilli: 1 << 30}
	r := newRig(t, servetest.Serve(t, fast), func(o *registry.Options) {
		clock := sync.OnceValue(time.Now)
		o.Now = func() time.Time { return clock() } // no time passes
	})
	if got := readLarge(t, r, blob); !bytes.Equal(got, data) || fast.ranges.Load() != 0 {
		t.Errorf("%d bytes, %d ranges", len(got), fast.ranges.Load())
	}
}

type headerWriter struct {
	http.ResponseWriter
	change func(http.Header)
}

func (w *headerWriter) WriteHeader(status int) {
	w.change(w.Header())
	w.ResponseWriter.WriteHeader(status)
}

type flipWriter struct{ http.ResponseWriter }

func (w *flipWriter) Write(p []byte) (int, error) {
	q := bytes.Clone(p)
	for i := range q {
		q[i] ^= 1
	}
	return w.ResponseWriter.Write(q)
}

// Answers to ranges that are wrong: the blob comes all the same.
func TestWrongRanges(t *testing.T) {
	t.Parallel()
	data := largeBlob(26 << 20)
	for name, spoil := range map[string]func(http.ResponseWriter, *http.Request) http.ResponseWriter{
		"ignored": func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
			r.Header.Del("Range")
			return w
		},
		"shifted": func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
			return &headerWriter{w, func(h http.Header) { h.Set("Content-Range", "bytes 1-2/3") }}
		},
		"refused": func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
			r.Header.Set("Range", "bytes=99999999999-")
			return w
		},
		"other bytes": func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter { return &flipWriter{w} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := servetest.New(t, serve.Options{})
			image(reg, "app", "v1", data)
			slow := &slowServer{Handler: reg, perMilli: 12 << 10, spoil: spoil}
			host := servetest.Serve(t, slow)
			r := newRig(t, host)
			ref, _ := registry.ParseReference(host + "/app:v1")
			im, err := pull.Find(t.Context(), r.Client, ref, pull.Options{})
			if err != nil {
				t.Fatal(err)
			}
			l := layouttest.New(t)
			if _, err := im.Pull(t.Context(), l, im.Desc); err != nil {
				t.Errorf("%d ranges, %v", slow.ranges.Load(), err)
			}
			blob, err := l.Blob(oci.Describe(oci.MediaTypeLayerGzip, data))
			if err != nil {
				t.Fatal(err)
			}
			defer blob.Close()
			if _, err := io.Copy(io.Discard, blob); err != nil {
				t.Error(err)
			}
		})
	}
}

// A blob of which a byte comes now and then is given up after a while, and so is a document.
func TestDrips(t *testing.T) {
	t.Parallel()
	const size = 1 << 20 // of which a reader that gets no time finds many bytes at once, and never all
	reg := servetest.New(t, serve.Options{})
	_, blob := image(reg, "app", "v1", make([]byte, size))
	drip := func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte{0}); err != nil {
				return
			}
			http.NewResponseController(w).Flush()
			time.Sleep(time.Millisecond)
		}
	}
	var clock atomic.Int64 // each look at it is some seconds later
	r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, drip, reg)), func(o *registry.Options) {
		o.Now = func() time.Time { return time.Unix(clock.Add(7), 0) }
	})
	if data, err := readBlob(t, r, "app", blob); !errors.Is(err, wire.ErrDrips) || len(data) == size {
		t.Errorf("blob: %d bytes, %v", len(data), err)
	}
	slow := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, drip, reg)), func(o *registry.Options) { o.Timeout, o.Retry = 300*time.Millisecond, 0 })
	if _, _, err := slow.GetManifest(t.Context(), "app", "v1"); !errors.Is(err, registry.ErrStalled) {
		t.Errorf("document: %v", err)
	}
}
