package registry

import (
	"context"
	"errors"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
)

// maxInventory bounds the blobs of one image.
const maxInventory = 100_000

// Inventory returns descriptors of the manifests and blobs of an image that the registry has,
// each once. It gets every manifest and asks for every blob. What the registry lacks below the
// manifest that name means is left out, with the rest of what that would lead to. Layers carry
// no diff IDs.
func (c *Client) Inventory(ctx context.Context, repo, name string) ([]oci.Descriptor, error) {
	root, data, err := c.GetManifest(ctx, repo, name)
	if err != nil {
		return nil, err
	}
	found := []oci.Descriptor{root}
	seen := map[digest.Digest]bool{root.Digest: true}
	todo, err := oci.References(root, data)
	for err == nil && len(todo) > 0 {
		desc := todo[0]
		todo = todo[1:]
		if seen[desc.Digest] {
			continue
		}
		if seen[desc.Digest] = true; len(seen) > maxInventory {
			return nil, fmt.Errorf("image %s: over %d blobs: %w", root.Digest, maxInventory, oci.ErrMalformed)
		}
		var refs []oci.Descriptor
		var there bool
		if there, refs, err = c.has(ctx, repo, desc); there {
			found = append(found, desc)
			todo = append(todo, refs...)
		}
	}
	return found, err
}

// has reports whether the registry has a manifest, whose references it returns, or a blob.
func (c *Client) has(ctx context.Context, repo string, desc oci.Descriptor) (bool, []oci.Descriptor, error) {
	if oci.IsManifest(desc.MediaType) || oci.IsIndex(desc.MediaType) {
		_, data, err := c.GetManifest(ctx, repo, desc.Digest.String())
		if errors.Is(err, ErrNotFound) {
			return false, nil, nil
		}
		if err != nil {
			return false, nil, err
		}
		refs, err := oci.References(desc, data)
		return err == nil, refs, err
	}
	size, err := c.HeadBlob(ctx, repo, desc.Digest)
	if errors.Is(err, ErrNotFound) {
		return false, nil, nil
	}
	return err == nil && (size < 0 || size == desc.Size), nil, err
}
