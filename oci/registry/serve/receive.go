package serve

import (
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"

	"ocikit/digest"
	"ocikit/oci/disk"
	"ocikit/oci/progress"
	"ocikit/oci/registry/serve/exchange"
)

// A span is the Content-Range of a chunk.
type span struct {
	given      bool
	start, end int64 // both inclusive
}

func (sp span) length() int64 { return sp.end - sp.start + 1 }

var spanGrammar = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9]+)-([0-9]+)$`) })

// parseSpan reads the Content-Range of a request, which need not have one, and checks it
// against the length of the body.
func parseSpan(r *http.Request) (span, error) {
	values := r.Header.Values("Content-Range")
	if len(values) == 0 {
		return span{}, nil
	}

	m := spanGrammar().FindStringSubmatch(values[0])
	if m == nil || len(values) > 1 {
		return span{}, exchange.Fail(http.StatusBadRequest, exchange.CodeUploadInvalid, "Content-Range %s: want first-last", exchange.Quote(values[0]))
	}

	start, err1 := strconv.ParseInt(m[1], 10, 64)
	end, err2 := strconv.ParseInt(m[2], 10, 64)
	sp := span{true, start, end}

	// The length of 0 to the largest number overflows.
	if err1 != nil || err2 != nil || end < start || sp.length() <= 0 {
		return span{}, exchange.Fail(http.StatusBadRequest, exchange.CodeUploadInvalid, "Content-Range %s: the last byte comes before the first", exchange.Quote(values[0]))
	}

	if r.ContentLength >= 0 && r.ContentLength != sp.length() {
		return span{}, exchange.Fail(http.StatusBadRequest, exchange.CodeSizeInvalid, "Content-Range %s has %d bytes, the body has %d", values[0], sp.length(), r.ContentLength)
	}

	return sp, nil
}

// inOrder returns an error if the body of a request does not begin where the session ends. The
// Content-Range decides; without one, the offset in the Location that the client used. An empty
// body is in order anywhere.
func (u *session) inOrder(w *exchange.Recorder, r *http.Request, sp span) error {
	size := u.size.Load()
	w.Access.From = &size
	given, have := sp.start, sp.given
	if !have {
		offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
		given, have = offset, err == nil
	}
	if have && given == size || !have && size == 0 || !sp.given && r.ContentLength == 0 {
		return nil
	}

	// The answer says where the session is, so that the client can go on from there.
	u.locate(w)
	f := exchange.Fail(http.StatusRequestedRangeNotSatisfiable, exchange.CodeUploadInvalid, "the session holds %d bytes, the request goes on at another place", size)
	f.Detail = map[string]int64{"offset": size}
	return f
}

// flushEvery is after how many bytes they are sent on their way to the disk.
const flushEvery = 4 << 20

// Buffers grow from the first to the last size while a client fills them, so a thousand
// slow clients cost little. The fastest get one of the few large buffers on top of that.
const (
	firstBuffer  = 8 << 10
	lastBuffer   = 64 << 10
	largeBuffer  = 512 << 10
	largeBuffers = 16
)

// A lender lends large buffers, a few at a time.
type lender struct {
	slots chan struct{}
	pool  sync.Pool
}

func newLender(n int) *lender { return &lender{slots: make(chan struct{}, n)} }

// borrow returns a buffer, or nil if all are lent, and how to give it back.
func (l *lender) borrow() (buf []byte, giveBack func()) {
	select {
	case l.slots <- struct{}{}:
	default:
		return nil, nil
	}
	b, _ := l.pool.Get().(*[largeBuffer]byte)
	if b == nil {
		b = new([largeBuffer]byte)
	}
	return b[:], func() {
		l.pool.Put(b)
		<-l.slots
	}
}

// An arrival is a request that brings bytes for a session, and the place in the blob that it claims.
type arrival struct {
	w    *exchange.Recorder
	r    *http.Request
	span span
}

// receive appends the body of a request to a session, hashing it on the way. If the
// connection is cut, what has come is kept. If the body is not what it should be, the
// session is as it was before.
func (s *Server) receive(u *session, f *os.File, in arrival, t *progress.Task) error {
	w, sp := in.w, in.span
	before := u.h.Size()
	state, err := u.h.MarshalBinary()
	if err != nil {
		return err
	}

	limit, err := s.bodyLimit(in.r, before, sp)
	if err != nil {
		return err
	}

	if _, err := f.Seek(before, io.SeekStart); err != nil {
		return err
	}

	// From here on a newer request for the session may cut this body once it has been silent for
	// too long.
	w.Body.Last.Store(s.opts.Now().UnixNano())
	u.user.Store(w.Body)
	defer u.user.Store(nil)
	err = u.copy(f, w.Body, limit, s.buffers, t)
	n := u.h.Size() - before
	if err == nil && sp.given && n < sp.length() {
		err = exchange.Fail(http.StatusBadRequest, exchange.CodeSizeInvalid, "Content-Range has %d bytes, the body had %d", sp.length(), n)
	}

	// A body that was refused leaves no trace. The bytes of one that was cut are kept.
	if _, ok := errors.AsType[*exchange.Failure](err); ok {
		u.rewind(f, state, before)
	}

	w.Access.Received = u.h.Size() - before
	return err
}

// task begins to tell of the body of a request for a session.
func (s *Server) task(u *session, r *http.Request) *progress.Task {
	e := progress.Event{Name: u.repo + " " + u.id[:12], Offset: u.h.Size()}
	if r.ContentLength > 0 {
		e.Size = e.Offset + r.ContentLength
	}
	return progress.NewTask(s.opts.Progress, e)
}

// bodyLimit returns the most bytes that a body may have, or an error if it says itself that
// it has more.
func (s *Server) bodyLimit(r *http.Request, before int64, sp span) (int64, error) {
	const endless = 1<<63 - 1
	limit := int64(endless)
	if s.opts.MaxUpload > 0 {
		limit = max(s.opts.MaxUpload-before, 0)
	}
	if r.ContentLength > limit || sp.given && sp.length() > limit {
		return 0, exchange.Fail(http.StatusRequestEntityTooLarge, exchange.CodeSizeInvalid, "the limit for a blob is %d bytes", s.opts.MaxUpload)
	}
	if sp.given {
		limit = sp.length()
	}
	return limit, nil
}

// copy moves at most limit bytes of a body to the end of the file and through the hash
// function. The two agree whatever happens.
func (u *session) copy(f *os.File, b *exchange.Body, limit int64, large *lender, t *progress.Task) error {
	buf := make([]byte, firstBuffer)
	flushed := u.h.Size()
	for {
		n, err := b.Read(buf)

		// The caller takes back what was written of a body that is too long.
		if int64(n) > limit {
			return exchange.Fail(http.StatusRequestEntityTooLarge, exchange.CodeSizeInvalid, "the body is longer than it may be")
		}

		limit -= int64(n)
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				f.Truncate(u.h.Size())
				return err
			}
			u.h.Write(buf[:n])
			u.size.Store(u.h.Size())
			u.last.Store(b.Last.Load())
			t.Add(n)
		}

		// The disk begins early, so that the sync at the end has little left to wait for.
		if n := u.h.Size() - flushed; n >= flushEvery {
			disk.StartWriteback(f, flushed, n)
			flushed += n
		}

		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errors.Join(errCut, err)
		}

		// A client that fills the buffer sends fast, and gets a larger one.
		switch {
		case n < len(buf):
		case n < lastBuffer:
			buf = make([]byte, 2*n)
		case n == lastBuffer:
			if lent, giveBack := large.borrow(); lent != nil {
				buf = lent
				defer giveBack()
			}
		}
	}
}

// errCut means that a body did not come to its end. The client will hardly hear of it.
var errCut = errors.New("the body was cut short")

// rewind takes a session back to a state it has been in.
func (u *session) rewind(f *os.File, state []byte, size int64) {
	h, err := digest.Restore(u.alg(), state, size)
	if err != nil {
		panic(err) // it was marshaled a moment ago
	}
	u.h = h
	f.Truncate(size) // if that fails, the next request sees that file and hash disagree
	u.size.Store(size)
}
