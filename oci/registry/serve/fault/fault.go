// Package fault is what a registry can do wrong on purpose, so that people can test clients.
//
// [All] lists the faults. [New] makes a [Set] of some of them for a server, which hands each
// request to [Set.Gate] before it is let in and to [Set.Commit] behind that: a fault spoils the
// request, the answer, or the connection, or answers itself. A server need not be a registry,
// as long as it is a [Host]; a few faults also act behind the client's back on what is stored,
// and those need a [Store].
package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

// A Fault is one thing that goes wrong.
type Fault struct {
	Name  string // as users write it
	Short string // what happens, in one line
}

// All lists the faults, those of one kind together. Several can be committed at once.
func All() []Fault {
	var all []Fault
	for _, f := range table() {
		all = append(all, f.Fault)
	}
	return all
}

// NeedsStore reports whether only a host that is a [Store] can commit the fault of the name.
func NeedsStore(name string) bool {
	return slices.ContainsFunc(table(), func(f *fault) bool { return f.Name == name && f.stored })
}

// A Host is the server that commits faults. Its methods are called by several requests at a time.
type Host interface {
	// Now is the clock, by which the client is told when to come back.
	Now() time.Time

	// Challenge returns the header WWW-Authenticate that refuses the token of a request.
	Challenge(r *http.Request, rt exchange.Route) string

	// Answer turns an error of a handler into what the client is told.
	Answer(err error) *exchange.Failure
}

// A Store lets faults act on what a [Host] stores, behind the client's back. A repository or a
// session that is not there is passed over in silence where no error is returned.
type Store interface {
	// Size returns the bytes that an open session holds, and whether there is one.
	Size(rt exchange.Route) (int64, bool)
	// Shorten cuts a session to the size that is returned for the size that it has.
	Shorten(ctx context.Context, rt exchange.Route, size func(int64) int64)
	// Drop removes a session.
	Drop(ctx context.Context, rt exchange.Route)
	// HasTag reports whether the reference is a tag that the repository has.
	HasTag(rt exchange.Route) bool
	// LoseLayer removes the last blob that the manifest, which is being put, names, if it names any.
	// It is an error if another manifest needs the blob.
	LoseLayer(r *http.Request, rt exchange.Route, manifest []byte) error
	// FirstChild returns the digest of the first manifest in an index.
	FirstChild(rt exchange.Route) (ref string, ok bool)
	// KeepTag returns a function that makes the tag name again what it names now.
	KeepTag(ctx context.Context, rt exchange.Route) (restore func() error, err error)
}

// errNeedsStore means that a fault acts on what is stored, and the host stores nothing.
var errNeedsStore = errors.New("it needs the registry itself")

// A fault is one row of the table. A Set has its own copy, with its own memory.
type fault struct {
	Fault
	applies func(c *call) bool
	commit  func(c *call, next func() error) error

	gate   bool // it is about letting requests in, so it sees also those that are not
	tokens bool // it needs a token server
	stored bool // it needs a Store

	mu   sync.Mutex
	seen map[string]int // what it has done how often
}

// A call is one request that a fault looks at.
type call struct {
	host  Host
	store Store // nil for faults that do not need it
	w     *exchange.Recorder
	r     *http.Request
	rt    *exchange.Route
	f     *fault
	ended <-chan struct{} // see [Set.Close]
}

func table() []*fault {
	return slices.Concat(
		challengeFaults(), realmFaults(), tokenFaults(), authFaults(),
		startFaults(), locationFaults(), rangeFaults(), patchFaults(), chunkFaults(), endFaults(), wireFaults(),
		manifestFaults(), referrerFaults(), tagFaults(), headFaults(), blobFaults(), redirectFaults(),
		rateFaults(), errorFaults(),
	)
}

// A Set is some faults, with the memory of what they have done. It is safe for concurrent use.
type Set struct {
	host  Host
	store Store
	gate  []*fault // of letting in
	rest  []*fault // of requests that were let in

	end   sync.Once
	ended chan struct{} // closed by Close
}

// New returns the faults of the names. To a host that is not a [Store] it refuses those that need
// one.
func New(names []string, host Host) (*Set, error) {
	set := &Set{host: host, ended: make(chan struct{})}
	set.store, _ = host.(Store)
	all := table()
	for _, name := range names {
		i := slices.IndexFunc(all, func(f *fault) bool { return f.Name == name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("fault %q: there is no such fault", name)
		case all[i].stored && set.store == nil:
			return nil, fmt.Errorf("fault %q: %w", name, errNeedsStore)
		case all[i].gate:
			set.gate = append(set.gate, all[i])
		default:
			set.rest = append(set.rest, all[i])
		}
	}

	return set, nil
}

// Close ends what a fault sends on connections that it took from the HTTP server, which cannot end
// them.
func (s *Set) Close() { s.end.Do(func() { close(s.ended) }) }

// WantsTokens reports whether one of the faults can only be seen where tokens are asked for.
func (s *Set) WantsTokens() bool {
	return slices.ContainsFunc(slices.Concat(s.gate, s.rest), func(f *fault) bool { return f.tokens })
}

// Gate answers a request with the faults that are about letting requests in, or by next. An error
// is for the caller to answer.
func (s *Set) Gate(w *exchange.Recorder, r *http.Request, rt *exchange.Route, next func() error) error {
	return s.commit(s.gate, w, r, rt, next)
}

// Commit answers a request that was let in with the other faults, or by next, which sees what they
// have made of r and rt. An error is for the caller to answer.
func (s *Set) Commit(w *exchange.Recorder, r *http.Request, rt *exchange.Route, next func() error) error {
	return s.commit(s.rest, w, r, rt, next)
}

func (s *Set) commit(faults []*fault, w *exchange.Recorder, r *http.Request, rt *exchange.Route, next func() error) error {
	// The last is wrapped first, so that the faults see a request in the order in which they were
	// named.
	for _, f := range slices.Backward(faults) {
		c := &call{s.host, s.store, w, r, rt, f, s.ended}
		inner := next
		next = func() error {
			if !f.applies(c) {
				return inner()
			}
			return f.commit(c, inner)
		}
	}
	return next()
}

// note says in the log that the fault was committed.
func (c *call) note() {
	c.w.Access.Fault = strings.TrimPrefix(c.w.Access.Fault+","+c.f.Name, ",")
}

// first reports whether this is one of the first n requests with the key. A key that is
// forgotten, because there were too many, counts as new.
func (c *call) first(n int, key string) bool {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if c.f.seen == nil || len(c.f.seen) > 10_000 {
		c.f.seen = map[string]int{}
	}
	c.f.seen[key]++
	return c.f.seen[key] <= n
}

// known reports whether first was called with the key.
func (c *call) known(key string) bool {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	return c.f.seen[key] > 0
}

// hasBody reports whether the request has a body that is worth cutting.
func (c *call) hasBody() bool { return c.r.ContentLength > 1 || c.r.ContentLength < 0 }

// half is about the middle of the body.
func (c *call) half() int64 {
	if c.r.ContentLength < 0 {
		return 1 << 20
	}
	return c.r.ContentLength / 2
}

// refuse makes a fault that answers some requests with a failure.
func refuse(name, short string, applies func(c *call) bool, failure *exchange.Failure) *fault {
	return acts(name, short, applies, func(*call, func() error) error { return failure })
}

// acts makes a fault that is committed in any case.
func acts(name, short string, applies func(c *call) bool, commit func(c *call, next func() error) error) *fault {
	return &fault{Fault: Fault{name, short}, applies: applies, commit: func(c *call, next func() error) error {
		c.note()
		return commit(c, next)
	}}
}

// edits makes a fault that changes status and header of an answer.
func edits(name, short string, applies func(c *call) bool, change func(c *call, status int, h http.Header) int) *fault {
	return &fault{Fault: Fault{name, short}, applies: applies, commit: func(c *call, next func() error) error {
		return c.edit(next, func(status int, h http.Header) int { return change(c, status, h) })
	}}
}

// marks makes a fault that changes the header of an answer.
func marks(name, short string, applies func(c *call) bool, change func(c *call, h http.Header)) *fault {
	return edits(name, short, applies, func(c *call, status int, h http.Header) int { change(c, h); return status })
}

// onStore says that a fault needs a Store.
func (f *fault) onStore() *fault {
	f.stored = true
	return f
}

// cut lets the connection break after n bytes of the body.
func (c *call) cut(n int64, next func() error) error {
	c.w.Body.R = &cutReader{r: c.w.Body.R, n: n}
	err := next()
	if err != nil && c.w.Status == 0 {
		c.w.Abort = true
	}
	return err
}

// A cutReader fails after n bytes.
type cutReader struct {
	r io.Reader
	n int64
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.n <= 0 {
		return 0, errCut
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.n)])
	c.n -= int64(n)
	return n, err
}

var errCut = errors.New("cut by a fault")

// answer sends a failure of the fault's own.
func (c *call) answer(status int, code, message string) error {
	c.note()
	return exchange.Fail(status, code, "%s", message)
}

// edit changes status and header of the answer before it is sent.
func (c *call) edit(next func() error, change func(status int, h http.Header) int) error {
	c.w.Edit(func(status int, h http.Header) int {
		c.note()
		return change(status, h)
	})
	return next()
}

// wait waits, unless the client goes away or another request for the session comes.
func (c *call) wait(d time.Duration) {
	// The tick is there to notice that a newer request for the session has cut the body.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.After(d)
	for !c.w.Body.Cut() {
		select {
		case <-tick.C:
		case <-end:
			c.w.Extend()
			return
		case <-c.r.Context().Done():
			return
		}
	}
}

// What a fault applies to.

func isPost(c *call) bool  { return c.rt.Kind == exchange.Uploads && c.r.Method == http.MethodPost }
func isPatch(c *call) bool { return c.rt.Kind == exchange.Upload && c.r.Method == http.MethodPatch }
func isPut(c *call) bool   { return c.rt.Kind == exchange.Upload && c.r.Method == http.MethodPut }
func isCancel(c *call) bool {
	return c.rt.Kind == exchange.Upload && c.r.Method == http.MethodDelete
}
func isStatus(c *call) bool { return c.rt.Kind == exchange.Upload && c.r.Method == http.MethodGet }
func isUpload(c *call) bool { return c.rt.Kind == exchange.Uploads || c.rt.Kind == exchange.Upload }
func isMount(c *call) bool  { return isPost(c) && c.r.URL.Query().Has("mount") }
func isGetBlob(c *call) bool {
	return c.rt.Kind == exchange.Blob && c.r.Method == http.MethodGet
}
func isHeadBlob(c *call) bool {
	return c.rt.Kind == exchange.Blob && c.r.Method == http.MethodHead
}
func isGetManifest(c *call) bool {
	return c.rt.Kind == exchange.Manifest && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead)
}
func isPutManifest(c *call) bool {
	return c.rt.Kind == exchange.Manifest && c.r.Method == http.MethodPut
}
func isAny(*call) bool { return true }
