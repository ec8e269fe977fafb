package exchange

import (
	"net/http"
	"net/url"
	"strings"
)

// A Route is what a path asks for. Repo is checked, Ref is still text.
type Route struct {
	Kind Endpoint
	Repo string
	Ref  string // tag, digest or session
}

// An Endpoint is one row of the distribution-spec's table of endpoints, whatever the method.
type Endpoint int

const (
	Ping Endpoint = iota
	Catalog
	Tags
	Manifest
	Referrers
	Blob
	Uploads // where sessions begin
	Upload  // an open session

	Token // a token server's
	Page  // the web page, which is not a part of the API
)

// Known reports whether path is one of the registry's API, rather than of the web page.
func Known(path string) bool { return path == "/v2" || strings.HasPrefix(path, "/v2/") }

// Parse reads a path below /v2. It is read from its end, since the name of a repository may hold
// any word of an endpoint. A path that leads nowhere, and a name that no repository can have, is a
// [*Failure]; the Route then says as much as was understood.
func Parse(r *http.Request) (Route, error) { return ParseURL(r.URL) }

// ParseURL is [Parse] for a caller that has no request.
func ParseURL(u *url.URL) (Route, error) {
	if strings.Contains(strings.ToLower(u.RawPath), "%2f") {
		return Route{}, nameInvalid("path: a slash must not be escaped")
	}

	path, ok := strings.CutPrefix(u.Path, "/v2/")
	if !ok || path == "" {
		return Route{Kind: Ping}, nil
	}

	if path == "_catalog" {
		return Route{Kind: Catalog}, nil
	}

	rt, rest, ok := splitRoute(strings.Split(path, "/"))
	if !ok {
		return rt, Fail(http.StatusNotFound, CodeUnsupported, "no such endpoint")
	}

	rt.Repo = strings.Join(rest, "/")
	return rt, CheckName(rt.Repo)
}

// splitRoute takes the endpoint off the segments of a path and returns those of the name.
func splitRoute(segs []string) (rt Route, name []string, ok bool) {
	n := len(segs)
	if n < 3 {
		return rt, nil, false
	}

	last, word := segs[n-1], segs[n-2]
	switch {
	case word == "tags" && last == "list":
		return Route{Kind: Tags}, segs[:n-2], true
	case word == "manifests":
		return Route{Kind: Manifest, Ref: last}, segs[:n-2], true
	case word == "referrers":
		return Route{Kind: Referrers, Ref: last}, segs[:n-2], true
	case n > 3 && segs[n-3] == "blobs" && word == "uploads" && last != "":
		return Route{Kind: Upload, Ref: last}, segs[:n-3], true
	case n > 3 && segs[n-3] == "blobs" && word == "uploads":
		return Route{Kind: Uploads}, segs[:n-3], true
	case word == "blobs" && last == "uploads": // clients that lack the slash mean the same
		return Route{Kind: Uploads}, segs[:n-2], true
	case word == "blobs":
		return Route{Kind: Blob, Ref: last}, segs[:n-2], true
	}

	return rt, nil, false
}

// ID returns the id that the distribution-spec gives to a request ("Endpoints"), as "end-5";
// "token" for the token server, "" for what has none.
func (rt Route) ID(method string, q url.Values) string {
	switch rt.Kind {
	case Ping:
		return "end-1"
	case Blob:
		if method == http.MethodDelete {
			return "end-10"
		}
		return "end-2"
	case Manifest:
		switch {
		case method == http.MethodPut && q.Has("tag"):
			return "end-7b"
		case method == http.MethodPut:
			return "end-7a"
		case method == http.MethodDelete:
			return "end-9"
		}
		return "end-3"
	case Uploads:
		switch {
		case q.Has("mount"):
			return "end-11"
		case q.Has("digest"):
			return "end-4b"
		}
		return "end-4a"
	case Upload:
		return map[string]string{
			http.MethodPatch: "end-5", http.MethodPut: "end-6", http.MethodGet: "end-13", http.MethodDelete: "end-14",
		}[method]
	case Tags:
		if q.Has("n") || q.Has("last") {
			return "end-8b"
		}
		return "end-8a"
	case Referrers:
		return "end-12a"
	case Token:
		return "token"
	}

	return ""
}
