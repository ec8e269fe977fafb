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

// MaxList is the largest index.json of a layout that is read or written: 64 MiB, over 300,000 names. Read,
// it takes less than 256 MiB of memory, whatever is in it.
const MaxList = 64 << 20

// maxDepth bounds the nesting of a document.
const maxDepth = 64

// ErrMalformed is wrapped by the errors about documents that are not what they should be.
var ErrMalformed = errors.New("malformed document")

// ErrNotFound is wrapped by the errors about a name or a blob that is not there, wherever the images
// lie.
var ErrNotFound = errors.New("not found")

// An Object is a JSON object whose values are kept as they were written, so that a document
// can be edited without losing what this program does not know. The image-spec asks for
// that in "Extensibility" (considerations.md).
type Object map[string]json.RawMessage

// ReadDocument reads r to its end, but no more than a byte over [MaxDocument]: that is enough for
// [Decode] to refuse the document.
func ReadDocument(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, MaxDocument+1)) }

// Decode reads one JSON document into v. It is strict where readers are known to disagree:
// a document over [MaxDocument], text that is not UTF-8, a byte order mark, duplicate names
// in one object, nesting over 64 levels and bytes behind the document are errors that
// wrap [ErrMalformed]. The document must be an object.
func Decode(data []byte, v any) error {
	if len(data) > MaxDocument {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrMalformed, len(data), MaxDocument)
	}
	if err := decode(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func decode(data []byte, v any) error {
	p := newParser(data)
	return p.document('{', func() (err error) {
		// The documents that make up an image are read by the parser itself. For anything else it
		// checks the rules, and encoding/json decodes.
		switch v := v.(type) {
		case *Index:
			*v, err = p.index()
		case *Manifest:
			*v, err = p.manifest()
		case *Descriptor:
			*v, err = p.descriptor()
		case *Referring:
			*v, err = p.referring()
		default:
			var raw []byte
			if raw, err = p.skip(); err == nil {
				err = json.Unmarshal(raw, v)
			}
		}
		return err
	})
}

// checkStrict reports what makes data ambiguous, a document that begins with the character first.
func checkStrict(data []byte, first byte) error {
	if len(data) > MaxDocument {
		return fmt.Errorf("%d bytes, the limit is %d", len(data), MaxDocument)
	}
	p := newParser(data)
	return p.document(first, func() error {
		_, err := p.skip()
		return err
	})
}

// ReadList reads index.json of a layout, the list of all its names, which has size bytes. It is an
// index under the rules of [Decode], with the limit [MaxList]. No more than a few MiB of the text
// are in memory at a time, so in a list over 8 MiB one entry may have at most 4 MiB. An error of r
// is returned as it is.
//
// Each entry is handed to see, unless that is nil, before the next one is read. see may change the
// entry or keep it, and reports whether it becomes one of the list. What see drops takes no memory, which counts
// in a list of a hundred thousand.
func ReadList(r io.Reader, size int64, see func(*Descriptor) bool) (Index, error) {
	var x Index
	if size > MaxList {
		return x, fmt.Errorf("%w: %d bytes, the limit is %d", ErrMalformed, size, MaxList)
	}

	p := newLongParser(r, size)
	p.see = see
	err := p.document('{', func() (err error) {
		x, err = p.index()
		return err
	})

	switch {
	case p.err != nil:
		return x, p.err
	case err != nil:
		return x, fmt.Errorf("%w: %w", ErrMalformed, err)
	}

	return x, nil
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
	switch v := v.(type) { // those that write themselves in that form
	case Index:
		return v.MarshalJSON()
	case Manifest:
		return v.MarshalJSON()
	case Descriptor:
		return v.MarshalJSON()
	}

	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}

	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// EncodeLine returns v as [Encode] does, fit for a terminal: with a newline, and with an escape for
// each character that is not printable. JSON itself requires few of these escapes.
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
			// An escape has 16 bits. A character beyond them is a pair of surrogates (RFC 8259,
			// section 7).
			high, low := utf16.EncodeRune(c)
			line = fmt.Appendf(line, `\u%04x\u%04x`, high, low)
		default:
			line = fmt.Appendf(line, `\u%04x`, c)
		}
	}

	return append(line, '\n'), nil
}

// unmarshal decodes data into the struct behind v. A member whose name is that of a field in another case is an error:
// encoding/json would take it for the field, other readers would not.
func unmarshal(data []byte, v any) error {
	var o Object
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}

	if o == nil {
		return errors.New("null in place of an object")
	}

	known := fieldNames(v)
	for name := range o {
		if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) }); i >= 0 && known[i] != name {
			return fmt.Errorf("name %q: want %q", name, known[i])
		}
	}

	return json.Unmarshal(data, v)
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

	// A field of the struct counts more than a member of extra by its name.
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

// Get decodes a member into what to points to, and leaves that alone if there is no such member.
func (o Object) Get(name string, to any) error {
	if raw, ok := o[name]; ok {
		return json.Unmarshal(raw, to)
	}
	return nil
}

// clone returns a copy of o that can be changed; it is never nil.
func (o Object) clone() Object {
	if o == nil {
		return Object{}
	}
	return maps.Clone(o)
}
