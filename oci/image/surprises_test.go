package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/tarutil/stack"
)

// storedLayer stores a layer of empty files; "NAME/" is a directory, "NAME=TARGET" a hard link, and
// "NAME+9" a file of 9 MiB.
func storedLayer(t *testing.T, l *layout.Layout, names ...string) oci.Descriptor {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, name := range names {
		hdr := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg}
		if file, target, ok := strings.Cut(name, "="); ok {
			hdr.Name, hdr.Typeflag, hdr.Linkname = file, tar.TypeLink, target
		} else if strings.HasSuffix(name, "/") {
			hdr.Typeflag = tar.TypeDir
		} else if strings.HasSuffix(name, "+9") {
			hdr.Size = 9 << 20
		}
		if err := tw.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(make([]byte, hdr.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}

	d, size, err := l.Put(bytes.NewReader(buf.Bytes()), digest.Digest{})
	if err != nil {
		t.Fatal(err)
	}
	return oci.Descriptor{MediaType: oci.MediaTypeLayer, Digest: d, Size: size}.WithAnnotation(oci.AnnotationDiffID, d.String())
}

// TestSurprisesReadBelow has layers below that are not there: they are looked for only if they are
// small, or if the new layer has something where it matters most.
func TestSurprisesReadBelow(t *testing.T) {
	l := layouttest.New(t)
	absent := func(size int64) oci.Descriptor {
		d := oci.Descriptor{MediaType: oci.MediaTypeLayer, Digest: digest.FromBytes([]byte("not there")), Size: size}
		return d.WithAnnotation(oci.AnnotationDiffID, d.Digest.String())
	}
	layer := func(names ...string) oci.Descriptor { return storedLayer(t, l, names...) }

	for _, test := range []struct {
		name  string
		below int64
		files []string
		reads bool
		twice int
	}{
		{"small", smallBelow, []string{"srv/x"}, true, 0},
		{"large", smallBelow + 1, []string{"srv/x"}, false, 0},
		{"large, and a name that is like a usual one", smallBelow + 1, []string{"srv/bin", "binary", "var/tmpfs/x", "tmp.x"}, false, 0},
		{"large, and a usual name", smallBelow + 1, []string{"srv/x", "bin"}, true, 0},
		{"large, and a whiteout below a usual name", smallBelow + 1, []string{"var/run/.wh.x"}, true, 0},
		{"large, and what the new layer shows by itself", smallBelow + 1, []string{"srv/x", "srv/x"}, false, 1},
		{"large, and a link to what lies below", smallBelow + 1, []string{"srv/x", "srv/x", "link=not/in/this/layer"}, true, 0},
	} {
		found, err := Surprises(t.Context(), l, []oci.Descriptor{absent(test.below), layer(test.files...)}, 1)
		if (err != nil) != test.reads {
			t.Errorf("%s: %v", test.name, err)
		}
		if len(found) != test.twice || test.twice == 1 && (found[0].Kind != stack.Twice || found[0].Layer != 1) {
			t.Errorf("%s: found %+v", test.name, found)
		}
	}
}

// TestMisfits has new layers that are sound by themselves, and cannot be put on the one below.
func TestMisfits(t *testing.T) {
	l := layouttest.New(t)
	layer := func(names ...string) oci.Descriptor { return storedLayer(t, l, names...) }

	below := layer("dir/", "dir/file")
	for _, test := range []struct {
		name  string
		layer oci.Descriptor
		fits  bool
	}{
		{"a hard link to a file below", layer("link=dir/file"), true},
		{"to nothing", layer("link=dir/other"), false},
		{"to a directory", layer("link=dir"), false},
		{"to a file that the layer removes", layer("dir/.wh.file", "link=dir/file"), false},
	} {
		_, err := Surprises(t.Context(), l, []oci.Descriptor{below, test.layer}, 1)
		if test.fits != (err == nil) || !test.fits && !errors.Is(err, ErrMisfit) {
			t.Errorf("%s: %v", test.name, err)
		}
	}

	// What is wrong below is not held against a new layer.
	if _, err := Surprises(t.Context(), l, []oci.Descriptor{layer("link=nothing"), layer("file")}, 1); err == nil || errors.Is(err, ErrMisfit) {
		t.Errorf("a lower layer that fits on none: %v", err)
	}
}

// TestCheckFit has edits that take the ground of a hard link away, below and among layers of any size.
func TestCheckFit(t *testing.T) {
	l := layouttest.New(t)
	ground, link, other := storedLayer(t, l, "file"), storedLayer(t, l, "link=file"), storedLayer(t, l, "other")
	large := storedLayer(t, l, "large+9")

	for _, test := range []struct {
		name    string
		was, is []oci.Descriptor
		fits    bool
	}{
		{"the ground goes", []oci.Descriptor{ground, link}, []oci.Descriptor{link}, false},
		{"it goes, and a large layer stays", []oci.Descriptor{large, ground, link}, []oci.Descriptor{large, link}, false},
		{"it moves", []oci.Descriptor{large, ground, link}, []oci.Descriptor{large, link, ground}, false},
		{"another layer goes", []oci.Descriptor{large, ground, other, link}, []oci.Descriptor{large, ground, link}, true},
		{"no link leads below", []oci.Descriptor{large, ground, other}, []oci.Descriptor{large, other}, true},
		{"what comes is too large to be read", []oci.Descriptor{ground, link}, []oci.Descriptor{link, large}, true},
		{"what was wrong stays below", []oci.Descriptor{link, other}, []oci.Descriptor{link}, true},
		{"all layers go", []oci.Descriptor{ground, link}, nil, true},
	} {
		im := &Image{m: oci.Manifest{Layers: test.was}}
		for _, d := range test.is {
			im.layers = append(im.layers, layer{desc: d})
		}
		if err := im.CheckFit(t.Context(), l); test.fits != (err == nil) || !test.fits && !errors.Is(err, ErrMisfit) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
