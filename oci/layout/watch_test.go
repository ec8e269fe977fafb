package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
)

// A watcher collects what a layout tells, as "kind digest offset", the digest being the first
// letters of the blob.
type watcher struct {
	mu    sync.Mutex
	names map[digest.Digest]string
	got   []string
}

func (w *watcher) event(e progress.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, fmt.Sprintf("%s %s %d", e.Kind, w.names[e.Digest], e.Offset))
}

func TestWatch(t *testing.T) {
	l, err := Init(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	large := bytes.Repeat([]byte("large"), 20<<10)
	w := &watcher{names: map[digest.Digest]string{}}
	put := func(name string, data []byte) oci.Descriptor {
		d, size, err := l.Put(bytes.NewReader(data), digest.Digest{})
		if err != nil {
			t.Fatal(err)
		}
		w.names[d] = name
		return oci.Descriptor{Digest: d, Size: size}
	}
	a, b := put("large", large), put("doc", []byte("{}"))
	l.Watch(w.event)
	read := func(desc oci.Descriptor, n int64) {
		r, err := l.Blob(desc)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(r, n), make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		do   func()
		want []string
	}{
		{"a blob", func() { read(a, 1<<20) }, []string{"start large 0", "bytes large 65536", "bytes large 102400", "done large 102400"}},
		{"a part of a blob", func() { read(a, 70_000) }, []string{"start large 0", "bytes large 65536", "stop large 70000"}},
		{"a document", func() {
			if _, err := l.Document(b); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"verify", func() {
			if findings, _, err := l.Verify(t.Context(), VerifyOptions{Workers: 1}); err != nil || len(findings) > 0 {
				t.Fatal(findings, err)
			}
		}, []string{"plan  0", "start large 0", "bytes large 102400", "done large 102400", "start doc 0", "bytes doc 2", "done doc 2"}},
	} {
		w.got = nil
		tt.do()
		if !slices.Equal(w.got, tt.want) {
			t.Errorf("%s: told %q, want %q", tt.name, w.got, tt.want)
		}
	}
}

// A walk over many roots is one task, however often one of them is listed.
func TestWatchWalk(t *testing.T) {
	l := newLayout(t)
	one, two := addImage(t, l, "one"), addImage(t, l, "two")
	size := int64(0)
	roots := slices.Repeat([]oci.Descriptor{one, two}, watchedMin)
	for _, d := range roots {
		size += d.Size
	}
	ended := errors.New("ended")
	for _, tt := range []struct {
		name string
		err  error // of each visit
		want []string
	}{
		{"to its end", nil, []string{"plan", "start", "done"}},
		{"cut short", ended, []string{"plan", "start", "stop"}},
	} {
		var got []string
		l.Watch(func(e progress.Event) {
			got = append(got, string(e.Kind))
			if e.Size != size || e.Kind != progress.Plan && e.Name != "manifests" {
				t.Errorf("%s: %+v, want %d bytes of manifests", tt.name, e, size)
			}
		})
		err := l.Scan(t.Context(), roots, func(graph.Node) error { return tt.err })
		if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
			t.Errorf("%s: told %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// A walk ends with its context.
func TestScanEnds(t *testing.T) {
	l := newLayout(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.Scan(ctx, []oci.Descriptor{addImage(t, l, "x")}, func(graph.Node) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Scan = %v", err)
	}
	if _, err := l.GC(ctx, GCOptions{}, func(Garbage) error { return nil }); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnsafe) {
		t.Errorf("GC = %v", err)
	}
}

// A manifest that an image has for a layer is inspected as one, though the walk has verified it.
func TestVerifyInspectsDocuments(t *testing.T) {
	l := newLayout(t)
	one := addImage(t, l, "one")
	layer := one
	layer.MediaType = oci.MediaTypeLayer
	config, err := l.PutDocument(oci.MediaTypeConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[],"type":"layers"}}`))
	if err != nil {
		t.Fatal(err)
	}
	two := putDocument(t, l, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: config, Layers: []oci.Descriptor{layer}})
	for _, roots := range [][]oci.Descriptor{{one, two}, {two, one}} {
		seen := 0
		opts := VerifyOptions{Roots: roots, Workers: 1, Inspect: func(d digest.Digest, r io.Reader) {
			if d == one.Digest {
				seen++
			}
		}}
		if findings, sum, err := l.Verify(t.Context(), opts); err != nil || len(findings) > 0 || seen != 1 || sum.Blobs != 5 {
			t.Errorf("inspected %d times, %+v, %+v, %v", seen, sum, findings, err)
		}
	}
}
