package registrycmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

// Images get their names together, and what is printed of them is printed then. One that cannot be named
// does not keep the others.
func TestNaming(t *testing.T) {
	l, err := layout.Init(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	entry := func(tag string) oci.Descriptor {
		desc, err := l.PutDocument(oci.MediaTypeIndex, fmt.Appendf(nil, `{"annotations":{"tag":%q},"manifests":[],"schemaVersion":2}`, tag))
		if err != nil {
			t.Fatal(err)
		}
		return desc.WithAnnotation(oci.AnnotationRefName, tag)
	}

	g := &naming{}
	var said, bad []string
	add := func(tag string, e oci.Descriptor) {
		g.begin(tag)
		if err := g.add(context.Background(), []oci.Descriptor{e}, graph.Rules{}); err != nil {
			t.Fatal(err)
		}
		if err := g.then(func() error { said = append(said, tag); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	name := func() error {
		return g.name(context.Background(), l, func(image string, err error) {
			if !errors.Is(err, layout.ErrIncomplete) {
				t.Error(err)
			}
			bad = append(bad, image)
		})
	}
	named := func() (tags []string) {
		x, err := l.Index()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range x.Manifests {
			tags = append(tags, e.Annotations.Get(oci.AnnotationRefName))
		}
		return tags
	}

	now := time.Unix(1, 0)
	add("a", entry("a"))
	if err := g.due(now, name); err != nil || len(said) > 0 || len(named()) > 0 {
		t.Errorf("one that has just come: said %q, %v", said, err)
	}
	add("absent", oci.Describe(oci.MediaTypeIndex, []byte("absent")).WithAnnotation(oci.AnnotationRefName, "absent"))
	add("b", entry("b"))
	if err := g.due(now.Add(2*maxNameless), name); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b"}; !slices.Equal(named(), want) || !slices.Equal(said, want) || !slices.Equal(bad, []string{"absent"}) {
		t.Errorf("named %q, said %q, bad %q", named(), said, bad)
	}

	for i := range maxUnnamed {
		add(fmt.Sprint(i), entry(fmt.Sprint(i)))
		if err := g.due(now.Add(2*maxNameless), name); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(named()); n != 2+maxUnnamed {
		t.Errorf("%d names once many have come", n)
	}
}
