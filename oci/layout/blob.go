package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/progress"
)

func blobPath(d digest.Digest) string {
	return path.Join(blobsDir, string(d.Algorithm()), d.Encoded())
}

// OpenBlob opens the file of a blob, which the caller closes. Its bytes are not verified:
// whoever reads them checks the digest. An absent blob gives [ErrNotFound].
func (l *Layout) OpenBlob(d digest.Digest) (*os.File, error) {
	f, _, err := l.openBlob(d)
	return f, err
}

func (l *Layout) openBlob(d digest.Digest) (*os.File, int64, error) {
	if d.IsZero() {
		return nil, 0, fmt.Errorf("blob without a digest: %w", ErrNotFound)
	}
	f, size, err := l.open(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("blob %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", d, err)
	}
	return f, size, nil
}

// Stat returns the size of a blob's file, or [ErrNotFound].
func (l *Layout) Stat(d digest.Digest) (int64, error) {
	info, err := l.root.Lstat(blobPath(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("blob %s: %w", d, ErrNotFound)
	case err != nil:
		return 0, fmt.Errorf("blob %s: %w", d, cause(err))
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("blob %s: it is a %s, not a regular file: %w", d, kind(info.Mode()), oci.ErrMalformed)
	}
	return info.Size(), nil
}

// Blob opens a blob for reading. Its size is checked at once, its digest while it is read:
// a mismatch comes from Read in place of io.EOF and wraps [digest.ErrMismatch]. A blob that
// is absent but embedded in desc is read from there. The caller closes it.
func (l *Layout) Blob(desc oci.Descriptor) (io.ReadCloser, error) {
	r, err := l.blob(desc)
	if err != nil || l.report == nil {
		return r, err
	}
	t := progress.NewTask(l.report, progress.Event{Digest: desc.Digest, Size: desc.Size})
	return &watched{progress.Reader(r, t), r, t}, nil
}

// A watched blob tells when it is closed before its end.
type watched struct {
	io.Reader
	blob io.Closer
	t    *progress.Task
}

func (w *watched) Close() error {
	w.t.Stop()
	return w.blob.Close()
}

func (l *Layout) blob(desc oci.Descriptor) (io.ReadCloser, error) {
	if err := desc.CheckData(); err != nil {
		return nil, err
	}
	f, size, err := l.openBlob(desc.Digest)
	if errors.Is(err, ErrNotFound) && desc.Data != nil {
		return io.NopCloser(bytes.NewReader(desc.Data)), nil
	}
	if err != nil {
		return nil, err
	}
	if size != desc.Size {
		f.Close()
		return nil, fmt.Errorf("blob %s: got %d bytes, want %d: %w", desc.Digest, size, desc.Size, digest.ErrMismatch)
	}
	return struct {
		io.Reader
		io.Closer
	}{digest.NewReader(f, desc.Digest, desc.Size), f}, nil
}

// Document returns the bytes of a manifest, index or config, verified. Over
// [oci.MaxDocument] bytes are refused before they are read.
func (l *Layout) Document(desc oci.Descriptor) ([]byte, error) {
	if desc.Size > oci.MaxDocument {
		return nil, fmt.Errorf("blob %s: %d bytes, the limit for a document is %d: %w", desc.Digest, desc.Size, oci.MaxDocument, oci.ErrMalformed)
	}
	r, err := l.blob(desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, 0, desc.Size+1)
	buf := bytes.NewBuffer(data)
	if _, err := buf.ReadFrom(r); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// Describe returns the descriptor of a blob that is in the layout, known by its digest
// alone. The media type is read from the document; "" means that it is none.
func (l *Layout) Describe(d digest.Digest) (oci.Descriptor, error) {
	size, err := l.Stat(d)
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc := oci.Descriptor{Digest: d, Size: size}
	if size > oci.MaxDocument {
		return desc, nil
	}
	data, err := l.Document(desc)
	if err != nil {
		return desc, err
	}
	desc.MediaType = oci.SniffDocument(data)
	return desc, nil
}
