package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
)

// maxInventory bounds the blobs of an inventory.
const maxInventory = 300_000

// Inventory returns the descriptors of the manifests and blobs below names that the registry has,
// each once. It reads every manifest and asks for every blob. What the registry lacks is left out,
// with everything that only it would lead to. Layers carry no diff IDs.
//
// The names may be those that [Client.Tags] lists. One that is neither a tag nor a digest gives
// [ErrReference], since it could lead to another repository. A name that fails does not end the
// work: the error is then a [source.Failures], and comes beside what was found. An error in the
// sequence of names ends the work, as does the end of ctx.
func (c *Client) Inventory(ctx context.Context, repo string, names iter.Seq2[string, error]) ([]oci.Descriptor, error) {
	var (
		r      = NewRepository(ctx, c, Reference{Repo: repo}, nil)
		w      = graph.NewWalker(r, graph.DefaultLimits())
		list   = inventory{r: r, seen: map[digest.Digest]bool{}}
		failed source.Failures
	)

	for name, err := range names {
		if err != nil {
			return nil, err
		}
		failed.Total++

		root, err := r.named(name)
		if err == nil {
			err = w.Walk([]oci.Descriptor{root}, list.note)
		}
		failed.Add(name, err)
		if err := context.Cause(ctx); err != nil {
			return list.found, err
		}
		if failed.Hopeless() || len(list.seen) > maxInventory {
			break
		}

		// The walker visits nothing twice, so documents of this name are not needed again. Kept,
		// they would be all the manifests of the repository.
		clear(r.documents)
	}

	return list.found, failed.Err()
}

// An inventory collects what a repository has.
type inventory struct {
	r     *Repository
	seen  map[digest.Digest]bool
	found []oci.Descriptor
}

// note adds what is there. The walk has read a manifest already; a blob has to be asked for.
func (l *inventory) note(n graph.Node) error {
	if l.seen[n.Desc.Digest] {
		return nil
	}

	l.seen[n.Desc.Digest] = true
	if len(l.seen) > maxInventory {
		return fmt.Errorf("over %d blobs: %w", maxInventory, oci.ErrMalformed)
	}

	there, err := n.Doc != nil, n.Err
	if err == nil && !there {
		var size int64
		size, err = l.r.Stat(n.Desc.Digest)
		there = graph.Fits(size, n.Desc)
	}

	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err == nil && there:
		l.found = append(l.found, n.Desc)
	}

	return err
}

// named returns what a tag or a digest means. Anything else is refused: a name with a slash would
// end up in the path of the request.
func (r *Repository) named(name string) (oci.Descriptor, error) {
	n := oci.ImageName{Tag: name}
	if d, err := digest.Parse(name); err == nil {
		n = oci.ImageName{Digest: d}
	} else if err := CheckTag(name); err != nil {
		return oci.Descriptor{}, err
	}
	return r.Resolve(n)
}
