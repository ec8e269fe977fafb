package archive

import (
	"fmt"
	"path"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// checkAgreement compares manifest.json, if there is one, with index.json: every image that it
// names must be one that index.json leads to, with the same layers.
func (ld *loader) checkAgreement(entries []oci.Descriptor) error {
	data, ok := ld.control[manifestFile]
	if !ok || ld.control[indexFile] == nil || ld.o.Platform != nil {
		return nil // for one platform of several it may name another
	}
	items, err := readItems(data)
	if err != nil {
		return err
	}
	layers := map[digest.Digest][]oci.Descriptor{} // by config
	seen := map[mention]bool{}
	for _, e := range entries {
		err := ld.walk(e, seen, func(d oci.Descriptor, doc []byte, err error) error {
			if doc != nil && err == nil && oci.IsManifest(d.MediaType) {
				m, err := oci.DecodeManifest(d, doc)
				layers[m.Config.Digest] = m.Layers
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, it := range items {
		config, err := ld.lookup(it.Config)
		if err != nil {
			return err
		}
		want, ok := layers[config.digest]
		if !ok {
			return fmt.Errorf("%s names an image with the config %s, and %s none: %w", manifestFile, config.digest, indexFile, oci.ErrMalformed)
		}
		if len(want) != len(it.Layers) {
			return fmt.Errorf("%s gives the image with the config %s %d layers, and %s leads to %d: %w", manifestFile, config.digest, len(it.Layers), indexFile, len(want), oci.ErrMalformed)
		}
		for i, name := range it.Layers {
			got, err := ld.lookup(name)
			if err != nil {
				return err
			}
			if strings.HasPrefix(path.Clean(name), blobsDir+"/") && got.digest != want[i].Digest {
				return fmt.Errorf("layer %d of the image with the config %s: %s says %s, the manifest %s: %w", i, config.digest, manifestFile, got.digest, want[i].Digest, oci.ErrMalformed)
			}
		}
	}
	return nil
}

// lookup finds a member by the name that a document has for it.
func (ld *loader) lookup(name string) (member, error) {
	at, err := cleanName(name)
	if err != nil {
		return member{}, fmt.Errorf("%s names %w", manifestFile, err)
	}
	for range maxLinks {
		if m, ok := ld.members[at]; ok {
			return m, nil
		}
		target, ok := ld.links[at]
		if !ok {
			return member{}, fmt.Errorf("%s names %q, which is not in the archive: %w", manifestFile, name, layout.ErrIncomplete)
		}
		at = target
	}
	return member{}, fmt.Errorf("%q: its links lead in a circle: %w", name, oci.ErrMalformed)
}
