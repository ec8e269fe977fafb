package pushcmd

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
)

// An upload that goes on at an offset hashes the bytes before it, which another process sent, so the
// digest of the whole is checked before the last byte leaves.
func TestFeedHashesWhatWasSentBefore(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 1000)
	f := newFeed(bytes.NewReader(data), oci.Describe("", data))
	if err := f.section(4000, 10_000); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data[4000:]) || f.h.Digest() != digest.FromBytes(data) {
		t.Errorf("read %d bytes, hashed %s, %v", len(got), f.h.Digest(), err)
	}

	// What is sent again is not hashed again.
	if err := f.section(2000, 10_000); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data[2000:]) {
		t.Errorf("again: read %d bytes, %v", len(got), err)
	}

	for what, spoiled := range map[string][]byte{
		"a byte before the offset": append([]byte("x"), data[1:]...),
		"a byte behind it":         append(bytes.Clone(data[:9999]), 'x'),
	} {
		f := newFeed(bytes.NewReader(spoiled), oci.Describe("", data))
		if err := f.section(4000, 10_000); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); !errors.Is(err, digest.ErrMismatch) || len(got) == 6000 {
			t.Errorf("%s is wrong: %d bytes left, %v", what, len(got), err)
		}
	}

	short := newFeed(bytes.NewReader(data[:3000]), oci.Describe("", data))
	if err := short.section(4000, 10_000); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("a blob that ends before the offset: %v, want %v", err, digest.ErrMismatch)
	}
}

// Where a registry takes no way of uploading, each other way is tried once.
func TestNextMode(t *testing.T) {
	for _, c := range []struct {
		first Mode
		size  int64
		want  []Mode
	}{
		{ModeStream, 10, []Mode{ModePut, ModeChunk}},
		{ModePut, 10, []Mode{ModeStream, ModeChunk}},
		{ModeChunk, 10, []Mode{ModePut, ModeStream}},
		{ModePut, 0, []Mode{ModeChunk}}, // a stream of nothing is not a request
	} {
		task := &task{desc: oci.Descriptor{Size: c.size}}
		task.way.mode, task.way.tried = c.first, map[Mode]bool{c.first: true}
		for _, want := range c.want {
			if !task.nextMode() || task.way.mode != want || task.step.Mode != want {
				t.Errorf("after %s of %d bytes: %s, want %s", c.first, c.size, task.way.mode, want)
			}
		}
		if task.nextMode() {
			t.Errorf("after %s of %d bytes: %s is tried once more", c.first, c.size, task.way.mode)
		}
	}
}
