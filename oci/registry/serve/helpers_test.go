package serve

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// A testServer is a registry on the loopback interface.
type testServer struct {
	*testing.T
	s    *Server
	dir  string
	url  string
	addr string
}

func start(t *testing.T, opts Options) *testServer { return startIn(t, t.TempDir(), opts) }

func startIn(t *testing.T, dir string, opts Options) *testServer {
	t.Helper()
	s, err := New(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewUnstartedServer(nil)
	hs.Config = s.HTTPServer()
	hs.Start()
	t.Cleanup(func() {
		s.feed.Close()
		hs.CloseClientConnections()
		hs.Close()
		s.Close()
	})
	return &testServer{t, s, dir, hs.URL, strings.TrimPrefix(hs.URL, "http://")}
}

// An answer is a response with its body.
type answer struct {
	*http.Response
	body []byte
}

// do sends a request; body may be nil, bytes, a string or a reader. header is pairs.
func (t *testServer) do(method, url string, body any, header ...string) answer {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case []byte:
		r = bytes.NewReader(b)
	case string:
		r = strings.NewReader(b)
	case io.Reader:
		r = b
	}
	if strings.HasPrefix(url, "/") {
		url = t.url + url
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	tr := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	// The path is what tests compare, and what another server of the same directory knows.
	if loc := resp.Header.Get("Location"); loc != "" && (resp.StatusCode < 300 || resp.StatusCode >= 400) {
		path, ok := strings.CutPrefix(loc, req.URL.Scheme+"://"+req.URL.Host)
		if !ok && len(t.s.opts.Faults) == 0 {
			t.Errorf("%s %s: Location %q is not absolute", method, url, loc)
		}
		resp.Header.Set("Location", path)
	}
	return answer{resp, data}
}

// want sends a request and demands a status.
func (t *testServer) want(status int, method, url string, body any, header ...string) answer {
	t.Helper()
	a := t.do(method, url, body, header...)
	if a.StatusCode != status {
		t.Fatalf("%s %s = %d %s, want %d", method, url, a.StatusCode, a.body, status)
	}
	return a
}

// code returns the error code of a failure, which must be JSON.
func (a answer) code(t testing.TB) string {
	t.Helper()
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type of a failure = %q", ct)
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || len(doc.Errors) != 1 || doc.Errors[0].Message == "" {
		t.Fatalf("body of a failure: %v: %s", err, a.body)
	}
	return doc.Errors[0].Code
}

func sum512(data []byte) string {
	s := sha512.Sum512(data)
	return "sha512:" + hex.EncodeToString(s[:])
}

func sum(data []byte) string { return digest.FromBytes(data).String() }

// begin opens a session and returns its Location.
func (t *testServer) begin(repo string) string {
	t.Helper()
	return t.want(202, "POST", "/v2/"+repo+"/blobs/uploads/", nil).Header.Get("Location")
}

// await asks how far a session is until it has so many bytes: the last of them are on their way.
func (t *testServer) await(loc string, size int) answer {
	t.Helper()
	for {
		if a := t.want(204, "GET", loc, nil); a.Header.Get("Range") == fmt.Sprintf("0-%d", size-1) {
			return a
		}
	}
}

// push stores a blob.
func (t *testServer) push(repo string, data []byte) string {
	t.Helper()
	d := sum(data)
	t.want(201, "PUT", t.begin(repo)+"&digest="+d, data)
	return d
}

// image is a small one, distinct by its seed.
func (t *testServer) image(repo, ref string, seed byte) (d string, doc []byte) {
	t.Helper()
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}`, sum(digesttest.Noise(1000, int(seed))))
	layer := digesttest.Noise(1000, int(seed))
	t.push(repo, config)
	t.push(repo, layer)
	doc, err := oci.Encode(oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest,
		Config: oci.Describe(oci.MediaTypeConfig, config),
		Layers: []oci.Descriptor{oci.Describe(oci.MediaTypeLayer, layer)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if ref == "" {
		ref = sum(doc)
	}
	t.want(201, "PUT", "/v2/"+repo+"/manifests/"+ref, doc, "Content-Type", oci.MediaTypeManifest)
	return sum(doc), doc
}

// verify demands that every layout below the root is sound.
func verifyAll(t testing.TB, dir string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Name() != "oci-layout" {
			return nil
		}
		l, err := layout.Open(filepath.Dir(path))
		if err != nil {
			t.Errorf("open: %v", err)
			return nil
		}
		defer l.Close()
		findings, _, err := l.Verify(context.Background(), layout.VerifyOptions{})
		if err != nil || len(findings) > 0 {
			t.Errorf("verify %s: %v %+v", path, err, findings)
		}
		return nil
	})
}

// files lists what is below the root, links and directories too.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); rel != "." {
			all = append(all, filepath.ToSlash(rel))
		}
		return err
	})
	return all
}

// dial opens a raw connection, closed with the test.
func (t *testServer) dial() net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", t.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
