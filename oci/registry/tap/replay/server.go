// Package replay plays a recording: as the registry for a client ([Server]), which brings a fault
// of the client back, or as the client against another registry ([Run]), which brings a fault of
// the registry back.
//
// A recording holds documents whole and of blobs only digest and size. Where the bytes of a blob
// are to be had they are used; a client that is played sends other bytes of the same size in their
// place, and names their digests wherever the recording names those of the blob.
package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
	"ocikit/oci/registry/wire"
)

// Blobs opens the bytes of a blob, from its beginning; an error means that there are none. The caller
// closes the reader.
type Blobs func(d digest.Digest) (io.ReadCloser, error)

// A Server answers requests as a recorded registry did. Requests of the same method and address get
// the recorded answers in their order; the sessions of uploads may be used in another. It is safe for concurrent use.
type Server struct {
	origin string
	blobs  Blobs

	// Diverged is called for each request that is not in the recording, or differs from it; calls
	// may overlap. It may be nil, and must be set before the first request.
	Diverged func(text string)

	mu     sync.Mutex
	queues map[string][]*record.Entry // by key, in the order of the recording
	left   int
	played int
	wrong  []string
}

// NewServer returns a Server of the exchanges of a recording. blobs may be nil. An address that cannot
// be read gives [record.ErrMalformed].
func NewServer(head record.Head, entries []*record.Entry, blobs Blobs) (*Server, error) {
	u, err := url.Parse(head.Registry)
	if err != nil {
		return nil, fmt.Errorf("%w: the address of the registry", record.ErrMalformed)
	}
	s := &Server{origin: wire.Origin(u), blobs: blobs, queues: map[string][]*record.Entry{}, left: len(entries)}
	for _, e := range entries {
		u, err := url.Parse(e.URL)
		if err != nil {
			return nil, fmt.Errorf("%w: exchange %d: the URL", record.ErrMalformed, e.N)
		}
		k := e.Method + " " + s.local(u)
		s.queues[k] = append(s.queues[k], e)
	}
	return s, nil
}

// local returns the path and query that stand for an address on this server. An address on another
// origin than the registry's gets a path of its own. Parameters that were redacted are left out,
// since each client has others.
func (s *Server) local(u *url.URL) string {
	path := u.EscapedPath()
	if u.Host != "" && wire.Origin(u) != s.origin {
		sum := sha256.Sum256([]byte(wire.Origin(u) + path))
		path = "/-/to/" + hex.EncodeToString(sum[:8])
	}

	q := u.Query()
	for key, values := range q {
		if len(values) > 0 && strings.HasPrefix(values[0], "REDACTED") {
			q.Del(key)
		}
	}

	if len(q) > 0 {
		path += "?" + q.Encode()
	}

	return path
}

// address rewrites an address in an answer so that the client stays here.
func (s *Server) address(base, text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text
	}
	return base + s.local(u)
}

// Result returns how many requests of the recording were played, how many never came, and what has
// diverged, in order, at most 1,000 texts.
func (s *Server) Result() (played, missing int, diverged []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.played, s.left, s.wrong
}

// diverge notes that a request is not as in the recording. Diverged is called without the lock: it
// may ask for the Result.
func (s *Server) diverge(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	if len(s.wrong) < 1000 {
		s.wrong = append(s.wrong, text)
	}
	s.mu.Unlock()
	if s.Diverged != nil {
		s.Diverged(text)
	}
}

// sessionOf returns the key of the upload session that got a body in the recording, or else key. A
// client that sends blobs at once opens sessions in any order, and so puts a blob into one that had
// another. The recorded answer then leads the client on to the session of its blob. What the query
// says must be the same.
func (s *Server) sessionOf(key, body string) string {
	const uploads = "/blobs/uploads/"
	repo, _, isUpload := strings.Cut(key, uploads)
	if !isUpload {
		return key
	}
	_, query, _ := strings.Cut(key, "?")

	s.mu.Lock()
	defer s.mu.Unlock()
	found, first := key, 0
	for k, queue := range s.queues {
		_, other, _ := strings.Cut(k, "?")
		if !strings.HasPrefix(k, repo+uploads) || other != query || queue[0] == nil || queue[0].Asked.Digest != body {
			continue
		}
		if k == key {
			return key
		}
		if first == 0 || queue[0].N < first {
			found, first = k, queue[0].N
		}
	}

	return found
}

// next takes the next recorded exchange of a key. The last one is played again and again, because
// clients poll: a nil in front of it marks that it has been played.
func (s *Server) next(key string) (e *record.Entry, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.queues[key]
	if len(queue) == 0 {
		return nil, false
	}

	e = queue[0]
	again = e == nil
	if again {
		return queue[1], true
	}

	if len(queue) > 1 && queue[1] != nil {
		s.queues[key] = queue[1:]
	} else {
		s.queues[key] = []*record.Entry{nil, e}
	}

	s.played++
	s.left--
	return e, false
}

// ServeHTTP implements [http.Handler]. It panics with [http.ErrAbortHandler] where the recorded
// registry gave no answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := digest.NewHasher(digest.SHA256)
	size, bodyErr := io.Copy(h, r.Body)
	what := exchange.Plain(r.Method) + " " + exchange.Plain(wire.Truncate(r.URL.RequestURI(), 200))

	key := r.Method + " " + s.local(&url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery})
	if size > 0 {
		key = s.sessionOf(key, h.Digest().String())
	}

	e, again := s.next(key)
	switch {
	case e == nil:
		s.diverge("%s: the recording has no such request", what)
		exchange.Fail(http.StatusNotFound, exchange.CodeUnsupported, "the recording has no such request").Send(w)
		return
	case again:
		s.diverge("%s: it comes more often than in the recording", what)
	case bodyErr != nil && e.Cut != "client":
		s.diverge("%s: the body was cut after %d bytes, in the recording (exchange %d) it was not", what, size, e.N)
	case size != e.Asked.Size:
		s.diverge("%s: the body has %d bytes, in the recording (exchange %d) %d", what, size, e.N, e.Asked.Size)
	case size > 0 && e.Asked.Digest != "" && h.Digest().String() != e.Asked.Digest && e.Endpoint != "token":
		s.diverge("%s: the body has the digest %s, in the recording (exchange %d) %s", what, h.Digest(), e.N, exchange.Plain(e.Asked.Digest))
	}

	s.answer(w, r, e)
}

var addressIn = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`https?://[^"<>\s]+`) })

// answer says what the recorded registry said.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, e *record.Entry) {
	if e.Status < 200 {
		panic(http.ErrAbortHandler) // there was no answer
	}

	// Headers of the connection are made anew. Addresses are changed so that the client stays
	// here.
	base := exchange.Scheme(r) + "://" + r.Host
	for name, values := range e.Response {
		switch name {
		case "Date", "Connection", "Transfer-Encoding", "Keep-Alive", "Content-Length":
			continue
		case "Location", "Link", "Www-Authenticate":
			for _, v := range values {
				w.Header().Add(name, addressIn().ReplaceAllStringFunc(v, func(a string) string { return s.address(base, a) }))
			}
			continue
		}
		w.Header()[name] = values
	}

	body, length := s.body(e)
	defer body.Close()
	if length < 0 && e.Answered.Size > 0 && r.Method != http.MethodHead {
		s.diverge("%s: the bytes of the answer, %s, are in no layout", judge.What(e), exchange.Plain(e.Answered.Digest))
		exchange.Fail(http.StatusNotFound, exchange.CodeBlobUnknown, "the bytes are not in the recording").Send(w)
		return
	}

	if r.Method == http.MethodHead && e.Announced != nil {
		length = *e.Announced
	}

	if length >= 0 && e.Status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	}

	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		io.Copy(w, body)
	}
}

// body returns the bytes of a recorded answer and their number, -1 if the bytes are not to be had. The
// caller closes the reader in any case.
func (s *Server) body(e *record.Entry) (io.ReadCloser, int64) {
	switch {
	case e.Answered.Text != nil:
		return io.NopCloser(strings.NewReader(*e.Answered.Text)), int64(len(*e.Answered.Text))
	case e.Says != "":
		return io.NopCloser(strings.NewReader(e.Says)), int64(len(e.Says))
	case e.Answered.Size == 0:
		return io.NopCloser(bytes.NewReader(nil)), 0
	}

	rt, ok := e.Route()
	name := e.Answered.Digest
	if ok && rt.Kind == exchange.Blob { // the answer may be a part of it, with a digest of its own
		name = rt.Ref
	}

	// A blob is not in the recording, only its digest. Its bytes may be had from elsewhere.
	d, err := digest.Parse(name)
	if err != nil || s.blobs == nil {
		return io.NopCloser(bytes.NewReader(nil)), -1
	}

	f, err := s.blobs(d)
	if err != nil {
		return io.NopCloser(bytes.NewReader(nil)), -1
	}

	if start, _, ok := wire.ParseContentRange(e.Head("Content-Range")); ok {
		io.CopyN(io.Discard, f, start)
	}

	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, e.Answered.Size), f}, e.Answered.Size
}
