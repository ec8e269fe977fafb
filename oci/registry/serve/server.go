package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocikit/oci/disk"
	"ocikit/oci/layout"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/access"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/fault"
	"ocikit/oci/registry/serve/live"
	"ocikit/oci/source"
)

// Options say how a registry behaves. The zero Options are a registry that anybody may
// read and write.
type Options struct {
	ReadOnly bool // refuse every request that would change something

	// Archive is served in place of a directory, read-only: under the name Repository, and each
	// image of a full name under that as well. It is not closed.
	Archive    source.Source
	Repository string

	Upstreams *Upstreams // what the directory lacks is fetched from there; nil: from nowhere

	Auth *access.Auth // who may come in; nil: everybody

	// TokenAuth makes the API ask for a token (Bearer), which a token server at /token gives
	// to whom Auth lets in; without Auth to everybody, as public registries do.
	TokenAuth bool

	// Sparse takes manifests and indexes that name what is not there, which registries may
	// refuse: an index of which only some platforms were pushed, say.
	Sparse bool

	// Hosts are names that the registry goes by on a loopback address, besides those of the
	// address itself, as HOST or HOST:PORT. Requests to any other name are refused.
	Hosts []string

	MaxUpload     int64         // bytes of the largest blob; 0: any
	MaxSessions   int           // uploads that are open at once; 0: 10,000
	SessionExpiry time.Duration // after which an idle upload is removed; 0: a day
	IdleTimeout   time.Duration // after which a body that does not move is cut; 0: a minute
	Grace         time.Duration // which requests have to end when Serve stops; 0: ten seconds

	Log    func(exchange.Access) // gets one record a request, one at a time; may be nil
	Faults []string              // names of what to do wrong, see [fault.All]
	Now    func() time.Time      // the clock; nil: time.Now

	// Progress is told how far uploads have come, by several goroutines; nil: nobody asks. A
	// task is the body of one request. It is named by the repository and the first digits of
	// the session, is done when the blob is there, and stops where the session stays open.
	Progress func(progress.Event)
}

// Limits that are not options, since no client has a reason to want others.
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
	copied atomic.Pointer[upstreamSet] // see SetUpstreams

	root     *os.Root
	opts     Options
	gate     *access.Gate
	guard    *http.CrossOriginProtection
	sessions *sessions
	buffers  *lender // for what clients send fast
	faults   *fault.Set
	routes   map[exchange.Endpoint]map[string]handler
	feed     *live.Feed
	indexes  *indexes
	listings listings
	known    layout.Known // layouts that were read from
	archives *archives
	subjects subjectCache

	patience  time.Duration // for upstreams, where what is here will do; a field for tests
	downloads downloads

	pageBytes int           // of one list of referrers; a field for tests
	large     chan struct{} // slots for manifests that are held in memory
	logMu     sync.Mutex

	stop context.CancelFunc // ends the janitor
	done sync.WaitGroup
}

// SetAuth says who may come in from the next request on, as when a password file has changed; nil
// lets everybody in. It may be called while the server answers.
func (s *Server) SetAuth(a *access.Auth) { s.gate.SetAuth(a) }

// SetUpstreams says which registries copies are kept of from the next request on, or with which
// credentials; nil is none. It may be called while the server answers.
func (s *Server) SetUpstreams(u *Upstreams) {
	if u == nil {
		s.copied.Store(nil)
		return
	}
	s.copied.Store(&upstreamSet{Upstreams: u, any: map[string]func() (*registry.Client, error){}})
}

// New opens the directory root, which must exist, and returns a registry of the layouts below it
// and of the archives there, which are read in place. With [Options.Archive] root is not looked at.
// The caller closes the Server.
func New(root string, opts Options) (*Server, error) {
	opts.setDefaults()

	var dir *os.Root
	if opts.Archive != nil {
		if err := exchange.CheckName(opts.Repository); err != nil {
			return nil, err
		}
		opts.ReadOnly = true
	} else {
		var err error
		if dir, err = disk.OpenRoot(root); err != nil {
			return nil, fmt.Errorf("serve %q: %w", root, errors.Unwrap(err))
		}
	}

	// Work that outlives a request, as a download for several of them, ends with the Server.
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		root:     dir,
		opts:     opts,
		gate:     access.NewGate(opts.Auth, opts.ReadOnly),
		guard:    http.NewCrossOriginProtection(),
		sessions: newSessions(),
		routes:   routes(),
		buffers:  newLender(largeBuffers),
		indexes:  newIndexes(),
		archives: &archives{ctx: ctx, kept: map[string]*openArchive{}},
		large:    make(chan struct{}, 8),
		stop:     cancel,

		patience:  5 * time.Second,
		downloads: downloads{ctx: ctx, of: map[string]*download{}},

		pageBytes: maxPage,
	}

	s.SetUpstreams(opts.Upstreams)
	s.feed = live.New(s.uploads, nil)
	var err error
	if s.faults, err = fault.New(opts.Faults, faultHost{s}); err != nil {
		return nil, errors.Join(err, s.Close())
	}

	// Some faults show only where tokens are asked for.
	if opts.TokenAuth || s.faults.WantsTokens() {
		s.gate.AskForTokens(opts.Now)
	}

	// A read-only server removes no abandoned uploads.
	if !opts.ReadOnly {
		s.done.Go(func() { s.expireSessions(ctx) })
	}

	return s, nil
}

// setDefaults fills in what zero stands for.
func (o *Options) setDefaults() {
	o.MaxSessions = cmp.Or(o.MaxSessions, 10_000)
	o.SessionExpiry = cmp.Or(o.SessionExpiry, 24*time.Hour)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, time.Minute)
	o.Grace = cmp.Or(o.Grace, 10*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Close releases the directory. Uploads that are open stay on the disk and go on with the
// next server. Requests must have ended, as [Server.Serve] sees to.
func (s *Server) Close() error {
	s.stop()
	if s.faults != nil { // it is nil if New failed
		s.faults.Close()
	}
	s.done.Wait()
	s.archives.close()
	if s.root == nil {
		return nil
	}
	return s.root.Close()
}

// ServeHTTP implements http.Handler: the registry's API below /v2/, and the web page.
func (s *Server) ServeHTTP(hw http.ResponseWriter, r *http.Request) {
	w := exchange.NewRecorder(hw, r, s.opts.Now(), s.opts.IdleTimeout)

	// Every request is logged, however it ends. A fault that cuts the connection does so with the
	// panic that package http knows. A handler that panics is a fault of ours: nobody knows what it
	// has sent, so the connection is cut, and the log says where it happened.
	defer func() {
		if p := recover(); p != nil {
			w.Access.Error, w.Abort = exchange.PanicText(p), true
		}
		w.Settle(r)
		s.logAccess(w, r)
		if w.Abort {
			panic(http.ErrAbortHandler)
		}
	}()

	// The error of a path that leads nowhere waits behind admit: strangers learn nothing from it.
	rt, routeErr := s.route(r)
	w.Page, w.Access.Repository = rt.Kind == exchange.Page, rt.Repo
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if !w.Page {
		h.Set("Content-Security-Policy", live.NoPolicy)
		h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	}

	// Faults of letting in see every request, the others only those that were let in.
	err := s.faults.Gate(w, r, &rt, func() error {
		if err := s.admit(w, r, rt); err != nil {
			return err
		}
		if w.Page {
			return s.dispatch(w, r, rt)
		}
		if routeErr != nil {
			return routeErr
		}
		return s.faults.Commit(w, r, &rt, func() error { return s.dispatch(w, r, rt) })
	})
	if err != nil {
		w.Fail(err, answerTo(err))
	}
}

// route returns what a request asks for, also if it cannot be had.
func (s *Server) route(r *http.Request) (exchange.Route, error) {
	switch path := r.URL.Path; {
	case exchange.Known(path):
		rt, err := exchange.Parse(r)
		if u := s.copied.Load(); err == nil && u != nil {
			rt.Repo, err = u.place(r, rt.Repo)
		}
		return rt, err
	case path == access.TokenPath && s.gate.AsksForTokens():
		return exchange.Route{Kind: exchange.Token}, nil
	}
	return exchange.Route{Kind: exchange.Page}, nil
}

// admit decides whether a request may come in at all. There is no second place that asks
// whether the registry is read-only.
func (s *Server) admit(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	// The page of a site that has led its own name to a loopback address is stopped here (DNS
	// rebinding).
	if !exchange.OwnName(r, s.opts.Hosts) {
		return exchange.Fail(http.StatusMisdirectedRequest, exchange.CodeDenied, "the registry does not go by the name %s", exchange.Quote(r.Host))
	}

	if err := s.gate.Admit(w, r, rt); err != nil {
		return err
	}

	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if s.opts.ReadOnly && !read {
		w.Header().Set("Allow", "GET, HEAD")
		return exchange.Fail(http.StatusMethodNotAllowed, exchange.CodeUnsupported, "the registry is read-only")
	}

	if !read {
		// An archive is read-only, but a layout of the same name counts before it.
		if _, _, ok := s.findArchive(rt.Repo); ok && !s.hasLayout(rt.Repo) {
			w.Header().Set("Allow", "GET, HEAD")
			return exchange.Fail(http.StatusMethodNotAllowed, exchange.CodeUnsupported, "the repository is an archive, which is read-only")
		}

		// A copy changes only by what the upstream has.
		if from, err := s.origin(rt.Repo); err != nil {
			return err
		} else if from != nil {
			return from.refuse()
		}
	}

	// Browsers add the password that they know to requests of any page.
	if s.guard.Check(r) != nil {
		return exchange.Fail(http.StatusForbidden, exchange.CodeDenied, "the request comes from the page of another site")
	}

	return nil
}

// logAccess hands the record of a request that has ended to the log and to those who watch.
func (s *Server) logAccess(w *exchange.Recorder, r *http.Request) {
	w.Finish(r, s.opts.Now())

	// The page would show nothing but its own requests.
	if !w.Page {
		s.feed.Add(live.Step(w.Access))
		if a := w.Access; a.Outcome != "" && a.Session != "" { // behind the request that brought it about
			s.note(a.Repository, a.Session, a.Outcome)
		}
	}
	if s.opts.Log != nil {
		s.logMu.Lock()
		defer s.logMu.Unlock()
		s.opts.Log(w.Access)
	}
}

// A handler answers requests of one method for one endpoint.
type handler func(s *Server, w *exchange.Recorder, r *http.Request, rt exchange.Route) error

// routes says which methods an endpoint takes. It is the only place that does.
func routes() map[exchange.Endpoint]map[string]handler {
	return map[exchange.Endpoint]map[string]handler{
		exchange.Ping:      {"GET": (*Server).ping, "HEAD": (*Server).ping},
		exchange.Token:     {"GET": (*Server).giveToken},
		exchange.Catalog:   {"GET": (*Server).listCatalog},
		exchange.Tags:      {"GET": (*Server).listTags},
		exchange.Referrers: {"GET": (*Server).listReferrers},
		exchange.Manifest: {
			"GET": (*Server).getManifest, "HEAD": (*Server).getManifest,
			"PUT": (*Server).putManifest, "DELETE": (*Server).deleteManifest,
		},
		exchange.Blob:    {"GET": (*Server).getBlob, "HEAD": (*Server).getBlob, "DELETE": (*Server).deleteBlob},
		exchange.Uploads: {"POST": (*Server).startUpload},
		exchange.Upload: {
			"GET": (*Server).uploadStatus, "HEAD": (*Server).uploadStatus,
			"PATCH": (*Server).patchUpload, "PUT": (*Server).finishUpload, "DELETE": (*Server).cancelUpload,
		},
		exchange.Page: {"GET": (*Server).servePage, "HEAD": (*Server).servePage},
	}
}

// dispatch calls the handler of an endpoint and a method.
func (s *Server) dispatch(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	methods := s.routes[rt.Kind]
	if handle := methods[r.Method]; handle != nil {
		// A copy may have to fetch first what is asked for.
		if from, err := s.origin(rt.Repo); err != nil {
			return err
		} else if from != nil {
			return from.answer(w, r, rt, handle)
		}
		return handle(s, w, r, rt)
	}
	allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	w.Header().Set("Allow", allowed)
	return exchange.Fail(http.StatusMethodNotAllowed, exchange.CodeUnsupported, "method %s: this path takes %s", exchange.Quote(r.Method), allowed)
}

func (s *Server) ping(w *exchange.Recorder, _ *http.Request, _ exchange.Route) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "2")
	_, err := w.Write([]byte("{}"))
	return err
}

func (s *Server) giveToken(w *exchange.Recorder, r *http.Request, _ exchange.Route) error {
	return s.gate.GiveToken(w, r)
}
