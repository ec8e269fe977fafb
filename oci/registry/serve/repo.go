package serve

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"syscall"

	"ocikit/oci/archive"
	"ocikit/oci/layout"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/source"
)

// openRepo opens a repository for reading; the caller closes it.
func (s *Server) openRepo(repo string) (source.Source, error) {
	src, err := s.openSource(repo)
	if err == nil && src == nil {
		err = unknownRepo(repo)
	}
	return src, err
}

// openSource opens a layout, or the archive in its place. It returns nil if there is neither.
func (s *Server) openSource(repo string) (source.Source, error) {
	if s.root == nil {
		return s.archiveRepo(repo)
	}

	l, err := layout.OpenBelow(s.root, repo)
	if err == nil {
		return l, nil
	}

	if !isAbsent(err) {
		return nil, err
	}

	// A layout counts before an archive of the same name.
	name, info, ok := s.findArchive(repo)
	if !ok {
		return nil, nil
	}

	src, err := s.archives.get(s.root, name, info)
	if errors.Is(err, archive.ErrNoImage) {
		return nil, nil // some other tar
	}

	return src, err
}

// openLayout opens the layout of a repository for a change; the caller closes it.
func (s *Server) openLayout(repo string) (*layout.Layout, error) {
	l, err := layout.OpenBelow(s.root, repo)
	if isAbsent(err) {
		return nil, unknownRepo(repo)
	}
	return l, err
}

func unknownRepo(repo string) error {
	return exchange.Fail(http.StatusNotFound, exchange.CodeNameUnknown, "repository %q is not known", repo)
}

// isAbsent reports whether err says that there is no layout, rather than that it cannot
// be read. A path that leads out of the root is not a path; that error has no number.
func isAbsent(err error) bool {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errors.Is(err, fs.ErrNotExist) || errno == syscall.ENOTDIR || errno == syscall.ELOOP
	}
	return err != nil
}

// makeRepo opens the layout of a repository, and makes it one if it is none yet.
func (s *Server) makeRepo(repo string) (*layout.Layout, error) { return s.makeRepoWith(repo, nil) }

// makeRepoWith is makeRepo for a layout that says something of itself from its first moment on.
func (s *Server) makeRepoWith(repo string, annotations map[string]string) (*layout.Layout, error) {
	for try := 0; ; try++ {
		l, err := layout.InitBelow(s.root, repo, annotations)
		switch {
		case errors.Is(err, layout.ErrNotLayout) && !isExhausted(err):
			return nil, exchange.Fail(http.StatusConflict, exchange.CodeDenied, "%v", err)
		case errors.Is(err, fs.ErrNotExist) && try < 10:
			continue // an upload that ended has removed the empty directory
		}
		return l, err
	}
}

// removeEmpty removes the directory of a repository, and those above it, while they are empty. A
// request that needs one of them at the same time makes it again.
func (s *Server) removeEmpty(repo string) {
	for ; repo != "."; repo = path.Dir(repo) {
		if s.root.Remove(repo) != nil {
			return
		}
	}
}

// errStop ends a walk early.
var errStop = errors.New("stop")

// walkRepos calls visit for the root, and for every directory below it that may be that of a
// repository, in no particular order, with its entries. Links are not followed. visit may return errStop.
func (s *Server) walkRepos(ctx context.Context, visit func(repo string, entries []fs.DirEntry) error) error {
	stack := []string{"."}
	for len(stack) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}

		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]

		// Directories come and go meanwhile, and some may be closed to this process.
		entries, err := fs.ReadDir(s.root.FS(), dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list %q: %w", dir, err)
		}

		if err := visit(dir, entries); err == errStop {
			return nil
		} else if err != nil {
			return err
		}

		// A name that no repository can have leads to none. That keeps the walk out of the blobs.
		for _, e := range entries {
			sub := path.Join(dir, e.Name())
			if e.IsDir() && exchange.CheckName(sub) == nil {
				stack = append(stack, sub)
			}
		}
	}

	return nil
}

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
	todo := &found{{dir: true}}
	for todo.Len() > 0 && len(names) < limit {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}

		next := heap.Pop(todo).(place)

		// A layout and an archive of one name are one repository.
		if !next.dir {
			if next.name > last && (len(names) == 0 || names[len(names)-1] != next.name) {
				names = append(names, next.name)
			}
			continue
		}

		entries, err := fs.ReadDir(s.root.FS(), path.Join(".", next.name))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list %q: %w", next.name, err)
		}

		dir := path.Join(".", next.name)
		if isLayout(dir, entries) {
			heap.Push(todo, place{name: dir})
		}

		for _, repo := range archiveRepos(dir, entries) {
			heap.Push(todo, place{name: repo})
		}

		for _, e := range entries {
			// "a0" is the first name behind all that begin with "a/".
			if sub := path.Join(dir, e.Name()); e.IsDir() && sub+"0" > last && exchange.CheckName(sub) == nil {
				heap.Push(todo, place{name: sub, dir: true})
			}
		}
	}

	return names, nil
}

// A place is a repository, or a directory that may be one or hold some.
type place struct {
	name string
	dir  bool
}

// found is a heap of places, the least name first.
type found []place

func (f found) Len() int { return len(f) }
func (f found) Less(i, j int) bool {
	return f[i].name < f[j].name || f[i].name == f[j].name && f[i].dir && !f[j].dir
}
func (f found) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *found) Push(x any)   { *f = append(*f, x.(place)) }
func (f *found) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

// isLayout reports whether a directory is the layout of a repository. The root is none.
func isLayout(repo string, entries []fs.DirEntry) bool {
	return repo != "." && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "oci-layout" })
}
