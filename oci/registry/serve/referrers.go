package serve

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// maxPage is how large the list of referrers in one answer may become: a client that
// reads it as a manifest has a limit for that.
const maxPage = 2 << 20

// listReferrers is GET of the manifests whose subject is a digest (end-12). It never says
// that there is nothing: clients would take that for a registry without the endpoint.
func (s *Server) listReferrers(w *recorder, r *http.Request, rt route) error {
	d, err := parseDigest(rt.ref)
	if err != nil {
		return err
	}
	q, err := query(r)
	if err != nil {
		return err
	}
	entries, last, err := s.referrersPage(r, rt.repo, d, q)
	if err != nil {
		return err
	}
	if last != "" {
		q.Set("last", last)
		setNext(w, r, q)
	}
	if q.Has("artifactType") {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	h := w.Header()
	h.Set("Content-Type", oci.MediaTypeIndex)
	body := slices.Concat([]byte(`{"manifests":[`), bytes.Join(entries, []byte(",")), []byte(`],"mediaType":"`+oci.MediaTypeIndex+`","schemaVersion":2}`))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, err = w.Write(body)
	return err
}

// referrersPage returns the descriptors of one page, encoded, and the digest of the last of
// them if there are more. They are sorted by digest. An unknown repository has none.
func (s *Server) referrersPage(r *http.Request, repo string, subject digest.Digest, q url.Values) (page [][]byte, last string, err error) {
	l, err := layout.OpenBelow(s.root, repo)
	if isAbsent(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	defer l.Close()
	found, err := s.referrers(r, repo, l, subject)
	if err != nil {
		return nil, "", err
	}
	size := 0
	for _, desc := range found {
		if desc.Digest.String() <= q.Get("last") {
			continue
		}
		entry, _, err := readReferrer(l, desc)
		if err != nil || q.Has("artifactType") && entry.desc.ArtifactType != q.Get("artifactType") {
			continue
		}
		text, err := oci.Encode(entry.desc)
		if err != nil {
			return nil, "", err
		}
		if size += len(text) + 1; size > s.pageBytes && len(page) > 0 {
			return page, last, nil
		}
		page, last = append(page, text), desc.Digest.String()
	}
	return page, "", nil
}

// referrers returns the descriptors of all manifests in the layout that have the subject,
// sorted by digest. Manifests that cannot be read have none.
func (s *Server) referrers(r *http.Request, repo string, l *layout.Layout, subject digest.Digest) ([]oci.Descriptor, error) {
	v, err := s.index(repo, l)
	if err != nil {
		return nil, err
	}
	seen := map[digest.Digest]bool{}
	var found []oci.Descriptor
	todo := slices.Clone(v.entries)
	for len(todo) > 0 {
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		desc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[desc.Digest] || !isManifest(desc.MediaType) {
			continue
		}
		seen[desc.Digest] = true
		desc = oci.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
		got, known := s.subjects.get(desc.Digest)
		if !known || oci.IsIndex(desc.MediaType) {
			entry, children, err := readReferrer(l, desc)
			if err != nil {
				continue
			}
			todo = append(todo, children...)
			got = entry.subject
			s.subjects.set(desc.Digest, got)
		}
		if got == subject {
			found = append(found, desc)
		}
	}
	slices.SortFunc(found, func(a, b oci.Descriptor) int { return digest.Compare(a.Digest, b.Digest) })
	return found, nil
}

type referrer struct {
	desc    oci.Descriptor // as it stands in a list of referrers
	subject digest.Digest  // zero: it has none
}

// readReferrer reads a manifest or an index, and what an index lists.
func readReferrer(l *layout.Layout, desc oci.Descriptor) (referrer, []oci.Descriptor, error) {
	entry := referrer{desc: desc}
	data, err := l.Document(desc)
	if err != nil {
		return entry, nil, err
	}
	var subject *oci.Descriptor
	var children []oci.Descriptor
	if oci.IsManifest(desc.MediaType) {
		m, err := oci.DecodeManifest(desc, data)
		if err != nil {
			return entry, nil, err
		}
		subject = m.Subject
		entry.desc.Annotations, entry.desc.ArtifactType = m.Annotations, m.ArtifactType
		if m.ArtifactType == "" {
			entry.desc.ArtifactType = m.Config.MediaType
		}
	} else {
		x, err := oci.DecodeIndex(desc, data)
		if err != nil {
			return entry, nil, err
		}
		subject, children = x.Subject, x.Manifests
		entry.desc.Annotations, entry.desc.ArtifactType = x.Annotations, x.ArtifactType
	}
	if subject != nil {
		entry.subject = subject.Digest
	}
	return entry, children, nil
}

// A subjectCache remembers the subjects of manifests, which never change, so that a list of
// referrers need not read all of them each time.
type subjectCache struct {
	mu sync.Mutex
	of map[digest.Digest]digest.Digest
}

// maxSubjects bounds the memory of the cache, to some tens of MiB.
const maxSubjects = 100_000

// get returns the subject of a manifest, zero if it has none, and whether it is known.
func (c *subjectCache) get(d digest.Digest) (subject digest.Digest, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	subject, known = c.of[d]
	return subject, known
}

func (c *subjectCache) set(d, subject digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil || len(c.of) >= maxSubjects {
		c.of = map[digest.Digest]digest.Digest{}
	}
	c.of[d] = subject
}
