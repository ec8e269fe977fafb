package serve

import (
	"net/http"
	"strings"
)

// A route is what a path asks for. Names are checked already, references and digests are
// still text.
type route struct {
	kind endpoint
	repo string
	ref  string // tag, digest or session
}

// endpoint is one row of the distribution-spec's table of endpoints, whatever the method.
type endpoint int

const (
	endPing endpoint = iota
	endCatalog
	endTags
	endManifest
	endReferrers
	endBlob
	endUploads
	endUpload

	endToken // the token server's
	endPage  // the web page, which is no part of the API
)

// route returns what a request asks for, also if it cannot be had.
func (s *Server) route(r *http.Request) (route, error) {
	switch path := r.URL.Path; {
	case path == "/v2" || strings.HasPrefix(path, "/v2/"):
		return parseRoute(r)
	case path == tokenPath && s.tokens != nil:
		return route{kind: endToken}, nil
	}
	return route{kind: endPage}, nil
}

// parseRoute reads a path below /v2. It is read from its end, since the name of a
// repository may hold any word that stands there.
func parseRoute(r *http.Request) (route, error) {
	if strings.Contains(strings.ToLower(r.URL.RawPath), "%2f") {
		return route{}, nameInvalid("path: a slash must not be escaped")
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok || path == "" {
		return route{kind: endPing}, nil
	}
	if path == "_catalog" {
		return route{kind: endCatalog}, nil
	}
	rt, rest, ok := splitRoute(strings.Split(path, "/"))
	if !ok {
		return rt, fail(http.StatusNotFound, codeUnsupported, "no such endpoint")
	}
	rt.repo = strings.Join(rest, "/")
	return rt, checkName(rt.repo)
}

// splitRoute takes the endpoint off the segments of a path and returns those of the name.
func splitRoute(segs []string) (rt route, name []string, ok bool) {
	n := len(segs)
	if n < 3 {
		return rt, nil, false
	}
	last, word := segs[n-1], segs[n-2]
	switch {
	case word == "tags" && last == "list":
		return route{kind: endTags}, segs[:n-2], true
	case word == "manifests":
		return route{kind: endManifest, ref: last}, segs[:n-2], true
	case word == "referrers":
		return route{kind: endReferrers, ref: last}, segs[:n-2], true
	case n > 3 && segs[n-3] == "blobs" && word == "uploads" && last != "":
		return route{kind: endUpload, ref: last}, segs[:n-3], true
	case n > 3 && segs[n-3] == "blobs" && word == "uploads":
		return route{kind: endUploads}, segs[:n-3], true
	case word == "blobs" && last == "uploads": // clients that lack the slash mean the same
		return route{kind: endUploads}, segs[:n-2], true
	case word == "blobs":
		return route{kind: endBlob, ref: last}, segs[:n-2], true
	}
	return rt, nil, false
}
