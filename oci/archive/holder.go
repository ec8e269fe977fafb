package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/source"
	"ocikit/tarutil"
)

// A holder has the bytes of members: while a stream passes it takes them, and later it opens them.
type holder interface {
	keep(f tarEntry, want digest.Digest) (member, error)
	open(m member) (source.BlobAt, error)
}

// sections holds the members of a plain tar where they are.
type sections struct{ at io.ReaderAt }

// keep notes where a file is. Its bytes are not read.
func (s sections) keep(f tarEntry, want digest.Digest) (member, error) {
	return member{digest: want, size: f.hdr.Size, offset: f.offset}, nil
}

func (s sections) open(m member) (source.BlobAt, error) {
	return closeless{io.NewSectionReader(s.at, m.offset, m.size)}, nil
}

// same compares the bytes of two members.
func (s sections) same(a, b member) (bool, error) {
	if a.size != b.size {
		return false, nil
	}

	one, other := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); off < a.size; off += int64(len(one)) {
		n := min(int64(len(one)), a.size-off)
		if _, err := s.at.ReadAt(one[:n], a.offset+off); err != nil && err != io.EOF {
			return false, err
		}
		if _, err := s.at.ReadAt(other[:n], b.offset+off); err != nil && err != io.EOF {
			return false, err
		}
		if !bytes.Equal(one[:n], other[:n]) {
			return false, nil
		}
	}

	return true, nil
}

// A closeless is a reader that needs no closing.
type closeless struct{ *io.SectionReader }

func (closeless) Close() error { return nil }

// inLayout holds the members of a stream as blobs of a layout.
type inLayout struct{ l *layout.Layout }

func (h inLayout) keep(f tarEntry, want digest.Digest) (member, error) {
	head := &headReader{r: f.r}
	d, size, err := h.l.Put(head, want)
	return member{digest: d, size: size, format: tarutil.Sniff(head.head)}, err
}

func (h inLayout) open(m member) (source.BlobAt, error) {
	return h.l.BlobAt(oci.Descriptor{Digest: m.digest, Size: m.size})
}

// maxDocuments bounds what is kept in memory of a stream.
const maxDocuments = 64 << 20

// documents keeps in memory the members of a stream that may be documents. Of every other member it
// knows digest and size. If such a member is compressed and its name holds no digest, as with
// Docker's layers, it knows the diff ID too.
type documents struct {
	ctx   context.Context
	docs  map[digest.Digest][]byte
	bytes int
	bad   map[digest.Digest]error // compressed members without a diff ID, and why
}

func newDocuments(ctx context.Context) *documents {
	return &documents{ctx: ctx, docs: map[digest.Digest][]byte{}, bad: map[digest.Digest]error{}}
}

func (h *documents) keep(f tarEntry, want digest.Digest) (member, error) {
	alg := digest.SHA256
	if !want.IsZero() {
		alg = want.Algorithm()
	}

	hash := digest.NewHasher(alg)
	in := io.TeeReader(f.r, hash)
	head, err := oci.ReadDocument(in)
	m := member{format: tarutil.Sniff(head)}

	// A compressed layer passes once, so its diff ID is found now.
	var layerErr error
	if err == nil && want.IsZero() && isCompressed(m.format) {
		m.diffID, layerErr = image.DiffID(h.ctx, io.MultiReader(bytes.NewReader(head), in))
	}
	if err == nil && len(head) > oci.MaxDocument {
		_, err = oci.Copy(hash, f.r)
	}
	if err != nil {
		return m, err
	}

	m.digest, m.size = hash.Digest(), hash.Size()
	if !want.IsZero() && m.digest != want {
		return m, fmt.Errorf("blob %s: got %s: %w", want, m.digest, digest.ErrMismatch)
	}

	if layerErr != nil {
		h.bad[m.digest] = layerErr
	}

	// Only what begins as a JSON object is kept, so that small layers do not fill the memory.
	if m.size <= oci.MaxDocument && bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) && h.docs[m.digest] == nil {
		if h.bytes += len(head); h.bytes > maxDocuments {
			return m, fmt.Errorf("documents of over %d bytes: %w", maxDocuments, oci.ErrMalformed)
		}
		h.docs[m.digest] = head
	}

	return m, nil
}

func (h *documents) open(m member) (source.BlobAt, error) {
	if data, ok := h.docs[m.digest]; ok {
		return source.Embedded(oci.Descriptor{Data: data}), nil
	}
	if err := h.bad[m.digest]; err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("blob %s: it is not a document, and nothing else of the stream was kept: %w", m.digest, errors.ErrUnsupported)
}

func isCompressed(f tarutil.Format) bool { return f == tarutil.FormatGzip || f == tarutil.FormatZstd }

// A headReader keeps the first bytes that it passes on.
type headReader struct {
	r    io.Reader
	head []byte
}

func (h *headReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if room := tarutil.SniffLen - len(h.head); room > 0 {
		h.head = append(h.head, p[:min(n, room)]...)
	}
	return n, err
}
