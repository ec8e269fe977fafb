package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDocument is the largest JSON document (manifest, index, config) that is read: 4 MiB,
// what the distribution-spec expects registries to take.
const MaxDocument = 4 << 20

// maxDepth bounds the nesting of a document.
const maxDepth = 64

// ErrMalformed is wrapped by the errors about documents that are not what they should be.
var ErrMalformed = errors.New("malformed document")

// An Object is a JSON object whose values are kept as they were written, so that a document
// can be edited without losing what this program does not know. The image-spec asks for
// that in "Extensibility" (considerations.md).
type Object map[string]json.RawMessage

// Decode reads one JSON document into v. It is strict where readers are known to disagree:
// a document over [MaxDocument], text that is not UTF-8, a byte order mark, duplicate names
// in one object, nesting over 64 levels and bytes behind the document are errors that
// wrap [ErrMalformed]. The document must be an object.
func Decode(data []byte, v any) error {
	if err := checkStrict(data); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// ParseObject decodes one JSON object under the rules of [Decode].
func ParseObject(data []byte) (Object, error) {
	var o Object
	err := Decode(data, &o)
	return o, err
}

// Encode returns v as compact JSON: names sorted, no HTML escapes, no newline. It is how
// every document and descriptor of this program is written, so that the same content has
// the same digest everywhere.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// EncodeLine returns v as Encode does, for a terminal too: with the newline, and with an escape
// for each character that is not printable, of which JSON escapes but a few.
func EncodeLine(v any) ([]byte, error) {
	data, err := Encode(v)
	if err != nil {
		return nil, err
	}
	line := make([]byte, 0, len(data)+1)
	for _, c := range string(data) {
		switch {
		case strconv.IsPrint(c):
			line = utf8.AppendRune(line, c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			line = fmt.Appendf(line, `\u%04x\u%04x`, high, low)
		default:
			line = fmt.Appendf(line, `\u%04x`, c)
		}
	}
	return append(line, '\n'), nil
}

// checkStrict walks the tokens of data and reports the first that makes it ambiguous.
func checkStrict(data []byte) error {
	if len(data) > MaxDocument {
		return fmt.Errorf("%d bytes, the limit is %d", len(data), MaxDocument)
	}
	if !utf8.Valid(data) {
		return errors.New("text is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type level struct {
		names map[string]bool // nil in an array
		value bool            // in an object: the next token is a value
	}
	var stack []level
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("at byte %d: %w", dec.InputOffset(), err)
		}
		if len(stack) == 0 && tok != json.Delim('{') {
			return fmt.Errorf("begins with %.20q, want an object", fmt.Sprint(tok))
		}
		if top := len(stack) - 1; top >= 0 && stack[top].names != nil {
			if name, ok := tok.(string); ok && !stack[top].value {
				if stack[top].names[name] {
					return fmt.Errorf("at byte %d: name %.80q occurs twice in one object", dec.InputOffset(), name)
				}
				stack[top].names[name] = true
				stack[top].value = true
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
			return fmt.Errorf("at byte %d: nested deeper than %d levels", dec.InputOffset(), maxDepth)
		}
		if len(stack) == 0 {
			break
		}
	}
	if rest := bytes.TrimSpace(data[dec.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the document", len(rest))
	}
	return nil
}

// unmarshal decodes data into the struct behind v, and returns the members that the struct
// has no field for. A member whose name is that of a field in another case is an error:
// encoding/json would take it for the field, other readers would not.
func unmarshal(data []byte, v any) (Object, error) {
	var o Object
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, errors.New("null in place of an object")
	}
	known := fieldNames(v)
	for name := range o {
		if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) }); i >= 0 && known[i] != name {
			return nil, fmt.Errorf("name %q: want %q", name, known[i])
		}
	}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, err
	}
	for _, name := range known {
		delete(o, name)
	}
	if len(o) == 0 {
		return nil, nil
	}
	return o, nil
}

// marshal encodes the struct v and the members of extra that it has no field for.
func marshal(v any, extra Object) ([]byte, error) {
	data, err := Encode(v)
	if err != nil {
		return nil, err
	}
	var o Object
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, err
	}
	known := fieldNames(v)
	for name, value := range extra {
		if !slices.Contains(known, name) {
			o[name] = value
		}
	}
	return Encode(o)
}

func fieldNames(v any) []string {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// clone returns a copy of o that can be changed.
func (o Object) clone() Object {
	if o == nil {
		return Object{}
	}
	return maps.Clone(o)
}
