package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/tarutil"
)

// ErrNotArchive says that a tar is neither an image layout nor what "docker save" writes.
var ErrNotArchive = errors.New("not an archive of images")

// Names returns the entries of an archive as index.json of a layout would list them, without
// a look at the images. It reads r, compressed or not, to its end and stores nothing. An entry
// of an archive that only Docker reads has the descriptor of its config, and its name.
func Names(ctx context.Context, r io.Reader) ([]oci.Descriptor, error) {
	plain, _, err := tarutil.Decompress(&contextReader{ctx, r})
	if err != nil {
		return nil, err
	}
	var check tarutil.Checker
	tee := io.TeeReader(plain, &check)
	in := tar.NewReader(tee)
	ld := &loader{control: map[string][]byte{}, members: map[string]member{}}
	for {
		hdr, err := in.Next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it is not a whole tar: %v", ErrNotArchive, err)
		}
		if err == nil {
			err = ld.keepDocument(hdr, in)
		}
		if err != nil {
			return nil, err
		}
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return nil, err
	}
	if err := check.Close(); err != nil {
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
	case ld.control["repositories"] != nil:
		return nil, fmt.Errorf("%w: it has no manifest.json, only the older file \"repositories\"", ErrNotArchive)
	}
	return nil, fmt.Errorf("%w: it has neither index.json nor manifest.json", ErrNotArchive)
}

// keepDocument keeps a member that lists images, and the digest of one that may be a config:
// not every program names it so. Two of one name that differ have two meanings, so they are
// refused.
func (ld *loader) keepDocument(hdr *tar.Header, in io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return fmt.Errorf("member %w", err)
	}
	small := hdr.Typeflag == tar.TypeReg && hdr.Size <= oci.MaxDocument
	switch name {
	case layoutFile, indexFile, manifestFile, "repositories":
		if !small {
			return fmt.Errorf("member %q: not a file of at most %d bytes: %w", name, oci.MaxDocument, oci.ErrMalformed)
		}
		err = ld.controlFile(name, in)
	default:
		if !small {
			return nil
		}
		var m member
		if m.digest, m.size, err = digest.FromReader(digest.SHA256, in); err == nil {
			ld.members[name] = m
			err = ld.keepPaths(name)
		}
	}
	if err != nil {
		return fmt.Errorf("member %q: %w", name, err)
	}
	return nil
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
