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
	"ocikit/oci/progress"
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
		return span{}, fail(http.StatusBadRequest, codeUploadInvalid, "Content-Range %s: want first-last", quote(values[0]))
	}
	start, err1 := strconv.ParseInt(m[1], 10, 64)
	end, err2 := strconv.ParseInt(m[2], 10, 64)
	sp := span{true, start, end}
	if err1 != nil || err2 != nil || end < start || sp.length() <= 0 {
		return span{}, fail(http.StatusBadRequest, codeUploadInvalid, "Content-Range %s: the last byte comes before the first", quote(values[0]))
	}
	if r.ContentLength >= 0 && r.ContentLength != sp.length() {
		return span{}, fail(http.StatusBadRequest, codeSizeInvalid, "Content-Range %s has %d bytes, the body has %d", values[0], sp.length(), r.ContentLength)
	}
	return sp, nil
}

// inOrder reports whether the body of a request begins where the session ends. What a
// Content-Range says counts; without one, what the Location says that the client used. An
// empty body is in order anywhere.
func (u *session) inOrder(w *recorder, r *http.Request, sp span) error {
	size := u.size.Load()
	w.access.From = &size
	given, have := sp.start, sp.given
	if !have {
		offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
		given, have = offset, err == nil
	}
	if have && given == size || !have && size == 0 || !sp.given && r.ContentLength == 0 {
		return nil
	}
	u.locate(w)
	f := fail(http.StatusRequestedRangeNotSatisfiable, codeUploadInvalid, "the session holds %d bytes, the request goes on at another place", size)
	f.detail = map[string]int64{"offset": size}
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

// receive appends the body of a request to a session, hashing it on the way. If the
// connection is cut, what has come is kept. If the body is not what it should be, the
// session is as it was before.
func (s *Server) receive(w *recorder, r *http.Request, u *session, f *os.File, sp span, t *progress.Task) error {
	before := u.h.Size()
	state, err := u.h.MarshalBinary()
	if err != nil {
		return err
	}
	limit, err := s.bodyLimit(r, before, sp)
	if err != nil {
		return err
	}
	if _, err := f.Seek(before, io.SeekStart); err != nil {
		return err
	}
	w.body.last.Store(s.opts.Now().UnixNano())
	u.user.Store(w.body)
	defer u.user.Store(nil)
	err = u.copy(f, w.body, limit, s.buffers, t)
	n := u.h.Size() - before
	if err == nil && sp.given && n < sp.length() {
		err = fail(http.StatusBadRequest, codeSizeInvalid, "Content-Range has %d bytes, the body had %d", sp.length(), n)
	}
	var refused *failure
	if errors.As(err, &refused) {
		u.rewind(f, state, before)
	}
	w.access.Received = u.h.Size() - before
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
		return 0, s.tooLarge()
	}
	if sp.given {
		limit = sp.length()
	}
	return limit, nil
}

func (s *Server) tooLarge() *failure {
	return fail(http.StatusRequestEntityTooLarge, codeSizeInvalid, "the limit for a blob is %d bytes", s.opts.MaxUpload)
}

// copy moves at most limit bytes of a body to the end of the file and through the hash
// function. The two agree whatever happens.
func (u *session) copy(f *os.File, b *body, limit int64, large *lender, t *progress.Task) error {
	buf := make([]byte, firstBuffer)
	flushed := u.h.Size()
	for {
		n, err := b.Read(buf)
		if int64(n) > limit {
			return fail(http.StatusRequestEntityTooLarge, codeSizeInvalid, "the body is longer than it may be")
		}
		limit -= int64(n)
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				f.Truncate(u.h.Size())
				return err
			}
			u.h.Write(buf[:n])
			u.size.Store(u.h.Size())
			u.last.Store(b.last.Load())
			t.Add(n)
		}
		if n := u.h.Size() - flushed; n >= flushEvery {
			writeBack(f, flushed, n)
			flushed += n
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errors.Join(errCut, err)
		}
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
