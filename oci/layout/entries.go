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
		if tag := e.Annotations.Get(oci.AnnotationRefName); tag != "" {
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

// setEntries puts entries into x as a [placement] does.
func setEntries(x *oci.Index, entries ...oci.Descriptor) {
	p := newPlacement(pointers(entries))
	for i := range x.Manifests {
		p.add(&x.Manifests[i])
	}
	list := p.done()
	x.Manifests = slices.AppendSeq(make([]oci.Descriptor, 0, len(list)), values(list))
}

// A placement puts each entry that has a tag in the place of the first one with it, and drops any
// others; those without are added unless their digests are listed. There may be thousands of entries,
// and more of them in index.json, so each list is gone through once.
type placement struct {
	entries  []*oci.Descriptor
	tagged   map[string]int         // where in entries the last one with the tag is, or placed
	untagged map[digest.Digest]bool // those without a tag: whether it is listed
	list     []*oci.Descriptor      // what index.json gets
}

// placed marks a tag whose entry has its place.
const placed = -1

func newPlacement(entries []*oci.Descriptor) *placement {
	p := &placement{entries: entries, tagged: make(map[string]int, len(entries)), untagged: map[digest.Digest]bool{}}
	for i, e := range entries {
		if tag := e.Annotations.Get(oci.AnnotationRefName); tag != "" {
			p.tagged[tag] = i
		} else {
			p.untagged[e.Digest] = false
		}
	}
	return p
}

// see is handed the entries of index.json while it is read, and keeps those that stay.
func (p *placement) see(e *oci.Descriptor) bool {
	p.add(e)
	return false
}

// add adds an entry to the list, or what belongs in its place.
func (p *placement) add(e *oci.Descriptor) {
	tag := e.Annotations.Get(oci.AnnotationRefName)
	if newest, ok := p.tagged[tag]; ok {
		if newest == placed {
			return
		}
		e, p.tagged[tag] = p.entries[newest], placed
	}
	if _, ok := p.untagged[e.Digest]; ok {
		p.untagged[e.Digest] = true
	}
	p.list = append(p.list, e)
}

// done adds the entries that have no place yet, and returns the whole list.
func (p *placement) done() []*oci.Descriptor {
	for _, e := range p.entries {
		if e.Annotations.Get(oci.AnnotationRefName) != "" || !p.untagged[e.Digest] {
			p.add(e)
		}
	}
	return p.list
}

// pointers returns where the entries of a list are.
func pointers(list []oci.Descriptor) []*oci.Descriptor {
	all := make([]*oci.Descriptor, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return all
}
