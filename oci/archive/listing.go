package archive

import (
	"slices"

	"ocikit/digest"
	"ocikit/oci"
)

// A listing is the entries of an index.json while a bundle changes them. A bundle may bring
// thousands, so none of its methods goes through all of them.
type listing struct {
	old, added []oci.Descriptor
	at         map[string]*oci.Descriptor // in old or added, by name
	count      map[digest.Digest]int      // of entries
	nameless   map[digest.Digest][]*oci.Descriptor
}

func newListing(entries []oci.Descriptor, most int) *listing {
	s := &listing{
		old: slices.Clone(entries), added: make([]oci.Descriptor, 0, most),
		at: map[string]*oci.Descriptor{}, count: map[digest.Digest]int{}, nameless: map[digest.Digest][]*oci.Descriptor{},
	}
	for i := range s.old {
		s.note(&s.old[i])
	}
	return s
}

func (s *listing) note(e *oci.Descriptor) {
	s.count[e.Digest]++
	name := entryName(*e)
	if name == "" {
		s.nameless[e.Digest] = append(s.nameless[e.Digest], e)
	} else if s.at[name] == nil {
		s.at[name] = e
	}
}

// add adds an entry. If it has a name, those without one for its digest go.
func (s *listing) add(e oci.Descriptor) {
	if entryName(e) != "" {
		for _, gone := range s.nameless[e.Digest] {
			*gone = oci.Descriptor{}
			s.count[e.Digest]--
		}
		delete(s.nameless, e.Digest)
	}
	s.added = append(s.added, e) // never over its capacity: there are pointers into it
	s.note(&s.added[len(s.added)-1])
}

// replace puts e in the place of the entry with its name.
func (s *listing) replace(e oci.Descriptor) {
	was := s.at[entryName(e)]
	s.count[was.Digest]--
	s.count[e.Digest]++
	*was = e
}

// entries returns the list. Added entries are sorted in among the old ones, whose order stays,
// so that bundles that come in any order give one list.
func (s *listing) entries() []oci.Descriptor {
	gone := func(d oci.Descriptor) bool { return d.Digest.IsZero() }
	old, added := slices.DeleteFunc(s.old, gone), slices.DeleteFunc(s.added, gone)
	slices.SortStableFunc(added, compareEntries)
	list := make([]oci.Descriptor, 0, len(old)+len(added))
	for _, d := range old {
		for len(added) > 0 && compareEntries(d, added[0]) > 0 {
			list = append(list, added[0])
			added = added[1:]
		}
		list = append(list, d)
	}
	return append(list, added...)
}
