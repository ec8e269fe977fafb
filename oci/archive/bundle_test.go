package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/oci/source"
)

// near is the side that makes bundles.
type near struct {
	t *testing.T
	l *layout.Layout
}

func newNear(t *testing.T) *near {
	t.Helper()
	return &near{t, layouttest.New(t)}
}

// layer stores a layer of one file with fixed noise.
func (n *near) layer(seed uint64, size int, o image.LayerOptions) oci.Descriptor {
	n.t.Helper()
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range data {
		data[i] = byte(r.IntN(64))
	}
	if o.Compression == "" {
		o.Compression = image.Gzip
	}
	d, err := image.AddLayer(n.t.Context(), n.l, bytes.NewReader(layerTar(n.t, fmt.Sprintf("file%d", seed), string(data))), o)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// image stores and tags an image.
func (n *near) image(created string, layers []oci.Descriptor, tags ...string) oci.Descriptor {
	n.t.Helper()
	var ids []string
	for _, l := range layers {
		id, _ := l.DiffID()
		ids = append(ids, `"`+id.String()+`"`)
	}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","created":%q,"rootfs":{"type":"layers","diff_ids":[%s]}}`, created, strings.Join(ids, ","))
	if created == "" {
		config = strings.Replace(config, `"created":"",`, fmt.Sprintf(`"author":"%d",`, len(layers)+len(ids[0])), 1)
	}
	c := n.document(oci.MediaTypeConfig, []byte(config))
	m, err := image.NewManifest(image.ManifestOptions{Config: c, Layers: layers})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.tag(n.document(oci.MediaTypeManifest, m), tags...)
}

func (n *near) document(mediaType string, document any) oci.Descriptor {
	n.t.Helper()
	return layouttest.Put(n.t, n.l, mediaType, document)
}

func (n *near) tag(d oci.Descriptor, tags ...string) oci.Descriptor {
	n.t.Helper()
	for _, tag := range tags {
		if err := n.l.Tag(n.t.Context(), tag, d, layout.TagOptions{}); err != nil {
			n.t.Fatal(err)
		}
	}
	return d
}

// artifact stores a manifest whose subject is desc.
func (n *near) artifact(subject oci.Descriptor, text string) oci.Descriptor {
	n.t.Helper()
	payload := n.document("text/plain", []byte(text))
	m, err := image.NewManifest(image.ManifestOptions{ArtifactType: "application/x-test", Layers: []oci.Descriptor{payload}, Subject: &subject})
	if err != nil {
		n.t.Fatal(err)
	}
	n.document(oci.MediaTypeEmpty, []byte("{}"))
	return n.document(oci.MediaTypeManifest, m)
}

func (n *near) bundle(o BundleOptions, tags ...string) []byte {
	n.t.Helper()
	var images []Image
	for _, tag := range tags {
		d, err := n.l.Resolve(oci.ImageName{Tag: tag})
		if err != nil {
			n.t.Fatal(err)
		}
		images = append(images, Image{Source: n.l, Desc: d, Tag: tag})
	}
	return n.save(images, o)
}

func (n *near) save(images []Image, o BundleOptions) []byte {
	n.t.Helper()
	plan, err := NewBundle(n.t.Context(), images, o)
	if err == nil {
		defer plan.Close()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := plan.Save(n.t.Context(), &b); err != nil {
		n.t.Fatal(err)
	}
	return b.Bytes()
}

func have(descs ...oci.Descriptor) *Inventory { return InventoryOf(descs) }

// apply applies a bundle, which must do what a dry run has said.
func apply(t *testing.T, l *layout.Layout, bundle []byte) Result {
	t.Helper()
	before := snapshot(t, l.Name())
	plan, planErr := Unbundle(t.Context(), l, bytes.NewReader(bundle), UnbundleOptions{DryRun: true})
	if !maps.Equal(snapshot(t, l.Name()), before) {
		t.Fatal("a dry run changed the layout")
	}

	r, err := Unbundle(t.Context(), l, bytes.NewReader(bundle), UnbundleOptions{})
	if err != nil && !errors.Is(err, layout.ErrIncomplete) {
		t.Fatal(err)
	}
	if (len(r.Missing) > 0) != (err != nil) {
		t.Fatalf("%d images are incomplete, error %v", len(r.Missing), err)
	}

	if (planErr != nil) != (err != nil) {
		t.Fatalf("dry run: %v, run: %v", planErr, err)
	}
	for _, p := range [][2]any{{plan.Named, r.Named}, {plan.Missing, r.Missing}, {plan.Waiting, r.Waiting}, {plan.Made, r.Made}} {
		if !reflect.DeepEqual(p[0], p[1]) {
			t.Fatalf("the dry run says %+v, the run did %+v", p[0], p[1])
		}
	}

	// The files that came are those of which the dry run says so.
	var said, came []string
	for _, b := range plan.Brought {
		if b.How != layout.HowKept {
			said = append(said, b.Digest.Encoded())
		}
	}
	for _, d := range plan.Made {
		said = append(said, d.Digest.Encoded())
	}
	for name, data := range snapshot(t, l.Name()) {
		if strings.HasPrefix(name, "blobs") && before[name] != data {
			came = append(came, filepath.Base(name))
		}
	}
	slices.Sort(said)
	slices.Sort(came)
	if !slices.Equal(said, came) {
		t.Fatalf("the dry run says that %v come, and %v came", said, came)
	}
	return r
}

// named returns what index.json says, "NAME=DIGEST" for each entry.
func named(t *testing.T, l *layout.Layout) []string {
	t.Helper()
	x, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, d := range x.Manifests {
		list = append(list, entryName(d)+"="+d.Digest.String())
	}
	return list
}

// snapshot returns all files of a layout.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		files[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// wholeNames fails unless every name leads to a whole and true image.
func wholeNames(t *testing.T, l *layout.Layout) {
	t.Helper()
	x, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range x.Manifests {
		if err := graph.Check(l, d, graph.Rules{}); err != nil {
			t.Fatalf("%s: %v", entryName(d), err)
		}
	}
	findings, _, err := l.Verify(t.Context(), layout.VerifyOptions{})
	if err != nil || len(findings) > 0 {
		t.Fatalf("verify: %v, %v", findings, err)
	}
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := 0; i <= len(p); i++ {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}

func TestBundleHoldsWhatIsLacking(t *testing.T) {
	n := newNear(t)
	a, b, c := n.layer(1, 5000, image.LayerOptions{}), n.layer(2, 5000, image.LayerOptions{}), n.layer(3, 5000, image.LayerOptions{})
	n.image("", []oci.Descriptor{a, b}, "v1")
	n.image("2020-01-01T00:00:00Z", []oci.Descriptor{a, c}, "v2")
	bundle := n.bundle(BundleOptions{Have: have(a, b)}, "v2")
	if !bytes.Equal(bundle, n.bundle(BundleOptions{Have: have(b, a)}, "v2")) {
		t.Error("the same bundle has other bytes")
	}
	inv, err := ReadInventory(t.Context(), bytes.NewReader(bundle))
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Items) != 3 || !inv.has(c.Digest) || inv.has(a.Digest) {
		t.Errorf("the bundle holds %v", inv.Items)
	}
	// What is left out need not be there to make the bundle; what is carried must.
	if err := n.l.RemoveBlob(a.Digest); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bundle, n.bundle(BundleOptions{Have: have(a, b)}, "v2")) {
		t.Error("without the blob that is left out the bundle has other bytes")
	}
	d, _ := n.l.Resolve(oci.ImageName{Tag: "v2"})
	if _, err := NewBundle(t.Context(), []Image{{Source: n.l, Desc: d}}, BundleOptions{}); !errors.Is(err, layout.ErrIncomplete) {
		t.Errorf("a bundle of an absent layer: %v", err)
	}
}

// Every order of a whole bundle, two deltas and one of another program ends in the same
// layout, byte for byte, and each name appears as soon as its image is whole.
func TestUnbundleInEveryOrder(t *testing.T) {
	n := newNear(t)
	bundles := chain(n)
	var want map[string]string
	for i, order := range permutations(len(bundles)) {
		if i%digesttest.Reps(1, 5) != 0 {
			continue
		}
		l := layouttest.New(t)
		for _, i := range order {
			apply(t, l, bundles[i])
			apply(t, l, bundles[i])
			wholeNames(t, l)
		}
		got := snapshot(t, l.Name())
		if want == nil {
			want = got
			if _, waits := got[layout.WaitingFile]; waits {
				t.Fatalf("something still waits: %s", got[layout.WaitingFile])
			}
		}
		compareSnapshots(t, fmt.Sprint(order), got, want)
	}
}

func compareSnapshots(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Fatalf("%s: %s differs:\n%.2000q\nwant\n%.2000q", what, name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Fatalf("%s: %s is there", what, name)
		}
	}
}

// chain makes bundles of three versions: the first whole, each other as a delta, with a name
// that moves, a referrer, a layer to rebuild, and what another program wrote.
func chain(n *near) [][]byte {
	a, b, c := n.layer(1, 70_000, image.LayerOptions{}), n.layer(2, 50_000, image.LayerOptions{}), n.layer(3, 30_000, image.LayerOptions{})
	same := n.layer(2, 50_000, image.LayerOptions{Level: 9}) // as b, but smaller
	n.image("2021-01-01T00:00:00Z", []oci.Descriptor{a, b}, "v1", "latest")
	first := n.bundle(BundleOptions{}, "v1", "latest")
	v2 := n.image("2022-01-01T00:00:00Z", []oci.Descriptor{a, same, c}, "v2", "latest")
	inv, err := LayoutInventory(n.t.Context(), n.l, false)
	if err != nil {
		n.t.Fatal(err)
	}
	n.list(n.artifact(v2, "sbom of v2"))
	inv.Items = slices.DeleteFunc(inv.Items, func(it Item) bool { // as if the far side had v1 alone
		return it.Digest == same.Digest || it.Digest == c.Digest
	})
	second := n.bundle(BundleOptions{Have: inv, SameContent: true, Referrers: true}, "v2", "latest")
	if len(second) > 60_000 {
		n.t.Fatalf("the second bundle has %d bytes: nothing was left out", len(second))
	}
	v3 := n.image("2023-01-01T00:00:00Z", []oci.Descriptor{a, same, n.layer(4, 20_000, image.LayerOptions{})}, "v3", "latest")
	third := foreign(n.t, n.bundle(BundleOptions{Have: have(a, b, c, same)}, "v3", "latest"))
	n.list(n.artifact(v3, "sbom of v3"))
	fourth := n.bundle(BundleOptions{Have: have(a, b, c, same), Referrers: true}, "v3")
	return [][]byte{first, second, third, fourth}
}

// list adds an entry without a name.
func (n *near) list(d oci.Descriptor) {
	n.t.Helper()
	if err := n.l.AddEntries(n.t.Context(), []oci.Descriptor{d}, graph.Rules{}); err != nil {
		n.t.Fatal(err)
	}
}

// foreign writes a bundle as "tar -C layout ." of another program might: "./" in front,
// members in another order, no ocikit-bundle.json.
func foreign(t *testing.T, bundle []byte) []byte {
	t.Helper()
	type file struct {
		hdr  *tar.Header
		data []byte
	}
	var files []file
	r := tar.NewReader(bytes.NewReader(bundle))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		data, err2 := io.ReadAll(r)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if hdr.Name != bundleFile {
			hdr.Name = "./" + hdr.Name
			files = append(files, file{hdr, data})
		}
	}
	slices.Reverse(files)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		w.WriteHeader(f.hdr)
		w.Write(f.data)
	}
	w.Close()
	return b.Bytes()
}

func TestWantedCompletes(t *testing.T) {
	n := newNear(t)
	a, b := n.layer(1, 5000, image.LayerOptions{}), n.layer(2, 5000, image.LayerOptions{})
	n.image("", []oci.Descriptor{a, b}, "v1")
	l := layouttest.New(t)
	r := apply(t, l, n.bundle(BundleOptions{Have: have(a, b)}, "v1"))
	if len(r.Missing) != 1 || len(r.Missing[0].Missing) != 2 || len(named(t, l)) != 0 {
		t.Fatalf("missing %v, names %v", r.Missing, named(t, l))
	}
	text, err := oci.Encode(r.Missing)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ReadWanted(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	root := want[0].Root
	r = apply(t, l, n.save([]Image{{Source: n.l, Desc: root, Tag: "v1"}}, BundleOptions{Want: want}))
	if got := named(t, l); len(r.Missing) != 0 || len(got) != 1 || !strings.HasPrefix(got[0], "v1=") {
		t.Fatalf("missing %v, names %v", r.Missing, got)
	}
	wholeNames(t, l)
}

// What is not a list of missing blobs is refused, or a bundle would be made of nothing.
func TestReadWantedRefuses(t *testing.T) {
	root := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest.FromBytes(nil).String() + `","size":0}`
	blob := `{"digest":"` + digest.FromBytes(nil).String() + `","size":0}`
	for name, text := range map[string]string{
		"nothing":                 "",
		"an object":               "{}",
		"no image":                "[]",
		"an image without a root": `[{"missing":[` + blob + `]}]`,
		"a blob without a digest": `[{"root":` + root + `,"missing":[` + blob + `,{"size":1}]}]`,
		"more behind it":          `[{"root":` + root + `,"missing":[` + blob + `]}] x`,
	} {
		if got, err := ReadWanted(strings.NewReader(text)); err == nil {
			t.Errorf("%s: ReadWanted = %+v", name, got)
		}
	}
	if got, err := ReadWanted(strings.NewReader(`[{"root":` + root + `,"missing":[` + blob + `]}]`)); err != nil || len(got) != 1 || len(got[0].Missing) != 1 {
		t.Errorf("ReadWanted = %+v, %v", got, err)
	}
}

// One bundle gives a name to one image: which of two it would be, the order would say.
func TestBundleOfOneNameTwice(t *testing.T) {
	n := newNear(t)
	a := n.image("", []oci.Descriptor{n.layer(1, 500, image.LayerOptions{})}, "a")
	b := n.image("", []oci.Descriptor{n.layer(1, 500, image.LayerOptions{}), n.layer(2, 500, image.LayerOptions{})}, "b")
	if plan, err := NewBundle(t.Context(), []Image{{Source: n.l, Desc: a, Tag: "v1"}, {Source: n.l, Desc: b, Tag: "v1"}}, BundleOptions{}); err == nil {
		plan.Close()
		t.Error("two images got one name")
	}
	twice := n.save([]Image{{Source: n.l, Desc: a, Tag: "v1"}, {Source: n.l, Desc: a, Tag: "v1"}, {Source: n.l, Desc: b, Tag: "v2"}}, BundleOptions{})
	l := layouttest.New(t)
	apply(t, l, twice)
	if got := named(t, l); len(got) != 2 {
		t.Errorf("names %v, want v1 and v2", got)
	}
}

// A layer that is not distributed is not missing: no bundle could bring it.
func TestForeignLayerIsNotMissing(t *testing.T) {
	n := newNear(t)
	foreign := oci.Descriptor{MediaType: oci.MediaTypeDockerLayerForeign, Digest: digest.FromBytes([]byte("elsewhere")), Size: 9}
	foreign = foreign.WithAnnotation(oci.AnnotationDiffID, digest.FromBytes([]byte("unpacked")).String())
	own := n.layer(1, 500, image.LayerOptions{})
	n.image("", []oci.Descriptor{foreign, own}, "v1")
	l := layouttest.New(t)
	r := apply(t, l, n.bundle(BundleOptions{Have: have(own)}, "v1"))
	if len(r.Missing) != 1 || len(r.Missing[0].Missing) != 1 || r.Missing[0].Missing[0].Digest != own.Digest {
		t.Errorf("missing %+v, want %s alone", r.Missing, own.Digest)
	}
	r = apply(t, l, n.bundle(BundleOptions{}, "v1"))
	if got := named(t, l); len(r.Missing) != 0 || len(got) != 1 {
		t.Errorf("missing %+v, names %v", r.Missing, got)
	}
}

// A blob that is there but damaged is as good as missing: a name does not rely on it, and the
// bundle that brings it heals it.
func TestUnbundleDoesNotRelyOnDamage(t *testing.T) {
	n := newNear(t)
	a, b := n.layer(1, 5000, image.LayerOptions{}), n.layer(2, 5000, image.LayerOptions{})
	n.image("", []oci.Descriptor{a, b}, "v1")
	l := layouttest.New(t)
	whole := n.bundle(BundleOptions{}, "v1")
	apply(t, l, whole)
	file := filepath.Join(l.Name(), "blobs", "sha256", a.Digest.Encoded())
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	os.Remove(file)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	n.image("2020-01-01T00:00:00Z", []oci.Descriptor{a}, "v2")
	r := apply(t, l, n.bundle(BundleOptions{Have: have(a)}, "v2"))
	if len(r.Missing) != 1 || len(r.Missing[0].Missing) != 1 || r.Missing[0].Missing[0].Digest != a.Digest {
		t.Fatalf("missing %v", r.Missing)
	}
	r = apply(t, l, whole)
	if len(r.Missing) != 0 || len(named(t, l)) != 2 {
		t.Fatalf("missing %v, names %v", r.Missing, named(t, l))
	}
	wholeNames(t, l)
}

func TestTwoImagesOfOneName(t *testing.T) {
	tests := []struct {
		name         string
		first, other string // when they were created
		want         string // what has the name after first, other, first
		replaced     string // and after first again, with --replace
	}{
		{"the later one", "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "other", "first"},
		{"the later one comes first", "2022-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "first", "first"},
		{"no times: the last to come", "", "1970-01-01T00:00:00Z", "other", "first"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNear(t)
			digests := map[string]digest.Digest{}
			a, b := n.layer(1, 500, image.LayerOptions{}), n.layer(2, 500, image.LayerOptions{})
			digests["first"] = n.image(test.first, []oci.Descriptor{a}, "latest").Digest
			first := n.bundle(BundleOptions{}, "latest")
			digests["other"] = n.image(test.other, []oci.Descriptor{a, b}, "latest").Digest
			other := n.bundle(BundleOptions{}, "latest")
			l := layouttest.New(t)
			apply(t, l, first)
			apply(t, l, other)
			apply(t, l, first)
			if got, want := named(t, l), "latest="+digests[test.want].String(); len(got) != 1 || got[0] != want {
				t.Errorf("names %v, want %s", got, want)
			}
			if _, err := Unbundle(t.Context(), l, bytes.NewReader(first), UnbundleOptions{Replace: true}); err != nil {
				t.Fatal(err)
			}
			if got, want := named(t, l), "latest="+digests[test.replaced].String(); len(got) != 1 || got[0] != want {
				t.Errorf("with Replace: names %v, want %s", got, want)
			}
		})
	}
}

// The lists under a fallback tag, as regctl keeps them, are joined whatever comes first.
func TestFallbackListsAreMerged(t *testing.T) {
	n := newNear(t)
	img := n.image("", []oci.Descriptor{n.layer(1, 500, image.LayerOptions{})}, "v1")
	tag := "sha256-" + img.Digest.Encoded()
	var bundles [][]byte
	for _, text := range []string{"sbom", "signature"} {
		ref := n.artifact(img, text)
		n.tag(n.document(oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{ref}}), tag)
		bundles = append(bundles, n.bundle(BundleOptions{Referrers: true}, "v1"))
	}
	var want map[string]string
	for _, order := range [][]int{{0, 1}, {1, 0}, {0, 1, 0}, {1, 0, 1, 1}} {
		l := layouttest.New(t)
		for _, i := range order {
			apply(t, l, bundles[i])
		}
		found, err := source.Referrers(l, []oci.Descriptor{img})
		distinct := map[digest.Digest]bool{}
		for _, r := range found {
			if !r.List {
				distinct[r.Desc.Digest] = true
			}
		}
		if err != nil || len(distinct) != 2 {
			t.Fatalf("%v: referrers %v, %v", order, found, err)
		}
		wholeNames(t, l)
		got := snapshot(t, l.Name())
		if want == nil {
			want = got
		}
		compareSnapshots(t, fmt.Sprint(order), got, want)
	}
}

func TestSameContent(t *testing.T) {
	tests := []struct {
		name      string
		here, far image.LayerOptions
		exact     bool
	}{
		{"level 9 of level 6", image.LayerOptions{Level: 9}, image.LayerOptions{Level: 6}, true},
		{"level 1 of a plain tar", image.LayerOptions{Level: 1}, image.LayerOptions{Compression: image.None}, true},
		{"plain tar of level 6", image.LayerOptions{Compression: image.None}, image.LayerOptions{Level: 6}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n, other := newNear(t), newNear(t)
			layer := n.layer(1, 100_000, test.here)
			n.image("", []oci.Descriptor{layer}, "v2")
			there := other.layer(1, 100_000, test.far)
			other.image("", []oci.Descriptor{there}, "v1")
			inv, err := LayoutInventory(t.Context(), other.l, false)
			if err != nil {
				t.Fatal(err)
			}
			var lines bytes.Buffer
			if err := inv.Write(&lines, false, true); err != nil {
				t.Fatal(err)
			}
			if inv, err = ReadInventory(t.Context(), &lines); err != nil {
				t.Fatal(err)
			}
			bundle := n.bundle(BundleOptions{Have: inv, SameContent: true}, "v2")
			if len(bundle) > 20_000 {
				t.Errorf("the bundle has %d bytes", len(bundle))
			}
			if r := apply(t, other.l, bundle); len(r.Missing) > 0 {
				t.Errorf("missing: %v", r.Missing)
			}
			wholeNames(t, other.l)
			// Without the other layer it is missing, and carried when asked for.
			l := layouttest.New(t)
			if r := apply(t, l, bundle); len(r.Missing) != 1 || r.Missing[0].Missing[0].Digest != layer.Digest {
				t.Errorf("missing: %v", r.Missing)
			}
			// The delta is remembered.
			apply(t, l, other.bundle(BundleOptions{}, "v1"))
			if got := named(t, l); len(got) != 2 {
				t.Errorf("names %v", got)
			}
			wholeNames(t, l)
		})
	}
}

func TestUnbundleRejects(t *testing.T) {
	n := newNear(t)
	a := n.layer(1, 5000, image.LayerOptions{})
	img := n.image("", []oci.Descriptor{a}, "v1")
	good := n.bundle(BundleOptions{}, "v1")
	edit := func(f func(hdr *tar.Header, data []byte) (*tar.Header, []byte)) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		r := tar.NewReader(bytes.NewReader(good))
		for {
			hdr, err := r.Next()
			if err == io.EOF {
				break
			}
			data, _ := io.ReadAll(r)
			if hdr, data = f(hdr, data); hdr != nil {
				hdr.Size = int64(len(data))
				if hdr.Typeflag != tar.TypeReg {
					hdr.Size = 0
				}
				w.WriteHeader(hdr)
				if hdr.Size > 0 {
					w.Write(data)
				}
			}
		}
		w.Close()
		return b.Bytes()
	}
	layer := "blobs/sha256/" + a.Digest.Encoded()
	on := func(name string, f func(hdr *tar.Header, data []byte) (*tar.Header, []byte)) []byte {
		return edit(func(hdr *tar.Header, data []byte) (*tar.Header, []byte) {
			if hdr.Name == name {
				return f(hdr, data)
			}
			return hdr, data
		})
	}
	text := func(name, old, new string) []byte {
		return on(name, func(hdr *tar.Header, data []byte) (*tar.Header, []byte) {
			if !bytes.Contains(data, []byte(old)) {
				t.Fatalf("%s does not contain %q", name, old)
			}
			return hdr, bytes.ReplaceAll(data, []byte(old), []byte(new))
		})
	}
	drop := func(hdr *tar.Header, data []byte) (*tar.Header, []byte) { return nil, nil }
	tests := []struct {
		name string
		data []byte
	}{
		{"nothing", nil},
		{"no tar", []byte(strings.Repeat("hello", 500))},
		{"cut", good[:len(good)-2000]},
		{"without end marks", good[:len(good)-1024]},
		{"no oci-layout", on("oci-layout", drop)},
		{"no index.json", on("index.json", drop)},
		{"another version", text("oci-layout", "1.0.0", "9.0.0")},
		{"a bit of the layer", on(layer, func(hdr *tar.Header, data []byte) (*tar.Header, []byte) {
			data = bytes.Clone(data)
			data[100] ^= 1
			return hdr, data
		})},
		{"a layer that is short", on(layer, func(hdr *tar.Header, data []byte) (*tar.Header, []byte) { return hdr, data[:100] })},
		{"a layer that is a link", on(layer, func(hdr *tar.Header, data []byte) (*tar.Header, []byte) {
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, "../../../secret"
			return hdr, nil
		})},
		{"index.json is a link", on("index.json", func(hdr *tar.Header, data []byte) (*tar.Header, []byte) {
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, "/etc/passwd"
			return hdr, nil
		})},
		{"a name that climbs", on(layer, func(hdr *tar.Header, data []byte) (*tar.Header, []byte) {
			hdr.Name = "blobs/sha256/../../../x"
			return hdr, data
		})},
		{"no images", text("index.json", `"manifests":[`, `"x":[`)},
		{"a name with an escape", text("index.json", `"v1"`, `"v\u001b1"`)},
		{"bundle and index disagree", text("ocikit-bundle.json", `"v1"`, `"v9"`)},
		{"a bundle of another version", text("ocikit-bundle.json", `"schemaVersion":1`, `"schemaVersion":2`)},
		{"a size that is wrong", text("index.json", fmt.Sprint(`"size":`, img.Size), fmt.Sprint(`"size":`, img.Size+1))},
		{"index.json twice, different", append(bytes.Clone(good[:len(good)-1024]), on("index.json", func(hdr *tar.Header, data []byte) (*tar.Header, []byte) {
			return hdr, append(data, ' ')
		})...)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := layouttest.New(t)
			r, err := Unbundle(t.Context(), l, bytes.NewReader(test.data), UnbundleOptions{})
			if err == nil {
				t.Errorf("no error, named %v", r.Named)
			}
			if got := named(t, l); len(got) > 0 {
				t.Errorf("names %v", got)
			}
			if _, err := os.Stat(filepath.Join(l.Name(), layout.WaitingFile)); err == nil {
				t.Error("something waits")
			}
			// The good one still works.
			apply(t, l, good)
			wholeNames(t, l)
		})
	}
}

// An image that waited and turned out malformed once vanished with a notice and success, also where
// the bundle at hand had brought it again.
func TestUnbundleRejectsWhatWaitedInVain(t *testing.T) {
	n := newNear(t)
	a := n.layer(1, 5000, image.LayerOptions{})
	wrong := a
	wrong.Size++
	img := n.image("", []oci.Descriptor{wrong})
	bundle := n.save([]Image{{Source: n.l, Desc: img, Tag: "v1"}}, BundleOptions{Have: have(a)})
	l := layouttest.New(t)
	if r := apply(t, l, bundle); len(r.Missing) != 1 {
		t.Fatalf("missing %v, want one image", r.Missing)
	}

	// The layer comes, and its size is not what the manifest says.
	src, err := n.l.OpenBlob(a.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if _, _, err := l.Put(src, a.Digest); err != nil {
		t.Fatal(err)
	}
	if r, err := Unbundle(t.Context(), l, bytes.NewReader(bundle), UnbundleOptions{}); !errors.Is(err, oci.ErrMalformed) {
		t.Errorf("the same bundle: named %v, missing %v, error %v, want %v", r.Named, r.Missing, err, oci.ErrMalformed)
	}
}

// An entry that waits with a wrong size must not take a right one of its digest along.
func TestUnbundleNamesBesideAHopelessEntry(t *testing.T) {
	n := newNear(t)
	img := n.image("", []oci.Descriptor{n.layer(1, 5000, image.LayerOptions{})}, "v1")
	l := layouttest.New(t)
	err := l.UpdateWaiting(t.Context(), func(_ *oci.Index, w *layout.Waiting) error {
		wrong := img.WithAnnotation(oci.AnnotationRefName, "v1")
		wrong.Size++
		w.Images = append(w.Images, wrong)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := apply(t, l, n.bundle(BundleOptions{}, "v1")); len(r.Named) != 1 || len(r.Waiting) != 0 {
		t.Errorf("named %v, waiting %v, want one image and none", r.Named, r.Waiting)
	}
	wholeNames(t, l)
}

func TestUnbundleEndsWithItsContext(t *testing.T) {
	n := newNear(t)
	n.image("", []oci.Descriptor{n.layer(1, 5000, image.LayerOptions{})}, "v1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unbundle(ctx, layouttest.New(t), bytes.NewReader(n.bundle(BundleOptions{}, "v1")), UnbundleOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
