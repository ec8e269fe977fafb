// Package source says what all places of images have in common: a layout on disk, an archive read
// in place, a repository of a registry. Each of them is a [Source], and commands that read images
// take any of them.
//
// # Design
//
// A source is a [graph.Store], so the one walk of an image's graph works on all of them. A source
// that needs a network is bound to a context when it is opened, as [graph.Store] says, so that
// reading an image is the same call everywhere. Some places can do more, such as sharing files or
// mounting blobs. Code that gains by this asks for it with a type assertion.
package source

import (
	"bytes"
	"io"

	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
)

// A Source holds images to read. Its methods may be used concurrently.
type Source interface {
	graph.Store

	// Name is how the user named the source, for messages.
	Name() string

	// Index returns the names in the source as index.json of a layout lists them. A source that
	// cannot list gives an error that wraps [errors.ErrUnsupported].
	Index() (oci.Index, error)

	// Resolve returns the descriptor that a name means; n.Dir is not looked at. No such name
	// gives [graph.ErrNotFound].
	Resolve(n oci.ImageName) (oci.Descriptor, error)

	// Blob opens a blob for reading; the caller closes it. Its digest is checked while it is
	// read: a mismatch comes from Read in place of io.EOF and wraps digest.ErrMismatch. A blob
	// that is absent but embedded in desc is read from there.
	Blob(desc oci.Descriptor) (io.ReadCloser, error)

	// BlobAt opens a blob for reading at any offset; the caller closes it. Its size was checked,
	// its digest is not: that is for the caller, who may read it in pieces.
	BlobAt(desc oci.Descriptor) (BlobAt, error)

	// Watch makes the readers of blobs tell report how far they are. It is called before anything
	// else.
	Watch(report func(progress.Event))

	// Close releases what the source holds open. Readers that it handed out must be closed first.
	Close() error
}

// A BlobAt reads a blob at any offset.
type BlobAt interface {
	io.ReaderAt
	io.Closer
}

// Remote reports whether everything that a source is asked for costs a request.
func Remote(s Source) bool {
	r, ok := s.(interface{ Remote() bool })
	return ok && r.Remote()
}

// ReadDocument returns the bytes of a document from a reader that open opens and that verifies them. Over
// [oci.MaxDocument] bytes are refused before they are read.
func ReadDocument(desc oci.Descriptor, open func(oci.Descriptor) (io.ReadCloser, error)) ([]byte, error) {
	if err := desc.CheckDocument(); err != nil {
		return nil, err
	}
	r, err := open(desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	buf := bytes.NewBuffer(make([]byte, 0, desc.Size+1))
	if _, err := buf.ReadFrom(r); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// Embedded returns the blob that a descriptor holds itself ("data" in descriptor.md). Whether it is
// the right one is for [oci.Descriptor.CheckData] to say.
func Embedded(desc oci.Descriptor) interface {
	io.Reader
	BlobAt
} {
	return embedded{bytes.NewReader(desc.Data)}
}

type embedded struct{ *bytes.Reader }

func (embedded) Close() error { return nil }

// Referrers finds what refers to images in a source, see [graph.Referrers]. A source may know
// better than its names tell, as a registry with the referrers API: then it implements
//
//	Referrers(images []oci.Descriptor) ([]graph.Referrer, error)
//
// [With] and [Keep] add no referrers to a source, so the source below them is asked.
func Referrers(s Source, images []oci.Descriptor) ([]graph.Referrer, error) {
	if own, ok := Unwrap(s).(interface {
		Referrers(images []oci.Descriptor) ([]graph.Referrer, error)
	}); ok {
		return own.Referrers(images)
	}

	x, err := s.Index()
	if err != nil {
		return nil, err
	}
	return graph.Referrers(s, x.Manifests, images)
}
