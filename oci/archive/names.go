package archive

import (
	"archive/tar"
	"bytes"
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
	plain, _, err := tarutil.Decompress(r)
	if err != nil {
		return nil, err
	}
	check := &tarutil.Checker{AllowNoEnd: true}
	tee := io.TeeReader(plain, check)
	in := tar.NewReader(tee)
	docs := map[string][]byte{}
	for {
		hdr, err := in.Next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it is not a whole tar: %v", ErrNotArchive, err)
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = keepDocument(docs, hdr, in)
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
	case docs["index.json"] != nil:
		var x oci.Index
		if err := oci.Decode(docs["index.json"], &x); err != nil {
			return nil, fmt.Errorf("index.json: %w", err)
		}
		return x.Manifests, nil
	case docs["manifest.json"] != nil:
		return dockerNames(docs["manifest.json"])
	case docs["repositories"] != nil:
		return nil, fmt.Errorf("%w: it has no manifest.json, only the older file \"repositories\"", ErrNotArchive)
	}
	return nil, fmt.Errorf("%w: it has neither index.json nor manifest.json", ErrNotArchive)
}

// keepDocument keeps a member that lists images. Two of one name that differ have two
// meanings, so they are refused.
func keepDocument(docs map[string][]byte, hdr *tar.Header, in io.Reader) error {
	name := path.Clean("/" + hdr.Name)[1:]
	if name != "index.json" && name != "manifest.json" && name != "repositories" {
		return nil
	}
	if hdr.Typeflag != tar.TypeReg || hdr.Size > oci.MaxDocument {
		return fmt.Errorf("member %q: not a file of at most %d bytes: %w", hdr.Name, oci.MaxDocument, oci.ErrMalformed)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("member %q: %w", hdr.Name, err)
	}
	if before, ok := docs[name]; ok && !bytes.Equal(before, data) {
		return fmt.Errorf("member %q: twice, and different: %w", hdr.Name, oci.ErrMalformed)
	}
	docs[name] = data
	return nil
}

// dockerNames reads manifest.json. It is an array, which package oci does not decode.
func dockerNames(data []byte) ([]oci.Descriptor, error) {
	var images []struct {
		Config   string
		RepoTags []string
	}
	if err := oci.Decode([]byte(`{"images":`+string(data)+`}`), &struct {
		Images *[]struct {
			Config   string
			RepoTags []string
		} `json:"images"`
	}{&images}); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("manifest.json: it lists no image: %w", oci.ErrMalformed)
	}
	var found []oci.Descriptor
	for _, image := range images {
		id, err := digest.Parse("sha256:" + strings.TrimSuffix(path.Base(image.Config), ".json"))
		if err != nil {
			return nil, fmt.Errorf("manifest.json: config %q is not named by its digest: %w", image.Config, oci.ErrMalformed)
		}
		desc := oci.Descriptor{MediaType: oci.MediaTypeDockerConfig, Digest: id}
		if len(image.RepoTags) == 0 {
			found = append(found, desc)
		}
		for _, tag := range image.RepoTags {
			found = append(found, desc.WithAnnotation(oci.AnnotationRefName, tag))
		}
	}
	return found, nil
}
