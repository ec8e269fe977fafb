package oci

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestJSONPatch(t *testing.T) {
	// The rows of RFC 6902, appendix A, and what makes implementations differ.
	for _, c := range []struct{ name, doc, patch, want string }{
		{"A.1 add a member", `{"foo":"bar"}`, `[{"op":"add","path":"/baz","value":"qux"}]`, `{"baz":"qux","foo":"bar"}`},
		{"A.2 add an element", `{"foo":["bar","baz"]}`, `[{"op":"add","path":"/foo/1","value":"qux"}]`, `{"foo":["bar","qux","baz"]}`},
		{"A.3 remove a member", `{"baz":"qux","foo":"bar"}`, `[{"op":"remove","path":"/baz"}]`, `{"foo":"bar"}`},
		{"A.4 remove an element", `{"foo":["bar","qux","baz"]}`, `[{"op":"remove","path":"/foo/1"}]`, `{"foo":["bar","baz"]}`},
		{"A.5 replace", `{"baz":"qux","foo":"bar"}`, `[{"op":"replace","path":"/baz","value":"boo"}]`, `{"baz":"boo","foo":"bar"}`},
		{"A.6 move", `{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}`, `[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]`, `{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}`},
		{"A.7 move an element", `{"foo":["all","grass","cows","eat"]}`, `[{"op":"move","from":"/foo/1","path":"/foo/3"}]`, `{"foo":["all","cows","eat","grass"]}`},
		{"A.8 test", `{"baz":"qux","foo":["a",2,"c"]}`, `[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]`, `{"baz":"qux","foo":["a",2,"c"]}`},
		{"A.9 a test fails", `{"baz":"qux"}`, `[{"op":"test","path":"/baz","value":"bar"}]`, ""},
		{"A.10 nested", `{"foo":"bar"}`, `[{"op":"add","path":"/child","value":{"grandchild":{}}}]`, `{"child":{"grandchild":{}},"foo":"bar"}`},
		{"A.11 unknown members", `{"foo":"bar"}`, `[{"op":"add","path":"/baz","value":"qux","xyz":123}]`, `{"baz":"qux","foo":"bar"}`},
		{"A.12 no parent", `{"foo":"bar"}`, `[{"op":"add","path":"/baz/bat","value":"qux"}]`, ""},
		{"A.13 op twice", `{"foo":"bar"}`, `[{"op":"add","path":"/baz","value":"qux","op":"remove"}]`, ""},
		{"A.14 escapes", `{"/":9,"~1":10}`, `[{"op":"test","path":"/~01","value":10}]`, `{"/":9,"~1":10}`},
		{"A.15 text is not a number", `{"/":9,"~1":10}`, `[{"op":"test","path":"/~01","value":"10"}]`, ""},
		{"A.16 the end", `{"foo":["bar"]}`, `[{"op":"add","path":"/foo/-","value":["abc","def"]}]`, `{"foo":["bar",["abc","def"]]}`},
		{"copy is not a link", `{"a":{"x":1}}`, `[{"op":"copy","from":"/a","path":"/b"},{"op":"replace","path":"/b/x","value":2}]`, `{"a":{"x":1},"b":{"x":2}}`},
		{"copy into itself", `{"a":{"x":1}}`, `[{"op":"copy","from":"/a","path":"/a/y"}]`, `{"a":{"x":1,"y":{"x":1}}}`},
		{"move into itself", `{"a":{"x":1}}`, `[{"op":"move","from":"/a","path":"/a/y"}]`, ""},
		{"move into itself, where the next one would take its place", `{"a":[1,{"y":1}]}`, `[{"op":"move","from":"/a/0","path":"/a/0/x"}]`, ""},
		{"null is a value", `{"a":1}`, `[{"op":"add","path":"/a","value":null}]`, `{"a":null}`},
		{"no value", `{"a":1}`, `[{"op":"add","path":"/a"}]`, ""},
		{"numbers of one worth", `{"a":1.50}`, `[{"op":"test","path":"/a","value":15e-1}]`, `{"a":1.50}`},
		{"numbers are kept", `{"a":12345678901234567890}`, `[]`, `{"a":12345678901234567890}`},
		{"a huge exponent", `{"a":1}`, `[{"op":"test","path":"/a","value":1e999999999}]`, ""},
		{"the root", `{"a":1}`, `[{"op":"replace","path":"","value":{"b":2}}]`, `{"b":2}`},
		{"the root goes", `{"a":1}`, `[{"op":"remove","path":""}]`, ""},
		{"an empty name", `{"":1}`, `[{"op":"replace","path":"/","value":2}]`, `{"":2}`},
		{"a zero in front", `{"a":[1,2]}`, `[{"op":"remove","path":"/a/01"}]`, ""},
		{"a sign", `{"a":[1,2]}`, `[{"op":"remove","path":"/a/-1"}]`, ""},
		{"remove behind the end", `{"a":[1,2]}`, `[{"op":"remove","path":"/a/-"}]`, ""},
		{"an index that is too large", `{"a":[1]}`, `[{"op":"add","path":"/a/99999999999999999999","value":1}]`, ""},
		{"an empty index", `{"a":[1]}`, `[{"op":"add","path":"/a/","value":1}]`, ""},
		{"no slash", `{"a":1}`, `[{"op":"remove","path":"a"}]`, ""},
		{"a lone tilde", `{"a~":1}`, `[{"op":"remove","path":"/a~"}]`, ""},
		{"a tilde for nothing", `{"a~2":1}`, `[{"op":"remove","path":"/a~2"}]`, ""},
		{"a tilde before an escape", `{"~~1":1}`, `[{"op":"remove","path":"/~~01"}]`, ""},
		{"a tilde inside an escape", `{"~":1}`, `[{"op":"remove","path":"/~~10"}]`, ""},
		{"escapes side by side", `{"~/~":1,"b":2}`, `[{"op":"remove","path":"/~0~1~0"}]`, `{"b":2}`},
		{"a path of no text", `{"a":1}`, `[{"op":"remove","path":1}]`, ""},
		{"an op that is none", `{"a":1}`, `[{"op":"merge","path":"/a","value":1}]`, ""},
		{"an object", `{"a":1}`, `{"op":"remove","path":"/a"}`, ""},
		{"a list of texts", `{"a":1}`, `["remove"]`, ""},
		{"null among operations", `{"a":1}`, `[null]`, ""},
	} {
		got, err := applyPatch(c.doc, c.patch)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
		if err != nil && !errors.Is(err, errPatch) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: the error wraps neither errPatch nor ErrMalformed: %v", c.name, err)
		}
	}
}

func applyPatch(doc, patch string) (string, error) {
	p, err := ParseJSONPatch([]byte(patch))
	if err != nil {
		return "", err
	}
	got, err := p.Apply([]byte(doc))
	return string(got), err
}

// A patch cannot make a document that no reader takes, nor fill the memory on its way to one.
func TestHostileJSONPatch(t *testing.T) {
	many := func(n int, op string) string { return "[" + strings.Repeat(op+",", n-1) + op + "]" }
	deep := strings.Repeat("/a", 1_000_000)
	for name, patch := range map[string]string{
		"copies of copies":         many(200, `{"op":"copy","from":"","path":"/a"}`),
		"copies side by side":      many(4000, `{"op":"copy","from":"/x","path":"/list/-"}`),
		"a path without end":       `[{"op":"add","path":"` + deep + `","value":1}]`,
		"a path that is too long":  `[{"op":"add","path":"` + strings.Repeat("/a", 3_000_000) + `","value":1}]`,
		"a value that is too deep": `[{"op":"add","path":"/a","value":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}]`,
	} {
		doc := fmt.Sprintf(`{"x":%q,"list":[]}`, strings.Repeat("x", 10_000))
		if got, err := applyPatch(doc, patch); err == nil || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v; want an error", name, len(got), err)
		} else if len(err.Error()) > 400 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}

	// Two values, each within the limits of a document and of a patch, that are not so together.
	half := strings.Repeat("y", MaxDocument*3/5)
	got, err := applyPatch(fmt.Sprintf(`{"x":%q}`, half), fmt.Sprintf(`[{"op":"add","path":"/y","value":%q}]`, half))
	if !errors.Is(err, ErrMalformed) || got != "" {
		t.Errorf("an outcome over the limit: %d bytes, %v; want none, and %v", len(got), err, ErrMalformed)
	}

	// Levels that are added by moving what is there, one at a time.
	var nest strings.Builder
	nest.WriteString(`[{"op":"add","path":"/a","value":{}}`)
	for range 100 {
		nest.WriteString(`,{"op":"add","path":"/b","value":{}},{"op":"move","from":"/a","path":"/b/a"},{"op":"move","from":"/b","path":"/a"}`)
	}
	if got, err := applyPatch("{}", nest.String()+"]"); !errors.Is(err, ErrMalformed) {
		t.Errorf("levels by moving: %d bytes, %v; want %v", len(got), err, ErrMalformed)
	}
}

func FuzzJSONPatch(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`), []byte(`[{"op":"move","from":"/a/1","path":"/a/-"},{"op":"test","path":"/a/0","value":1e0}]`))
	f.Add([]byte(`{"~":{"/":1}}`), []byte(`[{"op":"copy","from":"/~0/~1","path":""}]`))
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		if _, err := ParseObject(doc); err != nil {
			return
		}
		p, err := ParseJSONPatch(patch)
		if err != nil {
			return
		}
		got, err := p.Apply(doc)
		if err != nil {
			return
		}
		if got[0] == '{' {
			if _, err := ParseObject(got); err != nil {
				t.Errorf("%s by %s is %s, which is not a document: %v", doc, patch, got, err)
			}
		}
	})
}
