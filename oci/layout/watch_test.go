package layout

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
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
