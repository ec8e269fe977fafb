package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

// ErrNoImage means that a tar is not an archive of images.
var ErrNoImage = errors.New("not an image archive")

// LoadOptions say what to load.
type LoadOptions struct {
	Tag      string            // name the only image so; "" keeps the names in the archive
	Platform *oci.Platform     // of an image for several load the one for this platform alone
	DryRun   bool              // find out what the archive holds, and store nothing
	Notice   func(text string) // is told what the user should know; nil for nobody
}

// Load brings the images of the archive that r holds into a layout, and returns their entries of
// index.json. For a dry run l may be nil, for a layout that does not exist yet. r is read once, to its
// end, and may be compressed. An image that Docker wrote becomes one of OCI media types; its config and
// layers stay as they are, byte for byte.
//
// Either every image gets its names, or none does. None does if a member is damaged, absent, of
// another kind or outside of the archive, or if documents disagree. Blobs that came before the
// error stay in the layout, unnamed. Files that no document can name are passed over.
func Load(ctx context.Context, l *layout.Layout, r io.Reader, o LoadOptions) ([]oci.Descriptor, error) {
	var (
		hold  holder = newDocuments(ctx)
		store graph.Store
		x     oci.Index
	)
	if !o.DryRun {
		hold = inLayout{l}
	}

	a := newArchive("", hold, o.Notice)
	store = a
	if err := scanStream(ctx, r, a.c.take); err != nil {
		return nil, err
	}

	a.c.notices(a.notice)
	entries, err := a.images(ctx)
	if err != nil {
		return nil, err
	}

	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: %s lists none", ErrNoImage, indexFile)
	}

	// An archive may leave out what the layout has.
	if l != nil {
		store = graph.Either(a, l)
		if x, err = l.Index(); err != nil {
			return nil, err
		}
	}

	ld := &loader{store: store, notice: a.notice}
	if err := ld.check(entries, o.Platform); err != nil {
		return nil, err
	}

	// For one platform of several manifest.json may name another.
	if o.Platform == nil {
		if err := a.checkAgreement(ctx, entries); err != nil {
			return nil, err
		}
	}

	if entries, err = ld.name(entries, o.Tag, x); err != nil || o.DryRun {
		return entries, err
	}

	// Manifests that were made in memory become blobs when nothing is left that could be wrong.
	for _, doc := range a.made {
		if _, err := l.PutDocument(oci.MediaTypeManifest, doc); err != nil {
			return nil, err
		}
	}

	return entries, l.AddEntries(ctx, entries, graph.Rules{Sparse: true})
}

// A loader checks what an archive holds before it is named.
type loader struct {
	store  graph.Store
	notice func(format string, args ...any)
}

// check finds out whether what the entries name is whole; of indexes that of one platform, if one was
// asked for.
func (ld *loader) check(entries []oci.Descriptor, platform *oci.Platform) error {
	if platform != nil {
		if err := ld.selectPlatform(entries, platform); err != nil {
			return err
		}
	}

	w := graph.NewWalker(ld.store, graph.DefaultLimits())
	for _, e := range entries {
		if err := ld.checkWhole(e, w); err != nil {
			return err
		}
	}
	return nil
}

// selectPlatform puts the image for a platform in the place of each index. Others need not be in
// the archive.
func (ld *loader) selectPlatform(entries []oci.Descriptor, p *oci.Platform) error {
	for i, d := range entries {
		if !oci.IsIndex(d.MediaType) {
			continue
		}
		choice, err := graph.Choose(ld.store, d, p)
		if err != nil {
			return err
		}
		choice.Desc.Annotations = d.Annotations
		entries[i] = choice.Desc
	}
	return nil
}

// name gives the entries the names that they will have in a layout with the index x; the only one
// may get another tag.
func (ld *loader) name(entries []oci.Descriptor, tag string, x oci.Index) ([]oci.Descriptor, error) {
	if tag == "" {
		return nameEntries(entries, x)
	}
	if len(entries) != 1 {
		return nil, fmt.Errorf("the archive holds %d images: one name is not enough", len(entries))
	}
	return []oci.Descriptor{entries[0].WithAnnotation(oci.AnnotationRefName, tag)}, nil
}

// checkWhole checks that everything an image needs is there, of the right size, and that its
// layers are those that its config names, as far as digests tell. Images of an index may be
// absent, as long as one is there: Docker saves an index of several platforms with one of them.
func (ld *loader) checkWhole(desc oci.Descriptor, w *graph.Walker) error {
	rules := graph.Rules{Sparse: true}
	var absent []oci.Descriptor

	err := w.Walk([]oci.Descriptor{desc}, func(n graph.Node) error {
		d := n.Desc
		switch {
		// A platform that was left out is told of; its attestations went with it.
		case errors.Is(n.Err, graph.ErrNotFound) && n.Depth > 0:
			if !graph.IsAttestation(d) {
				absent = append(absent, d)
			}
			return nil
		case n.Err != nil:
			return n.Err
		case n.Doc == nil:
			state, err := rules.StateOf(ld.store, n.Parent.MediaType, d)
			if state == graph.Optional {
				err = nil
			}
			return err
		case oci.IsManifest(d.MediaType):
			return ld.checkLayers(d, n.Doc)
		}

		return nil
	})
	if err == nil && len(absent) > 0 {
		err = ld.checkSparse(desc, absent)
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", desc.Digest, graph.Incomplete(err))
	}

	return nil
}

// checkSparse reports whether one image at least of a sparse index is there, and says what is not.
func (ld *loader) checkSparse(desc oci.Descriptor, absent []oci.Descriptor) error {
	entries, err := graph.Entries(ld.store, desc)
	if err != nil {
		return err
	}

	if !slices.ContainsFunc(entries, func(d oci.Descriptor) bool { return isHere(ld.store, d) }) {
		return fmt.Errorf("manifest %s: %w", absent[0].Digest, graph.ErrNotFound)
	}

	ld.notice("%s is sparse: the archive does not hold %s", desc.Digest, namesOf(absent))
	return nil
}

func isHere(s graph.Store, d oci.Descriptor) bool {
	_, err := s.Stat(d.Digest)
	return err == nil
}

// namesOf lists images of an index: their platforms, or the digests of those without.
func namesOf(images []oci.Descriptor) string {
	var names []string
	for _, d := range images {
		name := d.Digest.String()
		if d.Platform != nil {
			name = d.Platform.String()
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// checkLayers compares the layers of a manifest with the diff IDs of its config. A layer that
// is not compressed is its own diff ID; what is, is not read.
func (ld *loader) checkLayers(desc oci.Descriptor, doc []byte) error {
	m, err := oci.DecodeManifest(desc, doc)
	if err != nil || !m.IsImage() {
		return err
	}

	config, err := graph.Config(ld.store, m.Config)
	if err != nil {
		return err
	}

	ids, err := config.DiffIDs()
	if err != nil {
		return err
	}

	// Annotations of the archive prove nothing. A plain tar is its own diff ID, if that is of the same
	// algorithm. Of others it is not known.
	layers := m.Layers
	for i, d := range layers {
		plain := d.MediaType == oci.MediaTypeLayer || d.MediaType == oci.MediaTypeDockerLayer
		if plain && i < len(ids) && ids[i].Algorithm() == d.Digest.Algorithm() {
			layers[i] = d.WithAnnotation(oci.AnnotationDiffID, d.Digest.String())
		} else {
			layers[i] = d.WithAnnotation(oci.AnnotationDiffID, "")
		}
	}

	return image.CheckConfig(config, layers)
}
