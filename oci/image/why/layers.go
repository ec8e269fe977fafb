package why

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/tarutil/diff"
)

// A layerList is the layers of an image, with the diff IDs that its config claims.
type layerList struct {
	descs []oci.Descriptor
	ids   []digest.Digest
	image oci.Descriptor
	files bool // the layers are tars that make up a file system
}

// layersOf returns the layers of a manifest. Those of an artifact or an attestation are any blobs.
func layersOf(d document, m oci.Manifest, ids []digest.Digest) layerList {
	other := func(l oci.Descriptor) bool { return !oci.IsLayer(l.MediaType) }
	return layerList{m.Layers, ids, d.desc, m.IsImage() && !slices.ContainsFunc(m.Layers, other)}
}

// A layer is one of a list.
type layer struct {
	oci.Descriptor
	diffID digest.Digest // zero if the config claims none
}

func (l layerList) at(i int) layer {
	if i < len(l.ids) {
		return layer{l.descs[i], l.ids[i]}
	}
	return layer{Descriptor: l.descs[i]}
}

// same reports whether two layers hold the same tar, as far as digests tell.
func (l layerList) same(i int, o layerList, j int) bool {
	return l.descs[i].Digest == o.descs[j].Digest ||
		len(l.ids) == len(l.descs) && len(o.ids) == len(o.descs) && l.ids[i] == o.ids[j]
}

// layers compares the layers of two images.
func (r *run) layers(where []string, a, b layerList, twin func(string, string, string) bool) error {
	if r.documentsOnly {
		return r.layerMembers(inside(where, "manifest"), a.descs, b.descs, twin)
	}

	// Layers that are the same at both ends are paired. The rest, in the middle, tells what has
	// happened.
	head := 0
	for head < len(a.descs) && head < len(b.descs) && a.same(head, b, head) {
		head++
	}

	tail := 0
	for tail < len(a.descs)-head && tail < len(b.descs)-head && a.same(len(a.descs)-1-tail, b, len(b.descs)-1-tail) {
		tail++
	}

	restA, restB := len(a.descs)-head-tail, len(b.descs)-head-tail

	// Those in the middle have partners only if there are as many on both sides.
	for i := range a.descs {
		j := i
		if i >= head+restA {
			j = i - len(a.descs) + len(b.descs)
		} else if i >= head && restA != restB {
			continue
		}
		if err := r.layer(inside(where, fmt.Sprintf("layer %d", i)), a.at(i), b.at(j), twin); err != nil {
			return err
		}
	}

	switch {
	case restA == restB:
		r.layerOrder(where, a, b)
		return nil
	case restA == 0:
		r.dropHistory(where, restB)
		r.add(where, Cause{Kind: LayersThere, Count: restB, Path: fmt.Sprint(head), There: b.descs[head].Digest.String()})
		return nil
	case restB == 0:
		r.dropHistory(where, -restA)
		r.add(where, Cause{Kind: LayersHere, Count: restA, Path: fmt.Sprint(head), Here: a.descs[head].Digest.String()})
		return nil
	}

	if !a.files || !b.files {
		r.layerCount(inside(where, "manifest"), a.descs, b.descs)
		return nil
	}

	return r.layering(where, a, b)
}

// layerCount tells that one of two manifests has more layers.
func (r *run) layerCount(where []string, a, b []oci.Descriptor) {
	r.add(where, Cause{Kind: Member, Path: "/layers", Here: fmt.Sprint(len(a)), There: fmt.Sprint(len(b))})
}

// layerMembers compares what a manifest says of its layers.
func (r *run) layerMembers(where []string, a, b []oci.Descriptor, twin func(string, string, string) bool) error {
	for i := range min(len(a), len(b)) {
		before := len(r.causes)
		if err := r.descriptors(where, a[i], b[i], twin); err != nil {
			return err
		}
		for j := range r.causes[before:] {
			c := &r.causes[before+j]
			c.Path = fmt.Sprintf("/layers/%d%s", i, c.Path)
		}
	}
	if len(a) != len(b) {
		r.layerCount(where, a, b)
	}
	return nil
}

// dropHistory takes out that the history is longer by as many entries as there are more layers.
func (r *run) dropHistory(where []string, more int) {
	config := inside(where, "config")
	r.causes = slices.DeleteFunc(r.causes, func(c Cause) bool {
		return slices.Equal(c.Where, config) && c.More == more && strings.HasPrefix(c.Path, "/history/")
	})
}

// layerOrder makes one cause of the many that the same layers in another order give.
func (r *run) layerOrder(where []string, a, b layerList) {
	list := func(l layerList) (d []string) {
		for _, desc := range l.descs {
			d = append(d, desc.Digest.String())
		}
		return d
	}

	x, y := list(a), list(b)
	if slices.Equal(x, y) || !slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))) {
		return
	}

	prefix := inside(where, "layer ")
	r.causes = slices.DeleteFunc(r.causes, func(c Cause) bool {
		return len(c.Where) == len(prefix) && slices.Equal(c.Where[:len(where)], where) && strings.HasPrefix(c.Where[len(where)], "layer ")
	})

	r.add(where, Cause{Kind: LayerOrder, Count: len(x)})
}

// layer compares two layers.
func (r *run) layer(where []string, a, b layer, twin func(string, string, string) bool) error {
	x, y := a.Descriptor, b.Descriptor

	// A media type that says only how the blob is compressed follows from that.
	compression := func(p, here, there string) bool {
		s, okS := oci.ParseLayerType(here)
		t, okT := oci.ParseLayerType(there)
		return okS && okT && s.Foreign == t.Foreign && (s.Family == t.Family || twin(p, mustFamily(here, t), there)) && s.Compression != t.Compression
	}

	err := r.descriptors(where, x, y, func(p, here, there string) bool {
		return twin(p, here, there) || compression(p, here, there) && x.Digest != y.Digest
	})
	if err != nil {
		return err
	}

	if x.Digest == y.Digest {
		if !a.diffID.IsZero() && !b.diffID.IsZero() && a.diffID != b.diffID {
			r.add(where, Cause{Kind: ClaimedDiffID, Here: a.diffID.String(), There: b.diffID.String()})
		}
		return nil
	}

	before := len(r.causes)
	err = r.blobs(where, blobOf(r.a, x), blobOf(r.b, y))
	if errors.Is(err, graph.ErrNotFound) {
		// What was found half-way does not count where one side is absent.
		r.causes = r.causes[:before]
		_, errA := r.a.Stat(x.Digest)
		_, errB := r.b.Stat(y.Digest)
		r.absent(where, x, y, errA == nil, errB == nil)
		return nil
	}

	return err
}

// mustFamily returns a media type of a layer with the compression of another one, "" if there is none.
func mustFamily(mediaType string, like oci.LayerType) string {
	t, _ := oci.ParseLayerType(mediaType)
	t.Compression = like.Compression
	s, err := t.MediaType()
	if err != nil {
		return ""
	}
	return s
}

// layering compares the files of two images whose layers cannot be paired.
func (r *run) layering(where []string, a, b layerList) error {
	here := fmt.Sprint(len(a.descs))
	there := fmt.Sprint(len(b.descs))

	// The layers say nothing about each other, but the files that come of them may be the same.
	x, err := image.NewTree(r.a, a.image)
	if err != nil {
		return &SideError{There: false, Err: err}
	}

	y, err := image.NewTree(r.b, b.image)
	if err != nil {
		return &SideError{There: true, Err: err}
	}

	changes, err := diff.Trees(r.ctx, x, y, diff.Options{})
	if side := new(image.TreeError); errors.As(err, &side) {
		return &SideError{There: side.Tree == y, Err: side.Err}
	}
	if err != nil {
		return err
	}

	if changes.Len() == 0 {
		r.add(where, Cause{Kind: Layering, Here: here, There: there})
		return nil
	}

	r.add(where, Cause{Kind: Files, Here: here, There: there, Count: changes.Len(), Path: changes.At(0).Path})
	return nil
}
