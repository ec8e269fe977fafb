package layout

import (
	"errors"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
)

// Walk visits what images are made of: each root and whatever it refers to, every blob once,
// parents before children. For manifests and indexes doc holds the verified document, for
// everything else it is nil and the blob is not opened. A document that is absent gives an
// error that wraps [ErrIncomplete]; an error of visit ends the walk. Walk does not recurse:
// indexes may nest as deep as they like.
func (l *Layout) Walk(roots []oci.Descriptor, visit func(desc oci.Descriptor, doc []byte) error) error {
	return l.Scan(roots, func(desc oci.Descriptor, doc []byte, err error) error {
		if err != nil {
			return incomplete(err)
		}
		return visit(desc, doc)
	})
}

// Scan is [Layout.Walk] for layouts that may be damaged: it hands the error of a document that
// cannot be used to visit, and goes on without what that document refers to if visit returns
// nil.
func (l *Layout) Scan(roots []oci.Descriptor, visit func(desc oci.Descriptor, doc []byte, err error) error) error {
	return l.scan(roots, map[mention]bool{}, visit)
}

// A mention is what makes a second descriptor of a blob another question than the first.
type mention struct {
	digest, data digest.Digest
	size         int64
	mediaType    string
}

// scan is Scan that leaves out what was seen, and adds to it.
func (l *Layout) scan(roots []oci.Descriptor, seen map[mention]bool, visit func(desc oci.Descriptor, doc []byte, err error) error) error {
	stack := make([]oci.Descriptor, 0, len(roots))
	push := func(descs []oci.Descriptor) { // in reverse, so that they are popped in order
		for i := len(descs) - 1; i >= 0; i-- {
			stack = append(stack, descs[i])
		}
	}
	push(roots)
	for len(stack) > 0 {
		desc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		k := mention{digest: desc.Digest, size: desc.Size, mediaType: desc.MediaType}
		if desc.Data != nil {
			k.data = digest.FromBytes(desc.Data)
		}
		if seen[k] {
			continue
		}
		seen[k] = true
		doc, refs, err := l.document(desc)
		if err := visit(desc, doc, err); err != nil {
			return err
		}
		push(refs)
	}
	return nil
}

// document reads desc if it is a manifest or an index, and what it refers to.
func (l *Layout) document(desc oci.Descriptor) ([]byte, []oci.Descriptor, error) {
	if !oci.IsManifest(desc.MediaType) && !oci.IsIndex(desc.MediaType) {
		return nil, nil, nil
	}
	doc, err := l.Document(desc)
	if err != nil {
		return nil, nil, err
	}
	refs, err := oci.References(desc, doc)
	if err != nil {
		return nil, nil, err
	}
	return doc, refs, nil
}

// CheckComplete reports whether every blob that the image needs is in the layout with the
// right size; the bytes of layers are not read. An absent blob gives [ErrIncomplete]. Layers
// that are not distributed with their image may be absent.
func (l *Layout) CheckComplete(desc oci.Descriptor) error {
	return l.checkComplete(desc, map[mention]bool{})
}

// checkComplete is CheckComplete without what was seen, which it adds to.
func (l *Layout) checkComplete(desc oci.Descriptor, seen map[mention]bool) error {
	return l.scan([]oci.Descriptor{desc}, seen, func(desc oci.Descriptor, doc []byte, err error) error {
		if err == nil && doc == nil {
			err = l.checkSize(desc)
		}
		return incomplete(err)
	})
}

// checkSize checks that a blob is there with the size of its descriptor, and that embedded
// data are right.
func (l *Layout) checkSize(desc oci.Descriptor) error {
	if err := desc.CheckData(); err != nil {
		return err
	}
	size, err := l.Stat(desc.Digest)
	switch {
	case errors.Is(err, ErrNotFound) && oci.IsForeignLayer(desc.MediaType):
		return nil
	case errors.Is(err, ErrNotFound) && desc.Data != nil:
		return nil
	case err != nil:
		return err
	case size != desc.Size:
		return fmt.Errorf("blob %s: got %d bytes, want %d: %w", desc.Digest, size, desc.Size, digest.ErrMismatch)
	}
	return nil
}

// incomplete says of a blob that was not found that an image wants it.
func incomplete(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %v", ErrIncomplete, err)
	}
	return err
}

// CheckRefs is [Layout.CheckComplete] for a document that is not stored yet: it checks
// everything that data, which desc describes, refers to.
func (l *Layout) CheckRefs(desc oci.Descriptor, data []byte) error {
	refs, err := oci.References(desc, data)
	if err != nil {
		return err
	}
	for _, d := range refs {
		if err := l.CheckComplete(d); err != nil {
			return err
		}
	}
	return nil
}
