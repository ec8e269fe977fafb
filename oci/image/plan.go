package image

import (
	"errors"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

// A Plan is an edit that was worked out: the documents that it makes, children first.
type Plan struct {
	Result  oci.Descriptor // of the edited image or index
	Steps   []Step
	Notices []string // what the user should know
	Sparse  bool     // images of the index are absent, and stay as they are
}

// A Step makes one document, or says what becomes of a layer or a file.
type Step struct {
	Action     string         `json:"action"` // "layer", "config", "manifest" or "index"; see [RebaseOptions]
	Descriptor oci.Descriptor `json:"descriptor"`
	Replaces   digest.Digest  `json:"replaces,omitzero"`
	Platform   string         `json:"platform,omitempty"`
	Path       string         `json:"path,omitempty"` // of a file, in place of its layer
	Fate       Fate           `json:"fate,omitempty"` // what the layer does to it

	data []byte // nil for a layer, which is stored already
}

// Store writes the documents, if all layers that they name are there: else it gives
// [layout.ErrIncomplete], and nothing is written. Blobs that the edit took over are not
// touched.
func (p *Plan) Store(l *layout.Layout) error {
	layers, err := p.layers()
	if err != nil {
		return err
	}

	// Layers are looked for before anything is written, so that no manifest is stored without its
	// own.
	for _, d := range layers {
		if err := graph.Check(l, d, graph.Rules{}); err != nil {
			return err
		}
	}

	for _, s := range p.Steps {
		if s.data == nil {
			continue
		}
		if _, err := l.PutDocumentWith(s.Descriptor.Digest.Algorithm(), s.Descriptor.MediaType, s.data); err != nil {
			return err
		}
	}

	return nil
}

// Check reports whether all layers are there that [Plan.Store] looks for, apart from those that the plan
// makes itself: in the store or in more, which is where [Plan.CopyLayers] finds them, or nil. If the result
// is to be named, the rest of it has to be in the store as well. What is absent gives
// [layout.ErrIncomplete].
func (p *Plan) Check(store, more graph.Store, named bool) error {
	layers, err := p.layers()
	if err != nil {
		return err
	}

	s := planned{store, map[digest.Digest]Step{}}
	for _, step := range p.Steps {
		if step.data != nil || step.Action == "layer" {
			s.made[step.Descriptor.Digest] = step
		}
	}

	for _, d := range layers {
		err := graph.Check(s, d, graph.Rules{})
		if err != nil && more != nil {
			err = graph.Check(more, d, graph.Rules{})
		}
		if err != nil {
			return err
		}
		s.made[d.Digest] = Step{Descriptor: d}
	}

	if !named {
		return nil
	}
	return graph.Check(s, p.Result, graph.Rules{Sparse: p.Sparse})
}

// A planned store has what another one has, and what a plan makes.
type planned struct {
	graph.Store
	made map[digest.Digest]Step
}

func (s planned) Document(desc oci.Descriptor) ([]byte, error) {
	if step, ok := s.made[desc.Digest]; ok && step.data != nil {
		return step.data, nil
	}
	return s.Store.Document(desc)
}

func (s planned) Stat(d digest.Digest) (int64, error) {
	if step, ok := s.made[d]; ok {
		return step.Descriptor.Size, nil
	}
	return s.Store.Stat(d)
}

// layers returns the layers of the manifests that the plan makes.
func (p *Plan) layers() ([]oci.Descriptor, error) {
	var all []oci.Descriptor
	for _, s := range p.Steps {
		if s.Action != "manifest" {
			continue
		}
		m, err := oci.DecodeManifest(s.Descriptor, s.data)
		if err != nil {
			return nil, err
		}
		all = append(all, m.Layers...)
	}
	return all, nil
}

// CopyLayers copies layers from another place, and verifies them: those that the plan needs and the
// layout to does not have. A layer that is not there either is left for [Plan.Store] to report.
// Within one layout nothing is ever copied.
func (p *Plan) CopyLayers(to *layout.Layout, from source.Source) error {
	layers, err := p.layers()
	if err != nil {
		return err
	}

	for _, d := range layers {
		if size, err := to.Stat(d.Digest); err == nil && size == d.Size {
			continue
		}

		r, err := from.Blob(d)
		if errors.Is(err, graph.ErrNotFound) {
			continue // Store says what is missing
		}
		if err != nil {
			return err
		}

		_, _, err = to.Put(r, d.Digest)
		r.Close()
		if err != nil {
			return err
		}
	}

	return nil
}

// A Change is one thing to do to an image. An error that matches [oci.ErrAbsent] says that the
// change does not fit this image. An edit of several platforms fails only if it fits none of them.
type Change func(*Image) error

// EditOptions say what to edit.
type EditOptions struct {
	Platform *oci.Platform // of an index edit the image for this platform alone; the others stay
	Changes  []Change      // of each image
	Family   *oci.Family   // the media types of the indexes, which a change makes of the images too; nil: as they are
	Top      []Change      // of what is edited itself, the manifest or the index; with Platform the manifest
	Index    []Change      // of the index itself; the Image has no config
}

// chooseVery returns the image of an index that is for a platform. What is edited is what was named: an
// image for an earlier variant would only do to run.
func chooseVery(store graph.Store, desc oci.Descriptor, p oci.Platform) (oci.Descriptor, error) {
	choice, err := graph.Choose(store, desc, &p)
	if err == nil && choice.Near != nil {
		err = fmt.Errorf("%s: %w: none is for %s, but %s runs there", desc.Digest, graph.ErrPlatform, p, choice.Near.Is)
	}
	return choice.Desc, err
}

// Edit works out what an image becomes when changes are applied to it. For an index, they are
// applied to every image in it. Manifests that are not images stay as they are. Attestations of a
// changed image would be false, so they are left out, with a notice. An edit that changes nothing
// gives the image as it was.
//
// A platform that the image does not have gives [graph.ErrPlatform], a change that fits no image
// [oci.ErrAbsent].
func Edit(store graph.Store, desc oci.Descriptor, o EditOptions) (*Plan, error) {
	e := &editor{l: store, o: o, plan: &Plan{}, done: map[digest.Digest]edited{}, misses: make([]error, len(o.Changes)), hits: make([]bool, len(o.Changes))}
	if o.Platform != nil {
		only, err := chooseVery(store, desc, *o.Platform)
		if err != nil {
			return nil, err
		}
		e.only = only.Digest
	}

	got, err := e.edit(desc, 0)
	if err != nil {
		return nil, err
	}

	// A change has to fit one image of the index, not all of them.
	for i, err := range e.misses {
		if err != nil && !e.hits[i] {
			return nil, err
		}
	}

	if e.images == 0 && len(o.Changes) > 0 {
		return nil, fmt.Errorf("%s: %w: it holds none", desc.Digest, graph.ErrPlatform)
	}

	if len(o.Index) > 0 && !oci.IsIndex(desc.MediaType) {
		return nil, oci.Absent("%s: it is not an index", desc.Digest)
	}

	e.plan.Result = got.desc
	return e.plan, nil
}

// addLayer lists a layer, once.
func (p *Plan) addLayer(layer Step) {
	if !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Descriptor.Digest == layer.Descriptor.Digest }) {
		p.Steps = append(p.Steps, layer)
	}
}
