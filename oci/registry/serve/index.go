package serve

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// An index is what index.json of a repository says. It is shared, so nobody changes it.
type index struct {
	entries  []oci.Descriptor
	tags     []string // sorted
	byTag    map[string]oci.Descriptor
	twice    map[string]bool // tags that name two images
	byDigest map[digest.Digest]oci.Descriptor
}

func newIndex(x oci.Index) *index {
	v := &index{entries: x.Manifests, byTag: map[string]oci.Descriptor{}, twice: map[string]bool{}, byDigest: map[digest.Digest]oci.Descriptor{}}
	for _, e := range x.Manifests {
		if _, known := v.byDigest[e.Digest]; !known {
			v.byDigest[e.Digest] = e
		}
	}
	// A name in full counts only where no entry has the tag itself, as in layout.Resolve.
	for _, level := range []func(oci.Descriptor) []string{
		func(e oci.Descriptor) []string { return []string{e.Annotations[oci.AnnotationRefName]} },
		func(e oci.Descriptor) []string { return []string{e.Annotations[oci.AnnotationImageName]} },
		names,
	} {
		found := map[string]oci.Descriptor{}
		for _, e := range x.Manifests {
			for _, tag := range level(e) {
				if _, taken := v.byTag[tag]; taken || !tagGrammar().MatchString(tag) {
					continue
				}
				if first, ok := found[tag]; ok && first.Digest != e.Digest {
					v.twice[tag] = true
				} else if !ok {
					found[tag] = e
				}
			}
		}
		for tag, e := range found {
			v.byTag[tag] = e
			v.tags = append(v.tags, tag)
		}
	}
	slices.Sort(v.tags)
	return v
}

// indexes keeps decoded indexes: one of thousands of tags takes a good part of a second to
// decode, and clients ask for one tag at a time.
type indexes struct {
	mu    sync.Mutex
	kept  map[string]keptIndex // by repository
	size  int64                // bytes of the files of those
	loads chan struct{}        // slots for those who decode
}

type keptIndex struct {
	info fs.FileInfo
	v    *index
}

// Limits of the kept indexes. A file that was changed so short a time ago might be changed
// again without a sign of it.
const (
	maxKept  = 16 << 20
	settling = time.Second
)

func newIndexes() *indexes {
	return &indexes{kept: map[string]keptIndex{}, loads: make(chan struct{}, 2)}
}

// get returns the kept index if the file is still the one that it was read from.
func (c *indexes) get(repo string, info fs.FileInfo) *index {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.kept[repo]
	if ok && os.SameFile(k.info, info) && k.info.ModTime().Equal(info.ModTime()) && k.info.Size() == info.Size() {
		return k.v
	}
	return nil
}

func (c *indexes) put(repo string, info fs.FileInfo, v *index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.kept[repo]; ok {
		c.size -= old.info.Size()
	}
	if c.size += info.Size(); c.size > maxKept {
		c.kept, c.size = map[string]keptIndex{}, info.Size()
	}
	c.kept[repo] = keptIndex{info, v}
}

// index returns index.json of a repository whose layout is open.
func (s *Server) index(repo string, l *layout.Layout) (*index, error) {
	info, err := s.root.Lstat(path.Join(repo, "index.json"))
	if err == nil {
		if v := s.indexes.get(repo, info); v != nil {
			return v, nil
		}
	}
	s.indexes.loads <- struct{}{}
	defer func() { <-s.indexes.loads }()
	info, statErr := s.root.Lstat(path.Join(repo, "index.json")) // before it is read: what comes after is newer
	if statErr == nil {
		if v := s.indexes.get(repo, info); v != nil {
			return v, nil
		}
	}
	x, err := l.Index()
	if err != nil {
		return nil, err
	}
	v := newIndex(x)
	if statErr == nil && time.Since(info.ModTime()) > settling {
		s.indexes.put(repo, info, v)
	}
	return v, nil
}

// find returns the descriptor of a tag or a digest. A digest need not be listed: an index
// may hold it, or a tag may have named it once.
func (s *Server) find(repo string, l *layout.Layout, tag string, d digest.Digest) (oci.Descriptor, error) {
	v, err := s.index(repo, l)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if tag != "" {
		desc, ok := v.byTag[tag]
		switch {
		case v.twice[tag]:
			return desc, layout.ErrAmbiguous
		case !ok:
			return desc, layout.ErrNotFound
		}
		return desc, nil
	}
	if desc, ok := v.byDigest[d]; ok {
		return desc, nil
	}
	desc, err := l.Describe(d)
	if err == nil && !isManifest(desc.MediaType) {
		err = layout.ErrNotFound
	}
	return desc, err
}
