package pull_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
	"ocikit/oci/registry/pull"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/servetest"
)

// putImage stores an image with layers of the given sizes in a registry, under a tag unless
// it is "".
func putImage(t testing.TB, reg *servetest.Registry, tag, arch string, sizes ...int) oci.Descriptor {
	t.Helper()
	put := func(mediaType string, data []byte) oci.Descriptor {
		reg.PutBlob("app", data)
		return oci.Describe(mediaType, data)
	}
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	m.Config = put(oci.MediaTypeConfig, []byte(`{"architecture":"`+arch+`","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	for i, size := range sizes {
		m.Layers = append(m.Layers, put(oci.MediaTypeLayerGzip, digesttest.Noise(size, i+1)))
	}
	return putDoc(t, reg, tag, oci.MediaTypeManifest, m)
}

func putDoc(t testing.TB, reg *servetest.Registry, tag, mediaType string, v any) oci.Descriptor {
	t.Helper()
	data, err := oci.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	reg.PutManifest("app", tag, mediaType, data)
	return oci.Describe(mediaType, data)
}

// pullOnce pulls app:latest (or another name) as a process of its own would.
func pullOnce(t testing.TB, h http.Handler, dir string, o pull.Options) (pull.Report, error) {
	t.Helper()
	return pullName(t, h, "app:latest", dir, o)
}

func pullName(t testing.TB, h http.Handler, name, dir string, o pull.Options) (pull.Report, error) {
	t.Helper()
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ref, err := registry.ParseReference(servetest.Serve(t, h) + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	c := servetest.Client(t, ref.Host, registry.Options{
		PlainHTTP: true, Retry: 2,
		Sleep: func(context.Context, time.Duration) error { return nil },
	})
	o.Local = l
	im, err := pull.Find(t.Context(), c, ref, o)
	if err != nil {
		return pull.Report{}, err
	}
	return im.Pull(t.Context(), l, im.Desc.WithAnnotation(oci.AnnotationRefName, "latest"))
}

// leftovers lists files that no layout has.
func leftovers(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func named(t testing.TB, l *layout.Layout) bool {
	t.Helper()
	x, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	return len(x.Manifests) > 0
}

func action(r pull.Report, d digest.Digest) pull.Step {
	for _, s := range r.Steps {
		if s.Digest == d {
			return s
		}
	}
	return pull.Step{}
}

func isBlobGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

// Whichever request is broken, in whichever way: the pull succeeds with a whole image, or it
// fails and names nothing; and what a user does next, pull again, succeeds.
func TestEveryBrokenRequest(t *testing.T) {
	faults := map[string]servetest.Fault{
		"reset": servetest.Reset, "cut": servetest.CutAnswer(2000), "503": servetest.Answer(503, ""),
		"404": servetest.Answer(404, ""), "html": servetest.Answer(200, "<html>", "Content-Type", "text/html"),
		"empty":      servetest.Answer(200, "", "Content-Length", "0"),
		"no content": servetest.Answer(204, ""),
		"206 for a plain GET": servetest.Rewrite(func(status int, h http.Header) int {
			h.Set("Content-Range", "bytes 0-9/10")
			return http.StatusPartialContent
		}),
	}
	step := 1
	if testing.Short() {
		step = 3
	}
	for name, fault := range faults {
		for _, from := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", name, from), func(t *testing.T) {
				for k, n := 1, 0; k <= n+1; k += step {
					reg := servetest.New(t, serve.Options{})
					want := putImage(t, reg, "latest", "amd64", 5000, 300, 70_000)
					l := layouttest.New(t)
					b := servetest.BreakAt(k, fault, reg)
					if from {
						b = servetest.BreakFrom(k, fault, reg)
					}
					_, err := pullOnce(t, b, l.Name(), pull.Options{Jobs: 1})
					n, _ = b.Count()
					if n > 500 {
						t.Fatalf("request %d broken: %d requests", k, n)
					}
					if err == nil {
						if err := graph.Check(l, want, graph.Rules{}); err != nil || !named(t, l) {
							t.Fatalf("request %d broken: success, and %v", k, err)
						}
						layouttest.MustVerify(t, l)
					} else if named(t, l) {
						t.Fatalf("request %d broken: failed with %v, and named the image", k, err)
					}
					if _, err := pullOnce(t, reg, l.Name(), pull.Options{}); err != nil {
						t.Fatalf("pull after broken request %d: %v", k, err)
					}
					layouttest.MustVerify(t, l)
					if left := leftovers(t, l.Name()); len(left) > 0 {
						t.Fatalf("request %d broken: left %v", k, left)
					}
				}
			})
		}
	}
}

// anchore/stereoscope#695, podman-container-tools/skopeo#2419, containers/image#1145: a layer
// that broke off is gone on with by another process, from where it stands.
func TestResumeAcrossProcesses(t *testing.T) {
	const size = 3_000_000
	reg := servetest.New(t, serve.Options{})
	desc := putImage(t, reg, "latest", "amd64", size)
	layer := digest.FromBytes(digesttest.Noise(size, 1))
	l := layouttest.New(t)
	cut := servetest.BreakIf(100, func(r *http.Request) bool {
		return isBlobGet(r) && strings.Contains(r.URL.Path, layer.Encoded())
	}, servetest.CutAnswer(1_000_000), reg)
	b := servetest.BreakIf(100, func(r *http.Request) bool { return r.Header.Get("Range") != "" }, servetest.Reset, cut)
	if _, err := pullOnce(t, b, l.Name(), pull.Options{}); err == nil {
		t.Fatal("a transfer that breaks off for ever succeeded")
	}
	if named(t, l) {
		t.Fatal("an incomplete image was named")
	}
	left := leftovers(t, l.Name())
	if len(left) != 1 {
		t.Fatalf("files kept for the next process: %v, want one", left)
	}
	kept, err := os.Stat(filepath.Join(l.Name(), left[0]))
	if err != nil || kept.Size() < 900_000 {
		t.Fatalf("kept %v, %v", kept, err)
	}
	// A writer that sweeps leftovers, and a collection of garbage, spare it.
	if _, _, err := l.Put(strings.NewReader("x"), digest.Digest{}); err != nil {
		t.Fatal(err)
	}
	other, err := layout.Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, _, err := other.Put(strings.NewReader("y"), digest.Digest{}); err != nil {
		t.Fatal(err)
	}
	before := len(reg.Requests())
	report, err := pullOnce(t, reg, l.Name(), pull.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := action(report, layer)
	if s.Action != "resume" || s.Offset != kept.Size() || s.Received != size-kept.Size() {
		t.Errorf("step %+v, want a resume at %d", s, kept.Size())
	}
	ranges := 0
	for _, r := range reg.Requests()[before:] {
		if rng := r.Header.Get("Range"); rng != "" {
			ranges++
			if want := fmt.Sprintf("bytes=%d-%d", kept.Size(), size-1); rng != want {
				t.Errorf("Range %q, want %q", rng, want)
			}
		}
	}
	if ranges != 1 {
		t.Errorf("%d requests with Range, want one", ranges)
	}
	layouttest.MustVerify(t, l)
	if err := graph.Check(l, desc, graph.Rules{}); err != nil {
		t.Error(err)
	}
}

// docker/model-runner#873: only a 206 with the right start is appended to; whatever a
// registry sends for a Range, the blob is right in the end.
func TestAnswersToRange(t *testing.T) {
	const size = 50_000
	data := digesttest.Noise(size, 1)
	d := digest.FromBytes(data)
	wrongStart := func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", size-1, size))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(data[5:])
	}
	for name, c := range map[string]struct {
		kept   []byte
		fault  servetest.Fault // of the first request with Range
		faults []string
	}{
		"the rest":                          {kept: data[:20_000]},
		"the whole blob, with 200":          {kept: data[:20_000], faults: []string{"blob-no-range"}},
		"another part of the blob":          {kept: data[:20_000], fault: wrongStart},
		"416":                               {kept: data[:20_000], fault: servetest.Answer(416, "")},
		"what was kept is wrong":            {kept: bytes.Repeat([]byte("x"), 20_000)},
		"what was kept is wrong, and whole": {kept: bytes.Repeat([]byte("x"), size)},
		"what was kept is too long":         {kept: append(bytes.Clone(data), "more"...)},
		"all of it is there":                {kept: data},
	} {
		t.Run(name, func(t *testing.T) {
			reg := servetest.New(t, serve.Options{Faults: c.faults})
			putImage(t, reg, "latest", "amd64", size)
			l := layouttest.New(t)
			part, err := l.OpenPartial(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := part.Write(c.kept); err != nil {
				t.Fatal(err)
			}
			part.Close()
			var h http.Handler = reg
			if c.fault != nil {
				h = servetest.BreakIf(1, func(r *http.Request) bool { return r.Header.Get("Range") != "" }, c.fault, reg)
			}
			if _, err := pullOnce(t, h, l.Name(), pull.Options{}); err != nil {
				t.Fatal(err)
			}
			layouttest.MustVerify(t, l)
			if left := leftovers(t, l.Name()); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// google/go-containerregistry#1226, #1119: blobs that are here are verified before they are
// believed; damaged ones are fetched again.
func TestSkipAndRepair(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	desc := putImage(t, reg, "latest", "amd64", 1000, 2000, 3000)
	l := layouttest.New(t)
	if _, err := pullOnce(t, reg, l.Name(), pull.Options{}); err != nil {
		t.Fatal(err)
	}
	before := len(reg.Requests())
	report, err := pullOnce(t, reg, l.Name(), pull.Options{})
	if err != nil || report.BytesReceived != 0 {
		t.Fatalf("second pull: %+v, %v", report, err)
	}
	for _, r := range reg.Requests()[before:] {
		if strings.Contains(r.Path, "/blobs/") {
			t.Errorf("second pull asked for %s", r.Path)
		}
	}
	blob := func(n int, seed uint64) (string, digest.Digest) {
		d := digest.FromBytes(digesttest.Noise(n, int(seed)))
		return filepath.Join(l.Name(), "blobs", "sha256", d.Encoded()), d
	}
	flipped, flippedDigest := blob(1000, 1)
	short, _ := blob(2000, 2)
	empty, _ := blob(3000, 3)
	data := digesttest.Noise(1000, 1)
	data[500] ^= 1
	manifest := filepath.Join(l.Name(), "blobs", "sha256", desc.Digest.Encoded())
	for name, data := range map[string][]byte{flipped: data, short: digesttest.Noise(2000, 2)[:100], empty: nil, manifest: []byte("{}")} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if report, err = pullOnce(t, reg, l.Name(), pull.Options{}); err != nil {
		t.Fatal(err)
	}
	if s := action(report, flippedDigest); s.Action != "repair" || report.BytesReceived != 6000 {
		t.Errorf("report %+v, want a repair and 6000 bytes", report)
	}
	layouttest.MustVerify(t, l)
}

// A plan names what a pull would do: everything where nothing is, nothing but the name where all is.
func TestPlan(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	putImage(t, reg, "latest", "amd64", 1000, 2000)
	l := layouttest.New(t)
	if _, err := pullOnce(t, reg, l.Name(), pull.Options{}); err != nil {
		t.Fatal(err)
	}
	ref, err := registry.ParseReference(servetest.Serve(t, reg) + "/app:latest")
	if err != nil {
		t.Fatal(err)
	}
	c := servetest.Client(t, ref.Host, registry.Options{PlainHTTP: true})
	im, err := pull.Find(t.Context(), c, ref, pull.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, where := range []struct {
		name string
		l    *layout.Layout
		want map[string]int
	}{
		{"no layout", nil, map[string]int{"fetch": 3, "manifest": 1, "tag": 1}},
		{"an empty one", layouttest.New(t), map[string]int{"fetch": 3, "manifest": 1, "tag": 1}},
		{"one that has the image", l, map[string]int{"exists": 3, "tag": 1}},
	} {
		steps, err := im.Plan(t.Context(), where.l, im.Desc.WithAnnotation(oci.AnnotationRefName, "latest"))
		got := map[string]int{}
		for _, s := range steps {
			got[s.Action]++
		}
		if err != nil || !maps.Equal(got, where.want) {
			t.Errorf("%s: Plan = %v, %v, want %v", where.name, got, err, where.want)
		}
	}
}

func TestIndexAndPlatform(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	amd := putImage(t, reg, "", "amd64", 100)
	arm := putImage(t, reg, "", "arm64", 200)
	amd.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}
	nested := putDoc(t, reg, "", oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{arm}})
	root := putDoc(t, reg, "latest", oci.MediaTypeDockerList, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeDockerList, Manifests: []oci.Descriptor{amd, nested}})
	l := layouttest.New(t)
	if _, err := pullOnce(t, reg, l.Name(), pull.Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := l.Resolve(oci.ImageName{Tag: "latest"})
	if err != nil || got.Digest != root.Digest || got.MediaType != oci.MediaTypeDockerList {
		t.Fatalf("Resolve() = %+v, %v", got, err)
	}
	layouttest.MustVerify(t, l)

	one := layouttest.New(t)
	report, err := pullOnce(t, reg, one.Name(), pull.Options{Platforms: []oci.Platform{{OS: "linux", Architecture: "arm64"}}})
	if err != nil || report.Descriptor.Digest != arm.Digest {
		t.Fatalf("for arm64: %+v, %v, want %s", report.Descriptor, err, arm.Digest)
	}
	layouttest.MustVerify(t, one)
	if _, err := one.Stat(amd.Digest); !errors.Is(err, layout.ErrNotFound) {
		t.Errorf("the image for amd64 came too: %v", err)
	}

	// What only an earlier variant serves is told.
	var notices []string
	v3 := pull.Options{
		Platforms: []oci.Platform{{OS: "linux", Architecture: "amd64", Variant: "v3"}},
		Notice:    func(s string) { notices = append(notices, s) },
	}
	report, err = pullOnce(t, reg, one.Name(), v3)
	if err != nil || report.Descriptor.Digest != amd.Digest || len(notices) != 1 || !strings.Contains(notices[0], "/app:latest: there is no image for linux/amd64/v3: that for linux/amd64 runs there") {
		t.Errorf("for amd64/v3: %+v, %v, notices %q", report.Descriptor, err, notices)
	}

	_, err = pullOnce(t, reg, one.Name(), pull.Options{Platforms: []oci.Platform{{OS: "linux", Architecture: "s390x"}}})
	if !errors.Is(err, graph.ErrPlatform) || !strings.Contains(err.Error(), "linux/arm64") {
		t.Errorf("for s390x: %v", err)
	}
}

// carvel-dev/imgpkg#216, google/go-containerregistry#683: layers that are not distributed are
// skipped by name, and no address in "urls" is asked.
func TestForeignLayer(t *testing.T) {
	asked := 0
	elsewhere := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++ }))
	reg := servetest.New(t, serve.Options{})
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeDockerManifest}
	config := []byte(`{"architecture":"amd64","os":"windows","rootfs":{"type":"layers","diff_ids":[]}}`)
	reg.PutBlob("app", config)
	m.Config = oci.Describe(oci.MediaTypeDockerConfig, config)
	foreign := oci.Describe(oci.MediaTypeDockerLayerForeign, digesttest.Noise(100, 9))
	foreign.URLs = []string{"http://" + elsewhere + "/layer"}
	m.Layers = []oci.Descriptor{foreign}
	putDoc(t, reg, "latest", oci.MediaTypeDockerManifest, m)
	l := layouttest.New(t)
	var notices []string
	var planned, passed int64
	report, err := pullOnce(t, reg, l.Name(), pull.Options{
		Notice: func(s string) { notices = append(notices, s) },
		Progress: func(p progress.Event) {
			switch p.Kind {
			case "plan":
				planned += p.Size
			case "done", "skip":
				passed += p.Size
			}
		},
	})
	if err != nil || action(report, foreign.Digest).Action != "skip" {
		t.Fatalf("pull: %+v, %v", report, err)
	}
	if planned != passed {
		t.Errorf("%d bytes were planned and %d came or were skipped", planned, passed)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], foreign.Digest.String()) {
		t.Errorf("notices %q, want one that names %s", notices, foreign.Digest)
	}
	// A layer of the usual kind may have urls, too: they are no way out.
	m.Layers[0].MediaType = oci.MediaTypeLayerGzip
	putDoc(t, reg, "latest", oci.MediaTypeDockerManifest, m)
	if _, err := pullOnce(t, reg, l.Name(), pull.Options{}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("pull without a layer: %v", err)
	}
	if asked > 0 {
		t.Errorf("urls were asked %d times", asked)
	}
}

// google/go-containerregistry#1767, oras-project/oras#2174: what refers to an image comes with
// it; what is only listed so does not, and does not keep the rest.
func TestReferrers(t *testing.T) {
	for _, status := range []int{0, 404} {
		reg := servetest.New(t, serve.Options{})
		var h http.Handler = reg
		if status != 0 {
			h = servetest.BreakIf(1000, func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/referrers/") }, servetest.Answer(status, ""), reg)
		}
		desc := putImage(t, reg, "latest", "amd64", 100)
		empty := oci.Describe(oci.MediaTypeEmpty, []byte("{}"))
		reg.PutBlob("app", []byte("{}"))
		attach := func(subject oci.Descriptor, note string) oci.Descriptor {
			reg.PutBlob("app", []byte(note))
			layer := oci.Describe("text/plain", []byte(note))
			return putDoc(t, reg, "", oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x-sbom", Config: empty, Layers: []oci.Descriptor{layer}, Subject: &subject})
		}
		sbom := attach(desc, "sbom")
		signature := attach(sbom, "signature")
		wrong := putImage(t, reg, "", "arm64", 50)
		if status == 404 {
			list := func(subject oci.Descriptor, entries ...oci.Descriptor) {
				putDoc(t, reg, graph.FallbackTag(subject.Digest), oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: entries})
			}
			list(desc, sbom, wrong, oci.Describe(oci.MediaTypeManifest, []byte("deleted since")))
			list(sbom, signature)

			// A tag that is not there is not allowed, either: so some registries answer.
			unnamed := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, ".sig") }
			h = servetest.BreakIf(1000, unnamed, servetest.Answer(403, ""), h)
		}
		l := layouttest.New(t)
		if _, err := pullOnce(t, h, l.Name(), pull.Options{Referrers: true, Notice: func(string) {}}); err != nil {
			t.Fatal(err)
		}
		for _, d := range []oci.Descriptor{sbom, signature} {
			if err := graph.Check(l, d, graph.Rules{}); err != nil {
				t.Errorf("API answers %d: referrer %s: %v", status, d.Digest, err)
			}
		}
		x, _ := l.Index()
		if len(x.Manifests) != 3 {
			t.Errorf("API answers %d: index.json has %+v, want three entries", status, x.Manifests)
		}
		if _, err := l.Stat(wrong.Digest); err == nil {
			t.Errorf("API answers %d: a false referrer was pulled", status)
		}
		layouttest.MustVerify(t, l)
	}
}

// Wrong bytes are never stored under a right digest, and nothing is kept of them.
func TestWrongBytes(t *testing.T) {
	for name, fault := range map[string]servetest.Fault{
		"other bytes": servetest.Answer(200, string(digesttest.Noise(1000, 77))),
		"fewer":       servetest.Answer(200, "short"),
		"more":        servetest.Answer(200, string(digesttest.Noise(1001, 1))),
		"length 0":    servetest.Answer(200, ""),
	} {
		reg := servetest.New(t, serve.Options{})
		putImage(t, reg, "latest", "amd64", 1000)
		l := layouttest.New(t)
		layer := digest.FromBytes(digesttest.Noise(1000, 1))
		b := servetest.BreakIf(1000, func(r *http.Request) bool { return isBlobGet(r) && strings.Contains(r.URL.Path, layer.Encoded()) }, fault, reg)
		_, err := pullOnce(t, b, l.Name(), pull.Options{})
		if err == nil || named(t, l) {
			t.Errorf("%s: err %v, named %t", name, err, named(t, l))
		}
		if _, err := l.Stat(layer); err == nil {
			t.Errorf("%s: it is stored", name)
		}
		if left := leftovers(t, l.Name()); name != "length 0" && name != "fewer" && len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestWrongManifests(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	child := putImage(t, reg, "", "amd64", 10)
	for name, change := range map[string]func(*oci.Descriptor){
		"size":      func(d *oci.Descriptor) { d.Size++ },
		"type":      func(d *oci.Descriptor) { d.MediaType = oci.MediaTypeDockerManifest },
		"absent":    func(d *oci.Descriptor) { d.Digest = digest.FromBytes([]byte("nothing")) },
		"too large": func(d *oci.Descriptor) { d.Size = 1 << 40 },
	} {
		d := child
		change(&d)
		putDoc(t, reg, "latest", oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{d}})
		l := layouttest.New(t)
		if _, err := pullOnce(t, reg, l.Name(), pull.Options{}); err == nil || named(t, l) {
			t.Errorf("%s: err %v", name, err)
		}
	}
	// One digest with two sizes, and one that cannot be verified.
	blob := oci.Describe(oci.MediaTypeLayerGzip, digesttest.Noise(10, 1))
	bigger := blob
	bigger.Size++
	unknown := blob
	unknown.Digest, _ = digest.Parse("blake3:" + strings.Repeat("a", 64))
	for _, layers := range [][]oci.Descriptor{{blob, bigger}, {unknown}} {
		config := []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`)
		reg.PutBlob("app", config)
		putDoc(t, reg, "latest", oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: oci.Describe(oci.MediaTypeConfig, config), Layers: layers})
		if _, err := pullOnce(t, reg, layouttest.New(t).Name(), pull.Options{}); err == nil {
			t.Errorf("layers %+v: no error", layers)
		}
	}
}

// Twenty pulls at once into one layout share the work and lose nothing.
func TestParallelPulls(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	putImage(t, reg, "latest", "amd64", 200_000, 100_000, 50_000)
	l := layouttest.New(t)
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() { _, errs[i] = pullOnce(t, reg, l.Name(), pull.Options{Jobs: 3}) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	layouttest.MustVerify(t, l)
	if left := leftovers(t, l.Name()); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	gets := 0
	for _, r := range reg.Requests() {
		if r.Method == http.MethodGet && strings.Contains(r.Path, digest.FromBytes(digesttest.Noise(200_000, 1)).Encoded()) {
			gets++
		}
	}
	if gets != 1 {
		t.Errorf("a layer was fetched %d times by 20 pulls, want once", gets)
	}
}

func TestCancel(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	putImage(t, reg, "latest", "amd64", 5_000_000)
	l := layouttest.New(t)
	ref, _ := registry.ParseReference(servetest.Serve(t, reg) + "/app:latest")
	c := servetest.Client(t, ref.Host, registry.Options{PlainHTTP: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	o := pull.Options{Progress: func(p progress.Event) {
		if p.Kind == "bytes" {
			cancel(stop)
		}
	}}
	im, err := pull.Find(ctx, c, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.Pull(ctx, l, im.Desc); !errors.Is(err, stop) || named(t, l) {
		t.Fatalf("err %v, named %t", err, named(t, l))
	}
	if _, err := pullOnce(t, reg, l.Name(), pull.Options{}); err != nil {
		t.Fatal(err)
	}
	layouttest.MustVerify(t, l)
	err = filepath.WalkDir(l.Name(), func(p string, e fs.DirEntry, err error) error { return err })
	if err != nil {
		t.Fatal(err)
	}
}

// An interrupt does not wait until the blobs that are there have been read, nor is one that was not
// read to its end taken for broken.
func TestInterruptOfLocalBlobs(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	putImage(t, reg, "latest", "amd64", 5_000_000)
	host, dir := servetest.Serve(t, reg), layouttest.New(t).Name()
	if _, err := pullOnce(t, reg, dir, pull.Options{}); err != nil {
		t.Fatal(err)
	}
	ref, _ := registry.ParseReference(host + "/app:latest")
	c := servetest.Client(t, ref.Host, registry.Options{PlainHTTP: true})
	im, err := pull.Find(t.Context(), c, ref, pull.Options{})
	if err != nil {
		t.Fatal(err)
	}

	stop := errors.New("stop")
	for what, do := range map[string]func(context.Context, *layout.Layout) error{
		"plan": func(ctx context.Context, l *layout.Layout) error { _, err := im.Plan(ctx, l, im.Desc); return err },
		"pull": func(ctx context.Context, l *layout.Layout) error { _, err := im.Pull(ctx, l, im.Desc); return err },
	} {
		l, err := layout.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		var read atomic.Int64
		l.Watch(func(e progress.Event) {
			if e.Kind == progress.Bytes && e.Size == 5_000_000 {
				read.Store(e.Offset)
				cancel(stop)
			}
		})
		if err := do(ctx, l); !errors.Is(err, stop) || read.Load() > 1_000_000 {
			t.Errorf("%s: %v after %d bytes", what, err, read.Load())
		}
	}
}
