package serve

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"ocikit/oci/disk"
	"ocikit/oci/layout"
	"ocikit/oci/registry/serve/exchange"
)

// expireSessions makes the sessions that are on the disk known, and removes those that have
// been idle for too long, now and from time to time until ctx ends.
func (s *Server) expireSessions(ctx context.Context) {
	every := min(max(s.opts.SessionExpiry/4, time.Second), time.Hour)
	for ctx.Err() == nil {
		s.walkRepos(ctx, func(repo string, entries []fs.DirEntry) error {
			for _, e := range entries {
				if id, ok := strings.CutPrefix(e.Name(), layout.UploadPrefix); ok && ctx.Err() == nil {
					s.expire(ctx, repo, id, e)
				}
			}
			return nil
		})
		s.forgetGone()
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

// forgetGone forgets the sessions whose files another process has taken away.
func (s *Server) forgetGone() {
	for _, u := range s.sessions.list() {
		select {
		case <-u.turn:
		default:
			continue // it is in use
		}
		if _, err := s.root.Lstat(u.path()); errors.Is(err, fs.ErrNotExist) {
			s.forget(u)
		}
		u.turn <- struct{}{}
	}
}

// expire looks at one file of a session.
func (s *Server) expire(ctx context.Context, repo, id string, e fs.DirEntry) {
	info, err := e.Info()
	if err != nil || !info.Mode().IsRegular() {
		return
	}

	old := s.opts.Now().Sub(info.ModTime()) > s.opts.SessionExpiry
	if !sessionID().MatchString(id) { // a state file: it goes with its session, or alone
		base, _, hasState := strings.Cut(id, ".")
		if !hasState && old {
			s.expirePartial(repo, e.Name())
			return
		}
		if _, err := s.root.Lstat(repo + "/" + layout.UploadPrefix + base); err != nil && old {
			s.root.Remove(repo + "/" + e.Name())
			s.removeEmpty(repo)
		}
		return
	}

	// findUpload makes the session known, so that it counts among the open ones.
	u, err := s.findUpload(exchange.Route{Repo: repo, Ref: id})
	if err != nil || !old || u.user.Load() != nil {
		return
	}

	if s.take(ctx, u) != nil {
		return
	}

	defer s.release(u)

	// Only who can lock the file may take it away: another process may be at it.
	f, err := s.root.Open(u.path())
	if err != nil {
		return
	}
	defer f.Close()

	info, err = f.Stat()
	if err == nil && s.opts.Now().Sub(info.ModTime()) > s.opts.SessionExpiry && disk.TryLock(f) {
		s.drop(u)
		s.note(u.repo, u.id, "expired")
	}
}

// expirePartial removes what came of a blob that was fetched, unless a process is at it.
func (s *Server) expirePartial(repo, name string) {
	f, err := s.root.Open(repo + "/" + name)
	if err != nil {
		return
	}
	defer f.Close()
	if disk.TryLock(f) {
		s.root.Remove(repo + "/" + name)
	}
}
