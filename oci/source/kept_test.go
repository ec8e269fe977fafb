package source

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
)

// An elsewhere hands out one layer, and counts how often.
type elsewhere struct {
	Source
	data []byte
	n    int
}

func (e *elsewhere) Blob(desc oci.Descriptor) (io.ReadCloser, error) {
	e.n++
	return io.NopCloser(digest.NewReader(bytes.NewReader(e.data), desc.Digest, desc.Size)), nil
}
func (e *elsewhere) Close() error { return nil }

// A layer is asked for once, if it was right and read to its end; nothing is left behind.
func TestKeep(t *testing.T) {
	data := []byte("bytes of a layer")
	layer := oci.Describe(oci.MediaTypeLayer, data)
	bad := layer
	bad.Digest = digest.FromBytes([]byte("other"))
	for _, tt := range []struct {
		name    string
		desc    oci.Descriptor
		half    bool
		dir     string
		fetched int
		err     error
	}{
		{"whole", layer, false, t.TempDir(), 1, nil},
		{"half", layer, true, t.TempDir(), 3, nil},
		{"damaged", bad, false, t.TempDir(), 3, digest.ErrMismatch},
		{"no directory", layer, false, "/nowhere", 3, nil},
		{"no layer", oci.Describe(oci.MediaTypeConfig, data), false, t.TempDir(), 3, nil},
	} {
		far := &elsewhere{data: data}
		k := Keep(far, tt.dir)
		for range 3 {
			r, err := k.Blob(tt.desc)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			if tt.half {
				got, err = make([]byte, 5), nil
				_, err = io.ReadFull(r, got)
			} else if got, err = io.ReadAll(r); err == nil && !bytes.Equal(got, data) {
				t.Errorf("%s: got %q", tt.name, got)
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: %v", tt.name, err)
			}
			r.Close()
		}
		if far.n != tt.fetched {
			t.Errorf("%s: asked for %d times, want %d", tt.name, far.n, tt.fetched)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		if files, _ := os.ReadDir(tt.dir); len(files) > 0 {
			t.Errorf("%s: %d files are left", tt.name, len(files))
		}
	}
}

// A disk that gets full keeps nothing, and costs nobody the layer: it goes on as it comes.
func TestKeepOnAFullDisk(t *testing.T) {
	data := bytes.Repeat([]byte("bytes of a layer"), 100)
	layer := oci.Describe(oci.MediaTypeLayer, data)
	far := &elsewhere{data: data}
	k := Keep(far, t.TempDir())
	for range 2 {
		r, err := k.Blob(layer)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 10)
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatal(err)
		}
		r.(*keeping).f.Close() // the next write fails
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(append(got, rest...), data) {
			t.Errorf("read %d bytes, %v", len(got)+len(rest), err)
		}
		if n, err := r.Read(got); n != 0 || err != io.EOF {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		r.Close()
	}
	if far.n != 2 {
		t.Errorf("asked for %d times, want twice", far.n)
	}
}

// A blob that was given up leaves no open file.
func TestKeepClosesWhatIsGivenUp(t *testing.T) {
	data := []byte("bytes of a layer")
	k := Keep(&elsewhere{data: data}, t.TempDir())
	r, err := k.Blob(oci.Describe(oci.MediaTypeLayer, data))
	if err != nil {
		t.Fatal(err)
	}
	f := r.(*keeping).f
	r.Close()
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file was open: %v", err)
	}
}

type brokenEnd struct{ Source }

func (brokenEnd) Close() error { return io.ErrClosedPipe }

func TestKeepCloses(t *testing.T) {
	if err := Keep(brokenEnd{}, t.TempDir()).Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Close = %v, want the error of the source below", err)
	}
}
