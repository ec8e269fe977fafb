package registry_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
)

// TestCurlLinesWork does a whole upload, and then runs what --curl printed of it with a shell
// against an empty registry at the same address. The variables are what a user would set.
func TestCurlLinesWork(t *testing.T) {
	for _, program := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: %v", err)
		}
	}
	const user, password = "user", "planted-secret"
	data := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	blob := digest.FromBytes(data)
	bodies := [][]byte{data[:30_000], data[30_000:60_000], data[60_000:]}
	manifest, err := oci.Encode(oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest,
		Config: oci.Describe(oci.MediaTypeConfig, data), Layers: []oci.Descriptor{oci.Describe(oci.MediaTypeLayer, data)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var reg atomic.Pointer[servetest.Quirky] // curl is another process: its requests order nothing
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reg.Load().ServeHTTP(w, r) }))
	defer server.Close()
	empty := func() *servetest.Quirky {
		g := servetest.NewQuirky(t)
		g.Auth = &servetest.Auth{User: user, Password: password, Bearer: true}
		return g
	}

	reg.Store(empty())
	var lines bytes.Buffer
	r := newRig(t, strings.TrimPrefix(server.URL, "http://"), func(o *registry.Options) {
		o.Username, o.Password, o.Curl = user, password, &lines
	})
	wholeUpload(t, r, bodies, blob, manifest)
	if strings.Contains(lines.String(), password) || strings.Contains(lines.String(), "_state") {
		t.Fatalf("a secret is in\n%s", &lines)
	}

	reg.Store(empty())
	u := &pasted{
		t: t, dir: t.TempDir(), base: server.URL, bodies: append(bodies, manifest),
		vars: map[string]string{"REGISTRY_BASIC": "dXNlcjpwbGFudGVkLXNlY3JldA=="},
	}
	for line := range strings.Lines(lines.String()) {
		u.paste(line)
	}
	if !reg.Load().Has("app", blob) || reg.Load().Tag("app", "v1") != digest.FromBytes(manifest) || len(u.bodies) > 0 {
		t.Errorf("the lines did not bring everything there:\n%s", &lines)
	}
}

func wholeUpload(t *testing.T, r *rig, bodies [][]byte, blob digest.Digest, manifest []byte) {
	t.Helper()
	ctx := t.Context()
	body := func(b []byte) registry.Body {
		return registry.Body{Reader: bytes.NewReader(b), Size: int64(len(b))}
	}
	up, err := r.StartUpload(ctx, "app", digest.SHA256)
	if err == nil {
		err = r.PatchUpload(ctx, &up, body(bodies[0]))
	}
	if err == nil {
		err = r.UploadStatus(ctx, &up)
	}
	if err == nil {
		err = r.PatchUpload(ctx, &up, body(bodies[1]))
	}
	if err == nil {
		err = r.PutUpload(ctx, &up, blob, body(bodies[2]))
	}
	if err == nil {
		_, err = r.PutManifest(ctx, "app", "v1", oci.MediaTypeManifest, manifest)
	}
	if err == nil {
		_, err = r.HeadManifest(ctx, "app", "v1")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pasted is a shell that somebody pastes lines into.
type pasted struct {
	t      *testing.T
	dir    string
	base   string
	bodies [][]byte // for the lines that want one, in turn
	vars   map[string]string
}

var (
	locationLine = regexp.MustCompile(`(?im)^location: (\S+)`)
	tokenField   = regexp.MustCompile(`"token":"([^"]*)"`)
)

// paste runs a line, and takes from its output what the next one needs.
func (p *pasted) paste(line string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "sh", "-uc", line)
	cmd.Env = append(os.Environ(), "no_proxy=*")
	if strings.Contains(line, "$BODY") {
		p.vars["BODY"] = filepath.Join(p.dir, "body")
		if err := os.WriteFile(p.vars["BODY"], p.bodies[0], 0o600); err != nil {
			p.t.Fatal(err)
		}
		p.bodies = p.bodies[1:]
	}
	for name, value := range p.vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	refused := bytes.Contains(out, []byte("HTTP/1.1 401"))
	if err != nil || !regexp.MustCompile(`(?m)^HTTP/1.1 2`).Match(out) && !refused || bytes.Count(out, []byte("HTTP/1.1 2")) > 1 {
		p.t.Fatalf("%v: %s\n%s", err, line, out)
	}
	if refused && strings.Contains(line, "$BODY") {
		p.t.Fatalf("refused: %s\n%s", line, out)
	}
	if m := locationLine.FindSubmatch(out); m != nil {
		base, err := url.Parse(p.base)
		if err != nil {
			p.t.Fatal(err)
		}
		location, err := base.Parse(string(m[1]))
		if err != nil {
			p.t.Fatal(err)
		}
		p.vars["LOCATION"] = location.String()
	}
	if m := tokenField.FindSubmatch(out); m != nil {
		p.vars["REGISTRY_BEARER"] = string(m[1])
	}
}
