package image

import (
	"encoding/json"
	"errors"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// maxNesting bounds how deep indexes may nest in what is edited.
const maxNesting = 16

// An editor edits one tree of manifests, each once.
type editor struct {
	l      *layout.Layout
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

func (e *editor) edit(desc oci.Descriptor, depth int) (edited, error) {
	if got, ok := e.done[desc.Digest]; ok {
		return got, nil
	}
	if depth > maxNesting {
		return edited{}, fmt.Errorf("index %s: nested deeper than %d: %w", desc.Digest, maxNesting, oci.ErrMalformed)
	}
	same := edited{desc: oci.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: desc.ArtifactType}}
	var got edited
	var err error
	switch {
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
	if desc.Annotations[oci.AnnotationAttestation] != "" {
		return same, nil
	}
	im, err := Open(e.l, desc)
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
	for i, change := range e.o.Changes {
		switch err := change(im); {
		case errors.Is(err, oci.ErrAbsent):
			e.misses[i] = e.where(desc, before, depth, err)
		case err != nil:
			return edited{}, e.where(desc, before, depth, err)
		default:
			e.hits[i] = true
		}
	}
	config, err := im.configStep()
	if err != nil {
		return edited{}, err
	}
	original, err := e.l.Document(desc)
	if err != nil {
		return edited{}, err
	}
	data, changed, err := encodeChanged(im.doc, original)
	if err != nil || !changed {
		return same, err
	}
	after, err := im.Platform()
	if err != nil {
		return edited{}, err
	}
	got := edited{desc: oci.Describe(im.desc.MediaType, data), data: data}
	got.desc.ArtifactType = same.desc.ArtifactType
	name := ""
	if im.Config != nil {
		name = after.String()
		if before.String() != name {
			got.platform = &after
		}
	}
	for _, d := range im.added {
		e.plan.addLayer(d)
	}
	for _, s := range config {
		s.Platform = name
		e.plan.Steps = append(e.plan.Steps, s)
	}
	e.plan.Steps = append(e.plan.Steps, Step{Action: "manifest", Descriptor: got.desc, Replaces: desc.Digest, Platform: name, data: data})
	return got, nil
}

// where adds to an error which image of several it is about.
func (e *editor) where(desc oci.Descriptor, p oci.Platform, depth int, err error) error {
	if depth == 0 {
		return err
	}
	return fmt.Errorf("image %s for %s: %w", desc.Digest, p, err)
}

func (e *editor) index(desc oci.Descriptor, same edited, depth int) (edited, error) {
	data, err := e.l.Document(desc)
	if err != nil {
		return edited{}, err
	}
	x, err := oci.DecodeIndex(desc, data)
	if err != nil {
		return edited{}, err
	}
	doc, err := oci.ParseObject(data)
	if err != nil {
		return edited{}, err
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(doc["manifests"], &raws); err != nil {
		return edited{}, err
	}
	if raws, err = e.entries(x, raws, depth); err != nil {
		return edited{}, err
	}
	if doc["manifests"], err = oci.Encode(raws); err != nil {
		return edited{}, err
	}
	if depth == 0 {
		for _, change := range e.o.Index {
			if err := change(&Image{desc: desc, doc: doc}); err != nil {
				return edited{}, err
			}
		}
	}
	data, changed, err := encodeChanged(doc, data)
	if err != nil || !changed {
		return same, err
	}
	got := edited{desc: oci.Describe(desc.MediaType, data), data: data}
	got.desc.ArtifactType = same.desc.ArtifactType
	e.plan.Steps = append(e.plan.Steps, Step{Action: "index", Descriptor: got.desc, Replaces: desc.Digest, data: data})
	return got, nil
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
	for i, d := range x.Manifests {
		if d.Annotations[oci.AnnotationAttestation] != "" && replaced[d.Annotations[oci.AnnotationAttested]] {
			e.plan.Notices = append(e.plan.Notices, fmt.Sprintf("left out %s: it attests %s, which the edit changes", d.Digest, d.Annotations[oci.AnnotationAttested]))
			continue
		}
		out = append(out, raws[i])
	}
	return out, nil
}

// replaceEntry lets an entry of an index name what became of its manifest.
func replaceEntry(raw json.RawMessage, got edited) (json.RawMessage, error) {
	raw, err := replaceDescriptor(raw, got.desc, got.data)
	if err != nil || got.platform == nil {
		return raw, err
	}
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
