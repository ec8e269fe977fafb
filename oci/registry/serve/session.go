package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocikit/digest"
	"ocikit/oci/disk"
	"ocikit/oci/layout"
	"ocikit/oci/registry/serve/exchange"
)

// stateSuffix ends the name of the file that keeps the state of a session's hash function.
const stateSuffix = ".state"

// worthSaving is how many bytes must have come since the state was last saved before it is saved
// again. Hashing so many bytes again takes less time than syncing them.
const worthSaving = 4 << 20

// stalled is for how long a body must have been silent to give way to a newer request for
// the same session: most likely its connection is dead and its client is back.
const stalled = 2 * time.Second

// A session is an open upload. Its bytes are a file in the directory of the repository; the
// size of the file is the offset. The rest can be found again from that.
type session struct {
	id, repo string
	started  time.Time

	turn chan struct{}                 // holds a token for whoever may touch the file
	user atomic.Pointer[exchange.Body] // the body that is being read, if any
	size atomic.Int64                  // for those who look on
	last atomic.Int64                  // when the last byte came, in nanoseconds

	// For the holder of the token.
	h     *digest.Hasher // of all bytes of the file; nil: not known
	saved int64          // offset of the saved state
	gone  bool           // finished, cancelled or expired
}

func newSession(repo, id string, now time.Time) *session {
	u := &session{id: id, repo: repo, started: now, turn: make(chan struct{}, 1)}
	u.turn <- struct{}{}
	u.last.Store(now.UnixNano())
	return u
}

// sessionID is the grammar of what [exchange.NewID] returns.
var sessionID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{32}$`) })

// file is the name of the session's file in the directory of its repository.
func (u *session) file() string { return layout.UploadPrefix + u.id }

// path is the name of the session's file below the root of the registry.
func (u *session) path() string { return path.Join(u.repo, u.file()) }

// sessions are those that this process knows.
type sessions struct {
	mu   sync.Mutex
	byID map[string]*session
	use  sync.RWMutex // held for reading by whoever has a token
}

func newSessions() *sessions { return &sessions{byID: map[string]*session{}} }

// list returns the sessions in no particular order.
func (ss *sessions) list() []*session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	all := make([]*session, 0, len(ss.byID))
	for _, u := range ss.byID {
		all = append(all, u)
	}
	return all
}

// add makes a session known, unless there are limit of them.
func (ss *sessions) add(u *session, limit int) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(ss.byID) >= limit {
		return false
	}
	ss.byID[u.id] = u
	return true
}

func (ss *sessions) remove(u *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.byID, u.id)
}

// cutAll ends every body that is being read.
func (ss *sessions) cutAll() {
	for _, u := range ss.list() {
		if b := u.user.Load(); b != nil {
			b.Stop()
		}
	}
}

// wait returns when no session is in use.
func (ss *sessions) wait() {
	ss.use.Lock()
	defer ss.use.Unlock()
}

// newUpload starts a session: an empty file in a directory that may not be a layout yet.
func (s *Server) newUpload(repo string, alg digest.Algorithm) (*session, error) {
	u := newSession(repo, exchange.NewID(), s.opts.Now())
	u.h = digest.NewHasher(alg)

	// The session is held until its file is there: it would be forgotten as one whose file somebody
	// has taken away.
	<-u.turn
	if !s.sessions.add(u, s.opts.MaxSessions) {
		f := exchange.Fail(http.StatusTooManyRequests, exchange.CodeTooManyRequests, "%d uploads are open, finish or cancel some", s.opts.MaxSessions)
		f.Retry = 60
		return nil, f
	}

	err := s.createFile(u)

	// Without a state file another process, or the next one, would take sha256.
	if err == nil && alg != digest.SHA256 {
		err = s.saveState(u)
	}
	if err != nil {
		s.drop(u)
		return nil, err
	}

	u.turn <- struct{}{}
	return u, nil
}

func (s *Server) createFile(u *session) error {
	for try := 0; ; try++ {
		f, err := s.root.OpenFile(u.path(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			return f.Close()
		}

		// The directory is made, and again if the end of another upload removes it meanwhile.
		if !errors.Is(err, fs.ErrNotExist) || try == 10 {
			return err
		}
		if err := s.root.MkdirAll(u.repo, 0o755); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// findUpload returns the session of a repository, be it one that an earlier process began.
func (s *Server) findUpload(rt exchange.Route) (*session, error) {
	unknown := exchange.Fail(http.StatusNotFound, exchange.CodeUploadUnknown, "upload session %s of %q is not known", exchange.Quote(rt.Ref), rt.Repo)
	if !sessionID().MatchString(rt.Ref) {
		return nil, unknown
	}

	// Two requests for a session of an earlier process must find the same one.
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if u := s.sessions.byID[rt.Ref]; u != nil {
		if u.repo != rt.Repo {
			return nil, unknown
		}
		return u, nil
	}

	info, err := s.root.Lstat(path.Join(rt.Repo, layout.UploadPrefix+rt.Ref))
	if err != nil || !info.Mode().IsRegular() {
		return nil, unknown
	}

	u := newSession(rt.Repo, rt.Ref, info.ModTime())
	u.size.Store(info.Size())
	s.sessions.byID[u.id] = u
	return u, nil
}

// take waits for the turn at a session. A body that is stalled is cut for it: its bytes so
// far are kept. The caller calls release.
func (s *Server) take(ctx context.Context, u *session) error {
	tick := time.NewTicker(stalled / 4)
	defer tick.Stop()
	for {
		select {
		case <-u.turn:
			s.sessions.use.RLock()
			if u.gone {
				s.release(u)
				return exchange.Fail(http.StatusNotFound, exchange.CodeUploadUnknown, "upload session %s is over", u.id)
			}
			return nil
		case <-tick.C:
			if b := u.user.Load(); b != nil && time.Since(time.Unix(0, b.Last.Load())) > stalled {
				b.Stop()
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Server) release(u *session) {
	u.turn <- struct{}{}
	s.sessions.use.RUnlock()
}

// open opens the file of a session for its holder, who closes it, and sees to it that the
// hash function has all of its bytes.
func (s *Server) open(u *session) (*os.File, error) {
	f, err := s.root.OpenFile(u.path(), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		s.forget(u)
		return nil, exchange.Fail(http.StatusNotFound, exchange.CodeUploadUnknown, "upload session %s is over", u.id)
	}
	if err != nil {
		return nil, err
	}

	// The turn holds within this process. Another one may serve the same directory.
	if !disk.TryLock(f) {
		f.Close()
		return nil, exchange.Fail(http.StatusConflict, exchange.CodeUploadInvalid, "upload session %s is in use by another process", u.id)
	}

	if err := s.restore(u, f); err != nil {
		f.Close()
		return nil, err
	}

	u.size.Store(u.h.Size())
	return f, nil
}

// forget ends a session whose file is gone. The caller holds it.
func (s *Server) forget(u *session) {
	u.gone = true
	s.sessions.remove(u)
	s.root.Remove(u.path() + stateSuffix)
	s.root.Remove(u.path() + ".new")
}

// drop ends a session and removes what it left on the disk. The caller holds it.
func (s *Server) drop(u *session) {
	s.root.Remove(u.path())
	s.forget(u)
	s.removeEmpty(u.repo)
}

// restore brings the hash function to the end of the file: from memory if that is where it
// is, else from the saved state and the bytes behind it, else from all bytes.
func (s *Server) restore(u *session, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || u.h != nil && u.h.Size() == size {
		return err
	}

	// The server has been started anew, or another process has appended.
	u.h = s.loadState(u)

	// A state beyond the end of the file is of bytes that are gone.
	if u.h.Size() > size {
		u.h = digest.NewHasher(digest.SHA256)
	}

	if _, err = f.Seek(u.h.Size(), io.SeekStart); err == nil {
		_, err = io.CopyBuffer(u.h, io.LimitReader(f, size-u.h.Size()), make([]byte, 256<<10))
	}

	if err == nil && u.h.Size() != size {
		err = fmt.Errorf("upload session %s: file has %d bytes, read %d", u.id, size, u.h.Size())
	}
	if err != nil {
		u.h = nil
	}

	return err
}

// A state is what the state file of a session holds.
type state struct {
	Algorithm digest.Algorithm `json:"algorithm"`
	Offset    int64            `json:"offset"`
	Hash      []byte           `json:"hash"`
}

// saveState writes the state of the hash function beside the file of the session. Its bytes
// must be on stable storage: after a loss of power the state vouches for them.
func (s *Server) saveState(u *session) error {
	hash, err := u.h.MarshalBinary()
	if err != nil {
		return err
	}
	data, err := json.Marshal(state{u.alg(), u.h.Size(), hash})
	if err != nil {
		return err
	}
	tmp := u.path() + ".new"
	if err := s.root.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	u.saved = u.h.Size()
	return s.root.Rename(tmp, u.path()+stateSuffix)
}

// loadState returns the saved hash function, or a fresh one if there is none to be had.
func (s *Server) loadState(u *session) *digest.Hasher {
	var st state
	info, err := s.root.Lstat(u.path() + stateSuffix)
	if err == nil && info.Mode().IsRegular() && info.Size() < 4096 {
		data, err := s.root.ReadFile(u.path() + stateSuffix)
		if err == nil && json.Unmarshal(data, &st) == nil {
			if h, err := digest.Restore(st.Algorithm, st.Hash, st.Offset); err == nil {
				u.saved = st.Offset
				return h
			}
		}
	}

	// A state that cannot be gone on with still tells the algorithm.
	if st.Algorithm.Available() {
		return digest.NewHasher(st.Algorithm)
	}

	return digest.NewHasher(digest.SHA256)
}

func (u *session) alg() digest.Algorithm { return u.h.Digest().Algorithm() }

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
	f, err := s.root.OpenFile(u.path(), os.O_RDONLY|disk.OpenFlags, 0)
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
	f, err := s.root.OpenFile(repo+"/"+name, os.O_RDONLY|disk.OpenFlags, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if disk.TryLock(f) {
		s.root.Remove(repo + "/" + name)
	}
}
