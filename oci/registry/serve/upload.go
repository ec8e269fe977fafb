package serve

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"ocikit/digest"
)

// startUpload is POST (end-4a, 4b, 4c, 11): it mounts a blob, takes one whole, or opens a
// session.
func (s *Server) startUpload(w *recorder, r *http.Request, rt route) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	alg := digest.SHA256
	if q.Has("mount") {
		d, err := parseDigest(q.Get("mount"))
		if err != nil {
			return err
		}
		if s.mount(r.Context(), rt.repo, q.Get("from"), d) {
			return answerBlob(w, rt.repo, d)
		}
		alg = d.Algorithm()
	} else if q.Has("digest") {
		return s.takeWhole(w, r, rt, q)
	}
	if q.Has("digest-algorithm") {
		if alg = digest.Algorithm(q.Get("digest-algorithm")); !alg.Available() {
			return fail(http.StatusBadRequest, codeDigestInvalid, "digest-algorithm %s: want sha256 or sha512", quote(string(alg)))
		}
	}
	// Bytes without a digest would be lost without a word.
	if n, _ := w.body.Read(make([]byte, 1)); n > 0 || len(r.TransferEncoding) > 0 {
		return fail(http.StatusBadRequest, codeUploadInvalid, "the request has a body but no parameter digest")
	}
	u, err := s.newUpload(rt.repo, alg)
	if err != nil {
		return err
	}
	s.note(u, "opened")
	return u.answer(w, http.StatusAccepted)
}

// takeWhole is POST with a digest and the bytes of the blob (end-4b). If it fails nothing is
// left: the client has not learned of a session.
func (s *Server) takeWhole(w *recorder, r *http.Request, rt route, q url.Values) error {
	d, err := parseDigest(q.Get("digest"))
	if err != nil {
		return err
	}
	u, err := s.newUpload(rt.repo, d.Algorithm())
	if err != nil {
		return err
	}
	if err := s.take(r.Context(), u); err != nil {
		return err
	}
	defer s.release(u)
	f, err := s.open(u)
	if err == nil {
		defer f.Close()
		err = s.receiveLast(w, r, u, f, span{}, d)
	}
	if err != nil {
		s.drop(u)
		return err
	}
	return answerBlob(w, rt.repo, d)
}

// patchUpload is PATCH (end-5): it appends to a session. What arrives before the connection
// is cut is kept.
func (s *Server) patchUpload(w *recorder, r *http.Request, rt route) error {
	sp, err := parseSpan(r)
	if err != nil {
		return err
	}
	u, f, err := s.use(w, r, rt, sp)
	if err != nil {
		return err
	}
	defer s.release(u)
	defer f.Close()
	t := s.task(u, r)
	defer t.Stop()
	err = s.receive(w, r, u, f, sp, t)
	if u.h.Size()-u.saved >= worthSaving {
		// The bytes first: after a loss of power the state vouches for them.
		if syncErr := f.Sync(); syncErr == nil {
			s.saveState(u)
		}
	}
	if err != nil {
		return err
	}
	return u.answer(w, http.StatusAccepted)
}

// finishUpload is PUT (end-6): it takes the last bytes, if there are any, and makes the
// session the blob that the digest names. If the digest is another one the session is as it
// was before the request.
func (s *Server) finishUpload(w *recorder, r *http.Request, rt route) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	d, err := parseDigest(q.Get("digest"))
	if err != nil {
		return err
	}
	sp, err := parseSpan(r)
	if err != nil {
		return err
	}
	u, f, err := s.use(w, r, rt, sp)
	if err != nil {
		return err
	}
	defer s.release(u)
	defer f.Close()
	if err := s.receiveLast(w, r, u, f, sp, d); err != nil {
		return err
	}
	return answerBlob(w, rt.repo, d)
}

// use takes the turn at a session and checks that the request goes on where the session
// ends. The caller closes the file and releases the session.
func (s *Server) use(w *recorder, r *http.Request, rt route, sp span) (*session, *os.File, error) {
	u, err := s.findUpload(rt)
	if err != nil {
		return nil, nil, err
	}
	w.access.Session = u.id
	if err := s.take(r.Context(), u); err != nil {
		return nil, nil, err
	}
	f, err := s.open(u)
	if err == nil {
		if err = u.inOrder(w, r, sp); err == nil {
			return u, f, nil
		}
		f.Close()
	}
	s.release(u)
	return nil, nil, err
}

// receiveLast receives the last bytes of a session and commits it.
func (s *Server) receiveLast(w *recorder, r *http.Request, u *session, f *os.File, sp span, d digest.Digest) error {
	if u.h.Size() == 0 && u.alg() != d.Algorithm() {
		u.h = digest.NewHasher(d.Algorithm())
	}
	before := u.h.Size()
	state, err := u.h.MarshalBinary()
	if err != nil {
		return err
	}
	t := s.task(u, r)
	defer t.Stop()
	if err := s.receive(w, r, u, f, sp, t); err != nil {
		return err
	}
	got := u.h.Digest()
	if u.alg() != d.Algorithm() { // the client named the other one only now
		if _, err := f.Seek(0, 0); err != nil {
			return err
		}
		if got, _, err = digest.FromReader(d.Algorithm(), f); err != nil {
			return err
		}
	}
	if got != d {
		u.rewind(f, state, before)
		return fail(http.StatusBadRequest, codeDigestInvalid, "blob %s: got %s", d, got)
	}
	l, err := s.makeRepo(u.repo)
	if err != nil {
		return err
	}
	defer l.Close()
	err = l.Adopt(f, u.file(), d)
	s.forget(u) // also on error: the file is gone then
	if err == nil {
		t.Done()
		s.note(u, "finished as "+d.String())
	}
	return err
}

// uploadStatus is GET (end-13). It waits for a request that is just ending, so that a client
// whose connection was cut learns of the last byte that arrived.
func (s *Server) uploadStatus(w *recorder, r *http.Request, rt route) error {
	u, err := s.findUpload(rt)
	if err != nil {
		return err
	}
	w.access.Session = u.id
	select {
	case <-u.turn:
		u.turn <- struct{}{}
	case <-time.After(time.Second):
	}
	info, err := s.root.Lstat(u.path())
	if err != nil {
		return fail(http.StatusNotFound, codeUploadUnknown, "upload session %s is over", u.id)
	}
	u.size.Store(info.Size())
	return u.answer(w, http.StatusNoContent)
}

// cancelUpload is DELETE (end-14). It ends a request that is sending bytes.
func (s *Server) cancelUpload(w *recorder, r *http.Request, rt route) error {
	u, err := s.findUpload(rt)
	if err != nil {
		return err
	}
	w.access.Session = u.id
	if b := u.user.Load(); b != nil {
		b.stop()
	}
	if err := s.take(r.Context(), u); err != nil {
		return err
	}
	defer s.release(u)
	s.drop(u)
	s.note(u, "cancelled")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// answer tells the client where the session is and how far it has come. Zero bytes are
// written 0-0, as one byte is: docker's client cannot read anything else.
func (u *session) answer(w *recorder, status int) error {
	u.locate(w)
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	return nil
}

func (u *session) locate(w *recorder) {
	size := u.size.Load()
	w.access.Session, w.access.Offset = u.id, &size
	h := w.Header()
	h.Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%s?offset=%d", u.repo, u.id, size))
	h.Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	h.Set("Docker-Upload-UUID", u.id)
}

func answerBlob(w *recorder, repo string, d digest.Digest) error {
	h := w.Header()
	h.Set("Location", fmt.Sprintf("/v2/%s/blobs/%s", repo, d))
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// query returns the parameters of a request.
func query(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fail(http.StatusBadRequest, codeUnsupported, "query: %v", err)
	}
	return q, nil
}
