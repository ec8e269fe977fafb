package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// Annotations that say what an image was built on (annotations.md of the image-spec).
const (
	annotationBaseName   = "org.opencontainers.image.base.name"
	annotationBaseDigest = "org.opencontainers.image.base.digest"
)

// ErrHistory means that a config's history does not go with its layers.
var ErrHistory = errors.New("wrong history")

// An Image is one image under edit. Members that no method names stay as they were, whether this
// program knows them or not. Nothing is stored before [Plan.Store].
type Image struct {
	Config *oci.Config // nil if the manifest is not that of an image

	desc    oci.Descriptor
	m       oci.Manifest // as it was found
	doc     oci.Object   // the members of the manifest
	layers  []layer
	lowest  digest.Digest // diff ID of the lowest layer, as it was found
	added   []Step        // layers that were not in it
	told    []Step        // what else the plan says of it
	notices []string
	before  []byte // the config as it was found, in the form that Encode gives
}

// A layer is one layer of an image under edit.
type layer struct {
	desc   oci.Descriptor  // with its diff ID
	raw    json.RawMessage // as the manifest holds it
	number int             // its place when the image was opened, from 1; 0 if it was not there
}

// open reads an image for editing. The manifest may be that of an artifact: then Config is nil. What
// is absent gives [graph.ErrNotFound], a config that does not go with the layers [oci.ErrMalformed].
func open(store graph.Store, desc oci.Descriptor) (*Image, error) {
	data, err := store.Document(desc)
	if err != nil {
		return nil, err
	}

	im := &Image{desc: desc}
	if im.m, err = oci.DecodeManifest(desc, data); err != nil {
		return nil, err
	}

	// The members are kept as they were written, beside what they mean: what no edit names must not
	// change.
	if im.doc, err = oci.ParseObject(data); err != nil {
		return nil, err
	}

	layers := im.m.Layers
	if im.m.IsImage() {
		if im.Config, err = graph.Config(store, im.m.Config); err != nil {
			return nil, err
		}
		if im.before, err = im.Config.Encode(); err != nil {
			return nil, err
		}
		if layers, err = Layers(store, desc); err != nil {
			return nil, err
		}
	}

	// For the same reason each layer keeps its text.
	var raws []json.RawMessage
	if err := im.doc.Get("layers", &raws); err != nil {
		return nil, err
	}

	for i, d := range layers {
		im.layers = append(im.layers, layer{d, raws[i], i + 1})
	}

	if len(im.layers) > 0 {
		im.lowest = im.layers[0].diffID()
	}

	return im, nil
}

// Descriptor returns what the image was opened by.
func (im *Image) Descriptor() oci.Descriptor { return im.desc }

// family returns the family of media types that the image is written in.
func (im *Image) family() oci.Family { return oci.FamilyOf(im.desc.MediaType) }

// Layers returns the layers as they stand, with their diff IDs, the lowest first.
func (im *Image) Layers() []oci.Descriptor {
	descs := make([]oci.Descriptor, len(im.layers))
	for i, layer := range im.layers {
		descs[i] = layer.desc
	}
	return descs
}

// Platform returns the platform that the config names as it stands now; zero if there is no config.
func (im *Image) Platform() (oci.Platform, error) {
	if im.Config == nil {
		return oci.Platform{}, nil
	}
	v, err := im.Config.View()
	return v.Platform(), err
}

// needConfig is an error if the image has no config to change.
func (im *Image) needConfig() error {
	if im.Config == nil {
		return oci.Absent("manifest %s: %v", im.desc.Digest, ErrArtifact)
	}
	return nil
}

// history returns the entries of the history of an image that has a config.
func (im *Image) history() ([]oci.HistoryEntry, error) {
	if err := im.needConfig(); err != nil {
		return nil, err
	}
	return im.Config.HistoryEntries()
}

// Append puts a layer, which carries its diff ID, on top, and its history with it. Its media type
// becomes that of the image's family. A base without history gets empty entries, so that the
// entries stay in line with the layers.
func (im *Image) Append(desc oci.Descriptor, h oci.History) error {
	return im.insert(len(im.layers), desc, h)
}

// newLayer returns a layer as a manifest of the family holds it.
func newLayer(desc oci.Descriptor, f oci.Family) (layer, error) {
	if _, ok := desc.DiffID(); !ok {
		return layer{}, fmt.Errorf("layer %s, %q: %w", desc.Digest, desc.MediaType, oci.ErrNoDiffID)
	}
	mediaType, err := f.MediaType(desc.MediaType)
	if err != nil {
		return layer{}, err
	}
	desc.MediaType = mediaType
	raw, err := oci.Encode(bare(desc))
	return layer{desc: desc, raw: raw}, err
}

// setLayers replaces layers, diff IDs and history.
func (im *Image) setLayers(layers []layer, history []oci.HistoryEntry) error {
	ids := make([]digest.Digest, len(layers))
	for i, l := range layers {
		ids[i] = l.diffID()
	}
	if err := im.Config.SetDiffIDs(ids); err != nil {
		return err
	}
	im.Config.SetHistoryEntries(history)
	im.layers = slices.Clone(layers)
	return im.encodeLayers()
}

// encodeLayers writes the layers as they stand into the manifest.
func (im *Image) encodeLayers() (err error) {
	raws := make([]json.RawMessage, len(im.layers))
	for i, l := range im.layers {
		raws[i] = l.raw
	}
	im.doc["layers"], err = oci.Encode(raws)
	return err
}

// SetAnnotation sets an annotation of the manifest.
func (im *Image) SetAnnotation(key, value string) error { return setAnnotation(im.doc, key, value) }

// UnsetAnnotation removes an annotation of the manifest; [oci.ErrAbsent] if there is none.
func (im *Image) UnsetAnnotation(key string) error { return unsetAnnotation(im.doc, key) }

func setAnnotation(doc oci.Object, key, value string) error {
	a, err := annotations(doc)
	if err != nil {
		return err
	}
	raw, err := oci.Encode(value)
	if err != nil {
		return err
	}
	a[key] = raw
	doc["annotations"], err = oci.Encode(a)
	return err
}

func unsetAnnotation(doc oci.Object, key string) error {
	a, err := annotations(doc)
	if err != nil {
		return err
	}
	if _, ok := a[key]; !ok {
		return oci.Absent("no annotation %q", key)
	}
	delete(a, key)
	if len(a) == 0 {
		delete(doc, "annotations")
		return nil
	}
	doc["annotations"], err = oci.Encode(a)
	return err
}

func annotations(doc oci.Object) (a oci.Object, err error) {
	if err = doc.Get("annotations", &a); a == nil {
		a = oci.Object{}
	}
	return a, err
}

// SetBase records what the image is built on. An empty name removes one that belongs to
// another base; a zero digest removes both.
func (im *Image) SetBase(name string, d digest.Digest) error {
	for key, value := range map[string]string{annotationBaseName: name, annotationBaseDigest: d.String()} {
		err := im.SetAnnotation(key, value)
		if value == "" {
			err = im.UnsetAnnotation(key)
		}
		if err != nil && !errors.Is(err, oci.ErrAbsent) {
			return err
		}
	}
	return nil
}

// base returns the annotations that say what the image is built on; zero values if it does
// not say.
func (im *Image) base() (name string, d digest.Digest) {
	d, _ = digest.Parse(im.m.Annotations.Get(annotationBaseDigest))
	return im.m.Annotations.Get(annotationBaseName), d
}

// convert writes the manifest, config and layers in the media types of a family.
func (im *Image) convert(f oci.Family) error {
	if im.family() == f {
		return nil
	}

	for i, l := range im.layers {
		t, err := f.MediaType(l.desc.MediaType)
		if err != nil {
			return err
		}
		im.layers[i].desc.MediaType = t
		if im.layers[i].raw, err = editDescriptor(l.raw, func(o oci.Object) { o["mediaType"] = encodeText(t) }); err != nil {
			return err
		}
	}

	t, err := f.MediaType(im.desc.MediaType)
	if err != nil {
		return err
	}

	im.desc.MediaType = t
	im.doc["mediaType"] = encodeText(t)
	return nil
}

// configStep returns the step that makes the config, if it has changed, and lets the manifest
// name it.
func (im *Image) configStep() ([]Step, error) {
	if im.Config == nil {
		return nil, nil
	}

	data, err := im.Config.Encode()
	if err != nil {
		return nil, err
	}

	was := im.m.Config
	config := was
	if config.MediaType, err = im.family().MediaType(was.MediaType); err != nil {
		return nil, err
	}

	// Blanks and the order of names are not changes. So a config that nobody edits keeps its bytes,
	// and its digest.
	var steps []Step
	same, err := sameDocument(data, im.before)
	if err != nil {
		return nil, err
	}

	if !same {
		if err := im.checkHistory(); err != nil {
			return nil, err
		}
		if err := CheckConfig(im.Config, im.Layers()); err != nil { // which a patch may have broken
			return nil, err
		}
		config = oci.DescribeWith(was.Digest.Algorithm(), config.MediaType, data)
		steps = append(steps, Step{Action: "config", Descriptor: config, Replaces: was.Digest, data: data})
	}

	// A config that is the same may have another type: then the image is in another family.
	if config.Digest != was.Digest || config.MediaType != was.MediaType {
		im.doc["config"], err = replaceDescriptor(im.doc["config"], config, data)
	}

	return steps, err
}

// checkHistory refuses a history that tells of more layers than there are: no edit may make an
// image that [Verify] calls wrong.
func (im *Image) checkHistory() error {
	history, err := im.Config.HistoryEntries()
	if err != nil {
		return err
	}
	if made := oci.MadeLayers(history); made > len(im.layers) {
		return fmt.Errorf("the history has %d steps that made layers, and there are %d layers: %w", made, len(im.layers), ErrHistory)
	}
	return nil
}

// encodeChanged returns a document, and whether it differs from what was found.
func encodeChanged(doc oci.Object, original []byte) (data []byte, changed bool, err error) {
	if data, err = oci.Encode(doc); err != nil {
		return nil, false, err
	}
	same, err := sameDocument(data, original)
	return data, !same, err
}

// sameDocument reports whether two documents differ in no more than blanks and the order of
// names.
func sameDocument(a, b []byte) (bool, error) {
	va, err := oci.DecodeAny(a)
	if err != nil {
		return false, err
	}
	vb, err := oci.DecodeAny(b)
	return err == nil && reflect.DeepEqual(va, vb), err
}

// replaceDescriptor lets a descriptor name another blob; its other members stay. Data that
// is embedded is replaced with it.
func replaceDescriptor(raw json.RawMessage, desc oci.Descriptor, data []byte) (json.RawMessage, error) {
	return editDescriptor(raw, func(o oci.Object) {
		o["mediaType"] = encodeText(desc.MediaType)
		o["digest"] = encodeText(desc.Digest.String())
		o["size"] = json.RawMessage(fmt.Sprint(desc.Size))
		if _, ok := o["data"]; ok {
			o["data"] = encodeText(base64.StdEncoding.EncodeToString(data))
		}
	})
}

func editDescriptor(raw json.RawMessage, edit func(oci.Object)) (json.RawMessage, error) {
	o, err := oci.ParseObject(raw)
	if err != nil {
		return nil, err
	}
	edit(o)
	return oci.Encode(o)
}

func encodeText(s string) json.RawMessage {
	raw, err := oci.Encode(s)
	if err != nil {
		panic(err) // strings always encode
	}
	return raw
}
