package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// An editor edits one tree of manifests, each once.
type editor struct {
	l      graph.Store
	o      EditOptions
	plan   *Plan
	only   digest.Digest // if not zero: the only manifest to edit
	done   map[digest.Digest]edited
	images int
	hits   []bool  // by change: it fitted an image
	misses []error // by change: why it did not fit one
}

// edited is what became of a manifest.
type edited struct {
	desc     oci.Descriptor
	data     []byte
	platform *oci.Platform // if it is another one now
}

// edit returns what becomes of an index or a manifest, below as many indexes as depth says. Anything
// else stays as it is.
func (e *editor) edit(desc oci.Descriptor, depth int) (edited, error) {
	if got, ok := e.done[desc.Digest]; ok {
		return got, nil
	}

	// Platform and annotations belong to the index that names the manifest, and stay there.
	same := edited{desc: oci.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: desc.ArtifactType}}
	var got edited
	var err error
	switch {
	case depth > 0 && oci.IsDocument(desc.MediaType) && e.isAbsent(desc):
		got = e.lack(desc, same)
	case oci.IsIndex(desc.MediaType):
		got, err = e.index(desc, same, depth)
	case oci.IsManifest(desc.MediaType) && (e.only.IsZero() || e.only == desc.Digest):
		got, err = e.manifest(desc, same, depth)
	default:
		got = same
	}

	if err != nil {
		return edited{}, err
	}

	e.done[desc.Digest] = got
	return got, nil
}

func (e *editor) manifest(desc oci.Descriptor, same edited, depth int) (edited, error) {
	if graph.IsAttestation(desc) {
		return same, nil
	}

	im, err := open(e.l, desc)
	if err != nil {
		return edited{}, err
	}

	if im.Config == nil && depth > 0 {
		return same, nil // an artifact beside the images
	}

	e.images++
	before, err := im.Platform()
	if err != nil {
		return edited{}, err
	}

	// These are for what the user named: the manifest itself, or the one for a platform.
	var top []Change
	if depth == 0 || e.only == desc.Digest {
		top = e.o.Top
	}
	where := func(err error) error {
		if depth == 0 {
			return err
		}
		return fmt.Errorf("image %s for %s: %w", desc.Digest, before, err)
	}
	if err := e.change(im, top, where); err != nil {
		return edited{}, err
	}

	got, err := e.encode(im, desc, same, before)
	if err != nil {
		err = where(err)
	}
	return got, err
}

// encode returns what became of a manifest, and notes the steps that store it. before is the platform that
// the image had.
func (e *editor) encode(im *Image, desc oci.Descriptor, same edited, before oci.Platform) (edited, error) {
	// The config comes first, since the manifest names it.
	config, err := im.configStep()
	if err != nil {
		return edited{}, err
	}

	original, err := e.l.Document(desc)
	if err != nil {
		return edited{}, err
	}

	// A manifest that says the same keeps its bytes, and its digest.
	data, changed, err := encodeChanged(im.doc, original)
	if err != nil || !changed {
		return same, err
	}

	after, err := im.Platform()
	if err != nil {
		return edited{}, err
	}

	got := edited{desc: oci.DescribeWith(desc.Digest.Algorithm(), im.desc.MediaType, data), data: data}
	got.desc.ArtifactType = artifactType(im.doc, same.desc.ArtifactType, im.m.ArtifactType)
	name := ""
	if im.Config != nil {
		name = after.String()
		if before.String() != name {
			got.platform = &after
		}
	}

	e.note(im, config, Step{Action: "manifest", Descriptor: got.desc, Replaces: desc.Digest, Platform: name, data: data})
	return got, nil
}

// change applies the changes to an image, and those of top. where says in errors which image it is.
func (e *editor) change(im *Image, top []Change, where func(error) error) error {
	// A change that does not fit this image may fit another one of the index. Edit decides that at
	// the end.
	for i, change := range e.o.Changes {
		switch err := change(im); {
		case errors.Is(err, oci.ErrAbsent):
			e.misses[i] = where(err)
		case err != nil:
			return where(err)
		default:
			e.hits[i] = true
		}
	}

	for _, change := range top {
		if err := change(im); err != nil {
			return where(err)
		}
	}
	return nil
}

// note adds to the plan what is done for an image. Steps stand children first: layers, config, manifest.
func (e *editor) note(im *Image, config []Step, manifest Step) {
	for _, s := range im.added {
		e.plan.addLayer(s)
	}

	e.plan.Notices = append(e.plan.Notices, im.notices...)
	for _, s := range append(im.told, config...) {
		s.Platform = manifest.Platform
		e.plan.Steps = append(e.plan.Steps, s)
	}

	e.plan.Steps = append(e.plan.Steps, manifest)
}

// lack leaves an entry of an index as it is, since the store lacks it: that is not a reason to refuse
// an edit of the other images. A notice tells of what the edit was meant for.
func (e *editor) lack(desc oci.Descriptor, same edited) edited {
	e.plan.Sparse = true
	if e.only.IsZero() && !graph.IsAttestation(desc) {
		e.plan.Notices = append(e.plan.Notices, fmt.Sprintf("left %s as it is: it is not in the layout", describe(desc)))
	}
	return same
}

// isAbsent reports whether the store lacks a manifest, and not just something that it needs.
func (e *editor) isAbsent(desc oci.Descriptor) bool {
	_, err := e.l.Stat(desc.Digest)
	return errors.Is(err, graph.ErrNotFound) && desc.Data == nil
}

// describe names a manifest as an index knows it.
func describe(desc oci.Descriptor) string {
	if desc.Platform == nil {
		return desc.Digest.String()
	}
	return desc.Digest.String() + " for " + desc.Platform.String()
}

func (e *editor) index(desc oci.Descriptor, same edited, depth int) (edited, error) {
	x, err := openIndex(e.l, desc)
	if err != nil {
		return edited{}, err
	}

	raws, err := e.entries(x.Index, x.raws, depth)
	if err != nil {
		return edited{}, err
	}

	doc := x.doc
	if doc["manifests"], err = oci.Encode(raws); err != nil {
		return edited{}, err
	}

	// If one image alone is edited, the index keeps its family, as its other images do.
	mediaType := desc.MediaType
	if e.o.Family != nil && e.only.IsZero() {
		if mediaType, err = e.o.Family.MediaType(mediaType); err != nil {
			return edited{}, err
		}
		if mediaType != desc.MediaType {
			doc["mediaType"] = encodeText(mediaType)
		}
	}

	// Changes of the index come last, so they see what has become of its entries.
	if depth == 0 {
		changes := e.o.Index
		if e.only.IsZero() {
			changes = append(slices.Clone(e.o.Top), changes...)
		}
		if doc, err = e.editIndex(desc, doc, changes); err != nil {
			return edited{}, err
		}
	}

	data, changed, err := encodeChanged(doc, x.data)
	if err != nil || !changed {
		return same, err
	}

	got := edited{desc: oci.DescribeWith(desc.Digest.Algorithm(), mediaType, data), data: data}
	got.desc.ArtifactType = artifactType(doc, same.desc.ArtifactType, x.ArtifactType)
	e.plan.Steps = append(e.plan.Steps, Step{Action: "index", Descriptor: got.desc, Replaces: desc.Digest, data: data})
	return got, nil
}

// editIndex applies changes of the index itself, whose images are edited. What they add must be
// there.
func (e *editor) editIndex(desc oci.Descriptor, doc oci.Object, changes []Change) (oci.Object, error) {
	top := &Image{desc: desc, doc: doc}
	known := map[digest.Digest]bool{}
	list := func(visit func(oci.Descriptor) error) error {
		var entries []oci.Descriptor
		if err := json.Unmarshal(top.doc["manifests"], &entries); err != nil {
			return err
		}
		for _, d := range entries {
			if err := visit(d); err != nil {
				return err
			}
		}
		return nil
	}

	// Entries that are listed now are in the store, or made by this plan. Entries that a change adds
	// have to be looked for.
	if err := list(func(d oci.Descriptor) error { known[d.Digest] = true; return nil }); err != nil {
		return nil, err
	}

	for _, change := range changes {
		if err := change(top); err != nil {
			return nil, err
		}
	}

	return top.doc, list(func(d oci.Descriptor) error {
		if known[d.Digest] {
			return nil
		}
		return graph.Incomplete(graph.Check(e.l, d, graph.Rules{}))
	})
}

// artifactType returns what a descriptor says of that: as it was, unless the document has changed.
func artifactType(doc oci.Object, was, inside string) string {
	var now string
	json.Unmarshal(doc["artifactType"], &now)
	if now == inside {
		return was
	}
	return now
}

// entries edits the manifests of an index and returns its new list.
func (e *editor) entries(x oci.Index, raws []json.RawMessage, depth int) ([]json.RawMessage, error) {
	replaced := map[string]bool{} // digests of manifests that became others
	platforms := map[string]digest.Digest{}
	out := make([]json.RawMessage, 0, len(raws))
	for i, d := range x.Manifests {
		got, err := e.edit(d, depth+1)
		if err != nil {
			return nil, err
		}

		// An edit may give an image the platform of another one, and engines find one of them alone.
		if got.platform != nil {
			for _, other := range x.Manifests {
				if other.Digest != d.Digest && other.Platform != nil && e.done[other.Digest].platform == nil && other.Platform.String() == got.platform.String() {
					platforms[got.platform.String()] = other.Digest
				}
			}
			if twin, ok := platforms[got.platform.String()]; ok && twin != d.Digest {
				return nil, fmt.Errorf("%s and %s would both be for %s: name one with a platform", twin, d.Digest, got.platform)
			}
			platforms[got.platform.String()] = d.Digest
		}

		if got.desc.Digest != d.Digest {
			replaced[d.Digest.String()] = true
			if raws[i], err = replaceEntry(raws[i], got); err != nil {
				return nil, err
			}
		}
	}

	// An attestation names its image by the digest, so it says nothing about the new one.
	for i, d := range x.Manifests {
		if graph.IsAttestation(d) && replaced[d.Annotations.Get(oci.AnnotationAttested)] {
			e.plan.Notices = append(e.plan.Notices, fmt.Sprintf("left out %s: it attests %s, which the edit changes", d.Digest, d.Annotations.Get(oci.AnnotationAttested)))
			continue
		}
		out = append(out, raws[i])
	}

	return out, nil
}

// replaceEntry lets an entry of an index name what became of its manifest.
func replaceEntry(raw json.RawMessage, got edited) (json.RawMessage, error) {
	raw, err := replaceDescriptor(raw, got.desc, got.data)
	if err != nil {
		return raw, err
	}

	// An entry repeats the artifact type of its manifest (descriptor.md), so it follows.
	if raw, err = editDescriptor(raw, func(o oci.Object) {
		if delete(o, "artifactType"); got.desc.ArtifactType != "" {
			o["artifactType"] = encodeText(got.desc.ArtifactType)
		}
	}); err != nil || got.platform == nil {
		return raw, err
	}

	// So does the platform, where the config has the same members. The others stay.
	return editDescriptor(raw, func(o oci.Object) {
		var p oci.Object
		if json.Unmarshal(o["platform"], &p) != nil || p == nil {
			return // it names none, so readers ask the config
		}
		for name, value := range map[string]string{
			"os": got.platform.OS, "architecture": got.platform.Architecture,
			"variant": got.platform.Variant, "os.version": got.platform.OSVersion,
		} {
			if delete(p, name); value != "" {
				p[name] = encodeText(value)
			}
		}
		o["platform"], err = oci.Encode(p)
	})
}
