package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// strictly is what the parser stands in for: the tokens of encoding/json, with the rules of Decode.
func strictly(data []byte) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type level struct {
		names map[string]bool
		value bool
	}
	var stack []level
	for {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		if len(stack) == 0 && tok != json.Delim('{') {
			return fmt.Errorf("no object")
		}
		if top := len(stack) - 1; top >= 0 && stack[top].names != nil {
			if name, ok := tok.(string); ok && !stack[top].value {
				if stack[top].names[name] {
					return fmt.Errorf("%q twice", name)
				}
				stack[top].names[name], stack[top].value = true, true
				continue
			}
			stack[top].value = false
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, level{names: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, level{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
		if len(stack) > maxDepth {
			return fmt.Errorf("too deep")
		}
		if len(stack) == 0 {
			if !json.Valid(data) { // what follows
				return fmt.Errorf("something follows")
			}
			return nil
		}
	}
}

// The parser takes what encoding/json takes under the rules of Decode, and nothing else; and an index
// or a manifest means to it what it means to encoding/json.
func FuzzParser(f *testing.F) {
	for _, text := range []string{
		`{}`, ``, ` {"a" : [ 1 , -0, 0.5e-3, 1E+9, true,false , null, "x\u00e9\ud83d\ude00\ud800" ] } `, `{"a":01}`, `{"a":.5}`, `{"a":1.}`, `{"a":-}`, `{"a":1e}`, `{"a":+1}`,
		`{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":tru}`, `{"a":nulll}`, `{a:1}`, `{"a":1 "b":2}`, `{"a":1}x`, `{"a":1}` + "\v", "\ufeff{}", `[{}]`, `"{}"`, `null`,
		`{"a":"` + "\x00" + `"}`, `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":"`, `{"a":"\`, `{"a":"\"`, `{"a":1,"\u0061":2}`, `{"a":{"b":1,"b":2}}`, "{\"a\":\"\x7f\u2028\"}",
		`{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
		`{"k0":0,"k1":0,"k2":0,"k3":0,"k4":0,"k5":0,"k6":0,"k7":0,"k8":0,"k9":0,"k10":0,"k11":0,"k12":0,"k13":0,"k1":0}`,
		`{"schemaVersion":2,"manifests":[` + testDesc + `,{"digest":"` + testDigest + `","mediaType":"a\/b","size":-0,"annotations":{"a":null,"b":"\n<&>"},"urls":["x",null],"data":"aGVsbG8=","platform":{"os":"l","architecture":"a","os.features":["f"],"z":[1 , 2]},"q":1.50}]}`,
		`{"schemaVersion":2,"config":` + testDesc + `,"layers":null,"subject":null,"annotations":null}`, `{"schemaVersion":2,"manifests":[{"digest":null,"mediaType":"a/b","size":1}]}`,
		`{"schemaVersion":2,"manifests":[],"Manifests":[]}`, `{"schemaVersion":2.0,"manifests":[]}`, `{"schemaVersion":2,"manifests":{}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var any map[string]json.RawMessage
		if got, want := decode(data, &any), strictly(data); (got == nil) != (want == nil) {
			t.Errorf("decode(%q) = %v, encoding/json: %v", data, got, want)
		}
		if x, err := ReadList(bytes.NewReader(data), int64(len(data)), nil); err == nil {
			sameMeaning(t, data, x)
		}
		var m Manifest
		if Decode(data, &m) == nil {
			sameMeaning(t, data, m)
		}
	})
}

// sameMeaning compares a document, as encoding/json reads it, with how it is written again, by this
// package and, with another member, by encoding/json.
func sameMeaning(t *testing.T, data []byte, doc any) {
	t.Helper()
	out, err := Encode(doc)
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	if !json.Valid(out) || strictly(out) != nil {
		t.Fatalf("%q is written as %q", data, out)
	}
	if got, want := meaning(t, out), meaning(t, data); !reflect.DeepEqual(got, want) {
		t.Errorf("%q is written as %q: it means %v, want %v", data, out, got, want)
	}
	var o Object
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatal(err)
	}
	if sorted, err := Encode(o); err != nil || string(sorted) != string(out) {
		t.Errorf("%q is written as\n%s, sorted that is\n%s, %v", data, out, sorted, err)
	}
}

// meaning is a JSON document without what is as good as absent.
func meaning(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	var prune func(v any) any
	prune = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for name, member := range v {
				member = prune(member)
				if v[name] = member; member == nil || member == "" || name == "data" {
					delete(v, name)
				}
			}
			if len(v) == 0 {
				return nil
			}
		case float64:
			return v + 0 // no -0
		case []any:
			for i := range v {
				if v[i] = prune(v[i]); v[i] == "" {
					v[i] = nil
				}
			}
			if len(v) == 0 {
				return nil
			}
		}
		return v
	}
	return prune(v)
}

// names returns an index.json of n names.
func names(n int) []byte {
	x := Index{SchemaVersion: 2, MediaType: MediaTypeIndex}
	for i := range n {
		desc := Describe(MediaTypeManifest, []byte(fmt.Sprint(i)))
		x.Manifests = append(x.Manifests, desc.WithAnnotation(AnnotationRefName, fmt.Sprintf("v1.%d", i)))
	}
	data, err := Encode(x)
	if err != nil {
		panic(err)
	}
	return data
}

// A list of names is read beyond the limit of documents, and written as it was; other documents are not.
func TestReadList(t *testing.T) {
	data := names(20_000)
	if len(data) <= MaxDocument {
		t.Fatalf("%d bytes are not a test of the limit", len(data))
	}
	x, err := ReadList(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil || len(x.Manifests) != 20_000 {
		t.Fatalf("ReadList: %d entries, %v", len(x.Manifests), err)
	}
	if again, err := Encode(x); err != nil || !bytes.Equal(again, data) {
		t.Errorf("it is written otherwise, %v", err)
	}
	if err := Decode(data, &x); err == nil {
		t.Error("Decode takes a document over its limit")
	}
}

// A long list is in memory a part at a time. That changes neither what is read nor what is refused.
func TestReadListInParts(t *testing.T) {
	good := names(60_000)
	if len(good) < window+reach {
		t.Fatalf("%d bytes are not a test of the window", len(good))
	}
	end := len(`],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}`)
	entries := good[:len(good)-end]
	blanks := strings.Repeat(" ", reach-100)
	for _, tt := range []struct{ name, text, want string }{
		{"right", string(good), ""},
		{"blanks between entries", strings.Replace(string(good), "},{", "},"+blanks+"{", 1), ""},
		{"blanks at both ends", blanks + string(good) + blanks + blanks + blanks, ""},
		{"another member behind the list", strings.TrimSuffix(string(good), "}") + `,"x":"` + blanks + `"}`, ""},
		{"an entry that is too long", strings.Replace(string(good), "},{", "},"+blanks+blanks+"{", 1), "one member or entry of over"},
		{"something behind", string(good) + blanks + blanks + "x", "1 bytes follow"},
		{"cut", string(good[:len(good)-1]), "EOF"},
		{"cut in the list", string(entries), "EOF"},
		{"not UTF-8 at the end", strings.TrimSuffix(string(good), "}") + `,"x":"` + "\xff" + `"}`, "UTF-8"},
		{"not UTF-8 in the middle", string(good[:window/2]) + strings.Replace(string(good[window/2:]), "v1", "v\xff", 1), "UTF-8"},
		{"a member twice, far apart", strings.TrimSuffix(string(good), "}") + `,"manifests":[]}`, `"manifests" occurs twice`},
	} {
		x, err := ReadList(iotest.DataErrReader(strings.NewReader(tt.text)), int64(len(tt.text)), nil)
		switch {
		case tt.want != "":
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: ReadList = %v, want %q", tt.name, err, tt.want)
			}
		case err != nil || len(x.Manifests) != 60_000:
			t.Errorf("%s: %d entries, %v", tt.name, len(x.Manifests), err)
		}
	}

	failing := io.MultiReader(bytes.NewReader(good[:window]), iotest.ErrReader(io.ErrClosedPipe))
	if _, err := ReadList(failing, int64(len(good)), nil); err != io.ErrClosedPipe {
		t.Errorf("of a failing reader: %v", err)
	}
	if _, err := ReadList(bytes.NewReader(good), int64(len(good))+1, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("of a file that is shorter than it was: %v", err)
	}

	// What has become longer ends at once: room for its entries would be counted from a length that is
	// far behind.
	for _, size := range []int64{1000, int64(len(good)) - 1} {
		_, err := ReadList(bytes.NewReader(good), size, nil)
		if want := fmt.Sprintf("over %d bytes", size); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), want) {
			t.Errorf("of a file that is longer than %d bytes: %v", size, err)
		}
	}
}

// Members of a few bytes take many times their memory, so what they make a reader hold is bounded.
func TestManyMembers(t *testing.T) {
	var b bytes.Buffer
	io.WriteString(&b, `{"schemaVersion":2,"manifests":[],"x":{`)
	for i := range 2 * manyMembers {
		fmt.Fprintf(&b, `"%x":0,`, i)
	}
	io.WriteString(&b, `"z":0}}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ReadList(&b, int64(b.Len()), nil)
	if runtime.ReadMemStats(&after); err == nil || !strings.Contains(err.Error(), "members") {
		t.Errorf("ReadList = %v", err)
	}
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 128 {
		t.Errorf("%d MiB were asked for", n)
	}
}

// Entries of a few bytes take many times their memory, too. Those that are written here take less than
// what is allowed, so that a list of any length that can be written can be read.
func TestMemoryOfEntries(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	named := `{"annotations":{"org.opencontainers.image.ref.name":"v"},"digest":"` + digest + `","mediaType":"` + MediaTypeIndex + `","size":1}`
	for _, tt := range []struct {
		name, entry string
		ok          bool
	}{
		{"with a name", named, true},
		{"with a platform", strings.Replace(named, `"size":1`, `"platform":{"architecture":"arm","os":"linux"},"size":1`, 1), true},
		{"without a name", `{"digest":"` + digest + `","mediaType":"` + MediaTypeIndex + `","size":1}`, true},
		{"maps", `{"mediaType":"a/b","digest":"a:b","size":0,"x":` + strings.Repeat(" ", 15) + `0}`, false},
		{"platforms", `{"mediaType":"a/b","digest":"a:b","size":0,"platform":{"os.features":[""],"x":` + strings.Repeat(" ", 10) + `0}}`, false},
	} {
		const size = 10 << 20
		head, tail := `{"schemaVersion":2,"manifests":[`, `{"mediaType":"a/b","digest":"a:b","size":0}]}`
		list := strings.Repeat(tt.entry+",", (size-len(head)-len(tail))/(len(tt.entry)+1))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ReadList(io.MultiReader(strings.NewReader(head), strings.NewReader(list), strings.NewReader(tail)), int64(len(head)+len(list)+len(tail)), nil)
		runtime.ReadMemStats(&after)
		if tt.ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "memory") {
			t.Errorf("%s: ReadList = %v", tt.name, err)
		}
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 256 {
			t.Errorf("%s: %d MiB were asked for", tt.name, n)
		}
	}
}

// A list of a hundred thousand names is held by many commands, some of which have it twice.
func TestMemoryOfNames(t *testing.T) {
	data := names(10_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x, err := ReadList(bytes.NewReader(data), int64(len(data)), nil)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || len(x.Manifests) != 10_000 {
		t.Fatalf("ReadList = %d entries, %v", len(x.Manifests), err)
	}
	if each := (after.HeapAlloc - before.HeapAlloc) / 10_000; each > 400 {
		t.Errorf("an entry takes %d bytes", each)
	}
	runtime.KeepAlive(x)
}

func BenchmarkReadList(b *testing.B) {
	data := names(10_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadList(bytes.NewReader(data), int64(len(data)), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeList(b *testing.B) {
	data := names(10_000)
	x, err := ReadList(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode(x); err != nil {
			b.Fatal(err)
		}
	}
}

// oras-project/oras#115: what is an image is not said by one media type. Artifacts borrow that of its config.
func TestIsImage(t *testing.T) {
	for _, test := range []struct {
		manifest, config string
		layers           []string
		want             bool
	}{
		{MediaTypeManifest, MediaTypeConfig, nil, true},
		{MediaTypeManifest, MediaTypeConfig, []string{MediaTypeLayerGzip}, true},
		{MediaTypeManifest, MediaTypeConfig, []string{MediaTypeLayerGzip + "+encrypted"}, true},
		{MediaTypeManifest, MediaTypeConfig, []string{"application/x.unknown", MediaTypeLayer}, true},
		{MediaTypeManifest, MediaTypeConfig, []string{"application/vnd.dev.cosign.simplesigning.v1+json"}, false},
		{MediaTypeManifest, MediaTypeConfig, []string{"application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"}, false},
		{MediaTypeManifest, MediaTypeEmpty, []string{MediaTypeLayerGzip}, false},
		{MediaTypeDockerManifest, MediaTypeDockerConfig, []string{MediaTypeDockerLayerForeign}, true},
		{MediaTypeDockerManifest, MediaTypeDockerConfig, []string{"application/vnd.ollama.image.model", "application/vnd.ollama.image.license"}, false},
		{MediaTypeDockerManifest, MediaTypeOctetStream, nil, true},
		{MediaTypeManifest, MediaTypeOctetStream, nil, false},
	} {
		m := Manifest{MediaType: test.manifest, Config: Descriptor{MediaType: test.config}}
		for _, t := range test.layers {
			m.Layers = append(m.Layers, Descriptor{MediaType: t})
		}
		if got := m.IsImage(); got != test.want {
			t.Errorf("config %s, layers %s: IsImage = %t", test.config, test.layers, got)
		}
	}
}
