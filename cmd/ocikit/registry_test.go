package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/servetest"
)

func newTestRegistry(t *testing.T, dir string) http.Handler {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := serve.New(dir, serve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// F52: an interrupt while bytes are on their way gives the session back, or keeps it for the
// next process if there is a place for that, and the exit status says what happened.
func TestInterruptedPush(t *testing.T) {
	dir := t.TempDir()
	layout := filepath.Join(dir, "app")
	writeTestFile(t, filepath.Join(dir, "tree", "file"), strings.Repeat("x", 100_000))
	out := ""
	for _, args := range [][]string{
		{"init", layout}, {"layer", layout, filepath.Join(dir, "tree")}, {"config", layout}, {"manifest", layout}, {"tag", layout + ":v1"},
	} {
		var status int
		var stderr string
		if status, out, stderr = runOcikit(t.Context(), strings.NewReader(out), args...); status != 0 {
			t.Fatalf("ocikit %q: status %d: %s", args, status, stderr)
		}
	}
	for _, state := range []string{"", filepath.Join(dir, "state")} {
		reg := servetest.New(t, serve.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		h := servetest.BreakIf(1, func(r *http.Request) bool { return r.Method == http.MethodPatch }, func(_ http.Handler, _ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			cancel(cli.ErrInterrupted)
			<-r.Context().Done()
		}, reg)
		args := []string{"push", layout + ":v1", servetest.Serve(t, h) + "/app:v1", "--plain-http", "--mode", "stream", "-j", "1"}
		if state != "" {
			args = append(args, "--state", state)
		}
		status, _, stderr := runOcikit(ctx, nil, args...)
		if status != cli.StatusInterrupted {
			t.Errorf("status %d: %s", status, stderr)
		}
		files, _ := os.ReadDir(state)
		if kept := state != ""; (reg.Uploads() > 0) != kept || (len(files) > 0) != kept {
			t.Errorf("state %q: %d uploads are open, %d files are kept", state, reg.Uploads(), len(files))
		}
	}
}

// An image goes from registry to registry: the second one is connected to before the first one has
// answered.
func TestConnectsToBothRegistries(t *testing.T) {
	connected := make(chan bool, 100)
	to := httptest.NewUnstartedServer(servetest.New(t, serve.Options{}))
	to.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connected <- true
		}
	}
	to.Start()
	defer to.Close()
	target := strings.TrimPrefix(to.URL, "http://")

	from := servetest.New(t, serve.Options{})
	source := servetest.Serve(t, from)
	hostilePlace(t)
	wantRun(t, 0, "", "push", "app:base", source+"/app:v1")
	waiting := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			select {
			case <-connected:
			case <-r.Context().Done():
			}
		}
		from.ServeHTTP(w, r)
	}))
	for _, command := range []string{"copy", "push"} {
		wantRun(t, 0, "", command, "docker://"+waiting+"/app:v1", "docker://"+target+"/"+command+":v1", "--timeout", "10s", "--retry", "0")
		to.CloseClientConnections()
		for len(connected) > 0 {
			<-connected
		}
	}
}

// docker/sbx-releases#535: a token server on another host gets the credentials if --trust-realm says
// so, and only then.
func TestTrustRealm(t *testing.T) {
	_, port, _ := strings.Cut(servetest.Serve(t, http.HandlerFunc(giveToken)), ":")
	host := servetest.Serve(t, wantToken("http://localhost:"+port+"/token", servetest.New(t, serve.Options{})))
	for _, tt := range []struct {
		flags  []string
		status int
		stderr string
	}{
		{nil, cli.StatusNotAllowed, "--trust-realm"},
		{[]string{"--trust-realm", "elsewhere"}, cli.StatusNotAllowed, "--trust-realm"},
		{[]string{"--trust-realm", "localhost"}, 0, ""},
	} {
		args := append([]string{"registry", "tags", host + "/app", "--plain-http", "--username", "me", "--password-stdin"}, tt.flags...)
		status, _, stderr := runOcikit(t.Context(), strings.NewReader("planted-secret\n"), args...)
		if tt.status == 0 && status == cli.StatusNotThere {
			status = 0 // it was let in; there is no such repository
		}
		if status != tt.status || !strings.Contains(stderr, tt.stderr) || strings.Contains(stderr, "planted-secret") {
			t.Errorf("%q: status %d, want %d: %s", tt.flags, status, tt.status, stderr)
		}
	}
}

// giveToken is a token server for the user me.
func giveToken(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != "me" || password != "planted-secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	io.WriteString(w, `{"token":"good"}`)
}

// wantToken lets those in who have a token of giveToken, which answers at realm.
func wantToken(realm string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer good" {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="test",scope="repository:app:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
}

// With --strict-location an upload is not sent to where another host's Location leads.
func TestStrictLocation(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	elsewhere := servetest.Serve(t, reg)
	host := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.ServeHTTP(&movedAnswer{ResponseWriter: w, host: elsewhere}, r)
	}))
	file := filepath.Join(t.TempDir(), "blob")
	writeTestFile(t, file, "bytes")
	for _, tt := range []struct {
		flag   string
		status int
	}{{"--strict-location=false", 0}, {"--strict-location", 1}} {
		status, _, stderr := runOcikit(t.Context(), nil, "upload", "blob", host+"/app", file, "--plain-http", tt.flag)
		if status != tt.status || status != 0 && !strings.Contains(stderr, elsewhere) {
			t.Errorf("%s: status %d, want %d: %s", tt.flag, status, tt.status, stderr)
		}
	}
}

// A refused mount has status 1, and its message is about the mount, whatever the registry says to the
// end of the upload that it opened instead: many let nobody cancel one.
func TestRefusedMount(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	for _, answer := range []int{204, 400, 401, 404, 405} {
		cancelled := false
		host := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				cancelled = true
				w.WriteHeader(answer)
				return
			}
			reg.ServeHTTP(w, r)
		}))

		status, _, stderr := runOcikit(t.Context(), nil, "upload", "mount", host+"/app", "sha256:"+strings.Repeat("0", 64), "--from", "other", "--plain-http")
		if status != 1 || !cancelled || !strings.Contains(stderr, "did not take it over") || strings.Contains(stderr, "DELETE") {
			t.Errorf("the end of the upload is answered with %d: status %d, cancelled %t: %s", answer, status, cancelled, stderr)
		}
	}
}

// A movedAnswer gives Locations another host.
type movedAnswer struct {
	http.ResponseWriter
	host string
}

func (m *movedAnswer) WriteHeader(status int) {
	if u, err := url.Parse(m.Header().Get("Location")); err == nil && u.Path != "" {
		u.Scheme, u.Host = "http", m.host
		m.Header().Set("Location", u.String())
	}
	m.ResponseWriter.WriteHeader(status)
}

// A refusal is explained, too: which credentials were offered, and what was said to them.
func TestExplainRefusal(t *testing.T) {
	realm := "http://" + servetest.Serve(t, http.HandlerFunc(giveToken)) + "/token"
	host := servetest.Serve(t, wantToken(realm, servetest.New(t, serve.Options{})))
	args := []string{"registry", "token", host + "/app", "--plain-http", "--username", "me", "--password-stdin", "--explain"}
	status, stdout, stderr := runOcikit(t.Context(), strings.NewReader("planted-wrong\n"), args...)
	if status != cli.StatusNotAllowed || !strings.Contains(stdout, `"source":"options"`) || !strings.Contains(stderr, "401") || strings.Contains(stdout+stderr, "planted-wrong") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
}

// A name that means an image in a layout as well goes to Docker Hub, and the error says so.
func TestHintAtDockerHub(t *testing.T) {
	t.Chdir(t.TempDir())
	if status, _, errs := runOcikit(t.Context(), nil, "init", "app"); status != 0 {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is sent
	for name, want := range map[string]bool{"app:latest": true, "other:latest": false} {
		status, _, errs := runOcikit(ctx, nil, "registry", "head", name)
		if status == 0 || strings.Contains(errs, "taken for a name on Docker Hub") != want {
			t.Errorf("registry head %s: status %d, stderr %q", name, status, errs)
		}
	}
}

// podman-container-tools/skopeo#1466, #1740: a tag that is listed and gone, one whose name is none,
// an image of the first schema. The good tags come, each bad one is named, the status says it.
func TestPullAllGoesOn(t *testing.T) {
	t.Chdir(t.TempDir())
	reg := startServe(t, "layouts", "--log", "none")
	writeTestFile(t, "tree/a", "x")
	ocikit := func(want int, stdin string, args ...string) (out, errs string) {
		t.Helper()
		return wantRun(t, want, stdin, args...)
	}
	ocikit(0, "", "init", "app")
	layer, _ := ocikit(0, "", "layer", "app", "tree")
	parts, _ := ocikit(0, layer, "config", "app")
	manifest, _ := ocikit(0, parts, "manifest", "app")
	ocikit(0, manifest, "tag", "app:v1")
	ocikit(0, "", "push", "app:v1", reg+"/hello:v1", "-t", "v2")

	target, _ := url.Parse("http://" + reg)
	proxy := httputil.NewSingleHostReverseProxy(target)
	mangled := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			io.WriteString(w, `{"name":"hello","tags":["gone","old","v1","a:b","v2"]}`)
		case strings.HasSuffix(r.URL.Path, "/manifests/old"):
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
			io.WriteString(w, `{"schemaVersion":1,"name":"hello","tag":"old","fsLayers":[]}`)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	defer mangled.Close()
	host := strings.TrimPrefix(mangled.URL, "http://")
	out, errs := ocikit(4, "", "pull", "--all", host+"/hello", "far", "--plain-http")
	if n := strings.Count(out, "\n"); n != 2 {
		t.Errorf("%d images came:\n%s", n, out)
	}
	for _, want := range []string{`tag "gone"`, `tag "old"`, `tag "a:b"`, "3 of 5 images"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %s in\n%s", want, errs)
		}
	}
	ocikit(0, "", "verify", "far", "--deep")

	// So it is with what a repository holds.
	out, errs = ocikit(4, "", "inventory", "--all", host+"/hello", "--plain-http")
	want, _ := ocikit(0, "", "inventory", "far")
	if out != want || !strings.Contains(errs, "3 of 5 images") {
		t.Errorf("inventory --all: %q, want %q\n%s", out, want, errs)
	}
}

// goharbor/harbor#20632, containers/image#1078: Docker Hub counts each GET of a manifest and no HEAD.
// To bring what has not changed once more makes one HEAD and nothing else, by tag and by digest.
func TestUnchangedIsAskedWithHead(t *testing.T) {
	t.Chdir(t.TempDir())
	reg := startServe(t, "layouts", "--log", "none")
	writeTestFile(t, "tree/a", "x")
	ocikit := pushHello(t, reg)
	desc, err := oci.ReadDescriptors(strings.NewReader(ocikit("", "resolve", "app:v1")))
	if err != nil || len(desc) != 1 {
		t.Fatalf("%v, %v", desc, err)
	}
	byDigest := "@" + desc[0].Digest.String()

	var mu sync.Mutex
	var asked []string
	target, _ := url.Parse("http://" + reg)
	proxy := httputil.NewSingleHostReverseProxy(target)
	counted := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v2/hello/manifests/"))
		mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	defer counted.Close()
	requests := func() (since []string) { // since the last call
		mu.Lock()
		defer mu.Unlock()
		since, asked = asked, nil
		return since
	}
	image := strings.TrimPrefix(counted.URL, "http://") + "/hello"

	for _, c := range []struct{ want, command, from, to string }{
		{"HEAD v1", "pull", image + ":v1", "pulled"},
		{"HEAD v1", "pull", image + ":v1", "pulled:mine"},
		{"HEAD " + byDigest[1:], "pull", image + byDigest, "pinned"},
		{"HEAD " + byDigest[1:], "pull", image + ":v1" + byDigest, "both"},
		{"HEAD v1", "copy", "docker://" + image + ":v1", "copied"},
		{"HEAD " + byDigest[1:], "copy", "docker://" + image + byDigest, "copypinned:v1"},
	} {
		first := ocikit("", c.command, c.from, c.to, "--plain-http")
		requests()
		again := ocikit("", c.command, c.from, c.to, "--plain-http")
		if got := strings.Join(requests(), ", "); got != c.want || again != first {
			t.Errorf("%s %s %s asks %q, want %q; prints %q, before %q", c.command, c.from, c.to, got, c.want, again, first)
		}
		ocikit("", "verify", "--deep", strings.TrimSuffix(strings.TrimSuffix(c.to, ":mine"), ":v1"))
	}

	// A manifest or a layer that is damaged here is asked for again.
	for _, command := range []string{"pull", "copy"} {
		blobs, err := filepath.Glob("copied/blobs/sha256/*")
		if err != nil || len(blobs) != 3 {
			t.Fatalf("%q, %v", blobs, err)
		}
		for _, name := range blobs {
			if err := os.WriteFile(name, []byte("damaged"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ocikit("", command, "docker://"+image+":v1", "copied", "--plain-http")
		ocikit("", "verify", "--deep", "copied")
	}
}

// GoogleContainerTools/jib#2466, moby/moby#20804: a registry below a path cannot be written in a
// name. Whatever answers at the root of the host, reading and writing both say so, and so does help.
func TestRegistryBelowAPath(t *testing.T) {
	t.Chdir(t.TempDir())
	reg := startServe(t, "layouts", "--log", "none")
	writeTestFile(t, "tree/a", "x")
	ocikit := pushHello(t, reg)
	target, _ := url.Parse("http://" + reg)
	below := http.StripPrefix("/registry", httputil.NewSingleHostReverseProxy(target))

	for name, root := range map[string]http.HandlerFunc{
		"site": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "<html><body>Not Found</body></html>")
		},
		"prefix": http.NotFound, // so does a docker-registry with http.prefix
	} {
		mux := http.NewServeMux()
		mux.Handle("/registry/v2/", below)
		mux.Handle("/", root)
		s := httptest.NewServer(mux)
		defer s.Close()

		ref := strings.TrimPrefix(s.URL, "http://") + "/registry/hello:v1"
		for _, args := range [][]string{
			{"pull", ref, "got", "--plain-http"}, {"copy", "docker://" + ref, "got", "--plain-http"},
			{"registry", "get", ref, "--plain-http"}, {"push", "app:v1", ref, "--plain-http"},
		} {
			status, _, errs := runOcikit(t.Context(), nil, args...)
			if status != 4 || !strings.Contains(errs, "hint: what answers is not a registry: one below a path of its host cannot be named") {
				t.Errorf("%s: ocikit %q: status %d\n%s", name, args, status, errs)
			}
		}
	}

	// A registry that lacks the repository is one all the same.
	if status, _, errs := runOcikit(t.Context(), nil, "pull", reg+"/registry/hello:v1", "got", "--plain-http"); status != 4 || strings.Contains(errs, "no registry") {
		t.Errorf("status %d\n%s", status, errs)
	}

	if help := strings.Join(strings.Fields(ocikit("", "help", "names")), " "); !strings.Contains(help, "One that lies below a path, as at HOST/PATH/v2/, has no REF") {
		t.Errorf("help names does not say it:\n%s", help)
	}
}

// pushHello makes the image app:v1 of the directory tree, pushes it as hello:v1, and returns what runs
// commands that have to succeed.
func pushHello(t *testing.T, reg string) func(stdin string, args ...string) string {
	ocikit := mustRun(t)
	ocikit("", "init", "app")
	ocikit(ocikit(ocikit(ocikit("", "layer", "app", "tree"), "config", "app"), "manifest", "app"), "tag", "app:v1")
	ocikit("", "push", "app:v1", reg+"/hello:v1")
	return ocikit
}

// The plan for many images says the same every time, in the order of index.json.
func TestPlanOfManyStays(t *testing.T) {
	t.Chdir(t.TempDir())
	reg := startServe(t, "layouts", "--log", "none")
	writeTestFile(t, "tree/a", "x")
	ocikit := mustRun(t)
	ocikit("", "init", "app")
	manifest := ocikit(ocikit(ocikit("", "layer", "app", "tree"), "config", "app"), "manifest", "app")
	for i := range 20 {
		ocikit(manifest, "tag", fmt.Sprintf("app:docker.io/team%d/app:v%d", i%7, i))
	}
	want := ocikit("", "push", "--all", "app", reg, "--dry-run")
	if n := strings.Count(want, "\n"); n < 20 {
		t.Fatalf("%d lines:\n%s", n, want)
	}
	for range 4 {
		if got := ocikit("", "push", "--all", "app", reg, "--dry-run"); got != want {
			t.Fatalf("another plan:\n%s\nafter\n%s", got, want)
		}
	}
}

// Two steps of one session would send the same bytes, and each save what the other does not know. The
// second one is told to wait, and changes nothing.
func TestSessionInUse(t *testing.T) {
	reg := httptest.NewServer(newTestRegistry(t, t.TempDir()))
	defer reg.Close()
	t.Chdir(t.TempDir())
	repo := strings.TrimPrefix(reg.URL, "http://") + "/app"
	run := mustRun(t)
	run("", "upload", "start", repo, "--session", "up.json", "--plain-http")

	in, feed := io.Pipe()
	sent := make(chan string)
	go func() {
		status, _, errs := runOcikit(t.Context(), in, "upload", "chunk", "--session", "up.json", "-", "--plain-http")
		sent <- fmt.Sprint(status, errs)
	}()

	// The first step has the session once it waits for its input.
	fmt.Fprint(feed, "hel")
	before, _ := os.ReadFile("up.json")
	for _, step := range [][]string{
		{"upload", "chunk", "--session", "up.json", "-", "--plain-http"},
		{"upload", "status", "--session", "up.json", "--plain-http"},
		{"upload", "finish", "--session", "up.json", "--plain-http"},
		{"upload", "cancel", "--session", "up.json", "--plain-http"},
		{"upload", "start", repo, "--session", "up.json", "--plain-http"},
	} {
		if _, errs := wantRun(t, 3, "other", step...); !strings.Contains(errs, `session "up.json" is in use`) {
			t.Errorf("%v: %s", step, errs)
		}
	}
	if after, _ := os.ReadFile("up.json"); !bytes.Equal(after, before) {
		t.Error("a step that was locked out changed the session")
	}

	fmt.Fprint(feed, "lo")
	feed.Close()
	if got := <-sent; got != "0" {
		t.Fatal(got)
	}
	if out := run("", "upload", "finish", "--session", "up.json", "--plain-http"); !strings.Contains(out, digest.FromBytes([]byte("hello")).String()) {
		t.Errorf("finish: %s", out)
	}
	if left, _ := os.ReadDir("."); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
