// Package layouttest makes layouts for the tests of packages that use layouts.
package layouttest

import (
	"path/filepath"
	"testing"

	"ocikit/oci"
	"ocikit/oci/layout"
)

// New returns an empty layout, which ends with the test.
func New(t testing.TB) *layout.Layout {
	t.Helper()
	l, err := layout.Init(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Put stores a document: bytes or text as they are, anything else as JSON.
func Put(t testing.TB, l *layout.Layout, mediaType string, document any) oci.Descriptor {
	t.Helper()
	data, err := encode(document)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := l.PutDocument(mediaType, data)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func encode(document any) ([]byte, error) {
	switch d := document.(type) {
	case []byte:
		return d, nil
	case string:
		return []byte(d), nil
	case *oci.Config:
		return d.Encode()
	}
	return oci.Encode(document)
}

// PutImage stores a manifest of layers that are in l already, and its config, which gets their diff IDs.
func PutImage(t testing.TB, l *layout.Layout, config *oci.Config, layers ...oci.Descriptor) oci.Descriptor {
	t.Helper()
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest}
	for _, d := range layers {
		id, _ := d.DiffID()
		if err := config.AddLayer(id, oci.History{}); err != nil {
			t.Fatal(err)
		}
		m.Layers = append(m.Layers, d.WithAnnotation(oci.AnnotationDiffID, ""))
	}
	m.Config = Put(t, l, oci.MediaTypeConfig, config)
	return Put(t, l, oci.MediaTypeManifest, m)
}

// MustVerify ends the test unless all that is in l is whole.
func MustVerify(t testing.TB, l *layout.Layout) {
	t.Helper()
	findings, _, err := l.Verify(t.Context(), layout.VerifyOptions{})
	if err != nil || len(findings) > 0 {
		t.Fatalf("Verify = %+v, %v", findings, err)
	}
}
