package layout

import (
	"context"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
)

// AddEntries puts entries into index.json, all of them or none, in one update. One with a tag
// takes the place of what had it, as with [Layout.Tag]; one without is added unless its digest
// is listed. Every image must be whole: an absent blob gives [ErrIncomplete].
func (l *Layout) AddEntries(ctx context.Context, entries []oci.Descriptor) error {
	for _, e := range entries {
		if tag := e.Annotations[oci.AnnotationRefName]; tag != "" {
			if err := oci.CheckTag(tag); err != nil {
				return err
			}
		}
	}
	return l.Update(ctx, func(x *oci.Index) error {
		seen := map[mention]bool{}
		for _, e := range entries {
			// Under the lock, so that no GC comes between the check and the name.
			if err := l.checkComplete(e, seen); err != nil {
				return fmt.Errorf("image %s: %w", e.Digest, err)
			}
		}
		setEntries(x, entries...)
		return nil
	})
}

// setEntries puts each entry that has a tag in the place of the first one with it, and drops any
// others; those without are added unless their digests are listed. An archive may bring
// thousands, so each list is gone through once.
func setEntries(x *oci.Index, entries ...oci.Descriptor) {
	tagged := map[string]oci.Descriptor{}
	for _, e := range entries {
		tagged[e.Annotations[oci.AnnotationRefName]] = e
	}
	placed, listed := map[string]bool{}, map[digest.Digest]bool{}
	list := make([]oci.Descriptor, 0, len(x.Manifests)+len(entries))
	for i, e := range slices.Concat(x.Manifests, entries) {
		tag := e.Annotations[oci.AnnotationRefName]
		if placed[tag] || tag == "" && i >= len(x.Manifests) && listed[e.Digest] {
			continue
		}
		if newest, ok := tagged[tag]; ok && tag != "" {
			e, placed[tag] = newest, true
		}
		list = append(list, e)
		listed[e.Digest] = true
	}
	x.Manifests = list
}
