package serve

import (
	"net/http"
	"slices"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// pageBytes is how large the list of referrers in one answer may become: a client that
// reads it as a manifest has a limit for that.
const pageBytes = 2 << 20

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
	found := []oci.Descriptor{}
	l, err := layout.OpenBelow(s.root, rt.repo)
	if err == nil {
		defer l.Close()
		found, err = s.referrers(r, l, d)
	}
	if err != nil && !isAbsent(err) {
		return err
	}
	if want := q.Get("artifactType"); q.Has("artifactType") {
		found = slices.DeleteFunc(found, func(e oci.Descriptor) bool { return e.ArtifactType != want })
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	last := q.Get("last")
	found = slices.DeleteFunc(found, func(e oci.Descriptor) bool { return e.Digest.String() <= last })
	for i, size := 0, 0; i < len(found); i++ {
		text, err := oci.Encode(found[i])
		if err != nil {
			return err
		}
		if size += len(text) + 1; size > pageBytes && i > 0 {
			found = found[:i]
			q.Set("last", found[i-1].Digest.String())
			setNext(w, r, q)
		}
	}
	return sendJSON(w, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: found})
}

// referrers returns the descriptors of all manifests in the layout that have the subject,
// sorted by digest. Manifests that cannot be read are none.
func (s *Server) referrers(r *http.Request, l *layout.Layout, subject digest.Digest) ([]oci.Descriptor, error) {
	x, err := l.Index()
	if err != nil {
		return nil, err
	}
	seen := map[digest.Digest]bool{}
	found := []oci.Descriptor{}
	todo := slices.Clone(x.Manifests)
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
		desc.Annotations, desc.Platform, desc.ArtifactType, desc.Extra = nil, nil, "", nil
		if oci.IsManifest(desc.MediaType) && s.subjects.isNot(desc.Digest, subject) {
			continue
		}
		entry, children, err := readReferrer(l, desc)
		if err != nil {
			continue
		}
		todo = append(todo, children...)
		s.subjects.set(desc.Digest, entry.subject)
		if entry.subject == subject {
			found = append(found, entry.desc)
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

// isNot reports whether the manifest d is known to have another subject, or none.
func (c *subjectCache) isNot(d, subject digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	got, known := c.of[d]
	return known && got != subject
}

func (c *subjectCache) set(d, subject digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil || len(c.of) >= maxSubjects {
		c.of = map[digest.Digest]digest.Digest{}
	}
	c.of[d] = subject
}
