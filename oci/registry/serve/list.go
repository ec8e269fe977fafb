package serve

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/source"
)

// names returns the tags that an entry of index.json has: the name itself if it can be a
// tag, and what stands behind the last colon of a full name, as layout.Resolve finds it.
func names(e oci.Descriptor) []string {
	var tags []string
	for _, key := range []string{oci.AnnotationRefName, oci.AnnotationImageName} {
		name := e.Annotations.Get(key)
		if i := strings.LastIndex(name, ":"); i >= 0 && strings.Contains(name[:i], "/") {
			name = name[i+1:]
		}
		if exchange.IsTag(name) && !slices.Contains(tags, name) {
			tags = append(tags, name)
		}
	}
	return tags
}

// listTags is GET of the tags (end-8).
func (s *Server) listTags(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	l, err := s.openRepo(rt.Repo)
	if err != nil {
		return err
	}
	defer l.Close()
	v, err := s.index(rt.Repo, l)
	if err != nil {
		return err
	}
	return sendTags(w, r, rt.Repo, v.allTags())
}

// sendTags answers with the part of all tags, which are sorted, that the request asks for.
func sendTags(w *exchange.Recorder, r *http.Request, repo string, all []string) error {
	tags, err := onePage(w, r, all, len(all))
	if err != nil {
		return err
	}
	return exchange.SendJSON(w, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{repo, tags})
}

// maxCatalog is how many names of repositories one answer has at most.
const maxCatalog = 10_000

// listCatalog is GET of all repositories. The distribution-spec has it no longer, clients do.
func (s *Server) listCatalog(w *exchange.Recorder, r *http.Request, _ exchange.Route) error {
	q, err := exchange.Query(r)
	if err != nil {
		return err
	}

	limit := maxCatalog
	if n, err := strconv.Atoi(q.Get("n")); err == nil { // else page says what is wrong
		limit = min(max(n, 0), limit)
	}

	some, err := s.catalog(r.Context(), q.Get("last"), limit+1) // one more tells that there are more
	if err != nil {
		return err
	}

	names, err := onePage(w, r, some, maxCatalog)
	if err != nil {
		return err
	}

	return exchange.SendJSON(w, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// onePage returns the part of a sorted list that the parameters n and last ask for, at most
// limit entries, and sets the Link to the next part if there is one.
func onePage(w http.ResponseWriter, r *http.Request, all []string, limit int) ([]string, error) {
	q, err := exchange.Query(r)
	if err != nil {
		return nil, err
	}

	n := limit
	if q.Has("n") {
		if n, err = strconv.Atoi(q.Get("n")); err != nil || n < 0 {
			return nil, exchange.Fail(http.StatusBadRequest, exchange.CodeUnsupported, "n=%s: want a number that is not negative", exchange.Quote(q.Get("n")))
		}
		n = min(n, limit)
	}

	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		all = all[i:]
	}

	if n >= len(all) {
		return append([]string{}, all...), nil // never null in JSON
	}

	// With n=0 the list is empty, and no Link may follow (distribution-spec, "Listing Tags").
	all = all[:n]
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
		q.Set("last", all[n-1])
		setNext(w, r, q)
	}

	return all, nil
}

// setNext sets the Link to the next page (RFC 5988).
func setNext(w http.ResponseWriter, r *http.Request, q url.Values) {
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), q.Encode()))
}

// maxPage is how large the list of referrers in one answer may become: a client that
// reads it as a manifest has a limit for that.
const maxPage = 2 << 20

// listReferrers is GET of the manifests whose subject is a digest (end-12). It never answers 404:
// clients would take that for a registry without the endpoint, and keep a list of their own.
func (s *Server) listReferrers(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	d, err := parseDigest(rt.Ref)
	if err != nil {
		return err
	}

	q, err := exchange.Query(r)
	if err != nil {
		return err
	}

	entries, last, err := s.referrersPage(r, rt.Repo, d, q)
	if err != nil {
		return err
	}

	if last != "" {
		q.Set("last", last)
		setNext(w, r, q)
	}

	// The client need not filter again (distribution-spec, "Listing Referrers").
	if q.Has("artifactType") {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}

	h := w.Header()
	h.Set("Content-Type", oci.MediaTypeIndex)

	// The entries are encoded already, since their size bounds the page.
	body := slices.Concat([]byte(`{"manifests":[`), bytes.Join(entries, []byte(",")), []byte(`],"mediaType":"`+oci.MediaTypeIndex+`","schemaVersion":2}`))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, err = w.Write(body)
	return err
}

// referrersPage returns the descriptors of one page, encoded, and the digest of the last of
// them if there are more. They are sorted by digest. An unknown repository has none.
func (s *Server) referrersPage(r *http.Request, repo string, subject digest.Digest, q url.Values) (page [][]byte, last string, err error) {
	l, err := s.openSource(repo)
	if err != nil || l == nil {
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

		// A manifest that cannot be read is left out; the others are listed.
		entry, err := listEntry(l, desc)
		if err != nil || q.Has("artifactType") && entry.ArtifactType != q.Get("artifactType") {
			continue
		}
		text, err := oci.Encode(entry)
		if err != nil {
			return nil, "", err
		}

		// The digest of the last entry says where the next page begins.
		if size += len(text) + 1; size > s.pageBytes && len(page) > 0 {
			return page, last, nil
		}
		page, last = append(page, text), desc.Digest.String()
	}

	return page, "", nil
}

// referrers returns the descriptors of all manifests in the layout that have the subject,
// sorted by digest. Manifests that cannot be read have none.
func (s *Server) referrers(r *http.Request, repo string, l source.Source, subject digest.Digest) ([]oci.Descriptor, error) {
	v, err := s.index(repo, l)
	if err != nil {
		return nil, err
	}

	found := map[digest.Digest]oci.Descriptor{}

	// A manifest whose subject is known is not read again; an index is, for what it leads to.
	w := graph.NewWalker(l, graph.Limits{})
	w.Documents = true
	w.Reads = func(d oci.Descriptor) bool {
		_, known := s.subjects.get(d.Digest)
		return !known || oci.IsIndex(d.MediaType)
	}

	err = w.Walk(v.all(), func(n graph.Node) error {
		desc := n.Desc.Bare()
		got, known := s.subjects.get(desc.Digest)
		if !known && n.Doc != nil {
			if subject := graph.Subject(n.Doc); subject != nil {
				got = subject.Digest
			}
			s.subjects.set(desc.Digest, got)
		}
		if got == subject && n.Err == nil {
			found[desc.Digest] = desc
		}
		return r.Context().Err()
	})

	return slices.SortedFunc(maps.Values(found), func(a, b oci.Descriptor) int { return digest.Compare(a.Digest, b.Digest) }), err
}

// listEntry returns the descriptor of a manifest or an index as it stands in a list of referrers.
func listEntry(l source.Source, desc oci.Descriptor) (oci.Descriptor, error) {
	data, err := l.Document(desc)
	if err != nil {
		return desc, err
	}
	doc, err := oci.DecodeDocument(desc, data)
	return doc.Listed, err
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
