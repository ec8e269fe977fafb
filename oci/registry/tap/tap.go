package tap

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/fault"
	"ocikit/oci/registry/serve/live"
	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
	"ocikit/oci/registry/wire"
)

// Options say which registry a [Tap] stands before, and what it does to the exchanges.
type Options struct {
	Registry  *url.URL          // scheme, host and port
	Transport http.RoundTripper // to the registry and to where it leads
	Hosts     []string          // names that the tap goes by on a loopback address, besides its own

	Faults    []string // names of what to spoil, see package fault
	FaultAt   int      // only the request of this number, from 1; 0: all that a fault applies to
	FaultPath string   // only requests with this in their path

	// Seen is called with each exchange that has ended, and the verdicts on it. Calls do not
	// overlap. It may be nil.
	Seen func(*record.Entry, []judge.Verdict)

	// Failed is told what the tap itself panicked with where there is no exchange to say it of: on
	// its own page. It is not called together with Seen. It may be nil.
	Failed func(text string)

	Digests bool             // also of chunks and of large bodies, for a recording
	Large   int64            // bytes over which the digest of a body is not computed; 0: 16 MiB
	Idle    time.Duration    // after which an exchange is cut in which no byte moves; 0: ten minutes
	Grace   time.Duration    // which exchanges have to end when Serve stops; 0: one second
	Now     func() time.Time // the clock; nil: time.Now
}

// A Tap hands exchanges on to one registry and judges them. It is safe for concurrent use.
//
// # Design
//
// Two thirds of the time that a tap takes goes into digests. Client and registry compute the digest
// of a blob themselves, so a third computation tells nothing, unless one of the two finds it wrong. A
// large body is therefore hashed in three cases: it is to be recorded, the blob is asked for again,
// or an upload was refused for its digest. The summary says how many bodies were not hashed.
type Tap struct {
	opts      Options
	proxy     *httputil.ReverseProxy
	faults    *fault.Set
	places    *places
	sessions  *sessions
	secrets   *secrets
	feed      *live.Feed
	guard     *http.CrossOriginProtection
	documents chan struct{} // slots for large documents that are kept
	lanes     lanes

	mu       sync.Mutex // of what follows
	judge    *judge.Conversation
	pulled   map[string]bool // paths of large blobs that have passed
	over     bool            // what is still under way is being cut
	underWay sync.WaitGroup  // exchanges that are not written down yet; none begins when it is over
	requests atomic.Int64
	doubt    atomic.Bool // somebody has found a wrong digest: compute all
}

// New returns a tap before a registry. Nothing is sent. A fault that does not exist is an error.
func New(o Options) (*Tap, error) {
	if o.Idle <= 0 {
		o.Idle = 10 * time.Minute
	}

	if o.Large <= 0 {
		o.Large = 16 << 20
	}

	if o.Grace <= 0 {
		o.Grace = time.Second
	}

	if o.Now == nil {
		o.Now = time.Now
	}

	t := &Tap{
		opts: o, places: newPlaces(o.Registry), sessions: newSessions(), secrets: newSecrets(),
		judge: judge.New(), pulled: map[string]bool{}, guard: http.NewCrossOriginProtection(), documents: make(chan struct{}, 4), lanes: newLanes(),
	}

	t.feed = live.New(t.sessions.uploads, t.summaryLines)
	t.proxy = &httputil.ReverseProxy{
		Rewrite:        t.rewrite,
		Transport:      o.Transport,
		ModifyResponse: t.answered,
		ErrorHandler:   t.unanswered,
		BufferPool:     newBuffers(),
		FlushInterval:  -1, // what the registry says is shown at once
		ErrorLog:       log.New(io.Discard, "", 0),
	}

	var err error
	t.faults, err = fault.New(o.Faults, host{t})
	return t, err
}

// Summary returns the summary of all exchanges that have ended so far.
func (t *Tap) Summary() judge.Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.judge.Summary()
}

// hello notes a client that speaks TLS where the tap does not.
func (t *Tap) hello() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.judge.Hello()
}

// summaryLines returns the summary as the page shows it.
func (t *Tap) summaryLines() []string {
	lines := t.Summary().Lines()
	for i, line := range lines {
		lines[i] = live.PlainText(line)
	}
	return lines
}

// httpServer returns an http.Server for the tap, with limits on the time and size of heads. It has
// none on bodies, which may take hours: [Options.Idle] ends one that stands still.
func (t *Tap) httpServer() *http.Server {
	return &http.Server{
		Handler: t, ReadHeaderTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 256 << 10,
		DisableGeneralOptionsHandler: true, ErrorLog: log.New(io.Discard, "", 0),
	}
}

// Serve accepts connections on ln until ctx ends, gives exchanges under way the time of
// [Options.Grace], cuts the rest, and returns nil when all are judged and shown. Any other end is an
// error. Serve closes ln. With a config it speaks TLS.
func (t *Tap) Serve(ctx context.Context, ln net.Listener, config *tls.Config) error {
	hs := t.httpServer()
	all, cut := context.WithCancel(context.WithoutCancel(ctx)) // of all exchanges
	defer cut()
	hs.BaseContext = func(net.Listener) context.Context { return all }
	hs.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, clientKey{}, c) }
	hs.RegisterOnShutdown(t.feed.Close)
	hs.RegisterOnShutdown(t.faults.Close)
	if config != nil {
		ln = tls.NewListener(ln, config)
	} else {
		ln = plainListener{ln, t.hello}
	}

	err := exchange.ServeUntil(ctx, hs, ln, t.opts.Grace, func() { t.end(); cut() })
	if ctx.Err() != nil {
		t.underWay.Wait()
	}
	t.lanes.close()
	return err
}

// end makes what is still under way, and breaks from now on, an exchange that was cut by the end of
// the tap. No other one begins.
func (t *Tap) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

// ended reports whether end was called.
func (t *Tap) ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

// enter reports whether an exchange may begin. If so, it is waited for until t.underWay.Done.
func (t *Tap) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.underWay.Add(1)
	}
	return !t.over
}

// A passage is one exchange on its way through the tap.
type passage struct {
	w      *exchange.Recorder
	in     *http.Request
	rt     exchange.Route
	base   string   // scheme and host by which the client finds the tap
	target *url.URL // what is asked, and of whom
	away   *place   // nil: the registry itself

	entry     *record.Entry
	session   *session
	sessions  *sessions
	connected atomic.Bool // there was a connection to the target
	registry  *conn       // that connection, if it is a plain one
	client    *conn       // that of the client, if it is a plain one
	continued atomic.Bool
	firstByte atomic.Int64
	request   *meter // bodies; nil: none was asked for
	answer    *meter
	again     bool // a large blob that has passed before
	failed    error
	panicked  string // what the tap itself panicked with
	watch     watch
	late      bool // the client took nothing for too long
	release   []func()
}

type (
	passageKey struct{} // of the passage, in the context of a request
	clientKey  struct{} // of the conn of the client
)

// ServeHTTP implements [http.Handler]. It panics with [http.ErrAbortHandler] to break the connection
// of the client where that of the registry broke.
func (t *Tap) ServeHTTP(hw http.ResponseWriter, r *http.Request) {
	w := exchange.NewRecorder(hw, r, t.opts.Now(), t.opts.Idle)

	// The page of another site could reach the registry through the user's browser, by a name
	// of its own that it points at this machine.
	if !exchange.OwnName(r, append([]string{t.opts.Registry.Hostname()}, t.opts.Hosts...)) {
		exchange.Fail(http.StatusMisdirectedRequest, exchange.CodeDenied, "the tap does not go by the name %s", exchange.Quote(r.Host)).Send(w)
		return
	}

	if r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/-/") && !isPlace(r.URL.Path) {
		t.servePage(w, r)
		return
	}

	if t.guard.Check(r) != nil {
		exchange.Fail(http.StatusForbidden, exchange.CodeDenied, "the request comes from the page of another site").Send(w)
		return
	}

	if !t.enter() {
		panic(http.ErrAbortHandler)
	}

	p := t.begin(w, r)

	// ReverseProxy tells by a panic that a connection broke half way. It goes on when the exchange
	// is written down. Any other panic is a fault of ours, which nobody else may be blamed for.
	defer func() {
		broken := recover()
		if broken != nil && broken != http.ErrAbortHandler {
			p.panicked = exchange.PanicText(broken)
		}
		t.finish(p, broken != nil)
		w.Settle(r)
		if broken != nil || w.Abort {
			panic(http.ErrAbortHandler)
		}
	}()

	next := func() error {
		p.in = r
		r.Body = readCloser{w.Body, r.Body}
		ctx := p.watch.start(context.WithValue(r.Context(), passageKey{}, p), t.opts.Idle)
		defer p.watch.stop()
		t.proxy.ServeHTTP(&answerWriter{Recorder: w, p: p}, r.WithContext(ctx))
		return p.failed
	}

	if err := t.spoil(p, r, next); err != nil {
		w.Fail(err, host{t}.Answer(err))
	}
}

// spoil commits the faults that were asked for, where they were asked for.
func (t *Tap) spoil(p *passage, r *http.Request, next func() error) error {
	if t.opts.FaultAt > 0 && t.opts.FaultAt != p.entry.N || !strings.Contains(r.URL.Path, t.opts.FaultPath) {
		return next()
	}
	return t.faults.Gate(p.w, r, &p.rt, func() error {
		return t.faults.Commit(p.w, r, &p.rt, next)
	})
}

// A host is the Tap as faults see it. It stores nothing.
type host struct{ t *Tap }

func (h host) Now() time.Time { return h.t.opts.Now() }

func (h host) Challenge(r *http.Request, _ exchange.Route) string {
	if text := h.t.places.challenge(exchange.Scheme(r) + "://" + r.Host); text != "" {
		return text
	}
	return `Basic realm="ocikit fault"`
}

func (h host) Answer(err error) *exchange.Failure {
	if f, ok := errors.AsType[*exchange.Failure](err); ok {
		return f
	}
	return exchange.Fail(http.StatusBadGateway, exchange.CodeUnknown, "ocikit tap: the registry gave no answer: %s", wire.Quote(cause(err)))
}
