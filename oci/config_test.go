package oci

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestMergePatch(t *testing.T) {
	// The examples of RFC 7396, appendix A.
	for _, c := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		got, err := mergePatch(json.RawMessage(c.target), json.RawMessage(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("mergePatch(%s, %s) = %s, %v, want %s", c.target, c.patch, got, err, c.want)
		}
	}
}

func TestMergePatchOfConfig(t *testing.T) {
	c := NewConfig(Platform{OS: "linux", Architecture: "amd64"})
	before, _ := c.Encode()
	for _, patch := range []string{`{"rootfs":null}`, `{"rootfs":{"type":"x"}}`, `"x"`, `{"a":1,"a":2}`, `{`, `{"config":[]}`, `{"history":{}}`} {
		if err := c.MergePatch([]byte(patch)); err == nil {
			t.Errorf("MergePatch(%s) succeeded", patch)
		}
		if after, _ := c.Encode(); string(after) != string(before) {
			t.Fatalf("MergePatch(%s) failed, and changed the config to %s", patch, after)
		}
	}
}

// TestConfigEdits sets what is there and what is not.
func TestConfigEdits(t *testing.T) {
	c := NewConfig(Platform{OS: "linux", Architecture: "amd64"})
	c.setPlatform(Platform{OS: "linux", Architecture: "arm", Variant: "v7", OSVersion: "1"})
	for _, pair := range [][2]string{{"A", "1"}, {"B", "2"}, {"A", "3"}} {
		if err := c.SetEnv(pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}

	patch, err := ParseJSONPatch([]byte(`[{"op":"add","path":"/author","value":"me"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.JSONPatch(patch); err != nil {
		t.Fatal(err)
	}
	if patch, err = ParseJSONPatch([]byte(`[{"op":"remove","path":"/rootfs"}]`)); err != nil {
		t.Fatal(err)
	}
	if err := c.JSONPatch(patch); err == nil {
		t.Error("a patch that takes the layers away is applied")
	}

	const want = `{"architecture":"arm","author":"me","config":{"Env":["A=3","B=2"]},"os":"linux","os.version":"1","rootfs":{"diff_ids":[],"type":"layers"},"variant":"v7"}`
	if got, err := c.Encode(); err != nil || string(got) != want {
		t.Errorf("Encode = %s, %v\nwant %s", got, err, want)
	}
}

func TestPathless(t *testing.T) {
	_, statErr := os.Stat("absent")
	for _, err := range []error{statErr, os.Rename("absent", "other"), fs.ErrNotExist} {
		if got := Pathless(err); !errors.Is(got, fs.ErrNotExist) || strings.Contains(got.Error(), "absent") {
			t.Errorf("Pathless(%v) = %v", err, got)
		}
	}
}

func TestParseConfigChecksShape(t *testing.T) {
	rootfs := `"rootfs":{"type":"layers","diff_ids":[]}`
	for _, doc := range []string{
		`{}`, `{"rootfs":{"type":"layers","diff_ids":["x"]}}`, `{` + rootfs + `,"config":{"Env":"x"}}`,
		`{` + rootfs + `,"config":{"env":["a"]}}`, `{` + rootfs + `,"history":[1]}`, `{` + rootfs + `,"OS":"linux"}`,
	} {
		if _, err := ParseConfig([]byte(doc)); err == nil {
			t.Errorf("ParseConfig(%s) succeeded", doc)
		}
	}
	for _, doc := range []string{
		`{` + rootfs + `}`, `{` + rootfs + `,"config":null}`, `{` + rootfs + `,"config":{"Env":null,"Healthcheck":{"Test":[]}}}`,
	} {
		if _, err := ParseConfig([]byte(doc)); err != nil {
			t.Errorf("ParseConfig(%s): %v", doc, err)
		}
	}
}
