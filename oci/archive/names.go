package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

// Names returns the entries of an archive as index.json of a layout would list them, without
// a look at the images. It reads r, compressed or not, to its end and stores nothing. An entry
// of an archive that only Docker reads has the descriptor of its config, and its name.
func Names(ctx context.Context, r io.Reader) ([]oci.Descriptor, error) {
	ld := &loader{control: map[string][]byte{}, members: map[string]member{}}
	if err := eachMember(ctx, r, ld.keepDocument); err != nil {
		return nil, err
	}
	switch {
	case ld.control[indexFile] != nil:
		if err := ld.checkVersion(); err != nil {
			return nil, err
		}
		var x oci.Index
		if err := oci.Decode(ld.control[indexFile], &x); err != nil {
			return nil, fmt.Errorf("%s: %w", indexFile, err)
		}
		return x.Manifests, nil
	case ld.control[manifestFile] != nil:
		return ld.dockerNames(ld.control[manifestFile])
	case ld.control[repositoriesFile] != nil:
		return nil, fmt.Errorf("%w: it has no manifest.json, only the older file %s", ErrNoImage, repositoriesFile)
	}
	return nil, fmt.Errorf("%w: it has neither index.json nor manifest.json", ErrNoImage)
}

// keepDocument keeps a member that lists images, and the digest of one that may be a config:
// not every program names it so. Two of one name that differ have two meanings, so they are
// refused.
func (ld *loader) keepDocument(name string, hdr *tar.Header, in io.Reader) error {
	small := hdr.Typeflag == tar.TypeReg && hdr.Size <= oci.MaxDocument
	if isControl(name) {
		if !small {
			return fmt.Errorf("not a file of at most %d bytes: %w", oci.MaxDocument, oci.ErrMalformed)
		}
		return ld.controlFile(name, in)
	}
	if !small {
		return nil
	}
	d, size, err := digest.FromReader(digest.SHA256, in)
	if err != nil {
		return err
	}
	ld.members[name] = member{digest: d, size: size}
	return ld.keepPaths(name)
}

// dockerNames returns an entry for each name in manifest.json.
func (ld *loader) dockerNames(data []byte) ([]oci.Descriptor, error) {
	items, err := readItems(data)
	if err != nil {
		return nil, err
	}
	var found []oci.Descriptor
	for _, it := range items {
		id, err := ld.imageID(it.Config)
		if err != nil {
			return nil, err
		}
		desc := oci.Descriptor{MediaType: oci.MediaTypeDockerConfig, Digest: id}
		if len(it.RepoTags) == 0 {
			found = append(found, desc)
		}
		for _, tag := range it.RepoTags {
			found = append(found, desc.WithAnnotation(oci.AnnotationRefName, tag))
		}
	}
	return found, nil
}

// imageID returns the digest of a config: by its name, as nearly all programs choose it, else
// of the member.
func (ld *loader) imageID(config string) (digest.Digest, error) {
	encoded := strings.TrimPrefix(strings.TrimSuffix(path.Base(config), ".json"), "sha256:")
	if id, err := digest.Parse("sha256:" + encoded); err == nil {
		return id, nil
	}
	m, err := ld.lookup(config)
	return m.digest, err
}
