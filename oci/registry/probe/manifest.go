package probe

import (
	"fmt"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry"
)

// A document is a manifest or index with its descriptor.
type document struct {
	desc oci.Descriptor
	data []byte
}

func (d document) digest() string { return d.desc.Digest.String() }

// artifactType is the type of our manifest that has a subject.
const artifactType = "application/vnd.ocikit.probe"

// newImage returns a manifest of the blobs that were stored, after edit, which may be nil. It is
// another one each time, so that nothing stored before answers for it.
func (r *run) newImage(edit func(*oci.Manifest)) document {
	m := oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: r.config, Layers: []oci.Descriptor{r.blob},
		Annotations: oci.Annotations{{Name: "org.ocikit.probe", Value: r.tag + "-" + digestOf(noise(8))[7:15]}},
	}
	if edit != nil {
		edit(&m)
	}
	data, err := oci.Encode(m)
	if err != nil {
		panic(err) // our own texts
	}
	return document{oci.Describe(m.MediaType, data), data}
}

// putDocument puts a manifest under a name, which may have a query. What it stores is removed at the
// end.
func (r *run) putDocument(d document, name string, header ...string) answer {
	call := registry.Call{
		Endpoint: "end-7a", Method: "PUT", Path: r.repo + "/manifests/" + name, Body: d.data,
		Header: map[string][]string{"Content-Type": {oci.MediaTypeManifest}},
	}

	for pair := range slices.Chunk(header, 2) {
		call.Header[pair[0]] = pair[1:]
	}

	a := r.ask(call)

	// A manifest that was put by a tag is there under its digest as well, and may outlive the
	// tag.
	if a.done() {
		name, _, _ = strings.Cut(name, "?")
		kind := "tag"
		if strings.Contains(name, ":") {
			kind = "manifest"
		}
		r.keep(kind, name)
		r.keep("manifest", d.digest())
	}

	return a
}

// putProbes are about storing manifests. Each stores one of its own, besides those about the same
// tag.
func putProbes() []probe {
	row := func(id, asks string) Row { return Row{ID: id, Endpoint: "end-7a", Asks: asks, Writes: true} }
	return []probe{
		{Row: row("manifest", "PUT of a manifest by its digest"), needs: "put", try: (*run).tryManifest},
		{Row: row("manifest-tag", "PUT of a manifest by a tag"), needs: "manifest", try: func(r *run) *result {
			return manifestResult(r.putDocument(r.doc, r.tag), r.doc)
		}},
		{Row: row("manifest-again", "the same PUT by the tag again"), needs: "manifest-tag", try: func(r *run) *result {
			return judge(r.putDocument(r.doc, r.tag), Note, 201).pushes(true, "takes a refusal for success if the tag is right")
		}},
		{Row: row("manifest-move", "PUT of another manifest by the same tag"), needs: "manifest-tag", try: func(r *run) *result {
			a := r.putDocument(r.newImage(nil), r.tag)
			return judge(a, Note, 201).pushes(!a.done(), "cannot move tags")
		}},
		{Row: row("manifest-wrong", "PUT of a manifest by the digest of another"), needs: "manifest", try: func(r *run) *result {
			return judge(r.putDocument(r.newImage(nil), digestOf(noise(8))), Violation, 400, 404).pushes(true, "compares digests itself")
		}},
		{Row: row("manifest-missing", "PUT of a manifest whose layer is not there"), needs: "manifest", try: (*run).tryMissing},
		{Row: row("manifest-charset", "PUT with a parameter in Content-Type"), needs: "manifest", try: func(r *run) *result {
			d := r.newImage(nil)
			return judge(r.putDocument(d, d.digest(), "Content-Type", oci.MediaTypeManifest+"; charset=utf-8"), OK).pushes(true, "sends none")
		}},
		{Row: row("manifest-type", "PUT with a Content-Type that is not the mediaType inside"), needs: "manifest", try: func(r *run) *result {
			d := r.newImage(nil)
			return judge(r.putDocument(d, d.digest(), "Content-Type", "application/vnd.docker.distribution.manifest.v2+json"), Note, 400, 415).pushes(true, "sends the mediaType")
		}},
		{Row: row("manifest-text", "PUT of what is not JSON"), needs: "manifest", try: func(r *run) *result {
			d := document{oci.Describe(oci.MediaTypeManifest, []byte("potato "+r.tag)), []byte("potato " + r.tag)}
			return judge(r.putDocument(d, d.digest()), Note, 400)
		}},
		{Row: row("manifest-sha512", "PUT of a manifest by its sha512 digest"), needs: "manifest", try: (*run).tryManifest512},
		{Row: row("manifest-match", "PUT by the tag with If-Match of another digest"), needs: "manifest-tag", try: func(r *run) *result {
			return judge(r.putDocument(r.doc, r.tag, "If-Match", `"`+digestOf(nil)+`"`), OK).pushes(true, "does not count on it")
		}},
		{Row: row("tag-grammar", "PUT by a tag of 129 characters"), needs: "manifest-tag", try: func(r *run) *result {
			return judge(r.putDocument(r.doc, (r.tag + strings.Repeat("x", 129))[:129]), Violation, 400, 404)
		}},
		{Row: Row{ID: "tags-at-once", Endpoint: "end-7b", Asks: "PUT by digest with two tags in the query", Writes: true}, needs: "manifest", try: (*run).tryTags},
		{Row: row("subject", "PUT of a manifest with a subject"), needs: "manifest", try: (*run).trySubject},
		{Row: Row{ID: "manifest-4MiB", Endpoint: "end-7a", Asks: "PUT of a manifest of 4 MiB", Writes: true, Large: true}, needs: "manifest", try: func(r *run) *result {
			return r.tryPadded(4<<20, Note)
		}},
		{Row: Row{ID: "manifest-8MiB", Endpoint: "end-7a", Asks: "PUT of a manifest of 8 MiB and a byte", Writes: true, Large: true}, needs: "manifest", try: func(r *run) *result {
			return r.tryPadded(8<<20+1, OK)
		}},
	}
}

// manifestResult judges the answer to PUT.
func manifestResult(a answer, d document) *result {
	res := created(a, d.digest())
	if !a.done() {
		return res
	}
	return res.pushes(a.Header.Get("Docker-Content-Digest") == "", "looks whether it is there")
}

// tryManifest stores the image that later probes read.
func (r *run) tryManifest() *result {
	data := fmt.Appendf(nil, `{"architecture":"amd64","config":{"Labels":{"org.ocikit.probe":%q}},"os":"linux","rootfs":{"diff_ids":[%q],"type":"layers"}}`,
		r.tag, r.blob.Digest)
	s := r.opened()
	s.put(digestOf(data), data, "")
	r.config = oci.Describe(oci.MediaTypeConfig, data)

	// A manifest that was refused is not there to be read. Reading it would be found to be a second
	// violation.
	d := r.newImage(nil)
	a := r.putDocument(d, d.digest())
	if a.done() {
		r.doc = d
	}

	return manifestResult(a, d)
}

// tryMissing puts a manifest of a layer that is not there. To take it is not a violation, but good to
// know.
func (r *run) tryMissing() *result {
	d := r.newImage(func(m *oci.Manifest) { m.Layers = []oci.Descriptor{oci.Describe(oci.MediaTypeLayer, noise(size))} })
	a := r.putDocument(d, d.digest())
	res := judge(a, Note, 400, 404)
	if a.is(400, 404) && !hasCode(a, "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN") {
		res.note("the error does not say that a blob is unknown")
	}
	return res.pushes(true, "asks for every blob when a manifest is refused")
}

// tryManifest512 puts a manifest by its sha512 digest. One that is taken has to be found by it.
func (r *run) tryManifest512() *result {
	d := r.newImage(nil)
	name := digest.SHA512.FromBytes(d.data).String()
	a := r.putDocument(d, name)
	res := judge(a, Note, 201)
	if a.done() {
		checkDigest(res, a, name)
		if head := r.get("HEAD", "manifests/"+name, "Accept", oci.MediaTypeManifest); head.is(404) {
			res.violation("then HEAD: %s", describe(head))
		}
	}
	return res
}

// tryTags asks for two tags with one request, and believes only the tags that OCI-Tag names.
func (r *run) tryTags() *result {
	want := []string{r.tag + "-a", r.tag + "-b"}
	a := r.putDocument(r.doc, r.doc.digest()+"?tag="+strings.Join(want, "&tag="))
	res := judge(a, Note, 201)
	var got []string
	for _, v := range a.Header["Oci-Tag"] {
		for t := range strings.SplitSeq(v, ",") {
			got = append(got, strings.TrimSpace(t))
		}
	}

	set := 0
	for _, t := range want {
		if slices.Contains(got, t) {
			set++
			r.keep("tag", t)
		}
	}

	// OCI-Tag is how a registry says that it knows the parameter (end-7b). One that ignores it
	// answers 201 as well.
	res.works = a.done() && set == len(want)
	if !res.works {
		return res.note("OCI-Tag names %d of 2", set).pushes(true, "sets tags one by one")
	}

	return res.say("OCI-Tag names both").pushes(true, "sets all tags with one request")
}

// trySubject puts a manifest that refers to the image. OCI-Subject says that the registry lists it.
func (r *run) trySubject() *result {
	d := r.newImage(func(m *oci.Manifest) {
		m.ArtifactType = artifactType
		m.Subject = new(r.doc.desc.Bare())
	})

	a := r.putDocument(d, d.digest())
	res := manifestResult(a, d)
	if !a.done() {
		return res
	}

	r.referrer = d
	switch got := a.Header.Get("OCI-Subject"); got {
	case r.doc.digest():
		return res.say("OCI-Subject")
	case "":
		return res.note("no OCI-Subject").pushes(true, "asks for the list of referrers, and keeps one under a tag if there is none")
	default:
		return res.violation("OCI-Subject is %s, not the digest of the subject", plain(got))
	}
}

// tryPadded puts a manifest of exactly n bytes: an annotation fills it up.
func (r *run) tryPadded(n int, otherwise Level) *result {
	pad := func(k int) document {
		return r.newImage(func(m *oci.Manifest) {
			m.Annotations = oci.AnnotationsOf(map[string]string{"org.ocikit.probe": r.tag, "org.ocikit.pad": strings.Repeat("x", k)})
		})
	}
	d := pad(n - len(pad(0).data))
	a := r.putDocument(d, d.digest())
	return judge(a, otherwise, 201).pushes(!a.done(), "cannot store a manifest of that size")
}
