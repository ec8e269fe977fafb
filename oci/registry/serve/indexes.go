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
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

// indexes keeps decoded indexes: clients ask for one tag at a time, and push one at a time.
//
// An index is kept while index.json is still the file that it was read from, or written to, by
// inode, size and time. The clock of a file system is coarse, so a file that was written a moment
// ago can be written again and look the same. For that reason what was read is kept only if it is
// older than settling. What was written here is kept at once, and its file is held open, so that no
// later file gets its inode.
type indexes struct {
	mu    sync.Mutex
	kept  map[string]*index // by repository
	size  int64             // bytes of the files of those
	loads chan struct{}     // slots for those who decode
	turns map[string]*turns // by repository: who waits to change it
}

// Limits of the kept indexes.
const (
	maxKept     = 16 << 20
	maxKeptOpen = 256
	settling    = time.Second
)

func newIndexes() *indexes {
	return &indexes{kept: map[string]*index{}, loads: make(chan struct{}, 2), turns: map[string]*turns{}}
}

// get returns the kept index if the file is still the one that it was read from.
func (c *indexes) get(repo string, lstat func() (fs.FileInfo, error)) *index {
	c.mu.Lock()
	v := c.kept[repo]
	c.mu.Unlock()
	if v == nil {
		return nil
	}
	v.mu.RLock() // while it is changed, its file is another
	defer v.mu.RUnlock()
	info, err := lstat()
	if err == nil && v.info != nil && os.SameFile(v.info, info) && v.info.ModTime().Equal(info.ModTime()) && v.info.Size() == info.Size() {
		return v
	}
	return nil
}

// put keeps an index. file is the one that says it, held open from now on, or nil.
func (c *indexes) put(repo string, v *index, file *os.File, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(repo)
	if c.size+size > maxKept || len(c.kept) >= maxKeptOpen {
		for other := range c.kept {
			c.drop(other)
		}
	}
	v.file, v.size = file, size
	c.size += size
	c.kept[repo] = v
}

// forget drops an index that may say what no file says.
func (c *indexes) forget(repo string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(repo)
}

func (c *indexes) drop(repo string) {
	v, ok := c.kept[repo]
	if !ok {
		return
	}
	if v.file != nil {
		v.file.Close()
		v.file = nil
	}
	c.size -= v.size
	delete(c.kept, repo)
}

// index returns index.json of a repository that is open.
func (s *Server) index(repo string, l source.Source) (*index, error) {
	// An archive is decoded each time: it has no index.json of its own to compare with.
	local, ok := l.(*layout.Layout)
	if !ok {
		x, err := l.Index()
		x.Manifests = slices.Clone(x.Manifests)
		return newIndex(x), err
	}

	lstat := func() (fs.FileInfo, error) { return s.root.Lstat(path.Join(repo, "index.json")) }
	if v := s.indexes.get(repo, lstat); v != nil {
		return v, nil
	}

	s.indexes.loads <- struct{}{}
	defer func() { <-s.indexes.loads }()
	if v := s.indexes.get(repo, lstat); v != nil {
		return v, nil
	}

	v, err := load(local, lstat)

	// A file that is younger than this may change again and look the same.
	if err == nil && v.info != nil && time.Since(v.info.ModTime()) > settling {
		s.indexes.put(repo, v, nil, v.info.Size())
	}

	return v, err
}

// load reads index.json.
func load(l *layout.Layout, lstat func() (fs.FileInfo, error)) (*index, error) {
	info, statErr := lstat() // before it is read: what comes after is newer
	x, err := l.Index()
	if err != nil {
		return nil, err
	}
	v := newIndex(x)
	if statErr == nil {
		v.info = info
	}
	return v, nil
}

// find returns the descriptor of a tag or a digest. A digest need not be listed: an index
// may hold it, or a tag may have named it once.
func (s *Server) find(repo string, l source.Source, tag string, d digest.Digest) (oci.Descriptor, error) {
	v, err := s.index(repo, l)
	if err != nil {
		return oci.Descriptor{}, err
	}

	if tag != "" {
		return v.find(tag)
	}

	// The entry says which media type the manifest was pushed with.
	if desc, ok := v.listed(d); ok {
		return desc, nil
	}

	// A digest that no entry lists is described by its bytes. A layer or a config is not a manifest,
	// even if it is asked for as one.
	desc, err := graph.Describe(l, d)
	if err == nil && !oci.IsDocument(desc.MediaType) {
		err = layout.ErrNotFound
	}

	return desc, err
}
