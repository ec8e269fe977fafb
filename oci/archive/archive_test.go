package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/tarutil"
)

// layerTar returns a tar with one file.
func layerTar(t testing.TB, name, content string) []byte {
	t.Helper()
	return tarOf(t, file(name, content))
}

// An entry is one member of a tar in the making.
type entry struct {
	hdr  tar.Header
	data string
}

func file(name, data string) entry {
	return entry{tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}, data}
}

func link(name, target string, typeflag byte) entry {
	return entry{tar.Header{Name: name, Linkname: target, Typeflag: typeflag}, ""}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.hdr.Typeflag != tar.TypeXGlobalHeader {
			e.hdr.ModTime = time.Unix(0, 0)
		}
		if err := w.WriteHeader(&e.hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// addImage stores an image with layers in a layout.
func addImage(t testing.TB, l *layout.Layout, arch string, layers ...string) oci.Descriptor {
	t.Helper()
	var descs []oci.Descriptor
	for i, content := range layers {
		d, err := image.AddLayer(t.Context(), l, bytes.NewReader(layerTar(t, "f", content)), image.LayerOptions{Compression: image.Gzip, Level: 6 - i%2})
		if err != nil {
			t.Fatal(err)
		}
		descs = append(descs, d)
	}
	return layouttest.PutImage(t, l, oci.NewConfig(oci.Platform{OS: "linux", Architecture: arch}), descs...)
}

func save(t testing.TB, format Format, images ...Image) []byte {
	t.Helper()
	p, err := NewPlan(images, format, graph.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.Save(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func names(t testing.TB, l *layout.Layout) (all []string) {
	t.Helper()
	x, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range x.Manifests {
		all = append(all, d.Annotations.Get(oci.AnnotationRefName))
	}
	return all
}

// What is saved comes back: the same digests, in every format that keeps them, from a pipe,
// compressed or not, in any order of members, with "./" in front. podman#14978,
// bazel-contrib/rules_oci#328: the same images give the same bytes.
func TestRoundTrip(t *testing.T) {
	l := layouttest.New(t)
	one := addImage(t, l, "amd64", "a", "b", "a")
	arm := addImage(t, l, "arm64", "c")
	one.Platform, arm.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}, &oci.Platform{OS: "linux", Architecture: "arm64"}
	multi := layouttest.Put(t, l, oci.MediaTypeIndex, image.NewIndex([]oci.Descriptor{arm, one}, nil))
	one.Platform = nil
	images := []Image{
		{l, one, "v1", "docker.io/library/app:v1"},
		{l, multi, "v2", "example.com/app:v2"},
	}
	for _, format := range []Format{Both, OCI, Docker} {
		data := save(t, format, images...)
		if again := save(t, format, images...); !bytes.Equal(data, again) {
			t.Errorf("%s: the same images gave other bytes", format)
		}
		plan, err := NewPlan(images, format, graph.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		checkMembers(t, data, plan)
		for name, in := range map[string][]byte{"plain": data, "gzip": digesttest.Gzipped(data), "reversed": reversed(t, data, ""), "dots": reversed(t, data, "./")} {
			to := layouttest.New(t)
			entries, err := Load(t.Context(), to, iotest.OneByteReader(bytes.NewReader(in)), LoadOptions{})
			if err != nil {
				t.Fatalf("%s, %s: %v", format, name, err)
			}
			if got := names(t, to); len(got) != 2 || got[0] != "v1" || got[1] != "v2" {
				t.Errorf("%s, %s: names %q", format, name, got)
			}
			if entries[0].Digest != one.Digest {
				t.Errorf("%s, %s: %s, want %s", format, name, entries[0].Digest, one.Digest)
			}
			if format != Docker && entries[1].Digest != multi.Digest {
				t.Errorf("%s, %s: %s, want %s", format, name, entries[1].Digest, multi.Digest)
			}
			layouttest.MustVerify(t, to)
			dry, err := Load(t.Context(), nil, bytes.NewReader(in), LoadOptions{DryRun: true})
			if err != nil || len(dry) != 2 || dry[0].Digest != entries[0].Digest || dry[1].Digest != entries[1].Digest {
				t.Errorf("%s, %s: a dry run gave %+v, %v", format, name, dry, err)
			}
		}
	}
	only, err := Load(t.Context(), layouttest.New(t), bytes.NewReader(save(t, OCI, images[1])), LoadOptions{Platform: &oci.Platform{OS: "linux", Architecture: "arm64"}, Tag: "arm"})
	if err != nil || only[0].Digest != arm.Digest {
		t.Errorf("one platform: %+v, %v", only, err)
	}
}

// checkMembers checks what readers of streams ask for: documents come first, every directory
// has an entry (anchore/stereoscope#492), every blob is there once.
func checkMembers(t *testing.T, data []byte, plan *Plan) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(data))
	dirs, seen := map[string]bool{"": true}, map[string]bool{}
	layer := "" // the first
	for i := 0; ; i++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if hdr.Name != plan.Members[i].Path || hdr.Size != plan.Members[i].Size {
			t.Errorf("member %d is %q of %d bytes, the plan says %+v", i, hdr.Name, hdr.Size, plan.Members[i])
		}
		dir, _ := filepath.Split(strings.TrimSuffix(hdr.Name, "/"))
		if seen[hdr.Name] || !dirs[dir] {
			t.Errorf("member %q: twice %t, its directory came before %t", hdr.Name, seen[hdr.Name], dirs[dir])
		}
		seen[hdr.Name] = true
		if hdr.Typeflag == tar.TypeDir {
			dirs[hdr.Name] = true
		}
		// Who reads a stream knows what a layer is for when it comes.
		switch m := plan.Members[i]; {
		case oci.IsLayer(m.desc.MediaType):
			layer = cmp.Or(layer, hdr.Name)
		case layer != "" && !m.desc.Digest.IsZero():
			t.Errorf("document %q comes behind the layer %q", hdr.Name, layer)
		}
	}
}

// reversed returns a tar with its members in reverse order.
func reversed(t *testing.T, data []byte, prefix string) []byte {
	t.Helper()
	var entries []entry
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return tarOf(t, entries...)
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		hdr.Name = prefix + hdr.Name
		entries = append([]entry{{*hdr, string(content)}}, entries...)
	}
}

// A dockerArchive is what "docker save" writes, open for spoiling.
type dockerArchive struct {
	layers   [][]byte
	config   string
	manifest string
	extra    []entry
}

func newDockerArchive(t testing.TB) *dockerArchive {
	a := &dockerArchive{layers: [][]byte{layerTar(t, "a", "one"), layerTar(t, "b", "two")}}
	a.config = fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s","%s"]}}`, digest.FromBytes(a.layers[0]), digest.FromBytes(a.layers[1]))
	a.manifest = `[{"Config":"c.json","RepoTags":["hello:v1"],"Layers":["1/layer.tar","2/layer.tar"]}]`
	return a
}

func (a *dockerArchive) entries() []entry {
	return append([]entry{
		file("1/VERSION", "1.0"), file("1/json", "{}"), file("1/layer.tar", string(a.layers[0])),
		file("2/layer.tar", string(a.layers[1])), file("c.json", a.config), file("manifest.json", a.manifest),
	}, a.extra...)
}

// What must be loaded.
func TestLoadDocker(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, a *dockerArchive) []entry{
		"control": func(t *testing.T, a *dockerArchive) []entry { return a.entries() },
		// As docker save wrote it until 24: a layer that was saved before is a link.
		"a repeated layer is a symbolic link": func(t *testing.T, a *dockerArchive) []entry {
			a.config = strings.Replace(a.config, digest.FromBytes(a.layers[1]).String(), digest.FromBytes(a.layers[0]).String(), 1)
			e := a.entries()
			e[3] = link("2/layer.tar", "../1/layer.tar", tar.TypeSymlink)
			return e
		},
		"the link comes first, and through another": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2].hdr.Name = "x/real"
			return append([]entry{link("1/layer.tar", "../l", tar.TypeSymlink), link("l", "x/real", tar.TypeLink)}, e...)
		},
		"the link is written as if it began at the top": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2].hdr.Name = ".real.tar"
			return append([]entry{link("1/layer.tar", ".real.tar", tar.TypeSymlink)}, e...)
		},
		"one name in three ways": func(t *testing.T, a *dockerArchive) []entry {
			a.manifest = strings.Replace(a.manifest, `"hello:v1"`, `"hello:v1","library/hello:v1","docker.io/library/hello:v1"`, 1)
			return a.entries()
		},
		"the image is listed twice": func(t *testing.T, a *dockerArchive) []entry {
			a.manifest = strings.TrimSuffix(a.manifest, "]") + "," + strings.TrimPrefix(a.manifest, "[")
			return a.entries()
		},
		"RepoTags is null, as for an image ID": func(t *testing.T, a *dockerArchive) []entry {
			a.manifest = strings.Replace(a.manifest, `["hello:v1"]`, "null", 1)
			return a.entries()
		},
		"unknown members of manifest.json": func(t *testing.T, a *dockerArchive) []entry {
			a.manifest = strings.Replace(a.manifest, `"Config"`, `"LayerSources":{"x":{}},"Parent":"","Config"`, 1)
			return a.entries()
		},
		// As crane writes it: layers are compressed.
		"compressed layers": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			z := string(digesttest.Gzipped(a.layers[0]))
			e[2] = file("1/layer.tar", z)
			return e
		},
		"the same document twice": func(t *testing.T, a *dockerArchive) []entry {
			return append(a.entries(), file("./manifest.json", a.manifest))
		},
		"a global header": func(t *testing.T, a *dockerArchive) []entry {
			return append([]entry{{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""}}, a.entries()...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := layouttest.New(t)
			entries, err := Load(t.Context(), l, bytes.NewReader(tarOf(t, change(t, newDockerArchive(t))...)), LoadOptions{})
			if err != nil || len(entries) != 1 {
				t.Fatalf("Load = %+v, %v", entries, err)
			}
			layouttest.MustVerify(t, l)
			layers, err := image.Layers(l, entries[0])
			if err != nil || len(layers) != 2 {
				t.Fatalf("layers %+v, %v", layers, err)
			}
			full := entries[0].Annotations.Get(oci.AnnotationImageName)
			if tags := names(t, l); !strings.Contains(name, "null") && (tags[0] != "v1" || full != "docker.io/library/hello:v1") {
				t.Errorf("names %q, full name %q", tags, full)
			}
		})
	}
}

// Programs name the config in different ways: by its image ID, with the algorithm, or all alike.
func TestNamesOfDocker(t *testing.T) {
	a := newDockerArchive(t)
	id := digest.FromBytes([]byte(a.config))
	for _, name := range []string{id.Encoded() + ".json", id.String(), "blobs/sha256/" + id.Encoded(), "config.json"} {
		e := a.entries()
		e[4].hdr.Name = name
		e[5] = file("manifest.json", strings.Replace(a.manifest, "c.json", name, 1))
		got, err := list(t, tarOf(t, e...))
		if err != nil || len(got) != 1 || got[0].Annotations.Get(oci.AnnotationRefName) != "v1" {
			t.Fatalf("config %s: Index = %+v, %v", name, got, err)
		}
		m, err := image.Layers(archiveOf(t, tarOf(t, e...)), got[0])
		if err != nil || len(m) != 2 {
			t.Errorf("config %s: layers %+v, %v", name, m, err)
		}
	}
}

// archiveOf opens an archive as a stream of which documents are kept.
func archiveOf(t *testing.T, data []byte) *Archive {
	t.Helper()
	a, err := OpenStream(t.Context(), bytes.NewReader(data), "-", OpenOptions{Documents: true})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// list lists an archive without keeping it.
func list(t *testing.T, data []byte) ([]oci.Descriptor, error) {
	a, err := OpenStream(t.Context(), bytes.NewReader(data), "-", OpenOptions{Documents: true})
	if err != nil {
		return nil, err
	}
	x, err := a.Index()
	return x.Manifests, err
}

// The documents that are kept in memory of a stream have a budget, however small it is compressed.
func TestDocumentsBudget(t *testing.T) {
	docs := newDocuments(t.Context())
	docs.bytes = maxDocuments - 2
	keep := func(text string) error {
		_, err := docs.keep(tarEntry{hdr: &tar.Header{Name: "f", Size: int64(len(text))}, r: strings.NewReader(text)}, digest.Digest{})
		return err
	}
	if err := keep("{}"); err != nil {
		t.Errorf("the last document that fits: %v", err)
	}
	if err := errors.Join(keep("no document"), keep("{}")); err != nil {
		t.Errorf("what is not kept, or is kept already: %v", err)
	}
	if err := keep("{ }"); !errors.Is(err, oci.ErrMalformed) {
		t.Errorf("one more: %v, want %v", err, oci.ErrMalformed)
	}
}

// A pipe is read as it comes, also where it is a file of the operating system.
func TestOpenPipe(t *testing.T) {
	l := layouttest.New(t)
	data := save(t, OCI, Image{Source: l, Desc: addImage(t, l, "amd64", "one"), Tag: "v1"})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		w.Write(data)
	}()
	a, err := OpenStream(t.Context(), r, "-", OpenOptions{Documents: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if x, err := a.Index(); err != nil || len(x.Manifests) != 1 {
		t.Errorf("Index = %+v, %v", x.Manifests, err)
	}
}

// What Load refuses for its members alone, no other reader takes.
func TestListRefuses(t *testing.T) {
	a := newDockerArchive(t)
	for name, data := range map[string][]byte{
		"a climbing name":    tarOf(t, append(a.entries(), file("../index.json", "{}"))...),
		"no oci-layout":      tarOf(t, file("index.json", `{"schemaVersion":2,"manifests":[]}`)),
		"cut before its end": tarOf(t, a.entries()...)[:len(tarOf(t, a.entries()...))-1024],
	} {
		if got, err := list(t, data); err == nil {
			t.Errorf("%s: Index = %+v", name, got)
		}
	}
}

// What must be refused: nothing is named then. socktainer/socktainer#319: no phantom tags.
func TestRefuseDocker(t *testing.T) {
	canary := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(canary, layerTar(t, "a", "one"), 0o644); err != nil {
		t.Fatal(err)
	}
	type spoil func(t *testing.T, a *dockerArchive) []entry
	inManifest := func(old, new string) spoil {
		return func(t *testing.T, a *dockerArchive) []entry {
			if !strings.Contains(a.manifest, old) {
				t.Fatalf("no %q in %s", old, a.manifest)
			}
			a.manifest = strings.Replace(a.manifest, old, new, 1)
			return a.entries()
		}
	}
	without := func(n int) spoil {
		return func(t *testing.T, a *dockerArchive) []entry { return append(a.entries()[:n], a.entries()[n+1:]...) }
	}
	for name, change := range map[string]spoil{
		"Layers climbs":                  inManifest("1/layer.tar", "../../../"+canary),
		"Layers is absolute":             inManifest("1/layer.tar", canary),
		"Config climbs":                  inManifest("c.json", "x/../../c.json"),
		"manifest.json is null":          func(t *testing.T, a *dockerArchive) []entry { a.manifest = "null"; return a.entries() },
		"manifest.json is empty":         func(t *testing.T, a *dockerArchive) []entry { a.manifest = ""; return a.entries() },
		"manifest.json is []":            func(t *testing.T, a *dockerArchive) []entry { a.manifest = "[]"; return a.entries() },
		"manifest.json is [null]":        func(t *testing.T, a *dockerArchive) []entry { a.manifest = "[null]"; return a.entries() },
		"manifest.json is an object":     func(t *testing.T, a *dockerArchive) []entry { a.manifest = "{}"; return a.entries() },
		"a second list behind the first": inManifest(`"]}]`, `"]}],"x":[]`),
		"a member twice":                 inManifest(`"Config"`, `"Config":"1/json","Config"`),
		"a member in another case only":  inManifest(`"Config"`, `"config"`),
		"Layers are numbers":             inManifest(`["1/layer.tar","2/layer.tar"]`, `[1,2]`),
		"a layer is missing":             without(2),
		"the config is missing":          without(4),
		"manifest.json is missing":       without(5),
		"two layers, one diff ID":        func(t *testing.T, a *dockerArchive) []entry { a.config = cutDiffID(a.config); return a.entries() },
		"one layer, two diff IDs":        inManifest(`,"2/layer.tar"`, ""),
		"layers in the wrong order":      inManifest(`"1/layer.tar","2/layer.tar"`, `"2/layer.tar","1/layer.tar"`),
		"a layer is not a tar": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2] = file("1/layer.tar", "x")
			return e
		},
		"RepoTags is not a name":              inManifest("hello:v1", "Hello World"),
		"RepoTags holds an escape sequence":   inManifest("hello:v1", `hello:v1\u001b[2J`),
		"an absolute member":                  func(t *testing.T, a *dockerArchive) []entry { return append(a.entries(), file(canary, "x")) },
		"a member that climbs":                func(t *testing.T, a *dockerArchive) []entry { return append(a.entries(), file("../../x", "x")) },
		"a member that climbs and comes back": func(t *testing.T, a *dockerArchive) []entry { return append(a.entries(), file("x/../../l/y", "x")) },
		"a link to outside": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2] = link("1/layer.tar", canary, tar.TypeSymlink)
			return e
		},
		"a link that climbs": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2] = link("1/layer.tar", "../../secret", tar.TypeSymlink)
			return e
		},
		"a hard link to outside": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2] = link("1/layer.tar", canary, tar.TypeLink)
			return e
		},
		"links in a circle": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2] = link("1/layer.tar", "../l", tar.TypeSymlink)
			return append(e, link("l", "1/layer.tar", tar.TypeSymlink))
		},
		"a link to a directory": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2] = link("1/layer.tar", ".", tar.TypeSymlink)
			return e
		},
		"a device": func(t *testing.T, a *dockerArchive) []entry {
			return append(a.entries(), entry{tar.Header{Name: "null", Typeflag: tar.TypeChar}, ""})
		},
		"manifest.json is a directory": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[5] = entry{tar.Header{Name: "manifest.json/", Typeflag: tar.TypeDir}, ""}
			return e
		},
		"manifest.json is a directory as well": func(t *testing.T, a *dockerArchive) []entry {
			return append(a.entries(), entry{tar.Header{Name: "manifest.json/", Typeflag: tar.TypeDir}, ""})
		},
		"more names than index.json holds": func(t *testing.T, a *dockerArchive) []entry {
			a.manifest = strings.Replace(a.manifest, `"RepoTags":[`, `"RepoTags":[`+strings.Repeat(`"a:b",`, maxEntries), 1)
			return a.entries()
		},
		"manifest.json is a link": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[5].hdr.Name = "other.json"
			return append(e, link("manifest.json", "other.json", tar.TypeSymlink))
		},
		"manifest.json twice, and they differ": func(t *testing.T, a *dockerArchive) []entry {
			return append(a.entries(), file("manifest.json", strings.Replace(a.manifest, "v1", "v2", 1)))
		},
		"a layer twice, and they differ": func(t *testing.T, a *dockerArchive) []entry {
			return append(a.entries(), file("1/layer.tar", string(a.layers[1])))
		},
		"repositories alone": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[5] = file("repositories", `{"hello":{"v1":"1"}}`)
			return e
		},
		"a path of a megabyte": func(t *testing.T, a *dockerArchive) []entry {
			return append(a.entries(), file(strings.Repeat("n", 1<<20-100), "x"))
		},
		"a link to a path of a megabyte": func(t *testing.T, a *dockerArchive) []entry {
			return append(a.entries(), link("l", strings.Repeat("n", 1<<20-100), tar.TypeSymlink))
		},
		"too many long paths": func(t *testing.T, a *dockerArchive) []entry {
			long := strings.Repeat("n", maxPath-5)
			for i := range maxPaths/maxPath/2 + 100 { // each is two paths, of almost the longest
				a.extra = append(a.extra, link(fmt.Sprintf("%05d", i)+long, long, tar.TypeSymlink))
			}
			return a.entries()
		},
		"a compressed layer of another diff ID": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2] = file("1/layer.tar", string(digesttest.Gzipped(layerTar(t, "other", "x"))))
			return e
		},
		"a layer that is compressed twice": func(t *testing.T, a *dockerArchive) []entry {
			e := a.entries()
			e[2] = file("1/layer.tar", string(digesttest.Gzipped(digesttest.Gzipped(a.layers[0]))))
			return e
		},
		"the config is not an object": func(t *testing.T, a *dockerArchive) []entry { a.config = "[]"; return a.entries() },
		"a sparse member":             func(t *testing.T, a *dockerArchive) []entry { return a.entries() }, // spoiled below
	} {
		t.Run(name, func(t *testing.T) {
			if name == "too many long paths" && testing.Short() {
				t.Skip("it reads 32 MiB of names, three times")
			}
			l := layouttest.New(t)
			data := tarOf(t, change(t, newDockerArchive(t))...)
			if name == "a sparse member" {
				data = sparse(t, data)
			}
			_, err := Load(t.Context(), l, bytes.NewReader(data), LoadOptions{})
			if err == nil {
				t.Fatal("loaded")
			}
			t.Log(err)
			if _, dry := Load(t.Context(), nil, bytes.NewReader(data), LoadOptions{DryRun: true}); dry == nil || errors.Is(dry, layout.ErrNotFound) != errors.Is(err, layout.ErrNotFound) {
				t.Errorf("a dry run gave %v, loading %v", dry, err)
			}
			if strings.ContainsRune(err.Error(), '\n') || len(err.Error()) > 10_000 {
				t.Errorf("more than one line: %v", err)
			}
			// Where it is read in place a compressed layer is not: verify --deep finds its diff ID.
			if inPlace := readInPlace(t, data); inPlace == nil && !strings.Contains(name, "compressed") {
				t.Errorf("loading gave %v, reading it in place nothing", err)
			}
			if got := names(t, l); len(got) > 0 {
				t.Errorf("named %q", got)
			}
			layouttest.MustVerify(t, l)
		})
	}
}

// readInPlace opens an archive and reads all its images.
func readInPlace(t testing.TB, data []byte) error {
	t.Helper()
	a, err := open(t, write(t, data), OpenOptions{})
	if err != nil {
		return err
	}
	if len(a.list.Manifests) == 0 {
		return ErrNoImage
	}
	return graph.Walk(a, a.list.Manifests, graph.Rules{}, func(n graph.Node) error {
		r, err := a.Blob(n.Desc)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		return err
	})
}

func cutDiffID(config string) string {
	before, _, _ := strings.Cut(config, `","sha256`)
	return before + `"]}}`
}

// sparse puts a sparse file of 1 EiB in front of a tar.
func sparse(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "hole", Typeflag: tar.TypeReg, Format: tar.FormatPAX, Size: 512, Uname: "x"}); err != nil {
		t.Fatal(err)
	}
	head := b.Bytes()[:512]
	head[156] = 'S'
	copy(head[257:265], "ustar  \x00")
	copy(head[386:398], "00000000000\x00") // a piece of no bytes at 0
	copy(head[398:410], "00000000000\x00")
	copy(head[483:495], []byte{0x80, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0}) // its size: 1 EiB
	copy(head[124:136], "00000000000\x00")
	copy(head[148:156], "        ")
	sum := 0
	for _, c := range head {
		sum += int(c)
	}
	copy(head[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return append(bytes.Clone(head), data...)
}

// A stream that is cut anywhere, or has a wrong byte anywhere, names nothing, unless it is
// the same archive to every reader.
func TestCutAndFlipped(t *testing.T) {
	src := layouttest.New(t)
	desc := addImage(t, src, "amd64", "a")
	for name, data := range map[string][]byte{
		"both": save(t, Both, Image{src, desc, "v1", "docker.io/library/app:v1"}), "docker": tarOf(t, newDockerArchive(t).entries()...),
	} {
		for cut := 0; cut < len(data); cut += 512 * digesttest.Reps(1, 8) {
			l := layouttest.New(t)
			if _, err := Load(t.Context(), l, bytes.NewReader(data[:cut]), LoadOptions{}); err == nil {
				t.Fatalf("%s: cut at %d of %d: loaded", name, cut, len(data))
			}
			if got := names(t, l); len(got) > 0 {
				t.Fatalf("%s: cut at %d: named %q", name, cut, got)
			}
		}
		for at := 0; at < len(data); at += 211 * digesttest.Reps(1, 10) {
			spoiled := bytes.Clone(data)
			spoiled[at] ^= 1
			l := layouttest.New(t)
			if _, err := Load(t.Context(), l, bytes.NewReader(spoiled), LoadOptions{}); err == nil {
				layouttest.MustVerify(t, l)
			} else if got := names(t, l); len(got) > 0 {
				t.Fatalf("%s: a wrong byte at %d: %v, and named %q", name, at, err, got)
			}
		}
	}
	l := layouttest.New(t)
	broken := errors.New("broken")
	data := save(t, Both, Image{src, desc, "v1", ""})
	in := io.MultiReader(bytes.NewReader(data[:1000]), iotest.ErrReader(broken))
	if _, err := Load(t.Context(), l, in, LoadOptions{}); !errors.Is(err, broken) {
		t.Errorf("Load of a broken stream = %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if _, err := Load(ctx, l, bytes.NewReader(data), LoadOptions{}); !errors.Is(err, broken) {
		t.Errorf("Load that was cancelled = %v", err)
	}
	for name, data := range map[string]string{"nothing": "", "text": strings.Repeat("text", 1000), "zeros": strings.Repeat("\x00", 10240)} {
		if _, err := Load(t.Context(), l, strings.NewReader(data), LoadOptions{}); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

// An OCI archive is checked like a layout.
func TestRefuseOCI(t *testing.T) {
	src := layouttest.New(t)
	desc := addImage(t, src, "amd64", "a", "b")
	data := save(t, Both, Image{src, desc, "v1", "docker.io/library/app:v1"})
	layers, err := image.Layers(src, desc)
	if err != nil {
		t.Fatal(err)
	}
	layer := blobPath(layers[0].Digest)
	edit := func(change func(e *entry) bool) []entry { // false drops the member
		var out []entry
		tr := tar.NewReader(bytes.NewReader(data))
		for {
			hdr, err := tr.Next()
			if err == io.EOF {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			content, _ := io.ReadAll(tr)
			e := entry{*hdr, string(content)}
			if change(&e) {
				e.hdr.Size = int64(len(e.data))
				out = append(out, e)
			}
		}
	}
	replace := func(name, old, new string) []entry {
		return edit(func(e *entry) bool {
			if e.hdr.Name == name {
				if !strings.Contains(e.data, old) {
					t.Fatalf("no %q in %s", old, e.data)
				}
				e.data = strings.Replace(e.data, old, new, 1)
			}
			return true
		})
	}
	drop := func(name string) []entry { return edit(func(e *entry) bool { return e.hdr.Name != name }) }
	for name, c := range map[string]struct {
		entries []entry
		want    error
	}{
		"a layer is corrupt":             {replace(layer, "\x1f\x8b", "\x1f\x8c"), digest.ErrMismatch},
		"a layer is missing":             {drop(layer), layout.ErrIncomplete},
		"the manifest is missing":        {drop(blobPath(desc.Digest)), layout.ErrIncomplete},
		"oci-layout is missing":          {drop("oci-layout"), ErrNoImage},
		"oci-layout of another version":  {replace("oci-layout", "1.0.0", "9.9.9"), oci.ErrMalformed},
		"index.json twice, different":    {append(edit(func(*entry) bool { return true }), file("index.json", "{}")), oci.ErrMalformed},
		"index.json with a name twice":   {replace("index.json", `"manifests"`, `"manifests":[],"manifests"`), oci.ErrMalformed},
		"an empty index":                 {append(drop("index.json"), file("index.json", `{"schemaVersion":2,"manifests":[]}`)), ErrNoImage},
		"the size of the manifest":       {replace("index.json", fmt.Sprintf(`"size":%d`, desc.Size), `"size":1`), digest.ErrMismatch},
		"a layer is a link to outside":   {append(drop(layer), link(layer, "../../../../etc/passwd", tar.TypeSymlink)), oci.ErrMalformed},
		"a layer in upper case":          {append(drop(layer), file("blobs/sha256/"+strings.Repeat("A", 64), "x")), layout.ErrIncomplete},
		"a name that is none":            {replace("index.json", `ref.name":"v1"`, `ref.name":"v\n1"`), nil},
		"manifest.json of another image": {replace("manifest.json", `"Config":"blobs/sha256/`, `"Config":"blobs/sha256/../sha256/`), oci.ErrMalformed},
		"manifest.json, other layers":    {replace("manifest.json", layer, blobPath(layers[1].Digest)), oci.ErrMalformed},
		"manifest.json, fewer layers":    {replace("manifest.json", `"`+layer+`",`, ""), oci.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			l := layouttest.New(t)
			if readInPlace(t, tarOf(t, c.entries...)) == nil {
				t.Error("it was read in place")
			}
			for _, o := range []LoadOptions{{}, {DryRun: true}} {
				_, err := Load(t.Context(), l, bytes.NewReader(tarOf(t, c.entries...)), o)
				if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("Load(%+v) = %v, want %v", o, err, c.want)
				}
			}
			if got := names(t, l); len(got) > 0 {
				t.Errorf("named %q", got)
			}
			layouttest.MustVerify(t, l)
		})
	}
}

// A blob that is mentioned again, with another type, size or data, is another question: a
// manifest that is first seen as a layer is looked into all the same.
func TestMentionedAgain(t *testing.T) {
	src := layouttest.New(t)
	bad := addImage(t, src, "amd64", "a", "b")
	m, err := src.Document(bad)
	if err != nil {
		t.Fatal(err)
	}
	var short oci.Manifest
	if err := oci.Decode(m, &short); err != nil {
		t.Fatal(err)
	}
	short.Layers = short.Layers[:1] // its config has two diff IDs
	bad = layouttest.Put(t, src, oci.MediaTypeManifest, short)
	carrier := layouttest.Put(t, src, oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, ArtifactType: "application/x", Config: oci.Describe(oci.MediaTypeEmpty, []byte("{}")),
		Layers: []oci.Descriptor{{MediaType: "application/x", Digest: bad.Digest, Size: bad.Size}},
	})
	if _, _, err := src.Put(strings.NewReader("{}"), digest.Digest{}); err != nil {
		t.Fatal(err)
	}
	good := addImage(t, src, "amd64", "a")
	larger, asIndex, withData := good, good, good
	larger.Size++
	asIndex.MediaType = oci.MediaTypeIndex
	withData.Data = []byte("other")
	for name, list := range map[string][]oci.Descriptor{
		"first as a layer": {carrier, bad}, "larger": {good, larger}, "as an index": {good, asIndex}, "with other data": {good, withData},
	} {
		for _, o := range []LoadOptions{{}, {DryRun: true}} {
			index := layouttest.Put(t, src, oci.MediaTypeIndex, image.NewIndex(list, nil))
			var entries []entry
			add := func(name string, data []byte) { entries = append(entries, file(name, string(data))) }
			for _, d := range []oci.Descriptor{index, carrier, bad, good, short.Config, short.Layers[0], oci.Describe("", []byte("{}"))} {
				add(blobPath(d.Digest), read(t, src, d))
			}
			for _, d := range layersOf(t, src, good) {
				add(blobPath(d.Digest), read(t, src, d))
			}
			x, _ := oci.Encode(oci.Index{SchemaVersion: 2, Manifests: []oci.Descriptor{index.WithAnnotation(oci.AnnotationRefName, "v1")}})
			add("index.json", x)
			add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
			if got, err := Load(t.Context(), layouttest.New(t), bytes.NewReader(tarOf(t, entries...)), o); err == nil || errors.Is(err, layout.ErrIncomplete) {
				t.Errorf("%s: Load(%+v) = %v, %v", name, o, got, err)
			}
		}
	}
}

// layersOf returns what an image consists of besides its manifest.
func layersOf(t *testing.T, l *layout.Layout, desc oci.Descriptor) []oci.Descriptor {
	t.Helper()
	refs, err := oci.References(desc, read(t, l, desc))
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

func read(t *testing.T, l *layout.Layout, desc oci.Descriptor) []byte {
	t.Helper()
	r, err := l.Blob(desc)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A hole of an exabyte is refused by whoever reads an archive, before it is read.
func TestSparseMember(t *testing.T) {
	data := sparse(t, tarOf(t, newDockerArchive(t).entries()...))
	for name, read := range map[string]func() error{
		"Load": func() error {
			_, err := Load(t.Context(), layouttest.New(t), bytes.NewReader(data), LoadOptions{})
			return err
		},
		"OpenStream": func() error { _, err := list(t, data); return err },
		"Unbundle": func() error {
			_, err := Unbundle(t.Context(), layouttest.New(t), bytes.NewReader(data), UnbundleOptions{})
			return err
		},
		"ArchiveInventory": func() error { _, err := ArchiveInventory(t.Context(), bytes.NewReader(data)); return err },
	} {
		if err := read(); err == nil || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s = %v", name, err)
		}
	}
}

// Layers that are not compressed are their own diff IDs: a config that says otherwise is
// found without reading anything.
func TestWrongDiffID(t *testing.T) {
	src := layouttest.New(t)
	data := layerTar(t, "a", "x")
	d, _, err := src.Put(bytes.NewReader(data), digest.Digest{})
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["%s"]}}`, digest.FromBytes([]byte("other")))
	c := layouttest.Put(t, src, oci.MediaTypeConfig, config)
	desc := layouttest.Put(t, src, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: c, Layers: []oci.Descriptor{{MediaType: oci.MediaTypeLayer, Digest: d, Size: int64(len(data))}}})
	l := layouttest.New(t)
	if _, err := Load(t.Context(), l, bytes.NewReader(save(t, OCI, Image{src, desc, "v1", ""})), LoadOptions{}); !errors.Is(err, oci.ErrMalformed) {
		t.Errorf("Load = %v", err)
	}
}

// moby/moby#49473: an index of which only one platform was saved is taken as what it is, a sparse
// one, and said to be; the one that is there can be had alone. Of none nothing is taken.
func TestPartialIndex(t *testing.T) {
	src := layouttest.New(t)
	amd, arm := addImage(t, src, "amd64", "a"), addImage(t, src, "arm64", "b")
	amd.Platform, arm.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}, &oci.Platform{OS: "linux", Architecture: "arm64"}
	multi := layouttest.Put(t, src, oci.MediaTypeIndex, image.NewIndex([]oci.Descriptor{amd, arm}, nil))
	gone := blobPath(arm.Digest)
	var entries []entry
	tr := tar.NewReader(bytes.NewReader(save(t, Both, Image{src, multi, "v1", "docker.io/library/app:v1"})))
	for hdr, err := tr.Next(); err == nil; hdr, err = tr.Next() {
		content, _ := io.ReadAll(tr)
		if hdr.Name != gone {
			entries = append(entries, entry{*hdr, string(content)})
		}
	}
	data := tarOf(t, entries...)
	var notices []string
	sparse, err := Load(t.Context(), layouttest.New(t), bytes.NewReader(data), LoadOptions{Notice: func(text string) { notices = append(notices, text) }})
	if err != nil || len(sparse) != 1 || sparse[0].Digest != multi.Digest || !strings.Contains(strings.Join(notices, "\n"), "does not hold linux/arm64") {
		t.Fatalf("Load = %+v, %v, with notices %q", sparse, err, notices)
	}
	none := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return e.hdr.Name == blobPath(amd.Digest) || e.hdr.Name == "manifest.json" })
	if _, err := Load(t.Context(), layouttest.New(t), bytes.NewReader(tarOf(t, none...)), LoadOptions{}); !errors.Is(err, layout.ErrIncomplete) {
		t.Fatalf("Load of an index without images = %v, want %v", err, layout.ErrIncomplete)
	}

	l := layouttest.New(t)
	got, err := Load(t.Context(), l, bytes.NewReader(data), LoadOptions{Platform: &oci.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil || got[0].Digest != amd.Digest {
		t.Fatalf("Load of linux/amd64 = %+v, %v", got, err)
	}
	_, err = Load(t.Context(), l, bytes.NewReader(data), LoadOptions{Platform: &oci.Platform{OS: "linux", Architecture: "s390x"}})
	if !errors.Is(err, graph.ErrPlatform) {
		t.Errorf("Load of linux/s390x = %v", err)
	}
	layouttest.MustVerify(t, l)
}

// hauler-dev/hauler#250: images of one tag do not overwrite each other.
func TestSameTagTwice(t *testing.T) {
	src := layouttest.New(t)
	a, b := addImage(t, src, "amd64", "a"), addImage(t, src, "amd64", "b")
	for _, format := range []Format{Both, OCI, Docker} {
		data := save(t, format, Image{src, a, "v1", "docker.io/library/a:v1"}, Image{src, b, "v1", "docker.io/library/b:v1"})
		l := layouttest.New(t)
		if _, err := Load(t.Context(), l, bytes.NewReader(data), LoadOptions{}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]oci.Descriptor{"docker.io/library/a:v1": a, "docker.io/library/b:v1": b} {
			got, err := l.Resolve(oci.ImageName{Tag: name})
			if err != nil || got.Digest != want.Digest {
				t.Errorf("%s: %s is %s, %v, want %s", format, name, got.Digest, err, want.Digest)
			}
		}
		if _, err := Load(t.Context(), l, bytes.NewReader(save(t, format, Image{src, b, "v1", "docker.io/library/a:v1"})), LoadOptions{}); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Resolve(oci.ImageName{Tag: "docker.io/library/a:v1"}); err != nil || got.Digest != b.Digest {
			t.Errorf("%s: a newer image did not take its own name: %s, %v", format, got.Digest, err)
		}
	}
	for _, format := range []Format{Both, OCI, Docker} {
		if _, err := NewPlan([]Image{{src, a, "v1", ""}, {src, b, "v1", ""}}, format, graph.Rules{}); !errors.Is(err, graph.ErrAmbiguous) {
			t.Errorf("%s of two images under one name: %v", format, err)
		}
	}
	two := bytes.ReplaceAll(save(t, OCI, Image{src, a, "v1", ""}, Image{src, b, "v2", ""}), []byte(`"v2"`), []byte(`"v1"`))
	if _, err := Load(t.Context(), layouttest.New(t), bytes.NewReader(two), LoadOptions{}); !errors.Is(err, layout.ErrAmbiguous) {
		t.Errorf("two images under one name: %v", err)
	}
	if _, err := Load(t.Context(), layouttest.New(t), bytes.NewReader(save(t, OCI, Image{src, a, "v1", ""}, Image{src, b, "v2", ""})), LoadOptions{Tag: "x"}); err == nil {
		t.Error("one name for two images")
	}
}

// A damaged blob is found while it is written, and what was written is not an archive.
func TestSaveDamaged(t *testing.T) {
	src := layouttest.New(t)
	desc := addImage(t, src, "amd64", strings.Repeat("a", 100))
	layers, err := image.Layers(src, desc)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan([]Image{{src, desc, "v1", ""}}, Both, graph.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(src.Name(), blobPath(layers[0].Digest))
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[20] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := p.Save(t.Context(), &out); !errors.Is(err, digest.ErrMismatch) {
		t.Fatalf("Save = %v, want %v", err, digest.ErrMismatch)
	}
	var check tarutil.Checker
	check.AllowNoEnd = true
	check.Write(out.Bytes())
	if check.Close() == nil {
		t.Error("what was written is a whole tar")
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := NewPlan([]Image{{src, desc, "v1", ""}}, Both, graph.Rules{}); !errors.Is(err, layout.ErrIncomplete) {
		t.Errorf("NewPlan = %v, want %v", err, layout.ErrIncomplete)
	}
}

// Whatever comes: no panic, and what is taken is taken in the same way with and without a
// layout, and whole.
func FuzzLoad(f *testing.F) {
	src := layouttest.New(f)
	f.Add(save(f, Both, Image{src, addImage(f, src, "amd64", "a"), "v1", "docker.io/library/app:v1"}))
	f.Add(tarOf(f, newDockerArchive(f).entries()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		dry, err := Load(t.Context(), nil, bytes.NewReader(data), LoadOptions{DryRun: true})
		if err != nil {
			readInPlace(t, data)
			return
		}
		l := layouttest.New(t)
		entries, err := Load(t.Context(), l, bytes.NewReader(data), LoadOptions{})
		if err == nil && len(entries) != len(dry) {
			t.Errorf("%d images, a dry run found %d", len(entries), len(dry))
		}
		layouttest.MustVerify(t, l)
	})
}

// containerd's export of an image that is known by its digest calls it so; the digest is not a tag, and
// one of another image is not believed (hauler-dev/hauler#642).
func TestNamesWithDigests(t *testing.T) {
	src := layouttest.New(t)
	d := addImage(t, src, "amd64", "a")
	for _, tt := range []struct{ tag, name, want string }{
		{"@" + d.Digest.String(), "", ""},
		{"1@" + d.Digest.String(), "docker.io/library/app:1@" + d.Digest.String(), "1"},
		{"", "docker.io/library/app@" + d.Digest.String(), ""},
		{"ghcr.io/acme/app:1.2@" + d.Digest.String(), "", "ghcr.io/acme/app:1.2"},
	} {
		l := layouttest.New(t)
		got, err := Load(t.Context(), l, bytes.NewReader(save(t, OCI, Image{src, d, tt.tag, tt.name})), LoadOptions{})
		if err != nil || got[0].Annotations.Get(oci.AnnotationRefName) != tt.want {
			t.Errorf("%q, %q: Load = %+v, %v, want the tag %q", tt.tag, tt.name, got, err, tt.want)
		}
		if _, err := l.Resolve(oci.ImageName{Tag: tt.want, Digest: d.Digest}); err != nil {
			t.Errorf("%q, %q: Resolve: %v", tt.tag, tt.name, err)
		}
	}

	other := "app:1@" + digest.FromBytes(nil).String()
	if _, err := Load(t.Context(), layouttest.New(t), bytes.NewReader(save(t, OCI, Image{src, d, other, ""})), LoadOptions{}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Load of a name with the digest of another image: %v", err)
	}
}
