package pushcmd_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/pushcmd"
)

var update = flag.Bool("update", false, "rewrite golden files")

// A machine has a layout, the script that pushes it, a shell and curl, and no ocikit.
type machine struct {
	t     *testing.T
	dir   string
	shell []string
	env   []string
}

// newMachine skips the test where there is no shell or no curl. It is called before t.Parallel: a program
// that is started just now could hold another machine's script open for writing.
func newMachine(t *testing.T, s *store) *machine {
	t.Helper()
	for _, program := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: %v", err)
		}
	}
	m := &machine{t: t, dir: t.TempDir(), shell: []string{"sh"}}
	// Nothing is waited for: sleep is another program here.
	write(t, filepath.Join(m.dir, "bin", "sleep"), "#!/bin/sh\n", 0o755)
	if err := os.MkdirAll(filepath.Join(m.dir, "it's a layout", "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{"sha256", "sha512"} {
		if err := os.Symlink(s.dir, filepath.Join(m.dir, "it's a layout", "blobs", alg)); err != nil {
			t.Fatal(err)
		}
	}
	m.env = []string{"PATH=" + filepath.Join(m.dir, "bin") + ":" + os.Getenv("PATH"), "TMPDIR=" + m.dir, "no_proxy=*"}
	return m
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// script writes the script that pushes to a registry.
func (m *machine) script(s *store, desc oci.Descriptor, host string, o pushcmd.ScriptOptions) {
	m.t.Helper()
	o.Layout = "it's a layout"
	ref := repo
	ref.Host = host
	var b bytes.Buffer
	if err := pushcmd.Script(&b, s, desc, ref, o); err != nil {
		m.t.Fatal(err)
	}
	write(m.t, filepath.Join(m.dir, "push.sh"), b.String(), 0o755)
}

// run runs the script and returns its status and what it printed.
func (m *machine) run() (status int, stdout, stderr string) {
	m.t.Helper()
	var out, msg bytes.Buffer
	cmd := exec.CommandContext(m.t.Context(), m.shell[0], append(m.shell[1:], "push.sh")...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = m.dir, m.env, &out, &msg
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), msg.String()
}

// mustRun fails the test unless the script succeeds.
func (m *machine) mustRun() (stderr string) {
	m.t.Helper()
	status, _, stderr := m.run()
	if status != 0 {
		m.t.Fatalf("status %d\n%s", status, stderr)
	}
	return stderr
}

// TestScriptText compares what a script says about its images, and that the rest is the text
// that shellcheck looks at.
func TestScriptText(t *testing.T) {
	s := newStore(t)
	amd, arm := s.image(t, 1000, 0), s.image(t, 2000)
	amd.Platform, arm.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}, &oci.Platform{OS: "linux", Architecture: "arm64"}
	index := s.doc(t, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{amd, arm}})
	signature := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x", Subject: &index}
	signature.Config = s.put(t, "application/vnd.oci.empty.v1+json", []byte("{}"))
	missing := oci.Describe("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []byte("far away"))
	signature.Layers = []oci.Descriptor{signature.Config, missing}
	s.index.Manifests = []oci.Descriptor{
		index.WithAnnotation(oci.AnnotationRefName, "docker.io/library/alpine:3.20"),
		index.WithAnnotation(oci.AnnotationRefName, "docker.io/library/alpine:latest"),
		s.doc(t, oci.MediaTypeManifest, signature),
	}
	var b bytes.Buffer
	ref := registry.Reference{Host: "docker.io", Repo: "mirror"}
	if err := pushcmd.ScriptAll(&b, s, all(t, s, ref), ref, pushcmd.ScriptOptions{Layout: "it's a layout", MountFrom: []string{"base", "other/base"}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("script.sh")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "# begin: ")
	_, after, _ := strings.Cut(rest, "\n# end\n")
	got, ok := strings.CutPrefix(b.String(), before)
	got, ok2 := strings.CutSuffix(got, after)
	if !ok || !ok2 || before == "" || after == "" {
		t.Error("the script is not script.sh with other images")
	}
	if *update {
		write(t, "testdata/script.golden", got, 0o644)
	}
	want, err := os.ReadFile("testdata/script.golden")
	if err != nil || got != string(want) {
		t.Errorf("%v: got\n%s\nwant\n%s", err, got, want)
	}
}

func TestScriptRefuses(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 100)
	layer := s.blobs(t, desc)[1]
	other := repo
	other.Digest = layer.Digest
	for _, c := range []struct {
		name   string
		ref    registry.Reference
		layout string
		want   error
	}{
		{"another digest", other, "app", digest.ErrMismatch},
		{"line break in the layout's path", repo, "app\nrm -rf x", oci.ErrMalformed},
		{"escape sequence of one character", repo, "app\u009b31m", oci.ErrMalformed},
	} {
		err := pushcmd.Script(new(bytes.Buffer), s, desc, c.ref, pushcmd.ScriptOptions{Layout: c.layout})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	write(t, s.path(layer.Digest), "short", 0o644)
	if err := pushcmd.Script(new(bytes.Buffer), s, desc, repo, pushcmd.ScriptOptions{}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("layer of another size: got %v", err)
	}
}

// mixed stores an image with a large layer, an empty one, and one with a digest by SHA-512.
func (s *store) mixed(t *testing.T) oci.Descriptor {
	t.Helper()
	desc := s.image(t, 1_200_000, 0)
	data, err := s.Document(desc)
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.DecodeManifest(desc, data)
	if err != nil {
		t.Fatal(err)
	}
	long := []byte("a longer digest")
	layer := oci.Descriptor{MediaType: oci.MediaTypeLayer, Size: int64(len(long))}
	if layer.Digest, _, err = digest.FromReader(digest.SHA512, bytes.NewReader(long)); err != nil {
		t.Fatal(err)
	}
	write(t, s.path(layer.Digest), string(long), 0o600)
	m.Layers = append(m.Layers, layer)
	return s.doc(t, oci.MediaTypeManifest, m)
}

// TestScriptQuirks runs scripts against registries that are odd, each in its way.
func TestScriptQuirks(t *testing.T) {
	inFull(t)
	s := newStore(t)
	desc := s.mixed(t)
	absolute := func(r *http.Request, path string) string { return "http://" + r.Host + path }
	for _, c := range []struct {
		name   string
		quirks servetest.Quirks
		env    string
	}{
		{name: "chunks that the user asks for", env: "REG_CHUNK=500000"},
		{name: "tiny chunks", quirks: servetest.Quirks{ChunkMax: 400_001}},
		{name: "chunks of at least", quirks: servetest.Quirks{ChunkMin: 300_001}, env: "REG_CHUNK=100000"},
		{name: "too large", quirks: servetest.Quirks{MaxBody: 500_000}},
		{name: "absolute, 204", quirks: servetest.Quirks{Location: absolute, PatchStatus: 204, PutStatus: 204}},
		{name: "no patch", quirks: servetest.Quirks{NoPatch: true}},
		{name: "range of the last body", quirks: servetest.Quirks{Range: func(first, end int64) string { return fmt.Sprintf("0-%d", end-first-1) }}, env: "REG_CHUNK=500000"},
		{name: "no digest header", quirks: servetest.Quirks{NoDigestHeader: true}},
		{name: "no HEAD", quirks: servetest.Quirks{NoHead: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, s)
			t.Parallel()
			reg := servetest.NewQuirky(t)
			reg.Quirks = c.quirks
			m.script(s, desc, servetest.Serve(t, reg), pushcmd.ScriptOptions{PlainHTTP: true, Tags: []string{"v2"}})
			m.env = append(m.env, c.env)
			m.mustRun()
			checkPushed(t, reg, s, desc)
			if got := reg.Tag("app", "v2"); got != desc.Digest {
				t.Errorf("tag v2: got %v", got)
			}
			if names, _ := filepath.Glob(filepath.Join(m.dir, "*")); len(names) != 3 {
				t.Errorf("left behind: %q", names)
			}
			if c.quirks.Location == nil {
				return
			}
			n := len(reg.Requests())
			if m.mustRun(); len(reg.Requests()) != n+2 {
				t.Errorf("the second run made %d requests, want one for each tag", len(reg.Requests())-n)
			}
		})
	}
}

// TestScriptReferrer pushes a manifest that refers to another one. Where the registry keeps no
// list of them the script says so.
func TestScriptReferrer(t *testing.T) {
	inFull(t)
	s := newStore(t)
	subject := s.image(t, 10)
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x", Subject: &subject}
	m.Config = s.put(t, "application/vnd.oci.empty.v1+json", []byte("{}"))
	desc := s.doc(t, oci.MediaTypeManifest, m)
	for _, c := range []struct {
		name   string
		quirks servetest.Quirks
		noted  bool
	}{
		{"with the API", servetest.Quirks{}, false},
		{"unconfirmed", servetest.Quirks{NoSubjectHeader: true}, false},
		{"without the API", servetest.Quirks{NoReferrers: 404}, true},
	} {
		mach := newMachine(t, s)
		reg := servetest.NewQuirky(t)
		reg.Quirks = c.quirks
		mach.script(s, desc, servetest.Serve(t, reg), pushcmd.ScriptOptions{PlainHTTP: true})
		if stderr := mach.mustRun(); strings.Contains(stderr, "does not list") != c.noted {
			t.Errorf("%s: a note: %t\n%s", c.name, !c.noted, stderr)
		}
		checkPushed(t, reg, s, desc)
	}
}

// TestScriptBreakEveryRequest loses the answer to the first request of a script, then to the
// second, until one runs untouched. Success means stored; after a failure the next run works.
func TestScriptBreakEveryRequest(t *testing.T) {
	inFull(t)
	s := newStore(t)
	desc := s.image(t, 1000)
	m := newMachine(t, s)
	for k, n := 1, 0; k <= n+1 && k < 40; k++ {
		reg := servetest.NewQuirky(t)
		b := servetest.BreakAt(k, servetest.LostAnswer, reg)
		m.script(s, desc, servetest.Serve(t, b), pushcmd.ScriptOptions{PlainHTTP: true})
		status, _, stderr := m.run()
		n, _ = b.Count()
		if status != 0 && status != 3 {
			t.Fatalf("request %d of %d broken: status %d\n%s", k, n, status, stderr)
		}
		if status != 0 {
			m.mustRun()
		}
		checkPushed(t, reg, s, desc)
	}
}

// TestScriptResumes cuts every body of a large blob until the script gives up. Another run
// goes on where the registry stands, with what the first one wrote down.
func TestScriptResumes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	desc := s.image(t, 3_000_000)
	layer := s.blobs(t, desc)[1]
	m := newMachine(t, s)
	reg := servetest.NewQuirky(t)
	var down bool
	b := servetest.BreakIf(1000, func(r *http.Request) bool {
		down = down || r.ContentLength > 1_000_000
		return down
	}, func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 1_000_000 {
			servetest.CutBody(1_000_000)(h, w, r)
			return
		}
		servetest.Reset(h, w, r)
	}, reg)
	var healed atomic.Bool
	host := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if healed.Load() {
			reg.ServeHTTP(w, r)
			return
		}
		b.ServeHTTP(w, r)
	}))
	m.script(s, desc, host, pushcmd.ScriptOptions{PlainHTTP: true})
	status, stdout, stderr := m.run()
	if status != 3 || stdout != "" {
		t.Fatalf("status %d, %q\n%s", status, stdout, stderr)
	}
	files, _ := filepath.Glob(filepath.Join(m.dir, "push.state", "app", "*"))
	if len(files) != 1 {
		t.Fatalf("states: %q", files)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state: %v, %v", info, err)
	}
	healed.Store(true)
	m.mustRun()
	checkPushed(t, reg, s, desc)
	if got := reg.Taken(); got > layer.Size+1000 {
		t.Errorf("the registry was sent %d bytes for a blob of %d", got, layer.Size)
	}
}

// TestScriptAuth runs scripts with credentials that must go to the registry alone.
func TestScriptAuth(t *testing.T) {
	inFull(t)
	const password = `p"lanted\se'cret $x`
	s := newStore(t)
	desc := s.image(t, 1000)
	for _, c := range []struct {
		name string
		auth *servetest.Auth
		pass string
		want int
	}{
		{name: "basic", auth: &servetest.Auth{}, pass: password},
		{name: "basic, wrong", auth: &servetest.Auth{}, pass: "other", want: 5},
		{name: "none", auth: &servetest.Auth{}, want: 5},
		{name: "bearer, relative realm", auth: &servetest.Auth{Bearer: true}, pass: password},
		{name: "bearer, wrong", auth: &servetest.Auth{Bearer: true}, pass: "other", want: 5},
		{name: "bearer, tokens are good for 3 requests", auth: &servetest.Auth{Bearer: true, Uses: 3}, pass: password},
		{name: "bearer, after basic", auth: &servetest.Auth{Bearer: true, Challenge: `Basic realm="x, y", bearer service=x,realm="/token",scope="repository:app:pull"`}, pass: password},
		{name: "bearer, escaped", auth: &servetest.Auth{Bearer: true, Answer: func(w http.ResponseWriter, r *http.Request, token string) {
			fmt.Fprintf(w, "{\"expires_in\": 3e11,\n \"access_token\": %q, \"token\": \"\"}", token)
		}}, pass: password},
		{name: "bearer, page", auth: &servetest.Auth{Bearer: true, Answer: func(w http.ResponseWriter, r *http.Request, token string) { fmt.Fprint(w, "<html>") }}, pass: password, want: 5},
		{name: "bearer, no url", auth: &servetest.Auth{Bearer: true, Realm: "gopher://x"}, pass: password, want: 5},
		{name: "bearer, user information", auth: &servetest.Auth{Bearer: true, Realm: "http://a@127.0.0.1/token"}, pass: password, want: 5},
		{name: "negotiate", auth: &servetest.Auth{Challenge: "Negotiate"}, pass: password, want: 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, s)
			t.Parallel()
			reg := servetest.NewQuirky(t)
			reg.Auth = c.auth
			reg.Auth.User, reg.Auth.Password = "user", password
			m.script(s, desc, servetest.Serve(t, reg), pushcmd.ScriptOptions{PlainHTTP: true})
			if c.pass != "" {
				m.env = append(m.env, "REG_USER=user", "REG_PASS="+c.pass)
			}
			status, _, stderr := m.run()
			if status != c.want {
				t.Errorf("status %d, want %d\n%s", status, c.want, stderr)
			}
			if status == 0 {
				checkPushed(t, reg, s, desc)
			}
			if strings.Contains(stderr, "lanted") {
				t.Errorf("a secret was printed: %s", stderr)
			}
		})
	}
}

// TestScriptKeepsCredentials has a registry that sends uploads, and those who want a token, to
// somebody else.
func TestScriptKeepsCredentials(t *testing.T) {
	inFull(t)
	s := newStore(t)
	desc := s.image(t, 1000)
	m := newMachine(t, s)
	reg := servetest.NewQuirky(t)
	var seen atomic.Int32
	other := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			seen.Add(1)
		}
		if r.URL.Path == "/token" {
			w.WriteHeader(403)
			return
		}
		reg.ServeHTTP(w, r)
	}))
	guarded := &servetest.Auth{User: "user", Password: "planted-secret"}
	reg.Location = func(r *http.Request, path string) string {
		return "http://localhost:" + other[strings.LastIndex(other, ":")+1:] + path
	}
	front := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, ok := r.BasicAuth()
		if !ok || password != guarded.Password {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		reg.ServeHTTP(w, r)
	})
	m.env = append(m.env, "REG_USER=user", "REG_PASS=planted-secret")
	m.script(s, desc, servetest.Serve(t, front), pushcmd.ScriptOptions{PlainHTTP: true})
	m.mustRun()
	checkPushed(t, reg, s, desc)
	if n := seen.Load(); n > 0 {
		t.Errorf("another server was sent the credentials %d times", n)
	}
	prefixes := []string{"http://", "http://127.0.0.1@", "http://127.0.0.1:80@", "http://127.0.0.1\\@", "//127.0.0.1:1@"}
	for _, prefix := range prefixes {
		reg.Auth = &servetest.Auth{Bearer: true, Realm: prefix + "localhost:" + other[strings.LastIndex(other, ":")+1:] + "/token"}
		m.script(s, desc, servetest.Serve(t, reg), pushcmd.ScriptOptions{PlainHTTP: true})
		status, _, stderr := m.run()
		if n := seen.Load(); status != 5 || n > 0 {
			t.Errorf("token server %s: status %d, sent credentials %d times\n%s", reg.Auth.Realm, status, n, stderr)
		}
	}
}

// TestScriptStatuses checks that the statuses mean what they do for every command.
func TestScriptStatuses(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 1000)
	layer := s.blobs(t, desc)[1]
	for i, c := range []struct {
		name    string
		fault   servetest.Fault
		prepare func(*machine)
		want    int
		stderr  string
	}{
		{name: "forbidden", fault: servetest.Answer(403, "no"), want: 5, stderr: "status 403"},
		{name: "unknown repository", fault: servetest.Answer(404, `{"errors":[{"code":"NAME_UNKNOWN"}]}`), want: 4, stderr: "created before"},
		{name: "down", fault: servetest.Reset, want: 3, stderr: "curl:"},
		{name: "no room", fault: servetest.Answer(507, "full\x1b[31m"), want: 1, stderr: `"full[31m"`},
		{name: "no layout", prepare: func(m *machine) { os.RemoveAll(filepath.Join(m.dir, "it's a layout")) }, want: 4, stderr: "there is no layout"},
		{name: "damaged", prepare: func(m *machine) { m.damage(layer, make([]byte, 1000)) }, want: 1, stderr: "damaged"},
		{name: "short", prepare: func(m *machine) { m.damage(layer, make([]byte, 10)) }, want: 1, stderr: "has 10 bytes, want 1000"},
		{name: "absent", prepare: func(m *machine) { m.damage(layer, nil) }, want: 1, stderr: "incomplete"},
		{name: "bad url", prepare: func(m *machine) { m.env = append(m.env, "REG_URL=registry.example") }, want: 2, stderr: "https://HOST:PORT"},
		{name: "bad chunk", prepare: func(m *machine) { m.env = append(m.env, "REG_CHUNK=1M") }, want: 2, stderr: "number of bytes"},
	} {
		if i%digesttest.Reps(1, 3) != 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, s)
			t.Parallel()
			var h http.Handler = servetest.NewQuirky(t)
			if c.fault != nil {
				h = servetest.BreakFrom(1, c.fault, h)
			}
			m.script(s, desc, servetest.Serve(t, h), pushcmd.ScriptOptions{PlainHTTP: true})
			if c.prepare != nil {
				c.prepare(m)
			}
			status, stdout, stderr := m.run()
			if status != c.want || stdout != "" || !strings.Contains(stderr, c.stderr) {
				t.Errorf("status %d, want %d; %q\n%s", status, c.want, stdout, stderr)
			}
		})
	}
}

// damage gives the machine a layout of its own with other bytes for a blob, nil for none.
func (m *machine) damage(desc oci.Descriptor, data []byte) {
	m.t.Helper()
	dir := filepath.Join(m.dir, "it's a layout", "blobs", "sha256")
	from, err := os.Readlink(dir)
	if err == nil {
		err = os.Remove(dir)
	}
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(from))
	}
	if err == nil {
		err = os.Remove(filepath.Join(dir, desc.Digest.Encoded()))
	}
	if err != nil {
		m.t.Fatal(err)
	}
	if data != nil {
		write(m.t, filepath.Join(dir, desc.Digest.Encoded()), string(data), 0o644)
	}
}

// TestScriptUsualPort has a registry that is named with the port it has anyway: its own
// addresses are its own with and without it.
func TestScriptUsualPort(t *testing.T) {
	inFull(t)
	s := newStore(t)
	desc := s.image(t, 1000)
	m := newMachine(t, s)
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{User: "user", Password: "planted-secret"}
	write(t, filepath.Join(m.dir, "curl.conf"), fmt.Sprintf("connect-to = \"r.test:80:%s\"\n", servetest.Serve(t, reg)), 0o644)
	m.env = append(m.env, "REG_USER=user", "REG_PASS=planted-secret", "REG_CONFIG=curl.conf")
	m.script(s, desc, "r.test:80", pushcmd.ScriptOptions{PlainHTTP: true})
	m.mustRun()
	checkPushed(t, reg, s, desc)
}

// TestScriptShowsPlainText has a registry that hides things in what a script repeats of its
// answers.
func TestScriptShowsPlainText(t *testing.T) {
	inFull(t)
	s := newStore(t)
	desc := s.image(t, 1000)
	for _, c := range []struct {
		name string
		at   string // method that is answered so
		f    func(w http.ResponseWriter, r *http.Request)
	}{
		{"escape sequence in a Location", "POST", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v2/app/\x1b]0;x\x07/1")
			w.WriteHeader(202)
		}},
		{"escape sequence in a digest", "PUT", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Docker-Content-Digest", "sha256:\x1b[31m\u009b31m")
			w.WriteHeader(201)
		}},
		{"password where a long answer is cut", "POST", func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			w.WriteHeader(403)
			fmt.Fprint(w, strings.Repeat(".", 290)+password)
		}},
		{"header with the password", "POST", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(403)
			fmt.Fprintf(w, "Authorization: %s", r.Header.Get("Authorization"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, s)
			t.Parallel()
			m.env = append(m.env, "REG_USER=user", "REG_PASS=planted-secret")
			reg := servetest.NewQuirky(t)
			reg.Auth = &servetest.Auth{User: "user", Password: "planted-secret"}
			hostile := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == c.at && (r.Method == "POST" || strings.Contains(r.URL.Path, "/manifests/")) {
					c.f(w, r)
					return
				}
				reg.ServeHTTP(w, r)
			})
			m.script(s, desc, servetest.Serve(t, hostile), pushcmd.ScriptOptions{PlainHTTP: true})
			status, _, stderr := m.run()
			if status == 0 || strings.ContainsFunc(stderr, func(c rune) bool { return c != '\n' && unicode.IsControl(c) }) {
				t.Errorf("status %d, printed %q", status, stderr)
			}
			if strings.Contains(stderr, "plante") || strings.Contains(stderr, "cGxhbnRlZC1z") || strings.Contains(stderr, "dXNlcjpwbGFu") {
				t.Errorf("a secret was printed: %s", stderr)
			}
		})
	}
}

// TestScriptLeadingZeros has a registry that counts with leading zeros, which the arithmetic
// of a shell takes for octal.
func TestScriptLeadingZeros(t *testing.T) {
	inFull(t)
	s := newStore(t)
	desc := s.image(t, 300000)
	m := newMachine(t, s)
	reg := servetest.NewQuirky(t)
	reg.Range = func(first, end int64) string { return fmt.Sprintf("%d-0%d", first, end-1) }
	m.env = append(m.env, "REG_CHUNK=80000")
	m.script(s, desc, servetest.Serve(t, reg), pushcmd.ScriptOptions{PlainHTTP: true})
	m.mustRun()
	checkPushed(t, reg, s, desc)
}
