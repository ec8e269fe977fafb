// Package image makes images out of documents and layers, changes existing ones, and says what is
// wrong with them.
//
// # New images
//
// [AddLayer] and [LayerWriter] turn tar streams into layer blobs. [NewManifest] and [NewIndex] turn
// descriptors into documents.
//
// # Changes
//
// [Edit] works out what an image becomes when each [Change] is applied to it, as those of [Rebase],
// [Flatten], a [Dropper] and a [Converter]. It does so for each platform of an index, and returns a
// [Plan]: no document is written before [Plan.Store]. [EditIndex] changes which images an index lists.
//
// # Contents
//
// [NewStack] lays the layers of an image on each other, [ListFiles] says which layer each file comes
// from, and [Extract] writes the files. An artifact has files of its own: [ArtifactFiles].
//
// # Checks
//
// [Verify] finds what is wrong in a layout, down to the entries of layers, and [Repair] mends it from
// another place. [Lint] finds what is allowed and rarely meant.
package image

import (
	"errors"
	"fmt"

	"ocikit/oci"
	"ocikit/oci/graph"
)

// emptyConfig is the config of an artifact that has none ("Guidance for an Empty
// Descriptor" in manifest.md).
const emptyConfig = "{}"

// EmptyDescriptor describes the blob "{}" that stands for an absent config or layer.
func EmptyDescriptor() oci.Descriptor { return oci.Describe(oci.MediaTypeEmpty, []byte(emptyConfig)) }

// ManifestOptions say what a manifest holds.
type ManifestOptions struct {
	Config       oci.Descriptor // zero for an artifact without one
	Layers       []oci.Descriptor
	Annotations  map[string]string
	ArtifactType string
	Subject      *oci.Descriptor
}

// NewManifest returns an image manifest. Diff IDs that the layers carry are left out of it.
// A manifest without a config needs an artifact type ("Guidelines for Artifact Usage" in
// manifest.md).
func NewManifest(o ManifestOptions) (oci.Manifest, error) {
	m := oci.Manifest{
		SchemaVersion: 2,
		MediaType:     oci.MediaTypeManifest,
		ArtifactType:  o.ArtifactType,
		Config:        bare(o.Config),
		Layers:        make([]oci.Descriptor, 0, len(o.Layers)),
		Annotations:   oci.AnnotationsOf(o.Annotations),
	}

	if o.Subject != nil {
		m.Subject = new(bare(*o.Subject))
	}

	for _, d := range o.Layers {
		m.Layers = append(m.Layers, bare(d))
	}

	// An artifact may lack a config, a layer, or both: the empty one stands for each (manifest.md,
	// "Guidelines for Artifact Usage").
	if o.Config.Digest.IsZero() {
		if o.ArtifactType == "" {
			return m, errors.New("a manifest needs a config, or an artifact type")
		}
		m.Config = EmptyDescriptor()
		if len(m.Layers) == 0 {
			m.Layers = []oci.Descriptor{EmptyDescriptor()}
		}
	}

	return m, nil
}

// NewIndex returns an image index of manifests.
func NewIndex(manifests []oci.Descriptor, annotations map[string]string) oci.Index {
	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Annotations: oci.AnnotationsOf(annotations)}
	for _, d := range manifests {
		x.Manifests = append(x.Manifests, bare(d))
	}
	return x
}

// bare drops what a descriptor carries in a stream or in index.json only.
func bare(d oci.Descriptor) oci.Descriptor {
	return d.WithAnnotation(oci.AnnotationDiffID, "").WithAnnotation(oci.AnnotationRefName, "")
}

// CheckConfig compares a config with the layers of the manifest it is for: there must be as many
// diff IDs as layers, none of them null, and those that the layers carry must be the same in this
// order. A mismatch wraps [oci.ErrMalformed].
func CheckConfig(config *oci.Config, layers []oci.Descriptor) error {
	_, err := withDiffIDs(config, layers)
	return err
}

// withDiffIDs is [CheckConfig], and returns the layers with the diff IDs of the config.
func withDiffIDs(config *oci.Config, layers []oci.Descriptor) ([]oci.Descriptor, error) {
	v, err := config.View()
	if err != nil {
		return nil, err
	}

	if len(v.RootFS.DiffIDs) != len(layers) {
		return nil, fmt.Errorf("the config has %d diff IDs for %d layers: %w", len(v.RootFS.DiffIDs), len(layers), oci.ErrMalformed)
	}

	with := make([]oci.Descriptor, len(layers))
	for i, d := range layers {
		want := v.RootFS.DiffIDs[i]
		if want.IsZero() {
			return nil, fmt.Errorf("layer %d, %s: its diff ID in the config is null: %w", i, d.Digest, oci.ErrMalformed)
		}
		if id, ok := d.DiffID(); ok && id != want {
			return nil, fmt.Errorf("layer %d, %s: its diff ID is %s, the config says %s: %w", i, d.Digest, id, want, oci.ErrMalformed)
		}
		with[i] = d.WithAnnotation(oci.AnnotationDiffID, want.String())
	}

	return with, nil
}

// Layers returns the layers of an image, each with its diff ID from the config. A config that does
// not go with them gives [oci.ErrMalformed]. A manifest whose config is not that of an image has
// layers without diff IDs.
func Layers(store graph.Store, desc oci.Descriptor) ([]oci.Descriptor, error) {
	_, layers, err := manifestLayers(store, desc)
	return layers, err
}

// manifestLayers is [Layers] with the manifest.
func manifestLayers(store graph.Store, desc oci.Descriptor) (oci.Manifest, []oci.Descriptor, error) {
	m, err := graph.Manifest(store, desc)
	if err != nil || !m.IsImage() {
		return m, m.Layers, err
	}

	config, err := graph.Config(store, m.Config)
	if err != nil {
		return m, nil, err
	}

	layers, err := withDiffIDs(config, m.Layers)
	if err != nil {
		err = fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return m, layers, err
}
