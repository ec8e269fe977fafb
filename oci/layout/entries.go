package layout

import (
	"context"
	"fmt"
	"slices"

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
		for _, e := range entries {
			// Under the lock, so that no GC comes between the check and the name.
			if err := l.CheckComplete(e); err != nil {
				return fmt.Errorf("image %s: %w", e.Digest, err)
			}
			if tag := e.Annotations[oci.AnnotationRefName]; tag != "" {
				setEntry(x, tag, e)
				continue
			}
			if !slices.ContainsFunc(x.Manifests, func(d oci.Descriptor) bool { return d.Digest == e.Digest }) {
				x.Manifests = append(x.Manifests, e)
			}
		}
		return nil
	})
}
