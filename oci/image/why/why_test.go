package why

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/oci/source"
	"ocikit/tarutil/pack"
)

// words says causes as the tests want them.
func words(causes []Cause) (list []string) {
	for _, c := range causes {
		s := strings.Join(append(slices.Clone(c.Where), string(c.Kind)), ": ")
		if c.Path != "" {
			s += " " + c.Path
		}
		list = append(list, s)
	}
	return list
}

func TestDocuments(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want []string // pointer, values, "order", more
	}{
		{`{"a":1}`, `{ "a" : 1 }`, nil},
		{`{"a":1,"b":"x"}`, `{"b":"x","a":1}`, nil},
		{`{"a":1}`, `{"a":2}`, []string{`/a 1 2`}},
		{`{"a":1}`, `{"a":1.0}`, []string{`/a 1 1.0`}},
		{`{"a":null}`, `{}`, []string{`/a null -`}},
		{`{"a":{}}`, `{}`, []string{`/a {} -`}},
		{`{"a":{"b":1,"c":2}}`, `{}`, []string{`/a/b 1 -`, `/a/c 2 -`}},
		{`{"a/b":{"~":1}}`, `{"a/b":{"~":2}}`, []string{`/a~1b/~0 1 2`}},
		{`{"a":[1,2,3]}`, `{"a":[3,2,1]}`, []string{`/a order`}},
		{`{"a":[1,2]}`, `{"a":[1,3]}`, []string{`/a/1 2 3`}},
		{`{"a":[1,2]}`, `{"a":[1,2,3,4]}`, []string{`/a/2 - 3 more 2`}},
		{`{"a":[1,2]}`, `{"a":"x"}`, []string{`/a [1,2] "x"`}},
		{`{"config":{"Env":["A=1","B=2"]}}`, `{"config":{"Env":["B=2","A=1"]}}`, []string{`/config/Env order`}},
		{`{"config":{"Env":["A=1","B=2"]}}`, `{"config":{"Env":["C=3","B=2"]}}`, []string{`/config/Env/A "A=1" -`, `/config/Env/C - "C=3"`}},
		{`{"config":{"Env":["A=1","B=2"]}}`, `{"config":{"Env":["B=2","A=2"]}}`, []string{`/config/Env/A "A=1" "A=2"`, `/config/Env order`}},
		{`{"config":{}}`, `{"config":{"Env":["A=1"]}}`, []string{`/config/Env/A - "A=1"`}},
	} {
		changes, err := compareDocuments([]byte(tt.a), []byte(tt.b), nil)
		var got []string
		for _, c := range changes {
			here, there := c.Here, c.There
			if here == "" {
				here = "-"
			}
			if there == "" {
				there = "-"
			}
			switch {
			case c.Order:
				got = append(got, c.Pointer+" order")
			case c.More != 0:
				got = append(got, fmt.Sprintf("%s %s %s more %d", c.Pointer, here, there, c.More))
			default:
				got = append(got, fmt.Sprintf("%s %s %s", c.Pointer, here, there))
			}
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s and %s: %q, %v, want %q", tt.a, tt.b, got, err, tt.want)
		}
	}
	for _, bad := range []string{"", "[1]", `{"a":1,"a":2}`, "{", "\xff", strings.Repeat(`{"a":`, 100)} {
		_, err := compareDocuments([]byte("{}"), []byte(bad), nil)
		var side *SideError
		if !errors.As(err, &side) || !side.There {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestSpell(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want Spelling
	}{
		{`{"a":1,"b":[1,2]}`, `{"a":3,"b":[4,5]}`, spelledAlike},
		{`{"a":1,"b":2}`, `{"a": 1, "b": 2}`, Whitespace},
		{`{"a":1}`, "{\"a\":1}\n", Whitespace},
		{`{"a":"x y: {","b":2}`, `{"b":2,"a":"other"}`, KeyOrder},
		{`{"a":{"c":1,"b":2}}`, `{"a":{"b":1,"c":2}}`, KeyOrder},
		{`{"a b":1}`, `{"a b":2}`, spelledAlike},
		{`{"a":1}`, `{"a":1,"b":2}`, spelledAlike},
		{`{"a":"\u0041"}`, `{"a":"A"}`, spelledAlike},
		{`{`, `"`, spelledAlike},
	} {
		if got := spell([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("Spell(%s, %s) = %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
}

// A world is a layout to make images in.
type world struct {
	*testing.T
	l *layout.Layout
}

func newWorld(t *testing.T) world {
	return world{t, layouttest.New(t)}
}

// put stores a document: bytes as they are, anything else as JSON.
func (w world) put(mediaType string, document any) oci.Descriptor {
	w.Helper()
	return layouttest.Put(w, w.l, mediaType, document)
}

// layer stores a layer of files.
func (w world) layer(o image.LayerOptions, files ...string) oci.Descriptor {
	w.Helper()
	var buf bytes.Buffer
	dir := w.TempDir()
	var sources []pack.Source
	for _, f := range files {
		name, content, _ := strings.Cut(f, " ")
		sources = append(sources, pack.Source{Path: writeFile(w.T, dir, name, content), Dest: name})
	}
	if err := pack.Tar(w.Context(), &buf, sources, pack.Options{}); err != nil {
		w.Fatal(err)
	}
	d, err := image.AddLayer(w.Context(), w.l, &buf, o)
	if err != nil {
		w.Fatal(err)
	}
	return d
}

// image stores an image with a config that edit may change.
func (w world) image(edit func(*oci.Config, *oci.Manifest), layers ...oci.Descriptor) oci.Descriptor {
	w.Helper()
	c := oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"})
	for i, l := range layers {
		id, _ := l.DiffID()
		if err := c.AddLayer(id, oci.History{CreatedBy: fmt.Sprint("step ", i), Created: "2024-01-01T00:00:00Z"}); err != nil {
			w.Fatal(err)
		}
	}
	m, err := image.NewManifest(image.ManifestOptions{Config: image.EmptyDescriptor(), Layers: layers})
	if err != nil {
		w.Fatal(err)
	}
	if edit != nil {
		edit(c, &m)
	}
	m.Config = w.put(oci.MediaTypeConfig, c)
	return w.put(oci.MediaTypeManifest, m)
}

func (w world) index(entries ...oci.Descriptor) oci.Descriptor {
	return w.put(oci.MediaTypeIndex, image.NewIndex(entries, nil))
}

func forPlatform(d oci.Descriptor, arch string) oci.Descriptor {
	d.Platform = &oci.Platform{OS: "linux", Architecture: arch}
	return d
}

func TestImages(t *testing.T) {
	w := newWorld(t)
	gz := image.LayerOptions{Compression: image.Gzip, Level: 6}
	a, b, c := w.layer(gz, "a 1"), w.layer(gz, "b 2"), w.layer(gz, "c 3")
	ab := w.layer(gz, "a 1", "b 2")
	a2, a2Zstd := w.layer(gz, "a 2"), w.layer(image.LayerOptions{Compression: image.Zstd, Level: 3}, "a 2")
	aZstd, aPlain := w.layer(image.LayerOptions{Compression: image.Zstd, Level: 3}, "a 1"), w.layer(image.LayerOptions{Compression: image.None}, "a 1")
	base := w.image(nil, a, b)
	other := w.image(nil, a2, b)
	absent := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromBytes([]byte("x")), Size: 1}
	gone := a
	gone.Digest, gone.Size = digest.FromBytes([]byte("y")), 1

	for _, tt := range []struct {
		name string
		a, b oci.Descriptor
		want []string
	}{
		{"the same", base, base, nil},
		{"a member", base, w.image(func(c *oci.Config, _ *oci.Manifest) { c.Set("author", "me") }, a, b), []string{"config: member /author"}},
		{"two branches", base, w.image(func(c *oci.Config, m *oci.Manifest) {
			c.Set("author", "me")
			m.Annotations = oci.AnnotationsOf(map[string]string{"k": "v"})
		}, a2, b),
			[]string{"manifest: member /annotations/k", "config: member /author", "layer 0: content a"}},
		{"history", base, w.image(func(c *oci.Config, _ *oci.Manifest) {
			h := []oci.HistoryEntry{oci.NewHistoryEntry(oci.History{CreatedBy: "step 0", Created: "2025-01-01T00:00:00Z"}), oci.NewHistoryEntry(oci.History{CreatedBy: "step 1", Created: "2025-01-01T00:00:00Z"})}
			c.SetHistoryEntries(h)
		}, a, b), []string{"config: member /history/0/created"}},
		{"zstd", base, w.image(nil, aZstd, b), []string{"layer 0: compression same content"}},
		{"content and compression", base, w.image(nil, a2Zstd, b), []string{"layer 0: content a", "layer 0: compression"}},
		{"not compressed", base, w.image(nil, aPlain, b), []string{"layer 0: compression same content"}},
		{"annotation of a layer", base, w.image(func(_ *oci.Config, m *oci.Manifest) { m.Layers[1] = m.Layers[1].WithAnnotation("k", "v") }, a, b), []string{"layer 1: member /annotations/k"}},
		{"order of layers", base, w.image(func(c *oci.Config, _ *oci.Manifest) {}, b, a), []string{"layer-order"}},
		{"a layer more", base, w.image(nil, a, b, c), []string{"layers-there 2"}},
		{"a layer more, below", base, w.image(func(c *oci.Config, _ *oci.Manifest) { h, _ := c.HistoryEntries(); c.SetHistoryEntries(h[:2]) }, c, a, b), []string{"layers-there 0"}},
		{"the same files in one layer", w.image(func(c *oci.Config, _ *oci.Manifest) { c.SetHistoryEntries(nil) }, a, b), w.image(func(c *oci.Config, _ *oci.Manifest) { c.SetHistoryEntries(nil) }, ab), []string{"layering"}},
		{"other files in one layer", w.image(func(c *oci.Config, _ *oci.Manifest) { c.SetHistoryEntries(nil) }, a2, b), w.image(func(c *oci.Config, _ *oci.Manifest) { c.SetHistoryEntries(nil) }, ab), []string{"files a"}},
		{"a diff ID that is wrong", base, w.image(func(c *oci.Config, _ *oci.Manifest) {
			id, _ := c2(c)
			c.SetDiffIDs(id)
		}, a, b), []string{"layer 0: claimed-diff-id"}},
		{"a layer that is absent", base, w.image(nil, gone, b), []string{"layer 0: absent"}},
		{"an index and its image", w.index(forPlatform(base, "amd64")), base, []string{"kind linux/amd64"}},
		{"an index of another image", w.index(forPlatform(base, "amd64")), other, []string{"kind", "image: layer 0: content a"}},
		{"an index of two, and one", w.index(forPlatform(base, "amd64"), forPlatform(other, "arm64")), base, []string{"kind linux/amd64"}},
		{"an index of two, and another image", w.index(forPlatform(base, "amd64"), forPlatform(other, "arm64")), w.image(nil, c), []string{"kind"}},
		{"another order of platforms", w.index(forPlatform(base, "amd64"), forPlatform(other, "arm64")), w.index(forPlatform(other, "arm64"), forPlatform(base, "amd64")), []string{"index: manifest-order"}},
		{"a platform less", w.index(forPlatform(base, "amd64"), forPlatform(other, "arm64")), w.index(forPlatform(base, "amd64")), []string{"index: platform-here linux/arm64"}},
		{"one platform of two", w.index(forPlatform(base, "amd64"), forPlatform(other, "arm64")), w.index(forPlatform(base, "amd64"), forPlatform(base, "arm64")), []string{"linux/arm64: layer 0: content a"}},
		{"one entry's annotation", w.index(forPlatform(base, "amd64")), w.index(forPlatform(base.WithAnnotation("k", "v"), "amd64")), []string{"index: linux/amd64: member /annotations/k"}},
		{"another name for a platform", w.index(forPlatform(base, "amd64")), w.index(forPlatform(base, "arm64")), []string{"index: linux/amd64: member /platform/architecture"}},
		{"an image that is absent", w.index(forPlatform(base, "amd64")), w.index(forPlatform(absent, "amd64")), []string{"linux/amd64: absent"}},
		{"written with blanks", base, w.spaced(base), []string{"manifest: json"}},
		{"the same by another algorithm", base, w.sha512(base), []string{"algorithm"}},
		{"the same config by another algorithm", base, w.image512(base), []string{"algorithm"}},
		{"an image and an artifact", base, w.artifact(a), []string{"kind"}},
		{"artifacts of one blob and of two others", w.artifact(a), w.artifact(b, c), []string{"manifest: member /layers"}},
		{"attestations of one statement and of two others", w.index(w.attestation(base, "one")), w.index(w.attestation(base, "two", "three")),
			[]string{"attestation: manifest: member /layers"}},
		{"an embedded layer", base, w.image(func(_ *oci.Config, m *oci.Manifest) { m.Layers[0].Data = w.read(m.Layers[0]) }, a, b), []string{"layer 0: member /data"}},
	} {
		for _, swap := range []bool{false, true} {
			x, y, want := tt.a, tt.b, slices.Clone(tt.want)
			if swap {
				x, y = y, x
				for i := range want {
					r := strings.NewReplacer("layers-there", "layers-here", "platform-here", "platform-there", "index: linux/amd64: member /plat", "index: linux/arm64: member /plat")
					want[i] = r.Replace(want[i])
				}
			}
			got, err := Images(t.Context(), Image{w.l, x}, Image{w.l, y})
			if err != nil || !slices.Equal(words(got), want) {
				t.Errorf("%s, swapped %t: %v\ngot  %q\nwant %q", tt.name, swap, err, words(got), want)
			}
		}
	}
}

// An attestation and an image are not compared with each other because each is left over in its index.
func TestAttestationAndPlatform(t *testing.T) {
	w := newWorld(t)
	base := w.image(nil, w.layer(image.LayerOptions{Compression: image.Gzip, Level: 6}, "a 1"))
	attested := w.index(forPlatform(base, "amd64"), w.attestation(base, "one"))
	plain := w.index(forPlatform(base, "amd64"), forPlatform(w.image(nil), "arm64"))

	got, err := Images(t.Context(), Image{w.l, attested}, Image{w.l, plain})
	if want := []string{"index: platform-here attestation", "index: platform-there linux/arm64"}; err != nil || !slices.Equal(words(got), want) {
		t.Errorf("got %q, %v, want %q", words(got), err, want)
	}
}

// artifact stores an artifact of some blobs.
func (w world) artifact(layers ...oci.Descriptor) oci.Descriptor {
	w.Helper()
	m, err := image.NewManifest(image.ManifestOptions{ArtifactType: "text/x", Layers: layers})
	if err != nil {
		w.Fatal(err)
	}
	return w.put(oci.MediaTypeManifest, m)
}

// attestation stores one as BuildKit makes it: an image for no platform, of layers that are statements.
func (w world) attestation(of oci.Descriptor, statements ...string) oci.Descriptor {
	w.Helper()
	d := w.image(func(_ *oci.Config, m *oci.Manifest) {
		m.Layers = nil
		for _, s := range statements {
			m.Layers = append(m.Layers, w.put("application/vnd.in-toto+json", []byte(s)))
		}
	})
	d = d.WithAnnotation("vnd.docker.reference.type", "attestation-manifest").WithAnnotation(oci.AnnotationAttested, of.Digest.String())
	d.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
	return d
}

// image512 stores an image again, with digests of another algorithm in its manifest, too.
func (w world) image512(desc oci.Descriptor) oci.Descriptor {
	w.Helper()
	m, err := oci.DecodeManifest(desc, w.read(desc))
	if err != nil {
		w.Fatal(err)
	}
	m.Config = w.sha512(m.Config)
	for i, l := range m.Layers {
		m.Layers[i] = w.sha512(l)
	}
	return w.sha512(w.put(oci.MediaTypeManifest, m))
}

// c2 returns diff IDs of which the first is wrong.
func c2(c *oci.Config) ([]digest.Digest, error) {
	ids, err := c.DiffIDs()
	ids[0] = digest.FromBytes([]byte("wrong"))
	return ids, err
}

// sha512 stores a manifest under a digest of another algorithm.
func (w world) sha512(d oci.Descriptor) oci.Descriptor {
	d, err := w.l.PutDocumentWith(digest.SHA512, d.MediaType, w.read(d))
	if err != nil {
		w.Fatal(err)
	}
	return d
}

// read returns the bytes of a blob.
func (w world) read(d oci.Descriptor) []byte {
	blob, err := w.l.Blob(d)
	if err != nil {
		w.Fatal(err)
	}
	defer blob.Close()
	data, err := io.ReadAll(blob)
	if err != nil {
		w.Fatal(err)
	}
	return data
}

// spaced stores a manifest again with a blank behind it.
func (w world) spaced(d oci.Descriptor) oci.Descriptor {
	doc, err := w.l.Document(d)
	if err != nil {
		w.Fatal(err)
	}
	return w.put(d.MediaType, append(doc, '\n'))
}

// Images that differ have a cause, always.
func TestRandomImages(t *testing.T) {
	w := newWorld(t)
	gz := image.LayerOptions{Compression: image.Gzip, Level: 6}
	layers := []oci.Descriptor{w.layer(gz, "a 1"), w.layer(gz, "b 2"), w.layer(gz, "a 3"), w.layer(image.LayerOptions{Compression: image.None}, "a 1")}
	random := func(r *rand.Rand) oci.Descriptor {
		var chosen []oci.Descriptor
		for range r.IntN(4) {
			chosen = append(chosen, layers[r.IntN(len(layers))])
		}
		d := w.image(func(c *oci.Config, m *oci.Manifest) {
			if r.IntN(3) == 0 {
				c.SetEnv("A", fmt.Sprint(r.IntN(2)))
			}
			if r.IntN(3) == 0 {
				m.Annotations = oci.AnnotationsOf(map[string]string{"k": fmt.Sprint(r.IntN(2))})
			}
		}, chosen...)
		if r.IntN(3) == 0 {
			d = w.index(forPlatform(d, "amd64"), forPlatform(w.image(nil, layers[0]), "arm64"))
		}
		return d
	}
	seeds := uint64(15)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3))
		a, b := random(r), random(r)
		causes, err := Images(t.Context(), Image{w.l, a}, Image{w.l, b})
		if err != nil || (len(causes) == 0) != (a.Digest == b.Digest) {
			t.Errorf("seed %d: %q, %v; %s and %s", seed, words(causes), err, a.Digest, b.Digest)
		}
	}
}

// Compressed files: the encoders are named.
func TestBlobs(t *testing.T) {
	var text bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for text.Len() < 400<<10 {
		fmt.Fprintf(&text, "%d words %d and numbers\n", r.IntN(1000), r.IntN(90))
	}
	goGzip := func(level int) []byte {
		var buf bytes.Buffer
		zw, _ := gzip.NewWriterLevel(&buf, level)
		zw.Write(text.Bytes())
		zw.Close()
		return buf.Bytes()
	}
	own := func(c image.Compression, level int) []byte {
		var buf bytes.Buffer
		w, err := image.NewLayerEncoder(&buf, image.LayerOptions{Compression: c, Level: level})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		io.Copy(w, bytes.NewReader(tarOf(t, text.Bytes())))
		if _, err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	six := goGzip(6)
	emptyMember := []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, tt := range []struct {
		name        string
		a, b        []byte
		here, there string
		want        []string
	}{
		{"the same", six, bytes.Clone(six), "", "", nil},
		{"Go's levels", goGzip(1), six, "Go ... -1", "Go ... -6", []string{"compression same content"}},
		{"our levels", own(image.Gzip, 1), own(image.Gzip, 9), "ocikit -1", "ocikit -9", []string{"compression same content"}},
		{"gzip and zstd", own(image.Gzip, 6), own(image.Zstd, 3), "gzip", "zstd", []string{"compression same content"}},
		{"our levels of zstd", own(image.Zstd, 1), own(image.Zstd, 9), "ocikit zstd -1", "ocikit zstd -9", []string{"compression same content"}},
		{"two members", append(bytes.Clone(six), emptyMember...), six, "", "", []string{"gzip-end"}},
		{"zeros behind", append(bytes.Clone(six), make([]byte, 100)...), six, "", "", []string{"gzip-end"}},
		{"texts", []byte("some text"), []byte("some next"), "9", "9", []string{"bytes 5"}},
		{"documents", []byte(`{"a":1}`), []byte(`{"a":2}`), "1", "2", []string{"member /a"}},
	} {
		blob := func(data []byte) Blob {
			return Blob{func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
		}
		causes, err := Blobs(t.Context(), blob(tt.a), blob(tt.b))
		if err != nil || !slices.Equal(words(causes), tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.name, words(causes), err, tt.want)
		}
		if len(causes) > 0 && tt.here != "" && (!isLike(causes[0].Here, tt.here) || !isLike(causes[0].There, tt.there)) {
			t.Errorf("%s: %+v, want %s and %s", tt.name, causes[0], tt.here, tt.there)
		}
	}
}

// isLike reports whether a text is as wanted, "..." standing for anything: encoders of Go are named by
// the releases that have them.
func isLike(got, want string) bool {
	head, tail, ok := strings.Cut(want, "...")
	return got == want || ok && strings.HasPrefix(got, head) && strings.HasSuffix(got, tail)
}

// What is damaged is an error that says which of the two it is.
func TestDamaged(t *testing.T) {
	w := newWorld(t)
	gz := image.LayerOptions{Compression: image.Gzip, Level: 6}
	good := w.image(nil, w.layer(gz, "a 1"))
	noTar := w.put(oci.MediaTypeLayerGzip, []byte("\x1f\x8bno gzip"))
	noTar = noTar.WithAnnotation(oci.AnnotationDiffID, digest.FromBytes(nil).String())
	noManifest := w.put(oci.MediaTypeManifest, []byte("{}"))
	for name, bad := range map[string]oci.Descriptor{"layer": w.image(nil, noTar), "manifest": noManifest} {
		_, err := Images(context.Background(), Image{w.l, good}, Image{w.l, bad})
		var side *SideError
		if !errors.As(err, &side) || !side.There {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Images(t.Context(), Image{w.l, good}, Image{missing{w.l}, noManifest}); !errors.Is(err, errMissing) {
		t.Errorf("a source that fails: %v", err)
	}
}

// What is not there is the cause, on the side where it lacks.
func TestAbsent(t *testing.T) {
	w := newWorld(t)
	gz := image.LayerOptions{Compression: image.Gzip, Level: 6}
	there := w.image(nil, w.layer(gz, "a 1"))
	gone := oci.Describe(oci.MediaTypeManifest, []byte("gone"))
	lost := oci.Describe(oci.MediaTypeManifest, []byte("lost"))
	for _, c := range []struct{ a, b, here, there oci.Descriptor }{
		{a: there, b: gone, there: gone},
		{a: gone, b: there, here: gone},
		{a: gone, b: lost, here: gone, there: lost},
	} {
		text := func(d oci.Descriptor) string {
			if d.Size == 0 {
				return ""
			}
			return d.Digest.String()
		}
		for name, compare := range map[string]func(a, b Image) ([]Cause, error){
			"Images":  func(a, b Image) ([]Cause, error) { return Images(t.Context(), a, b) },
			"Members": Members,
		} {
			got, err := compare(Image{w.l, c.a}, Image{w.l, c.b})
			if err != nil || len(got) != 1 || got[0].Kind != Absent || got[0].Here != text(c.here) || got[0].There != text(c.there) {
				t.Errorf("%s of %s and %s: %+v, %v", name, c.a.Digest, c.b.Digest, got, err)
			}
		}
	}
	if _, err := Members(Image{w.l, there}, Image{missing{w.l}, gone}); !errors.Is(err, errMissing) {
		t.Errorf("Members of a source that fails: %v", err)
	}
}

// A document that one side has more members in is spelled otherwise without saying so.
func TestSpellingIsSaidAlone(t *testing.T) {
	w := newWorld(t)
	put := func(text string) oci.Descriptor { return w.put(oci.MediaTypeManifest, []byte(text)) }
	const manifest = `{"schemaVersion":2,"config":{"mediaType":"application/x","digest":"%s","size":2},"layers":[]%s}`
	config := w.put("application/x", []byte("{}")).Digest.String()
	plain := put(fmt.Sprintf(manifest, config, ""))
	for more, want := range map[string][]string{
		` `:                          {"manifest: json"},
		`, "annotations":{"a":"1"}`:  {"manifest: member /annotations/a"},
		`, "annotations":{"a":"1"} `: {"manifest: member /annotations/a"},
	} {
		other := put(fmt.Sprintf(manifest, config, more))
		for _, pair := range [][2]oci.Descriptor{{plain, other}, {other, plain}} {
			got, err := Images(t.Context(), Image{w.l, pair[0]}, Image{w.l, pair[1]})
			if err != nil || !slices.Equal(words(got), want) {
				t.Errorf("%q: %q, %v, want %q", more, words(got), err, want)
			}
		}
	}
}

// The header of a frame may be cut anywhere.
func TestZstdFrame(t *testing.T) {
	const magic = "\x28\xb5\x2f\xfd"
	for head, want := range map[string]string{
		"": "zstd", magic: "zstd", magic + "\x00": "zstd", "abcdef": "zstd",
		magic + "\x00\x00": "zstd with a window of 1 KiB",
		magic + "\x04\x59": "zstd with a window of 2304 KiB, with a checksum",
		magic + "\x20\x01": "zstd, with its size",
		magic + "\x40\x00": "zstd with a window of 1 KiB, with its size",
	} {
		if got := zstdFrame([]byte(head)); got != want {
			t.Errorf("zstdFrame(%q) = %q, want %q", head, got, want)
		}
	}
}

var errMissing = errors.New("disk is gone")

// missing is a source whose documents cannot be read.
type missing struct{ *layout.Layout }

func (missing) Document(oci.Descriptor) ([]byte, error) { return nil, errMissing }

// writeFile writes a file and returns its path.
func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tarOf makes a tar of one file.
func tarOf(t *testing.T, content []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	path := writeFile(t, t.TempDir(), "f", string(content))
	if err := pack.Tar(t.Context(), &buf, []pack.Source{{Path: path}}, pack.Options{}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// What a cause of another order shows is the first place where the two lists differ, whatever stands
// before it or on one side alone.
func TestOrderOfEntries(t *testing.T) {
	w := newWorld(t)
	image := func(arch, note string) oci.Descriptor {
		return forPlatform(w.image(func(_ *oci.Config, m *oci.Manifest) {
			m.Annotations = oci.AnnotationsOf(map[string]string{"note": note})
		}), arch)
	}
	amd, arm, s390, riscv := image("amd64", "1"), image("arm64", "2"), image("s390x", "3"), image("riscv64", "4")
	again := image("amd64", "5")

	for _, tt := range []struct {
		name        string
		a, b        []oci.Descriptor
		here, there string
	}{
		{"the first", []oci.Descriptor{amd, arm}, []oci.Descriptor{arm, amd}, "linux/amd64", "linux/arm64"},
		{"behind an equal one", []oci.Descriptor{amd, arm, s390}, []oci.Descriptor{amd, s390, arm}, "linux/arm64", "linux/s390x"},
		{"behind one of this side", []oci.Descriptor{riscv, arm, s390}, []oci.Descriptor{s390, arm}, "linux/arm64", "linux/s390x"},
		{"behind one of that side", []oci.Descriptor{arm, s390}, []oci.Descriptor{riscv, s390, arm}, "linux/arm64", "linux/s390x"},
		{"of one name", []oci.Descriptor{amd, again}, []oci.Descriptor{again, amd}, amd.Digest.String(), again.Digest.String()},
		{"none", []oci.Descriptor{riscv, amd, arm}, []oci.Descriptor{amd, arm}, "", ""},
	} {
		causes, err := Images(t.Context(), Image{w.l, w.index(tt.a...)}, Image{w.l, w.index(tt.b...)})
		if err != nil {
			t.Fatal(err)
		}

		var here, there string
		for _, c := range causes {
			if c.Kind == Manifests {
				here, there = c.Here, c.There
			}
		}
		if here != tt.here || there != tt.there {
			t.Errorf("%s: %q here, %q there, want %q, %q", tt.name, here, there, tt.here, tt.there)
		}
	}
}

// A list is the source of a layout with given entries.
type list struct {
	source.Source
	entries []oci.Descriptor
}

func (l list) Index() (oci.Index, error) { return oci.Index{Manifests: l.entries}, nil }

// A name that index.json has twice stands for two images. Each is compared with its like, not the first
// with the last.
func TestLayoutsWithOneNameTwice(t *testing.T) {
	w := newWorld(t)
	named := func(name, note string) oci.Descriptor {
		d := w.image(func(_ *oci.Config, m *oci.Manifest) {
			m.Annotations = oci.AnnotationsOf(map[string]string{"note": note})
		})
		return d.WithAnnotation(oci.AnnotationRefName, name)
	}
	a, b, c, other := named("x", "1"), named("x", "2"), named("x", "3"), named("y", "1")
	const differs = "x: manifest: member /annotations/note"

	for _, tt := range []struct {
		name        string
		here, there []oci.Descriptor
		want        []string
	}{
		{"the same", []oci.Descriptor{a, b}, []oci.Descriptor{a, b}, nil},
		{"in another order", []oci.Descriptor{a, b, other}, []oci.Descriptor{other, b, a}, nil},
		{"one differs", []oci.Descriptor{b, a}, []oci.Descriptor{a, c}, []string{differs}},
		{"both differ", []oci.Descriptor{a, a}, []oci.Descriptor{b, c}, []string{differs, differs}},
		{"one more here", []oci.Descriptor{a, b}, []oci.Descriptor{b}, []string{"platform-here x"}},
		{"one more there", []oci.Descriptor{b}, []oci.Descriptor{a, b}, []string{"platform-there x"}},
	} {
		causes, err := Layouts(t.Context(), list{w.l, tt.here}, list{w.l, tt.there})
		if err != nil || !slices.Equal(words(causes), tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.name, words(causes), err, tt.want)
		}
	}
}
