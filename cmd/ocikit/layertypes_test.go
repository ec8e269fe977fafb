package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
)

// A typedLayer is a layer of one of the types that programs write.
type typedLayer struct {
	mediaType string
	family    oci.Family
	data      []byte
	diffID    digest.Digest
}

// typedLayers returns the same tar under every type of the table in package oci, and under those
// that are written without standing there.
func typedLayers(t *testing.T, tar []byte) []typedLayer {
	t.Helper()
	filter := func(args ...string) []byte {
		status, out, errs := runOcikit(t.Context(), bytes.NewReader(tar), args...)
		if status != 0 {
			t.Fatal(errs)
		}
		return []byte(out)
	}
	packed := map[oci.Compression][]byte{oci.Uncompressed: tar, oci.Gzip: filter("gzip"), oci.Zstd: filter("zstd")}

	var all []typedLayer
	for _, family := range []oci.Family{oci.FamilyOCI, oci.FamilyDocker} {
		for compression, data := range packed {
			for _, foreign := range []bool{false, true} {
				mediaType, err := oci.LayerType{Family: family, Compression: compression, Foreign: foreign}.MediaType()
				if err != nil {
					continue // Docker has no name for it
				}
				all = append(all, typedLayer{mediaType, family, data, digest.FromBytes(tar)})
			}
		}
	}
	if len(all) != 9 {
		t.Errorf("%d types: has the table changed?", len(all))
	}
	estargz := filter("gzip", "--estargz") // it adds a file of its own to the tar
	_, out, _ := runOcikit(t.Context(), bytes.NewReader(estargz), "diffid")
	diffID, err := digest.Parse(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	return append(all,
		typedLayer{oci.MediaTypeLayerGzip, oci.FamilyOCI, estargz, diffID},
		typedLayer{oci.MediaTypeDockerLayer + ".zstd", oci.FamilyDocker, packed[oci.Zstd], digest.FromBytes(tar)},
	)
}

// typedImage names an image of one layer.
func (s todayStore) typedImage(layer typedLayer, tag string) {
	s.t.Helper()
	manifest, configType := oci.MediaTypeManifest, oci.MediaTypeConfig
	if layer.family == oci.FamilyDocker {
		manifest, configType = oci.MediaTypeDockerManifest, oci.MediaTypeDockerConfig
	}
	config := oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"})
	if err := config.AddLayer(layer.diffID, oci.History{}); err != nil {
		s.t.Fatal(err)
	}
	doc, err := config.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	s.name(s.document(manifest, oci.Manifest{
		SchemaVersion: 2, MediaType: manifest, Config: s.blob(configType, doc), Layers: []oci.Descriptor{s.blob(layer.mediaType, layer.data)},
	}), tag)
}

// Every place that handles layers handles every type of the table: what is in the layer comes out of
// every command.
func TestLayerTypes(t *testing.T) {
	t.Chdir(t.TempDir())
	reg := startServe(t, "repositories", "--log", "none")
	tar := plainTar("a x")
	writeTestFile(t, "a.tar", string(tar))
	writeTestFile(t, "b.tar", string(plainTar("b y")))

	s := newTodayStore(t, "app")
	layers := typedLayers(t, tar)
	for i, layer := range layers {
		s.typedImage(layer, fmt.Sprintf("v%d", i))
	}
	run := func(what, command, want string) {
		t.Helper()
		status, stdout, stderr := runOcikit(t.Context(), strings.NewReader(""), strings.Fields(strings.ReplaceAll(command, "REG", reg))...)
		if status != 0 || !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("%s: ocikit %s: status %d, want %q\n[stdout]\n%s\n[stderr]\n%s", what, command, status, want, stdout, stderr)
		}
	}

	// All of them travel, by each way.
	names := ""
	for i := range layers {
		names += fmt.Sprintf(" app:v%d", i)
	}
	for _, command := range []string{
		"verify app --deep", "copy --all app copied", "bundle --all app -o app.bundle", "unbundle unbundled app.bundle",
		"save" + names + " -o app.saved", "load loaded app.saved", "push --all app REG/app", "pull --all REG/app pulled",
	} {
		run("all", command, "")
	}

	const a, b = `(?m)^f 0644 0:0 1 \d a$`, `(?m)^f 0644 0:0 1 \d b$`
	for i, layer := range layers {
		other := "zstd --types oci"
		if strings.HasSuffix(layer.mediaType, "zstd") {
			other = "gzip"
		}
		for _, tt := range []struct{ command, want string }{
			{"files app:T", a}, {"files copied:T", a}, {"files unbundled:T", a}, {"files loaded:T", a}, {"files pulled:T", a},
			{"files app.saved:T", a}, {"files docker://REG/app:T", a},
			{"layers app:T", `"containerd.io/uncompressed":"` + layer.diffID.String() + `"`},
			{"inspect app:T", regexp.QuoteMeta(layer.mediaType)},
			{"export app:T -o T.tar", `^$`},
			{"extract app:T T.d --rootless", ``},
			{"diff app:T T.tar", `^$`}, {"diff T.d T.tar", `^$`},
			{"convert app:T --compress " + other + " -t converted", ``}, {"files app:converted", a},
			{"append app:T --layer b.tar -t appended", ``}, {"files app:appended", a}, {"files app:appended", b},
			{"flatten app:appended -t flat", ``}, {"files app:flat", a}, {"files app:flat", b},
		} {
			run(layer.mediaType, strings.ReplaceAll(strings.ReplaceAll(tt.command, "T.", fmt.Sprintf("v%d.", i)), ":T", fmt.Sprintf(":v%d", i)), tt.want)
		}
		if text, err := os.ReadFile(fmt.Sprintf("v%d.d/a", i)); err != nil || string(text) != "x" {
			t.Errorf("%s: extracted %q, %v", layer.mediaType, text, err)
		}
	}
	run("edited", "verify app --deep", "")
}
