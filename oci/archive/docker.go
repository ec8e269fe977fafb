package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/tarutil"
)

// readItems reads manifest.json. It is strict as [oci.Decode] is.
func readItems(data []byte) ([]item, error) {
	fail := func(format string, args ...any) ([]item, error) {
		err := fmt.Errorf(format, args...)
		if !errors.Is(err, oci.ErrMalformed) {
			err = fmt.Errorf("%w: %w", oci.ErrMalformed, err)
		}
		return nil, fmt.Errorf("%s: %w", manifestFile, err)
	}

	// The rules are those of one object, so it is read as the only member of one.
	o, err := oci.ParseObject([]byte(`{"list":` + string(data) + `}`))
	if err != nil {
		return fail("%w", err)
	}

	var list []oci.Object
	if len(o) != 1 {
		return fail("bytes follow the list")
	}

	if err := json.Unmarshal(o["list"], &list); err != nil {
		return fail("%w", err)
	}

	if len(list) == 0 {
		return fail("it lists no image")
	}

	items := make([]item, len(list))
	for i, m := range list {
		it := &items[i]
		for _, f := range []struct {
			name string
			to   any
		}{{"Config", &it.Config}, {"RepoTags", &it.RepoTags}, {"Layers", &it.Layers}} {
			raw, ok := m[f.name]
			if !ok {
				continue
			}
			if err := json.Unmarshal(raw, f.to); err != nil {
				return fail("image %d: %s: %w", i, f.name, err)
			}
		}
		if it.Config == "" {
			return fail("image %d: no Config", i)
		}
	}

	return items, nil
}

// maxEntries is more than the entries, of digest and name, that a document can hold.
const maxEntries = oci.MaxDocument / 200

// dockerEntries makes manifests of the images in manifest.json.
func (a *Archive) dockerEntries(ctx context.Context, data []byte) ([]oci.Descriptor, error) {
	items, err := readItems(data)
	if err != nil {
		return nil, err
	}

	// One name may be written in two ways, as "app" and "docker.io/library/app:latest", and an image
	// may be listed twice. Each name becomes one entry.
	type named struct {
		digest digest.Digest
		name   string
	}

	var entries []oci.Descriptor
	seen := make(map[named]bool)
	names := 0
	for _, it := range items {
		desc, err := a.dockerImage(ctx, it)
		if err != nil {
			return nil, err
		}
		if names += max(len(it.RepoTags), 1); names > maxEntries {
			return nil, fmt.Errorf("%s: over %d names: %w", manifestFile, maxEntries, oci.ErrMalformed)
		}
		for _, tag := range it.RepoTags {
			full, ok := oci.FullName(tag)
			if !ok {
				return nil, fmt.Errorf("%s: RepoTags has %q, which is not a name: %w", manifestFile, tag, oci.ErrMalformed)
			}
			if n := (named{desc.Digest, full}); !seen[n] {
				seen[n] = true
				entries = append(entries, desc.WithAnnotation(oci.AnnotationImageName, full))
			}
		}
		if n := (named{desc.Digest, ""}); len(it.RepoTags) == 0 && !seen[n] {
			seen[n] = true
			entries = append(entries, desc)
		}
	}

	return entries, nil
}

// dockerImage makes the manifest of one image in manifest.json.
func (a *Archive) dockerImage(ctx context.Context, it item) (oci.Descriptor, error) {
	var none oci.Descriptor
	config, ids, err := a.dockerConfig(ctx, it.Config)
	if err != nil {
		return none, err
	}

	// manifest.json has no digests of layers. The diff IDs in the config are all that they can
	// be checked by.
	if len(ids) != len(it.Layers) {
		return none, fmt.Errorf("%q has %d diff IDs, %s lists %d layers: %w", it.Config, len(ids), manifestFile, len(it.Layers), oci.ErrMalformed)
	}

	manifest := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: config}
	for i, name := range it.Layers {
		d, err := a.dockerLayer(ctx, name, ids[i])
		if err == nil {
			if id, ok := d.DiffID(); ok && id != ids[i] {
				err = fmt.Errorf("layer %q: its diff ID is %s, %q says %s: %w", name, id, it.Config, ids[i], oci.ErrMalformed)
			}
		}
		if err != nil {
			return none, err
		}
		manifest.Layers = append(manifest.Layers, d.WithAnnotation(oci.AnnotationDiffID, ""))
	}

	doc, err := oci.Encode(manifest)
	if err != nil {
		return none, err
	}

	desc := oci.Describe(oci.MediaTypeManifest, doc)
	a.made[desc.Digest] = doc
	return desc, nil
}

// dockerConfig returns the config of an image, and the diff IDs in it.
func (a *Archive) dockerConfig(ctx context.Context, name string) (config oci.Descriptor, ids []digest.Digest, err error) {
	// The size comes first: to learn the digest of a member in place all of it is read.
	m, _, err := a.c.lookup(name)
	if err == nil && m.size > oci.MaxDocument {
		err = fmt.Errorf("config %q: %d bytes, the limit for a document is %d: %w", name, m.size, oci.MaxDocument, oci.ErrMalformed)
	}
	if err == nil {
		m, err = a.find(ctx, name, digest.Digest{})
	}
	if err != nil {
		return config, nil, err
	}

	config = oci.Descriptor{MediaType: oci.MediaTypeConfig, Digest: m.digest, Size: m.size}
	data, err := a.Document(config)
	if err != nil {
		return config, nil, fmt.Errorf("config %q: %w", name, err)
	}

	c, err := oci.ParseConfig(data)
	if err == nil {
		ids, err = c.DiffIDs()
	}
	if err != nil {
		return config, nil, fmt.Errorf("%q: %w", name, err)
	}

	return config, ids, nil
}

// dockerLayer returns the descriptor of a layer, with its diff ID if that is known. Docker writes
// plain tars; others compress them.
func (a *Archive) dockerLayer(ctx context.Context, name string, diffID digest.Digest) (oci.Descriptor, error) {
	m, err := a.find(ctx, name, diffID)
	if err != nil {
		return oci.Descriptor{}, err
	}

	// manifest.json tells no media types, so the first bytes of a layer do.
	d := oci.Descriptor{Digest: m.digest, Size: m.size}
	switch m.format {
	case tarutil.FormatTar:
		d.MediaType = oci.MediaTypeLayer
		return d.WithAnnotation(oci.AnnotationDiffID, m.digest.String()), nil
	case tarutil.FormatGzip:
		d.MediaType = oci.MediaTypeLayerGzip
	case tarutil.FormatZstd:
		d.MediaType = oci.MediaTypeLayerZstd
	default:
		return d, fmt.Errorf("layer %q is %s, want a tar, gzip or zstd: %w", name, m.format, oci.ErrMalformed)
	}

	id, err := a.layerDiffID(ctx, name, m)
	switch {
	case err != nil:
		return d, fmt.Errorf("layer %q: %w", name, err)
	case id.IsZero():
		return d, nil
	}
	return d.WithAnnotation(oci.AnnotationDiffID, id.String()), nil
}
