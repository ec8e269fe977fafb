package layout

import (
	"context"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// AddEntries puts entries into index.json, all of them or none, in one update. One with a tag
// takes the place of what had it, as with [Layout.Tag]; one without is added unless its digest
// is listed. Every image must be whole by the rules: an absent blob gives [ErrIncomplete].
func (l *Layout) AddEntries(ctx context.Context, entries []oci.Descriptor, rules graph.Rules) error {
	for _, e := range entries {
		if tag := e.Annotations[oci.AnnotationRefName]; tag != "" {
			if err := oci.CheckTag(tag); err != nil {
				return err
			}
		}
	}

	return l.Update(ctx, func(x *oci.Index) error {
		// Under the lock, so that no GC comes between the check and the name.
		w := graph.NewWalker(l, graph.DefaultLimits())
		for _, e := range entries {
			if err := w.Check(e, rules); err != nil {
				return fmt.Errorf("image %s: %w", e.Digest, err)
			}
		}
		setEntries(x, entries...)
		return nil
	})
}

// setEntries puts each entry that has a tag in the place of the first one with it, and drops any
// others; those without are added unless their digests are listed. There may be thousands of
// entries, and more of them in x, so each list is gone through once.
func setEntries(x *oci.Index, entries ...oci.Descriptor) {
	const placed = -1
	tagged := map[string]int{}           // where in entries the last one with the tag is, or placed
	untagged := map[digest.Digest]bool{} // those without a tag: whether it is listed
	for i, e := range entries {
		if tag := e.Annotations[oci.AnnotationRefName]; tag != "" {
			tagged[tag] = i
		} else {
			untagged[e.Digest] = false
		}
	}

	// The list is made anew in place: it never gets longer than what of it was read.
	list := slices.Grow(x.Manifests, len(entries))[:0]
	add := func(e oci.Descriptor) {
		tag := e.Annotations[oci.AnnotationRefName]
		if newest, ok := tagged[tag]; ok {
			if newest == placed {
				return
			}
			e, tagged[tag] = entries[newest], placed
		}
		if _, ok := untagged[e.Digest]; ok {
			untagged[e.Digest] = true
		}
		list = append(list, e)
	}

	for _, e := range x.Manifests {
		add(e)
	}

	for _, e := range entries {
		if e.Annotations[oci.AnnotationRefName] != "" || !untagged[e.Digest] {
			add(e)
		}
	}

	x.Manifests = list
}
