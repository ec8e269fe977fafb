package source

import (
	"errors"
	"io"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
)

var errBelow = errors.New("asked below")

// A below has nothing, and says that it was asked.
type below struct{ Source }

func (below) Document(oci.Descriptor) ([]byte, error)    { return nil, errBelow }
func (below) Stat(digest.Digest) (int64, error)          { return 0, errBelow }
func (below) Blob(oci.Descriptor) (io.ReadCloser, error) { return nil, errBelow }
func (below) BlobAt(oci.Descriptor) (BlobAt, error)      { return nil, errBelow }

// The document that is added is had in every way, and all else comes from below.
func TestWith(t *testing.T) {
	doc := []byte("{}")
	added, other := oci.Describe(oci.MediaTypeIndex, doc), oci.Describe(oci.MediaTypeIndex, []byte("[]"))
	s := With(below{}, added, doc)
	for _, c := range []struct {
		what string
		get  func(desc oci.Descriptor) (string, error)
	}{
		{"Document", func(desc oci.Descriptor) (string, error) { data, err := s.Document(desc); return string(data), err }},
		{"Blob", func(desc oci.Descriptor) (string, error) {
			r, err := s.Blob(desc)
			if err != nil {
				return "", err
			}
			defer r.Close()
			data, err := io.ReadAll(r)
			return string(data), err
		}},
		{"BlobAt", func(desc oci.Descriptor) (string, error) {
			r, err := s.BlobAt(desc)
			if err != nil {
				return "", err
			}
			defer r.Close()
			data := make([]byte, 2)
			_, err = r.ReadAt(data, 0)
			return string(data), err
		}},
	} {
		if got, err := c.get(added); got != "{}" || err != nil {
			t.Errorf("%s of the added document: %q, %v", c.what, got, err)
		}
		if got, err := c.get(other); !errors.Is(err, errBelow) {
			t.Errorf("%s of another: %q, %v, want it from below", c.what, got, err)
		}
	}
	if size, err := s.Stat(added.Digest); size != 2 || err != nil {
		t.Errorf("Stat = %d, %v", size, err)
	}
	if _, err := s.Stat(other.Digest); !errors.Is(err, errBelow) {
		t.Errorf("Stat of another: %v", err)
	}
	if Unwrap(s) != (below{}) {
		t.Errorf("Unwrap = %T", Unwrap(s))
	}
}
