package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
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

	l, err := s.known.OpenBelow(s.root, repo)
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
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
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
