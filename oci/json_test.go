package oci

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

const (
	testDigest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	testDesc   = `{"digest":"` + testDigest + `","mediaType":"a/b","size":5}`
)

func TestDecodeIsStrict(t *testing.T) {
	manifest := func(inner string) string {
		return `{"schemaVersion":2,"config":` + testDesc + `,"layers":[` + testDesc + `]` + inner + `}`
	}
	for _, c := range []struct{ name, doc, err string }{
		{"right", manifest(""), ""},
		{"unknown member", manifest(`,"x":{"y":[1,{"z":null}]}`), ""},
		{"white space around", " \n" + manifest("") + "\n\t ", ""},
		{"empty", "", "EOF"},
		{"cut", manifest("")[:40], ""},
		{"array", "[]", "want an object"},
		{"null", "null", "want an object"},
		{"number", "12", "want an object"},
		{"byte order mark", "\ufeff" + manifest(""), "begins with"},
		{"not UTF-8", manifest(`,"x":"` + "\xff" + `"`), "not UTF-8"},
		{"second document", manifest("") + "{}", "2 bytes follow"},
		{"junk behind", manifest("") + "x", "follow"},
		{"duplicate name", manifest(`,"layers":[]`), `"layers" occurs twice`},
		{"duplicate name, escaped", manifest(`,"layer\u0073":[]`), `"layers" occurs twice`},
		{"duplicate name far inside", manifest(`,"x":[{"a":{"b":1,"b":2}}]`), `"b" occurs twice`},
		{"the same name in two objects", manifest(`,"x":[{"a":1},{"a":1}]`), ""},
		{"the same text as a value", manifest(`,"x":{"a":"b","b":"a"}`), ""},
		{"name in another case", manifest(`,"Subject":` + testDesc), `name "Subject": want "subject"`},
		{"name in another case by Unicode", manifest(`,"annotation\u017f":{}`), `want "annotations"`},
		{"nested too deep", manifest(`,"x":` + strings.Repeat("[", 80) + strings.Repeat("]", 80)), "nested deeper"},
		{"nested as deep as allowed", manifest(`,"x":` + strings.Repeat("[", 60) + strings.Repeat("]", 60)), ""},
		{"null in place of a descriptor", `{"schemaVersion":2,"config":` + testDesc + `,"layers":[null]}`, "null in place of an object"},
		{"no config", `{"schemaVersion":2,"layers":[]}`, "no config"},
		{"manifest and index at once", manifest(`,"manifests":[]`), "readers disagree"},
		{"schema version 1", `{"schemaVersion":1,"config":` + testDesc + `,"layers":[]}`, "schemaVersion 1"},
		{"type of something else", manifest(`,"mediaType":"application/vnd.oci.image.index.v1+json"`), "mediaType"},
		{"size as text", strings.Replace(manifest(""), `"size":5`, `"size":"5"`, 1), "size"},
		{"negative size", strings.Replace(manifest(""), `"size":5`, `"size":-1`, 1), "size -1"},
		{"size with a fraction", strings.Replace(manifest(""), `"size":5`, `"size":5.5`, 1), "5.5"},
		{"size that overflows", strings.Replace(manifest(""), `"size":5`, `"size":9223372036854775808`, 1), "9223372036854775808"},
		{"climbing digest", strings.Replace(manifest(""), testDigest, "sha256:../../etc/passwd", 1), "malformed digest"},
		{"no digest", strings.Replace(manifest(""), `"digest":"`+testDigest+`",`, "", 1), "no digest"},
		{"no media type", strings.Replace(manifest(""), `"mediaType":"a/b",`, "", 1), "no mediaType"},
		{"over the limit", manifest(`,"x":"` + strings.Repeat("a", MaxDocument) + `"`), "the limit is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Manifest
			err := Decode([]byte(c.doc), &m)
			if c.err == "" && c.name != "cut" {
				if err != nil {
					t.Errorf("Decode = %v", err)
				}
				return
			}
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("Decode = %v, want ErrMalformed with %q", err, c.err)
			}
		})
	}
}

// What this program does not know is written again, at every level.
func TestUnknownMembersSurvive(t *testing.T) {
	const doc = `{"annotations":{"a":"<&>"},"config":{"digest":"` + testDigest + `","mediaType":"a/b","size":5,"x-desc":[1,2.50]},"layers":[],"schemaVersion":2,"x-big":12345678901234567890}`
	var m Manifest
	if err := Decode([]byte(doc), &m); err != nil {
		t.Fatal(err)
	}
	if got, err := Encode(m); err != nil || string(got) != doc {
		t.Errorf("Encode = %s, %v\nwant %s", got, err, doc)
	}
	const index = `{"manifests":[{"digest":"` + testDigest + `","mediaType":"a/b","platform":{"architecture":"a","os":"o","x":1},"size":5}],"schemaVersion":2,"z":null}`
	var x Index
	if err := Decode([]byte(index), &x); err != nil {
		t.Fatal(err)
	}
	if got, err := Encode(x); err != nil || string(got) != index {
		t.Errorf("Encode = %s, %v\nwant %s", got, err, index)
	}
}

// A descriptor keeps all that it may have, in the order of the names.
func TestEncodeDescriptor(t *testing.T) {
	const doc = `{"annotations":{"a":"1","b":"2"},"artifactType":"x/y","data":"YQ==","digest":"` + testDigest + `","mediaType":"a/b",` +
		`"platform":{"architecture":"arm","os":"windows","os.features":["win32k","x"],"os.version":"10.0","variant":"v7"},` +
		`"size":1,"urls":["https://a.test/1","https://a.test/2"]}`
	var d Descriptor
	if err := Decode([]byte(doc), &d); err != nil {
		t.Fatal(err)
	}
	if got, err := Encode(d); err != nil || string(got) != doc {
		t.Errorf("Encode = %s, %v\nwant %s", got, err, doc)
	}
	x := `{"manifests":[` + doc + `],"schemaVersion":2}`
	if got, err := Encode(Index{SchemaVersion: 2, Manifests: []Descriptor{d}}); err != nil || string(got) != x {
		t.Errorf("Encode = %s, %v\nwant %s", got, err, x)
	}
}

func TestIndexAcceptsNullManifests(t *testing.T) {
	var x Index
	if err := Decode([]byte(`{"schemaVersion":2,"manifests":null}`), &x); err != nil || len(x.Manifests) != 0 {
		t.Errorf("Decode = %v, %v", x, err)
	}
	if got, _ := Encode(x); string(got) != `{"manifests":[],"schemaVersion":2}` {
		t.Errorf("Encode = %s", got)
	}
}

func TestReadDescriptors(t *testing.T) {
	descs, err := ReadDescriptors(strings.NewReader(testDesc + "\n\n" + testDesc))
	if err != nil || len(descs) != 2 || descs[1].Size != 5 {
		t.Errorf("ReadDescriptors = %v, %v", descs, err)
	}
	for _, in := range []string{"{}", testDesc + testDesc, "x", testDesc + "\n{", `{"digest":"` + testDigest + `"}`} {
		if _, err := ReadDescriptors(strings.NewReader(in)); err == nil {
			t.Errorf("ReadDescriptors(%q) succeeded", in)
		}
	}

	// A line that is too long is told by its number, as others are, and is the input's fault.
	long := io.MultiReader(strings.NewReader(testDesc+"\n\n"), strings.NewReader(strings.Repeat("x", maxLine)))
	if _, err := ReadDescriptors(long); !errors.Is(err, ErrMalformed) || !strings.HasPrefix(err.Error(), "line 3: ") {
		t.Errorf("ReadDescriptors of a long line = %v", err)
	}
}

func TestEncodeLine(t *testing.T) {
	in := "ä<\x1b[31m\x7f\u009b\u202e\u2028\U000e0001\U0001f600"
	got, err := EncodeLine(in)
	if want := `"ä<\u001b[31m\u007f\u009b\u202e\u2028\udb40\udc01😀"` + "\n"; err != nil || string(got) != want {
		t.Errorf("EncodeLine(%q) = %s, %v, want %s", in, got, err, want)
	}
	var back string
	if err := json.Unmarshal(got, &back); err != nil || back != in {
		t.Errorf("it means %q, %v, want %q", back, err, in)
	}
}

func TestSniffDocument(t *testing.T) {
	for doc, want := range map[string]string{
		`{"schemaVersion":2,"manifests":[]}`:              MediaTypeIndex,
		`{"schemaVersion":2,"config":{},"layers":[]}`:     MediaTypeManifest,
		`{"mediaType":"` + MediaTypeDockerManifest + `"}`: MediaTypeDockerManifest,
		`{"os":"linux","rootfs":{}}`:                      MediaTypeConfig,
		` {"rootfs":{}}`:                                  MediaTypeConfig,
		`{}`:                                              "",
		`[]`:                                              "",
		``:                                                "",
		`{"manifests":[],"layers":[],"config":{}}`:                                MediaTypeManifest,
		`{"mediaType":"text/plain"}`:                                              "",
		`{"rootfs":{},"rootfs":{}}`:                                               "",
		`{"config":{"mediaType":"x"},"layers":[{}],"mediaType":"other/manifest"}`: MediaTypeManifest,
	} {
		if got := SniffDocument([]byte(doc)); got != want {
			t.Errorf("SniffDocument(%s) = %q, want %q", doc, got, want)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	for _, layer := range []string{MediaTypeLayer, MediaTypeLayerGzip, MediaTypeLayerZstd, MediaTypeDockerLayerGzip, MediaTypeDockerLayerForeign, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"} {
		if !IsLayer(layer) {
			t.Errorf("IsLayer(%q) = false", layer)
		}
	}
	for _, other := range []string{"", "text/plain", MediaTypeConfig, MediaTypeManifest, MediaTypeLayer + "x"} {
		if IsLayer(other) {
			t.Errorf("IsLayer(%q) = true", other)
		}
	}
}

// Docker has names for plain layers and for those of gzip.
func TestLayerMediaType(t *testing.T) {
	for _, c := range []struct {
		typ  LayerType
		want string // "" is an error
	}{
		{LayerType{Family: FamilyDocker, Compression: Gzip}, MediaTypeDockerLayerGzip},
		{LayerType{Family: FamilyDocker, Compression: Gzip, Foreign: true}, MediaTypeDockerLayerForeign},
		{LayerType{Family: FamilyDocker, Compression: Uncompressed}, "application/vnd.docker.image.rootfs.diff.tar"},
		{LayerType{Family: FamilyDocker, Compression: Uncompressed, Foreign: true}, ""},
		{LayerType{Family: FamilyDocker, Compression: Zstd}, ""},
		{LayerType{Family: FamilyOCI, Compression: Zstd}, MediaTypeLayerZstd},
		{LayerType{Family: FamilyOCI, Compression: Uncompressed}, MediaTypeLayer},
	} {
		got, err := c.typ.MediaType()
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrFamily) {
			t.Errorf("%+v.MediaType() = %q, %v, want %q", c.typ, got, err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":` + testDesc + `,"layers":[` + testDesc + `]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[` + testDesc + `],"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Manifest
		if Decode(data, &m) == nil {
			lawOfDocuments(t, m, new(Manifest))
		}
		var x Index
		if Decode(data, &x) == nil {
			lawOfDocuments(t, x, new(Index))
		}
		if c, err := ParseConfig(data); err == nil {
			if out, err := c.Encode(); err != nil {
				t.Errorf("Encode: %v", err)
			} else if _, err := ParseConfig(out); err != nil {
				t.Errorf("a config that was written cannot be read: %v\n%s", err, out)
			}
		}
		SniffDocument(data)
	})
}

// What was read can be written, and what was written reads as the same.
func lawOfDocuments(t *testing.T, v, again any) {
	first, err := Encode(v)
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	if err := Decode(first, again); err != nil {
		t.Fatalf("Decode of what was written: %v\n%s", err, first)
	}
	if second, err := Encode(again); err != nil || string(second) != string(first) {
		t.Fatalf("written twice: %s, then %s, %v", first, second, err)
	}
}
