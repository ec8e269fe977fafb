package serve

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
)

// The steps of a conformance run, made from the text of the distribution-spec: every way to
// push a blob, every kind of content, each pushed, listed, read and deleted again, for both
// digest algorithms. Disorder, limits and hostile requests have tests of their own.

// sums are the algorithms that a registry must know.
var sums = map[string]func([]byte) string{"sha256": sum, "sha512": sum512}

// A pushWay sends a blob and returns the answer to the request that should have finished it.
type pushWay func(s *testServer, data []byte, d string) answer

// inThree sends a blob in three chunks, the last with the PUT or not. With disorder it tries
// each time a chunk that is out of order first, and asks for the place to go on.
func inThree(withPut, disorder bool) pushWay {
	return func(s *testServer, data []byte, d string) answer {
		loc, n := s.begin("r"), len(data)/3+1
		send := func(off int) answer {
			end := min(off+n, len(data))
			header := []string{"Content-Range", fmt.Sprintf("%d-%d", off, end-1), "Content-Type", "application/octet-stream"}
			if withPut && end == len(data) {
				return s.do("PUT", loc+"&digest="+d, data[off:end], header...)
			}
			return s.do("PATCH", loc, data[off:end], header...)
		}
		var a answer
		for off := 0; off < len(data); off += n {
			if disorder {
				wrong := off + n
				if wrong >= len(data) {
					wrong = 0
				}
				if a = send(wrong); a.StatusCode != 416 {
					s.Fatalf("chunk at %d of a session that holds %d bytes = %d, want 416", wrong, off, a.StatusCode)
				}
				a = s.want(204, "GET", loc, nil)
				if got, want := a.Header.Get("Range"), fmt.Sprintf("0-%d", max(off-1, 0)); got != want {
					s.Errorf("Range = %q, want %q", got, want)
				}
				loc = a.Header.Get("Location")
			}
			if a = send(off); a.StatusCode == 202 {
				loc = a.Header.Get("Location")
			}
		}
		if withPut {
			return a
		}
		return s.do("PUT", loc+"&digest="+d, nil)
	}
}

// pushWays are the ways of "Pushing blobs" and of end-4a to end-6, end-11.
func pushWays() map[string]pushWay {
	octets := []string{"Content-Type", "application/octet-stream"}
	stream := func(length bool) pushWay {
		return func(s *testServer, data []byte, d string) answer {
			var body any = data
			if !length {
				body = io.MultiReader(strings.NewReader(string(data)))
			}
			a := s.want(202, "PATCH", s.begin("r"), body, octets...)
			return s.do("PUT", a.Header.Get("Location")+"&digest="+d, nil)
		}
	}
	return map[string]pushWay{
		"POST alone": func(s *testServer, data []byte, d string) answer {
			return s.do("POST", "/v2/r/blobs/uploads/?digest="+d, data, octets...)
		},
		"POST, PUT": func(s *testServer, data []byte, d string) answer {
			return s.do("PUT", s.begin("r")+"&digest="+d, data, octets...)
		},
		"POST with the algorithm, PUT": func(s *testServer, data []byte, d string) answer {
			alg, _, _ := strings.Cut(d, ":")
			a := s.want(202, "POST", "/v2/r/blobs/uploads/?digest-algorithm="+alg, nil)
			return s.do("PUT", a.Header.Get("Location")+"&digest="+d, data, octets...)
		},
		"stream": stream(true), "stream of unknown length": stream(false),
		"one chunk": func(s *testServer, data []byte, d string) answer {
			a := s.want(202, "PATCH", s.begin("r"), data, "Content-Range", fmt.Sprintf("0-%d", len(data)-1))
			return s.do("PUT", a.Header.Get("Location")+"&digest="+d, nil)
		},
		"chunks": inThree(false, false), "chunks, the last with PUT": inThree(true, false),
		"chunks out of order": inThree(false, true), "chunks out of order, the last with PUT": inThree(true, true),
	}
}

func TestConformanceBlobs(t *testing.T) {
	for alg, sum := range sums {
		for name, way := range pushWays() {
			t.Run(alg+" "+name, func(t *testing.T) {
				s := start(t, Options{})
				data := digesttest.Noise(3000, 1)
				d := sum(data)
				s.blobIsAbsent(d)
				s.blobCycle(way(s, data, d), data, d)
				if a := way(s, append(data, "oh no"...), d); a.StatusCode != 400 || a.code(t) != "DIGEST_INVALID" {
					t.Errorf("other bytes than the digest's: %d %s, want 400", a.StatusCode, a.body)
				}
				s.blobIsAbsent(d)
			})
		}
		t.Run(alg+" contents and mounts", func(t *testing.T) {
			s := start(t, Options{})
			for _, data := range [][]byte{nil, []byte("{}")} {
				s.blobCycle(s.do("PUT", s.begin("r")+"&digest="+sum(data), data), data, sum(data))
			}
			data := digesttest.Noise(512, 2)
			d := sum(data)
			s.want(201, "POST", "/v2/other/blobs/uploads/?digest="+d, data)
			for _, from := range []string{"&from=other", ""} {
				s.blobCycle(s.do("POST", "/v2/r/blobs/uploads/?mount="+d+from, nil), data, d)
			}
			s.want(202, "DELETE", "/v2/other/blobs/"+d, nil)
			a := s.want(202, "POST", "/v2/r/blobs/uploads/?mount="+d+"&from=other", nil)
			s.blobCycle(s.do("PUT", a.Header.Get("Location")+"&digest="+d, data), data, d)
			loc := s.begin("r")
			s.want(202, "PATCH", loc, data)
			s.want(204, "DELETE", loc, nil)
			s.want(404, "GET", loc, nil)
			s.blobIsAbsent(d)
		})
	}
}

func (t *testServer) blobIsAbsent(d string) {
	t.Helper()
	t.want(404, "GET", "/v2/r/blobs/"+d, nil)
	t.want(404, "HEAD", "/v2/r/blobs/"+d, nil)
}

// blobCycle checks the answer to the last request of a push, reads the blob where it says, in
// whole and in parts, and deletes it.
func (t *testServer) blobCycle(pushed answer, data []byte, d string) {
	t.Helper()
	if pushed.StatusCode != 201 || pushed.Header.Get("Docker-Content-Digest") != d {
		t.Fatalf("push = %d %s, digest %q, want 201 and %s", pushed.StatusCode, pushed.body, pushed.Header.Get("Docker-Content-Digest"), d)
	}
	for _, path := range []string{"/v2/r/blobs/" + d, pushed.Header.Get("Location")} {
		for _, method := range []string{"GET", "HEAD"} {
			a := t.want(200, method, path, nil)
			if a.ContentLength != int64(len(data)) || a.Header.Get("Docker-Content-Digest") != d || method == "GET" && string(a.body) != string(data) {
				t.Errorf("%s %s: length %d, digest %q, or other bytes", method, path, a.ContentLength, a.Header.Get("Docker-Content-Digest"))
			}
		}
	}
	if n := len(data); n > 500 {
		for header, span := range map[string][2]int{"bytes=100-199": {100, 200}, "bytes=100-": {100, n}, "bytes=-100": {n - 100, n}, fmt.Sprintf("bytes=%d-%d", n-10, n+10): {n - 10, n}} {
			a := t.want(206, "GET", "/v2/r/blobs/"+d, nil, "Range", header)
			if string(a.body) != string(data[span[0]:span[1]]) || a.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", span[0], span[1]-1, n) {
				t.Errorf("%s: %q and %d bytes", header, a.Header.Get("Content-Range"), len(a.body))
			}
		}
		for _, header := range []string{"bytes=200-0", fmt.Sprintf("bytes=%d-%d", n, n+10)} {
			t.want(416, "GET", "/v2/r/blobs/"+d, nil, "Range", header)
		}
	}
	t.want(202, "DELETE", "/v2/r/blobs/"+d, nil)
	t.blobIsAbsent(d)
}

// A content is what a test of manifests pushes: blobs, then manifests in order, the last one
// by the tag too.
type content struct {
	blobs     [][]byte
	manifests []document
}

type document struct {
	mediaType string
	data      []byte
}

// contents are the kinds of content that a registry must take ("Pushing manifests",
// "Pushing Manifests with Subject", and the image-spec).
func contents(t *testing.T, alg string) map[string]content {
	t.Helper()
	sum := sums[alg]
	all := map[string]content{}
	config, layer := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`), digesttest.Noise(700, 3)
	describe := func(mediaType string, data []byte) oci.Descriptor {
		d, err := digest.Parse(sum(data))
		if err != nil {
			t.Fatal(err)
		}
		return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	encode := func(mediaType string, v any) document {
		data, err := oci.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return document{mediaType, data}
	}
	image := func(change func(m *oci.Manifest)) document {
		m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: describe(oci.MediaTypeConfig, config),
			Layers: []oci.Descriptor{describe(oci.MediaTypeLayerGzip, layer)}}
		change(&m)
		return encode(oci.MediaTypeManifest, m)
	}
	index := func(change func(x *oci.Index), children ...document) document {
		x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{}}
		for _, c := range children {
			x.Manifests = append(x.Manifests, describe(c.mediaType, c.data))
		}
		change(&x)
		return encode(oci.MediaTypeIndex, x)
	}
	add := func(name string, docs ...document) {
		all[name] = content{[][]byte{config, layer, []byte("{}")}, docs}
	}
	plain := image(func(*oci.Manifest) {})
	subject := describe(plain.mediaType, plain.data)
	absent := describe(oci.MediaTypeManifest, []byte("absent"))
	empty := describe(oci.MediaTypeEmpty, []byte("{}"))
	artifact := func(subject *oci.Descriptor) document {
		return image(func(m *oci.Manifest) {
			m.ArtifactType, m.Config, m.Subject, m.Annotations = "application/vnd.x", empty, subject, oci.AnnotationsOf(map[string]string{"k": "v"})
		})
	}
	second := image(func(m *oci.Manifest) { m.Annotations = oci.AnnotationsOf(map[string]string{"a": "b"}) })
	nothing := func(*oci.Index) {}
	add("image", plain)
	add("image of plain tar", image(func(m *oci.Manifest) { m.Layers[0].MediaType = oci.MediaTypeLayer }))
	add("image without layers", image(func(m *oci.Manifest) { m.Layers = []oci.Descriptor{} }))
	add("image whose layers are elsewhere", image(func(m *oci.Manifest) {
		m.Layers[0] = absent
		m.Layers[0].MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	}))
	add("image with embedded data", image(func(m *oci.Manifest) { m.Config, m.Config.Data = empty, []byte("{}") }))
	add("image with unknown fields", document{oci.MediaTypeManifest, []byte(strings.Replace(string(plain.data), "{", `{"org.x.custom":{"a":[1]},`, 1))})
	if alg == "sha256" { // once: it takes its time
		add("image of nearly 4 MiB", image(func(m *oci.Manifest) {
			m.Annotations = oci.AnnotationsOf(map[string]string{"fill": strings.Repeat("x", 4<<20-2000)})
		}))
	}
	add("index", plain, second, index(nothing, plain, second))
	add("index without manifests", index(nothing))
	add("index of an index", plain, index(nothing, plain), index(nothing, index(nothing, plain)))
	add("artifact", artifact(nil))
	add("artifact about an image", plain, artifact(&subject))
	add("artifact about something absent", artifact(&absent))
	add("index of artifacts", artifact(nil), index(func(x *oci.Index) { x.ArtifactType = "application/vnd.x.list" }, artifact(nil)))
	add("index about an image", plain, index(func(x *oci.Index) { x.ArtifactType, x.Subject = "application/vnd.x.list", &subject }))
	return all
}

func TestConformanceContents(t *testing.T) {
	for alg, sum := range sums {
		all := contents(t, alg)
		for i, name := range slices.Sorted(maps.Keys(all)) {
			if i%digesttest.Reps(1, 3) != 0 {
				continue
			}
			c := all[name]
			t.Run(alg+" "+name, func(t *testing.T) {
				t.Parallel()
				s := start(t, Options{})
				for _, b := range c.blobs {
					s.want(201, "POST", "/v2/r/blobs/uploads/?digest="+sum(b), b)
				}
				var last document
				for _, last = range c.manifests {
					s.putDocument(last, sum(last.data))
				}
				d := sum(last.data)
				if alg == "sha256" { // a tag is given by this one
					s.putDocument(last, "latest")
				}
				a := s.want(201, "PUT", "/v2/r/manifests/"+d+"?tag=v2&tag=v1", last.data, "Content-Type", last.mediaType)
				if got := a.Header.Values("OCI-Tag"); !slices.Equal(got, []string{"v2", "v1"}) {
					t.Errorf("OCI-Tag = %q", got)
				}
				s.tagsList()
				for _, m := range c.manifests {
					s.readDocument(m, sum(m.data), sum(m.data))
					s.referrersOf(m, sum(m.data))
				}
				s.readDocument(last, "v1", d)
				s.deleteAll(c, sum)
				verifyAll(t, s.dir)
			})
		}
	}
}

func (t *testServer) putDocument(m document, ref string) {
	t.Helper()
	a := t.want(201, "PUT", "/v2/r/manifests/"+ref, m.data, "Content-Type", m.mediaType)
	d := sum(m.data)
	if strings.Contains(ref, ":") {
		d = ref
	}
	if a.Header.Get("Docker-Content-Digest") != d {
		t.Errorf("Docker-Content-Digest = %q, want %s", a.Header.Get("Docker-Content-Digest"), d)
	}
	var doc struct{ Subject *oci.Descriptor }
	if err := json.Unmarshal(m.data, &doc); err != nil {
		t.Fatal(err)
	}
	want := ""
	if doc.Subject != nil {
		want = doc.Subject.Digest.String()
	}
	if got := a.Header.Get("OCI-Subject"); got != want {
		t.Errorf("OCI-Subject = %q, want %q", got, want)
	}
	if a := t.want(200, "GET", a.Header.Get("Location"), nil); string(a.body) != string(m.data) {
		t.Error("the Location leads to other bytes")
	}
}

func (t *testServer) readDocument(m document, ref, d string) {
	t.Helper()
	for _, method := range []string{"GET", "HEAD"} {
		a := t.want(200, method, "/v2/r/manifests/"+ref, nil, "Accept", oci.MediaTypeIndex, "Accept", oci.MediaTypeManifest)
		if a.Header.Get("Content-Type") != m.mediaType || a.Header.Get("Docker-Content-Digest") != d || a.ContentLength != int64(len(m.data)) || method == "GET" && string(a.body) != string(m.data) {
			t.Errorf("%s %s: %v", method, ref, a.Header)
		}
	}
}

func (t *testServer) tagsList() {
	t.Helper()
	tags := func(query string) []string {
		var doc struct{ Tags []string }
		if err := json.Unmarshal(t.want(200, "GET", "/v2/r/tags/list"+query, nil).body, &doc); err != nil {
			t.Fatal(err)
		}
		return doc.Tags
	}
	all := tags("")
	if !slices.IsSorted(all) || !slices.Contains(all, "v1") || !slices.Contains(all, "v2") {
		t.Errorf("tags = %q", all)
	}
	for i, last := range all {
		if got := tags("?last=" + last); !slices.Equal(got, all[i+1:]) {
			t.Errorf("tags behind %q = %q, want %q", last, got, all[i+1:])
		}
	}
}

// referrersOf checks that a manifest stands in the list of its subject, and in that of its
// type alone.
func (t *testServer) referrersOf(m document, d string) {
	t.Helper()
	var doc struct {
		ArtifactType string
		Annotations  map[string]string
		Subject      *oci.Descriptor
	}
	if err := json.Unmarshal(m.data, &doc); err != nil || doc.Subject == nil {
		return
	}
	url := "/v2/r/referrers/" + doc.Subject.Digest.String()
	for filter, want := range map[string]bool{"": true, "?artifactType=" + doc.ArtifactType: true, "?artifactType=other/type": false} {
		a := t.want(200, "GET", url+filter, nil)
		var list oci.Index
		if err := json.Unmarshal(a.body, &list); err != nil || a.Header.Get("Content-Type") != oci.MediaTypeIndex || filter != "" && a.Header.Get("OCI-Filters-Applied") != "artifactType" {
			t.Errorf("%s%s: %v, %v", url, filter, err, a.Header)
		}
		found := slices.ContainsFunc(list.Manifests, func(e oci.Descriptor) bool {
			return e.Digest.String() == d && e.MediaType == m.mediaType && e.Size == int64(len(m.data)) && e.ArtifactType == doc.ArtifactType && slices.Equal(e.Annotations, oci.AnnotationsOf(doc.Annotations))
		})
		if found != want {
			t.Errorf("%s%s: found = %t, want %t: %s", url, filter, found, want, a.body)
		}
	}
}

// deleteAll deletes tags, manifests and blobs, each of which is gone at once.
func (t *testServer) deleteAll(c content, sum func([]byte) string) {
	t.Helper()
	for _, tag := range []string{"v1", "v2", "latest"} {
		if a := t.do("DELETE", "/v2/r/manifests/"+tag, nil); a.StatusCode != 202 && tag != "latest" {
			t.Errorf("DELETE of tag %s = %d", tag, a.StatusCode)
		}
		t.want(404, "GET", "/v2/r/manifests/"+tag, nil)
	}
	for _, m := range slices.Backward(c.manifests) {
		t.want(202, "DELETE", "/v2/r/manifests/"+sum(m.data), nil)
		t.want(404, "GET", "/v2/r/manifests/"+sum(m.data), nil)
		t.referrersGone(sum(m.data))
	}
	for _, b := range c.blobs {
		t.want(202, "DELETE", "/v2/r/blobs/"+sum(b), nil)
		t.want(404, "GET", "/v2/r/blobs/"+sum(b), nil)
	}
}

// referrersGone checks that what was deleted has an empty list, and not none.
func (t *testServer) referrersGone(d string) {
	t.Helper()
	if a := t.want(200, "GET", "/v2/r/referrers/"+d, nil); !strings.Contains(string(a.body), `"manifests":[]`) {
		t.Errorf("referrers of %s: %s", d, a.body)
	}
}

// What is not there, or not a name.
func TestConformanceErrors(t *testing.T) {
	s := start(t, Options{})
	s.image("r", "v1", 1)
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/absent/tags/list", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/absent/manifests/latest", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/r/manifests/absent", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/r/manifests/" + sum([]byte("absent")), 404, "MANIFEST_UNKNOWN"},
		{"DELETE", "/v2/r/manifests/absent", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/r/blobs/" + sum([]byte("absent")), 404, "BLOB_UNKNOWN"},
		{"DELETE", "/v2/r/blobs/" + sum([]byte("absent")), 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/r/blobs/uploads/" + strings.Repeat("0", 32), 404, "BLOB_UPLOAD_UNKNOWN"},
		{"GET", "/v2/r/manifests/sha256:baddigeststring", 400, "DIGEST_INVALID"},
		{"PUT", "/v2/r/manifests/sha256:baddigeststring", 400, "DIGEST_INVALID"},
		{"GET", "/v2/r/referrers/sha256:baddigeststring", 400, "DIGEST_INVALID"},
		{"POST", "/v2/r/blobs/uploads/?digest=sha256:baddigeststring", 400, "DIGEST_INVALID"},
		{"POST", "/v2/r/blobs/uploads/?digest-algorithm=" + base64.URLEncoding.EncodeToString([]byte("no")), 400, "DIGEST_INVALID"},
		{"GET", "/v2/R/tags/list", 400, "NAME_INVALID"},
		{"GET", "/v2/r/manifests/.bad", 400, "NAME_INVALID"},
		{"PATCH", "/v2/r/manifests/v1", 405, "UNSUPPORTED"},
	} {
		if a := s.do(c.method, c.path, nil); a.StatusCode != c.status || a.code(t) != c.code {
			t.Errorf("%s %s = %d %s, want %d %s", c.method, c.path, a.StatusCode, a.body, c.status, c.code)
		}
	}
	if a := s.want(200, "GET", "/v2/", nil); a.Header.Get("Docker-Distribution-Api-Version") != "registry/2.0" {
		t.Errorf("ping: %v", a.Header)
	}
}
