package tap

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocikit/digest"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/live"
	"ocikit/oci/registry/wire"
)

// A session is an open upload as the tap has seen it.
type session struct {
	name, repo string
	started    time.Time
	last       atomic.Int64 // when the last byte came, in nanoseconds
	total      atomic.Int64 // bytes that have passed
	busy       atomic.Int32 // requests that are about it

	// Requests may overlap, and the transport reads a body in a goroutine of its own. That of
	// sessions is never taken while mu is held.
	mu       sync.Mutex     // of name and of what follows, without paths
	h        *digest.Hasher // of all bytes that the registry holds; nil: not known, as with two requests at once
	large    int64          // how many bytes are hashed at most
	unhashed bool           // h was given up since there were more
	offset   int64          // that the registry has confirmed
	location string         // the latest, as the client knows it

	paths []string // by which it is known; the lock of sessions guards them
}

// sessions are the open uploads, by the paths of their addresses.
type sessions struct {
	mu     sync.Mutex
	byPath map[string]*session
	order  []*session
}

const maxSessions = 4096

func newSessions() *sessions { return &sessions{byPath: map[string]*session{}} }

// enter returns the session that a request is about, nil if the tap did not see it opened. leave must
// be called when the request has ended.
func (ss *sessions) enter(p *passage, r *http.Request) *session {
	ss.mu.Lock()
	s := ss.byPath[r.URL.Path]
	ss.mu.Unlock()
	if s == nil {
		p.entry.Session = sessionName(r.URL.Path)
		return nil
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy.Add(1) > 1 {
		s.h = nil
	}

	e := p.entry
	e.Session = s.name
	p.w.Access.Session = s.name
	e.Latest = strings.HasPrefix(strings.TrimPrefix(r.URL.RequestURI(), p.base), s.location)

	// Where the bytes belong: Content-Range says it, else behind those that the registry has.
	from := s.offset
	if start, _, ok := strings.Cut(r.Header.Get("Content-Range"), "-"); ok {
		if n, err := strconv.ParseInt(start, 10, 64); err == nil && n >= 0 {
			from = n
		}
	}

	if r.Method == http.MethodPatch || r.Method == http.MethodPut {
		e.From = &from
		if s.h != nil && s.h.Size() != from {
			s.h = nil // bytes are missing, or come twice
		}
	}

	return s
}

// open adds the session that an answer to POST has opened, and enters it. Its address becomes known
// with the first move. The oldest session makes room for it.
func (ss *sessions) open(p *passage) *session {
	s := &session{repo: p.rt.Repo, started: p.w.Start, h: digest.NewHasher(digest.SHA256)}
	s.busy.Add(1)
	s.last.Store(p.w.Start.UnixNano())

	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(ss.order) >= maxSessions {
		ss.remove(ss.order[0])
	}
	ss.order = append(ss.order, s)
	return s
}

func (ss *sessions) remove(s *session) {
	for _, path := range s.paths {
		delete(ss.byPath, path)
	}
	ss.order = slices.DeleteFunc(ss.order, func(o *session) bool { return o == s })
}

func (ss *sessions) close(s *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.remove(s)
}

// limit sets up to how many bytes the session is hashed. length is that of the body to come, -1 if it
// is not known; one that goes over large ends the hash right away. limit returns how many bytes have
// been hashed, -1 if there is no hash of all of them.
func (s *session) limit(large, length int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.large = large
	if s.h == nil {
		return -1
	}
	before := s.h.Size()
	if length > large-before {
		s.h, s.unhashed = nil, true
	}
	return before
}

// write counts and hashes bytes that pass.
func (s *session) write(b []byte) {
	s.mu.Lock()
	if s.h != nil && s.h.Size() > s.large {
		s.h, s.unhashed = nil, true
	}
	if s.h != nil {
		s.h.Write(b)
	}
	s.mu.Unlock()

	s.total.Add(int64(len(b)))
	s.last.Store(time.Now().UnixNano())
}

// digest returns the digest of all bytes that the registry holds, "" if it is not known.
func (s *session) digest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.h == nil {
		return ""
	}
	return s.h.Digest().String()
}

// tooLarge reports whether the digest is not known because there were too many bytes.
func (s *session) tooLarge() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unhashed
}

// answered takes the session's new address out of an answer, and how far the registry says it is.
func (s *session) answered(p *passage, resp *http.Response) {
	if resp.StatusCode == http.StatusCreated {
		return
	}

	if loc := resp.Header.Get("Location"); loc != "" {
		s.move(p, loc)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	p.entry.Session, p.w.Access.Session = s.name, s.name

	// Without a Range the registry has what was sent, as far as can be known. "0-0" is one byte
	// only if one byte has passed.
	n, ambiguous, ok := wire.ParseRange(resp.Header.Get("Range"))
	switch {
	case !ok && resp.StatusCode < 300 && p.request != nil:
		s.offset += p.request.n.Load() // nothing else is said
		return
	case !ok:
		return
	case ambiguous && s.total.Load() != 1:
		n = 0
	}

	s.offset = n
	p.w.Access.Offset = &n
}

// move makes location, as the client sees it, the latest address of the session. Earlier ones stay
// known, since clients use them by mistake.
func (s *session) move(p *passage, location string) {
	here := &url.URL{Path: p.in.URL.Path}
	u, err := here.Parse(strings.TrimPrefix(location, p.base))
	if err != nil {
		return
	}

	u.Scheme, u.Host = "", ""
	s.mu.Lock()
	s.location = u.String()
	if s.name == "" {
		if s.name = p.entry.Head("Docker-Upload-Uuid"); s.name == "" || len(s.name) > 64 {
			s.name = sessionName(u.Path)
		}
		s.name = exchange.Plain(s.name)
	}
	s.mu.Unlock()

	p.sessions.mu.Lock()
	defer p.sessions.mu.Unlock()
	if slices.Contains(s.paths, u.Path) || len(s.paths) > 16 {
		return
	}

	s.paths = append(s.paths, u.Path)
	p.sessions.byPath[u.Path] = s
}

// sessionName returns a short name of a session that has an address.
func sessionName(path string) string {
	path = strings.TrimRight(path, "/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	return exchange.Plain(name[:min(len(name), 40)])
}

// leave ends a request about the session. The hash stays only if it is of exactly the bytes that the
// registry has confirmed: after a chunk that was cut or refused, nobody knows which of its bytes are
// in there. With nothing confirmed, a new hash can begin, unless another request is half way.
func (s *session) leave(p *passage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := p.entry
	if s.h != nil && e.Method == http.MethodPut && p.rt.Kind == exchange.Upload {
		e.Whole = s.h.Digest().String()
	}
	if s.busy.Add(-1) > 0 {
		return
	}
	if s.h != nil && s.h.Size() != s.offset {
		s.h = nil
	}
	if s.h == nil && s.offset == 0 && e.Status < 300 && e.Status != 0 {
		s.h = digest.NewHasher(digest.SHA256)
	}
}

// uploads returns the sessions for the page.
func (ss *sessions) uploads() []live.Upload {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	views := []live.Upload{}
	for _, s := range ss.order {
		s.mu.Lock()
		name := s.name
		s.mu.Unlock()
		views = append(views, live.Upload{
			ID: name, Repo: s.repo, Offset: s.total.Load(), Started: s.started,
			Last: time.Unix(0, s.last.Load()).UTC(), Receiving: s.busy.Load() > 0,
		})
	}
	return views
}
