package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/oci/progress"
)

// A sample is an image in parts, to be spoiled.
type sample struct {
	layers   [][]byte
	types    []string
	diffIDs  []digest.Digest
	history  []oci.History
	config   string // media type
	manifest string
	platform *oci.Platform
	edit     func(config map[string]any) // if set
}

func tarOf(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, hdr := range entries {
		content := strings.Repeat("x", int(hdr.Size))
		if err := w.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newSample(t *testing.T) *sample {
	one := tarOf(t, tar.Header{Name: "a", Size: 1000, Mode: 0o644, Typeflag: tar.TypeReg})
	two := tarOf(t, tar.Header{Name: "b", Size: 10, Mode: 0o644, Typeflag: tar.TypeReg})
	return &sample{
		layers: [][]byte{digesttest.Gzipped(one), two}, types: []string{oci.MediaTypeLayerGzip, oci.MediaTypeLayer},
		diffIDs: []digest.Digest{digest.FromBytes(one), digest.FromBytes(two)},
		history: []oci.History{{CreatedBy: "one"}, {CreatedBy: "env", EmptyLayer: true}, {CreatedBy: "two"}},
		config:  oci.MediaTypeConfig, manifest: oci.MediaTypeManifest,
		platform: &oci.Platform{OS: "linux", Architecture: "amd64"},
	}
}

// store makes a layout with an index of the image, named "t".
func (s *sample) store(t *testing.T) *layout.Layout {
	t.Helper()
	l := layouttest.New(t)
	m := oci.Manifest{SchemaVersion: 2, MediaType: s.manifest}
	config := map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": s.diffIDs}, "history": s.history}
	if s.edit != nil {
		s.edit(config)
	}
	m.Config = layouttest.Put(t, l, s.config, config)
	for i, data := range s.layers {
		d, size, err := l.Put(bytes.NewReader(data), digest.Digest{})
		if err != nil {
			t.Fatal(err)
		}
		m.Layers = append(m.Layers, oci.Descriptor{MediaType: s.types[i], Digest: d, Size: size})
	}
	desc := layouttest.Put(t, l, s.manifest, m)
	desc.Platform = s.platform
	indexType := oci.MediaTypeIndex
	if s.manifest == oci.MediaTypeDockerManifest {
		indexType = oci.MediaTypeDockerList
	}
	index := layouttest.Put(t, l, indexType, oci.Index{SchemaVersion: 2, MediaType: indexType, Manifests: []oci.Descriptor{desc}})
	if err := l.Tag(t.Context(), "t", index, layout.TagOptions{}); err != nil {
		t.Fatal(err)
	}
	return l
}

// Each defect that other tools were seen to copy on is found under its code, and images
// that are merely unusual raise no alarm.
func TestVerifyDeep(t *testing.T) {
	noise := bytes.Repeat([]byte("noise"), 1000)
	sha512 := func(data []byte) digest.Digest {
		d, _, err := digest.FromReader(digest.SHA512, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		name  string
		spoil func(s *sample)
		want  []string // "CODE severity"
	}{
		{"whole", func(s *sample) {}, nil},
		{"Docker's types", func(s *sample) {
			s.manifest, s.config = oci.MediaTypeDockerManifest, oci.MediaTypeDockerConfig
			s.types = []string{oci.MediaTypeDockerLayerGzip, oci.MediaTypeDockerLayer}
		}, nil},
		{"sha512 diff IDs", func(s *sample) {
			two := s.layers[1]
			s.diffIDs[1] = sha512(two)
		}, nil},
		{"no history", func(s *sample) { s.history = nil }, nil},
		{"no platform", func(s *sample) { s.platform = nil }, nil},
		{"variant in the index only", func(s *sample) { s.platform.Variant = "v2" }, nil},
		{"tar without its end", func(s *sample) {
			s.layers[1] = s.layers[1][:1024]
			s.diffIDs[1] = digest.FromBytes(s.layers[1])
		}, []string{"layer-no-end warning"}},
		{"tar without its last padding", func(s *sample) {
			s.layers[1] = s.layers[1][:522]
			s.diffIDs[1] = digest.FromBytes(s.layers[1])
		}, []string{"layer-no-end warning"}},
		{"wrong diff ID", func(s *sample) { s.diffIDs[0] = s.diffIDs[1] }, []string{"diff-id error"}},
		{"a diff ID that cannot be verified", func(s *sample) {
			var err error
			if s.diffIDs[0], err = digest.Parse("blake3:" + strings.Repeat("a", 64)); err != nil {
				t.Fatal(err)
			}
		}, []string{"digest-unsupported error"}},
		{"fewer diff IDs", func(s *sample) { s.diffIDs = s.diffIDs[:1] }, []string{"layer-count error"}},
		{"more diff IDs", func(s *sample) { s.diffIDs = append(s.diffIDs, s.diffIDs[0]) }, []string{"layer-count error"}},
		{"more history", func(s *sample) { s.history = append(s.history, s.history[0]) }, []string{"history-count error"}},
		{"less history", func(s *sample) { s.history = s.history[:1] }, []string{"history-count warning"}},
		{"another platform", func(s *sample) { s.platform.Architecture = "arm64" }, []string{"platform-mismatch error"}},
		{"gzip under the type of a tar", func(s *sample) { s.types[0] = oci.MediaTypeLayer }, []string{"layer-type error"}},
		{"tar under the type of gzip", func(s *sample) { s.types[1] = oci.MediaTypeLayerGzip }, []string{"layer-type error"}},
		{"gzip of gzip", func(s *sample) {
			s.diffIDs[0] = digest.FromBytes(s.layers[0])
			s.layers[0] = digesttest.Gzipped(s.layers[0])
		}, []string{"layer-malformed error"}},
		{"a layer of Docker in an OCI manifest", func(s *sample) { s.types[0] = oci.MediaTypeDockerLayerGzip }, []string{"type-mixed error"}},
		{"a config of Docker in an OCI manifest", func(s *sample) { s.config = oci.MediaTypeDockerConfig }, []string{"type-mixed error"}},
		{"noise", func(s *sample) { s.layers[1], s.diffIDs[1] = noise, digest.FromBytes(noise) }, []string{"layer-malformed error"}},
		{"cut gzip", func(s *sample) { s.layers[0] = s.layers[0][:len(s.layers[0])-9] }, []string{"layer-malformed error"}},
		{"gzip with a wrong checksum", func(s *sample) { s.layers[0][len(s.layers[0])-6] ^= 1 }, []string{"layer-malformed error"}},
		{"bytes behind gzip", func(s *sample) { s.layers[0] = append(s.layers[0], 'x') }, []string{"layer-malformed error"}},
		{"cut tar", func(s *sample) {
			s.layers[1] = s.layers[1][:521]
			s.diffIDs[1] = digest.FromBytes(s.layers[1])
		}, []string{"layer-malformed error"}},
		{"xz under the type of gzip", func(s *sample) { s.layers[0] = []byte("\xfd7zXZ\x00 and so on") }, []string{"layer-type error"}},
		{"a name that climbs", func(s *sample) {
			s.layers[1] = tarOf(t, tar.Header{Name: "a/../../b", Mode: 0o644, Typeflag: tar.TypeReg})
			s.diffIDs[1] = digest.FromBytes(s.layers[1])
		}, []string{"layer-apply error"}},
		{"a hard link to what a lower layer has", func(s *sample) {
			s.layers[1] = tarOf(t, tar.Header{Name: "b", Linkname: "a", Typeflag: tar.TypeLink})
			s.diffIDs[1] = digest.FromBytes(s.layers[1])
		}, []string{"layer-surprise warning"}},
		{"an opaque whiteout at the root", func(s *sample) {
			s.layers[1] = tarOf(t, tar.Header{Name: ".wh..wh..opq", Typeflag: tar.TypeReg})
			s.diffIDs[1] = digest.FromBytes(s.layers[1])
		}, []string{"layer-surprise warning"}},
		{"a hard link to what no layer has", func(s *sample) {
			s.layers[1] = tarOf(t, tar.Header{Name: "b", Linkname: "c", Typeflag: tar.TypeLink})
			s.diffIDs[1] = digest.FromBytes(s.layers[1])
		}, []string{"layer-apply error"}},
		{"a path twice", func(s *sample) {
			s.layers[1] = tarOf(t, tar.Header{Name: "b", Typeflag: tar.TypeReg}, tar.Header{Name: "b", Typeflag: tar.TypeReg})
			s.diffIDs[1] = digest.FromBytes(s.layers[1])
		}, []string{"layer-duplicate error"}},
		{"x86_64", func(s *sample) {
			s.platform.Architecture = "x86_64"
			s.edit = func(c map[string]any) { c["architecture"] = "x86_64" }
		}, []string{"platform-unknown warning"}},
		{"Linux", func(s *sample) {
			s.platform = nil
			s.edit = func(c map[string]any) { c["os"] = "Linux" }
		}, []string{"platform-unknown warning"}},
		{"no architecture", func(s *sample) {
			s.platform = nil
			s.edit = func(c map[string]any) { delete(c, "architecture") }
		}, []string{"config-invalid warning"}},
		{"a variable without a value, and a port that is none", func(s *sample) {
			s.edit = func(c map[string]any) {
				c["config"] = map[string]any{"Env": []string{"A=", "PATH"}, "ExposedPorts": map[string]any{"80/tcp": map[string]any{}, "8000-8010": map[string]any{}, "http": map[string]any{}}}
			}
		}, []string{"config-invalid warning", "config-invalid warning"}},
		{"more layers than Docker mounts", func(s *sample) {
			for len(s.layers) <= 125 {
				s.layers, s.types = append(s.layers, s.layers[1]), append(s.types, s.types[1])
				s.diffIDs, s.history = append(s.diffIDs, s.diffIDs[1]), append(s.history, oci.History{CreatedBy: "more"})
			}
		}, []string{"layer-depth warning"}},
		{"a layer of a type that is none", func(s *sample) { s.types[1] = "application/x tar" }, []string{"media-type warning"}},
		{"another compression", func(s *sample) { s.types[0] = oci.MediaTypeLayer + "+lz4" }, []string{"layer-unchecked note"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSample(t)
			c.spoil(s)
			l := s.store(t)
			findings, _, err := Verify(t.Context(), l, layout.VerifyOptions{Deep: true})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range findings {
				got = append(got, fmt.Sprintf("%s %s", f.Code, f.Severity))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("Verify = %+v, want %q", findings, c.want)
			}
			if plain, _, err := Verify(t.Context(), l, layout.VerifyOptions{}); err != nil || len(plain) > 0 {
				t.Errorf("not deep: %+v, %v", plain, err)
			}
		})
	}
}

// What is applied is hashed on the way: no layer of a single image is read twice.
func TestVerifyDeepReadsOnce(t *testing.T) {
	l := newSample(t).store(t)
	var mu sync.Mutex
	reads := map[digest.Digest]int{}
	l.Watch(func(e progress.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == progress.Start {
			reads[e.Digest]++
		}
	})
	findings, sum, err := Verify(t.Context(), l, layout.VerifyOptions{Deep: true})
	if err != nil || len(findings) > 0 {
		t.Fatalf("Verify = %+v, %v", findings, err)
	}
	blobs, err := l.Blobs()
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, b := range blobs {
		size += b.Size
		desc, err := graph.Describe(l, b.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if desc.MediaType != oci.MediaTypeOctetStream && reads[b.Digest] == 0 {
			continue // the walk over the documents has verified it
		}
		if reads[b.Digest] != 1 {
			t.Errorf("blob %s of %d bytes: read %d times", b.Digest, b.Size, reads[b.Digest])
		}
	}
	if sum.Bytes != size {
		t.Errorf("verified %d bytes of %d", sum.Bytes, size)
	}
}

// A diff ID of null would be none, and the layer not be verified.
func TestCheckConfigNullDiffID(t *testing.T) {
	config, err := oci.ParseConfig([]byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[null]}}`))
	if err == nil {
		err = CheckConfig(config, []oci.Descriptor{{Digest: digest.FromBytes(nil)}})
	}
	if !errors.Is(err, oci.ErrMalformed) {
		t.Errorf("CheckConfig = %v, want %v", err, oci.ErrMalformed)
	}
}

// Of a blob that is damaged only that is said: what is inside it means nothing.
func TestVerifyDeepOfDamage(t *testing.T) {
	l := newSample(t).store(t)
	desc := loneImage(t, l)
	layers, err := Layers(l, desc)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(l.Name(), "blobs", "sha256", layers[0].Digest.Encoded())
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	findings, _, err := Verify(t.Context(), l, layout.VerifyOptions{Deep: true})
	if err != nil || len(findings) != 1 || findings[0].Code != layout.CodeBlobDigest {
		t.Errorf("Verify = %+v, %v", findings, err)
	}
	good := newSample(t).store(t)
	findings, _, err = Repair(context.Background(), l, layout.VerifyOptions{Deep: true}, good)
	if err != nil || len(findings) != 1 || findings[0].Severity != layout.SeverityRepaired {
		t.Errorf("Repair = %+v, %v", findings, err)
	}
}

// What is wrong with layers is wrong with each image that has them.
func TestVerifyDeepOfTwins(t *testing.T) {
	l, one := imageOf(t, tarOf(t, tar.Header{Typeflag: tar.TypeLink, Name: "link", Linkname: "nowhere"}))
	m, err := graph.Manifest(l, one)
	if err != nil {
		t.Fatal(err)
	}
	m.Annotations = oci.AnnotationsOf(map[string]string{"twin": "yes"})
	two := layouttest.Put(t, l, oci.MediaTypeManifest, m)

	findings, _, err := Verify(t.Context(), l, layout.VerifyOptions{Deep: true, Roots: []oci.Descriptor{one, two}})
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string]bool{}
	for _, f := range findings {
		if f.Code == layout.CodeLayerApply {
			wrong[f.Digest] = true
		}
	}
	if !wrong[one.Digest.String()] || !wrong[two.Digest.String()] {
		t.Errorf("Verify names %v, want both images: %+v", wrong, findings)
	}
}

// imageOf stores layers as an image and returns its manifest.
func imageOf(t *testing.T, layers ...[]byte) (*layout.Layout, oci.Descriptor) {
	t.Helper()
	s := &sample{config: oci.MediaTypeConfig, manifest: oci.MediaTypeManifest}
	for _, data := range layers {
		s.layers, s.types, s.diffIDs = append(s.layers, data), append(s.types, oci.MediaTypeLayer), append(s.diffIDs, digest.FromBytes(data))
	}
	l := s.store(t)
	desc := loneImage(t, l)
	return l, desc
}

func TestListFiles(t *testing.T) {
	file := func(name string, size int64) tar.Header {
		return tar.Header{Name: name, Size: size, Mode: 0o644, Typeflag: tar.TypeReg}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeDir} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Mode: 0o777, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Mode: 0o644, Typeflag: tar.TypeLink}
	}
	for _, c := range []struct {
		name   string
		layers [][]byte
		want   string // "type path layer[ fate:by]", lines joined by a comma
		wasted []int64
	}{
		{"one layer", [][]byte{tarOf(t, dir("./"), dir("./d/"), file("./d/a", 5), link("l", "d"), hard("h", "d/a"))},
			"d  0,d d 0,f d/a 0,h h 0,l l 0", []int64{0}},
		{"replaced", [][]byte{tarOf(t, file("a", 5)), tarOf(t, file("a", 7))}, "f a 0 replaced:1,f a 1", []int64{5, 0}},
		{"deleted", [][]byte{tarOf(t, dir("d"), file("d/a", 5)), tarOf(t, file(".wh.d", 0))}, "d d 0 deleted:1,f d/a 0 deleted:1", []int64{5, 0}},
		{"a whiteout leaves its own layer alone", [][]byte{tarOf(t, file("d/a", 5)), tarOf(t, file("d/b", 3), file(".wh.d", 0))},
			"f d/a 0 deleted:1,f d/b 1", []int64{5, 0}},
		{"opaque, last", [][]byte{tarOf(t, dir("d"), file("d/a", 5)), tarOf(t, dir("d"), file("d/b", 3), file("d/.wh..wh..opq", 0))},
			"d d 0 replaced:1,d d 1,f d/a 0 deleted:1,f d/b 1", []int64{5, 0}},
		{"a file in place of a directory", [][]byte{tarOf(t, dir("d"), file("d/a", 5)), tarOf(t, file("d", 1))},
			"d d 0 replaced:1,f d 1,f d/a 0 replaced:1", []int64{5, 0}},
		{"a directory in place of a file", [][]byte{tarOf(t, file("d", 5)), tarOf(t, file("d/a", 1))}, "f d 0 replaced:1,f d/a 1", []int64{5, 0}},
		{"through a link", [][]byte{tarOf(t, dir("usr/lib"), link("lib", "usr/lib"), file("usr/lib/a", 5)), tarOf(t, file("lib/a", 6))},
			"l lib 0,d usr/lib 0,f usr/lib/a 0 replaced:1,f usr/lib/a 1", []int64{5, 0}},
		{"through an absolute link out of it", [][]byte{tarOf(t, link("out", "/../../etc")), tarOf(t, file("out/passwd", 5))},
			"f etc/passwd 1,l out 0", []int64{0, 0}},
		{"bytes with another name are not wasted", [][]byte{tarOf(t, file("a", 5), hard("b", "a")), tarOf(t, file(".wh.a", 0))},
			"f a 0 deleted:1,h b 0", []int64{0, 0}},
		{"both names gone", [][]byte{tarOf(t, file("a", 5), hard("b", "a")), tarOf(t, file(".wh.a", 0), file("b", 0))},
			"f a 0 deleted:1,h b 0 replaced:1,f b 1", []int64{5, 0}},
		{"twice in one layer", [][]byte{tarOf(t, file("a", 5), file("a", 6))}, "f a 0 replaced:0,f a 0", []int64{5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, desc := imageOf(t, c.layers...)
			list, err := ListFiles(t.Context(), l, desc)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for f := range list.Walk("", true) {
				line := fmt.Sprintf("%s %s %d", f.Type, f.Path, f.Layer)
				if f.Fate != "" {
					line += fmt.Sprintf(" %s:%d", f.Fate, f.FateBy)
				}
				lines = append(lines, line)
			}
			if got := strings.Join(lines, ","); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			for i, u := range list.Layers {
				if u.Wasted != c.wasted[i] {
					t.Errorf("layer %d: %d bytes wasted, want %d", i, u.Wasted, c.wasted[i])
				}
			}
		})
	}
	for name, layers := range map[string][][]byte{
		"climbing":              {tarOf(t, file("a/../../b", 1))},
		"a circle of links":     {tarOf(t, link("a", "b"), link("b", "a"), file("a/x", 1))},
		"a link to what is not": {tarOf(t, hard("a", "b"))},
		"a whiteout of nothing": {tarOf(t, file(".wh.", 0))},
		"noise":                 {bytes.Repeat([]byte("noise"), 1000)},
	} {
		l, desc := imageOf(t, layers...)
		if _, err := ListFiles(t.Context(), l, desc); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// loneImage returns the one image that index.json leads to.
func loneImage(t *testing.T, l *layout.Layout) oci.Descriptor {
	t.Helper()
	x, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	choice, err := graph.Choose(l, x.Manifests[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	return choice.Desc
}
