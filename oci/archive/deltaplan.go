package archive

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive/layerdelta"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/source"
	"ocikit/tarutil"
	"ocikit/tarutil/delta"
)

// Bounds of what layers are compared with, for the time and the disk that it takes.
const (
	maxBases    = 64
	maxBaseSize = 16 << 30 // of their blobs
)

// baseList is what layers are compared with.
type baseList struct {
	names []layout.DeltaBase
	*layerdelta.Bases
}

// findDeltas finds layers to carry that the other side can make: of the same contents under
// another digest, or else of what is different from what it has.
func (b *BundlePlan) findDeltas(ctx context.Context) error {
	// Large files take a while to be removed.
	defer func() {
		for _, t := range b.unpacked {
			b.closing.Go(t.Close)
		}
	}()

	ids, same := b.contents()
	for _, at := range b.candidates {
		if !oci.IsLayer(at.desc.MediaType) {
			continue
		}

		// If an image says which contents a layer has, and nobody has these, they need no hash.
		how := unpacking(layerdelta.Unpack)
		if id, known := ids[at.desc.Digest]; known && b.o.Delta && same[id].IsZero() {
			how = layerdelta.UnpackPlain
		}
		if err := b.addDelta(ctx, at, how, same); err != nil {
			return err
		}
	}
	return nil
}

// addDelta carries a delta in place of a layer, if there is one and it is smaller.
func (b *BundlePlan) addDelta(ctx context.Context, at layerAt, how unpacking, same map[digest.Digest]digest.Digest) error {
	t, err := b.unpackWithBases(ctx, at, how)
	if tarutil.IsUnsupported(err) {
		b.notice("carrying %s whole: %v", at.desc.Digest, err)
		return nil
	}

	if err != nil {
		return err
	}
	defer b.closing.Go(t.Close)

	// The other side may have the same contents in another compression. The tar is its own base
	// then, and the delta says no more than how to compress it.
	list := &baseList{}
	if from, ok := same[t.DiffID]; ok && from != at.desc.Digest {
		list.names = []layout.DeltaBase{{Digest: from, Size: t.Size}}
		list.Bases = layerdelta.NewBases(t)
	} else if !b.o.Delta {
		return nil
	} else if list, err = b.basesFor(ctx, t); err != nil {
		return err
	}

	if len(list.names) == 0 {
		b.notice("carrying %s whole: no layer that the other side has is here to compare it with", at.desc.Digest)
		return nil
	}

	f, err := layerdelta.Temp()
	if err != nil {
		return err
	}

	layer := layerdelta.Layer{Digest: at.desc.Digest, Size: at.desc.Size, Tar: t, Open: func() (io.ReadCloser, error) { return at.src.Blob(at.desc) }}
	encoder, err := layerdelta.Make(ctx, f.File, layer, list.Bases)
	if err == nil {
		err = b.replace(at, f.File, layout.Delta{Digest: at.desc.Digest, MediaType: at.desc.MediaType, Size: at.desc.Size, TarSize: t.Size, Encoder: encoder, Bases: list.names})
	}
	if err != nil {
		// A delta that is of no use is not a failure: the layer travels whole.
		f.Close()
		if errors.Is(err, layerdelta.ErrNoUse) {
			b.notice("carrying %s whole: %v", at.desc.Digest, err)
			return nil
		}
		return err
	}

	b.closers = append(b.closers, func() { f.Close() })
	return nil
}

// unpackWithBases uncompresses a layer, and meanwhile the bases, if these are not there yet.
func (b *BundlePlan) unpackWithBases(ctx context.Context, at layerAt, how unpacking) (*layerdelta.Tar, error) {
	if !b.o.Delta {
		return unpack(ctx, at, how)
	}

	type result struct {
		t   *layerdelta.Tar
		err error
	}
	done := make(chan result, 1)
	go func() {
		t, err := unpack(ctx, at, how)
		done <- result{t, err}
	}()

	b.baseLayers(ctx) // an error comes again where they are needed
	r := <-done
	return r.t, r.err
}

// replace carries the delta in f instead of a layer.
func (b *BundlePlan) replace(at layerAt, f *os.File, d layout.Delta) error {
	h := digest.NewHasher(digest.SHA256)
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = io.Copy(h, io.NewSectionReader(f, 0, size))
	}
	if err != nil {
		return err
	}
	d.Delta, d.DeltaSize = h.Digest(), size
	b.Deltas = append(b.Deltas, d)
	b.Omitted = append(b.Omitted, Blob{at.desc.Digest, at.desc.MediaType, at.desc.Size})
	b.Plan.layers = slices.DeleteFunc(b.Plan.layers, func(m Member) bool { return m.Digest == at.desc.Digest })
	b.deltas = append(b.deltas, Member{Path: blobPath(d.Delta), Size: size, Digest: d.Delta, desc: oci.Descriptor{MediaType: layerdelta.MediaType}, file: f})
	return nil
}

// Close removes the temporary files that the bundle holds. It can be saved no longer.
func (b *BundlePlan) Close() {
	for _, f := range b.closers {
		f()
	}
	b.closers = nil
	b.closing.Wait()
}

// sources are where layers are looked for.
func (b *BundlePlan) sources() []source.Source {
	var all, list []source.Source
	for _, at := range b.candidates {
		all = append(all, at.src)
	}
	for _, s := range append(all, b.o.Bases...) {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// contents returns the diff IDs of layers as images in the sources here say, and what the other side
// has by diff ID: as they say, and as its inventory does. A plain tar is its own diff ID.
func (b *BundlePlan) contents() (ids diffIDs, from map[digest.Digest]digest.Digest) {
	items := map[digest.Digest]Item{}
	for _, it := range b.o.Have.Items {
		items[it.Digest] = it
	}

	ids = diffIDs{}
	for _, src := range b.sources() {
		if x, err := src.Index(); err == nil {
			ids.find(src, x.Manifests)
		}
	}
	ids.addTo(items)

	// Of several blobs with one diff ID the lowest digest counts, so that the bundle is the
	// same every time.
	from = map[digest.Digest]digest.Digest{}
	for _, it := range items {
		for _, id := range []digest.Digest{it.Digest, it.DiffID} {
			if id.IsZero() {
				continue
			}
			if was, ok := from[id]; !ok || digest.Compare(it.Digest, was) < 0 {
				from[id] = it.Digest
			}
		}
	}

	return ids, from
}

// basesFor returns what a tar is compared with: the layers that both sides have, or if there are
// none, the chunks of those that the other side has.
func (b *BundlePlan) basesFor(ctx context.Context, t *layerdelta.Tar) (*baseList, error) {
	list, err := b.baseLayers(ctx)
	if err != nil || len(list.names) > 0 {
		return list, err
	}

	list = &baseList{}
	var known delta.Known
	for _, it := range b.o.Have.Items {
		if it.Chunks == nil || len(list.names) == maxBases {
			continue
		}
		var size int64
		for _, c := range it.Chunks {
			size += int64(c.Size)
		}
		known.Add(it.Chunks)
		list.names = append(list.names, layout.DeltaBase{Digest: it.Digest, Size: size})
	}

	blind, err := known.Bases(ctx, t.Part(), t.Size)
	list.Bases = &layerdelta.Bases{Bases: blind}
	return list, err
}

// baseLayers unpacks the layers that both sides have, once.
func (b *BundlePlan) baseLayers(ctx context.Context) (*baseList, error) {
	if b.bases != nil {
		return b.bases, nil
	}

	list := &baseList{}
	var parts []layerdelta.Base
	var size int64
	for _, at := range b.commonLayers() {
		if size += at.desc.Size; len(parts) == maxBases || size > maxBaseSize {
			b.notice("comparing with the %d largest layers that both sides have: with more it would take too long", len(parts))
			break
		}
		t, err := unpack(ctx, at, layerdelta.UnpackPlain)
		if tarutil.IsUnsupported(err) {
			continue
		}
		if err != nil {
			return nil, err
		}

		// Each layer to carry is compared with all of them, so they stay unpacked.
		b.unpacked = append(b.unpacked, t)
		list.names = append(list.names, layout.DeltaBase{Digest: at.desc.Digest, Size: t.Size})
		parts = append(parts, t)

		// A registry would be asked again and again.
		if !source.Remote(at.src) {
			blob, err := at.src.BlobAt(at.desc)
			if err != nil {
				return nil, err
			}
			t.Keep(blob)
		}
	}

	list.Bases = layerdelta.NewBases(parts...)
	b.bases = list
	return list, nil
}

// commonLayers returns the layers of images here that the other side has, the largest first.
func (b *BundlePlan) commonLayers() []layerAt {
	found := map[digest.Digest]layerAt{}
	for _, src := range b.sources() {
		x, err := src.Index()
		if err != nil {
			continue
		}
		graph.Scan(src, x.Manifests, func(n graph.Node) error {
			d := n.Desc
			if _, known := found[d.Digest]; known || n.Err != nil || !oci.IsLayer(d.MediaType) || !b.o.Have.has(d.Digest) {
				return nil
			}
			if size, err := src.Stat(d.Digest); err == nil && graph.Fits(size, d) {
				found[d.Digest] = layerAt{src, d}
			}
			return nil
		})
	}

	// A large layer is likely to save much, and there is a bound to how many are compared.
	return slices.SortedFunc(maps.Values(found), func(x, y layerAt) int {
		return cmp.Or(cmp.Compare(y.desc.Size, x.desc.Size), digest.Compare(x.desc.Digest, y.desc.Digest))
	})
}

// An unpacking is one of the ways of layerdelta to uncompress a layer.
type unpacking func(context.Context, io.Reader) (*layerdelta.Tar, error)

func unpack(ctx context.Context, at layerAt, how unpacking) (*layerdelta.Tar, error) {
	r, err := at.src.Blob(at.desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return how(ctx, r)
}
