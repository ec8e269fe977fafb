package oci

import (
	"cmp"
	"encoding/base64"
	"io"
	"iter"
	"strconv"

	"ocikit/digest"
)

// A writer writes objects in the form of [Encode]. Members are added in the order of their names.
type writer struct {
	b     []byte
	first bool // no member of the object was added yet
	err   error

	out io.Writer // gets what was written so far, in pieces; nil: all of it stays in b
}

// flush hands on what was written, if it is a piece of that length.
func (w *writer) flush(atLeast int) {
	if w.out == nil || w.err != nil || len(w.b) < atLeast {
		return
	}
	_, w.err = w.out.Write(w.b)
	w.b = w.b[:0]
}

func (w *writer) open() { w.b, w.first = append(w.b, '{'), true }

// close ends an object. Members of another object are no longer the first.
func (w *writer) close() { w.b, w.first = append(w.b, '}'), false }

func (w *writer) name(name string) {
	if !w.first {
		w.b = append(w.b, ',')
	}
	w.first = false
	w.text(name)
	w.b = append(w.b, ':')
}

// text adds a text in quotes. Nearly all of them need no escapes.
func (w *writer) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := Encode(s)
			w.b = append(w.b, quoted...)
			w.fail(err)
			return
		}
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, s...)
	w.b = append(w.b, '"')
}

func (w *writer) fail(err error) {
	w.err = cmp.Or(w.err, err)
}

func (w *writer) member(name, value string) {
	w.name(name)
	w.text(value)
}

// optional adds a member unless its value is "".
func (w *writer) optional(name, value string) {
	if value != "" {
		w.member(name, value)
	}
}

func (w *writer) number(name string, n int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *writer) texts(name string, list []string) {
	if len(list) == 0 {
		return
	}
	w.name(name)
	w.b = append(w.b, '[')
	for i, s := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.text(s)
	}
	w.b = append(w.b, ']')
}

func (w *writer) annotations(a Annotations) {
	if len(a) > 0 {
		w.name("annotations")
		w.open()
		w.annotationMembers(a)
		w.close()
	}
}

func (w *writer) annotationMembers(a Annotations) {
	for i := range a {
		w.member(a[i].Name, a[i].Value)
	}
}

func (w *writer) digest(d digest.Digest) {
	_, err := d.MarshalText()
	w.fail(err)
	w.member("digest", d.String())
}

// object adds an object: add adds the members of v. With members of extra beside them all have to be
// sorted together, which marshal does.
func (w *writer) object(v any, extra Object, add func()) {
	if len(extra) > 0 {
		data, err := marshal(v, extra)
		w.b = append(w.b, data...)
		w.fail(err)
		w.first = false
		return
	}
	w.open()
	add()
	w.close()
}

func (w *writer) descriptor(d *Descriptor) {
	w.object((*plainDescriptor)(d), d.Extra, func() {
		w.annotations(d.Annotations)
		w.optional("artifactType", d.ArtifactType)
		if len(d.Data) > 0 {
			w.member("data", base64.StdEncoding.EncodeToString(d.Data))
		}
		w.digest(d.Digest)
		w.member("mediaType", d.MediaType)
		if d.Platform != nil {
			w.name("platform")
			w.platform(d.Platform)
		}
		w.number("size", d.Size)
		w.texts("urls", d.URLs)
	})
}

func (w *writer) platform(p *Platform) {
	w.object((*plainPlatform)(p), p.Extra, func() {
		w.member("architecture", p.Architecture)
		w.member("os", p.OS)
		w.texts("os.features", p.OSFeatures)
		w.optional("os.version", p.OSVersion)
		w.optional("variant", p.Variant)
	})
}

func (w *writer) descriptors(name string, list iter.Seq[*Descriptor]) {
	w.name(name)
	w.b = append(w.b, '[')
	first := true
	for d := range list {
		if !first {
			w.b = append(w.b, ',')
		}
		first = false
		w.descriptor(d)
		if w.flush(64 << 10); w.err != nil {
			return
		}
	}
	w.b = append(w.b, ']')
}

// each returns where the descriptors of a list are.
func each(list []Descriptor) iter.Seq[*Descriptor] {
	return func(yield func(*Descriptor) bool) {
		for i := range list {
			if !yield(&list[i]) {
				return
			}
		}
	}
}

func (w *writer) subject(d *Descriptor) {
	if d != nil {
		w.name("subject")
		w.descriptor(d)
	}
}

// MarshalJSON encodes d with its Extra members, names sorted. A descriptor without a digest is an
// error.
func (d Descriptor) MarshalJSON() ([]byte, error) {
	var w writer
	w.descriptor(&d)
	return w.b, w.err
}

// MarshalJSON implements json.Marshaler.
func (p Platform) MarshalJSON() ([]byte, error) {
	var w writer
	w.platform(&p)
	return w.b, w.err
}

// MarshalJSON encodes m, names sorted.
func (m Manifest) MarshalJSON() ([]byte, error) {
	if m.Layers == nil {
		m.Layers = []Descriptor{}
	}

	var w writer
	w.object((*plainManifest)(&m), m.Extra, func() {
		w.annotations(m.Annotations)
		w.optional("artifactType", m.ArtifactType)
		w.name("config")
		w.descriptor(&m.Config)
		w.descriptors("layers", each(m.Layers))
		w.optional("mediaType", m.MediaType)
		w.number("schemaVersion", int64(m.SchemaVersion))
		w.subject(m.Subject)
	})

	return w.b, w.err
}

// MarshalJSON encodes x, names sorted; the list of manifests is never null.
func (x Index) MarshalJSON() ([]byte, error) {
	var w writer
	w.index(x, each(x.Manifests))
	return w.b, w.err
}

// EncodeTo writes x as [Encode] does, in pieces, with other manifests in place of its own: the list of
// all names of a layout may be long, and is only gone through. It stops at the first error of out, and
// returns it as it is.
func (x Index) EncodeTo(out io.Writer, manifests iter.Seq[*Descriptor]) error {
	w := writer{out: out}
	w.index(x, manifests)
	w.flush(0)
	return w.err
}

func (w *writer) index(x Index, manifests iter.Seq[*Descriptor]) {
	// With members that nobody knows encoding/json sorts all of them, and takes what x holds.
	if len(x.Extra) > 0 {
		x.Manifests = []Descriptor{}
		for d := range manifests {
			x.Manifests = append(x.Manifests, *d)
		}
	}

	w.object((*plainIndex)(&x), x.Extra, func() {
		w.annotations(x.Annotations)
		w.optional("artifactType", x.ArtifactType)
		w.descriptors("manifests", manifests)
		w.optional("mediaType", x.MediaType)
		w.number("schemaVersion", int64(x.SchemaVersion))
		w.subject(x.Subject)
	})
}
