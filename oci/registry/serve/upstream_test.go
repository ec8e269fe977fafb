package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/exchange"
)

// An upstreamServer is a registry that counts what it is asked, and that can be told to behave.
type upstreamServer struct {
	*testServer
	hs *httptest.Server

	mu    sync.Mutex
	asked []string // METHOD PATH
	spoil func(w http.ResponseWriter, r *http.Request) bool
}

func startUpstream(t *testing.T) *upstreamServer {
	u := &upstreamServer{testServer: start(t, Options{})}
	u.hs = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.asked = append(u.asked, r.Method+" "+r.URL.Path)
		spoil := u.spoil
		u.mu.Unlock()
		if spoil == nil || !spoil(w, r) {
			u.s.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(u.hs.Close)
	return u
}

// requests returns what was asked since the last call.
func (u *upstreamServer) requests() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	asked := u.asked
	u.asked = nil
	return asked
}

func (u *upstreamServer) setSpoil(f func(w http.ResponseWriter, r *http.Request) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.spoil = f
}

func (u *upstreamServer) host() string { return strings.TrimPrefix(u.hs.URL, "http://") }

func (u *upstreamServer) client() *registry.Client {
	ref, err := registry.ParseHost(u.hs.URL)
	if err == nil {
		var c *registry.Client
		if c, err = registry.New(ref, registry.Options{}); err == nil {
			u.Cleanup(func() { c.Close() })
			return c
		}
	}
	u.Fatal(err)
	return nil
}

// A cache is a server with an upstream, and its log.
type cache struct {
	*testServer
	mu  sync.Mutex
	log []exchange.Access
}

func startCache(t *testing.T, u *Upstreams) *cache {
	c := new(cache)
	c.testServer = start(t, Options{Upstreams: u, Log: func(a exchange.Access) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.log = append(c.log, a)
	}})
	return c
}

// last returns what the log says of the upstream in the newest line.
func (c *cache) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log[len(c.log)-1].Upstream
}

func TestCopyOfTag(t *testing.T) {
	up := startUpstream(t)
	d, doc := up.image("team/app", "v1", 1)
	c := startCache(t, &Upstreams{Only: up.client()})
	c.s.patience = time.Minute // an upstream that answers gets its time

	get := func(want []byte, says string, asked ...string) {
		t.Helper()
		up.requests()
		if got := c.want(200, "GET", "/v2/team/app/manifests/v1", nil); !bytes.Equal(got.body, want) || got.Header.Get("Docker-Content-Digest") != sum(want) {
			t.Errorf("GET v1 = %s, want %s", got.body, want)
		}
		if got := c.last(); !strings.HasPrefix(got, says) {
			t.Errorf("log says %q, want %q", got, says)
		}
		if got := up.requests(); !slices.Equal(got, asked) {
			t.Errorf("asked %q, want %q", got, asked)
		}
	}
	const path = "/v2/team/app/manifests/v1"
	get(doc, "fetched", "GET "+path)
	get(doc, "same", "HEAD "+path)

	// A tag that is moved, and what is here by digest, of which nothing needs to be asked.
	d2, doc2 := up.image("team/app", "v1", 2)
	get(doc2, "fetched", "HEAD "+path, "GET "+path)
	up.requests()
	c.want(200, "GET", "/v2/team/app/manifests/"+d, nil)
	c.want(200, "HEAD", "/v2/team/app/manifests/"+d2, nil)
	if got := up.requests(); len(got) > 0 {
		t.Errorf("asked %q for what is here", got)
	}

	// What cannot be asked is stale, whatever the reason.
	c.s.patience = time.Second / 2
	up.setSpoil(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	get(doc2, "stale: ", "HEAD "+path)
	c.s.patience = time.Minute
	for _, spoil := range []func(http.ResponseWriter, *http.Request) bool{
		func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(403); return true },
		func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true },
	} {
		up.setSpoil(spoil)
		get(doc2, "stale: ", "HEAD "+path)
	}
	if a := c.want(200, "GET", "/v2/team/app/tags/list", nil); !strings.Contains(string(a.body), `["v1"]`) || !strings.HasPrefix(c.last(), "stale") {
		t.Errorf("tags without the upstream: %s, %s", a.body, c.last())
	}

	// What is not here is an error that tells nothing of the inside.
	up.setSpoil(func(w http.ResponseWriter, _ *http.Request) bool { http.Error(w, "SECRET", 500); return true })
	if a := c.want(502, "GET", "/v2/team/app/manifests/v9", nil); strings.Contains(string(a.body), "SECRET") {
		t.Errorf("answer = %s", a.body)
	}
	up.setSpoil(nil)

	// What is gone there is gone, and kept.
	up.want(202, "DELETE", "/v2/team/app/manifests/v1", nil)
	if got := c.want(404, "GET", "/v2/team/app/manifests/v1", nil).code(t); got != "MANIFEST_UNKNOWN" {
		t.Errorf("code = %s", got)
	}
	if got := c.last(); got != "" {
		t.Errorf("log says %q of what is gone", got)
	}
	c.want(404, "GET", "/v2/team/none/manifests/v1", nil)
	c.want(404, "GET", "/v2/team/none/tags/list", nil)
	if _, err := os.Stat(filepath.Join(c.dir, "team", "none")); err == nil {
		t.Error("a repository that is nowhere has a directory")
	}
}

func TestCopyOfIndex(t *testing.T) {
	up := startUpstream(t)
	d, doc := up.image("app", "", 1)
	index, err := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{oci.Describe(oci.MediaTypeManifest, doc)}})
	if err != nil {
		t.Fatal(err)
	}
	up.want(201, "PUT", "/v2/app/manifests/v1", index, "Content-Type", oci.MediaTypeIndex)
	alone, _ := up.image("app", "", 2)
	c := startCache(t, &Upstreams{Only: up.client()})

	c.want(200, "GET", "/v2/app/manifests/v1", nil)
	c.want(200, "GET", "/v2/app/manifests/"+d, nil)
	c.want(200, "GET", "/v2/app/manifests/"+alone, nil)
	l, err := layout.Open(filepath.Join(c.dir, "app"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x, err := l.Index()
	if err != nil || len(x.Manifests) != 2 {
		t.Fatalf("index.json = %+v, %v; want the index, and the manifest that no index holds", x.Manifests, err)
	}
	if got, want := x.Manifests[0].Annotations.Get(oci.AnnotationImageName), up.host()+"/app:v1"; got != want {
		t.Errorf("full name = %q, want %q", got, want)
	}
	// One that lacks its blobs yet is there to be copied in part.
	if findings, _, err := l.Verify(context.Background(), layout.VerifyOptions{}); err != nil || len(findings) == 0 {
		t.Errorf("verify = %v, %v", findings, err)
	}
}

func TestCopyOfBlob(t *testing.T) {
	up := startUpstream(t)
	data := digesttest.Noise(300_000, 1)
	d := up.push("app", data)
	path := "/v2/app/blobs/" + d
	client := up.client()

	t.Run("once for many", func(t *testing.T) {
		c := startCache(t, &Upstreams{Only: client})
		if a := c.want(200, "HEAD", path, nil); a.ContentLength != int64(len(data)) {
			t.Errorf("HEAD = %d bytes", a.ContentLength)
		}
		up.requests()

		// Who comes late finds the blob in the layout, so nothing comes until all are waiting for it.
		up.setSpoil(func(_ http.ResponseWriter, r *http.Request) bool {
			for users := 0; r.Method == "GET" && users < 1+8; time.Sleep(time.Millisecond) { // one is who writes
				c.s.downloads.mu.Lock()
				users = c.s.downloads.of["app@"+d].users
				c.s.downloads.mu.Unlock()
			}
			return false
		})
		defer up.setSpoil(nil)
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				if a := c.do("GET", path, nil); a.StatusCode != 200 || !bytes.Equal(a.body, data) {
					t.Errorf("GET = %d, %d bytes", a.StatusCode, len(a.body))
				}
			})
		}
		wait.Wait()
		if got, want := up.requests(), []string{"HEAD " + path, "GET " + path}; !slices.Equal(got, want) {
			t.Errorf("asked %q, want %q", got, want)
		}
		c.want(206, "GET", path, nil, "Range", "bytes=5-9")
		verifyAll(t, c.dir)
	})

	t.Run("ranges", func(t *testing.T) {
		for span, want := range map[string][]byte{
			"bytes=5-9": data[5:10], "bytes=-7": data[len(data)-7:], "bytes=200000-": data[200000:], "bytes=299000-999999": data[299000:],
		} {
			c := startCache(t, &Upstreams{Only: client})
			if a := c.want(206, "GET", path, nil, "Range", span); !bytes.Equal(a.body, want) {
				t.Errorf("%s = %d bytes, want %d", span, len(a.body), len(want))
			}
			// The blob is there whole, or it goes on with the next client.
			if a := c.want(200, "GET", path, nil); !bytes.Equal(a.body, data) {
				t.Errorf("GET after %s = %d bytes", span, len(a.body))
			}
		}
	})

	t.Run("absent", func(t *testing.T) {
		c := startCache(t, &Upstreams{Only: client})
		for _, method := range []string{"GET", "HEAD"} {
			c.want(404, method, "/v2/app/blobs/"+sum([]byte("none")), nil)
		}
		if got := files(t, c.dir); len(got) > 0 {
			t.Errorf("left %q", got)
		}
	})
}

// A client gets the bytes while they come, but no wrong ones to their end, and a blob that broke off
// goes on where it did.
func TestCopyOfBlobWhileItComes(t *testing.T) {
	up := startUpstream(t)
	data := digesttest.Noise(300_000, 1)
	path := "/v2/app/blobs/" + up.push("app", data)
	half := len(data) / 2

	// halfway sends the first half and waits for what to do about the second.
	next := make(chan []byte)
	halfway := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "GET" || r.Header.Get("Range") != "" {
			return false
		}
		w.Header().Set("Content-Length", "300000")
		w.Write(data[:half])
		w.(http.Flusher).Flush()
		select {
		case rest := <-next:
			w.Write(rest)
		case <-r.Context().Done():
		}
		return true
	}
	up.setSpoil(halfway)
	c := startCache(t, &Upstreams{Only: up.client()})
	get := func(t *testing.T) (body io.ReadCloser, first []byte) {
		t.Helper()
		resp, err := http.Get(c.url + path)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("GET = %v, %v", resp, err)
		}
		first = make([]byte, half-1)
		if _, err := io.ReadFull(resp.Body, first); err != nil {
			t.Fatalf("the half that has come: %v", err)
		}
		return resp.Body, first
	}

	t.Run("wrong", func(t *testing.T) {
		body, first := get(t)
		defer body.Close()
		wrong := slices.Clone(data[half:])
		wrong[0]++
		next <- wrong
		rest, err := io.ReadAll(body)
		if !errors.Is(err, io.ErrUnexpectedEOF) || len(first)+len(rest) > len(data)-withheld {
			t.Errorf("got %d bytes of a wrong blob, %v", len(first)+len(rest), err)
		}
		if got := files(t, filepath.Join(c.dir, "app", "blobs", "sha256")); len(got) > 0 {
			t.Errorf("kept %q", got)
		}
	})

	t.Run("left", func(t *testing.T) {
		body, _ := get(t)
		body.Close()
		for under := true; under; time.Sleep(time.Millisecond) { // until the server has noticed
			c.s.downloads.mu.Lock()
			under = len(c.s.downloads.of) > 0
			c.s.downloads.mu.Unlock()
		}
		up.setSpoil(nil)
		up.requests()
		if a := c.want(200, "GET", path, nil); !bytes.Equal(a.body, data) {
			t.Errorf("GET after a client that left = %d bytes", len(a.body))
		}
		verifyAll(t, c.dir)
	})
}

func TestCopyIsReadOnly(t *testing.T) {
	up := startUpstream(t)
	up.image("app", "v1", 1)
	up.image("team/own", "v1", 1)
	u := &Upstreams{Only: up.client()}
	c := startCache(t, u)
	own, err := layout.Init(filepath.Join(c.dir, "team", "own"))
	if err != nil {
		t.Fatal(err)
	}
	own.Close()

	c.want(200, "GET", "/v2/app/manifests/v1", nil)
	for _, repo := range []string{"app", "none"} {
		for _, request := range []string{"POST /blobs/uploads/", "PUT /manifests/v2", "DELETE /manifests/v1"} {
			method, path, _ := strings.Cut(request, " ")
			if got := c.want(403, method, "/v2/"+repo+path, nil).code(t); got != "DENIED" {
				t.Errorf("%s of %s: code %s", request, repo, got)
			}
		}
	}

	// What is local takes what comes, and has nothing but that.
	up.requests()
	c.want(404, "GET", "/v2/team/own/manifests/v1", nil)
	d, _ := c.image("team/own", "v2", 2)
	if a := c.want(200, "GET", "/v2/team/own/manifests/v2", nil); a.Header.Get("Docker-Content-Digest") != d {
		t.Errorf("GET of what was pushed = %s", a.Header.Get("Docker-Content-Digest"))
	}
	if got := up.requests(); len(got) > 0 {
		t.Errorf("asked %q about a local repository", got)
	}

	// What pull brought from there is a copy.
	l, err := layout.Init(filepath.Join(c.dir, "pulled"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	entry, err := l.PutDocument(oci.MediaTypeIndex, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
	if err == nil {
		entry = entry.WithAnnotation(oci.AnnotationRefName, "v1").WithAnnotation(oci.AnnotationImageName, up.host()+"/pulled:v1")
		err = l.AddEntries(context.Background(), []oci.Descriptor{entry}, graph.Rules{})
	}
	if err != nil {
		t.Fatal(err)
	}
	c.want(403, "POST", "/v2/pulled/blobs/uploads/", nil)
}

func TestCopyOffline(t *testing.T) {
	up := startUpstream(t)
	_, doc := up.image("app", "v1", 1)
	u := &Upstreams{Only: up.client()}
	c := startCache(t, u)
	c.want(200, "GET", "/v2/app/manifests/v1", nil)

	c.s.SetUpstreams(&Upstreams{Only: u.Only, Offline: true})
	up.requests()
	if a := c.want(200, "GET", "/v2/app/manifests/v1", nil); !bytes.Equal(a.body, doc) {
		t.Errorf("GET = %s", a.body)
	}
	c.want(404, "GET", "/v2/app/manifests/v2", nil)
	c.want(404, "GET", "/v2/app/blobs/"+sum([]byte("none")), nil)
	c.want(404, "GET", "/v2/other/tags/list", nil)
	c.want(403, "POST", "/v2/other/blobs/uploads/", nil)
	if got := up.requests(); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

func TestNamesOfUpstreams(t *testing.T) {
	hub, other := startUpstream(t), startUpstream(t)
	hubDigest, _ := hub.image("library/app", "v1", 1)
	otherDigest, _ := other.image("library/app", "v1", 2)
	u := &Upstreams{Named: map[string]*registry.Client{"docker.io": hub.client(), "other.test:5000": other.client()}}
	c := startCache(t, u)

	for query, want := range map[string]string{
		"/v2/library/app/manifests/v1?ns=docker.io":       hubDigest,
		"/v2/library/app/manifests/v1?ns=INDEX.docker.io": hubDigest,
		"/v2/docker.io/library/app/manifests/v1":          hubDigest,
		"/v2/library/app/manifests/v1?ns=other.test:5000": otherDigest,
		"/v2/other.test_5000/library/app/manifests/v1":    otherDigest,
	} {
		if got := c.want(200, "GET", query, nil).Header.Get("Docker-Content-Digest"); got != want {
			t.Errorf("%s = %s, want %s", query, got, want)
		}
	}
	for _, dir := range []string{"docker.io/library/app", "other.test_5000/library/app"} {
		if _, err := os.Stat(filepath.Join(c.dir, dir, "oci-layout")); err != nil {
			t.Error(err)
		}
	}
	for query, want := range map[string]int{
		"/v2/library/app/manifests/v1":                           404, // of which registry?
		"/v2/library/app/manifests/v1?ns=quay.test":              404,
		"/v2/quay.test/library/app/manifests/v1":                 404,
		"/v2/library/app/manifests/v1?ns=../etc":                 400,
		"/v2/library/app/manifests/v1?ns=http://docker.io":       400,
		"/v2/library/app/manifests/v1?ns=user:pass@docker.io":    400,
		"/v2/library/app/manifests/v1?ns=[::1]:5000":             404,
		"/v2/library/app/blobs/uploads/?ns=docker.io":            405,
		"/v2/library/app/manifests/v1?ns=docker.io&ns=quay.test": 200, // the first counts
	} {
		c.want(want, "GET", query, nil)
	}

	// Any other name is asked for where it leads, once it is one.
	var made []string
	u.Any = func(name string) (*registry.Client, error) {
		made = append(made, name)
		return other.client(), nil
	}
	for range 2 {
		c.want(200, "GET", "/v2/library/app/manifests/v1?ns=quay.test", nil)
		c.want(404, "GET", "/v2/library/app/manifests/v2", nil)
	}
	c.want(400, "GET", "/v2/library/app/manifests/v1?ns=[::1]:5000", nil)
	if !slices.Equal(made, []string{"quay.test"}) {
		t.Errorf("clients for %q", made)
	}

	// With one upstream no other is meant.
	one := startCache(t, &Upstreams{Only: hub.client()})
	one.want(200, "GET", "/v2/library/app/manifests/v1?ns="+hub.host(), nil)
	one.want(404, "GET", "/v2/library/app/manifests/v1?ns=docker.io", nil)
	if _, err := os.Stat(filepath.Join(one.dir, "library/app")); err != nil {
		t.Error(err)
	}
}

// While it is being found out how to ask one registry, others are asked; and what comes of it is not
// kept if the upstreams have changed meanwhile.
func TestChangeOfUpstreams(t *testing.T) {
	before, after := startUpstream(t), startUpstream(t)
	before.image("app", "v1", 1)
	now, _ := after.image("app", "v1", 2)

	asked, release := make(chan struct{}), make(chan struct{})
	c := startCache(t, &Upstreams{Any: func(name string) (*registry.Client, error) {
		if name == "slow.test" {
			close(asked)
			<-release
		}
		return before.client(), nil
	}})

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.do("GET", "/v2/absent/manifests/v1?ns=slow.test", nil) })
	<-asked

	// The slow name is only let go when these are over: it does not keep others waiting.
	c.do("GET", "/v2/app/manifests/v1?ns=quick.test", nil)
	c.s.SetUpstreams(&Upstreams{Any: func(string) (*registry.Client, error) { return after.client(), nil }})

	close(release)
	wg.Wait()
	if got := c.want(200, "GET", "/v2/slow.test/app/manifests/v1", nil).Header.Get("Docker-Content-Digest"); got != now {
		t.Errorf("the tag means %s, want %s", got, now)
	}
}

func TestCopyOfReferrers(t *testing.T) {
	up := startUpstream(t)
	subject, doc := up.image("app", "v1", 1)
	config := []byte("{}")
	up.push("app", config)
	desc := oci.Describe(oci.MediaTypeManifest, doc)
	signature, err := oci.Encode(oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x-signature",
		Config: oci.Describe("application/vnd.oci.empty.v1+json", config), Layers: []oci.Descriptor{oci.Describe("application/vnd.oci.empty.v1+json", config)}, Subject: &desc,
	})
	if err != nil {
		t.Fatal(err)
	}
	up.want(201, "PUT", "/v2/app/manifests/"+sum(signature), signature, "Content-Type", oci.MediaTypeManifest)
	c := startCache(t, &Upstreams{Only: up.client()})

	want := up.want(200, "GET", "/v2/app/referrers/"+subject, nil).body
	for _, down := range []bool{false, true} {
		if down {
			up.setSpoil(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true })
		}
		if got := c.want(200, "GET", "/v2/app/referrers/"+subject, nil).body; !bytes.Equal(got, want) {
			t.Errorf("down %t: referrers = %s, want %s", down, got, want)
		}
	}
	up.setSpoil(nil)

	// A list that lies adds nothing.
	up.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		list, _ := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{desc}})
		w.Write(list)
		return true
	})
	other := startCache(t, &Upstreams{Only: up.client()})
	if got := other.want(200, "GET", "/v2/app/referrers/"+sum(signature), nil).body; strings.Contains(string(got), subject) {
		t.Errorf("referrers by a list that lies = %s", got)
	}
}

// What came of a blob that nobody asks for any more goes away, but not while it comes.
func TestPartialsExpire(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	l, err := layout.InitBelow(root, "app", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	old := time.Now().Add(-48 * time.Hour)
	var parts []*layout.Partial
	for i := range 2 {
		p, err := l.OpenPartial(t.Context(), digest.FromBytes([]byte{byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		p.Write([]byte("some"))
		parts = append(parts, p)
	}
	defer parts[0].Close()
	parts[1].Close()
	for _, name := range files(t, filepath.Join(dir, "app")) {
		if strings.HasPrefix(name, layout.UploadPrefix) {
			os.Chtimes(filepath.Join(dir, "app", name), old, old)
		}
	}

	s := startIn(t, dir, Options{ReadOnly: true}).s // nobody else expires anything
	entries, err := os.ReadDir(filepath.Join(dir, "app"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if id, ok := strings.CutPrefix(e.Name(), layout.UploadPrefix); ok {
			s.expire(t.Context(), "app", id, e)
		}
	}
	left := slices.DeleteFunc(files(t, filepath.Join(dir, "app")), func(name string) bool { return !strings.HasPrefix(name, layout.UploadPrefix) })
	if want := digest.FromBytes([]byte{0}).Encoded(); len(left) != 1 || !strings.HasSuffix(left[0], want) {
		t.Errorf("left %q, want what is coming, %s", left, want)
	}
}
