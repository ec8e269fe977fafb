package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/tarutil"
	"ocikit/tarutil/estargz"
)

// ConvertOptions say what to convert to.
type ConvertOptions struct {
	Layer  LayerOptions // how layers are stored; [Keep] leaves them as they are
	Again  bool         // compress layers anew that are compressed in this way already
	Family *oci.Family  // the media types to write; nil: as they are
	Dry    bool         // find out what layers would be, and store nothing
}

// A Converter changes how images are written, not what they hold: the compression of layers, the
// family of media types. Diff IDs, history, annotations and unknown members stay. Only eStargz
// gives other diff IDs, since it adds files to the tar of a layer. A layer that several images
// share is made once. Foreign layers, whose bytes are elsewhere, are left as they are.
type Converter struct {
	l    *layout.Layout
	o    ConvertOptions
	made map[digest.Digest]oci.Descriptor // by digest of the old layer
}

// NewConverter makes the layers that the images below desc need for a conversion, several at once.
// An impossible conversion is an error before the work begins: Docker has no type for zstd.
func NewConverter(ctx context.Context, l *layout.Layout, desc oci.Descriptor, platform *oci.Platform, o ConvertOptions) (*Converter, error) {
	c := &Converter{l: l, o: o, made: map[digest.Digest]oci.Descriptor{}}
	var todo []oci.Descriptor

	// This edit changes nothing. It visits the images that the conversion is for, and collects their
	// layers.
	_, err := Edit(l, desc, EditOptions{Platform: platform, Family: o.Family, Changes: []Change{func(im *Image) error {
		if err := im.needConfig(); err != nil {
			return err
		}
		if err := c.check(im); err != nil {
			return err
		}

		// Several images may have one layer.
		for _, d := range im.Layers() {
			if _, ok := c.made[d.Digest]; !ok && c.wants(d) {
				c.made[d.Digest] = oci.Descriptor{}
				todo = append(todo, d)
			}
		}
		return nil
	}}})
	if err != nil {
		return nil, err
	}

	return c, c.makeLayers(ctx, todo)
}

// check refuses what the media types of an image have no name for.
func (c *Converter) check(im *Image) error {
	family := im.family()
	if c.o.Family != nil {
		family = *c.o.Family
	}
	for _, d := range im.Layers() {
		t, _ := oci.ParseLayerType(d.MediaType)
		if c.wants(d) {
			t.Compression = compressionOf(c.o.Layer.Compression)
		}
		if t.Family = family; family == oci.FamilyDocker && t.Compression == oci.Zstd {
			return fmt.Errorf("layer %s: %w", d.Digest, errDockerZstd)
		}
	}
	return nil
}

var errDockerZstd = fmt.Errorf("Docker's media types have no name for zstd, and readers refuse such layers: %w", oci.ErrFamily)

func compressionOf(c Compression) oci.Compression {
	switch c {
	case Gzip, Estargz:
		return oci.Gzip
	case Zstd:
		return oci.Zstd
	}
	return oci.Uncompressed
}

// wants reports whether a layer is to be made anew.
func (c *Converter) wants(d oci.Descriptor) bool {
	t, ok := oci.ParseLayerType(d.MediaType)
	if !ok || t.Foreign || c.o.Layer.Compression == Keep {
		return false
	}
	_, star := d.Annotations.Find(estargz.TOCDigestAnnotation)
	same := t.Compression == compressionOf(c.o.Layer.Compression) && (star || c.o.Layer.Compression != Estargz)
	return !same || c.o.Again
}

// makeLayers makes the layers, as many at once as there are processors, up to four.
func (c *Converter) makeLayers(ctx context.Context, todo []oci.Descriptor) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	made := make([]oci.Descriptor, len(todo))
	slots := make(chan struct{}, min(runtime.GOMAXPROCS(0), 4))
	var wg sync.WaitGroup
	for i, d := range todo {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var err error
			if made[i], err = c.makeLayer(ctx, d); err != nil {
				cancel(fmt.Errorf("layer %s: %w", d.Digest, err)) // the first error counts
			}
		})
	}

	wg.Wait()
	for i, d := range todo {
		c.made[d.Digest] = made[i]
	}
	return context.Cause(ctx)
}

// makeLayer stores a layer in the new compression, and returns its descriptor with its diff ID.
func (c *Converter) makeLayer(ctx context.Context, d oci.Descriptor) (oci.Descriptor, error) {
	if err := context.Cause(ctx); err != nil {
		return d, err
	}

	if err := checkClear(d); err != nil {
		return d, err
	}

	made, got, err := c.encode(ctx, d)
	if err != nil {
		return d, err
	}

	// A conversion must not change what a layer holds.
	if want, _ := d.DiffID(); got != want {
		return d, fmt.Errorf("its diff ID is %s, the config says %s: %w", got, want, digest.ErrMismatch)
	}

	return made, nil
}

// encode stores a layer in the new compression. It returns the descriptor of what it stored, and the
// diff ID of what it read.
func (c *Converter) encode(ctx context.Context, d oci.Descriptor) (made oci.Descriptor, diffID digest.Digest, err error) {
	r, err := c.l.Blob(d)
	if err != nil {
		return made, diffID, graph.Incomplete(err)
	}
	defer r.Close()

	tar, _, err := tarutil.Decompress(r)
	if err != nil {
		return made, diffID, err
	}

	to, o := c.l, c.o.Layer
	if c.o.Dry {
		to = nil
	}

	o.AllowNoEnd = true // as old Docker layers are
	w, err := NewLayerWriter(to, o)
	if err != nil {
		return made, diffID, err
	}
	defer w.Abort()

	// An eStargz layer has a diff ID of its own, so there the input is hashed.
	sum := digest.NewHasher(digest.SHA256)
	if o.Compression == Estargz {
		tar = io.TeeReader(tar, sum)
	}

	if _, err := oci.CopyUntil(ctx, w, tar); err != nil {
		return made, diffID, err
	}

	// Bytes behind the compressed data belong to the blob, and its digest is verified only at its
	// end.
	if _, err := oci.CopyUntil(ctx, io.Discard, r); err != nil {
		return made, diffID, err
	}

	made, err = w.Commit()
	if diffID, _ = made.DiffID(); o.Compression == Estargz {
		diffID = sum.Digest()
	}

	return made, diffID, err
}

// Change is the [Change] that converts an image. Its layers were made by [NewConverter].
func (c *Converter) Change(im *Image) error {
	if err := im.needConfig(); err != nil {
		return err
	}

	family := im.family()
	if c.o.Family != nil {
		family = *c.o.Family
	}

	sameDiffIDs := true
	for i, old := range im.layers {
		made, ok := c.made[old.desc.Digest]
		if !ok || made.Digest == old.desc.Digest {
			continue
		}
		if err := im.swap(&im.layers[i], made, family); err != nil {
			return err
		}

		sameDiffIDs = sameDiffIDs && old.diffID() == im.layers[i].diffID()
	}

	// Types come last: what was zstd may have none in the new family.
	if err := im.convert(family); err != nil {
		return err
	}

	// setLayers writes the diff IDs into the config. Where they are the same the config stays byte
	// for byte.
	if !sameDiffIDs {
		history, err := im.Config.HistoryEntries()
		if err != nil {
			return err
		}
		return im.setLayers(im.layers, history)
	}

	return im.encodeLayers()
}

// swap puts a layer that was made of another in its place.
func (im *Image) swap(l *layer, made oci.Descriptor, family oci.Family) (err error) {
	old, content := l.desc.Digest, l.diffID()
	if made.MediaType, err = family.MediaType(made.MediaType); err != nil {
		return err
	}

	id, _ := made.DiffID()
	if l.raw, err = replaceLayer(l.raw, made, id == content); err != nil {
		return err
	}

	l.desc = made
	im.added = append(im.added, Step{Action: "layer", Descriptor: made, Replaces: old})
	return nil
}

// aboutBytes begin the keys of annotations that tell of the very bytes of a blob: where in it the table
// of contents is, and the digest of that. Readers that find them read the blob by them.
var aboutBytes = []string{"containerd.io/snapshot/", "io.containers.estargz.", "io.containers.zstd-chunked.", "io.github.containers.zstd-chunked."}

// aboutContent are the keys of annotations that tell of the uncompressed tar of a layer.
var aboutContent = []string{oci.AnnotationDiffID, "ci.umo.uncompressed_blob_size"}

// replaceLayer lets the descriptor of a layer name another blob. What told of the old bytes goes: where
// they are, and tables of contents; and what told of the old content, unless it is the same.
func replaceLayer(raw json.RawMessage, made oci.Descriptor, same bool) (json.RawMessage, error) {
	raw, err := replaceDescriptor(raw, made, nil)
	if err != nil {
		return nil, err
	}

	return editDescriptor(raw, func(o oci.Object) {
		delete(o, "urls")
		delete(o, "data")
		a, err := annotations(o)
		if err != nil {
			return
		}

		maps.DeleteFunc(a, func(key string, _ json.RawMessage) bool {
			isStale := func(prefix string) bool { return strings.HasPrefix(key, prefix) }
			return slices.ContainsFunc(aboutBytes, isStale) || !same && slices.Contains(aboutContent, key)
		})

		for _, made := range bare(made).Annotations {
			a[made.Name] = encodeText(made.Value)
		}

		if delete(o, "annotations"); len(a) > 0 {
			o["annotations"], _ = oci.Encode(a)
		}
	})
}

// Left is something that still names what an edit has replaced.
type Left struct {
	Digest digest.Digest // what it names
	Tag    string        // the name in index.json, or
	Desc   oci.Descriptor
	Base   bool // Desc is an image that is built on it; else it refers to it, as a signature does
}

// LeftBehind returns what in the store still names the manifests that a plan replaces: tags,
// referrers, and images that are built on them.
func LeftBehind(store graph.Store, x oci.Index, p *Plan) ([]Left, error) {
	replaced := map[digest.Digest]bool{}
	var images []oci.Descriptor
	for _, s := range p.Steps {
		if s.Action == "manifest" || s.Action == "index" {
			replaced[s.Replaces] = true
			images = append(images, oci.Descriptor{MediaType: s.Descriptor.MediaType, Digest: s.Replaces})
		}
	}

	var left []Left
	for _, e := range x.Manifests {
		if tag := e.Annotations.Get(oci.AnnotationRefName); tag != "" && replaced[e.Digest] {
			left = append(left, Left{Digest: e.Digest, Tag: tag})
		}
	}

	// The plan does not say how long the old documents are, and the search has to read them.
	for i, d := range images {
		if known, err := graph.Describe(store, d.Digest); err == nil {
			images[i] = known
		}
	}

	found, err := graph.Referrers(store, x.Manifests, images)
	if err != nil {
		return left, err
	}

	for _, r := range found {
		if replaced[r.Subject] && !r.List {
			left = append(left, Left{Digest: r.Subject, Desc: r.Desc})
		}
	}

	based, err := builtOn(store, x, replaced)
	return append(left, based...), err
}

// builtOn returns the images that are built on some. An image names its base in an annotation, by the
// digest alone, so every manifest is looked at.
func builtOn(store graph.Store, x oci.Index, bases map[digest.Digest]bool) (found []Left, err error) {
	err = graph.Documents(store, x.Manifests, func(n graph.Node) error {
		if n.Doc == nil || !oci.IsManifest(n.Desc.MediaType) {
			return nil
		}
		m, err := oci.DecodeManifest(n.Desc, n.Doc)
		if err != nil {
			return nil // a damaged one is built on nothing
		}
		base, err := digest.Parse(m.Annotations.Get(annotationBaseDigest))
		if err == nil && bases[base] {
			found = append(found, Left{Digest: base, Desc: n.Desc, Base: true})
		}
		return nil
	})

	return found, err
}

// IsDockerZstd reports whether an error says that Docker's types have no name for zstd.
func IsDockerZstd(err error) bool { return errors.Is(err, errDockerZstd) }
