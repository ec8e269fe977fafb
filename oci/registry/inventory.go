package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"ocikit/digest"
	"ocikit/oci"
)

// maxInventory bounds the blobs of an inventory.
const maxInventory = 300_000

// Inventory returns descriptors of the manifests and blobs of images that the registry has,
// each once. It gets every manifest and asks for every blob. What the registry lacks below the
// manifest that a name means is left out, with the rest of what that would lead to. Layers
// carry no diff IDs.
//
// The names may be those that [Client.Tags] lists. One that is neither a tag nor a digest is
// [ErrReference]: it could lead to another repository.
func (c *Client) Inventory(ctx context.Context, repo string, names iter.Seq2[string, error]) ([]oci.Descriptor, error) {
	var found []oci.Descriptor
	seen := map[digest.Digest]bool{}
	for name, err := range names {
		if err == nil {
			found, err = c.addInventory(ctx, repo, name, found, seen)
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// addInventory adds what an image has to found, unless it was seen.
func (c *Client) addInventory(ctx context.Context, repo, name string, found []oci.Descriptor, seen map[digest.Digest]bool) ([]oci.Descriptor, error) {
	if _, err := digest.Parse(name); err != nil {
		if err := CheckTag(name); err != nil {
			return found, err
		}
	}
	root, data, err := c.GetManifest(ctx, repo, name)
	if err != nil || seen[root.Digest] {
		return found, err
	}
	seen[root.Digest] = true
	found = append(found, root)
	todo, err := oci.References(root, data)
	for err == nil && len(todo) > 0 {
		desc := todo[0]
		todo = todo[1:]
		if seen[desc.Digest] {
			continue
		}
		if seen[desc.Digest] = true; len(seen) > maxInventory {
			return found, fmt.Errorf("image %s: over %d blobs: %w", root.Digest, maxInventory, oci.ErrMalformed)
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
