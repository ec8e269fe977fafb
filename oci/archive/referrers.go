package archive

import (
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
)

// Referrers finds the referrers of each image, and counts all of them. With require, an image gives
// [ErrNoReferrers] if it has no referrer and is not a referrer itself.
func Referrers(images []Image, require bool) (found [][]graph.Referrer, n int, err error) {
	counted := map[digest.Digest]bool{}
	for _, im := range images {
		refs, err := source.Referrers(im.Source, []oci.Descriptor{im.Desc})
		if err != nil {
			return nil, 0, err
		}
		found = append(found, refs)
		for _, r := range refs {
			if !counted[r.Desc.Digest] && !r.List {
				n++
			}
			counted[r.Desc.Digest] = true
		}
	}

	for i, im := range images {
		if require && len(found[i]) == 0 && !counted[im.Desc.Digest] {
			return nil, 0, fmt.Errorf("%q: image %s: %w", im.Source.Name(), im.Desc.Digest, ErrNoReferrers)
		}
	}

	return found, n, nil
}
