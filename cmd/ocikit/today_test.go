package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// A store makes the layouts of this test.
type todayStore struct {
	t *testing.T
	l *layout.Layout
}

func newTodayStore(t *testing.T, dir string) todayStore {
	t.Helper()
	l, err := layout.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return todayStore{t, l}
}

func (s todayStore) blob(mediaType string, data []byte) oci.Descriptor {
	s.t.Helper()
	d, size, err := s.l.Put(bytes.NewReader(data), digest.Digest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: size}
}

func (s todayStore) document(mediaType string, v any) oci.Descriptor {
	s.t.Helper()
	data, err := oci.Encode(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.blob(mediaType, data)
}

// image stores an image for a platform that has one file, called like it.
func (s todayStore) image(platform string) oci.Descriptor {
	s.t.Helper()
	p, err := oci.ParsePlatform(platform)
	if err != nil {
		s.t.Fatal(err)
	}
	data := plainTar(strings.ReplaceAll(platform, "/", "-") + " x")
	config := oci.NewConfig(p)
	if err := config.AddLayer(digest.FromBytes(data), oci.History{}); err != nil {
		s.t.Fatal(err)
	}
	doc, err := config.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	desc := s.document(oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest,
		Config: s.blob(oci.MediaTypeConfig, doc), Layers: []oci.Descriptor{s.blob(oci.MediaTypeLayer, data)},
	})
	desc.Platform = &p
	return desc
}

// attestation stores what BuildKit puts beside an image.
func (s todayStore) attestation(about oci.Descriptor) oci.Descriptor {
	config := s.blob(oci.MediaTypeConfig, []byte(`{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":["`+
		digest.FromBytes([]byte("{}")).String()+`"]}}`))
	desc := s.document(oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: config,
		Layers: []oci.Descriptor{s.blob("application/vnd.in-toto+json", []byte("{}"))},
	})
	desc.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
	return desc.WithAnnotation(oci.AnnotationAttestation, "attestation-manifest").WithAnnotation(oci.AnnotationAttested, about.Digest.String())
}

func (s todayStore) index(entries ...oci.Descriptor) oci.Descriptor {
	return s.document(oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: entries})
}

// name lists an image in index.json as other programs do, whole or not.
func (s todayStore) name(desc oci.Descriptor, tag string) {
	s.t.Helper()
	err := s.l.Update(context.Background(), func(x *oci.Index) error {
		x.Manifests = append(x.Manifests, desc.WithAnnotation(oci.AnnotationRefName, tag))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s todayStore) remove(descs ...oci.Descriptor) {
	s.t.Helper()
	for _, d := range descs {
		if err := s.l.RemoveBlob(d.Digest); err != nil {
			s.t.Fatal(err)
		}
	}
}

// todayImages makes the images that builders of today write, each a layout of its own below dir.
func todayImages(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) todayStore { return newTodayStore(t, filepath.Join(dir, name)) }

	s := at("attested")
	amd := s.image("linux/amd64")
	s.name(s.index(amd, s.attestation(amd)), "v1")

	s = at("sparse") // as Docker 29 saves one platform of three
	amd, arm, s390x := s.image("linux/amd64"), s.image("linux/arm64"), s.image("linux/s390x")
	x := s.index(arm, amd, s.attestation(amd), s390x)
	s.remove(arm, s390x)
	s.name(x, "v1")

	s = at("several")
	s.name(s.index(s.image("linux/amd64"), s.image("linux/arm64")), "v1")

	s = at("deep") // eighteen indexes in one another
	desc := s.image("linux/amd64")
	for range 18 {
		desc = s.index(desc)
	}
	s.name(desc, "v1")

	s = at("zstd") // Docker's type with a suffix of its own, and a diff ID that is not its content's
	data := plainTar("a x")
	config := oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"})
	if err := config.AddLayer(digest.FromBytes([]byte("wrong")), oci.History{}); err != nil {
		t.Fatal(err)
	}
	doc, err := config.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.name(s.document(oci.MediaTypeDockerManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeDockerManifest, Config: s.blob(oci.MediaTypeDockerConfig, doc),
		Layers: []oci.Descriptor{s.blob(oci.MediaTypeDockerLayer+".zstd", zstdOf(data))},
	}), "v1")

	s = at("artifact") // oras push notes.txt: what has no type is called a layer
	file := s.blob(oci.MediaTypeLayer, []byte("just a note\n")).WithAnnotation("org.opencontainers.image.title", "docs/notes.txt")
	s.name(s.document(oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x.notes",
		Config: s.blob(oci.MediaTypeEmpty, []byte("{}")), Layers: []oci.Descriptor{file},
	}), "v1")

	s = at("climbing") // an artifact whose file would be written elsewhere
	file = s.blob("text/plain", []byte("x")).WithAnnotation("org.opencontainers.image.title", "../outside")
	s.name(s.document(oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x.notes",
		Config: s.blob(oci.MediaTypeEmpty, []byte("{}")), Layers: []oci.Descriptor{file},
	}), "v1")
}

// Every command that reads an image reads those of today, and says what it sees.
func TestImagesOfToday(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	todayImages(t, dir)

	for _, tt := range []struct {
		command string
		status  int
		want    string // a pattern of both outputs together
	}{
		// An index of one image and its attestation is a lone image.
		{"files attested", 0, `^f 0644 .* linux-amd64\n$`},
		{"layers attested", 0, `containerd.io/uncompressed`},
		{"export attested -o attested.tar", 0, `^$`},
		{"extract attested attested.d --rootless", 0, `^`},
		{"diff attested attested.tar", 0, `^$`},
		{"config --from attested -o config.json", 0, `^$`},
		{"verify attested --deep", 0, `^$`},
		{"inspect attested", 0, `attestation sha256:\w+ .* about sha256:`},
		{"cat attested", 0, `"manifests"`},
		{"resolve attested --platform linux/amd64", 0, `image.manifest`},
		{"resolve attested --platform unknown/unknown", 4, `no image for unknown/unknown: it has linux/amd64`},
		{"save attested -o attested.oci.tar", 0, ``},
		{"append attested --layer attested.tar -t more", 0, `left out .*: it attests`},
		{"mutate attested:v1 --env A=b -t env", 0, `left out .*: it attests`},
		{"flatten attested:v1 -t flat", 0, `left out .*: it attests`},
		{"files attested:env", 0, `linux-amd64`},
		{"verify attested --deep", 0, `^$`},

		// One platform of several is there: it is taken, and the rest is named.
		{"files sparse", 0, `index names images that are not here: linux/arm64, linux/s390x\nf 0644 .* linux-amd64|f 0644 .* linux-amd64\n(.|\n)*not here: linux/arm64, linux/s390x`},
		{"files sparse --platform linux/amd64 -q", 0, `^f 0644 .* linux-amd64\n$`},
		{"files sparse --platform linux/arm64", 4, `image for linux/arm64: blob sha256:\w+: not found`},
		{"export sparse -o sparse.tar", 0, `not here`},
		{"inspect sparse", 0, `linux/arm64 .* ABSENT`},
		{"verify sparse", 1, `manifest-absent .*: got absent, want linux/arm64`},
		{"verify sparse --sparse", 0, `manifest-absent .*note`},
		{"verify sparse --deep --sparse", 0, `note`},
		{"copy sparse carried", 1, `image is incomplete`},
		{"copy sparse carried --sparse", 0, `image.index`},
		{"save sparse -o sparse.oci.tar", 1, `image is incomplete`},
		{"save sparse --sparse -o sparse.oci.tar", 0, ``},
		{"load loaded sparse.oci.tar", 0, `is sparse: the archive does not hold linux/arm64, linux/s390x`},
		{"files loaded -q", 0, `linux-amd64`},
		{"bundle sparse --sparse -o sparse.bundle", 0, ``},
		{"tag sparse:again sparse.json", 0, `image.index`},
		{"mutate sparse:v1 --env A=b -t env", 0, `left sha256:\w+ for linux/arm64 as it is`},
		{"gc sparse", 1, `not collecting garbage`},
		{"gc sparse --sparse", 0, ``},

		{"files several", 4, `no single image: it is an index of 2, for linux/amd64, linux/arm64\nhint: name one with --platform`},
		{"files several --platform linux/arm64", 0, `linux-arm64`},
		{"verify several --deep", 0, `^$`},

		{"files deep", 0, `linux-amd64`},
		{"inspect deep", 0, `manifest`},
		{"verify deep --deep", 0, `index-depth .*warning`},
		{"copy deep deep2", 0, `image.index`},
		{"mutate deep --env A=b -t env", 0, ``},
		{"save deep:v1 -o deep.tar", 0, ``},

		{"verify zstd --deep", 1, `diff-id `},
		{"extract zstd zstd.d", 1, `diff ID of its content: .*`},
		{"files zstd", 1, `diff ID of its content`},

		{"verify artifact --deep", 0, `^$`},
		{"files artifact", 0, `docs/notes.txt`},
		{"extract artifact bundle.d --bundle --dry-run", 1, `a runtime cannot run it`},
		{"extract artifact artifact.d", 0, `is an artifact: 1 file, by title`},
		{"export artifact", 1, `not an image with a file system`},
		{"files climbing", 1, `is not a name of a file`},
		{"extract climbing climbing.d", 1, `is not a name of a file`},
	} {
		if strings.HasPrefix(tt.command, "tag ") {
			_, out, _ := runOcikit(t.Context(), strings.NewReader(""), "resolve", "sparse")
			if err := os.WriteFile("sparse.json", []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		status, stdout, stderr := runOcikit(t.Context(), strings.NewReader(""), strings.Fields(tt.command)...)
		if status != tt.status || !regexp.MustCompile(tt.want).MatchString(stderr+stdout) {
			t.Errorf("ocikit %s: status %d, want %d and %q\n[stdout]\n%s\n[stderr]\n%s", tt.command, status, tt.status, tt.want, stdout, stderr)
		}
	}

	if text, err := os.ReadFile("artifact.d/docs/notes.txt"); err != nil || string(text) != "just a note\n" {
		t.Errorf("the artifact's file is %q, %v", text, err)
	}
	if _, err := os.Stat("climbing.d"); err == nil {
		t.Error("a failed extract left its directory")
	}
}

// What BuildKit 0.34 writes for two platforms: each image has an attestation beside it, which names it
// as its subject. testdata/buildkit-attested.tar is
//
//	buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=. \
//	  --opt build-arg:SOURCE_DATE_EPOCH=0 --opt attest:provenance=mode=min \
//	  --opt platform=linux/amd64,linux/arm64 \
//	  --output type=oci,dest=buildkit-attested.tar,name=docker.io/library/app:v1,rewrite-timestamp=true
//
// of a Dockerfile with FROM scratch, COPY hello /bin/hello and ENV PATH=/bin.
func TestBuildKit(t *testing.T) {
	data, err := os.ReadFile("testdata/buildkit-attested.tar")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	writeTestFile(t, "bk.tar", string(data))
	reg := startServe(t, "repositories", "--log", "none")

	const hello, amd = `(?m)^f 0755 0:0 20 0 bin/hello$|^f 0644 0:0 20 0 bin/hello$`, " --platform linux/amd64"
	for _, tt := range []struct {
		command string
		status  int
		want    string // a pattern of both outputs together
	}{
		{"files bk.tar", 4, `no single image: it is an index of 2, for linux/amd64, linux/arm64\n`},
		{"files bk.tar" + amd, 0, hello},
		{"inspect bk.tar", 0, `attestation sha256:\w+ .* about sha256:`},
		{"load app bk.tar", 0, `image.index`},
		{"ls app", 0, `^v1\n$`},
		{"verify app --deep", 0, `^$`},
		{"export app -o amd64.tar" + amd, 0, `^$`},
		{"extract app amd64.d --rootless" + amd, 0, ``},
		{"diff app amd64.tar" + amd, 0, `^$`},
		{"layers app" + amd, 0, `containerd.io/uncompressed`},
		{"config --from app -o config.json" + amd, 0, `^$`},
		{"copy app copied --referrers", 0, `(?m)^ocikit: 0 referrers$`}, // the index lists what attests
		{"ls copied", 0, `^v1\n$`},
		{"copy app alone --referrers" + amd, 0, `(?m)^ocikit: 1 referrer$`},
		{"bundle app -o app.bundle", 0, ``},
		{"unbundle far app.bundle", 0, `image.index`},
		{"save app -o saved.tar", 0, ``},
		{"files saved.tar -q" + amd, 0, hello},
		{"push app REG/app:v1", 0, ``},
		{"pull REG/app:v1 pulled", 0, `image.index`},
		{"mutate app:v1 --env A=b -t env", 0, `left out .*: it attests`},
		{"append app:v1 --layer amd64.tar -t more", 0, `left out .*: it attests`},
		{"convert app:v1 --compress zstd -t zstd", 0, ``},
		{"flatten app:v1 -t flat", 0, `left out .*: it attests`},
		{"gc app --min-age 0s", 0, `^$`},
		{"verify app --deep", 0, `^$`},
		{"verify far --deep", 0, `^$`},
		{"verify pulled --deep", 0, `^$`},
	} {
		command := strings.ReplaceAll(tt.command, "REG", reg)
		status, stdout, stderr := runOcikit(t.Context(), strings.NewReader(""), strings.Fields(command)...)
		if status != tt.status || !regexp.MustCompile(tt.want).MatchString(stderr+stdout) {
			t.Errorf("ocikit %s: status %d, want %d and %q\n[stdout]\n%s\n[stderr]\n%s", command, status, tt.status, tt.want, stdout, stderr)
		}
	}
}
