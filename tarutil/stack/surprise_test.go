package stack

import (
	"archive/tar"
	"fmt"
	"testing"

	"ocikit/tarutil"
)

// TestSurpriseAcrossLayers has a layer begin in the directory that the one below ended in: the link on
// the way is of a layer below now, and no longer of the same one.
func TestSurpriseAcrossLayers(t *testing.T) {
	layers := layersOf(t, []string{"d/", "l -> d", "l/a x"}, []string{"l/b x", "l/c x"}, []string{"l/d x"})
	var got []Surprise
	if _, err := Apply(t.Context(), layers, Options{Surprise: func(s Surprise) { got = append(got, s) }}); err != nil {
		t.Fatal(err)
	}

	for i, s := range got {
		if want := (Surprise{Layer: i + 1, Kind: throughLink, Path: "l", Was: "d"}); s != want {
			t.Errorf("surprise %+v, want %+v", s, want)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d surprises, want one of each upper layer", len(got))
	}
}

// TestSurpriseMemory has layers of more names than are remembered to find surprises.
func TestSurpriseMemory(t *testing.T) {
	for name, entry := range map[string]func(i int) *tar.Header{
		"whiteouts": func(i int) *tar.Header {
			return &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf(".wh.%d", i)}
		},
		"directories": func(i int) *tar.Header {
			return &tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("b/%d/c", i)}
		},
	} {
		tree := newStackTree(tarutil.NewPathTable(tarutil.NewBudget(0)), 1<<20, 0, nil)
		s := &surpriser{t: tree, tell: func(Surprise) {}}
		tree.surprise = s
		s.start()
		for i := range maxRemembered + 1000 {
			if err := tree.apply(entry(i), int32(i)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if n := len(s.erased) + len(s.holes) + len(s.parents) + len(s.opaque); n > maxRemembered+1 {
			t.Errorf("%s: %d names are remembered, over %d", name, n, maxRemembered)
		}
	}
}
