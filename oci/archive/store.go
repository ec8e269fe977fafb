package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// A store takes the blobs of an archive: a layout, or nothing.
type store interface {
	put(r io.Reader, want digest.Digest) (digest.Digest, int64, error)
	putDocument(mediaType string, data []byte) (oci.Descriptor, error)
	stat(digest.Digest) (int64, error)
	document(oci.Descriptor) ([]byte, error)
	// diffID returns that of a compressed layer; zero if it is not known.
	diffID(context.Context, oci.Descriptor) (digest.Digest, error)
}

type layoutStore struct{ *layout.Layout }

func (s layoutStore) put(r io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	return s.Put(r, want)
}

func (s layoutStore) putDocument(mediaType string, data []byte) (oci.Descriptor, error) {
	return s.PutDocument(mediaType, data)
}

func (s layoutStore) stat(d digest.Digest) (int64, error)          { return s.Stat(d) }
func (s layoutStore) document(desc oci.Descriptor) ([]byte, error) { return s.Document(desc) }

func (s layoutStore) diffID(ctx context.Context, desc oci.Descriptor) (digest.Digest, error) {
	r, err := s.Blob(desc)
	if err != nil {
		return digest.Digest{}, err
	}
	defer r.Close()
	return image.DiffID(ctx, r)
}

// maxDryDocuments bounds what a dry run keeps in memory.
const maxDryDocuments = 64 << 20

// A dryStore keeps documents, and of everything else the size. Of a compressed member whose
// name is no digest, as Docker's layers are called, it finds the diff ID while it passes.
type dryStore struct {
	ctx    context.Context
	sizes  map[digest.Digest]int64
	docs   map[digest.Digest][]byte
	kept   int
	layers map[digest.Digest]dryLayer
}

// A dryLayer is what reading a compressed layer found.
type dryLayer struct {
	id  digest.Digest
	err error
}

func newDryStore(ctx context.Context) *dryStore {
	return &dryStore{ctx: ctx, sizes: map[digest.Digest]int64{}, docs: map[digest.Digest][]byte{}, layers: map[digest.Digest]dryLayer{}}
}

func (s *dryStore) put(r io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	alg := digest.SHA256
	if !want.IsZero() {
		alg = want.Algorithm()
	}
	h := digest.NewHasher(alg)
	in := io.TeeReader(r, h)
	head, err := io.ReadAll(io.LimitReader(in, oci.MaxDocument+1))
	var layer dryLayer
	if format := tarutil.Sniff(head); want.IsZero() && (format == tarutil.FormatGzip || format == tarutil.FormatZstd) {
		layer.id, layer.err = image.DiffID(s.ctx, io.MultiReader(bytes.NewReader(head), in))
	}
	if err == nil && len(head) > oci.MaxDocument {
		_, err = io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 256<<10))
	}
	if err != nil {
		return digest.Digest{}, 0, err
	}
	d := h.Digest()
	if !want.IsZero() && d != want {
		return d, 0, fmt.Errorf("blob %s: got %s: %w", want, d, digest.ErrMismatch)
	}
	s.sizes[d], s.layers[d] = h.Size(), layer
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
	if !ok && desc.Data != nil {
		return desc.Data, desc.CheckData()
	}
	switch {
	case !ok:
		if _, err := s.stat(desc.Digest); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("blob %s: it is no document: %w", desc.Digest, oci.ErrMalformed)
	case int64(len(data)) != desc.Size:
		return nil, fmt.Errorf("blob %s: got %d bytes, want %d: %w", desc.Digest, len(data), desc.Size, digest.ErrMismatch)
	}
	return data, nil
}

func (s *dryStore) diffID(_ context.Context, desc oci.Descriptor) (digest.Digest, error) {
	l := s.layers[desc.Digest]
	return l.id, l.err
}
