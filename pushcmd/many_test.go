package pushcmd_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/oci/source"
	"ocikit/pushcmd"
)

var everything = registry.Reference{Host: "r.test", Repo: "app"}

// all says where the images of s go.
func all(t *testing.T, s *store, to registry.Reference) []pushcmd.Image {
	t.Helper()
	var images []pushcmd.Image
	for _, desc := range s.index.Manifests {
		images = append(images, pushcmd.Image{Source: s, Desc: desc})
	}
	images, err := pushcmd.Destinations(images, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// named puts n images into s, each of a repository of its own, with a config and a layer of its own on
// one of some bases that they share.
func named(t *testing.T, s *store, n, bases int) { namedOn(t, s, n, bases, 1000) }

// namedOn is named with bases of a size in bytes, or a few more.
func namedOn(t *testing.T, s *store, n, bases, base int) {
	t.Helper()
	for i := range n {
		m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
		m.Config = s.put(t, oci.MediaTypeConfig, fmt.Appendf(nil, `{"architecture":"amd64","author":"%d","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`, i))
		for seed, size := range []int{base + i%bases, 2000 + i} {
			m.Layers = append(m.Layers, s.put(t, oci.MediaTypeLayerGzip, digesttest.Noise(size, seed)))
		}
		desc := s.doc(t, oci.MediaTypeManifest, m)
		s.index.Manifests = append(s.index.Manifests, desc.WithAnnotation(oci.AnnotationRefName, fmt.Sprintf("r.test/team/app%d:v1", i)))
	}
}

// Requests grow with the number of images, not with its square: what is in one repository is
// mounted into the next from there, and other repositories are not asked. It costs no image more than
// a tag, an upload of each blob in two requests, and a manifest; not the first ones either, before it
// is known that the registry mounts.
func TestPushAllIsLinear(t *testing.T) {
	const n, bases = 40, 10
	s := newStore(t)
	named(t, s, n, bases)
	client := newClient(t, servetest.Serve(t, servetest.NewQuirky(t)))
	cost := func(most int64) (sum int64) {
		t.Helper()
		reports, err := pushcmd.PushAll(t.Context(), client.Client, all(t, s, everything), pushcmd.Options{})
		if err != nil || len(reports) != n {
			t.Fatal(len(reports), err)
		}
		for i, r := range reports {
			if sum += r.Requests; r.Requests > most {
				t.Errorf("image %d: %d requests, want at most %d", i, r.Requests, most)
			}
		}
		return sum
	}
	if cold := cost(8); cold > 7*n+bases+1 { // one more for the first that is mounted
		t.Errorf("%d requests for %d images", cold, n)
	}
	cost(1) // for those that are there
}

// Large bases cost no more: the first image of each asks for its base in place of its tag, and sends it in
// one PUT. What is there already is found by two questions at most, and by one behind the first image.
func TestPushAllOnLargeBases(t *testing.T) {
	const n, bases = 9, 3
	s := newStore(t)
	namedOn(t, s, n, bases, 5<<20)
	reg := servetest.NewQuirky(t)
	client := newClient(t, servetest.Serve(t, reg))
	for _, most := range []int64{8, 2} {
		reports, err := pushcmd.PushAll(t.Context(), client.Client, all(t, s, everything), pushcmd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range reports {
			if r.Requests > most || most == 2 && i > 0 && r.Requests != 1 {
				t.Errorf("image %d: %d requests, want at most %d", i, r.Requests, most)
			}
			if want := all(t, s, everything)[i].Desc.Digest; reg.Tag(fmt.Sprintf("app/team/app%d", i), "v1") != want {
				t.Errorf("image %d is not there", i)
			}
		}
	}

	// A base that another push left behind is not sent again, though its tag is missing.
	if err := client.DeleteManifest(t.Context(), "app/team/app0", all(t, s, everything)[0].Desc.Digest.String()); err != nil {
		t.Fatal(err)
	}
	reports, err := pushcmd.PushAll(t.Context(), client.Client, all(t, s, everything)[:1], pushcmd.Options{})
	if err != nil || reports[0].BytesSent > 5<<20 {
		t.Errorf("%d bytes were sent again, %v", reports[0].BytesSent, err)
	}
}

// A registry that does not mount answers as if it lacked what it has. What is sent to it in vain is
// only small blobs, and those only until it did not mount what it was known to have.
func TestPushAllWithoutMounts(t *testing.T) {
	s := newStore(t)
	named(t, s, 12, 10)
	reg := servetest.NewQuirky(t)
	reg.NoMount = http.StatusAccepted
	client := newClient(t, servetest.Serve(t, reg))
	reports, err := pushcmd.PushAll(t.Context(), client.Client, all(t, s, everything), pushcmd.Options{})
	if err != nil {
		t.Fatal(err)
	}

	// The base of image 10 is in the repository of image 0, and from image 11 on nothing is mounted.
	for i, want := range map[int]int64{9: 8, 11: 11} {
		if got := reports[i].Requests; got != want {
			t.Errorf("image %d: %d requests, want %d", i, got, want)
		}
	}
	for i, im := range all(t, s, everything) {
		if got := reg.Tag(im.To.Repo, "v1"); got != im.Desc.Digest {
			t.Errorf("image %d is %s", i, got)
		}
	}

	// Blobs that are there, of manifests that are gone, are found by asking.
	large := newStore(t)
	desc := large.image(t, 5<<20)
	large.index.Manifests = []oci.Descriptor{desc.WithAnnotation(oci.AnnotationRefName, "r.test/large:v1")}
	push := func() pushcmd.Report {
		t.Helper()
		reports, err := pushcmd.PushAll(t.Context(), client.Client, all(t, large, everything), pushcmd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return reports[0]
	}
	push()
	ref := registry.Reference{Host: "r.test", Repo: "app/large"}
	if err := client.DeleteManifest(t.Context(), ref.Repo, desc.Digest.String()); err != nil {
		t.Fatal(err)
	}
	if again := push(); again.BytesSent >= 5<<20 {
		t.Errorf("%d bytes were sent again", again.BytesSent)
	}
}

// An interrupt that comes when an image is just done ends the list with the interrupt. It once
// ended it with no cause at all, which read "%!w(<nil>)".
func TestPushAllIsInterruptedBetweenImages(t *testing.T) {
	s := newStore(t)
	named(t, s, 2, 1)
	images := all(t, s, everything)
	push := func(ctx context.Context, images []pushcmd.Image, told func()) ([]pushcmd.Report, error) {
		o := pushcmd.Options{Jobs: 1, Progress: func(progress.Event) { told() }}
		return pushcmd.PushAll(ctx, newClient(t, servetest.Serve(t, servetest.NewQuirky(t))).Client, images, o)
	}

	// The last step that is told of the first image comes behind its last request.
	steps := 0
	if _, err := push(t.Context(), images[:1], func() { steps++ }); err != nil {
		t.Fatal(err)
	}

	stop := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	reports, err := push(ctx, images, func() {
		if steps--; steps == 0 {
			cancel(stop)
		}
	})
	if !errors.Is(err, stop) || len(reports) != 1 {
		t.Errorf("PushAll() = %d reports, %v, want one and %v", len(reports), err, stop)
	}
}

// podman-container-tools/skopeo#1466: one bad image does not keep the others.
func TestPushAllGoesOn(t *testing.T) {
	s := newStore(t)
	named(t, s, 5, 1)
	broken := s.index.Manifests[1]
	os.Remove(s.path(s.blobs(t, broken)[2].Digest))
	s.index.Manifests[3] = s.index.Manifests[3].WithAnnotation(oci.AnnotationRefName, "R.test/Upper:v1")
	reg := servetest.NewQuirky(t)
	client := newClient(t, servetest.Serve(t, reg))
	reports, err := pushcmd.PushAll(t.Context(), client.Client, all(t, s, everything), pushcmd.Options{})
	var failed *source.Failures
	if !errors.As(err, &failed) || len(failed.Errs) != 2 || failed.Total != 5 || !errors.Is(err, graph.ErrIncomplete) {
		t.Fatalf("PushAll() = %v", err)
	}
	if text := err.Error(); !strings.Contains(text, "app1:v1") || !strings.HasSuffix(text, "; and 1 more") || strings.Contains(text, "\n") {
		t.Errorf("error %q", text)
	}
	for i, r := range reports {
		if bad := i == 1 || i == 3; bad != (r.Error != "") {
			t.Errorf("report %d: error %q", i, r.Error)
		}
	}
	for _, i := range []int{0, 2, 4} {
		if reg.Tag(fmt.Sprintf("app/team/app%d", i), "v1").IsZero() {
			t.Errorf("image %d is not there", i)
		}
	}
}

// A registry that is down is not waited for once for each image.
func TestPushAllGivesUp(t *testing.T) {
	s := newStore(t)
	named(t, s, 20, 1)
	client := newClient(t, servetest.Serve(t, servetest.BreakFrom(1, servetest.Answer(503, ""), nil)), func(o *registry.Options) { o.Retry = 0 })
	reports, err := pushcmd.PushAll(t.Context(), client.Client, all(t, s, everything), pushcmd.Options{})
	if err == nil || len(reports) != 3 {
		t.Errorf("%d reports, %v", len(reports), err)
	}
}

// sigstore/cosign#5098: a push that fails between a manifest and the list of referrers is repeated.
// After it the signature is found from the image, by whichever push came across it.
func TestRepeatedPushListsReferrer(t *testing.T) {
	s := newStore(t)
	image := s.image(t, 1000)
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x-sig", Subject: &image}
	m.Config = s.put(t, oci.MediaTypeEmpty, []byte("{}"))
	sig := s.doc(t, oci.MediaTypeManifest, m)
	s.index.Manifests = []oci.Descriptor{image, sig}
	for _, what := range []oci.Descriptor{image, sig} {
		reg := servetest.NewQuirky(t)
		reg.NoReferrers = 404
		isList := func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256-")
		}
		host := servetest.Serve(t, servetest.BreakIf(1, isList, servetest.Answer(500, ""), reg))
		client := newClient(t, host, func(o *registry.Options) { o.Retry = 0 })
		o := pushcmd.Options{Referrers: what.Digest == image.Digest}
		ref := registry.Reference{Host: "r.test", Repo: "app", Tag: "x"}
		if _, err := pushcmd.Push(t.Context(), client.Client, s, image, repo, pushcmd.Options{}); err != nil {
			t.Fatal(err)
		}
		if _, err := pushcmd.Push(t.Context(), client.Client, s, what, ref, o); err == nil {
			t.Fatal("the first push did not fail")
		}
		again := newClient(t, host)
		if _, err := pushcmd.Push(t.Context(), again.Client, s, what, ref, o); err != nil {
			t.Fatal(err)
		}
		list, err := again.Referrers(t.Context(), "app", image.Digest, "")
		if err != nil || len(list.Descriptors) != 1 || list.Descriptors[0].Digest != sig.Digest {
			t.Errorf("push of %s: Referrers() = %+v, %v", what.Digest, list, err)
		}
	}
}

// distribution/distribution#4702: a registry lost a blob behind a manifest that is still there. A
// push that checks finds and mends it.
func TestCheckMends(t *testing.T) {
	s := newStore(t)
	image := s.image(t, 1000, 2000)
	lost := s.blobs(t, image)[1]
	reg := servetest.NewQuirky(t)
	client := newClient(t, servetest.Serve(t, reg))
	push := func(o pushcmd.Options) {
		t.Helper()
		if _, err := pushcmd.Push(t.Context(), client.Client, s, image, repo, o); err != nil {
			t.Fatal(err)
		}
	}
	push(pushcmd.Options{})
	reg.Remove("app", lost.Digest) // a client may not: the manifest names it
	_, lacks, err := client.Check(t.Context(), repo, false)
	if err != nil || len(lacks) != 1 || lacks[0].Descriptor.Digest != lost.Digest || !errors.Is(lacks[0].Err, registry.ErrNotFound) {
		t.Errorf("Check() = %+v, %v", lacks, err)
	}
	push(pushcmd.Options{}) // believes the tag
	if reg.Has("app", lost.Digest) {
		t.Fatal("the blob is there already")
	}
	push(pushcmd.Options{Check: true})
	for _, deep := range []bool{false, true} {
		if _, lacks, err := client.Check(t.Context(), repo, deep); err != nil || len(lacks) != 0 {
			t.Errorf("deep %t: Check() = %+v, %v", deep, lacks, err)
		}
	}
}

// What is damaged is found by reading it.
func TestDeepCheck(t *testing.T) {
	s := newStore(t)
	image := s.image(t, 1000)
	layer := s.blobs(t, image)[1]
	reg := servetest.NewQuirky(t)
	flip := func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
			w.Write(make([]byte, layer.Size))
			return
		}
		h.ServeHTTP(w, r)
	}
	client := newClient(t, servetest.Serve(t, servetest.BreakFrom(1, flip, reg)))
	if _, err := pushcmd.Push(t.Context(), client.Client, s, image, repo, pushcmd.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, lacks, err := client.Check(t.Context(), repo, false); err != nil || len(lacks) != 0 {
		t.Errorf("Check() = %+v, %v", lacks, err)
	}
	if _, lacks, err := client.Check(t.Context(), repo, true); err != nil || len(lacks) != 1 || !errors.Is(lacks[0].Err, digest.ErrMismatch) {
		t.Errorf("deep: Check() = %+v, %v", lacks, err)
	}
}
