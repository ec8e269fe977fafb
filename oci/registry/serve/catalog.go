package serve

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

// catalog returns the names of repositories that come behind last, sorted, at most limit. Directories
// that hold none of them are not looked into.
func (s *Server) catalog(ctx context.Context, last string, limit int) ([]string, error) {
	names := []string{}
	if s.root == nil {
		names = s.archiveNames()
		slices.Sort(names)
		i, found := slices.BinarySearch(names, last)
		if found {
			i++
		}
		return names[i:][:min(len(names)-i, limit)], nil
	}

	// Everything below a directory sorts behind it. So the least name on the heap is the next one,
	// whatever is still to be found.
	todo := &cursors{{head: ".", names: []string{"."}, dirs: true}}
	for todo.Len() > 0 && len(names) < limit {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}

		name, isDir := (*todo)[0].head, (*todo)[0].dirs
		todo.advance()

		// A layout and an archive of one name are one repository.
		if !isDir {
			if name > last && (len(names) == 0 || names[len(names)-1] != name) {
				names = append(names, name)
			}
			continue
		}

		// Directories come and go meanwhile, and some may be closed to this process.
		l, err := s.listings.list(s.root, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list %q: %w", name, err)
		}

		todo.add(l, name, last)
	}

	return names, nil
}

// A cursor is what is still to come of a sorted list of names in a directory. It is never empty.
type cursor struct {
	in    string
	names []string
	head  string // the path of the first of them
	dirs  bool   // they are directories, which may be repositories or hold some
}

// cursors is a heap of cursors, the one with the least name first.
type cursors []cursor

// add adds what comes behind last of a directory and what may lead there.
func (c *cursors) add(l *listing, dir, last string) {
	push := func(in string, names []string, dirs bool) {
		if len(names) > 0 {
			heap.Push(c, cursor{in, names, path.Join(in, names[0]), dirs})
		}
	}

	// The directory itself, if it is a repository: catalog knows whether that comes behind last.
	if l.itself {
		push(".", []string{dir}, false)
	}

	// Unless last is a name below the directory, all that is in it comes behind.
	behind, below := last, true
	if dir != "." {
		behind, below = strings.CutPrefix(last, dir+"/")
	}
	if !below {
		behind = ""
	}

	from, _ := slices.BinarySearch(l.archives, behind)
	push(dir, l.archives[from:], false)

	// What is below "a" ends before "a0", since only "-", "." and "/" come before the digits. So "a"
	// leads to names behind "a-b".
	from, _ = slices.BinarySearch(l.dirs, behind)
	for i := range len(behind) {
		if behind[i] >= '0' {
			continue
		}
		if at, found := slices.BinarySearch(l.dirs, behind[:i]); found {
			push(dir, l.dirs[at:at+1], true)
		}
	}
	push(dir, l.dirs[from:], true)
}

// advance leaves the least name behind.
func (c *cursors) advance() {
	first := &(*c)[0]
	if first.names = first.names[1:]; len(first.names) == 0 {
		heap.Pop(c)
		return
	}
	first.head = path.Join(first.in, first.names[0])
	heap.Fix(c, 0)
}

func (c cursors) Len() int { return len(c) }
func (c cursors) Less(i, j int) bool {
	return c[i].head < c[j].head || c[i].head == c[j].head && c[i].dirs && !c[j].dirs
}
func (c cursors) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(x any)   { *c = append(*c, x.(cursor)) }
func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// A listing is what a directory means to the catalog. Nobody changes it.
type listing struct {
	itself   bool     // the directory is a repository: a layout, or the parts of an archive
	archives []string // the names of repositories that are archives in it, sorted
	dirs     []string // the names of directories in it that repositories can have, sorted

	info fs.FileInfo // of the directory, before it was read
	read time.Time
	size int // as it is counted in listings.size
}

// listings keeps the listings of large directories. A client asks for the catalog in pages, and each
// of them would read and sort all names of such a directory to find where it begins.
//
// A listing is kept while the directory has the inode and the time that it was read with, under the
// rule of settling, as indexes are. It is forgotten after listingAge, for file systems that do not
// change the time of a directory with its names.
type listings struct {
	mu   sync.Mutex
	kept map[string]*listing // by path
	size int                 // bytes of memory of those, about
}

// Limits of the kept listings.
const (
	minListing  = 1000     // names; to read fewer costs little
	maxListings = 32 << 20 // bytes: some 700,000 names
	nameCosts   = 32       // bytes of memory besides those of the name
	listingAge  = time.Minute
)

// list returns the listing of a directory.
func (c *listings) list(root *os.Root, dir string) (*listing, error) {
	c.mu.Lock()
	l := c.kept[dir]
	c.mu.Unlock()
	if l != nil && time.Since(l.read) < listingAge {
		info, err := root.Lstat(dir)
		if err == nil && os.SameFile(l.info, info) && l.info.ModTime().Equal(info.ModTime()) {
			return l, nil
		}
	}

	l, err := readListing(root, dir)
	if err == nil {
		c.keep(dir, l)
	}
	return l, err
}

// keep keeps a listing in place of the one before, if it is worth it and what was read cannot have
// changed within the same tick of the file system's clock.
func (c *listings) keep(dir string, l *listing) {
	for _, names := range [][]string{l.archives, l.dirs} {
		for _, name := range names {
			l.size += len(name) + nameCosts
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if was := c.kept[dir]; was != nil {
		c.size -= was.size
		delete(c.kept, dir)
	}

	if len(l.archives)+len(l.dirs) < minListing || l.size > maxListings || l.read.Sub(l.info.ModTime()) <= settling {
		return
	}

	// Those of other walks make room.
	if c.size+l.size > maxListings {
		clear(c.kept)
		c.size = 0
	}
	if c.kept == nil {
		c.kept = map[string]*listing{}
	}
	c.kept[dir] = l
	c.size += l.size
}

// readListing reads a directory.
func readListing(root *os.Root, dir string) (*listing, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	l := &listing{read: time.Now()}
	if l.info, err = f.Stat(); err != nil {
		return nil, err
	}

	// A part at a time: what the system tells of a file takes more room than its name.
	for {
		entries, err := f.ReadDir(1000)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		l.add(dir, entries)
	}

	slices.Sort(l.archives)
	slices.Sort(l.dirs)
	return l, nil
}

// add adds some entries of the directory.
func (l *listing) add(dir string, entries []fs.DirEntry) {
	l.itself = l.itself || isLayout(dir, entries)
	for _, repo := range archiveRepos(dir, entries) {
		if repo == dir {
			l.itself = true
			continue
		}
		l.archives = append(l.archives, path.Base(repo))
	}

	for _, e := range entries {
		if e.IsDir() && exchange.CheckName(path.Join(dir, e.Name())) == nil {
			l.dirs = append(l.dirs, e.Name())
		}
	}
}

// isLayout reports whether a directory is the layout of a repository. The root is none.
func isLayout(repo string, entries []fs.DirEntry) bool {
	return repo != "." && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "oci-layout" })
}
