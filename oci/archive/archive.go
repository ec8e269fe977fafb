package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/progress"
	"ocikit/oci/source"
	"ocikit/tarutil"
)

// An Archive is an archive of images as a [source.Source]. Its images have the names that
// [Load] gives them in an empty layout. Images that only Docker's half of an archive names have
// manifests that are made in memory, with the digests that Load gives them.
type Archive struct {
	name   string
	c      *contents
	hold   holder
	notify func(text string)
	report func(progress.Event)

	blobs map[digest.Digest]member
	made  map[digest.Digest][]byte // manifests that no member holds
	list  oci.Index
	close func() error
}

var _ source.Source = (*Archive)(nil)

func newArchive(name string, hold holder, notify func(string)) *Archive {
	return &Archive{
		name: name, c: newContents(hold.keep), hold: hold, notify: notify,
		blobs: map[digest.Digest]member{}, made: map[digest.Digest][]byte{},
		close: func() error { return nil },
	}
}

func (a *Archive) notice(format string, args ...any) {
	if a.notify != nil {
		a.notify(fmt.Sprintf(format, args...))
	}
}

// Name is how the user named the archive.
func (a *Archive) Name() string { return a.name }

// Index returns the entries of the images, as index.json would list them in a layout into which
// [Load] has brought them.
func (a *Archive) Index() (oci.Index, error) { return a.list, nil }

// Resolve returns the descriptor that a name means, see [graph.Resolve]; n.Dir is not looked at.
func (a *Archive) Resolve(n oci.ImageName) (oci.Descriptor, error) {
	desc, err := graph.Resolve(a, a.list, n)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("archive %q: %w", a.name, err)
	}
	return desc, nil
}

// Watch makes the archive call report while [Archive.Blob] reads blobs. It is called before any of
// them is opened. Blobs may be read at the same time, so report must be safe for concurrent use.
func (a *Archive) Watch(report func(progress.Event)) { a.report = report }

// Close closes the archive, and removes the temporary file if it has one.
func (a *Archive) Close() error { return a.close() }

// Stat returns the size of a blob, or [graph.ErrNotFound].
func (a *Archive) Stat(d digest.Digest) (int64, error) {
	if data, ok := a.made[d]; ok {
		return int64(len(data)), nil
	}
	if m, ok := a.blobs[d]; ok {
		return m.size, nil
	}
	return 0, fmt.Errorf("blob %s: %w", d, graph.ErrNotFound)
}

// Document returns the bytes of a manifest, index or config, verified. Over [oci.MaxDocument]
// bytes are refused before they are read.
func (a *Archive) Document(desc oci.Descriptor) ([]byte, error) {
	return source.ReadDocument(desc, a.blob)
}

// Blob opens a blob for reading. Its size is checked at once, its digest while it is read.
func (a *Archive) Blob(desc oci.Descriptor) (io.ReadCloser, error) {
	r, err := a.blob(desc)
	if err != nil {
		return nil, err
	}
	return progress.Blob(r, a.report, progress.Event{Digest: desc.Digest, Size: desc.Size}), nil
}

func (a *Archive) blob(desc oci.Descriptor) (io.ReadCloser, error) {
	if err := desc.CheckData(); err != nil {
		return nil, err
	}
	at, err := a.BlobAt(desc)
	if err != nil {
		return nil, err
	}
	return oci.ReadCloser(digest.NewReader(io.NewSectionReader(at, 0, desc.Size), desc.Digest, desc.Size), at), nil
}

// BlobAt opens a blob for reading at any offset. Its size is checked, its digest is not.
func (a *Archive) BlobAt(desc oci.Descriptor) (source.BlobAt, error) {
	size, err := a.Stat(desc.Digest)
	switch {
	case err != nil && desc.Data != nil:
		return source.Embedded(desc), desc.CheckData()
	case err != nil:
		return nil, err
	case size != desc.Size:
		return nil, fmt.Errorf("blob %s: got %d bytes, want %d: %w", desc.Digest, size, desc.Size, digest.ErrMismatch)
	}
	if data, ok := a.made[desc.Digest]; ok {
		return source.Embedded(oci.Descriptor{Data: data}), nil
	}
	return a.hold.open(a.blobs[desc.Digest])
}

// inPlace reports whether members were not read when they passed.
func (a *Archive) inPlace() bool {
	_, ok := a.hold.(sections)
	return ok
}

// images finds the images that the archive names, under the names that it has for them. If it has
// both lists, that of OCI counts.
func (a *Archive) images(ctx context.Context) ([]oci.Descriptor, error) {
	for _, m := range a.c.members {
		a.known(m)
	}

	x, isOCI, err := a.c.index()
	manifest, isDocker := a.c.control[manifestFile]
	switch {
	case err != nil:
		return nil, err
	case isOCI:
		return a.ociEntries(x), nil
	case isDocker:
		return a.dockerEntries(ctx, manifest)
	case a.c.control[repositoriesFile] != nil:
		return nil, fmt.Errorf("%w: it has repositories and no manifest.json, as Docker wrote it before 1.10: save it again with a later one", ErrNoImage)
	}

	return nil, a.c.noImage()
}

// known makes a member a blob, if its digest is known.
func (a *Archive) known(m member) {
	if !m.digest.IsZero() {
		a.blobs[m.digest] = m
	}
}

// ociEntries returns the images in the archive's index.json.
func (a *Archive) ociEntries(x oci.Index) []oci.Descriptor {
	var entries []oci.Descriptor
	for _, d := range x.Manifests {
		if !oci.IsDocument(d.MediaType) {
			a.notice("left out %s of type %q, which is not an image", d.Digest, d.MediaType)
			continue
		}
		entries = append(entries, d)
	}
	return entries
}

// find returns the member that manifest.json has a name for, with its digest. A layer's diff ID,
// as the config says it, stands for the digest of a plain tar that was not read: it is the same,
// and checked when the layer is read.
func (a *Archive) find(ctx context.Context, name string, diffID digest.Digest) (member, error) {
	m, at, err := a.c.lookup(name)
	if err != nil {
		return m, err
	}

	// The members of a stream were looked at while they passed, those in place are looked at
	// once.
	if !a.inPlace() || m.format != tarutil.FormatUnknown {
		return m, nil
	}

	r, err := a.hold.open(m)
	if err != nil {
		return m, err
	}
	defer r.Close()

	head := make([]byte, min(tarutil.SniffLen, m.size))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return m, err
	}

	m.format = tarutil.Sniff(head)
	switch {
	case !m.digest.IsZero():
	case m.format == tarutil.FormatTar && !diffID.IsZero():
		m.digest = diffID
	default:
		if m.digest, _, err = digest.FromReader(digest.SHA256, tarutil.ContextReader(ctx, io.NewSectionReader(r, 0, m.size))); err != nil {
			return m, err
		}
	}

	a.c.members[at] = m
	a.known(m)
	return m, nil
}

// layerDiffID returns the diff ID of a layer in Docker's half of an archive: that of a plain tar is
// its digest, and what is compressed is read for it, once. It is zero if it cannot be known without
// more reading than a source is opened for.
func (a *Archive) layerDiffID(ctx context.Context, name string, m member) (digest.Digest, error) {
	if a.inPlace() || !m.diffID.IsZero() {
		return m.diffID, nil
	}

	r, err := a.hold.open(m)
	if errors.Is(err, errors.ErrUnsupported) {
		return m.diffID, nil
	}

	if err != nil {
		return m.diffID, err
	}
	defer r.Close()

	if m.diffID, err = image.DiffID(ctx, io.NewSectionReader(r, 0, m.size)); err == nil {
		_, at, _ := a.c.lookup(name)
		a.c.members[at] = m
	}

	return m.diffID, err
}
