package servetest

import (
	"cmp"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ocikit/digest"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/exchange"
)

// Quirks are the ways in which registries differ. The zero value is by the book.
type Quirks struct {
	Location    func(r *http.Request, path string) string // spells a Location; nil: the path alone
	PatchStatus int                                       // in place of 202
	PutStatus   int                                       // in place of 201
	Range       func(first, end int64) string             // spells the Range of an upload that holds end bytes; "" leaves it out

	StableLocation bool // the Location does not change, and stale ones are taken
	OneStream      bool // a second PATCH needs a Content-Range
	PutRange       bool // a PUT with the rest needs a Content-Range
	IgnoreRange    bool // Content-Range is not looked at, bytes are appended
	LoseSession    bool // a connection that breaks ends the session
	LostStatus     int  // the status for an unknown session, in place of 404
	LostCode       string
	NoStatus       bool  // GET of a session is 400
	Granularity    int64 // of what is kept of a broken PATCH

	NoPatch, NoPut   bool  // 405
	MaxBody          int64 // 413 above
	MaxChunk         int64 // 416 "too large" above, if there is a Content-Range
	ChunkMin         int64 // OCI-Chunk-Min-Length
	ChunkMax         int64 // OCI-Chunk-Max-Length
	NoMount          int   // the status in place of a mount; 202 opens a session
	SinglePost       bool  // POST with digest is done with the body
	NoMultiTag       bool
	NoReferrers      int // the status of the referrers API
	NoSubjectHeader  bool
	NoDigestHeader   bool
	NoHead           bool // HEAD is 405
	HideMissingBlobs bool // MANIFEST_INVALID in place of MANIFEST_BLOB_UNKNOWN
	ImmutableTags    bool
	NoRanges         bool // Range of a GET is ignored
}

// A Quirky is a Registry with the quirks of real ones, stricter than serve: a session wants its
// newest Location, and a body its length and type. Quirks and Auth are set before the first request.
type Quirky struct {
	*Registry
	Quirks
	Auth *Auth // nil lets everybody in

	mu    sync.Mutex
	open  map[string]*upload
	log   []QuirkyRequest
	taken int64
}

// A QuirkyRequest is what a test may want to know about one that came.
type QuirkyRequest struct {
	Method, URL string
	Header      http.Header
	Status      int
	Body        int64 // bytes that were read
}

// An upload is what the quirks need to know of a session.
type upload struct {
	mu   sync.Mutex // held by the request that is served: a session takes one at a time
	repo string
	size int64
	gen  int // grows with every change; a Location is of one
}

// NewQuirky returns an empty registry.
func NewQuirky(t testing.TB) *Quirky {
	t.Helper()
	return &Quirky{Registry: New(t, serve.Options{}), open: map[string]*upload{}}
}

// ServeHTTP implements http.Handler.
func (g *Quirky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := &counter{ReadCloser: r.Body}
	r.Body = body
	a := &answer{ResponseWriter: w}

	// Requests that are refused are recorded as well.
	defer g.record(r, a, body)

	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	switch {
	case g.Auth != nil && !g.Auth.allow(a, r):
	case r.Method == http.MethodHead && g.NoHead:
		fail(a, 405, "UNSUPPORTED", "")
	default:
		g.serve(a, r.Clone(r.Context()))
	}
}

func (g *Quirky) record(r *http.Request, a *answer, body *counter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, QuirkyRequest{r.Method, r.URL.String(), r.Header.Clone(), cmp.Or(a.status, 200), body.n})
}

// Requests returns the requests that came so far.
func (g *Quirky) Requests() []QuirkyRequest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.log)
}

// Taken returns the number of bytes of blobs that uploads have kept so far.
func (g *Quirky) Taken() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.taken
}

func (g *Quirky) add(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken += n
}

// Uploads returns the number of upload sessions that are open.
func (g *Quirky) Uploads() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}

func (g *Quirky) path(repo string, d digest.Digest) string {
	return filepath.Join(g.dir, repo, "blobs", string(d.Algorithm()), d.Encoded())
}

// Has reports whether the repository has the blob or manifest, with the right bytes.
func (g *Quirky) Has(repo string, d digest.Digest) bool {
	f, err := os.Open(g.path(repo, d))
	if err != nil {
		return false
	}
	defer f.Close()
	got, _, err := digest.FromReader(d.Algorithm(), f)
	return err == nil && got == d
}

// Remove forgets a blob.
func (g *Quirky) Remove(repo string, d digest.Digest) { os.Remove(g.path(repo, d)) }

// serve hands a request on, changed where a quirk wants it, and sees to the answer.
func (g *Quirky) serve(a *answer, r *http.Request) {
	rt, err := exchange.Parse(r)
	if err != nil {
		g.hand(a, r)
		return
	}

	a.change = func(status int, h http.Header) int {
		if g.NoDigestHeader {
			h.Del("Docker-Content-Digest")
		}
		if g.NoSubjectHeader || g.NoReferrers != 0 {
			h.Del("OCI-Subject")
		}
		return status
	}

	switch rt.Kind {
	case exchange.Uploads:
		g.start(a, r, rt)
	case exchange.Upload:
		g.session(a, r, rt)
	case exchange.Referrers:
		if g.NoReferrers != 0 {
			fail(a, g.NoReferrers, "UNSUPPORTED", "")
			return
		}
		g.hand(a, r)
	case exchange.Manifest:
		g.manifest(a, r, rt)
	default:
		if g.NoRanges {
			r.Header.Del("Range")
		}
		g.hand(a, r)
	}
}

// hand gives a request to serve. Tests call the registry by any name, and serve would refuse those.
func (g *Quirky) hand(w http.ResponseWriter, r *http.Request) {
	named := *r
	named.Host = "127.0.0.1"
	g.Server.ServeHTTP(w, &named)
}

// manifest serves manifests.
func (g *Quirky) manifest(a *answer, r *http.Request, rt exchange.Route) {
	switch r.Method {
	case http.MethodPut:
		q := r.URL.Query()
		tags := q["tag"]
		if g.NoMultiTag {
			q.Del("tag")
			r.URL.RawQuery, tags = q.Encode(), nil
		}
		if !strings.Contains(rt.Ref, ":") {
			tags = []string{rt.Ref}
		}

		// Nothing is set if one of the tags cannot be.
		for _, tag := range tags {
			if g.ImmutableTags && !g.Tag(rt.Repo, tag).IsZero() {
				fail(a, 400, "TAG_INVALID", "tag is immutable")
				return
			}
		}

		if g.HideMissingBlobs {
			rec := httptest.NewRecorder()
			g.hand(rec, r)
			if strings.Contains(rec.Body.String(), exchange.CodeManifestBlobUnknown) {
				fail(a, 400, exchange.CodeManifestInvalid, "")
				return
			}
			maps.Copy(a.Header(), rec.Header())
			a.WriteHeader(rec.Code)
			a.Write(rec.Body.Bytes())
			return
		}
	case http.MethodGet, http.MethodHead:
		// A client has to say that it takes the type.
		common := a.change
		a.change = func(status int, h http.Header) int {
			if status == 200 && !strings.Contains(r.Header.Get("Accept"), h.Get("Content-Type")) {
				h.Set("Content-Length", "0")
				a.drop = true
				return 404
			}
			return common(status, h)
		}
	}
	g.hand(a, r)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	exchange.Fail(status, code, "%s", message).Send(w)
}

// An answer lets change edit status and header before they are sent.
type answer struct {
	http.ResponseWriter
	change func(status int, h http.Header) int
	status int
	drop   bool // the body
}

func (a *answer) WriteHeader(status int) {
	if status >= 200 && a.status == 0 {
		if a.change != nil {
			status = a.change(status, a.Header())
		}
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(200)
	}
	if a.drop {
		return len(p), nil
	}
	return a.ResponseWriter.Write(p)
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

type counter struct {
	io.ReadCloser
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}
