package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"ocikit/oci/progress"
)

// Options say how a registry behaves. The zero Options are a registry that anybody may
// read and write.
type Options struct {
	ReadOnly bool  // refuse every request that would change something
	Auth     *Auth // who may come in; nil: everybody

	// TokenAuth makes the API ask for a token (Bearer), which a token server at /token gives
	// to whom Auth lets in; without Auth to everybody, as public registries do.
	TokenAuth bool

	// Sparse takes manifests and indexes that name what is not there, which registries may
	// refuse: an index of which only some platforms were pushed, say.
	Sparse bool

	MaxUpload     int64         // bytes of the largest blob; 0: any
	MaxSessions   int           // uploads that are open at once; 0: 10,000
	SessionExpiry time.Duration // after which an idle upload is removed; 0: a day
	IdleTimeout   time.Duration // after which a body that does not move is cut; 0: a minute
	Grace         time.Duration // which requests have to end when Serve stops; 0: ten seconds

	Log    func(Access)     // gets one record a request, one at a time; may be nil
	Faults []string         // names of what to do wrong, see [Faults]
	Now    func() time.Time // the clock; nil: time.Now

	// Progress is told how far uploads have come, by several goroutines; nil: nobody asks. A
	// task is the body of one request. It is named by the repository and the first digits of
	// the session, is done when the blob is there, and stops where the session stays open.
	Progress func(progress.Event)
}

// Limits that are no options, since no client has a reason to want others.
const (
	maxManifest     = 4 << 20 // the distribution-spec expects that much to work
	maxHeader       = 64 << 10
	headerTimeout   = 20 * time.Second
	keepAlive       = 2 * time.Minute
	manifestTimeout = time.Minute // for all of a manifest's bytes
)

// A Server is a registry. It is an http.Handler and may be used concurrently; several
// servers, in several processes, may serve one directory.
type Server struct {
	root     *os.Root
	opts     Options
	guard    *http.CrossOriginProtection
	sessions *sessions
	buffers  *lender      // for what clients send fast
	tokens   *tokenServer // nil: none
	faults   []*fault     // of requests that were let in
	gate     []*fault     // of letting in
	feed     *feed
	indexes  *indexes
	subjects subjectCache

	pageBytes int           // of one list of referrers; a field for tests
	large     chan struct{} // slots for manifests that are held in memory
	logMu     sync.Mutex

	stop context.CancelFunc // ends the janitor
	done sync.WaitGroup
}

// New opens the directory root, which must exist, and returns a registry of the layouts
// below it. The caller closes it.
func New(root string, opts Options) (*Server, error) {
	opts.MaxSessions = cmp.Or(opts.MaxSessions, 10_000)
	opts.SessionExpiry = cmp.Or(opts.SessionExpiry, 24*time.Hour)
	opts.IdleTimeout = cmp.Or(opts.IdleTimeout, time.Minute)
	opts.Grace = cmp.Or(opts.Grace, 10*time.Second)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	faults, err := findFaults(opts.Faults)
	if err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("serve %q: %w", root, errors.Unwrap(err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		root:     dir,
		opts:     opts,
		guard:    http.NewCrossOriginProtection(),
		sessions: newSessions(),
		feed:     newFeed(),
		buffers:  newLender(largeBuffers),
		indexes:  newIndexes(),
		large:    make(chan struct{}, 8),
		stop:     cancel,

		pageBytes: maxPage,
	}
	for _, f := range faults {
		opts.TokenAuth = opts.TokenAuth || f.tokens
		if f.gate {
			s.gate = append(s.gate, f)
		} else {
			s.faults = append(s.faults, f)
		}
	}
	if opts.TokenAuth {
		s.tokens = newTokenServer(opts.Now)
	}
	if !opts.ReadOnly {
		s.done.Go(func() { s.expireSessions(ctx) })
	}
	return s, nil
}

// Close releases the directory. Uploads that are open stay on the disk and go on with the
// next server. Requests must have ended, as [Server.Serve] sees to.
func (s *Server) Close() error {
	s.stop()
	s.done.Wait()
	return s.root.Close()
}

// ServeHTTP implements http.Handler: the registry's API below /v2/, and the web page.
func (s *Server) ServeHTTP(hw http.ResponseWriter, r *http.Request) {
	w := s.newRecorder(hw, r)
	defer func() {
		w.settle(r)
		s.logAccess(w, r)
		if w.abort {
			panic(http.ErrAbortHandler)
		}
	}()
	rt, routeErr := s.route(r)
	w.page, w.access.Repository = rt.kind == endPage, rt.repo
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if !w.page {
		h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	}
	err := s.misbehave(s.gate, w, r, rt, func() error {
		if err := s.admit(w, r, rt); err != nil {
			return err
		}
		if w.page {
			return s.servePage(w, r)
		}
		if routeErr != nil {
			return routeErr
		}
		return s.misbehave(s.faults, w, r, rt, func() error { return s.dispatch(w, r, rt) })
	})
	if err != nil {
		s.sendError(w, err)
	}
}

// admit decides whether a request may come in at all. There is no second place that asks
// whether the registry is read-only.
func (s *Server) admit(w *recorder, r *http.Request, rt route) error {
	if err := s.authorize(w, r, rt); err != nil {
		return err
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if s.opts.ReadOnly && !read {
		w.Header().Set("Allow", "GET, HEAD")
		return fail(http.StatusMethodNotAllowed, codeUnsupported, "the registry is read-only")
	}
	if s.guard.Check(r) != nil {
		return fail(http.StatusForbidden, codeDenied, "the request comes from the page of another site")
	}
	return nil
}

func (s *Server) sendError(w *recorder, err error) {
	f := answerTo(err)
	w.access.Error = err.Error()
	if w.status == 0 && !w.abort {
		f.send(w)
	}
}

// dispatch calls the handler of an endpoint and a method.
func (s *Server) dispatch(w *recorder, r *http.Request, rt route) error {
	get, head := r.Method == http.MethodGet, r.Method == http.MethodHead
	switch kind := rt.kind; {
	case kind == endPing && (get || head):
		return s.ping(w)
	case kind == endToken && get:
		return s.giveToken(w, r)
	case kind == endCatalog && get:
		return s.listCatalog(w, r)
	case kind == endTags && get:
		return s.listTags(w, r, rt)
	case kind == endReferrers && get:
		return s.listReferrers(w, r, rt)
	case kind == endManifest && (get || head):
		return s.getManifest(w, r, rt)
	case kind == endManifest && r.Method == http.MethodPut:
		return s.putManifest(w, r, rt)
	case kind == endManifest && r.Method == http.MethodDelete:
		return s.deleteManifest(w, r, rt)
	case kind == endBlob && (get || head):
		return s.getBlob(w, r, rt)
	case kind == endBlob && r.Method == http.MethodDelete:
		return s.deleteBlob(w, r, rt)
	case kind == endUploads && r.Method == http.MethodPost:
		return s.startUpload(w, r, rt)
	case kind == endUpload && (get || head):
		return s.uploadStatus(w, r, rt)
	case kind == endUpload && r.Method == http.MethodPatch:
		return s.patchUpload(w, r, rt)
	case kind == endUpload && r.Method == http.MethodPut:
		return s.finishUpload(w, r, rt)
	case kind == endUpload && r.Method == http.MethodDelete:
		return s.cancelUpload(w, r, rt)
	}
	w.Header().Set("Allow", allowed(rt.kind))
	return fail(http.StatusMethodNotAllowed, codeUnsupported, "method %s: this path takes %s", quote(r.Method), allowed(rt.kind))
}

// allowed returns the methods that an endpoint takes.
func allowed(kind endpoint) string {
	switch kind {
	case endPing:
		return "GET, HEAD"
	case endManifest:
		return "GET, HEAD, PUT, DELETE"
	case endBlob:
		return "GET, HEAD, DELETE"
	case endUploads:
		return "POST"
	case endUpload:
		return "GET, HEAD, PATCH, PUT, DELETE"
	}
	return "GET"
}

func (s *Server) ping(w *recorder) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "2")
	_, err := w.Write([]byte("{}"))
	return err
}
