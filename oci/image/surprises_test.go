package image

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout/layouttest"
	"ocikit/tarutil/stack"
)

// TestSurprisesReadBelow has layers below that are not there: they are looked for only if they are
// small, or if the new layer has something where it matters most.
func TestSurprisesReadBelow(t *testing.T) {
	l := layouttest.New(t)
	absent := func(size int64) oci.Descriptor {
		d := oci.Descriptor{MediaType: oci.MediaTypeLayer, Digest: digest.FromBytes([]byte("not there")), Size: size}
		return d.WithAnnotation(oci.AnnotationDiffID, d.Digest.String())
	}
	layer := func(names ...string) oci.Descriptor {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		for _, name := range names {
			hdr := &tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}
			if strings.HasSuffix(name, "=") {
				hdr.Name, hdr.Typeflag, hdr.Linkname = name[:len(name)-1], tar.TypeLink, "not/in/this/layer"
			}
			if err := tw.WriteHeader(hdr); err != nil {
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
		{"large, and a link to what lies below", smallBelow + 1, []string{"srv/x", "srv/x", "link="}, false, 1},
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
