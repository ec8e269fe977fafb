package serve

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ocikit/oci"
)

// Every fault has a name and a line, and fires for the requests that a push and a pull make.
func TestFaultsFire(t *testing.T) {
	word := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	var seen []string
	for _, f := range Faults() {
		if !word.MatchString(f.Name) || slices.Contains(seen, f.Name) || f.Short == "" || strings.Contains(f.Short, "\n") {
			t.Errorf("fault %q: %q", f.Name, f.Short)
		}
		seen = append(seen, f.Name)
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			fired := false
			s := start(t, Options{Faults: []string{f.Name}, Log: func(a Access) { fired = fired || strings.Contains(a.Fault, f.Name) }})
			tr := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
			client := &http.Client{Transport: tr, Timeout: 700 * time.Millisecond, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			clumsyClient(client, s.url)
			s.s.logMu.Lock()
			defer s.s.logMu.Unlock()
			if !fired {
				t.Errorf("it did not fire")
			}
		})
	}
	if _, err := New(t.TempDir(), Options{Faults: []string{"no-such"}}); err == nil {
		t.Error("an unknown fault is no error")
	}
}

// clumsyClient sends everything that a client may send, and minds nothing that comes back.
func clumsyClient(client *http.Client, url string) {
	do := func(method, path string, body []byte, header ...string) *http.Response {
		if strings.HasPrefix(path, "/") {
			path = url + path
		}
		var r io.Reader = bytes.NewReader(body)
		if len(header) > 0 && header[0] == "chunked" {
			r = io.MultiReader(r)
			header = header[2:]
		}
		req, err := http.NewRequest(method, path, r)
		if err != nil {
			return &http.Response{}
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			return &http.Response{}
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	follow := func(resp *http.Response) string {
		u, err := resp.Location()
		if err != nil {
			return "/v2/r/blobs/uploads/none?offset=0"
		}
		u.Host = strings.TrimPrefix(url, "http://")
		return u.String()
	}
	data := random(6<<20, 1)
	small := []byte("{}")
	for range 3 {
		do("POST", "/v2/r/blobs/uploads/?digest="+sum(small), small)
	}
	at := follow(do("POST", "/v2/r/blobs/uploads/", nil))
	for i := range 3 {
		do("GET", at, nil)
		if next := follow(do("PATCH", at, data[i*2<<20:(i+1)*2<<20])); !strings.Contains(next, "none") {
			at = next
		}
	}
	do("PUT", at+"&digest="+sum(data), nil)
	at = follow(do("POST", "/v2/r/blobs/uploads/", nil))
	do("PATCH", at, data[:5<<20], "Content-Range", "0-5242879")
	do("PUT", follow(do("POST", "/v2/r/blobs/uploads/", nil))+"&digest="+sum(data), data)
	do("PUT", follow(do("POST", "/v2/r/blobs/uploads/", nil))+"&digest="+sum(data), data, "chunked", "")
	do("DELETE", follow(do("POST", "/v2/r/blobs/uploads/", nil)), nil)
	do("POST", "/v2/r2/blobs/uploads/?mount="+sum(small)+"&from=r", nil)
	for range 3 {
		do("POST", "/v2/r/blobs/uploads/?digest="+sum(small), small)
	}
	doc, err := oci.Encode(oci.Manifest{SchemaVersion: 2, Config: oci.Describe("application/x", small)})
	if err != nil {
		panic(err)
	}
	for range 3 {
		do("PUT", "/v2/r/manifests/t", doc, "Content-Type", oci.MediaTypeManifest)
		do("PUT", "/v2/r/manifests/"+sum(doc)+"?tag=a&tag=b", doc, "Content-Type", oci.MediaTypeManifest)
	}
	do("GET", "/v2/r/manifests/t", nil)
	do("GET", "/v2/r/manifests/absent", nil)
	do("GET", "/v2/r/referrers/"+sum(doc), nil)
	do("GET", "/v2/r/tags/list", nil)
	do("HEAD", "/v2/r/blobs/"+sum(small), nil)
	do("GET", "/v2/r/blobs/"+sum(small), nil)
	do("GET", "/v2/r/blobs/"+sum(small), nil, "Range", "bytes=1-")
}

// A cut upload goes on where the registry says, and a blob that was cut is whole the next
// time.
func TestCutFaults(t *testing.T) {
	for _, name := range []string{"patch-cut", "patch-cut-part", "patch-half", "patch-503", "chunk-lost"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{Faults: []string{name, "blob-cut"}})
			data := random(6<<20, 2)
			loc := s.begin("r")
			for range 10 {
				at := strings.TrimPrefix(loc[strings.Index(loc, "?"):], "?offset=")
				off := 0
				for _, c := range at {
					off = off*10 + int(c-'0')
				}
				if off == len(data) {
					break
				}
				req, err := http.NewRequest("PATCH", s.url+loc, bytes.NewReader(data[off:min(off+2<<20, len(data))]))
				if err != nil {
					t.Fatal(err)
				}
				if resp, err := http.DefaultClient.Do(req); err == nil {
					resp.Body.Close()
				}
				loc = s.want(204, "GET", loc, nil).Header.Get("Location")
			}
			s.want(201, "PUT", loc+"&digest="+sum(data), nil)
			if _, err := readAll(s.url + "/v2/r/blobs/" + sum(data)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the first GET: %v, want it cut", err)
			}
			if got, err := readAll(s.url + "/v2/r/blobs/" + sum(data)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the second GET: %v, %d bytes", err, len(got))
			}
			verifyAll(t, s.dir)
		})
	}
}

func readAll(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
