package graph

import (
	"errors"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
)

// A Store holds the blobs of images. One that needs a network is bound to a context when it is
// made, as a file system is bound to its root.
type Store interface {
	// Document returns the bytes of a manifest, an index or a config, verified, and at most
	// [oci.MaxDocument] of them. What is not there gives [ErrNotFound], unless it is embedded
	// in desc; other bytes than desc names give [digest.ErrMismatch].
	Document(desc oci.Descriptor) ([]byte, error)

	// Stat returns the size of a blob, below 0 if that is known only when it is read, or [ErrNotFound].
	// The bytes are not read.
	Stat(d digest.Digest) (int64, error)
}

// Fits reports whether a size that [Store.Stat] gave may be that of a blob.
func Fits(size int64, desc oci.Descriptor) bool { return size < 0 || size == desc.Size }

var (
	// ErrNotFound means that a name or a blob is not in a store.
	ErrNotFound = oci.ErrNotFound
	// ErrIncomplete means that an image names a blob that is absent.
	ErrIncomplete = errors.New("image is incomplete")
	// ErrAmbiguous means that a name fits several images.
	ErrAmbiguous = errors.New("name is ambiguous")
	// ErrPlatform means that there is no image for a platform, or several where one is needed.
	ErrPlatform = errors.New("no single image")
)

// A State says what a store has of a blob that a document names.
type State int

// The states.
const (
	Present  State = iota // it is there, with its size as far as that is known
	Optional              // it is absent, and may be: see [Rules]
	Absent                // it is absent
	Damaged               // there is something else, or it cannot be read
)

// Rules say what of an image may be absent. Layers that are not distributed with their image
// always may (layer.md, "Non-Distributable Layers").
type Rules struct {
	Sparse bool // manifests and indexes that an index names ("sparse index")
	Blobs  bool // configs and layers: they are to come
}

// StateOf looks for a blob and says why it is not [Present]. parent is the media type of the
// document that names it, or "" for a root. The bytes are not read.
func (r Rules) StateOf(s Store, parent string, desc oci.Descriptor) (State, error) {
	if err := desc.CheckData(); err != nil {
		return Damaged, err
	}

	size, err := s.Stat(desc.Digest)
	switch {
	case err == nil && Fits(size, desc):
		return Present, nil
	case err == nil:
		return Damaged, fmt.Errorf("blob %s: got %d bytes, want %d: %w", desc.Digest, size, desc.Size, digest.ErrMismatch)
	case !errors.Is(err, ErrNotFound):
		return Damaged, err
	case desc.Data != nil:
		return Present, nil // the document that names it holds it
	case r.mayLack(parent, desc):
		return Optional, err
	}

	return Absent, err
}

// mayLack reports whether an image is whole without a blob.
func (r Rules) mayLack(parent string, desc oci.Descriptor) bool {
	if oci.IsDocument(desc.MediaType) {
		return r.Sparse && oci.IsIndex(parent)
	}
	return r.Blobs || oci.IsForeignLayer(desc.MediaType)
}

// Incomplete turns the error about a blob that was not found into one about the image that wants it.
// It wraps [ErrIncomplete] then, and no longer [ErrNotFound]: the name was right, the image is not
// whole. Any other error, and nil, is returned as it is.
func Incomplete(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %v", ErrIncomplete, err)
	}
	return err
}

// Either returns a store that has what first or second has. It looks into first before second.
func Either(first, second Store) Store { return either{first, second} }

type either struct{ first, second Store }

func (e either) Document(desc oci.Descriptor) ([]byte, error) {
	doc, err := e.first.Document(desc)
	if errors.Is(err, ErrNotFound) {
		return e.second.Document(desc)
	}
	return doc, err
}

func (e either) Stat(d digest.Digest) (int64, error) {
	size, err := e.first.Stat(d)
	if errors.Is(err, ErrNotFound) {
		return e.second.Stat(d)
	}
	return size, err
}
