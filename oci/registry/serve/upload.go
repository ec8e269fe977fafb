package serve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"ocikit/digest"
	"ocikit/oci/registry/serve/exchange"
)

// startUpload is POST (end-4a, 4b, 4c, 11): it mounts a blob, takes one whole, or opens a
// session.
func (s *Server) startUpload(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	q, err := exchange.Query(r)
	if err != nil {
		return err
	}

	alg := digest.SHA256

	// A mount that cannot be done becomes an upload (end-11), most likely of that very digest: its
	// algorithm is the one to hash with.
	if q.Has("mount") {
		d, err := parseDigest(q.Get("mount"))
		if err != nil {
			return err
		}
		if s.mount(r, rt.Repo, q.Get("from"), d) {
			return answerBlob(w, rt.Repo, d)
		}
		alg = d.Algorithm()
	} else if q.Has("digest") {
		return s.takeWhole(w, r, rt, q)
	}

	if q.Has("digest-algorithm") {
		if alg = digest.Algorithm(q.Get("digest-algorithm")); !alg.Available() {
			return exchange.Fail(http.StatusBadRequest, exchange.CodeDigestInvalid, "digest-algorithm %s: want sha256 or sha512", exchange.Quote(string(alg)))
		}
	}

	// Bytes without a digest would be lost without a word.
	if n, _ := w.Body.Read(make([]byte, 1)); n > 0 || len(r.TransferEncoding) > 0 {
		return exchange.Fail(http.StatusBadRequest, exchange.CodeUploadInvalid, "the request has a body but no parameter digest")
	}

	u, err := s.newUpload(rt.Repo, alg)
	if err != nil {
		return err
	}

	w.Access.Outcome = "opened"
	return u.answer(w, http.StatusAccepted)
}

// takeWhole is POST with a digest and the bytes of the blob (end-4b). If it fails nothing is
// left: the client has not learned of a session.
func (s *Server) takeWhole(w *exchange.Recorder, r *http.Request, rt exchange.Route, q url.Values) error {
	d, err := parseDigest(q.Get("digest"))
	if err != nil {
		return err
	}

	u, err := s.newUpload(rt.Repo, d.Algorithm())
	if err != nil {
		return err
	}

	// Nobody else waits for the turn at a session that was told to nobody. A client that has gone
	// meanwhile must not keep it from being taken, and removed.
	if err := s.take(context.WithoutCancel(r.Context()), u); err != nil {
		return err
	}
	defer s.release(u)

	f, err := s.open(u)
	if err == nil {
		defer f.Close()
		err = s.receiveLast(u, f, arrival{w, r, span{}}, d)
	}
	if err != nil {
		s.drop(u)
		return err
	}

	return answerBlob(w, rt.Repo, d)
}

// patchUpload is PATCH (end-5): it appends to a session. If the connection is cut, the bytes that
// have arrived are kept.
func (s *Server) patchUpload(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
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
	err = s.receive(u, f, arrival{w, r, sp}, t)

	// Also after a body that was cut: its bytes need not be hashed again. The bytes are synced
	// first, since after a loss of power the state vouches for them.
	if u.h.Size()-u.saved >= worthSaving {
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
func (s *Server) finishUpload(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	q, err := exchange.Query(r)
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

	if err := s.receiveLast(u, f, arrival{w, r, sp}, d); err != nil {
		return err
	}

	return answerBlob(w, rt.Repo, d)
}

// use takes the turn at a session and checks that the request goes on where the session
// ends. The caller closes the file and releases the session.
func (s *Server) use(w *exchange.Recorder, r *http.Request, rt exchange.Route, sp span) (*session, *os.File, error) {
	u, err := s.findUpload(rt)
	if err != nil {
		return nil, nil, err
	}

	w.Access.Session = u.id
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
func (s *Server) receiveLast(u *session, f *os.File, in arrival, d digest.Digest) error {
	// As long as nothing was hashed the client may name another algorithm.
	if u.h.Size() == 0 && u.alg() != d.Algorithm() {
		u.h = digest.NewHasher(d.Algorithm())
	}

	// The session goes back to here if the digest turns out to be another one.
	before := u.h.Size()
	state, err := u.h.MarshalBinary()
	if err != nil {
		return err
	}

	t := s.task(u, in.r)
	defer t.Stop()
	if err := s.receive(u, f, in, t); err != nil {
		return err
	}

	got, err := u.digestBy(d.Algorithm(), f)
	if err != nil {
		return err
	}

	if got != d {
		u.rewind(f, state, before)
		return exchange.Fail(http.StatusBadRequest, exchange.CodeDigestInvalid, "blob %s: got %s", d, got)
	}

	// The file becomes the blob by a new name. The directory becomes a layout with its first blob.
	l, err := s.makeRepo(u.repo)
	if err != nil {
		return err
	}
	defer l.Close()

	err = l.Adopt(f, u.file(), d)
	s.forget(u) // also on error: the file is gone then
	if err == nil {
		t.Done()
		in.w.Access.Session, in.w.Access.Outcome = u.id, "finished as "+d.String()
	}

	return err
}

// digestBy returns the digest of an upload, whose file is f. It reads the file again if the client named
// another algorithm only with the last request.
func (u *session) digestBy(alg digest.Algorithm, f *os.File) (digest.Digest, error) {
	if u.alg() == alg {
		return u.h.Digest(), nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return digest.Digest{}, err
	}
	d, _, err := digest.FromReader(alg, f)
	return d, err
}

// uploadStatus is GET (end-13). It waits for a request that is just ending, so that a client
// whose connection was cut learns of the last byte that arrived.
func (s *Server) uploadStatus(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	u, err := s.findUpload(rt)
	if err != nil {
		return err
	}

	w.Access.Session = u.id

	// A second and no more: a client that asks beside its own PATCH gets an answer, too.
	select {
	case <-u.turn:
		u.turn <- struct{}{}
	case <-time.After(time.Second):
	}

	// The file is the truth. Another process may have appended to it, or ended the session.
	info, err := s.root.Lstat(u.path())
	if err != nil {
		return exchange.Fail(http.StatusNotFound, exchange.CodeUploadUnknown, "upload session %s is over", u.id)
	}

	u.size.Store(info.Size())
	return u.answer(w, http.StatusNoContent)
}

// cancelUpload is DELETE (end-14). It ends a request that is sending bytes.
func (s *Server) cancelUpload(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	u, err := s.findUpload(rt)
	if err != nil {
		return err
	}

	w.Access.Session = u.id

	// Otherwise the turn would come only when the body that is read has ended.
	if b := u.user.Load(); b != nil {
		b.Stop()
	}

	if err := s.take(r.Context(), u); err != nil {
		return err
	}
	defer s.release(u)

	s.drop(u)
	w.Access.Outcome = "cancelled"
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// answer tells the client where the session is and how far it has come. Zero bytes are
// written 0-0, as one byte is: docker's client cannot read anything else.
func (u *session) answer(w *exchange.Recorder, status int) error {
	u.locate(w)
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	return nil
}

func (u *session) locate(w *exchange.Recorder) {
	size := u.size.Load()
	w.Access.Session, w.Access.Offset = u.id, &size
	h := w.Header()
	h.Set("Location", fmt.Sprintf("%s/v2/%s/blobs/uploads/%s?offset=%d", w.Base, u.repo, u.id, size))
	h.Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	h.Set("Docker-Upload-UUID", u.id)
}

func answerBlob(w *exchange.Recorder, repo string, d digest.Digest) error {
	h := w.Header()
	h.Set("Location", fmt.Sprintf("%s/v2/%s/blobs/%s", w.Base, repo, d))
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}
