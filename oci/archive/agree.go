package archive

import (
	"cmp"
	"context"
	"fmt"
	"path"
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

	// Images whose layers are compressed in different ways have one config.
	layers := map[digest.Digest][][]oci.Descriptor{} // by config
	all := true
	err = graph.NewWalker(a, graph.DefaultLimits()).Walk(entries, func(n graph.Node) error {
		all = all && n.Err == nil
		if n.Doc == nil || !oci.IsManifest(n.Desc.MediaType) {
			return nil
		}
		m, err := oci.DecodeManifest(n.Desc, n.Doc)
		layers[m.Config.Digest] = append(layers[m.Config.Digest], m.Layers)
		return err
	})
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
		var disagreement error
		for _, want := range known {
			err := a.compareLayers(it, config.digest, want)
			if disagreement = cmp.Or(disagreement, err); err == nil {
				disagreement = nil
				break
			}
		}

		if disagreement != nil {
			return disagreement
		}
	}

	return nil
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
