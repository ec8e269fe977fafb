package pushcmd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
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
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/oci/source"
	"ocikit/pushcmd"
)

// inFull skips a test under -short: what it tests only a change nearby can break, and it starts
// hundreds of programs.
func inFull(t *testing.T) {
	if testing.Short() {
		t.Skip("not under -short")
	}
}

// A store is a Source whose blobs are files of a temporary directory.
type store struct {
	source.Source // nil: what a push does not need
	dir           string
	index         oci.Index
}

func newStore(t testing.TB) *store { return &store{dir: t.TempDir()} }

func (s *store) put(t testing.TB, mediaType string, data []byte) oci.Descriptor {
	t.Helper()
	desc := oci.Describe(mediaType, data)
	if err := os.WriteFile(s.path(desc.Digest), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return desc
}

func (s *store) path(d digest.Digest) string { return filepath.Join(s.dir, d.Encoded()) }

func (s *store) Stat(d digest.Digest) (int64, error) {
	info, err := os.Stat(s.path(d))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", graph.ErrNotFound, err)
	}
	return info.Size(), nil
}

func (s *store) BlobAt(desc oci.Descriptor) (source.BlobAt, error) {
	size, err := s.Stat(desc.Digest)
	if err != nil && desc.Data != nil {
		return source.Embedded(desc), nil
	}
	if err == nil && size != desc.Size {
		err = digest.ErrMismatch
	}
	if err != nil {
		return nil, err
	}
	return os.Open(s.path(desc.Digest))
}

func (s *store) Document(desc oci.Descriptor) ([]byte, error) {
	data, err := os.ReadFile(s.path(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", graph.ErrNotFound, err)
	}
	if err == nil && digest.FromBytes(data) != desc.Digest {
		err = digest.ErrMismatch
	}
	return data, err
}

func (s *store) Index() (oci.Index, error) { return s.index, nil }

func (s *store) doc(t testing.TB, mediaType string, v any) oci.Descriptor {
	t.Helper()
	data, err := oci.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return s.put(t, mediaType, data)
}

// image stores an image with layers of the given sizes.
func (s *store) image(t testing.TB, sizes ...int) oci.Descriptor {
	t.Helper()
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	m.Config = s.put(t, oci.MediaTypeConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	for i, size := range sizes {
		m.Layers = append(m.Layers, s.put(t, oci.MediaTypeLayerGzip, digesttest.Noise(size, i+1)))
	}
	return s.doc(t, oci.MediaTypeManifest, m)
}

func (s *store) blobs(t testing.TB, desc oci.Descriptor) []oci.Descriptor {
	t.Helper()
	data, err := s.Document(desc)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := oci.References(desc, data)
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

// A client under test, what it said, and how long it would have slept.
type rig struct {
	*registry.Client
	mu      sync.Mutex
	notices []string
}

func newClient(t testing.TB, host string, change ...func(*registry.Options)) *rig {
	t.Helper()
	r := &rig{}
	o := registry.Options{
		PlainHTTP: true, Retry: 3,
		Sleep: func(ctx context.Context, d time.Duration) error { return ctx.Err() },
		Notice: func(s string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.notices = append(r.notices, s)
		},
	}
	for _, f := range change {
		f(&o)
	}
	r.Client = servetest.Client(t, host, o)
	return r
}

func (r *rig) said(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(strings.Join(r.notices, "\n"), text)
}

var repo = registry.Reference{Host: "r.test", Repo: "app", Tag: "v1"}

func push(t testing.TB, h http.Handler, s *store, desc oci.Descriptor, o pushcmd.Options, change ...func(*registry.Options)) (pushcmd.Report, error) {
	t.Helper()
	c := newClient(t, servetest.Serve(t, h), change...)
	o.Sleep = func(ctx context.Context, d time.Duration) error { return ctx.Err() }
	return pushcmd.Push(t.Context(), c.Client, s, desc, repo, o)
}

// checkPushed fails unless the image is whole in the registry and has its tag.
func checkPushed(t testing.TB, reg *servetest.Quirky, s *store, desc oci.Descriptor) {
	t.Helper()
	for _, b := range s.blobs(t, desc) {
		if !reg.Has("app", b.Digest) {
			t.Errorf("registry lacks %s of %d bytes", b.Digest, b.Size)
		}
	}
	if got := reg.Tag("app", "v1"); got != desc.Digest {
		t.Errorf("tag v1 = %q, want %s", got, desc.Digest)
	}
}

func TestPush(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 0, 1, 70_000, 3<<20)
	for _, mode := range []pushcmd.Mode{"", pushcmd.ModeStream, pushcmd.ModePut, pushcmd.ModeChunk} {
		t.Run(string(mode), func(t *testing.T) {
			reg := servetest.NewQuirky(t)
			o := pushcmd.Options{Mode: mode}
			if mode == pushcmd.ModeChunk {
				o.ChunkSize = 1 << 20
			}
			report, err := push(t, reg, s, desc, o)
			if err != nil {
				t.Fatal(err)
			}
			checkPushed(t, reg, s, desc)
			if want := 1 + 70_000 + 3<<20 + s.blobs(t, desc)[0].Size; report.BytesNeeded != want {
				t.Errorf("BytesNeeded = %d, want %d", report.BytesNeeded, want)
			}
			if got := reg.Taken(); got != report.BytesNeeded {
				t.Errorf("registry took %d bytes, want %d", got, report.BytesNeeded)
			}
			if n := reg.Uploads(); n != 0 {
				t.Errorf("%d sessions left open", n)
			}
			for _, r := range reg.Requests() {
				if r.Header.Get("Transfer-Encoding") != "" || r.Method == "POST" && r.Header.Get("Content-Length") != "0" {
					t.Errorf("%s %s without Content-Length", r.Method, r.URL)
				}
				if strings.Contains(r.URL, "/blobs/") && r.Header.Get("Accept") != "" || r.Header.Get("Accept-Encoding") != "" {
					t.Errorf("%s %s with Accept %q, Accept-Encoding %q", r.Method, r.URL, r.Header.Get("Accept"), r.Header.Get("Accept-Encoding"))
				}
			}
		})
	}
}

func TestPushAgainSendsNothing(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 100_000)
	reg := servetest.NewQuirky(t)
	for i := range 2 {
		report, err := push(t, reg, s, desc, pushcmd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 && (report.Requests > 2 || report.BytesSent > 0) {
			t.Errorf("second push: %d requests, %d bytes, want at most 2 and 0", report.Requests, report.BytesSent)
		}
	}
}

func TestPushIndex(t *testing.T) {
	s := newStore(t)
	a, b := s.image(t, 10_000), s.image(t, 20_000)
	inner := s.doc(t, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{b}})
	root := s.doc(t, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{a, inner, a}})
	reg := servetest.NewQuirky(t) // refuses a manifest before what it names
	if _, err := push(t, reg, s, root, pushcmd.Options{Tags: []string{"v2", "v3"}}); err != nil {
		t.Fatal(err)
	}
	checkPushed(t, reg, s, root)
	for _, tag := range []string{"v2", "v3"} {
		if reg.Tag("app", tag) != root.Digest {
			t.Errorf("tag %s is not set", tag)
		}
	}
	puts := 0
	for _, r := range reg.Requests() {
		if r.Method == "PUT" && strings.Contains(r.URL, "/manifests/") {
			puts++
		}
	}
	if puts != 4 {
		t.Errorf("%d manifests were put, want 4: all tags in one request", puts)
	}
}

func TestPushDryRun(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 10_000)
	reg := servetest.NewQuirky(t)
	report, err := push(t, reg, s, desc, pushcmd.Options{DryRun: true, MountFrom: []string{"base"}})
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, step := range report.Steps {
		actions = append(actions, step.Action)
	}
	if got := strings.Join(actions, " "); got != "mount mount manifest tag" {
		t.Errorf("plan = %s", got)
	}
	for _, r := range reg.Requests() {
		if r.Method != "HEAD" {
			t.Errorf("%s %s in a dry run", r.Method, r.URL)
		}
	}
}

func TestPushMounts(t *testing.T) {
	for _, status := range []int{0, 202, 400, 403, 404, 405} {
		s := newStore(t)
		desc := s.image(t, 10_000)
		reg := servetest.NewQuirky(t)
		reg.NoMount = status
		for _, b := range s.blobs(t, desc) {
			data, _ := s.Document(b)
			reg.PutBlob("base", data)
		}
		report, err := push(t, reg, s, desc, pushcmd.Options{MountFrom: []string{"none", "base"}})
		if err != nil {
			t.Fatalf("mount answered %d: %v", status, err)
		}
		checkPushed(t, reg, s, desc)
		if status == 0 && (report.Steps[0].Action != "mounted" || report.Steps[0].From != "base" || reg.Taken() != 0) {
			t.Errorf("mounts: first step %+v, %d bytes taken", report.Steps[0], reg.Taken())
		}
		if n := reg.Uploads(); n != 0 {
			t.Errorf("mount answered %d: %d sessions left open", status, n)
		}
	}
}

func TestCorruptBlobIsNotCommitted(t *testing.T) {
	for _, mode := range []pushcmd.Mode{pushcmd.ModeStream, pushcmd.ModePut, pushcmd.ModeChunk} {
		s := newStore(t)
		desc := s.image(t, 3<<20)
		layer := s.blobs(t, desc)[1]
		data, _ := os.ReadFile(s.path(layer.Digest))
		data[2<<20] ^= 1
		os.WriteFile(s.path(layer.Digest), data, 0o600)
		reg := servetest.NewQuirky(t)
		_, err := push(t, reg, s, desc, pushcmd.Options{Mode: mode, ChunkSize: 1 << 20})
		if !errors.Is(err, digest.ErrMismatch) || !strings.Contains(err.Error(), layer.Digest.String()) {
			t.Errorf("mode %s: Push() = %v, want a mismatch of %s", mode, err, layer.Digest)
		}
		for _, r := range reg.Requests() {
			if r.Method == "PUT" && strings.Contains(r.URL, layer.Digest.Encoded()) && r.Status < 300 {
				t.Errorf("mode %s: the corrupt blob was committed", mode)
			}
		}
		if reg.Tag("app", "v1") != (digest.Digest{}) || reg.Uploads() != 0 {
			t.Errorf("mode %s: tag %s, %d sessions left", mode, reg.Tag("app", "v1"), reg.Uploads())
		}
	}
}

func TestMissingAndShortBlobs(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 1000)
	layer := s.blobs(t, desc)[1]
	os.Truncate(s.path(layer.Digest), 0)
	if _, err := push(t, servetest.NewQuirky(t), s, desc, pushcmd.Options{}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("truncated blob: Push() = %v", err)
	}
	os.Remove(s.path(layer.Digest))

	// What is missing is found before anything is sent.
	reg := servetest.NewQuirky(t)
	if _, err := push(t, reg, s, desc, pushcmd.Options{}); !errors.Is(err, graph.ErrIncomplete) || len(reg.Requests()) > 0 {
		t.Errorf("missing blob: Push() = %v, %d requests", err, len(reg.Requests()))
	}
}

func TestEmbeddedConfig(t *testing.T) {
	s := newStore(t)
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: oci.Describe(oci.MediaTypeConfig, config)}
	m.Config.Data = config
	desc := s.doc(t, oci.MediaTypeManifest, m)
	reg := servetest.NewQuirky(t)
	if _, err := push(t, reg, s, desc, pushcmd.Options{}); err != nil {
		t.Fatal(err)
	}
	checkPushed(t, reg, s, desc)
}

func TestForeignLayerIsSkipped(t *testing.T) {
	s := newStore(t)
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	m.Config = s.put(t, oci.MediaTypeConfig, []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`))
	layer := oci.Describe(oci.MediaTypeDockerLayerForeign, []byte("not here"))
	layer.URLs = []string{"http://127.0.0.1:1/never"}
	m.Layers = []oci.Descriptor{layer}
	desc := s.doc(t, oci.MediaTypeManifest, m)
	reg := servetest.NewQuirky(t)
	reg.PutBlob("app", []byte("not here")) // this registry insists
	report, err := push(t, reg, s, desc, pushcmd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Steps[1].Action != "skip" {
		t.Errorf("step = %+v, want skip", report.Steps[1])
	}
}

func TestPushAll(t *testing.T) {
	s := newStore(t)
	a, b, c := s.image(t, 1000), s.image(t, 1000, 2000), s.image(t, 3000)
	s.index.Manifests = []oci.Descriptor{
		a.WithAnnotation(oci.AnnotationRefName, "v1"),
		b.WithAnnotation(oci.AnnotationRefName, "docker.io/library/alpine:3.20"),
		c,
	}
	reg := servetest.NewQuirky(t)
	client := newClient(t, servetest.Serve(t, reg))
	reports, err := pushcmd.PushAll(t.Context(), client.Client, all(t, s, everything), pushcmd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(reports) != 3 || reg.Tag("app", "v1") != a.Digest || reg.Tag("app/library/alpine", "3.20") != b.Digest || !reg.Has("app", c.Digest) {
		t.Errorf("%d reports; v1 %s, alpine %s, unnamed %t", len(reports), reg.Tag("app", "v1"), reg.Tag("app/library/alpine", "3.20"), reg.Has("app", c.Digest))
	}
}

func TestReferrers(t *testing.T) {
	for _, status := range []int{0, 404, 405, -1} { // -1: there is the API, but no OCI-Subject
		s := newStore(t)
		image := s.image(t, 1000)
		m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x-sbom", Subject: &image}
		m.Config = s.put(t, oci.MediaTypeEmpty, []byte("{}"))
		sbom := s.doc(t, oci.MediaTypeManifest, m)
		// An index refers to an image as a manifest does.
		all := s.doc(t, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, ArtifactType: "application/x-all", Subject: &image, Manifests: []oci.Descriptor{}})
		s.index.Manifests = []oci.Descriptor{image, sbom, all}
		reg := servetest.NewQuirky(t)
		reg.NoReferrers, reg.NoSubjectHeader = max(status, 0), status < 0
		status = max(status, 0)
		client := newClient(t, servetest.Serve(t, reg))
		if _, err := pushcmd.Push(t.Context(), client.Client, s, image, repo, pushcmd.Options{Referrers: true}); err != nil {
			t.Fatal(err)
		}
		list, err := client.Referrers(t.Context(), "app", image.Digest, "")
		lists := func(want oci.Descriptor) bool {
			return slices.ContainsFunc(list.Descriptors, func(d oci.Descriptor) bool { return d.Digest == want.Digest })
		}
		if err != nil || len(list.Descriptors) != 2 || !lists(sbom) || !lists(all) || list.Fallback != (status != 0) {
			t.Errorf("referrers API answers %d: Referrers() = %+v, %v", status, list, err)
		}
		if status != 0 {
			list, err = client.Referrers(t.Context(), "app", image.Digest, "application/x-sbom")
			if err != nil || len(list.Descriptors) != 1 {
				t.Errorf("filtered: Referrers() = %+v, %v", list, err)
			}
		}
	}
}

func TestBlobsAreReadOnce(t *testing.T) {
	data := digesttest.Noise(2<<20, 9)
	desc := oci.Describe(oci.MediaTypeOctetStream, data)
	r := &countingAt{ReaderAt: bytes.NewReader(data)}
	c := newClient(t, servetest.Serve(t, servetest.NewQuirky(t)))
	if _, err := pushcmd.UploadBlob(t.Context(), c.Client, "app", desc, r, pushcmd.Options{}); err != nil {
		t.Fatal(err)
	}
	if r.n != desc.Size {
		t.Errorf("%d bytes were read, want %d", r.n, desc.Size)
	}
}

type countingAt struct {
	io.ReaderAt
	n int64
}

func (c *countingAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

// F48: what a HEAD of a blob may say, and that the blob gets there anyway.
func TestHeadSays(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 1000)
	isHead := func(r *http.Request) bool { return r.Method == "HEAD" && strings.Contains(r.URL.Path, "/blobs/") }
	for name, fault := range map[string]servetest.Fault{
		"another size": servetest.Answer(200, "", "Content-Length", "7"),
		"403":          servetest.Answer(403, ""),
		"405":          servetest.Answer(405, ""),
		"500 twice":    servetest.Answer(500, ""),
	} {
		reg := servetest.NewQuirky(t)
		if _, err := push(t, servetest.BreakIf(2, isHead, fault, reg), s, desc, pushcmd.Options{Jobs: 1}); err != nil {
			t.Errorf("HEAD says %s: %v", name, err)
			continue
		}
		checkPushed(t, reg, s, desc)
	}
}

// R23: a registry that lost the state of a session finds it by its path.
func TestStatusWithoutState(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, blobSize)
	reg := servetest.NewQuirky(t)
	h := servetest.BreakIf(1, isPatch, servetest.CutBody(1_000_000), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" && r.URL.RawQuery != "" && strings.Contains(r.URL.Path, "/uploads/") {
			w.WriteHeader(404)
			return
		}
		reg.ServeHTTP(w, r)
	}))
	report, err := push(t, h, s, desc, pushcmd.Options{Jobs: 1, Mode: pushcmd.ModeStream})
	if err != nil {
		t.Fatal(err)
	}
	resumed(t, reg, report)
}
