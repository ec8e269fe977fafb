package serve

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestParseRoute(t *testing.T) {
	for path, want := range map[string]route{
		"/v2":                                 {kind: endPing},
		"/v2/":                                {kind: endPing},
		"/v2/_catalog":                        {kind: endCatalog},
		"/v2/a/tags/list":                     {endTags, "a", ""},
		"/v2/a/manifests/b/manifests/t":       {endManifest, "a/manifests/b", "t"},
		"/v2/tags/list/tags/list":             {endTags, "tags/list", ""},
		"/v2/a/referrers/sha256:1":            {endReferrers, "a", "sha256:1"},
		"/v2/a/b/c/blobs/sha256:1":            {endBlob, "a/b/c", "sha256:1"},
		"/v2/a/blobs/uploads/":                {endUploads, "a", ""},
		"/v2/a/blobs/uploads":                 {endUploads, "a", ""},
		"/v2/a/blobs/uploads/x":               {endUpload, "a", "x"},
		"/v2/a__b/c-d.e---f/blobs/sha256%3A1": {endBlob, "a__b/c-d.e---f", "sha256:1"},
	} {
		got, err := parseRoute(httptest.NewRequest("GET", path, nil))
		if err != nil || got != want {
			t.Errorf("parseRoute(%q) = %+v, %v, want %+v", path, got, err, want)
		}
	}
	for _, path := range []string{"/v2/a", "/v2/tags/list", "/v2/a/tags", "/v2/a/tags/list/", "/v2/a___b/tags/list", "/v2/a/blobs/tags/list", "/v2/-a/tags/list", "/v2/a..b/tags/list", "/v2/a%2Fb/tags/list", "/v2//tags/list"} {
		if got, err := parseRoute(httptest.NewRequest("GET", path, nil)); err == nil {
			t.Errorf("parseRoute(%q) = %+v, want an error", path, got)
		}
	}
}

// Whatever a path is, the name that comes out of it can be used as one below the root.
func FuzzParseRoute(f *testing.F) {
	for _, s := range []string{"/v2/a/b/manifests/t", "/v2/../a/tags/list", "/v2/%2e%2e%2fa/blobs/x", "/v2/a/blobs/uploads/x", "/v2/a//b/tags/list"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		rt, err := parseRoute(&http.Request{Method: "GET", URL: u})
		if err != nil || rt.repo == "" {
			return
		}
		for part := range strings.SplitSeq(rt.repo, "/") {
			if part == "" || part[0] == '.' || part == "blobs" || strings.ContainsAny(part, "\\:\x00\n%") {
				t.Errorf("parseRoute(%q): name %q", path, rt.repo)
			}
		}
	})
}

// What is accepted as a chunk's range is one, and it is as long as the body.
func FuzzParseSpan(f *testing.F) {
	for _, s := range []string{"0-0", "5-4", "0-9223372036854775807", "bytes 0-1/2", "1-18446744073709551616"} {
		f.Add(s, int64(1))
	}
	f.Fuzz(func(t *testing.T, value string, length int64) {
		sp, err := parseSpan(&http.Request{Header: http.Header{"Content-Range": {value}}, ContentLength: length})
		if err == nil && (!sp.given || sp.start < 0 || sp.end < sp.start || sp.length() <= 0 || length >= 0 && sp.length() != length) {
			t.Errorf("parseSpan(%q) = %+v", value, sp)
		}
	})
}
