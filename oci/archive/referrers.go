package archive

import (
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// Referrers finds what refers to each of images, and counts it all. With require it gives
// [ErrNoReferrers] if an image has none and is none itself.
func Referrers(images []Image, require bool) (found [][]layout.Referrer, n int, err error) {
	counted := map[digest.Digest]bool{}
	for _, im := range images {
		refs, err := im.Layout.Referrers([]oci.Descriptor{im.Desc})
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
			return nil, 0, fmt.Errorf("layout %q: image %s: %w", im.Layout.Dir(), im.Desc.Digest, ErrNoReferrers)
		}
	}
	return found, n, nil
}
