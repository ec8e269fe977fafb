package exchange

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for path, want := range map[string]Route{
		"/v2":                                 {Kind: Ping},
		"/v2/":                                {Kind: Ping},
		"/v2/_catalog":                        {Kind: Catalog},
		"/v2/a/tags/list":                     {Tags, "a", ""},
		"/v2/a/manifests/b/manifests/t":       {Manifest, "a/manifests/b", "t"},
		"/v2/tags/list/tags/list":             {Tags, "tags/list", ""},
		"/v2/a/referrers/sha256:1":            {Referrers, "a", "sha256:1"},
		"/v2/a/b/c/blobs/sha256:1":            {Blob, "a/b/c", "sha256:1"},
		"/v2/a/blobs/uploads/":                {Uploads, "a", ""},
		"/v2/a/blobs/uploads":                 {Uploads, "a", ""},
		"/v2/a/blobs/uploads/x":               {Upload, "a", "x"},
		"/v2/a__b/c-d.e---f/blobs/sha256%3A1": {Blob, "a__b/c-d.e---f", "sha256:1"},
	} {
		got, err := Parse(httptest.NewRequest("GET", path, nil))
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", path, got, err, want)
		}
	}
	for _, path := range []string{"/v2/a", "/v2/tags/list", "/v2/a/tags", "/v2/a/tags/list/", "/v2/a___b/tags/list", "/v2/a/blobs/tags/list", "/v2/-a/tags/list", "/v2/a..b/tags/list", "/v2/a%2Fb/tags/list", "/v2//tags/list"} {
		if got, err := Parse(httptest.NewRequest("GET", path, nil)); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", path, got)
		}
	}
}

// Whatever a path is, the name that comes out of it can be used as one below the root.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"/v2/a/b/manifests/t", "/v2/../a/tags/list", "/v2/%2e%2e%2fa/blobs/x", "/v2/a/blobs/uploads/x", "/v2/a//b/tags/list"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		rt, err := Parse(&http.Request{Method: "GET", URL: u})
		if err != nil || rt.Repo == "" {
			return
		}
		for part := range strings.SplitSeq(rt.Repo, "/") {
			if part == "" || part[0] == '.' || part == "blobs" || strings.ContainsAny(part, "\\:\x00\n%") {
				t.Errorf("Parse(%q): name %q", path, rt.Repo)
			}
		}
	})
}
