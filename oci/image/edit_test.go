package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
)

// oddImage stores an image whose documents hold everything that an editor could lose: unknown
// members at every level, empty maps and lists, nulls, numbers that no float holds, an
// embedded config, blanks.
func oddImage(t testing.TB, l *layout.Layout, f oci.Family, note string) oci.Descriptor {
	t.Helper()
	types := map[string]string{}
	for _, mt := range []string{oci.MediaTypeManifest, oci.MediaTypeConfig, oci.MediaTypeLayer} {
		name, err := f.MediaType(mt)
		if err != nil {
			t.Fatal(err)
		}
		types[mt] = name
	}
	layer := layouttest.Put(t, l, types[oci.MediaTypeLayer], "layer "+note)
	config := layouttest.Put(t, l, types[oci.MediaTypeConfig], `{
		"architecture": "amd64", "os": "linux", "created": "2020-01-02T03:04:05.678901234Z", "os.features": [],
		"config": {"Env": ["PATH=/bin", "NOTE=`+note+`", "ODD"], "Cmd": null, "Labels": {"a": "1", "b": ""}, "Entrypoint": ["/x"],
			"Volumes": {"/v": {"own": [1, null]}}, "Healthcheck": {"Test": ["NONE"], "Interval": 30000000000}, "OnBuild": null, "Own": {"n": 1.50}},
		"rootfs": {"type": "layers", "diff_ids": ["`+layer.Digest.String()+`"], "own": {}},
		"history": [{"created_by": "`+note+`", "own": true}, {"empty_layer": true, "created_by": "ENV"}],
		"own": 123456789012345678901234567890, "container_config": {"Image": "x"}, "html": "<&>\u2028"
	}`)
	data, err := l.Document(config)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return layouttest.Put(t, l, types[oci.MediaTypeManifest], fmt.Sprintf(`{
		"schemaVersion": 2, "mediaType": %q,
		"config": {"mediaType": %q, "digest": %q, "size": %d, "annotations": {}, "data": %s, "own": [1.0]},
		"layers": [{"mediaType": %q, "digest": %q, "size": %d, "urls": [], "annotations": {}, "own": null}],
		"annotations": {"old": "1", "keep": ""}, "own": {"a": 1e3}
	}`, types[oci.MediaTypeManifest], types[oci.MediaTypeConfig], config.Digest, config.Size, embedded, types[oci.MediaTypeLayer], layer.Digest, layer.Size))
}

// tree decodes a document as text, so that 1.50 and 1.5 differ.
func tree(t testing.TB, l *layout.Layout, desc oci.Descriptor) any {
	t.Helper()
	data, err := l.Document(desc)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// differences lists the paths in which two trees differ.
func differences(a, b any, at string) []string {
	if reflect.DeepEqual(a, b) {
		return nil
	}
	ma, oka := a.(map[string]any)
	mb, okb := b.(map[string]any)
	if oka && okb {
		var all []string
		for k := range ma {
			if vb, ok := mb[k]; !ok {
				all = append(all, at+"/"+k)
			} else {
				all = append(all, differences(ma[k], vb, at+"/"+k)...)
			}
		}
		for k := range mb {
			if _, ok := ma[k]; !ok {
				all = append(all, at+"/"+k)
			}
		}
		return all
	}
	la, oka := a.([]any)
	lb, okb := b.([]any)
	if oka && okb && len(la) == len(lb) {
		var all []string
		for i := range la {
			all = append(all, differences(la[i], lb[i], fmt.Sprintf("%s/%d", at, i))...)
		}
		return all
	}
	return []string{at}
}

func editOne(t testing.TB, l *layout.Layout, desc oci.Descriptor, changes ...Change) oci.Descriptor {
	t.Helper()
	plan, err := Edit(l, desc, EditOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Store(l); err != nil {
		t.Fatal(err)
	}
	return plan.Result
}

func onConfig(edit func(*oci.Config) error) Change {
	return func(im *Image) error { return edit(im.Config) }
}

// google/go-containerregistry#2041: whatever is edited, nothing else changes, known or not.
func TestEditsChangeNothingElse(t *testing.T) {
	newLayer := func(l *layout.Layout) oci.Descriptor {
		d := layouttest.Put(t, l, oci.MediaTypeLayerGzip, "more")
		return d.WithAnnotation(oci.AnnotationDiffID, digest.FromBytes([]byte("plain")).String())
	}
	for name, c := range map[string]struct {
		change           func(l *layout.Layout) Change
		config, manifest string // the paths that may change
	}{
		"text": {func(*layout.Layout) Change {
			return onConfig(func(c *oci.Config) error { c.SetExec("User", "1"); return nil })
		}, "/config/User", ""},
		"env": {func(*layout.Layout) Change { return onConfig(func(c *oci.Config) error { return c.SetEnv("A", "1") }) }, "/config/Env", ""},
		"env, odd": {func(*layout.Layout) Change {
			return onConfig(func(c *oci.Config) error { return c.SetEnv("ODD", "1") })
		}, "/config/Env/2", ""},
		"unset env": {func(*layout.Layout) Change { return onConfig(func(c *oci.Config) error { return c.UnsetEnv("PATH") }) }, "/config/Env", ""},
		"entrypoint": {func(*layout.Layout) Change {
			return onConfig(func(c *oci.Config) error { c.SetWords("Entrypoint", []string{}); return nil })
		}, "/config/Entrypoint", ""},
		"label": {func(*layout.Layout) Change {
			return onConfig(func(c *oci.Config) error { return c.SetMember("Labels", "a", "") })
		}, "/config/Labels/a", ""},
		"volume": {func(*layout.Layout) Change {
			return onConfig(func(c *oci.Config) error { return c.SetMember("Volumes", "/w", struct{}{}) })
		}, "/config/Volumes//w", ""},
		"created": {func(*layout.Layout) Change {
			return onConfig(func(c *oci.Config) error { c.Set("created", "2021-01-01T00:00:00Z"); return nil })
		}, "/created", ""},
		"annotation": {func(*layout.Layout) Change { return func(im *Image) error { return im.SetAnnotation("new", "x") } }, "none", "/annotations/new"},
		"no annotation": {func(*layout.Layout) Change {
			return func(im *Image) error { return im.UnsetAnnotation("old") }
		}, "none", "/annotations/old"},
		"append": {func(l *layout.Layout) Change {
			return func(im *Image) error { return im.Append(newLayer(l), oci.History{CreatedBy: "x"}) }
		}, "/history /rootfs/diff_ids", "/layers"},
	} {
		for _, f := range []oci.Family{oci.FamilyOCI, oci.FamilyDocker} {
			t.Run(name+"/"+f.String(), func(t *testing.T) {
				l := layouttest.New(t)
				desc := oddImage(t, l, f, "n")
				got := editOne(t, l, desc, c.change(l))
				before, after := tree(t, l, desc).(map[string]any), tree(t, l, got).(map[string]any)
				allowed := strings.Fields(c.manifest)
				if c.config != "none" {
					allowed = append(allowed, "/config/digest", "/config/size", "/config/data")
				}
				checkDifferences(t, "manifest", differences(before, after, ""), allowed)
				m, err := graph.Manifest(l, got)
				if err != nil {
					t.Fatal(err)
				}
				old, err := graph.Manifest(l, desc)
				if err != nil {
					t.Fatal(err)
				}
				if digest.FromBytes(m.Config.Data) != m.Config.Digest {
					t.Error("the embedded config is not the config")
				}
				if c.config == "none" {
					if m.Config.Digest != old.Config.Digest {
						t.Error("the config changed")
					}
					return
				}
				checkDifferences(t, "config", differences(tree(t, l, old.Config), tree(t, l, m.Config), ""), strings.Fields(c.config))
				if name == "append" {
					for _, d := range m.Layers {
						if oci.FamilyOf(got.MediaType) == oci.FamilyDocker != strings.Contains(d.MediaType, "docker") {
							t.Errorf("layer of type %q in an image of %s", d.MediaType, f)
						}
					}
				}
			})
		}
	}
}

func checkDifferences(t *testing.T, what string, got, want []string) {
	t.Helper()
	left := map[string]bool{}
	for _, w := range want {
		left[w] = true
	}
	for _, g := range got {
		if !left[g] {
			t.Errorf("%s: %s changed, want %q", what, g, want)
		}
		delete(left, g)
	}
	for w := range left {
		t.Errorf("%s: %s did not change", what, w)
	}
}

// What is so already gives the very document that was there, blanks and order included.
func TestEditOfNothing(t *testing.T) {
	l := layouttest.New(t)
	desc := oddImage(t, l, oci.FamilyOCI, "n")
	got := editOne(t, l, desc, onConfig(func(c *oci.Config) error { return c.SetEnv("PATH", "/bin") }), func(im *Image) error { return im.SetAnnotation("old", "1") })
	if got.Digest != desc.Digest {
		t.Errorf("an edit that changes nothing gave %s, want %s", got.Digest, desc.Digest)
	}
}

// google/go-containerregistry#1456: every platform; entries keep what they have, an attestation
// of what was changed is left out.
func TestEditIndex(t *testing.T) {
	l := layouttest.New(t)
	amd, arm := oddImage(t, l, oci.FamilyOCI, "amd"), oddImage(t, l, oci.FamilyDocker, "arm")
	attestation := layouttest.Put(t, l, oci.MediaTypeManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[]}`,
		oci.MediaTypeConfig, layouttest.Put(t, l, oci.MediaTypeConfig, "{}").Digest))
	artifact := layouttest.Put(t, l, oci.MediaTypeManifest, fmt.Sprintf(`{"schemaVersion":2,"artifactType":"x/y","config":{"mediaType":%q,"digest":%q,"size":2},"layers":[]}`,
		oci.MediaTypeEmpty, digest.FromBytes([]byte("{}"))))
	nested := layouttest.Put(t, l, oci.MediaTypeIndex, fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}],"annotations":{}}`, arm.MediaType, arm.Digest, arm.Size))
	index := layouttest.Put(t, l, oci.MediaTypeDockerList, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"own":[],"manifests":[
		{"mediaType":%q,"digest":%q,"size":%d,"platform":{"architecture":"amd64","os":"linux","features":["x"],"own":1},"annotations":{},"own":"x"},
		{"mediaType":%q,"digest":%q,"size":%d},
		{"mediaType":%q,"digest":%q,"size":%d,"artifactType":"x/y"},
		{"mediaType":%q,"digest":%q,"size":%d,"platform":{"architecture":"unknown","os":"unknown"},"annotations":{"vnd.docker.reference.digest":%q,"vnd.docker.reference.type":"attestation-manifest"}},
		{"mediaType":%q,"digest":%q,"size":%d,"platform":{"architecture":"unknown","os":"unknown"},"annotations":{"vnd.docker.reference.digest":%q,"vnd.docker.reference.type":"attestation-manifest"}}
	]}`, oci.MediaTypeDockerList, amd.MediaType, amd.Digest, amd.Size, nested.MediaType, nested.Digest, nested.Size, artifact.MediaType, artifact.Digest, artifact.Size,
		attestation.MediaType, attestation.Digest, attestation.Size, amd.Digest, attestation.MediaType, attestation.Digest, attestation.Size, "sha256:other"))
	env := onConfig(func(c *oci.Config) error { return c.SetEnv("ALL", "1") })
	only := onConfig(func(c *oci.Config) error { return c.SetEnv("NOTE", "2") })
	plan, err := Edit(l, index, EditOptions{Changes: []Change{env, only}})
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Store(l); err != nil {
		t.Fatal(err)
	}
	if len(plan.Notices) != 1 || !strings.Contains(plan.Notices[0], amd.Digest.String()) {
		t.Errorf("notices %q, want one about the attestation of %s", plan.Notices, amd.Digest)
	}
	data, err := l.Document(plan.Result)
	if err != nil {
		t.Fatal(err)
	}
	x, err := oci.DecodeIndex(plan.Result, data)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Manifests) != 4 || x.Manifests[2].Digest != artifact.Digest || x.MediaType != oci.MediaTypeDockerList {
		t.Fatalf("index %+v", x)
	}
	before, after := tree(t, l, index).(map[string]any), tree(t, l, plan.Result).(map[string]any)
	b, a := before["manifests"].([]any), after["manifests"].([]any)
	checkDifferences(t, "entry", differences(b[0], a[0], ""), []string{"/digest", "/size"})
	checkDifferences(t, "nested", differences(b[1], a[1], ""), []string{"/digest", "/size"}[:1+btoi(x.Manifests[1].Size != nested.Size)])
	if findings, _, err := l.Verify(t.Context(), layout.VerifyOptions{Roots: []oci.Descriptor{plan.Result}}); err != nil {
		t.Errorf("Verify = %+v, %v", findings, err)
	}
	// One change fits one image alone; another none.
	p := onConfig(func(c *oci.Config) error { return c.UnsetEnv("NONE") })
	if _, err := Edit(l, index, EditOptions{Changes: []Change{env, p}}); !errors.Is(err, oci.ErrAbsent) {
		t.Errorf("an edit that fits no image = %v, want %v", err, oci.ErrAbsent)
	}
	_, err = Edit(l, index, EditOptions{Platform: &oci.Platform{OS: "linux", Architecture: "s390x"}, Changes: []Change{env}})
	if !errors.Is(err, graph.ErrPlatform) {
		t.Errorf("Edit for a platform that is not there = %v, want %v", err, graph.ErrPlatform)
	}
}

// For a platform a new index names one image, and each once.
func TestOneForEach(t *testing.T) {
	entry := func(content, platform string, annotations map[string]string) oci.Descriptor {
		d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.FromBytes([]byte(content)), Annotations: oci.AnnotationsOf(annotations)}
		if p, err := oci.ParsePlatform(platform); err == nil {
			d.Platform = &p
		}
		return d
	}
	zstd := map[string]string{"io.github.containers.compression.zstd": "true"}
	features := entry("b", "windows/amd64", nil)
	features.Platform.OSFeatures = []string{"win32k"}

	tests := []struct {
		name    string
		entries []oci.Descriptor
		want    int // 0 if they are refused
	}{
		{"none", nil, 0},
		{"platforms", []oci.Descriptor{entry("a", "linux/amd64", nil), entry("b", "linux/arm64", nil)}, 2},
		{"one twice", []oci.Descriptor{entry("a", "linux/amd64", nil), entry("b", "linux/arm64", nil), entry("a", "linux/amd64", nil)}, 2},
		{"one for two platforms", []oci.Descriptor{entry("a", "linux/amd64", nil), entry("a", "linux/arm64", nil)}, 2},
		{"two for one platform", []oci.Descriptor{entry("a", "linux/amd64", nil), entry("b", "linux/amd64", nil)}, 0},
		{"two for one variant", []oci.Descriptor{entry("a", "linux/arm64/v8", nil), entry("b", "linux/arm64/v8", nil)}, 0},
		{"variants", []oci.Descriptor{entry("a", "linux/arm/v6", nil), entry("b", "linux/arm/v7", nil)}, 2},
		{"two without a platform, and one of them again", []oci.Descriptor{entry("a", "", nil), entry("b", "", nil), entry("a", "", nil)}, 2},
		{"attestations", []oci.Descriptor{entry("a", "unknown/unknown", nil), entry("b", "unknown/unknown", nil)}, 2},
		{"another compression", []oci.Descriptor{entry("a", "linux/amd64", nil), entry("b", "linux/amd64", zstd)}, 2},
		{"other features", []oci.Descriptor{entry("a", "windows/amd64", nil), features}, 2},
	}
	for _, test := range tests {
		got, err := OneForEach(test.entries)
		if len(got) != test.want || (err != nil) != (test.want == 0 && len(test.entries) > 0) {
			t.Errorf("%s: %d entries, %v, want %d", test.name, len(got), err, test.want)
		}
	}
}

// An index without a list is read as an empty one. To edit it there has to be a list, and the error says
// so.
func TestEditIndexWithoutManifests(t *testing.T) {
	l := layouttest.New(t)
	for doc, want := range map[string]string{
		`{"schemaVersion":2}`:                  `has no "manifests"`,
		`{"schemaVersion":2,"manifests":null}`: "",
		`{"schemaVersion":2,"manifests":[]}`:   "",
	} {
		desc := layouttest.Put(t, l, oci.MediaTypeIndex, doc)
		_, planErr := Edit(l, desc, EditOptions{})
		_, _, editErr := EditIndex(l, desc, IndexEdit{Annotations: map[string]string{"a": "b"}})
		for name, err := range map[string]error{"Edit": planErr, "EditIndex": editErr} {
			if want == "" && err != nil || want != "" && (!errors.Is(err, oci.ErrMalformed) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s of %s: %v, want %q", name, doc, err, want)
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Docker's manifests have no type for zstd: it is refused, not mislabelled.
func TestAppendZstdToDocker(t *testing.T) {
	l := layouttest.New(t)
	d := layouttest.Put(t, l, oci.MediaTypeLayerZstd, "z").WithAnnotation(oci.AnnotationDiffID, digest.FromBytes(nil).String())
	add := func(im *Image) error { return im.Append(d, oci.History{}) }
	if _, err := Edit(l, oddImage(t, l, oci.FamilyDocker, "n"), EditOptions{Changes: []Change{add}}); !errors.Is(err, oci.ErrFamily) {
		t.Errorf("Append of zstd to a Docker image = %v, want %v", err, oci.ErrFamily)
	}
	if _, err := Edit(l, oddImage(t, l, oci.FamilyOCI, "n"), EditOptions{Changes: []Change{add}}); err != nil {
		t.Errorf("Append of zstd to an OCI image = %v", err)
	}
}

// An image on Docker's base becomes one of Docker's types, whole: google/go-containerregistry#2433.
func TestRebaseFollowsFamily(t *testing.T) {
	l := layouttest.New(t)
	old, base := oddImage(t, l, oci.FamilyOCI, "old"), oddImage(t, l, oci.FamilyDocker, "new")
	top := layouttest.Put(t, l, oci.MediaTypeLayerGzip, "top").WithAnnotation(oci.AnnotationDiffID, digest.FromBytes([]byte("top")).String())
	child := editOne(t, l, old, func(im *Image) error { return im.Append(top, oci.History{CreatedBy: "top"}) })
	got := editOne(t, l, child, Rebase(t.Context(), RebaseOptions{Layout: l, OldBase: Base{l, old}, NewBase: Base{l, base}}))
	data, err := l.Document(got)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("vnd.oci")) || !bytes.Contains(data, []byte(oci.MediaTypeDockerLayerGzip)) {
		t.Errorf("mixed media types: %s", data)
	}
	m, err := graph.Manifest(l, got)
	if err != nil || len(m.Layers) != 2 {
		t.Fatalf("manifest %+v, %v", m, err)
	}
	config, err := graph.Config(l, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	history, err := config.HistoryEntries()
	if err != nil {
		t.Fatal(err)
	}
	var by []string
	for _, h := range history {
		by = append(by, h.CreatedBy)
	}
	if got := strings.Join(by, ","); got != "new,ENV,top" {
		t.Errorf("history %s, want new,ENV,top", got)
	}
}

// Base images without history get entries, so that layers and history stay in line.
func TestAppendWithoutHistory(t *testing.T) {
	l := layouttest.New(t)
	layer := layouttest.Put(t, l, oci.MediaTypeLayer, "l")
	config := layouttest.Put(t, l, oci.MediaTypeConfig, fmt.Sprintf(`{"os":"linux","architecture":"amd64","config":null,"rootfs":{"type":"layers","diff_ids":[%q]}}`, layer.Digest))
	desc := layouttest.Put(t, l, oci.MediaTypeManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":1}]}`,
		config.MediaType, config.Digest, config.Size, layer.MediaType, layer.Digest))
	got := editOne(t, l, desc, func(im *Image) error {
		return im.Append(layer.WithAnnotation(oci.AnnotationDiffID, layer.Digest.String()), oci.History{CreatedBy: "x"})
	})
	m, err := graph.Manifest(l, got)
	if err != nil {
		t.Fatal(err)
	}
	data, err := l.Document(m.Config)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(`"history":[{},{"created_by":"x"}]`)) || !bytes.Contains(data, []byte(`"config":null`)) {
		t.Errorf("config %s", data)
	}
}
