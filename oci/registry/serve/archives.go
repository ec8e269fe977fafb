package serve

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/archive/split"
	"ocikit/oci/layout"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/source"
)

// archiveSuffix makes the file DIR/a/b.tar the repository a/b. A compressed archive is none: it
// would have to be decompressed to somewhere.
const archiveSuffix = ".tar"

// findArchive returns the path, and what is there, of the archive that is a repository: a plain tar,
// or a directory with its parts. A link is none. Whether it holds images is not looked at.
func (s *Server) findArchive(repo string) (name string, info fs.FileInfo, ok bool) {
	if s.root == nil || exchange.CheckName(repo) != nil {
		return "", nil, false
	}
	if info, err := s.root.Lstat(repo + archiveSuffix); err == nil && info.Mode().IsRegular() {
		return repo + archiveSuffix, info, true
	}
	info, err := s.root.Lstat(repo)
	if err == nil && info.IsDir() && split.IsSet(filepath.Join(s.root.Name(), repo)) {
		return repo, info, true
	}
	return "", nil, false
}

// hasLayout reports whether a repository has a layout.
func (s *Server) hasLayout(repo string) bool {
	l, err := layout.OpenBelow(s.root, repo)
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// archiveRepos returns the repositories that archives in a directory are, given its entries.
func archiveRepos(dir string, entries []fs.DirEntry) (repos []string) {
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), archiveSuffix)
		if repo := path.Join(dir, name); ok && name != "" && e.Type().IsRegular() && exchange.CheckName(repo) == nil {
			repos = append(repos, repo)
		}
	}
	if dir != "." && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return split.IsIndex(e.Name()) }) {
		repos = append(repos, dir)
	}
	return repos
}

// archives keeps archives open: to open one means to read all its headers.
type archives struct {
	ctx context.Context // ends with the server

	mu   sync.Mutex
	kept map[string]*openArchive // by path
}

// An openArchive is one that is read by users.
type openArchive struct {
	info   fs.FileInfo // as it was when it was opened
	opened sync.Once
	a      *archive.Archive
	err    error

	users   int  // guarded by archives.mu, as gone is
	dropped bool // nobody finds it any longer; the last user closes it
}

// maxArchives is how many archives are kept open that nobody reads.
const maxArchives = 64

// get returns an archive for reading; closing it ends that, and leaves it open for the next one.
func (c *archives) get(root *os.Root, name string, info fs.FileInfo) (source.Source, error) {
	o := c.find(name, info)
	o.opened.Do(func() { o.a, o.err = openArchiveBelow(c.ctx, root, name, info) })
	if o.err != nil {
		c.release(o)
		return nil, fmt.Errorf("archive %q: %w", name, o.err)
	}
	return &lentArchive{Source: o.a, release: sync.OnceFunc(func() { c.release(o) })}, nil
}

// find returns what is kept for a file if the file is still the same, or a new place for it.
func (c *archives) find(name string, info fs.FileInfo) *openArchive {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.kept[name]

	// A file that was replaced is opened anew. Its readers go on with the old one.
	if ok && !(os.SameFile(o.info, info) && o.info.ModTime().Equal(info.ModTime()) && o.info.Size() == info.Size()) {
		c.drop(name)
		ok = false
	}

	// Archives that nobody reads make room for the new one.
	if !ok {
		for other, kept := range c.kept {
			if len(c.kept) >= maxArchives && kept.users == 0 {
				c.drop(other)
			}
		}
		o = &openArchive{info: info}
		c.kept[name] = o
	}

	o.users++
	return o
}

// drop forgets an archive, and closes it if nobody reads it.
func (c *archives) drop(name string) {
	o := c.kept[name]
	delete(c.kept, name)
	o.dropped = true
	if o.users == 0 {
		o.close()
	}
}

func (c *archives) release(o *openArchive) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.users--; o.users == 0 && o.dropped {
		o.close()
	}
}

func (o *openArchive) close() {
	if o.a != nil {
		o.a.Close() // it was only read
	}
}

// close closes what nobody reads. Requests must have ended.
func (c *archives) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.kept {
		c.drop(name)
	}
}

// openArchiveBelow opens an archive, whose path does not lead out of the root.
func openArchiveBelow(ctx context.Context, root *os.Root, name string, info fs.FileInfo) (*archive.Archive, error) {
	if info.IsDir() {
		return archive.Open(ctx, filepath.Join(root.Name(), name), archive.OpenOptions{InPlace: true})
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	a, err := archive.OpenStream(ctx, f, name, archive.OpenOptions{InPlace: true})
	if err != nil {
		f.Close()
		return nil, err
	}
	a.CloseToo(f.Close)
	return a, nil
}

// A lentArchive is open for one request.
type lentArchive struct {
	source.Source
	release func()
}

func (l *lentArchive) Close() error {
	l.release()
	return nil
}

// archiveNames returns the names of the repositories that an archive is served as: first its own,
// which holds everything, then those of the full names in it, without their hosts.
func (s *Server) archiveNames() []string {
	names, known := []string{s.opts.Repository}, map[string]bool{s.opts.Repository: true}
	x, err := s.opts.Archive.Index()
	if err != nil {
		return names
	}
	for _, e := range x.Manifests {
		if _, repo := fullRepo(e); repo != "" && !known[repo] && exchange.CheckName(repo) == nil {
			known[repo] = true
			names = append(names, repo)
		}
	}
	return names
}

// fullRepo returns host and path of the full name of an entry, which some programs write as its tag.
func fullRepo(e oci.Descriptor) (host, repo string) {
	name := cmp.Or(e.Annotations.Get(oci.AnnotationImageName), e.Annotations.Get(oci.AnnotationRefName))
	host, repo, _ = strings.Cut(oci.SplitName(name).Repo, "/")
	return host, repo
}

// archiveRepo returns the archive that is served in place of a directory, as a repository sees it.
func (s *Server) archiveRepo(repo string) (source.Source, error) {
	whole := &lentArchive{s.opts.Archive, func() {}}
	if repo == s.opts.Repository {
		return whole, nil
	}

	x, err := whole.Index()
	if err != nil {
		return nil, err
	}

	// A client may write the name with the host in front or without.
	x.Manifests = slices.DeleteFunc(slices.Clone(x.Manifests), func(e oci.Descriptor) bool {
		host, path := fullRepo(e)
		return path != repo && host+"/"+path != repo
	})

	if len(x.Manifests) == 0 {
		return nil, nil
	}

	return partOfArchive{whole, x}, nil
}

// A partOfArchive lists some of its images.
type partOfArchive struct {
	source.Source
	list oci.Index
}

func (p partOfArchive) Index() (oci.Index, error) { return p.list, nil }

// openContent opens a blob, which the caller closes. The content of a layout's blob is the file
// itself, so that the system can send it without a copy. For a HEAD, which reads nothing, it has a size
// and no bytes.
func openContent(r *http.Request, src source.Source, d digest.Digest) (content io.ReadSeeker, closer io.Closer, err error) {
	size, err := src.Stat(d)
	if err != nil {
		return nil, nil, err
	}

	if r.Method == http.MethodHead {
		return io.NewSectionReader(strings.NewReader(""), 0, size), io.NopCloser(nil), nil
	}

	b, err := src.BlobAt(oci.Descriptor{Digest: d, Size: size})
	if err != nil {
		return nil, nil, err
	}
	if f, ok := b.(*os.File); ok {
		return f, f, nil
	}
	return io.NewSectionReader(b, 0, size), b, nil
}
