package why

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ocikit/oci"
)

// A change is one member in which two documents differ.
type change struct {
	Pointer string // RFC 6901
	// Here and There are the values, as JSON. "" means that there is none.
	Here, There string
	// More says that a list, of which this is the first member that differs, is so much longer there.
	More int
	// Order says that both are lists of the same, in another order.
	Order bool
}

// compareDocuments compares two JSON documents, and returns the members in which they differ, sorted by
// their places. Members whose pointers skip accepts are left out with all below them; skip may be
// nil. The environment of a config is compared by the names of its variables.
func compareDocuments(here, there []byte, skip func(pointer string) bool) ([]change, error) {
	a, b, err := both(here, there, decode)
	if err != nil {
		return nil, err
	}
	d := &documents{skip: skip}
	d.value("", a, b)
	return d.changes, nil
}

// decode reads a document under the rules of package oci, numbers as they are written.
func decode(data []byte) (any, error) {
	if _, err := oci.ParseObject(data); err != nil {
		return nil, err
	}
	return oci.DecodeAny(data)
}

type documents struct {
	skip    func(string) bool
	changes []change
}

func (d *documents) value(at string, a, b any) {
	if d.skip != nil && d.skip(at) {
		return
	}

	// An object that only one side has is told member by member, an empty one as a whole.
	x, okX := a.(map[string]any)
	y, okY := b.(map[string]any)
	if okX && okY || okX && len(x) > 0 && isAbsent(b) || okY && len(y) > 0 && isAbsent(a) {
		d.object(at, x, y)
		return
	}

	// Of the lists that only one side has, the environment alone is taken apart.
	list, okList := a.([]any)
	other, okOther := b.([]any)
	if okList && okOther || at == environment && (okList && isAbsent(b) || okOther && isAbsent(a)) {
		d.list(at, list, other)
		return
	}

	if text(a) != text(b) {
		d.changes = append(d.changes, change{Pointer: at, Here: text(a), There: text(b)})
	}
}

// environment is where a config has its variables.
const environment = "/config/Env"

// absent stands for a member that is not there: null is something else.
type absent struct{}

func isAbsent(v any) bool {
	_, ok := v.(absent)
	return ok
}

func (d *documents) object(at string, a, b map[string]any) {
	names := map[string]any{}
	maps.Copy(names, a)
	maps.Copy(names, b)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		var x, y any = absent{}, absent{}
		if v, ok := a[name]; ok {
			x = v
		}
		if v, ok := b[name]; ok {
			y = v
		}
		d.value(at+"/"+escapePointer(name), x, y)
	}
}

func escapePointer(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}

func (d *documents) list(at string, a, b []any) {
	x, y := texts(a), texts(b)
	if slices.Equal(x, y) {
		return
	}

	sortedX, sortedY := slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	switch {
	case slices.Equal(sortedX, sortedY):
		d.changes = append(d.changes, change{Pointer: at, Here: text(a), There: text(b), Order: true})
	case at == environment:
		d.environment(at, a, b)
	case len(a) == len(b):
		for i := range a {
			d.value(at+"/"+strconv.Itoa(i), a[i], b[i])
		}
	default:
		// Of lists of two lengths the first member that differs tells most.
		i := 0
		for i < min(len(a), len(b)) && x[i] == y[i] {
			i++
		}
		member := func(list []string) string {
			if i < len(list) {
				return list[i]
			}
			return ""
		}
		d.changes = append(d.changes, change{Pointer: at + "/" + strconv.Itoa(i), Here: member(x), There: member(y), More: len(b) - len(a)})
	}
}

// environment compares two lists of NAME=VALUE by their names.
func (d *documents) environment(at string, a, b []any) {
	split := func(list []any) (map[string]string, []string) {
		values, names := map[string]string{}, []string{}
		for _, v := range list {
			name, _, _ := strings.Cut(fmt.Sprint(v), "=")
			if _, again := values[name]; !again {
				names = append(names, name)
			}
			values[name] = text(v)
		}
		return values, names
	}

	x, namesX := split(a)
	y, namesY := split(b)

	for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(namesX, namesY)))) {
		if x[name] != y[name] {
			d.changes = append(d.changes, change{Pointer: at + "/" + escapePointer(name), Here: x[name], There: y[name]})
		}
	}

	// Those that both sides have may stand in another order.
	inX := slices.DeleteFunc(namesX, func(n string) bool { return y[n] == "" })
	inY := slices.DeleteFunc(namesY, func(n string) bool { return x[n] == "" })
	if !slices.Equal(inX, inY) {
		d.changes = append(d.changes, change{Pointer: at, Here: text(a), There: text(b), Order: true})
	}
}

func texts(list []any) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return out
}

// text writes a value as JSON, with sorted names.
func text(v any) string {
	if isAbsent(v) {
		return ""
	}
	data, err := oci.Encode(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

// A Spelling is a way in which two documents that say the same differ.
type Spelling string

// The spellings.
const (
	spelledAlike Spelling = ""
	Whitespace   Spelling = "whitespace"
	KeyOrder     Spelling = "key-order"
	Escapes      Spelling = "escapes" // of characters in strings, or numbers
)

// spell says how two documents differ apart from the values in them: it compares their names and
// what stands between the values. Documents with other members are never the same there, so that it
// says nothing about them.
func spell(here, there []byte) Spelling {
	a, b := skeleton(here), skeleton(there)
	if a == b {
		return spelledAlike
	}

	blank := func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\t' || r == '\r' {
			return -1
		}
		return r
	}

	x, y := strings.Map(blank, a), strings.Map(blank, b)
	if x == y {
		return Whitespace
	}

	// In another order the names are as long together. With another length, there are other members.
	if len(x) != len(y) {
		return spelledAlike
	}

	sorted := func(s string) string {
		parts := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("{},[]", r) })
		slices.Sort(parts)
		return strings.Join(parts, ",")
	}

	if sorted(x) == sorted(y) {
		return KeyOrder
	}

	return spelledAlike
}

// skeleton returns a document without its values. Blanks within names become something else, so that
// those that are left stand between tokens.
func skeleton(doc []byte) string {
	var b strings.Builder
	for i := 0; i < len(doc); {
		c := doc[i]
		switch {
		case c == '"':
			end := i + 1
			for end < len(doc) && doc[end] != '"' {
				if doc[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end+1, len(doc))

			// A text that a colon follows is a name. Any other one is a value.
			if rest := bytes.TrimLeft(doc[end:], " \t\r\n"); len(rest) > 0 && rest[0] == ':' {
				b.WriteString(strings.Map(func(r rune) rune {
					if strings.ContainsRune(" {},[]:", r) {
						return '_'
					}
					return r
				}, string(doc[i:end])))
			} else {
				b.WriteByte('v')
			}
			i = end
		case strings.IndexByte("{}[],: \t\r\n", c) >= 0:
			b.WriteByte(c)
			i++
		default:
			b.WriteByte('v')
			for i < len(doc) && strings.IndexByte("{}[],: \t\r\n\"", doc[i]) < 0 {
				i++
			}
		}
	}

	return b.String()
}
