package serve

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// reference reads the last part of a manifest's path: a digest or a tag.
func reference(ref string) (tag string, d digest.Digest, err error) {
	if strings.Contains(ref, ":") {
		d, err = parseDigest(ref)
		return "", d, err
	}
	return ref, d, checkTag(ref)
}

// getManifest is GET and HEAD of a manifest (end-3). The type is the one that it was pushed
// with, whatever the client accepts: it is for the client to say that it wants another.
func (s *Server) getManifest(w *recorder, r *http.Request, rt route) error {
	tag, d, err := reference(rt.ref)
	if err != nil {
		return err
	}
	l, err := s.openRepo(rt.repo)
	if err != nil {
		return err
	}
	defer l.Close()
	desc, err := s.find(rt.repo, l, tag, d)
	if errors.Is(err, layout.ErrNotFound) || errors.Is(err, layout.ErrAmbiguous) {
		return unknownManifest(rt, err)
	}
	if err != nil {
		return err
	}
	f, err := l.OpenBlob(desc.Digest)
	if errors.Is(err, layout.ErrNotFound) {
		return unknownManifest(rt, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	serveFile(w, r, f, desc.Digest, desc.MediaType, tag == "")
	return nil
}

func unknownManifest(rt route, err error) error {
	if errors.Is(err, layout.ErrAmbiguous) {
		return fail(http.StatusNotFound, codeManifestUnknown, "manifest %s: %v", rt.ref, layout.ErrAmbiguous)
	}
	return fail(http.StatusNotFound, codeManifestUnknown, "manifest %s is not known in %q", rt.ref, rt.repo)
}

// putManifest is PUT of a manifest by tag or digest (end-7a), or by digest with tags
// (end-7b).
func (s *Server) putManifest(w *recorder, r *http.Request, rt route) error {
	tag, want, err := reference(rt.ref)
	if err != nil {
		return err
	}
	tags, err := tagsOf(r, tag)
	if err != nil {
		return err
	}
	data, done, err := s.readManifest(w, r)
	if err != nil {
		return err
	}
	defer done()
	m, err := parseManifest(r, data, want)
	if err != nil {
		return err
	}
	if err := s.storeManifest(r, rt.repo, m, data, tags); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Location", fmt.Sprintf("/v2/%s/manifests/%s", rt.repo, m.desc.Digest))
	h.Set("Docker-Content-Digest", m.desc.Digest.String())
	h.Set("Content-Length", "0")
	if tag == "" {
		for _, t := range tags {
			h.Add("OCI-Tag", t)
		}
	}
	if m.subject != nil {
		h.Set("OCI-Subject", m.subject.Digest.String())
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// maxTags is how many tags one request may set.
const maxTags = 1000

// tagsOf returns the tags that a PUT sets: the one in its path, or those of its query.
func tagsOf(r *http.Request, tag string) ([]string, error) {
	q, err := query(r)
	if err != nil {
		return nil, err
	}
	if tag != "" {
		return []string{tag}, nil
	}
	tags := q["tag"]
	if len(tags) > maxTags {
		return nil, fail(http.StatusRequestURITooLong, codeNameInvalid, "%d tags, the limit is %d", len(tags), maxTags)
	}
	for _, t := range tags {
		if err := checkTag(t); err != nil {
			return nil, err
		}
	}
	return tags, nil
}

// readManifest reads the body of a PUT. Few large ones are held at once; done gives the
// place free.
func (s *Server) readManifest(w *recorder, r *http.Request) (data []byte, done func(), err error) {
	tooLarge := fail(http.StatusRequestEntityTooLarge, codeManifestInvalid, "the limit for a manifest is %d bytes", maxManifest)
	if r.ContentLength > maxManifest {
		return nil, nil, tooLarge
	}
	timer := time.AfterFunc(manifestTimeout, w.body.stop)
	defer timer.Stop()
	const small = 64 << 10
	var buf bytes.Buffer
	done = func() {}
	_, err = io.CopyN(&buf, w.body, small)
	if err == nil { // there is more
		select {
		case s.large <- struct{}{}:
			done = func() { <-s.large }
		case <-r.Context().Done():
			return nil, nil, r.Context().Err()
		}
		_, err = io.CopyN(&buf, w.body, maxManifest+1-small)
	}
	w.access.Received = int64(buf.Len())
	switch {
	case err == io.EOF:
		return buf.Bytes(), done, nil
	case err == nil:
		err = tooLarge
	default:
		err = errors.Join(errCut, err)
	}
	done()
	return nil, nil, err
}

// A manifest is one that was understood.
type manifest struct {
	desc    oci.Descriptor
	refs    []oci.Descriptor // blobs and manifests that it needs
	subject *oci.Descriptor
}

// parseManifest checks that data is a manifest or an index of the type that the request
// says, with the digest that it wants, if it wants one.
func parseManifest(r *http.Request, data []byte, want digest.Digest) (manifest, error) {
	m := manifest{desc: oci.Descriptor{Size: int64(len(data))}}
	alg := digest.SHA256
	if !want.IsZero() {
		alg = want.Algorithm()
	}
	m.desc.Digest, _, _ = digest.FromReader(alg, bytes.NewReader(data))
	if !want.IsZero() && m.desc.Digest != want {
		return m, fail(http.StatusBadRequest, codeDigestInvalid, "manifest %s: got %s", want, m.desc.Digest)
	}
	m.desc.MediaType = oci.SniffDocument(data)
	if ct := r.Header.Get("Content-Type"); ct != "" {
		mediaType, _, err := mime.ParseMediaType(ct)
		if err != nil {
			mediaType, _, _ = strings.Cut(ct, ";")
		}
		m.desc.MediaType = mediaType
	}
	var err error
	switch mt := m.desc.MediaType; {
	case oci.IsManifest(mt):
		var doc oci.Manifest
		doc, err = oci.DecodeManifest(m.desc, data)
		m.refs, m.subject = append([]oci.Descriptor{doc.Config}, doc.Layers...), doc.Subject
	case oci.IsIndex(mt):
		var doc oci.Index
		doc, err = oci.DecodeIndex(m.desc, data)
		m.refs, m.subject = doc.Manifests, doc.Subject
	default:
		err = fmt.Errorf("media type %s: want one of %s", quote(mt), strings.Join(oci.ManifestTypes(), ", "))
	}
	for _, ref := range m.refs {
		err = cmp.Or(err, ref.CheckData()) // it stands for the blob, where that is absent
	}
	if err != nil {
		return m, fail(http.StatusBadRequest, codeManifestInvalid, "%v", err)
	}
	return m, nil
}
