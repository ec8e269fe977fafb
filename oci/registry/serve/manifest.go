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
	"ocikit/oci/registry/serve/exchange"
)

// reference reads the last part of a manifest's path: a digest or a tag.
func reference(ref string) (tag string, d digest.Digest, err error) {
	if strings.Contains(ref, ":") {
		d, err = parseDigest(ref)
		return "", d, err
	}
	return ref, d, exchange.CheckTag(ref)
}

// getManifest is GET and HEAD of a manifest (end-3). The type is the one that it was pushed
// with, whatever the client accepts: it is for the client to say that it wants another.
func (s *Server) getManifest(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	tag, d, err := reference(rt.Ref)
	if err != nil {
		return err
	}

	l, err := s.openRepo(rt.Repo)
	if err != nil {
		return err
	}
	defer l.Close()

	desc, err := s.find(rt.Repo, l, tag, d)
	if errors.Is(err, layout.ErrNotFound) || errors.Is(err, layout.ErrAmbiguous) {
		return unknownManifest(rt, err)
	}
	if err != nil {
		return err
	}

	// A type of index.json could be one that browsers run.
	if !oci.IsDocument(desc.MediaType) {
		return exchange.Fail(http.StatusNotFound, exchange.CodeManifestUnknown, "%s in %q is of type %s, which is not a manifest's", rt.Ref, rt.Repo, exchange.Quote(desc.MediaType))
	}

	content, closer, err := openContent(r, l, desc.Digest)
	if errors.Is(err, layout.ErrNotFound) {
		return unknownManifest(rt, err)
	}
	if err != nil {
		return err
	}
	defer closer.Close()

	serveContent(w, r, content, desc, tag == "")
	return nil
}

func unknownManifest(rt exchange.Route, err error) error {
	if errors.Is(err, layout.ErrAmbiguous) {
		return exchange.Fail(http.StatusNotFound, exchange.CodeManifestUnknown, "manifest %s: %v", rt.Ref, layout.ErrAmbiguous)
	}
	return exchange.Fail(http.StatusNotFound, exchange.CodeManifestUnknown, "manifest %s is not known in %q", rt.Ref, rt.Repo)
}

// putManifest is PUT of a manifest by tag or digest (end-7a), or by digest with tags
// (end-7b).
func (s *Server) putManifest(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	tag, want, err := reference(rt.Ref)
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

	if err := s.storeManifest(r, rt.Repo, m, data, tags); err != nil {
		return err
	}

	h := w.Header()
	h.Set("Location", fmt.Sprintf("%s/v2/%s/manifests/%s", w.Base, rt.Repo, m.desc.Digest))
	h.Set("Docker-Content-Digest", m.desc.Digest.String())
	h.Set("Content-Length", "0")

	// Each tag that the query has set is confirmed (end-7b).
	if tag == "" {
		for _, t := range tags {
			h.Add("OCI-Tag", t)
		}
	}

	// The header says that there is a list of referrers here: clients need not keep one themselves.
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
	q, err := exchange.Query(r)
	if err != nil {
		return nil, err
	}

	if tag != "" {
		return []string{tag}, nil
	}

	tags := q["tag"]
	if len(tags) > maxTags {
		return nil, exchange.Fail(http.StatusRequestURITooLong, exchange.CodeNameInvalid, "%d tags, the limit is %d", len(tags), maxTags)
	}

	for _, t := range tags {
		if err := exchange.CheckTag(t); err != nil {
			return nil, err
		}
	}

	return tags, nil
}

// readManifest reads the body of a PUT. Few large ones are held at once; done gives the
// place free.
func (s *Server) readManifest(w *exchange.Recorder, r *http.Request) (data []byte, done func(), err error) {
	tooLarge := exchange.Fail(http.StatusRequestEntityTooLarge, exchange.CodeManifestInvalid, "the limit for a manifest is %d bytes", maxManifest)
	if r.ContentLength > maxManifest {
		return nil, nil, tooLarge
	}

	// A deadline for the whole: bytes that trickle would hold the place of a large one for hours.
	timer := time.AfterFunc(manifestTimeout, w.Body.Stop)
	defer timer.Stop()
	const small = 64 << 10
	var buf bytes.Buffer
	done = func() {}
	_, err = io.CopyN(&buf, w.Body, small)
	if err == nil { // there is more
		select {
		case s.large <- struct{}{}:
			done = func() { <-s.large }
		case <-r.Context().Done():
			return nil, nil, r.Context().Err()
		}
		_, err = io.CopyN(&buf, w.Body, maxManifest+1-small)
	}

	w.Access.Received = int64(buf.Len())
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

// A manifest is a manifest or an index that was pushed, or fetched, and understood.
type manifest struct {
	desc    oci.Descriptor
	refs    []oci.Descriptor // blobs and manifests that it needs
	subject *oci.Descriptor
}

// parseManifest checks that data is a manifest or an index of the type that the request
// says, with the digest that it wants, if it wants one.
func parseManifest(r *http.Request, data []byte, want digest.Digest) (manifest, error) {
	desc := oci.Descriptor{Size: int64(len(data))}
	alg := digest.SHA256
	if !want.IsZero() {
		alg = want.Algorithm()
	}

	desc.Digest = alg.FromBytes(data)
	if !want.IsZero() && desc.Digest != want {
		return manifest{}, exchange.Fail(http.StatusBadRequest, exchange.CodeDigestInvalid, "manifest %s: got %s", want, desc.Digest)
	}

	// A request without a Content-Type means the type that the document has. Parameters are
	// dropped, malformed ones too.
	desc.MediaType = oci.SniffDocument(data)
	if ct := r.Header.Get("Content-Type"); ct != "" {
		mediaType, _, err := mime.ParseMediaType(ct)
		if err != nil {
			mediaType, _, _ = strings.Cut(ct, ";")
		}
		desc.MediaType = mediaType
	}

	m, err := understand(desc, data)
	if err != nil {
		return m, exchange.Fail(http.StatusBadRequest, exchange.CodeManifestInvalid, "%v", err)
	}

	return m, nil
}

// understand reads a manifest or an index of the type that its descriptor says.
func understand(desc oci.Descriptor, data []byte) (manifest, error) {
	doc, err := oci.DecodeDocument(desc, data)
	if !oci.IsDocument(desc.MediaType) {
		err = fmt.Errorf("media type %s: want one of %s", exchange.Quote(desc.MediaType), strings.Join(oci.ManifestTypes(), ", "))
	}
	for _, ref := range doc.Refs {
		err = cmp.Or(err, ref.CheckData()) // it stands for the blob, where that is absent
	}
	return manifest{desc, doc.Refs, doc.Subject}, err
}
