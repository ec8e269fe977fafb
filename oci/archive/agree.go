package archive

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// checkAgreement compares manifest.json, if there is one, with index.json: every image that it
// names must be one that index.json leads to, with the same layers. Manifests that cannot be read
// are not compared.
func (a *Archive) checkAgreement(ctx context.Context, entries []oci.Descriptor) error {
	data, ok := a.c.control[manifestFile]
	if !ok || a.c.control[indexFile] == nil {
		return nil
	}

	items, err := readItems(data)
	if err != nil {
		return err
	}

	layers, all, err := a.layersByConfig(entries)
	if err != nil {
		return err
	}

	for _, it := range items {
		config, err := a.find(ctx, it.Config, digest.Digest{})
		if err != nil {
			return err
		}

		known := layers[config.digest]
		switch {
		case len(known) == 0 && !all:
			continue
		case len(known) == 0:
			return fmt.Errorf("%s names an image with the config %s, and %s none: %w", manifestFile, config.digest, indexFile, oci.ErrMalformed)
		}

		// One of them has to agree; what is said is about the first.
		var first error
		agrees := slices.ContainsFunc(known, func(want []oci.Descriptor) bool {
			err := a.compareLayers(it, config.digest, want)
			first = cmp.Or(first, err)
			return err == nil
		})
		if !agrees {
			return first
		}
	}

	return nil
}

// layersByConfig returns the layers of all manifests that entries lead to, by the digests of their
// configs: images whose layers are compressed in different ways have one config. all is false if some
// manifest cannot be read.
func (a *Archive) layersByConfig(entries []oci.Descriptor) (layers map[digest.Digest][][]oci.Descriptor, all bool, err error) {
	layers, all = map[digest.Digest][][]oci.Descriptor{}, true
	err = graph.NewWalker(a, graph.DefaultLimits()).Walk(entries, func(n graph.Node) error {
		all = all && n.Err == nil
		if n.Doc == nil || !oci.IsManifest(n.Desc.MediaType) {
			return nil
		}
		m, err := oci.DecodeManifest(n.Desc, n.Doc)
		layers[m.Config.Digest] = append(layers[m.Config.Digest], m.Layers)
		return err
	})
	return layers, all, err
}

// compareLayers compares the layers of an image in manifest.json with those of its manifest.
func (a *Archive) compareLayers(it item, config digest.Digest, want []oci.Descriptor) error {
	if len(want) != len(it.Layers) {
		return fmt.Errorf("%s gives the image with the config %s %d layers, and %s leads to %d: %w", manifestFile, config, len(it.Layers), indexFile, len(want), oci.ErrMalformed)
	}
	for i, name := range it.Layers {
		got, _, err := a.c.lookup(name)
		if err != nil {
			return err
		}
		if strings.HasPrefix(path.Clean(name), blobsDir+"/") && got.digest != want[i].Digest {
			return fmt.Errorf("layer %d of the image with the config %s: %s says %s, the manifest %s: %w", i, config, manifestFile, got.digest, want[i].Digest, oci.ErrMalformed)
		}
	}
	return nil
}
