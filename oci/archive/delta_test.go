package archive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive/layerdelta"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/tarutil/delta"
)

// versioned returns the tar of a layer of forty files, of which each version changes one in ten.
func versioned(t *testing.T, version int) []byte {
	t.Helper()
	var files []entry
	for i := range 40 {
		seed := uint64(i)
		if i%10 == 3 {
			seed += uint64(version) << 20
		}
		r := rand.New(rand.NewPCG(seed, 5))
		data := make([]byte, 2000+r.IntN(6000))
		for k := range data {
			data[k] = byte(r.IntN(16))
		}
		files = append(files, file(fmt.Sprintf("usr/lib/file%d", i), string(data)))
	}
	return tarOf(t, files...)
}

// keep stores a layer as it is.
func (n *near) keep(blob []byte) oci.Descriptor {
	n.t.Helper()
	d, err := image.AddLayer(n.t.Context(), n.l, bytes.NewReader(blob), image.LayerOptions{Compression: image.Keep})
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// versions tags images of one layer of each version, and returns the layers.
func (n *near) versions(compress func(tar []byte) []byte, count int) []oci.Descriptor {
	n.t.Helper()
	var layers []oci.Descriptor
	for v := range count {
		d := n.keep(compress(versioned(n.t, v)))
		n.image(fmt.Sprintf("202%d-01-01T00:00:00Z", v), []oci.Descriptor{d}, fmt.Sprintf("v%d", v))
		layers = append(layers, d)
	}
	return layers
}

// deltaChain makes bundles of four versions: the first whole, and each other as deltas from the
// one before it, the last from two.
func deltaChain(n *near) [][]byte {
	layers := n.versions(func(b []byte) []byte { return stdGzip(n.t, b) }, 4)
	return [][]byte{
		n.bundle(BundleOptions{}, "v0"),
		n.bundle(BundleOptions{Have: have(layers[0]), Delta: true}, "v1"),
		n.bundle(BundleOptions{Have: have(layers[1]), Delta: true}, "v2"),
		n.bundle(BundleOptions{Have: have(layers[0], layers[2]), Delta: true}, "v3"),
	}
}

func TestDelta(t *testing.T) {
	plain := func(b []byte) []byte { return b }
	std := func(b []byte) []byte { return stdGzip(t, b) }
	for name, compress := range map[string]func([]byte) []byte{"tar": plain, "gzip": std} {
		t.Run(name, func(t *testing.T) {
			n := newNear(t)
			layers := n.versions(compress, 2)
			whole := n.bundle(BundleOptions{Have: have(layers[0])}, "v1")
			bundle := n.bundle(BundleOptions{Have: have(layers[0]), Delta: true}, "v1")
			if len(bundle)*3 > len(whole) {
				t.Errorf("the delta has %d bytes, the whole bundle %d", len(bundle), len(whole))
			}
			if again := n.bundle(BundleOptions{Have: have(layers[0]), Delta: true}, "v1"); !bytes.Equal(bundle, again) {
				t.Error("the same bundle has other bytes")
			}
			l := layouttest.New(t)
			apply(t, l, n.bundle(BundleOptions{}, "v0"))
			if r := apply(t, l, bundle); len(r.Missing) > 0 {
				t.Fatalf("missing: %v", r.Missing)
			}
			wholeNames(t, l)
			if blobs, _ := l.Blobs(); len(blobs) != 6 {
				t.Errorf("%d blobs in the layout: the delta is still there", len(blobs))
			}
		})
	}
}

// A layer that there is nothing to compare with travels whole, and the plan says so.
func TestDeltaWithoutBase(t *testing.T) {
	n := newNear(t)
	old, fresh := n.layer(1, 5000, image.LayerOptions{}), n.keep(stdGzip(t, tarOf(t)))
	desc := n.image("", []oci.Descriptor{fresh}, "v1")
	for what, o := range map[string]BundleOptions{
		"nothing alike": {Have: have(old), Delta: true},
		"nothing":       {Have: have(), Delta: true},
	} {
		plan, err := NewBundle(t.Context(), []Image{{Source: n.l, Desc: desc, Tag: "v1"}}, o)
		if err != nil {
			t.Fatal(err)
		}
		defer plan.Close()
		if len(plan.Notices) != 1 || !strings.Contains(plan.Notices[0], fresh.Digest.String()+" whole") {
			t.Errorf("%s: notices %q, want that %s travels whole", what, plan.Notices, fresh.Digest)
		}
		var b bytes.Buffer
		if err := plan.Save(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		l := layouttest.New(t)
		if r := apply(t, l, b.Bytes()); len(r.Missing) > 0 || len(named(t, l)) != 1 {
			t.Errorf("%s: missing %v, names %v", what, r.Missing, named(t, l))
		}
	}
}

// A layer that cannot be unpacked here travels whole, as one with a window over the limit.
func TestDeltaOfUnreadable(t *testing.T) {
	n := newNear(t)
	base := n.layer(1, 5000, image.LayerOptions{})
	window := []byte("\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00")
	d, err := n.l.PutDocument(oci.MediaTypeLayerZstd, window)
	if err != nil {
		t.Fatal(err)
	}
	desc := n.image("", []oci.Descriptor{d}, "v1")
	plan, err := NewBundle(t.Context(), []Image{{Source: n.l, Desc: desc, Tag: "v1"}}, BundleOptions{Have: have(base), Delta: true})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	if len(plan.Notices) != 1 || !strings.Contains(plan.Notices[0], d.Digest.String()+" whole") {
		t.Errorf("notices %q, want that %s travels whole", plan.Notices, d.Digest)
	}
}

// Deltas of deltas come in any order, several times; the layouts are the same, bit for bit.
func TestDeltasInEveryOrder(t *testing.T) {
	n := newNear(t)
	bundles := deltaChain(n)
	var want map[string]string
	orders := permutations(len(bundles))
	if testing.Short() {
		orders = orders[:6]
	}
	for i, order := range orders {
		l := layouttest.New(t)
		for _, k := range append(slices.Clone(order), order[i%len(order)]) {
			apply(t, l, bundles[k])
		}
		wholeNames(t, l)
		got := snapshot(t, l.Name())
		if want == nil {
			want = got
		}
		compareSnapshots(t, fmt.Sprint(order), got, want)
	}
}

// The near side has lost the old layer; the far side says what it consists of.
func TestDeltaOfChunks(t *testing.T) {
	n := newNear(t)
	layers := n.versions(func(b []byte) []byte { return stdGzip(t, b) }, 2)
	first := n.bundle(BundleOptions{}, "v0")
	l := layouttest.New(t)
	apply(t, l, first)
	inv, err := LayoutInventory(t.Context(), l, false)
	if err == nil {
		err = inv.AddChunks(t.Context(), l)
	}
	var lines bytes.Buffer
	if err == nil {
		err = inv.Write(&lines, false, false)
	}
	if err == nil {
		inv, err = ReadInventory(t.Context(), bytes.NewReader(lines.Bytes()))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := n.l.RemoveBlob(layers[0].Digest); err != nil {
		t.Fatal(err)
	}
	bundle := n.bundle(BundleOptions{Have: inv, Delta: true}, "v1")
	if int64(len(bundle)) > layers[1].Size*3/4 {
		t.Errorf("%d bytes for a layer of %d", len(bundle), layers[1].Size)
	}
	if r := apply(t, l, bundle); len(r.Missing) > 0 {
		t.Fatalf("missing: %v", r.Missing)
	}
	wholeNames(t, l)

	for _, bad := range []string{"+ AAAA\n", layers[0].Digest.String() + "\n+ !\n", layers[0].Digest.String() + "\n+ AAAAAAAAAAAA\n", layers[0].Digest.String() + "\n+ AAAA AAAA\n"} {
		if _, err := ReadInventory(t.Context(), strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// The bound of chunks is one of a whole inventory. It once was one of each layer, of which an
// inventory may have two million.
func TestChunksAreBoundedOverAllLayers(t *testing.T) {
	var two [3]strings.Builder // layers a and b, a twice, a with the chunks in two lines
	line := func(b *strings.Builder, layer string, chunks int) {
		if layer != "" {
			fmt.Fprintln(b, digest.FromBytes([]byte(layer)))
		}
		w := bufio.NewWriter(b)
		writeChunks(w, slices.Repeat([]delta.Chunk{{Size: 5000, Sum: 7}}, chunks))
		w.Flush()
	}
	line(&two[0], "a", 3)
	line(&two[0], "b", 2)
	line(&two[1], "a", 3)
	line(&two[1], "a", 2)
	line(&two[2], "a", 3)
	line(&two[2], "", 2)
	for i, need := range []int{5, 3, 5} {
		for limit := range 7 {
			_, err := readLines(strings.NewReader(two[i].String()), limit)
			if limit < need != errors.Is(err, errChunks) || limit >= need && err != nil {
				t.Errorf("inventory %d, which needs %d chunks at once, with at most %d: error %v", i, need, limit, err)
			}
		}
	}

	// What would not be read again is not written: the layer goes without chunks.
	n := newNear(t)
	n.versions(func(b []byte) []byte { return stdGzip(t, b) }, 2)
	count := func(limit int) (chunks, layers int) {
		inv, err := LayoutInventory(t.Context(), n.l, false)
		if err == nil {
			err = inv.addChunks(t.Context(), n.l, limit)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range inv.Items {
			if chunks += len(it.Chunks); len(it.Chunks) > 0 {
				layers++
			}
		}
		return chunks, layers
	}
	all, layers := count(maxChunks)
	if layers != 2 {
		t.Fatalf("%d layers have chunks, want 2", layers)
	}
	if got, layers := count(all - 1); layers != 1 || got >= all {
		t.Errorf("with room for %d chunks %d layers have %d, want 1 layer", all-1, layers, got)
	}
}

// A bundle that cannot be finished leaves no delta open.
func TestNewBundleClosesItsDeltas(t *testing.T) {
	if _, err := os.ReadDir("/proc/self/fd"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	open := func() (n int) {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if name, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.HasPrefix(name, dir+"/ocikit-delta-") {
				n++
			}
		}
		return n
	}

	n := newNear(t)
	layers := n.versions(func(b []byte) []byte { return stdGzip(t, b) }, 2)
	o := BundleOptions{Have: have(layers[0]), Delta: true}
	plan := n.plan(o, "v1")
	if open() == 0 {
		t.Fatal("a bundle with a delta has no file open: the test sees none")
	}
	plan.Close()

	// The document that says what the bundle is gets over its limit.
	desc, err := n.l.Resolve(oci.ImageName{Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	desc = desc.WithAnnotation("note", strings.Repeat("x", oci.MaxDocument))
	if _, err := NewBundle(t.Context(), []Image{{Source: n.l, Desc: desc, Tag: "v1"}}, o); err == nil || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("NewBundle() = %v, want a document over its limit", err)
	}
	if n := open(); n > 0 {
		t.Errorf("%d temporary files are open", n)
	}
}

// A bit that flipped anywhere is named, and nothing is stored for it.
func TestDeltaOfDamage(t *testing.T) {
	n := newNear(t)
	layers := n.versions(func(b []byte) []byte { return stdGzip(t, b) }, 2)
	bundle := n.bundle(BundleOptions{Have: have(layers[0]), Delta: true}, "v1")
	first := n.bundle(BundleOptions{}, "v0")
	flip := func(l *layout.Layout, d digest.Digest, at int64) {
		t.Helper()
		name := filepath.Join(l.Name(), "blobs", string(d.Algorithm()), d.Encoded())
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data[at] ^= 4
		os.Chmod(name, 0o600)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// A base.
	l := layouttest.New(t)
	apply(t, l, first)
	flip(l, layers[0].Digest, layers[0].Size/2)
	var said []string
	o := UnbundleOptions{Notice: func(text string) { said = append(said, text) }}
	r, err := Unbundle(t.Context(), l, bytes.NewReader(bundle), o)
	if !errors.Is(err, graph.ErrIncomplete) || len(r.Missing) != 1 || r.Missing[0].Missing[0].Digest != layers[1].Digest {
		t.Errorf("with a damaged base: %v, missing %v", err, r.Missing)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, layers[0].Digest.String()) || !strings.Contains(text, layers[1].Digest.String()) {
		t.Errorf("notices %q do not name the base", said)
	}
	// It is healed, and the delta that waits does its work.
	if err := l.RemoveBlob(layers[0].Digest); err != nil {
		t.Fatal(err)
	}
	apply(t, l, first)
	wholeNames(t, l)

	// The delta, on its way and at rest.
	plan := n.plan(BundleOptions{Have: have(layers[0]), Delta: true}, "v1")
	d := plan.Deltas[0]
	at := bytes.Index(bundle, []byte("okl\x01"))
	for _, off := range []int64{10, 40, d.DeltaSize / 2, d.DeltaSize - 1} { // in the recipe and behind it
		bad := bytes.Clone(bundle)
		bad[int64(at)+off] ^= 1
		l := layouttest.New(t)
		apply(t, l, first)
		if _, err := Unbundle(t.Context(), l, bytes.NewReader(bad), UnbundleOptions{}); !errors.Is(err, digest.ErrMismatch) || !strings.Contains(err.Error(), d.Delta.String()) {
			t.Errorf("a bit at %d of the delta flipped: %v", off, err)
		}
		if _, err := l.Stat(layers[1].Digest); !errors.Is(err, layout.ErrNotFound) {
			t.Errorf("a bit at %d of the delta flipped: the layer is there: %v", off, err)
		}
	}
	late := layouttest.New(t)
	apply(t, late, bundle)
	flip(late, d.Delta, d.DeltaSize-3)
	said = nil
	if _, err := Unbundle(t.Context(), late, bytes.NewReader(first), o); err != nil {
		t.Error(err)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, d.Delta.String()) {
		t.Errorf("notices %q do not name the delta", said)
	}
}

// A bundle cannot have a blob removed that an image needs, by calling it a delta.
func TestDeltaDoesNotRemove(t *testing.T) {
	n := newNear(t)
	layers := n.versions(func(b []byte) []byte { return stdGzip(t, b) }, 2)
	plan := n.plan(BundleOptions{Have: have(layers[0]), Delta: true}, "v1")
	bundle := n.bundle(BundleOptions{Have: have(layers[0]), Delta: true}, "v1")
	at := bytes.Index(bundle, []byte("okl\x01"))
	l := layouttest.New(t)
	apply(t, l, n.bundle(BundleOptions{}, "v0"))
	// An artifact that is a delta.
	far := &near{t, l}
	payload := far.document(layerdelta.MediaType, bundle[at:at+int(plan.Deltas[0].DeltaSize)])
	m, err := image.NewManifest(image.ManifestOptions{ArtifactType: "application/x-test", Layers: []oci.Descriptor{payload}})
	if err != nil {
		t.Fatal(err)
	}
	far.document(oci.MediaTypeEmpty, []byte("{}"))
	far.tag(far.document(oci.MediaTypeManifest, m), "kept")
	apply(t, l, bundle)
	wholeNames(t, l)
}

// Deltas are looked at and removed under the lock of the layout: somebody who holds it may be about
// to name an image that needs one.
func TestDeltaStaysWhileTheLayoutIsLocked(t *testing.T) {
	n := newNear(t)
	layers := n.versions(func(b []byte) []byte { return stdGzip(t, b) }, 2)
	o := BundleOptions{Have: have(layers[0]), Delta: true}
	l := layouttest.New(t)
	apply(t, l, n.bundle(o, "v1"))
	deltas := n.plan(o, "v1").Deltas
	if err := l.ForgetWaiting(t.Context()); err != nil {
		t.Fatal(err)
	}

	unlock, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = newUnbundler(ctx, l, UnbundleOptions{}).dropDeltas(deltas)
	if _, statErr := l.Stat(deltas[0].Delta); !errors.Is(err, context.Canceled) || statErr != nil {
		t.Errorf("while it is locked: %v, the delta: %v", err, statErr)
	}

	unlock()
	err = newUnbundler(t.Context(), l, UnbundleOptions{}).dropDeltas(deltas)
	if _, statErr := l.Stat(deltas[0].Delta); err != nil || !errors.Is(statErr, layout.ErrNotFound) {
		t.Errorf("when it is unlocked: %v, the delta: %v", err, statErr)
	}
}

// plan works out a bundle.
func (n *near) plan(o BundleOptions, tag string) *BundlePlan {
	n.t.Helper()
	d, err := n.l.Resolve(oci.ImageName{Tag: tag})
	if err != nil {
		n.t.Fatal(err)
	}
	plan, err := NewBundle(n.t.Context(), []Image{{Source: n.l, Desc: d, Tag: tag}}, o)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(plan.Close)
	return plan
}
