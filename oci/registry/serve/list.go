package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ocikit/oci"
)

// names returns the tags that an entry of index.json has: the name itself if it can be a
// tag, and what stands behind the last colon of a full name, as layout.Resolve finds it.
func names(e oci.Descriptor) []string {
	var tags []string
	for _, key := range []string{oci.AnnotationRefName, oci.AnnotationImageName} {
		name := e.Annotations[key]
		if i := strings.LastIndex(name, ":"); i >= 0 && strings.Contains(name[:i], "/") {
			name = name[i+1:]
		}
		if tagGrammar().MatchString(name) && !slices.Contains(tags, name) {
			tags = append(tags, name)
		}
	}
	return tags
}

// listTags is GET of the tags (end-8).
func (s *Server) listTags(w *recorder, r *http.Request, rt route) error {
	l, err := s.openRepo(rt.repo)
	if err != nil {
		return err
	}
	defer l.Close()
	v, err := s.index(rt.repo, l)
	if err != nil {
		return err
	}
	tags, err := page(w, r, v.tags, len(v.tags))
	if err != nil {
		return err
	}
	return sendJSON(w, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{rt.repo, tags})
}

// maxCatalog is how many names of repositories one answer has at most.
const maxCatalog = 10_000

// listCatalog is GET of all repositories. The distribution-spec has it no longer, clients do.
func (s *Server) listCatalog(w *recorder, r *http.Request) error {
	all, err := s.catalog(r.Context())
	if err != nil {
		return err
	}
	names, err := page(w, r, all, maxCatalog)
	if err != nil {
		return err
	}
	return sendJSON(w, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// page returns the part of a sorted list that the parameters n and last ask for, at most
// limit entries, and sets the Link to the next part if there is one.
func page(w http.ResponseWriter, r *http.Request, all []string, limit int) ([]string, error) {
	q, err := query(r)
	if err != nil {
		return nil, err
	}
	n := limit
	if q.Has("n") {
		if n, err = strconv.Atoi(q.Get("n")); err != nil || n < 0 {
			return nil, fail(http.StatusBadRequest, codeUnsupported, "n=%s: want a number that is not negative", quote(q.Get("n")))
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

func sendJSON(w http.ResponseWriter, mediaType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	w.Write(body)
	return nil
}
