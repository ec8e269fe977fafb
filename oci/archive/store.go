package archive

import (
	"bytes"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// A store takes the blobs of an archive: a layout, or nothing.
type store interface {
	put(r io.Reader, want digest.Digest) (digest.Digest, int64, error)
	putDocument(mediaType string, data []byte) (oci.Descriptor, error)
	stat(digest.Digest) (int64, error)
	document(oci.Descriptor) ([]byte, error)
	open(oci.Descriptor) (io.ReadCloser, error) // nil if the bytes were not kept
}

type layoutStore struct{ *layout.Layout }

func (s layoutStore) put(r io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	return s.Put(r, want)
}

func (s layoutStore) putDocument(mediaType string, data []byte) (oci.Descriptor, error) {
	return s.PutDocument(mediaType, data)
}

func (s layoutStore) stat(d digest.Digest) (int64, error)             { return s.Stat(d) }
func (s layoutStore) document(desc oci.Descriptor) ([]byte, error)    { return s.Document(desc) }
func (s layoutStore) open(desc oci.Descriptor) (io.ReadCloser, error) { return s.Blob(desc) }

// maxDryDocuments bounds what a dry run keeps in memory.
const maxDryDocuments = 64 << 20

// A dryStore keeps documents, and of everything else the size.
type dryStore struct {
	sizes map[digest.Digest]int64
	docs  map[digest.Digest][]byte
	kept  int
}

func newDryStore() *dryStore {
	return &dryStore{sizes: map[digest.Digest]int64{}, docs: map[digest.Digest][]byte{}}
}

func (s *dryStore) put(r io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	alg := digest.SHA256
	if !want.IsZero() {
		alg = want.Algorithm()
	}
	h := digest.NewHasher(alg)
	head, err := io.ReadAll(io.LimitReader(io.TeeReader(r, h), oci.MaxDocument+1))
	if err == nil {
		_, err = io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 256<<10))
	}
	if err != nil {
		return digest.Digest{}, 0, err
	}
	d := h.Digest()
	if !want.IsZero() && d != want {
		return d, 0, fmt.Errorf("blob %s: got %s: %w", want, d, digest.ErrMismatch)
	}
	s.sizes[d] = h.Size()
	if h.Size() <= oci.MaxDocument && bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) {
		if s.kept += len(head); s.kept > maxDryDocuments {
			return d, 0, fmt.Errorf("documents of over %d bytes: %w", maxDryDocuments, oci.ErrMalformed)
		}
		s.docs[d] = head
	}
	return d, h.Size(), nil
}

func (s *dryStore) putDocument(mediaType string, data []byte) (oci.Descriptor, error) {
	desc := oci.Describe(mediaType, data)
	s.sizes[desc.Digest], s.docs[desc.Digest] = desc.Size, data
	return desc, nil
}

func (s *dryStore) stat(d digest.Digest) (int64, error) {
	size, ok := s.sizes[d]
	if !ok {
		return 0, fmt.Errorf("blob %s: %w", d, layout.ErrNotFound)
	}
	return size, nil
}

func (s *dryStore) document(desc oci.Descriptor) ([]byte, error) {
	data, ok := s.docs[desc.Digest]
	switch {
	case !ok:
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, layout.ErrNotFound)
	case int64(len(data)) != desc.Size:
		return nil, fmt.Errorf("blob %s: got %d bytes, want %d: %w", desc.Digest, len(data), desc.Size, digest.ErrMismatch)
	}
	return data, nil
}

func (s *dryStore) open(oci.Descriptor) (io.ReadCloser, error) { return nil, nil }
