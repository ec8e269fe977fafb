package layoutcmd

import (
	"errors"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
)

// documents is a source of manifests and indexes in memory.
type documents struct {
	source.Source
	data map[digest.Digest][]byte
}

func (s documents) Index() (oci.Index, error)                    { return oci.Index{}, nil }
func (s documents) Stat(d digest.Digest) (int64, error)          { return int64(len(s.data[d])), nil }
func (s documents) Document(desc oci.Descriptor) ([]byte, error) { return s.data[desc.Digest], nil }

func (s documents) put(t *testing.T, mediaType string, v any) oci.Descriptor {
	t.Helper()
	data, err := oci.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	desc := oci.Describe(mediaType, data)
	s.data[desc.Digest] = data
	return desc
}

// A layer may claim to be a manifest or an index. The levels were counted anew below each manifest.
func TestInspectDepth(t *testing.T) {
	src := documents{data: map[digest.Digest][]byte{}}
	blob := oci.Describe(oci.MediaTypeOctetStream, nil)
	manifest := func(layer oci.Descriptor) oci.Descriptor {
		return src.put(t, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, ArtifactType: "a/b", Config: blob, Layers: []oci.Descriptor{layer}})
	}

	root := manifest(blob)
	inspect := func() (*node, error) {
		in := &inspector{l: src, shown: map[digest.Digest]bool{}}
		return in.node(root, 0)
	}
	if n, err := inspect(); err != nil || n.Usage == nil {
		t.Errorf("one manifest: %v, %v", n, err)
	}

	for i := range graph.DefaultLimits().Depth {
		if i%2 == 0 {
			root = src.put(t, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{root}})
		} else {
			root = manifest(root)
		}
	}
	if _, err := inspect(); !errors.Is(err, oci.ErrMalformed) {
		t.Errorf("a manifest too deep: %v, want %v", err, oci.ErrMalformed)
	}
}
