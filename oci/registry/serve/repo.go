package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"syscall"

	"ocikit/oci/layout"
)

// openRepo opens the layout of a repository, which the caller closes.
func (s *Server) openRepo(repo string) (*layout.Layout, error) {
	l, err := layout.OpenBelow(s.root, repo)
	if isAbsent(err) {
		return nil, fail(http.StatusNotFound, codeNameUnknown, "repository %q is not known", repo)
	}
	return l, err
}

// isAbsent reports whether err says that there is no layout, rather than that it cannot
// be read. A path that leads out of the root is no path; that error has no number.
func isAbsent(err error) bool {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errors.Is(err, fs.ErrNotExist) || errno == syscall.ENOTDIR || errno == syscall.ELOOP
	}
	return err != nil
}

// makeRepo opens the layout of a repository, and makes it one if it is none yet.
func (s *Server) makeRepo(repo string) (*layout.Layout, error) {
	for try := 0; ; try++ {
		l, err := layout.InitBelow(s.root, repo)
		switch {
		case errors.Is(err, layout.ErrNotLayout) && !isExhausted(err):
			return nil, fail(http.StatusConflict, codeDenied, "%v", err)
		case errors.Is(err, fs.ErrNotExist) && try < 10:
			continue // an upload that ended has removed the empty directory
		}
		return l, err
	}
}

// removeEmpty removes the directory of a repository, and those above it, while they are
// empty. Whoever needs one of them at the same time makes it again.
func (s *Server) removeEmpty(repo string) {
	for ; repo != "."; repo = path.Dir(repo) {
		if s.root.Remove(repo) != nil {
			return
		}
	}
}

// errStop ends a walk early.
var errStop = errors.New("stop")

// walkRepos calls visit for every directory below the root that may be that of a repository, in
// no particular order, with its entries. Links are not followed. visit may return errStop.
func (s *Server) walkRepos(ctx context.Context, visit func(repo string, entries []fs.DirEntry) error) error {
	stack := []string{"."}
	for len(stack) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		entries, err := fs.ReadDir(s.root.FS(), dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list %q: %w", dir, err)
		}
		if dir != "." {
			if err := visit(dir, entries); err == errStop {
				return nil
			} else if err != nil {
				return err
			}
		}
		for _, e := range entries {
			sub := path.Join(dir, e.Name())
			if e.IsDir() && checkName(sub) == nil {
				stack = append(stack, sub)
			}
		}
	}
	return nil
}

// catalog returns the names of all repositories, sorted.
func (s *Server) catalog(ctx context.Context) ([]string, error) {
	names := []string{}
	err := s.walkRepos(ctx, func(repo string, entries []fs.DirEntry) error {
		if isLayout(entries) {
			names = append(names, repo)
		}
		return nil
	})
	slices.SortFunc(names, strings.Compare)
	return names, err
}

func isLayout(entries []fs.DirEntry) bool {
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "oci-layout" })
}
