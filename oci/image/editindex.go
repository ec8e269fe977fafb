package image

import (
	"encoding/json"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// An IndexEdit says how one index becomes another: entries go first, then others come.
type IndexEdit struct {
	RemovePlatforms []oci.Platform
	RemoveDigests   []digest.Digest
	Add             []oci.Descriptor // with their platforms
	Annotations     map[string]string
}

// EditIndex returns the index that the edit makes, and notices for the user. It stores nothing.
// Entries that stay, and members that it does not know, are as they were. An image that is removed
// takes its attestations with it. An entry that is there already is not added again. An entry that
// is to be removed but is not there gives [ErrNoLayer]. A second image for one platform is an
// error.
func EditIndex(store graph.Store, desc oci.Descriptor, e IndexEdit) (data []byte, notices []string, err error) {
	x, err := openIndex(store, desc)
	if err != nil {
		return nil, nil, err
	}

	gone, err := e.gone(store, x.Index)
	if err != nil {
		return nil, nil, err
	}

	var left []oci.Descriptor
	out := []json.RawMessage{}
	for i, d := range x.Manifests {
		about := d.Annotations.Get(oci.AnnotationAttested)
		switch {
		case gone[d.Digest.String()]:
		case graph.IsAttestation(d) && gone[about]:
			notices = append(notices, fmt.Sprintf("left out %s: it attests %s", d.Digest, about))
		default:
			left, out = append(left, d), append(out, x.raws[i])
		}
	}

	added, err := e.added(desc.MediaType, left)
	if err != nil {
		return nil, nil, err
	}
	out = append(out, added...)

	if x.doc["manifests"], err = oci.Encode(out); err != nil {
		return nil, nil, err
	}

	for key, value := range e.Annotations {
		if err := setAnnotation(x.doc, key, value); err != nil {
			return nil, nil, err
		}
	}

	data, err = oci.Encode(x.doc)
	return data, notices, err
}

// OneForEach returns the entries of a new index: one that comes twice, for the same platform, stands in it
// once. A second image for one platform is an error.
func OneForEach(entries []oci.Descriptor) ([]oci.Descriptor, error) {
	// A list may be long, so each is compared only with those of its digest, and those for its system and CPU.
	same, rivals := map[digest.Digest][]oci.Descriptor{}, map[[2]string][]oci.Descriptor{}
	var out []oci.Descriptor
	for _, d := range entries {
		if slices.ContainsFunc(same[d.Digest], func(o oci.Descriptor) bool { return sharePlatform(o, d) }) {
			continue
		}

		if p := d.Platform; p != nil && !graph.IsAttestation(d) {
			key := [2]string{p.OS, p.Architecture}
			if err := checkUse(rivals[key], d); err != nil {
				return nil, err
			}
			rivals[key] = append(rivals[key], d)
		}
		same[d.Digest], out = append(same[d.Digest], d), append(out, d)
	}
	return out, nil
}

// added returns the text of the entries that are new to an index of that type, where left stand already.
// An index keeps to one family.
func (e IndexEdit) added(mediaType string, left []oci.Descriptor) ([]json.RawMessage, error) {
	var out []json.RawMessage
	for _, d := range e.Add {
		if slices.ContainsFunc(left, func(l oci.Descriptor) bool { return l.Digest == d.Digest }) {
			continue
		}

		if oci.FamilyOf(d.MediaType) != oci.FamilyOf(mediaType) {
			return nil, fmt.Errorf("%s is of type %q, the index of type %q: %w", d.Digest, d.MediaType, mediaType, oci.ErrMalformed)
		}
		if err := checkUse(left, d); err != nil {
			return nil, err
		}

		raw, err := oci.Encode(bare(d))
		if err != nil {
			return nil, err
		}
		left, out = append(left, d), append(out, raw)
	}
	return out, nil
}

// An openedIndex is an index under edit: what it means, and the text of its members and of its entries, so
// that what no edit names stays as it was written.
type openedIndex struct {
	oci.Index
	data []byte
	doc  oci.Object
	raws []json.RawMessage
}

// openIndex reads an index for an edit. The specification asks for the list of manifests, and readers do
// without it: only an edit has to have something to write to.
func openIndex(store graph.Store, desc oci.Descriptor) (x openedIndex, err error) {
	if x.data, err = store.Document(desc); err != nil {
		return x, err
	}
	if x.Index, err = oci.DecodeIndex(desc, x.data); err != nil {
		return x, err
	}
	if x.doc, err = oci.ParseObject(x.data); err != nil {
		return x, err
	}

	list, ok := x.doc["manifests"]
	if !ok {
		return x, fmt.Errorf("index %s has no \"manifests\": %w", desc.Digest, oci.ErrMalformed)
	}
	err = json.Unmarshal(list, &x.raws)
	return x, err
}

// checkUse refuses an entry for the platform of another one: for a platform an index names one image, since
// engines find no other.
func checkUse(entries []oci.Descriptor, d oci.Descriptor) error {
	if i := slices.IndexFunc(entries, func(e oci.Descriptor) bool { return sameUse(e, d) }); i >= 0 {
		return fmt.Errorf("%s and %s would both be for %s: take one out first", entries[i].Digest, d.Digest, d.Platform)
	}
	return nil
}

// annotationZstd marks the second image for a platform, with layers in zstd, that podman pushes with
// --add-compression: the engines that know it take that one.
const annotationZstd = "io.github.containers.compression.zstd"

// sameUse reports whether two entries are images for one platform.
func sameUse(a, b oci.Descriptor) bool {
	return a.Platform != nil && b.Platform != nil && sharePlatform(a, b) &&
		!graph.IsAttestation(a) && !graph.IsAttestation(b) &&
		a.Annotations.Get(annotationZstd) == b.Annotations.Get(annotationZstd)
}

// sharePlatform reports whether two entries say that they are for one platform, or both say nothing of it.
func sharePlatform(a, b oci.Descriptor) bool {
	if a.Platform == nil || b.Platform == nil {
		return a.Platform == b.Platform
	}
	return a.Platform.Matches(*b.Platform) && b.Platform.Matches(*a.Platform) &&
		slices.Equal(a.Platform.OSFeatures, b.Platform.OSFeatures)
}

// gone returns the digests of the entries that are to go.
func (e IndexEdit) gone(store graph.Store, x oci.Index) (map[string]bool, error) {
	gone := map[string]bool{}
	for _, d := range e.RemoveDigests {
		if !slices.ContainsFunc(x.Manifests, func(m oci.Descriptor) bool { return m.Digest == d }) {
			return nil, notInImage("the index does not name %s", d)
		}
		gone[d.String()] = true
	}

	for _, wish := range e.RemovePlatforms {
		found := false
		for _, m := range x.Manifests {
			p := m.Platform
			if p == nil { // then its config says so, if it is there
				p, _ = graph.PlatformOf(store, m)
			}
			if p != nil && p.Matches(wish) {
				found, gone[m.Digest.String()] = true, true
			}
		}
		if !found {
			return nil, notInImage("the index has no image for %s", wish)
		}
	}

	return gone, nil
}
