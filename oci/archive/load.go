package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// ErrNoImage means that a tar is no archive of images.
var ErrNoImage = errors.New("no image archive")

// LoadOptions say what to load.
type LoadOptions struct {
	Tag      string        // name the only image so; "" keeps the names in the archive
	Platform *oci.Platform // of an image for several load the one for this platform alone
	DryRun   bool          // find out what the archive holds, and store nothing
	Notice   func(text string)
}

// Load brings the images of the archive that r holds into a layout (for a dry run there need
// be none), and returns their entries
// of index.json. r is read once, to its end, and may be compressed. What Docker wrote becomes
// an image of OCI media types; its config and layers stay as they are, byte for byte.
//
// Every image gets its names, or, if something is wrong with one, none does: a member that is
// damaged, absent, of another kind or outside of the archive, documents that disagree. Blobs
// that came before the error stay in the layout, unnamed.
func Load(ctx context.Context, l *layout.Layout, r io.Reader, o LoadOptions) ([]oci.Descriptor, error) {
	ld := &loader{l: l, o: o, store: layoutStore{l}, diffIDs: map[digest.Digest]digest.Digest{}, members: map[string]member{}, links: map[string]string{}, control: map[string][]byte{}}
	if o.DryRun {
		ld.store = newDryStore(ctx)
	}
	if err := ld.read(ctx, r); err != nil {
		return nil, err
	}
	entries, err := ld.images(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[mention]bool{}
	for _, e := range entries {
		if err := ld.checkWhole(e, seen); err != nil {
			return nil, err
		}
	}
	if err := ld.checkAgreement(entries); err != nil {
		return nil, err
	}
	if entries, err = ld.name(entries); err != nil {
		return nil, err
	}
	if o.DryRun {
		return entries, nil
	}
	return entries, l.AddEntries(ctx, entries)
}

// A loader loads one archive.
type loader struct {
	l     *layout.Layout
	o     LoadOptions
	store store

	members map[string]member // blobs, by clean path
	links   map[string]string // links, and what they lead to
	control map[string][]byte // the files that say what is in the archive
	paths   int               // bytes of the paths in members and links

	diffIDs map[digest.Digest]digest.Digest // of compressed layers that were read for them
}

// A member is a file that was stored as a blob.
type member struct {
	digest digest.Digest
	size   int64
	format tarutil.Format
}

const (
	maxMembers = 200_000
	maxLinks   = 16 // that lead to one another
)

// images finds the images that the archive names. If it has both lists, that of OCI counts.
func (ld *loader) images(ctx context.Context) ([]oci.Descriptor, error) {
	index, isOCI := ld.control[indexFile]
	manifest, isDocker := ld.control[manifestFile]
	switch {
	case isOCI:
		if err := ld.checkVersion(); err != nil {
			return nil, err
		}
		return ld.ociEntries(index)
	case isDocker:
		return ld.dockerEntries(ctx, manifest)
	case ld.control[repositoriesFile] != nil:
		return nil, fmt.Errorf("%w: it has repositories and no manifest.json, as Docker wrote it before 1.10: save it again with a later one", ErrNoImage)
	}
	return nil, fmt.Errorf("%w: it has neither %s nor %s", ErrNoImage, indexFile, manifestFile)
}

func (ld *loader) checkVersion() error {
	data, ok := ld.control[layoutFile]
	if !ok {
		return fmt.Errorf("%w: it has %s and no %s", ErrNoImage, indexFile, layoutFile)
	}
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := oci.Decode(data, &v); err != nil {
		return fmt.Errorf("%s: %w", layoutFile, err)
	}
	if v.Version != "1.0.0" {
		return fmt.Errorf("%s: imageLayoutVersion %q, want \"1.0.0\": %w", layoutFile, v.Version, oci.ErrMalformed)
	}
	return nil
}

// ociEntries returns the entries of the archive's index.json.
func (ld *loader) ociEntries(data []byte) ([]oci.Descriptor, error) {
	var x oci.Index
	if err := oci.Decode(data, &x); err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	var entries []oci.Descriptor
	for _, d := range x.Manifests {
		if !oci.IsManifest(d.MediaType) && !oci.IsIndex(d.MediaType) {
			ld.notice("left out %s of type %q, which is no image", d.Digest, d.MediaType)
			continue
		}
		if ld.o.Platform != nil && oci.IsIndex(d.MediaType) {
			only, err := ld.selectPlatform(d)
			if err != nil {
				return nil, err
			}
			only.Annotations = d.Annotations
			d = only
		}
		entries = append(entries, d)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: %s lists none", ErrNoImage, indexFile)
	}
	return entries, nil
}

func (ld *loader) notice(format string, args ...any) {
	if ld.o.Notice != nil {
		ld.o.Notice(fmt.Sprintf(format, args...))
	}
}

// selectPlatform returns the image of an index for the platform that was asked for. Others
// need not be in the archive.
func (ld *loader) selectPlatform(desc oci.Descriptor) (oci.Descriptor, error) {
	var found []oci.Descriptor
	err := ld.walk(desc, map[mention]bool{}, func(d oci.Descriptor, doc []byte, err error) error {
		if oci.IsManifest(d.MediaType) && d.Platform != nil && d.Platform.Matches(*ld.o.Platform) {
			found = append(found, d)
		}
		return nil
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s: %w for %s", desc.Digest, image.ErrPlatform, ld.o.Platform)
	}
	if err != nil {
		return desc, err
	}
	return found[0], nil
}

// checkWhole checks that everything an image needs is there, of the right size, and that its
// layers are those that its config names, as far as digests tell.
func (ld *loader) checkWhole(desc oci.Descriptor, seen map[mention]bool) error {
	err := ld.walk(desc, seen, func(d oci.Descriptor, doc []byte, err error) error {
		if err != nil {
			return err
		}
		if doc == nil {
			return ld.checkBlob(d)
		}
		if !oci.IsManifest(d.MediaType) {
			return nil
		}
		return ld.checkLayers(d, doc)
	})
	if errors.Is(err, layout.ErrNotFound) {
		err = fmt.Errorf("%w: %v", layout.ErrIncomplete, err)
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", desc.Digest, err)
	}
	return nil
}

func (ld *loader) checkBlob(d oci.Descriptor) error {
	size, err := ld.store.stat(d.Digest)
	switch {
	case errors.Is(err, layout.ErrNotFound) && (oci.IsForeignLayer(d.MediaType) || d.Data != nil):
		return nil
	case err != nil:
		return err
	case size != d.Size:
		return fmt.Errorf("blob %s: got %d bytes, want %d: %w", d.Digest, size, d.Size, digest.ErrMismatch)
	}
	return nil
}

// checkLayers compares the layers of a manifest with the diff IDs of its config. A layer that
// is not compressed is its own diff ID; what is, is not read.
func (ld *loader) checkLayers(desc oci.Descriptor, doc []byte) error {
	m, err := oci.DecodeManifest(desc, doc)
	if err != nil || !oci.IsConfig(m.Config.MediaType) {
		return err
	}
	data, err := ld.store.document(m.Config)
	if err != nil {
		return err
	}
	config, err := oci.ParseConfig(data)
	if err != nil {
		return fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	layers := m.Layers
	for i, d := range layers {
		if d.MediaType == oci.MediaTypeLayer || d.MediaType == oci.MediaTypeDockerLayer {
			layers[i] = d.WithAnnotation(oci.AnnotationDiffID, d.Digest.String())
		} else {
			layers[i] = d.WithAnnotation(oci.AnnotationDiffID, "")
		}
	}
	return image.CheckConfig(config, layers)
}

// A mention is a descriptor of a blob; one with another size or type is another question.
type mention struct {
	digest    digest.Digest
	size      int64
	mediaType string
}

// walk visits an image as [layout.Layout.Walk] does, but for what was seen, which it adds to,
// and goes on where a document is absent.
func (ld *loader) walk(root oci.Descriptor, seen map[mention]bool, visit func(d oci.Descriptor, doc []byte, err error) error) error {
	stack := []oci.Descriptor{root}
	for len(stack) > 0 {
		d := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := d.CheckData(); err != nil {
			return err
		}
		k := mention{d.Digest, d.Size, d.MediaType}
		if seen[k] {
			continue
		}
		seen[k] = true
		isDoc := oci.IsManifest(d.MediaType) || oci.IsIndex(d.MediaType)
		var doc []byte
		var refs []oci.Descriptor
		var err error
		if isDoc {
			if doc, err = ld.store.document(d); err == nil {
				refs, err = oci.References(d, doc)
			}
			if err != nil {
				doc = nil
			}
		}
		if err := visit(d, doc, err); err != nil {
			return err
		}
		for i := len(refs) - 1; i >= 0; i-- {
			stack = append(stack, refs[i])
		}
	}
	return nil
}

// readAll reads a document of at most the size that one may have.
func readAll(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, oci.MaxDocument+1))
	if err == nil && len(data) > oci.MaxDocument {
		err = fmt.Errorf("%s: over %d bytes: %w", name, oci.MaxDocument, oci.ErrMalformed)
	}
	return data, err
}

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
