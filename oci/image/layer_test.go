package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/tarutil"
	"ocikit/tarutil/gzip"
)

// testTar returns a tar with one file of the given size, half noise and half text.
func testTar(tb testing.TB, size int) []byte {
	tb.Helper()
	data := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(data[:size/2])
	for i := size / 2; i < size; i++ {
		data[i] = "the quick brown fox jumps "[i%26]
	}
	var b bytes.Buffer
	w := tarutil.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: int64(size)})); err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func compressed(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriter(&b, gzip.DefaultLevel, 1)
	if err != nil {
		tb.Fatal(err)
	}
	z.Write(data)
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestAddLayer(t *testing.T) {
	l := layouttest.New(t)
	plain := testTar(t, 3<<20)
	z := compressed(t, plain)
	want := digest.FromBytes(plain)
	for _, c := range []struct {
		name      string
		in        []byte
		o         LayerOptions
		mediaType string
		blob      []byte
	}{
		{"gzip", plain, LayerOptions{Compression: Gzip, Level: gzip.DefaultLevel}, oci.MediaTypeLayerGzip, z},
		{"none", plain, LayerOptions{Compression: None}, oci.MediaTypeLayer, plain},
		{"keep a plain tar", plain, LayerOptions{Compression: Keep}, oci.MediaTypeLayer, plain},
		{"keep what is compressed", z, LayerOptions{Compression: Keep}, oci.MediaTypeLayerGzip, z},
		{"gzip of gzip keeps it", z, LayerOptions{Compression: Gzip, Level: 9}, oci.MediaTypeLayerGzip, z},
	} {
		for _, read := range []struct {
			name string
			wrap func(io.Reader) io.Reader
		}{
			{"whole", func(r io.Reader) io.Reader { return r }},
			{"half", iotest.HalfReader},
			{"data with EOF", iotest.DataErrReader},
		} {
			t.Run(c.name+"/"+read.name, func(t *testing.T) {
				desc, err := AddLayer(t.Context(), l, read.wrap(bytes.NewReader(c.in)), c.o)
				if err != nil {
					t.Fatal(err)
				}
				if id, _ := desc.DiffID(); desc.MediaType != c.mediaType || id != want || desc.Digest != digest.FromBytes(c.blob) || desc.Size != int64(len(c.blob)) {
					t.Errorf("AddLayer = %+v", desc)
				}
				described, err := DescribeLayer(t.Context(), bytes.NewReader(c.blob), false)
				if err != nil || described.Digest != desc.Digest || described.Annotations.Get(oci.AnnotationDiffID) != want.String() {
					t.Errorf("DescribeLayer = %+v, %v", described, err)
				}
			})
		}
	}
	findings, _, err := l.Verify(t.Context(), layout.VerifyOptions{})
	if err != nil || len(findings) > 0 {
		t.Errorf("Verify = %+v, %v", findings, err)
	}
}

// Cut anywhere, plain or compressed, nothing becomes a layer.
func TestAddLayerRefusesCuts(t *testing.T) {
	l := layouttest.New(t)
	plain := testTar(t, 3000)
	for name, data := range map[string][]byte{"plain": plain, "gzip": compressed(t, plain)} {
		step := 512
		if name == "gzip" {
			step = 7
		}
		for n := 0; n < len(data)-512 || name == "gzip" && n < len(data); n += step {
			if desc, err := AddLayer(t.Context(), l, bytes.NewReader(data[:n]), LayerOptions{Compression: Gzip, Level: 1}); err == nil {
				t.Errorf("%s cut at %d of %d: AddLayer = %+v", name, n, len(data), desc)
			}
		}
	}
	failing := io.MultiReader(bytes.NewReader(plain[:1024]), iotest.ErrReader(errors.New("broken pipe")))
	if _, err := AddLayer(t.Context(), l, failing, LayerOptions{Compression: Gzip}); err == nil || err.Error() != "broken pipe" {
		t.Errorf("AddLayer of a failing reader: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := AddLayer(cancelled, l, bytes.NewReader(plain), LayerOptions{Compression: Gzip}); !errors.Is(err, context.Canceled) {
		t.Errorf("AddLayer, cancelled: %v", err)
	}
	findings, sum, err := l.Verify(t.Context(), layout.VerifyOptions{})
	if err != nil || len(findings) > 0 || sum.Blobs != 0 {
		t.Errorf("Verify = %+v, %+v, %v", findings, sum, err)
	}
}

// The level and the number of workers: only the first changes bytes.
func TestLayerIsByteStable(t *testing.T) {
	l := layouttest.New(t)
	plain := testTar(t, 2<<20)
	seen := map[digest.Digest]int{}
	for _, level := range []int{1, 6, 9} {
		var first digest.Digest
		for _, workers := range []int{1, 2, 7} {
			desc, err := AddLayer(t.Context(), l, iotest.HalfReader(bytes.NewReader(plain)), LayerOptions{Compression: Gzip, Level: level, Workers: workers})
			if err != nil {
				t.Fatal(err)
			}
			if first.IsZero() {
				first = desc.Digest
			}
			if desc.Digest != first {
				t.Errorf("level %d: %d workers give %s, others %s", level, workers, desc.Digest, first)
			}
		}
		seen[first]++
	}
	if len(seen) != 3 {
		t.Errorf("three levels gave %d different blobs", len(seen))
	}
}

func TestNewManifest(t *testing.T) {
	layer := oci.Descriptor{MediaType: oci.MediaTypeLayerGzip, Digest: digest.FromBytes([]byte("l")), Size: 1}.
		WithAnnotation(oci.AnnotationDiffID, digest.FromBytes(nil).String()).WithAnnotation("kept", "yes")
	config := oci.Describe(oci.MediaTypeConfig, []byte("{}"))
	m, err := NewManifest(ManifestOptions{Config: config, Layers: []oci.Descriptor{layer}})
	if err != nil || fmt.Sprint(m.Layers[0].Annotations) != "[{kept yes}]" {
		t.Errorf("NewManifest = %+v, %v; want no diff ID in it", m, err)
	}
	if _, err := NewManifest(ManifestOptions{Layers: []oci.Descriptor{layer}}); err == nil {
		t.Error("NewManifest without config and artifact type succeeded")
	}
	m, err = NewManifest(ManifestOptions{ArtifactType: "application/x"})
	if err != nil || m.Config.Digest != EmptyDescriptor().Digest || len(m.Layers) != 1 {
		t.Errorf("NewManifest of an artifact = %+v, %v", m, err)
	}
}

func TestCheckConfig(t *testing.T) {
	a, b := digest.FromBytes([]byte("a")), digest.FromBytes([]byte("b"))
	c := oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"})
	if err := c.AddLayer(a, oci.History{}); err != nil {
		t.Fatal(err)
	}
	layer := func(id digest.Digest) oci.Descriptor {
		return oci.Descriptor{Digest: a}.WithAnnotation(oci.AnnotationDiffID, id.String())
	}
	for _, tc := range []struct {
		name   string
		layers []oci.Descriptor
		ok     bool
	}{
		{"right", []oci.Descriptor{layer(a)}, true},
		{"unknown diff ID", []oci.Descriptor{{Digest: b}}, true},
		{"another layer", []oci.Descriptor{layer(b)}, false},
		{"too few", nil, false},
		{"too many", []oci.Descriptor{layer(a), layer(a)}, false},
	} {
		if err := CheckConfig(c, tc.layers); (err == nil) != tc.ok {
			t.Errorf("%s: CheckConfig = %v", tc.name, err)
		}
	}
}

// The bytes allocated do not depend on the size of the layer, for a given number of workers.
func BenchmarkAddLayer(b *testing.B) {
	for _, size := range []int{1 << 20, 256 << 20} {
		data := testTar(b, size)
		for _, o := range []LayerOptions{{Compression: None}, {Compression: Gzip, Level: 1}, {Compression: Gzip, Level: 6}, {Compression: Gzip, Level: 9}} {
			o.Workers = 2
			b.Run(fmt.Sprintf("%dMiB/%s-%d", size>>20, o.Compression, o.Level), func(b *testing.B) {
				l := layouttest.New(b)
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := AddLayer(b.Context(), l, bytes.NewReader(data), o); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
