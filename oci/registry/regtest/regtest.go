// Package regtest is a registry in memory for tests, and ways to spoil what it does.
//
// A [Registry] is a correct one, with [Quirks] that real registries have. [BreakAt] puts a
// [Fault] in front of its k-th request. It keeps a record of the requests, so a test can say
// what must never be in one.
package regtest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"ocikit/digest"
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

// A Request is what a test may want to know about one that came.
type Request struct {
	Method, URL string
	Header      http.Header
	Status      int
	Body        int64 // bytes that were read
}

// A Registry is an http.Handler. It is safe for concurrent use; Quirks are set before.
type Registry struct {
	Quirks
	Auth *Auth // nil lets everybody in

	mu        sync.Mutex
	blobs     map[string][]byte // repo@digest
	manifests map[string]manifest
	tags      map[string]digest.Digest // repo:tag
	uploads   map[string]*upload
	log       []Request
	taken     int64
}

type manifest struct {
	mediaType string
	data      []byte
}

type upload struct {
	mu   sync.Mutex // held by the request that is served: a session takes one at a time
	repo string
	data []byte
	gen  int // grows with every change; a Location is of one
}

// New returns an empty registry.
func New() *Registry {
	return &Registry{
		blobs: map[string][]byte{}, manifests: map[string]manifest{}, tags: map[string]digest.Digest{}, uploads: map[string]*upload{},
	}
}

// Serve starts a server for h that ends with the test, and returns its host and port.
func Serve(t interface{ Cleanup(func()) }, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// Has reports whether the repository has the blob or manifest, with the right bytes.
func (g *Registry) Has(repo string, d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	data, ok := g.blobs[repo+"@"+d.String()]
	if m, isManifest := g.manifests[repo+"@"+d.String()]; isManifest {
		data, ok = m.data, true
	}
	return ok && digestOf(d, data) == d
}

// Tag returns what a tag names, the zero Digest for nothing.
func (g *Registry) Tag(repo, tag string) digest.Digest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tags[repo+":"+tag]
}

// PutBlob stores a blob without a request.
func (g *Registry) PutBlob(repo string, data []byte) digest.Digest {
	d := digest.FromBytes(data)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blobs[repo+"@"+d.String()] = data
	return d
}

// PutManifest stores a manifest under its digest, and a tag if it is not empty.
func (g *Registry) PutManifest(repo, tag, mediaType string, data []byte) digest.Digest {
	d := digest.FromBytes(data)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.manifests[repo+"@"+d.String()] = manifest{mediaType, data}
	if tag != "" {
		g.tags[repo+":"+tag] = d
	}
	return d
}

// Remove forgets a blob.
func (g *Registry) Remove(repo string, d digest.Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.blobs, repo+"@"+d.String())
}

// Requests returns the requests that came so far.
func (g *Registry) Requests() []Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Request(nil), g.log...)
}

// Taken returns the number of bytes of blobs that uploads have kept so far.
func (g *Registry) Taken() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.taken
}

// Uploads returns the number of sessions that are open.
func (g *Registry) Uploads() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.uploads)
}

var (
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
	blobPath     = regexp.MustCompile(`^/v2/(.+)/blobs/([a-z0-9]+:[^/]+)$`)
	startPath    = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/$`)
	uploadPath   = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/([0-9a-f]+)$`)
	tagsPath     = regexp.MustCompile(`^/v2/(.+)/tags/list$`)
	referrerPath = regexp.MustCompile(`^/v2/(.+)/referrers/([^/]+)$`)
)

// ServeHTTP implements http.Handler.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, status: 200}
	body := &counter{ReadCloser: r.Body}
	r.Body = body
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.log = append(g.log, Request{r.Method, r.URL.String(), r.Header.Clone(), rec.status, body.n})
	}()
	w = rec
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if g.Auth != nil && !g.Auth.allow(w, r) {
		return
	}
	path := r.URL.Path
	if r.Method == http.MethodHead && g.NoHead {
		fail(w, 405, "UNSUPPORTED", "")
		return
	}
	switch {
	case path == "/v2/":
		io.WriteString(w, "{}")
	case startPath.MatchString(path) && r.Method == http.MethodPost:
		g.start(w, r, startPath.FindStringSubmatch(path)[1])
	case uploadPath.MatchString(path):
		m := uploadPath.FindStringSubmatch(path)
		g.session(w, r, m[1], m[2])
	case blobPath.MatchString(path):
		m := blobPath.FindStringSubmatch(path)
		g.blob(w, r, m[1], m[2])
	case manifestPath.MatchString(path):
		m := manifestPath.FindStringSubmatch(path)
		g.manifest(w, r, m[1], m[2])
	case tagsPath.MatchString(path):
		g.list(w, r, tagsPath.FindStringSubmatch(path)[1])
	case referrerPath.MatchString(path):
		m := referrerPath.FindStringSubmatch(path)
		g.referrers(w, r, m[1], m[2])
	default:
		fail(w, 404, "NAME_UNKNOWN", path)
	}
}

func (g *Registry) blob(w http.ResponseWriter, r *http.Request, repo, name string) {
	g.mu.Lock()
	data, ok := g.blobs[repo+"@"+name]
	if r.Method == http.MethodDelete {
		delete(g.blobs, repo+"@"+name)
	}
	g.mu.Unlock()
	switch {
	case !ok:
		fail(w, 404, "BLOB_UNKNOWN", name)
		return
	case r.Method == http.MethodDelete:
		w.WriteHeader(202)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if !g.NoDigestHeader {
		w.Header().Set("Docker-Content-Digest", name)
	}
	status, part := 200, data
	var a, b int64
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &a, &b); n == 2 && !g.NoRanges {
		if a >= int64(len(data)) || b < a || b >= int64(len(data)) {
			fail(w, 416, "RANGE_INVALID", "")
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a, b, len(data)))
		status, part = 206, data[a:b+1]
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(part)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		w.Write(part)
	}
}

func (g *Registry) list(w http.ResponseWriter, r *http.Request, repo string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for key := range g.tags {
		if rest, ok := strings.CutPrefix(key, repo+":"); ok {
			all = append(all, rest)
		}
	}
	sortStrings(all)
	last := r.URL.Query().Get("last")
	page := []string{}
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	for _, t := range all {
		if last != "" && t <= last {
			continue
		}
		if err == nil && len(page) == n {
			if n > 0 {
				w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?n=%d&last=%s>; rel="next"`, repo, n, page[n-1]))
			}
			break
		}
		page = append(page, t)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"name": repo, "tags": page})
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func digestOf(want digest.Digest, data []byte) digest.Digest {
	if !want.Verifiable() {
		return digest.Digest{}
	}
	d, _, _ := digest.FromReader(want.Algorithm(), bytes.NewReader(data))
	return d
}

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

type counter struct {
	io.ReadCloser
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}
