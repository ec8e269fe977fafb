package probe

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ocikit/oci"
	"ocikit/oci/registry"
)

// get sends a GET or HEAD to a path of the repository.
func (r *run) get(method, path string, header ...string) answer {
	call := registry.Call{Endpoint: endpointOf(path), Method: method, Path: r.repo + "/" + path, Header: map[string][]string{}, Limit: oci.MaxDocument}
	for pair := range slices.Chunk(header, 2) {
		call.Header[pair[0]] = pair[1:]
	}
	return r.ask(call)
}

func endpointOf(path string) string {
	kind, _, _ := strings.Cut(path, "/")
	return map[string]string{"manifests": "end-3", "blobs": "end-2", "tags": "end-8a", "referrers": "end-12"}[kind]
}

func manifestProbes() []probe {
	row := func(id, asks string) Row { return Row{ID: id, Endpoint: "end-3", Asks: asks} }
	return []probe{
		{Row: row("get", "GET of a manifest"), try: (*run).tryGet},
		{Row: row("head", "HEAD of a manifest"), needs: "get", try: func(r *run) *result {
			a := r.get("HEAD", "manifests/"+r.doc.digest(), "Accept", acceptAll())
			res := judge(a, Violation, 200)
			if a.done() {
				checkHead(res, a, r.doc.digest(), int64(len(r.doc.data)))
			}
			return res.pushes(!a.done(), "asks with GET")
		}},
		{Row: row("get-any", "GET of a manifest with Accept: */*"), needs: "get", try: func(r *run) *result {
			return judge(r.get("GET", "manifests/"+r.doc.digest(), "Accept", "*/*"), Note, 200).pushes(true, "names every type")
		}},
		{Row: row("get-cached", "GET with If-None-Match of its digest"), needs: "get", try: func(r *run) *result {
			return judge(r.get("GET", "manifests/"+r.doc.digest(), "Accept", acceptAll(), "If-None-Match", `"`+r.doc.digest()+`"`), OK)
		}},
		{Row: row("get-unknown", "GET of a tag that is not there"), try: func(r *run) *result {
			a := r.get("GET", "manifests/"+r.tag+"-unknown", "Accept", acceptAll())
			res := judge(a, Violation, 404)
			if a.is(404) && !hasCode(a, "MANIFEST_UNKNOWN", "NAME_UNKNOWN") {
				res.note("no error code of the spec")
			}
			return res
		}},
	}
}

func acceptAll() string { return strings.Join(oci.ManifestTypes(), ", ") }

// checkHead judges the headers that describe what is there.
func checkHead(res *result, a answer, d string, n int64) {
	checkDigest(res, a, d)
	switch got := a.Header.Get("Content-Length"); got {
	case strconv.FormatInt(n, 10):
	case "":
		res.note("no Content-Length")
	default:
		res.violation("Content-Length is %s, not %d", plain(got), n).pushes(true, "sends again what has another size")
	}
}

// tryGet reads the manifest that was stored, or one that was there before. Later probes read the
// same, and a blob below it.
func (r *run) tryGet() *result {
	name := r.doc.digest()
	if r.doc.data == nil {
		if name = r.readName(); name == "" {
			return skip("there is no manifest to read")
		}
	}

	a := r.get("GET", "manifests/"+name, "Accept", acceptAll())
	res := judge(a, Violation, 200)
	if !a.done() {
		return res
	}

	// A manifest has to come back byte for byte, since its digest names it.
	if r.doc.data != nil && !bytes.Equal(a.Body, r.doc.data) {
		res.works = false
		return res.violation("other bytes than were stored")
	}

	r.doc = document{oci.Describe(oci.SniffDocument(a.Body), a.Body), a.Body}
	checkHead(res, a, r.doc.digest(), int64(len(a.Body)))
	mediaType, parameter, found := strings.Cut(a.Header.Get("Content-Type"), ";")
	if found {
		res.note("Content-Type has a parameter, %s", plain(strings.TrimSpace(parameter)))
	}

	if strings.TrimSpace(mediaType) != r.doc.desc.MediaType {
		res.violation("Content-Type is %s, the document is %s", plain(mediaType), plain(r.doc.desc.MediaType))
	}

	r.findBlob(0)
	return res
}

// readName returns the tag or digest of a manifest to read where nothing was stored, "" for none.
func (r *run) readName() string {
	if r.name != "" {
		return r.name
	}
	for tag, err := range r.c.Tags(r.ctx, r.repo, 0) {
		if err == nil && registry.CheckTag(tag) == nil {
			return tag
		}
		break
	}
	return ""
}

// findBlob looks for a blob to read below the manifest, if none was stored: one that is long enough
// for the ranges that are tried. Below an index it looks into the images.
func (r *run) findBlob(depth int) {
	refs, err := oci.References(r.doc.desc, r.doc.data)
	if r.bytes != nil || err != nil || depth > 2 {
		return
	}

	for _, ref := range refs {
		if oci.IsDocument(ref.MediaType) {
			if a := r.get("GET", "manifests/"+ref.Digest.String(), "Accept", acceptAll()); a.done() && digestOf(a.Body) == ref.Digest.String() {
				outer := r.doc
				r.doc = document{ref, a.Body}
				r.findBlob(depth + 1)
				r.doc = outer
			}
		} else if ref.Size > 64 && r.blob.Size == 0 {
			r.blob = ref
		}
	}
}

func blobProbes() []probe {
	row := func(id, asks string) Row { return Row{ID: id, Endpoint: "end-2", Asks: asks} }

	// ranged returns a probe that asks for a part of a blob. spell gets the size of the blob, and
	// returns the part and the Range that asks for it.
	ranged := func(id, asks string, spell func(n int64) (first, end int64, text string)) probe {
		return probe{Row: row(id, asks), needs: "blob-head", try: func(r *run) *result { return r.tryRange(spell(r.blob.Size)) }}
	}

	return []probe{
		{Row: row("blob-head", "HEAD of a blob"), try: func(r *run) *result {
			if r.blob.Size == 0 {
				return skip("there is no blob to read")
			}
			a := r.get("HEAD", "blobs/"+r.blob.Digest.String())
			res := judge(a, Violation, 200)
			if a.done() {
				checkHead(res, a, r.blob.Digest.String(), r.blob.Size)
			}
			res.works = true // the probes behind it use GET, which may work all the same
			return res.pushes(!a.done(), "sends every blob again")
		}},
		{Row: row("blob", "GET of the first bytes of a blob, wherever that leads"), needs: "blob-head", try: (*run).tryBlob},
		ranged("blob-range", "GET of bytes 10 to 19 of a blob", func(int64) (int64, int64, string) { return 10, 20, "bytes=10-19" }),
		ranged("blob-range-open", "GET of a blob's last ten bytes, with an open range", func(n int64) (int64, int64, string) {
			return n - 10, n, fmt.Sprintf("bytes=%d-", n-10)
		}),
		ranged("blob-range-suffix", "GET of a blob's last ten bytes, with a suffix range", func(n int64) (int64, int64, string) {
			return n - 10, n, "bytes=-10"
		}),
		{Row: row("blob-range-past", "GET of a range behind the end of a blob"), needs: "blob-head", try: func(r *run) *result {
			return judge(r.get("GET", "blobs/"+r.blob.Digest.String(), "Range", fmt.Sprintf("bytes=%d-%d", r.blob.Size, r.blob.Size+9)), Note, 416)
		}},
		{Row: row("blob-escaped", "HEAD of a blob with %3A in place of the colon"), needs: "blob-head", try: func(r *run) *result {
			return judge(r.get("HEAD", "blobs/"+strings.Replace(r.blob.Digest.String(), ":", "%3A", 1)), Note, 200).pushes(true, "writes a colon")
		}},
		{Row: row("blob-unknown", "HEAD of a blob that no one has"), try: func(r *run) *result {
			return judge(r.get("HEAD", "blobs/"+digestOf(noise(8))), Violation, 404)
		}},
	}
}

// tryBlob reads the blob of our own whole. One that was there before may be large, so of that only the
// first bytes are asked for.
func (r *run) tryBlob() *result {
	want := []int{200}
	call := registry.Call{Endpoint: "end-2", Method: "GET", Path: r.repo + "/blobs/" + r.blob.Digest.String(), Limit: 1 << 20}
	if r.bytes == nil {
		call.Header = map[string][]string{"Range": {"bytes=0-63"}}
		want = append(want, 206)
	}

	a := r.ask(call)
	res := judge(a, Violation, want...)
	if r.bytes != nil && a.done() && !bytes.Equal(a.Body, r.bytes) {
		res.violation("other bytes than were stored")
	}

	if a.Away != "" {
		res.say("from another host, %s", plain(a.Away))
	}

	if enc := a.Header.Get("Content-Encoding"); enc != "" {
		res.note("Content-Encoding is %s", plain(enc))
	}

	return res
}

// tryRange asks for the bytes from first to end of the blob, with the Range that text spells.
func (r *run) tryRange(first, end int64, text string) *result {
	a := r.get("GET", "blobs/"+r.blob.Digest.String(), "Range", text)
	res := judge(a, Note, 206)
	if !a.is(206) {
		return res
	}
	if got, want := a.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", first, end-1, r.blob.Size); got != want {
		res.violation("Content-Range is %s, not %s", plain(got), plain(want))
	}
	if int64(len(a.Body)) != end-first || r.bytes != nil && !bytes.Equal(a.Body, r.bytes[first:end]) {
		res.violation("other bytes than were asked for")
	}
	return res
}
