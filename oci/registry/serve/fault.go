package serve

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Fault is something that the registry can do wrong on purpose, so that people can test
// their clients.
type Fault struct {
	Name  string // as Options.Faults and serve --fault take it
	Short string // what happens, in one line
}

// Faults lists the faults, those of one kind together. Several can be committed at once.
func Faults() []Fault {
	var all []Fault
	for _, f := range faultTable() {
		all = append(all, f.Fault)
	}
	return all
}

// A fault is one row of the table. A server has its own copy, with its own memory.
type fault struct {
	Fault
	applies func(c *call) bool
	commit  func(c *call, next func() error) error

	gate   bool // it is about letting requests in, so it sees also those that are not
	tokens bool // it needs a token server

	mu   sync.Mutex
	seen map[string]int // what it has done how often
}

// A call is one request that a fault looks at.
type call struct {
	s  *Server
	w  *recorder
	r  *http.Request
	rt route
	f  *fault
}

func faultTable() []*fault {
	return slices.Concat(
		challengeFaults(), realmFaults(), tokenFaults(), authFaults(),
		startFaults(), locationFaults(), rangeFaults(), patchFaults(), chunkFaults(), endFaults(), wireFaults(),
		manifestFaults(), referrerFaults(), tagFaults(), headFaults(), blobFaults(), redirectFaults(),
		rateFaults(), errorFaults(),
	)
}

func findFaults(names []string) ([]*fault, error) {
	var found []*fault
	table := faultTable()
	for _, name := range names {
		i := slices.IndexFunc(table, func(f *fault) bool { return f.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("fault %q: there is no such fault", name)
		}
		found = append(found, table[i])
	}
	return found, nil
}

// misbehave answers a request with the faults, or by next.
func (s *Server) misbehave(faults []*fault, w *recorder, r *http.Request, rt route, next func() error) error {
	for _, f := range slices.Backward(faults) {
		c := &call{s, w, r, rt, f}
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
	c.w.access.Fault = strings.TrimPrefix(c.w.access.Fault+","+c.f.Name, ",")
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
func refuse(name, short string, applies func(c *call) bool, status int, code, message string) *fault {
	return &fault{Fault: Fault{name, short}, applies: applies, commit: func(c *call, _ func() error) error {
		return c.answer(status, code, message)
	}}
}

// cut lets the connection break after n bytes of the body.
func (c *call) cut(n int64, next func() error) error {
	c.w.body.r = &cutReader{r: c.w.body.r, n: n}
	err := next()
	if err != nil && c.w.status == 0 {
		c.w.abort = true
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
		return 0, errFault
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.n)])
	c.n -= int64(n)
	return n, err
}

var errFault = errors.New("cut by a fault")

// answer sends a failure of the fault's own.
func (c *call) answer(status int, code, message string) error {
	c.note()
	return fail(status, code, "%s", message)
}

// edit changes status and header of the answer before it is sent.
func (c *call) edit(next func() error, change func(status int, h http.Header) int) error {
	c.w.edits = append(c.w.edits, func(status int, h http.Header) int {
		c.note()
		return change(status, h)
	})
	return next()
}

// session returns the open session that the request is about, if there is one.
func (c *call) session() *session {
	u, err := c.s.findUpload(c.rt)
	if err != nil {
		return nil
	}
	return u
}

// shorten takes bytes away from a session behind the client's back.
func (c *call) shorten(size func(int64) int64) {
	u := c.session()
	if u == nil || c.s.take(c.r.Context(), u) != nil {
		return
	}
	defer c.s.release(u)
	f, err := c.s.open(u)
	if err != nil {
		return
	}
	defer f.Close()
	n := size(u.h.Size())
	if f.Truncate(n) == nil {
		u.h = nil // found again from the file
		u.size.Store(n)
		c.s.root.Remove(u.path() + stateSuffix)
	}
}

// wait waits, unless the client goes away or another request for the session comes.
func (c *call) wait(d time.Duration) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.After(d)
	for !c.w.body.cut.Load() {
		select {
		case <-tick.C:
		case <-end:
			c.w.extend()
			return
		case <-c.r.Context().Done():
			return
		}
	}
}

// What a fault applies to.

func isPost(c *call) bool  { return c.rt.kind == endUploads && c.r.Method == http.MethodPost }
func isPatch(c *call) bool { return c.rt.kind == endUpload && c.r.Method == http.MethodPatch }
func isPut(c *call) bool   { return c.rt.kind == endUpload && c.r.Method == http.MethodPut }
func isCancel(c *call) bool {
	return c.rt.kind == endUpload && c.r.Method == http.MethodDelete
}
func isStatus(c *call) bool { return c.rt.kind == endUpload && c.r.Method == http.MethodGet }
func isUpload(c *call) bool { return c.rt.kind == endUploads || c.rt.kind == endUpload }
func isMount(c *call) bool  { return isPost(c) && c.r.URL.Query().Has("mount") }
func isGetBlob(c *call) bool {
	return c.rt.kind == endBlob && c.r.Method == http.MethodGet
}
func isHeadBlob(c *call) bool {
	return c.rt.kind == endBlob && c.r.Method == http.MethodHead
}
func isGetManifest(c *call) bool {
	return c.rt.kind == endManifest && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead)
}
func isPutManifest(c *call) bool {
	return c.rt.kind == endManifest && c.r.Method == http.MethodPut
}
func isAny(*call) bool { return true }
