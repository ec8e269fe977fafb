package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive/layerdelta"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

// bundleType is the mediaType inside ocikit-bundle.json.
const bundleType = "application/vnd.ocikit.bundle.v1+json"

// A Blob is a blob that a bundle leaves out, or that an image lacks.
type Blob struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType,omitempty"`
	Size      int64         `json:"size"`
}

// A Wanted is an image and what is missing of it: what [Unbundle] asks for and
// [BundleOptions] take.
type Wanted struct {
	Missing []Blob         `json:"missing"`
	Root    oci.Descriptor `json:"root"` // its annotations hold the name
}

// bundleDoc is ocikit-bundle.json.
type bundleDoc struct {
	Deltas        []layout.Delta   `json:"deltas,omitempty"`
	MediaType     string           `json:"mediaType"`
	Omitted       []Blob           `json:"omitted"` // blobs that the images need and the bundle does not hold
	Roots         []oci.Descriptor `json:"roots"`   // the images, as index.json lists them
	SchemaVersion int              `json:"schemaVersion"`
}

// BundleOptions say what goes into a bundle.
type BundleOptions struct {
	Have        *Inventory      // blobs to leave out; nil for none
	Want        []Wanted        // if not nil: carry the missing blobs of these images, and no others
	Referrers   bool            // bring what refers to the images too
	Require     bool            // fail with [ErrNoReferrers] if nothing refers to one of them
	Rules       graph.Rules     // what of the images may be absent
	SameContent bool            // carry nothing of a layer whose contents the other side has, compressed in another way
	Delta       bool            // carry of other layers what is different from those that the other side has
	Bases       []source.Source // that have such layers too, beside those of the images
}

// ErrNoReferrers means that nothing refers to an image.
var ErrNoReferrers = errors.New("nothing refers to it")

// A BundlePlan says what a bundle will hold.
type BundlePlan struct {
	Plan      // Members are the files of the tar
	Roots     []oci.Descriptor
	Omitted   []Blob
	Deltas    []layout.Delta // layers that are left out, since the other side can make them
	Referrers int            // manifests that refer to the images

	candidates []layerAt // that a delta may replace
	deltas     []Member
	bases      *baseList
	unpacked   []*layerdelta.Tar // bases
	closers    []func()
	closing    sync.WaitGroup // of what was unpacked
	seen       map[digest.Digest]bool
	config     map[digest.Digest]bool
	claims     map[claim]bool           // that Roots have, also with no name
	named      map[string]digest.Digest // by Roots
	o          BundleOptions
	wanted     map[digest.Digest]bool
}

type layerAt struct {
	src  source.Source
	desc oci.Descriptor
}

// NewBundle works out a bundle: the tar of a layout that lists the images, and holds all their
// manifests, indexes and configs, and of other blobs those that the other side lacks. A blob that
// is carried must be in the source of its image, or NewBundle gives [graph.ErrIncomplete]. A blob
// that is left out need not be there.
//
// Programs that read layouts import a bundle like any other layout, provided that they have the
// rest. The caller closes the plan.
func NewBundle(ctx context.Context, images []Image, o BundleOptions) (*BundlePlan, error) {
	if o.Have == nil {
		o.Have = newInventory(nil)
	}

	b := &BundlePlan{
		Plan: Plan{format: OCI, have: map[string]string{}},
		seen: map[digest.Digest]bool{}, config: map[digest.Digest]bool{}, o: o,
		claims: map[claim]bool{}, named: map[string]digest.Digest{},
	}

	// A list of what is missing counts more than an inventory: the other side itself says what
	// it lacks.
	if o.Want != nil {
		b.wanted = map[digest.Digest]bool{}
		for _, w := range o.Want {
			for _, m := range w.Missing {
				b.wanted[m.Digest] = true
			}
		}
	}

	for _, im := range images {
		entry := im.Desc.WithAnnotation(oci.AnnotationDiffID, "").WithAnnotation(oci.AnnotationRefName, im.Tag).WithAnnotation(oci.AnnotationImageName, im.Name)
		if err := b.addRoot(ctx, im.Source, entry); err != nil {
			return nil, err
		}
	}

	if o.Referrers || o.Require {
		if err := b.addReferrers(ctx, images); err != nil {
			return nil, err
		}
	}

	var err error
	if o.SameContent || o.Delta {
		err = b.findDeltas(ctx)
	}
	if err == nil {
		err = b.finish()
	}
	if err != nil {
		b.Close() // what findDeltas made
		return nil, err
	}

	return b, nil
}

// addRoot lists an image, and adds its blobs. Of two entries for one name and image one is
// enough; two images of one name are an error.
func (b *BundlePlan) addRoot(ctx context.Context, src source.Source, entry oci.Descriptor) error {
	if !oci.IsDocument(entry.MediaType) {
		return fmt.Errorf("%s is of type %q, want a manifest or an index: %w", entry.Digest, entry.MediaType, oci.ErrMalformed)
	}
	c := claimOf(entry)
	if other, ok := b.named[c.name]; ok && c.name != "" && other != c.digest {
		return fmt.Errorf("%q would name two images: %s and %s", c.name, other, c.digest)
	}
	b.named[c.name] = c.digest
	if !b.claims[c] {
		b.Roots = append(b.Roots, entry)
	}
	b.claims[c], b.claims[claim{digest: c.digest}] = true, true // an entry without a name would say nothing more
	return b.addGraph(ctx, src, entry)
}

// entryName is what an entry of index.json is called.
func entryName(d oci.Descriptor) string {
	return cmp.Or(d.Annotations.Get(oci.AnnotationRefName), d.Annotations.Get(oci.AnnotationImageName))
}

func (b *BundlePlan) addGraph(ctx context.Context, src source.Source, root oci.Descriptor) error {
	return graph.Descend(src, []oci.Descriptor{root}, b.o.Rules, func(n graph.Node) error {
		d, doc := n.Desc, n.Doc
		if err := context.Cause(ctx); err != nil {
			return err
		}

		// A config may be of any media type: only its manifest tells that it is one. It travels
		// with the documents.
		if doc != nil && oci.IsManifest(d.MediaType) {
			m, err := oci.DecodeManifest(d, doc)
			if err != nil {
				return err
			}
			b.config[m.Config.Digest] = true
		}

		if b.seen[d.Digest] {
			return nil
		}
		b.seen[d.Digest] = true

		isDocument := doc != nil || b.config[d.Digest] && d.Size <= oci.MaxDocument
		return b.addBlob(src, d, isDocument)
	})
}

// addBlob carries a blob, or leaves it out.
func (b *BundlePlan) addBlob(src source.Source, d oci.Descriptor, isDocument bool) error {
	size, err := src.Stat(d.Digest)
	absent := errors.Is(err, graph.ErrNotFound)

	// Documents are carried even if the other side has them, so that the bundle tells by itself
	// what it is about. A blob that is absent here can only be left out.
	switch {
	case !isDocument && b.omits(d), absent && b.o.Have.has(d.Digest):
		b.Omitted = append(b.Omitted, Blob{d.Digest, d.MediaType, d.Size})
		return nil
	case absent && oci.IsForeignLayer(d.MediaType):
		b.notice("left out %s: a layer that is not distributed with its image, and not in the layout", d.Digest)
		return nil
	case absent && d.Data != nil: // most readers look for a file, so it gets one
		if err := d.CheckData(); err != nil {
			return fmt.Errorf("%q: %w", src.Name(), err)
		}
		size = d.Size
	case absent:
		return fmt.Errorf("%q: %w: blob %s: %v", src.Name(), graph.ErrIncomplete, d.Digest, graph.ErrNotFound)
	case err != nil:
		return err
	}

	if !graph.Fits(size, d) {
		return fmt.Errorf("%q: blob %s: got %d bytes, want %d: %w", src.Name(), d.Digest, size, d.Size, digest.ErrMismatch)
	}

	m := Member{Path: blobPath(d.Digest), Size: d.Size, Digest: d.Digest, src: src, desc: d}
	if isDocument {
		b.docs = append(b.docs, m)
		return nil
	}

	b.Plan.layers = append(b.Plan.layers, m)
	b.candidates = append(b.candidates, layerAt{src, d})
	return nil
}

func (b *BundlePlan) omits(d oci.Descriptor) bool {
	if b.wanted != nil {
		return !b.wanted[d.Digest]
	}
	return b.o.Have.has(d.Digest)
}

func (b *BundlePlan) addReferrers(ctx context.Context, images []Image) error {
	found, n, err := Referrers(images, b.o.Require)
	if err != nil {
		return err
	}
	b.Referrers = n
	for i, im := range images {
		for _, r := range found[i] {
			if err := b.addRoot(ctx, im.Source, r.Desc); err != nil {
				return fmt.Errorf("referrer %s: %w", r.Desc.Digest, err)
			}
		}
	}
	return nil
}

// finish sets the members: what says what the bundle is, documents, the rest.
func (b *BundlePlan) finish() error {
	b.images = nil
	doc := bundleDoc{MediaType: bundleType, Omitted: b.Omitted, Deltas: b.Deltas, Roots: b.Roots, SchemaVersion: 1}
	if doc.Omitted == nil {
		doc.Omitted = []Blob{}
	}
	slices.SortFunc(doc.Omitted, func(x, y Blob) int { return digest.Compare(x.Digest, y.Digest) })

	index := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: b.Roots}
	docs := []controlFile{{layoutFile, map[string]string{"imageLayoutVersion": oci.LayoutVersion}}, {indexFile, index}, {bundleFile, doc}}
	return b.arrange(docs, slices.Concat(b.docs, b.Plan.layers, b.deltas))
}

// MediaType returns the media type of a blob, and "" for any other file.
func (m Member) MediaType() string { return m.desc.MediaType }

// ReadWanted reads a list of what is missing, as [Unbundle] returns it: a JSON array.
func ReadWanted(r io.Reader) ([]Wanted, error) {
	data, err := readAll(r, "the list")
	if err != nil {
		return nil, err
	}

	// The strict decoder reads objects, so the array is read as the only member of one.
	var list struct {
		Want []Wanted `json:"want"`
	}
	wrapped := append(append([]byte(`{"want":`), data...), '}')
	if err := oci.Decode(wrapped, &list); err != nil {
		return nil, fmt.Errorf("not a list of what is missing: %w", err)
	}

	if len(list.Want) == 0 {
		return nil, errors.New("the list names no image")
	}

	for _, w := range list.Want {
		if w.Root.Digest.IsZero() {
			return nil, fmt.Errorf("not a list of what is missing: an image without a descriptor: %w", oci.ErrMalformed)
		}
		for _, m := range w.Missing {
			if m.Digest.IsZero() {
				return nil, fmt.Errorf("not a list of what is missing: a blob without a digest: %w", oci.ErrMalformed)
			}
		}
	}

	return list.Want, nil
}
