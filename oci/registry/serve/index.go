package serve

import (
	"bytes"
	"io/fs"
	"os"
	"slices"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// An index is index.json of a repository, decoded, with its names looked up once. Several requests
// read it at a time; [index.set] alone changes it.
type index struct {
	mu       sync.RWMutex // held by who reads what is below, or changes it
	about    oci.Index    // index.json without its entries
	entries  []oci.Descriptor
	tags     []string              // sorted
	byTag    map[string]int        // the first entry that has the tag among its names
	shared   map[string]bool       // tags that several entries have
	byDigest map[digest.Digest]int // the first entry
	nameless map[digest.Digest]int // how many entries have the digest and no tag

	// The text of index.json, made when it is first written. Those without it cannot be changed in place.
	head, list, tail []byte // list holds the entries, each with a comma behind it
	ends             []int  // of the entries in list

	info fs.FileInfo // of the file that says this; nil if that is not known

	file *os.File // that file, if it was written here; guarded by indexes.mu, as size
	size int64    // as it is counted in indexes.size
}

func newIndex(x oci.Index) *index {
	v := &index{byTag: map[string]int{}, shared: map[string]bool{}, byDigest: map[digest.Digest]int{}, nameless: map[digest.Digest]int{}}
	v.entries, x.Manifests = x.Manifests, nil
	v.about = x
	v.sort()
	return v
}

// sort finds out what the entries are called.
func (v *index) sort() {
	clear(v.byTag)
	clear(v.shared)
	clear(v.byDigest)
	clear(v.nameless)
	v.tags = v.tags[:0]
	for i := range v.entries {
		v.tags = append(v.tags, v.note(i)...)
	}
	slices.Sort(v.tags)
}

// note notes what an entry is called, and returns the tags that are new.
func (v *index) note(i int) (fresh []string) {
	e := v.entries[i]
	if _, known := v.byDigest[e.Digest]; !known {
		v.byDigest[e.Digest] = i
	}

	tags := names(e)
	if len(tags) == 0 {
		v.nameless[e.Digest]++
	}

	for _, tag := range tags {
		if _, known := v.byTag[tag]; known {
			v.shared[tag] = true
			continue
		}
		v.byTag[tag] = i
		fresh = append(fresh, tag)
	}

	return fresh
}

// find returns the entry that a tag means. A name in full counts only where no entry has the tag
// itself, as in layout.Resolve.
func (v *index) find(tag string) (oci.Descriptor, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	i, ok := v.byTag[tag]
	switch {
	case !ok:
		return oci.Descriptor{}, layout.ErrNotFound
	case !v.shared[tag]:
		return v.entries[i], nil
	}

	// The most literal name wins: the tag itself, then the full name, then what stands behind the
	// colon of one. Entries that have it in the same way must mean the same manifest.
	for _, has := range []func(oci.Descriptor) bool{
		func(e oci.Descriptor) bool { return e.Annotations.Get(oci.AnnotationRefName) == tag },
		func(e oci.Descriptor) bool { return e.Annotations.Get(oci.AnnotationImageName) == tag },
		func(e oci.Descriptor) bool { return slices.Contains(names(e), tag) },
	} {
		first := slices.IndexFunc(v.entries, has)
		if first < 0 {
			continue
		}
		desc := v.entries[first]
		if slices.ContainsFunc(v.entries[first:], func(e oci.Descriptor) bool { return e.Digest != desc.Digest && has(e) }) {
			return desc, layout.ErrAmbiguous
		}
		return desc, nil
	}

	return oci.Descriptor{}, layout.ErrNotFound
}

// listed returns the entry of a digest.
func (v *index) listed(d digest.Digest) (oci.Descriptor, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if i, ok := v.byDigest[d]; ok {
		return v.entries[i], true
	}
	return oci.Descriptor{}, false
}

// all returns the entries, and allTags the tags, as they are now.
func (v *index) all() []oci.Descriptor {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Clone(v.entries)
}

func (v *index) allTags() []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Clone(v.tags)
}

// set gives a manifest its entries, as setNames does, and reports whether that changed anything. A
// new tag costs no more than its own text. A tag that moves costs a look at the digests of all
// entries, and anything else what setNames costs. v.mu is held.
func (v *index) set(m manifest, tags []string) (changed bool, err error) {
	// The text is made with the first change, since most indexes are only read.
	if v.list == nil {
		if err := v.encode(); err != nil {
			return false, err
		}
	}

	// A tag that several entries have, or that stands in a full name, needs the rules of setNames.
	for _, tag := range tags {
		i, known := v.byTag[tag]
		if v.shared[tag] || known && v.entries[i].Annotations.Get(oci.AnnotationRefName) != tag {
			return v.setSlowly(m, tags)
		}
	}

	// Without a tag the manifest gets an entry without a name, so that it is not garbage.
	if _, listed := v.byDigest[m.desc.Digest]; len(tags) == 0 && !listed {
		if changed, err = v.put("", m.desc); err != nil {
			return false, err
		}
	}

	for _, tag := range tags {
		put, err := v.put(tag, m.desc.WithAnnotation(oci.AnnotationRefName, tag))
		if err != nil {
			return false, err
		}
		changed = changed || put
	}

	return v.release(m, len(tags) > 0) || changed, nil
}

func (v *index) setSlowly(m manifest, tags []string) (changed bool, err error) {
	before := slices.Clone(v.list)
	x := v.about
	x.Manifests = slices.Clone(v.entries)
	setNames(&x, m, tags)
	v.entries = x.Manifests
	v.sort()
	err = v.encode()
	return !bytes.Equal(before, v.list), err
}

// release drops entries without a name of what the manifest holds from now on, or its tag. What was
// pushed a moment ago stands near the end, so that costs no look at all entries.
func (v *index) release(m manifest, tagged bool) (changed bool) {
	held, left := map[digest.Digest]bool{}, 0
	hold := func(d digest.Digest) {
		if n := v.nameless[d]; n > 0 && !held[d] {
			held[d] = true
			left += n
		}
	}
	for _, ref := range m.refs {
		hold(ref.Digest)
	}
	if tagged {
		hold(m.desc.Digest)
	}

	if left == 0 {
		return false
	}

	released := func(e oci.Descriptor) bool { return held[e.Digest] && len(names(e)) == 0 }
	first := len(v.entries)
	for left > 0 {
		first--
		if released(v.entries[first]) {
			left--
		}
	}

	v.remove(first, released)
	for d := range held {
		delete(v.nameless, d)
	}

	return true
}

// remove removes those from the entry first on that have no name and are to go. The others move up.
func (v *index) remove(first int, goes func(oci.Descriptor) bool) {
	for i, e := range v.entries[first:] {
		if i += first; v.byDigest[e.Digest] == i {
			delete(v.byDigest, e.Digest)
		}
		for _, tag := range names(e) {
			if v.byTag[tag] == i {
				delete(v.byTag, tag)
			}
		}
	}

	// The entries that stay, their texts and the ends of those are written over the old ones.
	start, kept := v.start(first), first
	length := start
	for i := first; i < len(v.entries); i++ {
		e, end := v.entries[i], v.ends[i]
		if !goes(e) {
			length += copy(v.list[length:], v.list[start:end])
			v.entries[kept], v.ends[kept] = e, length
			v.name(kept)
			kept++
		}
		start = end
	}

	clear(v.entries[kept:])
	v.list, v.entries, v.ends = v.list[:length], v.entries[:kept], v.ends[:kept]
}

// name notes where an entry that has moved is found, unless another one comes before it.
func (v *index) name(i int) {
	e := v.entries[i]
	if _, known := v.byDigest[e.Digest]; !known {
		v.byDigest[e.Digest] = i
	}
	for _, tag := range names(e) {
		if _, known := v.byTag[tag]; !known {
			v.byTag[tag] = i
		}
	}
}

// start is where the text of an entry begins.
func (v *index) start(i int) int {
	if i == 0 {
		return 0
	}
	return v.ends[i-1]
}

// replace puts a text in the place of an entry's.
func (v *index) replace(i int, text []byte) {
	start := v.start(i)
	longer := len(text) - (v.ends[i] - start)
	v.list = slices.Replace(v.list, start, v.ends[i], text...)
	for k := i; k < len(v.ends); k++ {
		v.ends[k] += longer
	}
}

// put puts an entry in the place of the one with its tag, or behind all others.
func (v *index) put(tag string, e oci.Descriptor) (changed bool, err error) {
	text, err := oci.Encode(e)
	if err != nil {
		return false, err
	}

	text = append(text, ',')
	i, known := v.byTag[tag]

	// A new entry goes behind all others, and the text of those stays.
	if !known {
		v.entries = append(v.entries, e)
		v.list = append(v.list, text...)
		v.ends = append(v.ends, len(v.list))
		for _, tag := range v.note(len(v.entries) - 1) {
			at, _ := slices.BinarySearch(v.tags, tag)
			v.tags = slices.Insert(v.tags, at, tag)
		}
		return true, nil
	}

	// The same entry again is not a change, so index.json need not be written.
	if bytes.Equal(v.list[v.start(i):v.ends[i]], text) {
		return false, nil
	}

	v.replace(i, text)
	was := v.entries[i]
	v.entries[i] = e
	if len(names(was)) > 1 {
		v.sort() // a name goes
		return true, nil
	}

	v.repoint(i, was.Digest, e.Digest)
	return true, nil
}

// repoint notes that an entry has another digest than before. Names are not looked at, which keeps
// the move of a tag cheap where there are many.
func (v *index) repoint(i int, was, now digest.Digest) {
	if v.byDigest[was] == i {
		delete(v.byDigest, was)
		if next := slices.IndexFunc(v.entries[i+1:], func(e oci.Descriptor) bool { return e.Digest == was }); next >= 0 {
			v.byDigest[was] = i + 1 + next
		}
	}
	if first, known := v.byDigest[now]; !known || first > i {
		v.byDigest[now] = i
	}
}

// encode makes the text of index.json.
func (v *index) encode() error {
	around, err := oci.Encode(v.about)
	if err != nil {
		return err
	}

	// The text around the entries is that of the document without any, cut at its empty list.
	const empty = `"manifests":[]`
	v.head, v.tail, _ = bytes.Cut(around, []byte(empty))
	v.head = append(slices.Clone(v.head), empty[:len(empty)-1]...)
	v.tail = append([]byte("]"), v.tail...)
	v.list, v.ends = v.list[:0], v.ends[:0]
	for _, e := range v.entries {
		text, err := oci.Encode(e)
		if err != nil {
			return err
		}
		v.list = append(append(v.list, text...), ',')
		v.ends = append(v.ends, len(v.list))
	}

	if v.list == nil {
		v.list = []byte{}
	}

	return nil
}

// write writes index.json.
func (v *index) write(l *layout.Layout) error {
	// Somewhere in what is not known here there may be another list of that name.
	if len(v.about.Extra) > 0 {
		x := v.about
		x.Manifests = v.entries
		whole, err := oci.Encode(x)
		if err != nil {
			return err
		}
		return l.ReplaceIndex(whole)
	}
	return l.ReplaceIndex(v.head, bytes.TrimSuffix(v.list, []byte(",")), v.tail)
}
