package tap

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"ocikit/digest"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/tap/record"
	"ocikit/oci/registry/wire"
)

// Documents of up to these sizes are kept: small ones always, large ones a few at a time.
const (
	smallDocument = 64 << 10
	largeDocument = 4 << 20
)

// A meter is a body on its way. It counts and hashes the bytes, and keeps those of a document.
type meter struct {
	r       io.ReadCloser
	watch   *watch
	turn    turn       // of whom the bytes come
	reading sync.Mutex // held while a piece is on its way
	stopped atomic.Bool

	n     atomic.Int64
	h     *digest.Hasher // of the body; nil: whole has it, or it is not wanted
	large int64          // of how many bytes the digest is not wanted any more
	whole *session       // whose hash function gets the bytes, too
	start int64          // where in whole the body began; -1: not known
	kept  bytes.Buffer
	limit int // of kept
	err   error

	from  *conn // on which the body comes, if it is a plain one
	lanes lanes
}

// newMeter measures a body of a type and a length, -1 if that is not known.
func (t *Tap) newMeter(p *passage, r io.ReadCloser, mediaType string, length int64) *meter {
	m := &meter{r: r, large: t.opts.Large, watch: &p.watch, turn: theClient, from: p.client, lanes: t.lanes}
	if p.entry.Status != 0 {
		m.turn, m.from = theRegistry, p.registry
	}

	if t.opts.Digests || t.doubt.Load() || p.again {
		m.large = math.MaxInt64
	}

	// The body of a chunk is a piece of a blob, and goes into the hash of the session as well.
	if p.request == nil && p.session != nil && p.entry.Status == 0 {
		m.whole, m.start = p.session, p.session.limit(m.large, length)
	}

	// A body that begins a session has the session's digest, so it is not hashed twice. One
	// further on has a digest of its own only in a recording. What is said to a token server has
	// none: by the digest of a form, whoever guesses the password in it could tell that he is right.
	if (m.whole == nil || m.start != 0 && t.opts.Digests) && length <= m.large && p.rt.Kind != exchange.Token {
		m.h = digest.NewHasher(digest.SHA256)
	}

	// Only JSON and text are kept, since only they are looked into.
	text := strings.HasPrefix(mediaType, "text/") || strings.HasPrefix(mediaType, "application/x-www-form-urlencoded")
	switch {
	case length > largeDocument || !text && !strings.Contains(mediaType, "json"):
	case length >= 0 && length <= smallDocument || text:
		m.limit = smallDocument
	default:
		m.limit = smallDocument
		select {
		case t.documents <- struct{}{}:
			m.limit = largeDocument
			p.release = append(p.release, func() { <-t.documents })
		default: // too many at once: one that is larger goes without its text
		}
	}

	return m
}

// Read passes bytes on, and gives up a hash as soon as it has gone over its bound: that of a part
// would be worth nothing.
func (m *meter) Read(b []byte) (int, error) {
	m.reading.Lock()
	defer m.reading.Unlock()
	if m.stopped.Load() {
		return 0, io.ErrClosedPipe
	}

	m.watch.wait(m.turn)
	n, err := m.r.Read(b)
	m.watch.wait(!m.turn)
	if m.n.Add(int64(n)) > m.large {
		m.h = nil
	}

	if m.h != nil {
		m.h.Write(b[:n])
	}

	if m.whole != nil {
		m.whole.write(b[:n])
	}

	if m.kept.Len() <= m.limit { // one byte more says that it was too long
		m.kept.Write(b[:min(n, m.limit+1-m.kept.Len())])
	}

	m.err = cmp.Or(err, m.err)
	return n, err
}

func (m *meter) Close() error { return m.r.Close() }

// hashed reports whether the bytes that are still to come are hashed.
func (m *meter) hashed() bool { return m.h != nil || m.whole != nil && m.whole.digest() != "" }

// halt ends reading, even if a Read waits for bytes right now: what it waits for is closed. Afterwards
// the fields of m do not change any more.
func (m *meter) halt(w *exchange.Recorder) {
	m.stopped.Store(true)
	if !m.reading.TryLock() {
		if w != nil {
			w.Body.Stop()
		} else {
			m.r.Close()
		}
		m.reading.Lock()
	}
	m.reading.Unlock()
}

// text returns the body if all of it was kept, else nil.
func (m *meter) text() []byte {
	if m.kept.Len() > m.limit || int64(m.kept.Len()) != m.n.Load() {
		return nil
	}
	return m.kept.Bytes()
}

// unhashed reports whether the digest is not known because the body is large.
func (m *meter) unhashed() bool {
	if m.whole != nil {
		return m.whole.tooLarge()
	}
	return m.h == nil && m.n.Load() > m.large
}

// body returns what an entry has of the body. With shown set that includes the bytes, if they are
// JSON.
func (m *meter) body(t *Tap, shown bool) record.Body {
	b := record.Body{Size: m.n.Load()}
	switch {
	case m.h != nil:
		b.Digest = m.h.Digest().String()
	case m.whole != nil && m.start == 0:
		b.Digest = m.whole.digest()
	}

	if text := m.text(); shown && len(text) > 0 && json.Valid(text) {
		b.Text = new(t.secrets.red().Text(string(text)))
	}

	if b.Size == 0 {
		b.Digest = ""
	}

	return b
}

// decodeErrors reads the list of errors of the distribution-spec.
func decodeErrors(body []byte, red *wire.Redactor) []wire.ErrorInfo {
	return wire.NewStatusError(&wire.Response{Status: http.StatusBadRequest, Header: http.Header{}, Body: body}, red).Errors
}

// buffers are what bodies are copied with. A few are large, which saves a fifth of the work; a
// hundred slow clients have small ones.
type buffers struct {
	small, large sync.Pool
	slots        chan struct{} // for large ones
}

const (
	smallBuffer  = 64 << 10
	largeBuffer  = 256 << 10
	largeBuffers = 16
)

func newBuffers() *buffers {
	return &buffers{
		small: sync.Pool{New: func() any { return new([smallBuffer]byte) }},
		large: sync.Pool{New: func() any { return new([largeBuffer]byte) }},
		slots: make(chan struct{}, largeBuffers),
	}
}

// Get implements [httputil.BufferPool]. It returns a large buffer while there are slots.
func (b *buffers) Get() []byte {
	select {
	case b.slots <- struct{}{}:
		return b.large.Get().(*[largeBuffer]byte)[:]
	default:
		return b.small.Get().(*[smallBuffer]byte)[:]
	}
}

// Put implements [httputil.BufferPool]. The length tells where a buffer belongs.
func (b *buffers) Put(p []byte) {
	if len(p) == smallBuffer {
		b.small.Put((*[smallBuffer]byte)(p))
		return
	}
	b.large.Put((*[largeBuffer]byte)(p))
	<-b.slots
}

// A readCloser reads a body through the limits of a Recorder. Closing it does nothing: what is left
// of the body belongs to the server.
type readCloser struct {
	io.Reader
	io.Closer
}

func (readCloser) Close() error { return nil }
