package image

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
)

// numberedImage stores an image of n layers, of which the history tells as far as it goes: a letter
// for a layer, a dot for a step without one.
func numberedImage(t *testing.T, l *layout.Layout, n int, history string) *Image {
	t.Helper()
	config := oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"})
	o := ManifestOptions{}
	for i := range n {
		d := numberedLayer(i)
		id, _ := d.DiffID()
		if err := config.AddLayer(id, oci.History{}); err != nil {
			t.Fatal(err)
		}
		o.Layers = append(o.Layers, d)
	}
	var steps []oci.HistoryEntry
	for i, c := range history {
		steps = append(steps, oci.NewHistoryEntry(oci.History{CreatedBy: string(c), Comment: fmt.Sprint(i), EmptyLayer: c == '.'}))
	}
	config.SetHistoryEntries(steps)
	o.Config = layouttest.Put(t, l, oci.MediaTypeConfig, config)
	m, err := NewManifest(o)
	if err != nil {
		t.Fatal(err)
	}
	im, err := open(l, layouttest.Put(t, l, oci.MediaTypeManifest, m))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// numberedLayer returns the descriptor of a layer that says its number by its size.
func numberedLayer(i int) oci.Descriptor {
	d := digest.FromBytes([]byte{byte(i)})
	return oci.Descriptor{MediaType: oci.MediaTypeLayer, Digest: d, Size: int64(i)}.WithAnnotation(oci.AnnotationDiffID, d.String())
}

// describeLayers returns the layers by their letters, and what the history says of them.
func describeLayers(t *testing.T, im *Image) (layers, history string) {
	t.Helper()
	for _, d := range im.Layers() {
		layers += string(rune('a' + d.Size))
	}
	entries, err := im.Config.HistoryEntries()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range entries {
		by := h.CreatedBy
		if by == "" {
			by = "?"
		}
		history += by
	}
	if err := CheckConfig(im.Config, im.Layers()); err != nil {
		t.Errorf("layers %s, history %s: %v", layers, history, err)
	}
	return layers, history
}

func TestLayerEdits(t *testing.T) {
	l := layouttest.New(t)
	h := func(i int) oci.History { return oci.History{CreatedBy: string(rune('a' + i))} }
	for _, c := range []struct {
		name           string
		layers         int
		history        string
		edit           func(im *Image) error
		want, history2 string
	}{
		{"remove", 3, ".ab.c.", func(im *Image) error { return im.RemoveLayer(1) }, "ac", ".a.c."},
		{"remove all", 2, "a.b", func(im *Image) error { return errors.Join(im.RemoveLayer(0), im.RemoveLayer(1)) }, "", "."},
		{"remove by digest", 3, "abc", func(im *Image) error { return im.RemoveDigest(numberedLayer(2).Digest) }, "ab", "ab"},
		{"remove without history", 3, "", func(im *Image) error { return im.RemoveLayer(1) }, "ac", ""},
		{"remove where the history is short", 3, "a", func(im *Image) error { return im.RemoveLayer(0) }, "bc", "??"},
		{"insert below", 2, "a.b", func(im *Image) error { return im.InsertLayer(0, numberedLayer(5), h(5)) }, "fab", "fa.b"},
		{"insert between", 2, "a.b", func(im *Image) error { return im.InsertLayer(1, numberedLayer(5), h(5)) }, "afb", "a.fb"},
		{"insert on top", 2, "ab.", func(im *Image) error { return im.InsertLayer(2, numberedLayer(5), h(5)) }, "abf", "ab.f"},
		{"insert without history", 2, "", func(im *Image) error { return im.InsertLayer(1, numberedLayer(5), h(5)) }, "afb", "?f?"},
		{"insert two at one place", 1, "a", func(im *Image) error {
			return errors.Join(im.InsertLayer(0, numberedLayer(5), h(5)), im.InsertLayer(0, numberedLayer(6), h(6)))
		}, "fga", "fga"},
		{"move up", 4, "a.bc.d", func(im *Image) error { return im.MoveLayer(0, 2) }, "bcad", ".bca.d"},
		{"move down", 4, "a.bc.d", func(im *Image) error { return im.MoveLayer(3, 1) }, "adbc", "a.dbc."},
		{"move nowhere", 2, "ab", func(im *Image) error { return im.MoveLayer(1, 1) }, "ab", "ab"},
		{"move without history", 3, "", func(im *Image) error { return im.MoveLayer(2, 0) }, "cab", ""},
		{"replace", 2, "a.b", func(im *Image) error { return im.ReplaceLayer(0, numberedLayer(5)) }, "fb", "a.b"},
		{"append where the history is short", 2, "a", func(im *Image) error { return im.Append(numberedLayer(5), h(5)) }, "abf", "a?f"},
		{"numbers are those of the beginning", 3, "abc", func(im *Image) error {
			return errors.Join(im.InsertLayer(0, numberedLayer(5), h(5)), im.MoveLayer(0, 2), im.RemoveLayer(1), im.ReplaceLayer(2, numberedLayer(6)))
		}, "fga", "fca"},
	} {
		im := numberedImage(t, l, c.layers, c.history)
		if err := c.edit(im); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if layers, history := describeLayers(t, im); layers != c.want || history != c.history2 {
			t.Errorf("%s: layers %s, history %s; want %s, %s", c.name, layers, history, c.want, c.history2)
		}
	}

	im := numberedImage(t, l, 2, "ab")
	for name, err := range map[string]error{
		"remove": im.RemoveLayer(2), "a negative number": im.RemoveLayer(-1), "insert": im.InsertLayer(3, numberedLayer(5), h(5)), "move": im.MoveLayer(0, 2),
		"annotate": im.AnnotateLayer(7, "a", "b"), "step": im.SetStep(2, "comment", "x"), "a digest": im.RemoveDigest(digest.FromBytes(nil)),
	} {
		if !errors.Is(err, ErrNoLayer) || !errors.Is(err, oci.ErrAbsent) {
			t.Errorf("%s: %v, want %v", name, err, ErrNoLayer)
		}
	}
	if layers, history := describeLayers(t, im); layers != "ab" || history != "ab" {
		t.Errorf("after edits that failed: layers %s, history %s", layers, history)
	}
}

// Whatever is done in whatever order, the steps that made layers are those of the layers, in their
// order, and the others stay.
func TestRandomLayerEdits(t *testing.T) {
	l := layouttest.New(t)
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(1, uint64(seed)))
		n := 1 + r.IntN(5)
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.Repeat(".", r.IntN(3)) + string(rune('a'+i)))
		}
		b.WriteString(strings.Repeat(".", r.IntN(2)))
		im := numberedImage(t, l, n, b.String())
		empty, next := strings.Count(b.String(), "."), n
		for range r.IntN(8) {
			a, to := r.IntN(n+1), r.IntN(n+1)
			switch r.IntN(3) {
			case 0:
				im.RemoveLayer(a)
			case 1:
				if im.InsertLayer(a, numberedLayer(next), oci.History{CreatedBy: string(rune('a' + next))}) == nil {
					next++
				}
			case 2:
				im.MoveLayer(a, to)
			}
		}
		layers, history := describeLayers(t, im)
		if made := strings.ReplaceAll(history, ".", ""); made != layers || strings.Count(history, ".") != empty {
			t.Fatalf("seed %d: of %s, layers %s with history %s", seed, b.String(), layers, history)
		}
		if got := len(slices.Compact(slices.Sorted(slices.Values([]byte(layers))))); got != len(layers) {
			t.Fatalf("seed %d: layers %s", seed, layers)
		}
	}
}
