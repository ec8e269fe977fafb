package oci

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"ocikit/digest"
)

// A parser reads a JSON document in one pass. The rules of [Decode] are checked where the values are
// taken, so an index of a hundred thousand names is gone through once. Members that nobody asks for
// are kept as they were written.
type parser struct {
	data    []byte
	at      int   // the next byte
	size    int64 // bytes of the document
	depth   int
	members int               // of all objects so far
	held    int64             // about how many bytes of memory hold what was read, see hold
	words   map[string]string // texts that occur again and again, as media types

	see func(*Descriptor) bool // gets each entry of an index, and reports whether to keep it

	rest io.Reader // what follows data, if that is a part of the document; see more
	gone int64     // bytes before data
	err  error     // of reading that
}

const (
	// maxWords bounds the table of texts that are kept once.
	maxWords = 256
	// manyMembers is how many members and texts of lists a document may have whatever its length;
	// beyond, each must come with memberBytes. Members of a few bytes take ten times the memory.
	manyMembers = 1 << 18
	memberBytes = 24

	// muchMemory and timesMemory bound the memory of what was read: muchMemory bytes, and
	// timesMemory bytes more for each byte of the text. Entries that have a name and nothing else,
	// the costliest that are written here, need 2.8 for each.
	muchMemory  = 32 << 20
	timesMemory = 3

	// What values take besides their text.
	descriptorMemory = 136
	platformMemory   = 112
	mapMemory        = 352 // with up to 8 members
	largeMapMemory   = 600 // more for one with more
	mapMemberMemory  = 120 // each of those
	textMemory       = 16

	// window is how much of a long document is in memory, and reach how much of it a member of
	// the document, or an entry of the list in it, may take.
	window = 2 * reach
	reach  = MaxDocument
)

func newParser(data []byte) *parser {
	return &parser{data: data, size: int64(len(data)), words: map[string]string{}}
}

// newLongParser returns a parser of a document of size bytes, of which it holds a part at a time.
func newLongParser(r io.Reader, size int64) *parser {
	buf := make([]byte, 0, min(size+1, window))
	return &parser{data: buf, size: size, words: map[string]string{}, rest: r}
}

// more sees to it that the next member or entry is in memory, as far as it is no longer than reach.
func (p *parser) more() error {
	if p.rest == nil || len(p.data)-p.at >= reach {
		return nil
	}

	// The bytes before p.at leave the buffer, so they are checked now. p.at stands between two
	// tokens, so no character is cut in two.
	if !utf8.Valid(p.data[:p.at]) {
		return errNotUTF8
	}

	// What is left moves to the front, and the room behind it is filled.
	p.gone += int64(p.at)
	n := copy(p.data[:cap(p.data)], p.data[p.at:])
	k, err := io.ReadFull(p.rest, p.data[n:cap(p.data)])
	p.data, p.at = p.data[:n+k], 0

	// Room for entries and the bound on members are counted from the length, so it has to be right.
	read := p.gone + int64(len(p.data))
	switch {
	case read > p.size:
		return fmt.Errorf("over %d bytes, want %d", p.size, p.size)
	case err == nil:
		return nil
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		p.err = err
		return err
	}

	// The document ends here.
	p.rest = nil
	if read != p.size {
		return fmt.Errorf("%d bytes, want %d", read, p.size)
	}

	return nil
}

// place is where an error was found, counted from 1 as encoding/json does.
func (p *parser) place() int64 { return p.gone + int64(min(p.at+1, len(p.data))) }

var errNotUTF8 = errors.New("text is not UTF-8")

// document reads the whole document, whose value read takes. It begins with the character first.
func (p *parser) document(first byte, read func() error) error {
	if err := p.more(); err != nil {
		return err
	}

	// A document that is in memory as a whole is checked before it is read, a long one part by part
	// as it leaves the buffer.
	if p.rest == nil && !utf8.Valid(p.data) {
		return errNotUTF8
	}

	// The first character is checked here for the sake of the error, which shows what stands in its
	// place.
	switch c := p.peek(); {
	case c == 0 && p.at == len(p.data):
		return io.ErrUnexpectedEOF
	case c != first:
		begin, want := p.data[p.at:min(p.at+20, len(p.data))], "an object"
		if c == '{' || c == '[' {
			begin = begin[:1]
		}
		if first == '[' {
			want = "a list"
		}
		return fmt.Errorf("begins with %q, want %s", begin, want)
	}

	if err := read(); err != nil {
		return err
	}

	// The blanks at the end may be longer than the buffer.
	for p.peek(); p.at == len(p.data) && p.rest != nil; p.peek() {
		if err := p.more(); err != nil {
			return err
		}
	}

	switch {
	case p.at < len(p.data):
		return fmt.Errorf("%d bytes follow the document", p.size-p.gone-int64(p.at))
	case !utf8.Valid(p.data):
		return errNotUTF8
	}

	return nil
}

// peek skips blanks and returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	for ; p.at < len(p.data); p.at++ {
		switch c := p.data[p.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// wrong says that the next byte cannot stand there.
func (p *parser) wrong(want string) error {
	switch {
	case p.at < len(p.data):
		return fmt.Errorf("at byte %d: invalid character %q, want %s", p.place(), p.data[p.at], want)
	case p.rest != nil:
		return fmt.Errorf("at byte %d: one member or entry of over %d bytes", p.gone, reach)
	}
	return fmt.Errorf("at byte %d: %w", p.place(), io.ErrUnexpectedEOF)
}

// take takes the next byte if it is c.
func (p *parser) take(c byte) bool {
	if p.peek() != c || p.at == len(p.data) {
		return false
	}
	p.at++
	return true
}

// null takes null, in place of whatever is wanted.
func (p *parser) null() bool {
	if p.peek() == 'n' && strings.HasPrefix(string(p.data[p.at:min(p.at+4, len(p.data))]), "null") {
		p.at += 4
		return true
	}
	return false
}

// enter and leave count the levels of objects and arrays.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return fmt.Errorf("at byte %d: nested deeper than %d levels", p.place(), maxDepth)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// count notes one more member.
func (p *parser) count() error {
	if p.members++; int64(p.members) > manyMembers+p.size/memberBytes {
		return fmt.Errorf("at byte %d: %d members, too many for %d bytes", p.place(), p.members, p.size)
	}
	return nil
}

// hold notes that so many bytes of memory are taken by what was read.
func (p *parser) hold(bytes int) error {
	p.held += int64(bytes)
	if at := p.gone + int64(p.at); p.held > muchMemory+timesMemory*at {
		return fmt.Errorf("at byte %d: what was read up to here takes over %d bytes of memory", p.place(), muchMemory+timesMemory*at)
	}
	return nil
}

// holdMember notes a member of a map that has n others, with bytes of text.
func (p *parser) holdMember(n, bytes int) error {
	switch {
	case n == 0:
		bytes += mapMemory
	case n == 8:
		bytes += largeMapMemory
	case n > 8:
		bytes += mapMemberMemory
	}
	return p.hold(bytes)
}

// object reads an object: read takes the value of each member. Two of one name are an error.
func (p *parser) object(read func(name string) error) error {
	if p.null() {
		return errors.New("null in place of an object")
	}

	if !p.take('{') {
		return p.wrong("an object")
	}

	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()

	if p.take('}') {
		return nil
	}

	// Most objects have few names. Those are compared one by one, and no map is made.
	var few [12]string
	names := nameSet{few: few[:0]}
	for {
		// The buffer may move here, between two members of the document, and between two entries of
		// its list, see descriptors. Elsewhere skip may still hold a part of it.
		if p.depth == 1 {
			if err := p.more(); err != nil {
				return err
			}
		}

		if p.peek() != '"' {
			return p.wrong("a name in quotes")
		}

		name, err := p.word()
		if err != nil {
			return err
		}

		// Of two members of one name some readers take the first, others the last.
		if !names.add(name) {
			return fmt.Errorf("at byte %d: name %.80q occurs twice in one object", p.place(), name)
		}

		if err := p.count(); err != nil {
			return err
		}

		if !p.take(':') {
			return p.wrong("a colon")
		}

		if err := read(name); err != nil {
			return err
		}

		switch {
		case p.take(','):
		case p.take('}'):
			return nil
		default:
			return p.wrong("a comma or the end of the object")
		}
	}
}

// A nameSet holds the names of one object: few of them in a list, many in a map.
type nameSet struct {
	few  []string
	many map[string]bool
}

// add reports whether a name is new.
func (s *nameSet) add(name string) bool {
	switch {
	case s.many != nil:
		if s.many[name] {
			return false
		}
		s.many[name] = true
	case slices.Contains(s.few, name):
		return false
	case len(s.few) < cap(s.few):
		s.few = append(s.few, name)
	default:
		s.many = map[string]bool{name: true}
		for _, n := range s.few {
			s.many[n] = true
		}
	}

	return true
}

// array reads an array: read takes each element.
func (p *parser) array(read func() error) error {
	if !p.take('[') {
		return p.wrong("an array")
	}

	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()

	if p.take(']') {
		return nil
	}

	for {
		if err := read(); err != nil {
			return err
		}
		switch {
		case p.take(','):
		case p.take(']'):
			return nil
		default:
			return p.wrong("a comma or the end of the array")
		}
	}
}

// skip passes over any value and returns how it was written.
func (p *parser) skip() ([]byte, error) {
	c := p.peek()
	start := p.at
	var err error
	switch {
	case c == '{':
		err = p.object(func(string) error { _, err := p.skip(); return err })
	case c == '[':
		err = p.array(func() error { _, err := p.skip(); return err })
	case c == '"':
		_, err = p.quoted()
	case c == '-' || '0' <= c && c <= '9':
		_, err = p.number()
	default:
		err = p.literal()
	}

	return p.data[start:p.at], err
}

func (p *parser) literal() error {
	for _, word := range []string{"true", "false", "null"} {
		if n := len(word); len(p.data)-p.at >= n && string(p.data[p.at:p.at+n]) == word {
			p.at += n
			return nil
		}
	}
	return p.wrong("a value")
}

// number takes a number (RFC 8259, section 6).
func (p *parser) number() (string, error) {
	p.peek()
	start := p.at
	digits := func() bool {
		from := p.at
		for p.at < len(p.data) && '0' <= p.data[p.at] && p.data[p.at] <= '9' {
			p.at++
		}
		return p.at > from
	}

	is := func(set string) bool {
		if p.at < len(p.data) && strings.IndexByte(set, p.data[p.at]) >= 0 {
			p.at++
			return true
		}
		return false
	}

	// No digit follows a leading zero. One that does is left there, where no token can begin with
	// it.
	is("-")
	if !is("0") && !digits() {
		return "", p.wrong("a number")
	}

	if is(".") && !digits() {
		return "", p.wrong("a digit")
	}

	if is("eE") {
		is("+-")
		if !digits() {
			return "", p.wrong("a digit")
		}
	}

	return string(p.data[start:p.at]), nil
}

// quoted passes over a text and returns what stands between the quotes, unless it holds escapes:
// then it returns the text with its quotes, for encoding/json.
func (p *parser) quoted() ([]byte, error) {
	if !p.take('"') {
		return nil, p.wrong("a text in quotes")
	}

	start, escapes := p.at, false
	for ; p.at < len(p.data); p.at++ {
		switch c := p.data[p.at]; {
		case c == '"':
			p.at++
			if escapes {
				raw := p.data[start-1 : p.at]
				if !json.Valid(raw) {
					return nil, fmt.Errorf("at byte %d: invalid escape in a text", p.gone+int64(start))
				}
				return raw, nil
			}
			return p.data[start : p.at-1], nil
		case c == '\\':
			// The next character is passed over, so that an escaped quote ends nothing. Whether the
			// escape is a valid one is for encoding/json to say, at the end.
			escapes = true
			p.at++
		case c < ' ':
			return nil, p.wrong("no control character in a text")
		}
	}

	p.at = len(p.data)
	return nil, p.wrong("the end of a text")
}

// unquote returns what quoted has found as a text of its own.
func unquote(raw []byte) (string, error) {
	if len(raw) > 1 && raw[0] == '"' { // with escapes
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	}
	return string(raw), nil
}

// text takes a text; null is "".
func (p *parser) text() (string, error) {
	if p.null() {
		return "", nil
	}
	raw, err := p.quoted()
	if err != nil {
		return "", err
	}
	return unquote(raw)
}

// word is text for what occurs often: equal texts are kept once.
func (p *parser) word() (string, error) {
	if p.null() {
		return "", nil
	}

	raw, err := p.quoted()
	if err != nil {
		return "", err
	}

	if w, ok := p.words[string(raw)]; ok {
		return w, nil
	}

	w, err := unquote(raw)
	if err == nil && len(p.words) < maxWords {
		p.words[string(raw)] = w
	}

	return w, err
}

// whole takes a whole number; null is 0.
func (p *parser) whole(bits int) (int64, error) {
	if p.null() {
		return 0, nil
	}
	text, err := p.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%s: want a whole number that fits %d bits", text, bits)
	}
	return n, nil
}

// texts takes a list of texts; null is none.
func (p *parser) texts() ([]string, error) {
	if p.null() {
		return nil, nil
	}
	list := []string{}
	err := p.array(func() error {
		s, err := p.text()
		list = append(list, s)
		return cmp.Or(err, p.count(), p.hold(textMemory+len(s)))
	})
	return list, err
}

// annotations takes an object of texts; null is none.
func (p *parser) annotations() (Annotations, error) {
	if p.null() {
		return nil, nil
	}
	var a Annotations
	err := p.object(func(name string) error {
		s, err := p.text()
		a = append(a, Annotation{name, s})
		return cmp.Or(err, p.hold(2*textMemory+len(s)))
	})
	a.sort()
	return a, err
}

// bytes takes base64; null is none.
func (p *parser) bytes() ([]byte, error) {
	if p.null() {
		return nil, nil
	}
	s, err := p.text()
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(s)
}

// read reads an object as the struct v, whose members take takes, and returns the other members. A
// member is an error if its name is that of a field in another case: encoding/json would take it
// for the field, other readers would not.
func (p *parser) read(v any, take func(name string) (known bool, err error)) (Object, error) {
	var extra Object
	err := p.object(func(name string) error {
		known, err := take(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}

		if known {
			return nil
		}

		for _, k := range fieldNames(v) {
			if strings.EqualFold(k, name) {
				return fmt.Errorf("name %q: want %q", name, k)
			}
		}

		raw, err := p.skip()
		if extra == nil {
			extra = Object{}
		}

		// The bytes are the caller's, or lie in a buffer that moves on, so they are copied.
		err = cmp.Or(err, p.holdMember(len(extra), len(name)+len(raw)))
		extra[name] = slices.Clone(raw)
		return err
	})

	return extra, err
}

func (p *parser) digest() (d digest.Digest, err error) {
	if p.null() {
		return d, nil
	}
	s, err := p.text()
	if err != nil {
		return d, err
	}
	return digest.Parse(s)
}

func (p *parser) descriptor() (Descriptor, error) {
	var d Descriptor
	extra, err := p.read((*plainDescriptor)(nil), func(name string) (_ bool, err error) {
		switch name {
		case "mediaType":
			d.MediaType, err = p.word()
		case "digest":
			d.Digest, err = p.digest()
		case "size":
			d.Size, err = p.whole(64)
		case "urls":
			d.URLs, err = p.texts()
		case "annotations":
			d.Annotations, err = p.annotations()
		case "data":
			d.Data, err = p.bytes()
		case "platform":
			d.Platform, err = p.platform()
		case "artifactType":
			d.ArtifactType, err = p.word()
		default:
			return false, nil
		}

		return true, err
	})

	d.Extra = extra
	if err == nil {
		err = cmp.Or(d.check(), p.hold(descriptorMemory+len(d.Digest.String())+len(d.Data)))
	}

	if err != nil {
		return d, fmt.Errorf("descriptor: %w", err)
	}

	return d, nil
}

// optional is descriptor for a member that may be null.
func (p *parser) optional() (*Descriptor, error) {
	if p.null() {
		return nil, nil
	}
	d, err := p.descriptor()
	return &d, err
}

// descriptors takes a list of descriptors, of which see keeps some.
func (p *parser) descriptors(see func(*Descriptor) bool) ([]Descriptor, error) {
	if p.null() {
		return nil, nil
	}

	list, start := []Descriptor{}, p.gone+int64(p.at)
	err := p.array(func() error {
		if err := p.more(); err != nil {
			return err
		}
		d, err := p.descriptor()
		if err != nil || see != nil && !see(&d) {
			return err
		}

		// At 64 entries room is made for all that follow, as if they were as long as these. Growing
		// step by step would copy a million descriptors several times.
		if len(list) == 64 {
			at := p.gone + int64(p.at)
			list = slices.Grow(list, int(64*(p.size-at)/(at-start)))
		}
		list = append(list, d)
		return nil
	})

	return list, err
}

// platform takes a platform; null is none.
func (p *parser) platform() (*Platform, error) {
	if p.null() {
		return nil, nil
	}

	var v Platform
	extra, err := p.read((*plainPlatform)(nil), func(name string) (_ bool, err error) {
		switch name {
		case "architecture":
			v.Architecture, err = p.word()
		case "os":
			v.OS, err = p.word()
		case "os.version":
			v.OSVersion, err = p.word()
		case "os.features":
			v.OSFeatures, err = p.texts()
		case "variant":
			v.Variant, err = p.word()
		default:
			return false, nil
		}

		return true, err
	})

	v.Extra = extra
	if err = cmp.Or(err, p.hold(platformMemory)); err != nil {
		return nil, fmt.Errorf("platform: %w", err)
	}

	return &v, nil
}

// referring takes the subject of any object. As encoding/json does, and unlike read, it takes a name in
// another case for the name: nobody asked for a manifest.
func (p *parser) referring() (r Referring, err error) {
	err = p.object(func(name string) error {
		if !strings.EqualFold(name, "subject") {
			_, err := p.skip()
			return err
		}
		r.Subject, err = p.optional()
		return err
	})
	return r, err
}

// commonMembers are where the members go that a manifest and an index both have.
type commonMembers struct {
	schemaVersion           *int
	mediaType, artifactType *string
	subject                 **Descriptor
	annotations             *Annotations
}

// common reads a member that a manifest and an index both have, and reports whether it is one.
func (p *parser) common(name string, m commonMembers) (_ bool, err error) {
	switch name {
	case "schemaVersion":
		var n int64
		n, err = p.whole(strconv.IntSize)
		*m.schemaVersion = int(n)
	case "mediaType":
		*m.mediaType, err = p.word()
	case "artifactType":
		*m.artifactType, err = p.word()
	case "subject":
		*m.subject, err = p.optional()
	case "annotations":
		*m.annotations, err = p.annotations()
	default:
		return false, nil
	}
	return true, err
}

func (p *parser) manifest() (Manifest, error) {
	var m Manifest
	extra, err := p.read((*plainManifest)(nil), func(name string) (_ bool, err error) {
		switch name {
		case "config":
			m.Config, err = p.descriptor()
		case "layers":
			m.Layers, err = p.descriptors(nil)
		default:
			return p.common(name, commonMembers{&m.SchemaVersion, &m.MediaType, &m.ArtifactType, &m.Subject, &m.Annotations})
		}
		return true, err
	})

	m.Extra = extra
	if err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}

	return m, m.check()
}

func (p *parser) index() (Index, error) {
	var x Index
	extra, err := p.read((*plainIndex)(nil), func(name string) (_ bool, err error) {
		if name == "manifests" {
			x.Manifests, err = p.descriptors(p.see)
			return true, err
		}
		return p.common(name, commonMembers{&x.SchemaVersion, &x.MediaType, &x.ArtifactType, &x.Subject, &x.Annotations})
	})

	x.Extra = extra
	if err != nil {
		return x, fmt.Errorf("index: %w", err)
	}

	return x, x.check()
}
