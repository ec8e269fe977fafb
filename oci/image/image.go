// Package image makes images of documents and layers: it turns tar streams into layer blobs,
// and layer descriptors into manifests and indexes, in a layout or beside one.
package image

import (
	"errors"
	"fmt"
	"strings"

	"ocikit/oci"
	"ocikit/oci/layout"
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
		Annotations:   o.Annotations,
	}
	if o.Subject != nil {
		s := bare(*o.Subject)
		m.Subject = &s
	}
	for _, d := range o.Layers {
		m.Layers = append(m.Layers, bare(d))
	}
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
	x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Annotations: annotations}
	for _, d := range manifests {
		x.Manifests = append(x.Manifests, bare(d))
	}
	return x
}

// bare drops what a descriptor carries in a stream or in index.json only.
func bare(d oci.Descriptor) oci.Descriptor {
	return d.WithAnnotation(oci.AnnotationDiffID, "").WithAnnotation(oci.AnnotationRefName, "")
}

// CheckConfig compares a config with the layers of the manifest it is for: there must be as
// many diff IDs as layers, none of them null, and those that the layers carry must be the same in this order.
// A mismatch wraps [oci.ErrMalformed].
func CheckConfig(config *oci.Config, layers []oci.Descriptor) error {
	v, err := config.View()
	if err != nil {
		return err
	}
	if len(v.RootFS.DiffIDs) != len(layers) {
		return fmt.Errorf("the config has %d diff IDs for %d layers: %w", len(v.RootFS.DiffIDs), len(layers), oci.ErrMalformed)
	}
	for i, d := range layers {
		if v.RootFS.DiffIDs[i].IsZero() {
			return fmt.Errorf("layer %d, %s: its diff ID in the config is null: %w", i, d.Digest, oci.ErrMalformed)
		}
		if id, ok := d.DiffID(); ok && id != v.RootFS.DiffIDs[i] {
			return fmt.Errorf("layer %d, %s: its diff ID is %s, the config says %s: %w", i, d.Digest, id, v.RootFS.DiffIDs[i], oci.ErrMalformed)
		}
	}
	return nil
}

// ErrPlatform means that an index holds no image for a platform, or several where one is
// needed.
var ErrPlatform = errors.New("no single image")

// Select returns the manifest that desc stands for: itself, or the one image in an index,
// or the one for the platform if it is not nil.
func Select(l *layout.Layout, desc oci.Descriptor, platform *oci.Platform) (oci.Descriptor, error) {
	var found []oci.Descriptor
	var offered []string
	err := l.Walk([]oci.Descriptor{desc}, func(d oci.Descriptor, doc []byte) error {
		if !oci.IsManifest(d.MediaType) {
			return nil
		}
		p, err := PlatformOf(l, d)
		if err != nil {
			return err
		}
		if platform == nil || p != nil && p.Matches(*platform) {
			found = append(found, d)
		}
		if p != nil {
			offered = append(offered, p.String())
		}
		return nil
	})
	switch {
	case err != nil:
		return oci.Descriptor{}, err
	case len(found) == 1, len(found) > 1 && platform != nil:
		return found[0], nil
	case platform != nil:
		return oci.Descriptor{}, fmt.Errorf("%s: %w for %s: it has %s", desc.Digest, ErrPlatform, platform, list(offered))
	}
	return oci.Descriptor{}, fmt.Errorf("%s: %w: it is an index of %d, for %s", desc.Digest, ErrPlatform, len(found), list(offered))
}

// ForPlatforms returns the index that is left of desc when the images for other platforms are
// taken out, and its bytes, see [oci.ForPlatforms]. Unless nothing was taken out the layout does
// not have it.
func ForPlatforms(l *layout.Layout, desc oci.Descriptor, wishes []oci.Platform) (oci.Descriptor, []byte, error) {
	doc, err := l.Document(desc)
	if err != nil {
		return desc, nil, err
	}
	return oci.ForPlatforms(desc, doc, wishes, func(d oci.Descriptor) (*oci.Platform, error) { return PlatformOf(l, d) })
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// PlatformOf returns the platform of a manifest: what its descriptor says, else its config,
// or nil if it is not an image for one.
func PlatformOf(l *layout.Layout, desc oci.Descriptor) (*oci.Platform, error) {
	if desc.Platform != nil {
		return desc.Platform, nil
	}
	m, err := ReadManifest(l, desc)
	if err != nil || !oci.IsConfig(m.Config.MediaType) {
		return nil, err
	}
	config, err := ReadConfig(l, m.Config)
	if err != nil {
		return nil, err
	}
	v, err := config.View()
	if err != nil || v.OS == "" && v.Architecture == "" {
		return nil, err
	}
	p := v.Platform()
	return &p, nil
}

// ReadManifest reads a manifest from a layout.
func ReadManifest(l *layout.Layout, desc oci.Descriptor) (oci.Manifest, error) {
	data, err := l.Document(desc)
	if err != nil {
		return oci.Manifest{}, err
	}
	return oci.DecodeManifest(desc, data)
}

// ReadConfig reads the config of an image from a layout.
func ReadConfig(l *layout.Layout, desc oci.Descriptor) (*oci.Config, error) {
	data, err := l.Document(desc)
	if err != nil {
		return nil, err
	}
	c, err := oci.ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", desc.Digest, err)
	}
	return c, nil
}

// Layers returns the layers of an image, each with its diff ID from the config. A manifest
// whose config is not that of an image has layers without diff IDs.
func Layers(l *layout.Layout, desc oci.Descriptor) ([]oci.Descriptor, error) {
	m, err := ReadManifest(l, desc)
	if err != nil || !oci.IsConfig(m.Config.MediaType) {
		return m.Layers, err
	}
	config, err := ReadConfig(l, m.Config)
	if err != nil {
		return nil, err
	}
	if err := CheckConfig(config, m.Layers); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	v, err := config.View()
	if err != nil {
		return nil, err
	}
	layers := make([]oci.Descriptor, len(m.Layers))
	for i, d := range m.Layers {
		layers[i] = d.WithAnnotation(oci.AnnotationDiffID, v.RootFS.DiffIDs[i].String())
	}
	return layers, nil
}
