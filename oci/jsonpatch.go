package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// errPatch is wrapped by the errors about a JSON patch that does not fit a document: a path that
// is not there, a test that fails.
var errPatch = errors.New("the patch does not fit")

// A JSONPatch is a list of operations on a JSON document (RFC 6902). It is read once and may be
// applied to many documents.
type JSONPatch []patchOperation

type patchOperation struct {
	op         string
	path, from pointer
	text       string          // of the path, for errors
	value      json.RawMessage // of add, replace and test
}

// A pointer is a JSON pointer (RFC 6901), taken apart.
type pointer []string

// ParseJSONPatch reads a patch, which is a list of operations, under the rules that [Decode] has for
// documents. Its errors wrap [ErrMalformed] and give the number of the operation, counted from 0.
func ParseJSONPatch(data []byte) (JSONPatch, error) {
	if err := checkStrict(data, '['); err != nil {
		return nil, fmt.Errorf("JSON patch: %w: %w", ErrMalformed, err)
	}

	var list []Object
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("JSON patch: %w: want a list of objects", ErrMalformed)
	}

	patch := make(JSONPatch, len(list))
	for i, o := range list {
		op, err := parseOperation(o)
		if err != nil {
			return nil, fmt.Errorf("JSON patch: operation %d: %w: %w", i, ErrMalformed, err)
		}
		patch[i] = op
	}

	return patch, nil
}

func parseOperation(o Object) (op patchOperation, err error) {
	if err := textMember(o, "op", &op.op); err != nil {
		return op, err
	}

	if err := textMember(o, "path", &op.text); err != nil {
		return op, err
	}

	if op.path, err = parsePointer(op.text); err != nil {
		return op, err
	}

	// A value may be null. Members that the operation does not know are ignored (section 4).
	value, hasValue := o["value"]
	switch op.op {
	case "add", "replace", "test":
		if !hasValue {
			return op, fmt.Errorf("%s without \"value\"", op.op)
		}
		op.value = value
	case "move", "copy":
		var from string
		if err := textMember(o, "from", &from); err != nil {
			return op, err
		}
		if op.from, err = parsePointer(from); err != nil {
			return op, err
		}
		// Section 4.4: nothing can be moved into itself.
		if op.op == "move" && len(op.path) > len(op.from) && slices.Equal(op.from, op.path[:len(op.from)]) {
			return op, fmt.Errorf("move from %.80q into itself", from)
		}
	case "remove":
	default:
		return op, fmt.Errorf("\"op\" is %.40q, want add, remove, replace, move, copy or test", op.op)
	}

	return op, nil
}

// textMember reads a member that must be there and a text.
func textMember(o Object, name string, to *string) error {
	raw, ok := o[name]
	if !ok {
		return fmt.Errorf("no %q", name)
	}
	if raw[0] != '"' {
		return fmt.Errorf("%q is not text", name)
	}
	return json.Unmarshal(raw, to)
}

func parsePointer(s string) (pointer, error) {
	if s == "" {
		return nil, nil
	}

	if s[0] != '/' {
		return nil, fmt.Errorf("path %.80q: want a JSON pointer, as /config/Env/0", s)
	}

	if strings.Count(s, "/") > maxDepth { // no document is that deep
		return nil, fmt.Errorf("path %.80q: over %d levels", s, maxDepth)
	}

	// Section 3: a tilde is followed by 0 or 1.
	if strings.Count(s, "~") != strings.Count(s, "~0")+strings.Count(s, "~1") {
		return nil, fmt.Errorf("path %.80q: \"~\" is written ~0, and \"/\" in a name ~1", s)
	}

	// Section 4 gives the order: "~01" is the text "~1", not a slash.
	p := pointer(strings.Split(s[1:], "/"))
	for i, word := range p {
		p[i] = strings.ReplaceAll(strings.ReplaceAll(word, "~1", "/"), "~0", "~")
	}

	return p, nil
}

// maxPatched bounds what the operations of one patch may write, in bytes of JSON: copies of copies
// grow without end.
const maxPatched = 2 * MaxDocument

// Apply returns doc as the patch makes it, in the form that [Encode] gives. It is all or nothing,
// and doc itself is not changed. An error about an operation gives its number, counted from 0. An
// outcome over the limits of [Decode] gives [ErrMalformed].
func (p JSONPatch) Apply(doc []byte) ([]byte, error) {
	root, err := DecodeAny(doc)
	if err != nil {
		return nil, err
	}

	left := maxPatched
	for i, op := range p {
		if root, err = op.apply(root, &left); err != nil {
			return nil, fmt.Errorf("JSON patch: operation %d, %s %.80q: %w", i, op.op, op.text, err)
		}
	}

	// Operations can put together what is deeper or longer than any document that is read.
	if depthOver(root, maxDepth) {
		return nil, fmt.Errorf("after the JSON patch: %w: nested deeper than %d levels", ErrMalformed, maxDepth)
	}

	data, err := Encode(root)
	if err != nil {
		return nil, err
	}

	if len(data) > MaxDocument {
		return nil, fmt.Errorf("after the JSON patch: %w: %d bytes, the limit is %d", ErrMalformed, len(data), MaxDocument)
	}

	return data, nil
}

// DecodeAny decodes JSON of any kind, numbers as they are written.
func DecodeAny(data []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// apply does one operation, and returns the root as it is then.
func (op *patchOperation) apply(root any, left *int) (any, error) {
	var value any
	var err error
	switch op.op {
	case "remove":
		return op.path.remove(root)
	case "move":
		if value, err = op.from.get(root); err != nil {
			return nil, err
		}
		if root, err = op.from.remove(root); err != nil {
			return nil, err
		}
		return op.path.add(root, value)
	case "copy":
		if value, err = op.from.get(root); err != nil {
			return nil, err
		}
		// Encode recurses, so the depth is bounded before it is called.
		if depthOver(value, maxDepth) {
			return nil, fmt.Errorf("%w: nested deeper than %d levels", errPatch, maxDepth)
		}
		data, err := Encode(value)
		if err != nil {
			return nil, err
		}
		// A copy is an add of the value's own bytes: the two places share nothing, and what it
		// writes is counted.
		op = &patchOperation{op: "add", path: op.path, value: data}
	}

	// What is written counts, however often it is overwritten.
	if op.op != "test" {
		if *left -= len(op.value); *left < 0 {
			return nil, fmt.Errorf("%w: it writes over %d bytes", errPatch, maxPatched)
		}
	}

	if value, err = DecodeAny(op.value); err != nil {
		return nil, err
	}

	switch op.op {
	case "add":
		return op.path.add(root, value)
	case "replace":
		return op.path.replace(root, value)
	}

	got, err := op.path.get(root)
	if err == nil && !sameValue(got, value) {
		err = fmt.Errorf("%w: the value is another one", errPatch)
	}

	return root, err
}

// get returns the value that p leads to.
func (p pointer) get(root any) (any, error) {
	for _, word := range p {
		next, err := child(root, word)
		if err != nil {
			return nil, err
		}
		root = next
	}
	return root, nil
}

// child returns the member or element of a value that a word names.
func child(v any, word string) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		if c, ok := v[word]; ok {
			return c, nil
		}
		return nil, fmt.Errorf("%w: no member %.80q", errPatch, word)
	case []any:
		i, err := element(word, len(v)-1)
		if err != nil {
			return nil, err
		}
		return v[i], nil
	}
	return nil, fmt.Errorf("%w: %.80q is looked for in what is neither object nor list", errPatch, word)
}

// element reads the index of an element, which is at most last (RFC 6901, section 4).
func element(word string, last int) (int, error) {
	i, err := strconv.ParseUint(word, 10, 31)
	if err != nil || len(word) > 1 && word[0] == '0' || word[0] == '+' {
		return 0, fmt.Errorf("%w: %.80q is not an index of a list", errPatch, word)
	}
	if int(i) > last {
		return 0, fmt.Errorf("%w: no element %d, the list has %d", errPatch, i, last+1)
	}
	return int(i), nil
}

// edit replaces the value that holds the last word of p by what fn makes of it.
func (p pointer) edit(root any, fn func(parent any, word string) (any, error)) (any, error) {
	if len(p) == 1 {
		return fn(root, p[0])
	}

	c, err := child(root, p[0])
	if err != nil {
		return nil, err
	}

	if c, err = p[1:].edit(c, fn); err != nil {
		return nil, err
	}

	switch v := root.(type) {
	case map[string]any:
		v[p[0]] = c
	case []any:
		i, _ := element(p[0], len(v)-1) // child has found it
		v[i] = c
	}

	return root, nil
}

func (p pointer) add(root, value any) (any, error) {
	if len(p) == 0 {
		return value, nil
	}

	return p.edit(root, func(parent any, word string) (any, error) {
		switch v := parent.(type) {
		case map[string]any:
			v[word] = value
			return v, nil
		case []any:
			if word == "-" { // behind the last one
				return append(v, value), nil
			}
			i, err := element(word, len(v))
			if err != nil {
				return nil, err
			}
			return slices.Insert(v, i, value), nil
		}

		return nil, fmt.Errorf("%w: %.80q would stand in what is neither object nor list", errPatch, word)
	})
}

func (p pointer) remove(root any) (any, error) {
	if len(p) == 0 {
		return nil, fmt.Errorf("%w: the document itself cannot be removed", errPatch)
	}

	return p.editChild(root, func(object map[string]any, word string) { delete(object, word) },
		func(list []any, i int) []any { return slices.Delete(list, i, i+1) })
}

func (p pointer) replace(root, value any) (any, error) {
	if len(p) == 0 {
		return value, nil
	}

	return p.editChild(root, func(object map[string]any, word string) { object[word] = value },
		func(list []any, i int) []any { list[i] = value; return list })
}

// editChild calls inObject or inList for what the pointer names, which must be there.
func (p pointer) editChild(root any, inObject func(map[string]any, string), inList func([]any, int) []any) (any, error) {
	return p.edit(root, func(parent any, word string) (any, error) {
		if _, err := child(parent, word); err != nil {
			return nil, err
		}
		if v, ok := parent.(map[string]any); ok {
			inObject(v, word)
			return v, nil
		}
		v := parent.([]any)
		i, _ := element(word, len(v)-1) // child has found it
		return inList(v, i), nil
	})
}

// depthOver reports whether a value is nested deeper than a number of levels.
func depthOver(v any, levels int) bool {
	switch v := v.(type) {
	case map[string]any:
		return depthOver(slices.Collect(maps.Values(v)), levels)
	case []any:
		return slices.ContainsFunc(v, func(c any) bool { return levels == 0 || depthOver(c, levels-1) })
	}
	return false
}

// sameValue compares as section 4.6 says: numbers by what they are worth, members in any order.
func sameValue(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			if w, ok := b[name]; !ok || !sameValue(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, sameValue)
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || sameNumber(string(a), string(b)))
	}

	return a == b
}

// sameNumber compares numbers that are written differently. What has a huge exponent, or thousands
// of digits, is only itself.
func sameNumber(a, b string) bool {
	const most = 40
	if len(a) > most || len(b) > most || bigExponent(a) || bigExponent(b) {
		return false
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}

func bigExponent(s string) bool {
	i := strings.IndexAny(s, "eE")
	if i < 0 {
		return false
	}
	n, err := strconv.Atoi(s[i+1:])
	return err != nil || n < -400 || n > 400
}
