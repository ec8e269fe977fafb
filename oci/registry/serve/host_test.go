package serve

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A page whose name was led to the loopback address reaches nothing; whoever uses a name that
// can only be this machine's, or one that was allowed, does.
func TestOwnNames(t *testing.T) {
	s := start(t, Options{Hosts: []string{"registry.test"}})
	d, _ := s.image("r", "v1", 1)
	for host, want := range map[string]int{
		s.addr: 202, "localhost": 202, "LOCALHOST.:5000": 202, "a.localhost": 202, "[::1]:5000": 202, "registry.test:80": 202,
		"evil.test": 421, "localhost.evil.test": 421, "127.0.0.1.evil.test": 421,
	} {
		req, err := http.NewRequest("DELETE", s.url+"/v2/r/manifests/"+d, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %q: %d, want %d", host, resp.StatusCode, want)
		}
		if want == 202 {
			s.image("r", "v1", 1)
		}
	}
}

// Nothing below /v2/ can become a page that runs, whatever index.json says of its type.
func TestNoScriptFromAPI(t *testing.T) {
	s := start(t, Options{})
	d, _ := s.image("r", "v1", 1)
	if h := s.want(200, "GET", "/v2/r/manifests/v1", nil).Header; h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("header of a manifest: %v", h)
	}
	name := filepath.Join(s.dir, "r/index.json")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(data), "application/vnd.oci.image.manifest.v1+json", "text/html", 1)
	if changed == string(data) || os.WriteFile(name, []byte(changed), 0o644) != nil {
		t.Fatal("index.json was not changed")
	}
	for _, ref := range []string{"v1", d} {
		if a := s.do("GET", "/v2/r/manifests/"+ref, nil); strings.Contains(a.Header.Get("Content-Type"), "html") || ref == "v1" && a.StatusCode != 404 {
			t.Errorf("manifest %s of type text/html: %d, %s", ref, a.StatusCode, a.Header.Get("Content-Type"))
		}
	}
}

// Where a proxy stands before the registry, its name and scheme are not known: a Location is
// a path then.
func TestLocationBehindProxy(t *testing.T) {
	s := start(t, Options{})
	for _, header := range []string{"", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"} {
		req, err := http.NewRequest("POST", s.url+"/v2/r/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		want := s.url + "/v2/"
		if header != "" {
			req.Header.Set(header, "x")
			want = "/v2/"
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if loc := resp.Header.Get("Location"); !strings.HasPrefix(loc, want) {
			t.Errorf("with header %q: Location %q, want %s…", header, loc, want)
		}
	}
}
