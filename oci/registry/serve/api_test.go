package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

// What was pushed is a layout, and what a layout holds can be pulled.
func TestLayoutBothWays(t *testing.T) {
	s := start(t, Options{})
	d, doc := s.image("team/app", "v1", 1)
	l, err := layout.Open(filepath.Join(s.dir, "team/app"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	desc, err := l.Resolve(oci.ImageName{Tag: "v1"})
	if err != nil || desc.Digest.String() != d || desc.MediaType != oci.MediaTypeManifest {
		t.Fatalf("Resolve(v1) = %+v, %v", desc, err)
	}
	if err := graph.Check(l, desc, graph.Rules{}); err != nil {
		t.Error(err)
	}
	// Another tool gives it names of its own.
	ctx := context.Background()
	for _, name := range []string{"docker.io/library/app:3.20", "stable"} {
		if err := l.Tag(ctx, name, desc, layout.TagOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	a := s.want(200, "GET", "/v2/team/app/tags/list", nil)
	if got, want := string(a.body), `{"name":"team/app","tags":["3.20","stable","v1"]}`; got != want {
		t.Errorf("tags = %s, want %s", got, want)
	}
	for _, ref := range []string{"3.20", "stable", "v1", d} {
		a := s.want(200, "GET", "/v2/team/app/manifests/"+ref, nil)
		if string(a.body) != string(doc) || a.Header.Get("Content-Type") != oci.MediaTypeManifest || a.Header.Get("Docker-Content-Digest") != d {
			t.Errorf("GET %s: %v %s", ref, a.Header, a.body)
		}
		if a := s.want(200, "HEAD", "/v2/team/app/manifests/"+ref, nil); a.ContentLength != int64(len(doc)) {
			t.Errorf("HEAD %s: Content-Length %d, want %d", ref, a.ContentLength, len(doc))
		}
	}
	// A push to a name that is written in full replaces it, a delete removes it.
	d2, _ := s.image("team/app", "3.20", 2)
	if a := s.want(200, "HEAD", "/v2/team/app/manifests/3.20", nil); a.Header.Get("Docker-Content-Digest") != d2 {
		t.Errorf("3.20 is %s, want %s", a.Header.Get("Docker-Content-Digest"), d2)
	}
	s.want(202, "DELETE", "/v2/team/app/manifests/3.20", nil)
	s.want(404, "GET", "/v2/team/app/manifests/3.20", nil)
	s.want(200, "GET", "/v2/team/app/manifests/"+d2, nil) // until someone collects garbage
	verifyAll(t, s.dir)
}

// index.json holds what was pushed by digest, as long as nothing else does.
func TestEntriesWithoutName(t *testing.T) {
	s := start(t, Options{})
	d1, doc1 := s.image("r", "", 1)
	d2, doc2 := s.image("r", "", 2)
	entries := func() (got []string) {
		l, err := layout.Open(filepath.Join(s.dir, "r"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		x, err := l.Index()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range x.Manifests {
			got = append(got, e.Digest.String()+" "+e.Annotations.Get(oci.AnnotationRefName))
		}
		return got
	}
	if got, want := entries(), []string{d1 + " ", d2 + " "}; !slices.Equal(got, want) {
		t.Errorf("after two by digest: %q", got)
	}
	index, err := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{
		oci.Describe(oci.MediaTypeManifest, doc1), oci.Describe(oci.MediaTypeManifest, doc2)}})
	if err != nil {
		t.Fatal(err)
	}
	a := s.want(201, "PUT", "/v2/r/manifests/"+sum(index)+"?tag=b&tag=a", index, "Content-Type", oci.MediaTypeIndex)
	if got := a.Header.Values("OCI-Tag"); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("OCI-Tag = %q", got)
	}
	if got, want := entries(), []string{sum(index) + " b", sum(index) + " a"}; !slices.Equal(got, want) {
		t.Errorf("after the index: %q, want %q", got, want)
	}
	for what, path := range map[string]string{"a manifest that an index names": "manifests/" + d1, "its layer": "blobs/" + sum(digesttest.Noise(1000, 1)), "a manifest as a blob": "blobs/" + d1} {
		if a := s.want(405, "DELETE", "/v2/r/"+path, nil); a.code(t) != "DENIED" {
			t.Errorf("DELETE of %s: %s", what, a.body)
		}
	}
	s.want(202, "DELETE", "/v2/r/manifests/"+sum(index), nil)
	s.want(404, "HEAD", "/v2/r/manifests/a", nil)
	s.want(404, "HEAD", "/v2/r/manifests/"+sum(index), nil)
	s.want(202, "DELETE", "/v2/r/manifests/"+d1, nil)
	s.want(404, "DELETE", "/v2/r/manifests/"+d1, nil)
	s.want(202, "DELETE", "/v2/r/blobs/"+sum(digesttest.Noise(1000, 1)), nil)
	s.want(404, "DELETE", "/v2/r/blobs/"+sum(digesttest.Noise(1000, 1)), nil)
	verifyAll(t, s.dir)
}

func TestRefusedManifests(t *testing.T) {
	s := start(t, Options{})
	d, doc := s.image("r", "good", 1)
	before := files(t, s.dir)
	m := oci.MediaTypeManifest
	blob := func(data []byte, size int64) string {
		return fmt.Sprintf(`{"mediaType":"application/x","digest":"%s","size":%d}`, sum(data), size)
	}
	layer := digesttest.Noise(1000, 1)
	for name, c := range map[string]struct {
		ref, body, mediaType, code string
		status                     int
	}{
		"not JSON":              {"x", "hello", m, "MANIFEST_INVALID", 400},
		"an array":              {"x", "[]", m, "MANIFEST_INVALID", 400},
		"an index by type":      {"x", string(doc), oci.MediaTypeIndex, "MANIFEST_INVALID", 400},
		"a config":              {"x", `{"architecture":"a","os":"b","rootfs":{}}`, m, "MANIFEST_INVALID", 400},
		"a key twice":           {"x", strings.Replace(string(doc), "{", `{"schemaVersion":2,`, 1), m, "MANIFEST_INVALID", 400},
		"two documents":         {"x", string(doc) + "{}", m, "MANIFEST_INVALID", 400},
		"unknown type":          {"x", string(doc), "text/html", "MANIFEST_INVALID", 400},
		"absent blob":           {"x", fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[]}`, blob([]byte("no"), 2)), m, "MANIFEST_BLOB_UNKNOWN", 400},
		"wrong size":            {"x", fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[]}`, blob(layer, 999)), m, "MANIFEST_INVALID", 400},
		"wrong data":            {"x", fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[]}`, strings.Replace(blob([]byte("no"), 2), "{", `{"data":"eWVz",`, 1)), m, "MANIFEST_INVALID", 400},
		"wrong digest":          {sum([]byte("x")), string(doc), m, "DIGEST_INVALID", 400},
		"malformed digest":      {"sha256:12", string(doc), m, "DIGEST_INVALID", 400},
		"other algorithm":       {"md5:12345678901234567890123456789012", string(doc), m, "DIGEST_INVALID", 400},
		"bad tag":               {"-x", string(doc), m, "NAME_INVALID", 400},
		"bad tag in the query":  {d + "?tag=ok&tag=..", string(doc), m, "NAME_INVALID", 400},
		"over 4 MiB":            {"x", string(doc) + strings.Repeat(" ", 4<<20), m, "MANIFEST_INVALID", 413},
		"too many tags at once": {d + "?tag=a" + strings.Repeat("&tag=a", 1000), string(doc), m, "NAME_INVALID", 414},
	} {
		a := s.do("PUT", "/v2/r/manifests/"+c.ref, c.body, "Content-Type", c.mediaType)
		if a.StatusCode != c.status || a.code(t) != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, a.StatusCode, a.body, c.status, c.code)
		}
	}
	if a := s.do("PUT", "/v2/new/manifests/x", doc, "Content-Type", m); a.StatusCode != 400 || a.code(t) != "MANIFEST_BLOB_UNKNOWN" {
		t.Errorf("in a new repository: %d %s", a.StatusCode, a.body)
	}
	if after := files(t, s.dir); !slices.Equal(before, after) {
		t.Errorf("left behind: %q, was %q", after, before)
	}
	// A parameter of the type is ignored, no type at all is read from the document.
	s.want(201, "PUT", "/v2/r/manifests/charset", doc, "Content-Type", m+"; charset=utf-8")
	s.want(201, "PUT", "/v2/r/manifests/bare", doc)
	for _, tag := range []string{"charset", "bare"} {
		if a := s.want(200, "GET", "/v2/r/manifests/"+tag, nil); a.Header.Get("Content-Type") != m {
			t.Errorf("%s: Content-Type %q", tag, a.Header.Get("Content-Type"))
		}
	}
}

// With Sparse an index may name what is not there, be it in a new repository, and what is
// there must still be what the index says.
func TestSparse(t *testing.T) {
	s := start(t, Options{Sparse: true})
	there := digesttest.Noise(100, 1)
	s.push("r", there)
	index := func(size int) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d},{"mediaType":%[2]q,"digest":%[5]q,"size":7}]}`,
			oci.MediaTypeIndex, oci.MediaTypeManifest, sum(there), size, sum([]byte("absent")))
	}
	for _, repo := range []string{"r", "new"} {
		s.want(201, "PUT", "/v2/"+repo+"/manifests/v1", index(100))
		if got := s.want(200, "GET", "/v2/"+repo+"/manifests/v1", nil); string(got.body) != index(100) {
			t.Errorf("%s: GET: %s", repo, got.body)
		}
		s.want(404, "GET", "/v2/"+repo+"/manifests/"+sum([]byte("absent")), nil)
	}
	if a := s.want(400, "PUT", "/v2/r/manifests/v2", index(99)); a.code(t) != "MANIFEST_INVALID" {
		t.Errorf("a wrong size: %s", a.body)
	}
}

func TestAmbiguousTag(t *testing.T) {
	s := start(t, Options{})
	_, doc := s.image("r", "a", 1)
	_, doc2 := s.image("r", "b", 2)
	text := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"%[1]s","digest":"%[2]s","size":%[3]d,"annotations":{"org.opencontainers.image.ref.name":"t"}},{"mediaType":"%[1]s","digest":"%[4]s","size":%[5]d,"annotations":{"org.opencontainers.image.ref.name":"t"}}]}`,
		oci.MediaTypeManifest, sum(doc), len(doc), sum(doc2), len(doc2))
	if err := os.WriteFile(filepath.Join(s.dir, "r/index.json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if a := s.want(404, "GET", "/v2/r/manifests/t", nil); !strings.Contains(string(a.body), "ambiguous") {
		t.Errorf("%s", a.body)
	}
}

// pages follows the Links of a list and returns what each page has under the key.
func (t *testServer) pages(url, key string) (all [][]json.RawMessage) {
	t.Helper()
	for url != "" {
		a := t.want(200, "GET", url, nil)
		var doc map[string]json.RawMessage
		var list []json.RawMessage
		if err := json.Unmarshal(a.body, &doc); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(doc[key], &list); err != nil || list == nil {
			t.Fatalf("%s: %v in %s", key, err, a.body)
		}
		all = append(all, list)
		next := a.Header.Get("Link")
		url = strings.TrimSuffix(strings.TrimPrefix(next, "<"), `>; rel="next"`)
		if len(all) > 100 {
			t.Fatal("endless list")
		}
	}
	return all
}

// A part of the catalog is what the whole says, wherever it begins: the order of names is not that of
// directories, since "-" and "." come before "/".
func TestCatalogInParts(t *testing.T) {
	s := start(t, Options{})
	want := []string{"a", "a-b", "a-b/c", "a.c/d", "a/b", "a/b-c", "a/b/c", "a0", "b/c/d", "b0/x"}
	for _, repo := range want {
		s.push(repo, []byte(repo))
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "a", "empty", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}

	// A file that is called ".tar" is no repository, nor is its directory.
	if err := os.WriteFile(filepath.Join(s.dir, "a", "empty", ".tar"), nil, 0o644); err != nil {
		t.Fatal(err)
	}

	for i, last := range append([]string{"", "a-", "a/", "a/b/", "a0/", "b/c", "zz"}, want...) {
		behind := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return name <= last })
		for _, limit := range []int{0, 1, 3, len(want), len(want) + 1} {
			got, err := s.s.catalog(t.Context(), last, limit)
			if part := behind[:min(limit, len(behind))]; err != nil || !slices.Equal(got, part) {
				t.Errorf("%d: %d names behind %q: %q, %v, want %q", i, limit, last, got, err, part)
			}
		}
	}
}

// A listing that is kept serves the next pages, until the directory changes.
func TestListingsAreKept(t *testing.T) {
	s := start(t, Options{})
	old, young := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	want := []string{}
	setTime := func(to time.Time) {
		t.Helper()
		if err := os.Chtimes(s.dir, to, to); err != nil {
			t.Fatal(err)
		}
	}
	add := func(names ...string) {
		t.Helper()
		for _, name := range names {
			want = append(want, name)
			if err := os.Mkdir(filepath.Join(s.dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.dir, name, "oci-layout"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(want)
	}
	check := func(what string) {
		t.Helper()
		for _, last := range []string{"", "r500", "r500-x", "r9999"} {
			behind := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return name <= last })
			if got, err := s.s.catalog(t.Context(), last, 50); err != nil || !slices.Equal(got, behind[:min(50, len(behind))]) {
				t.Errorf("%s: behind %q: %q, %v", what, last, got, err)
			}
		}
	}

	for i := range minListing {
		add(fmt.Sprintf("r%d", i))
	}
	setTime(young)
	check("just made")
	if s.s.listings.kept["."] != nil {
		t.Error("a directory that may change again within a tick is kept")
	}

	setTime(old)
	check("old")
	kept := s.s.listings.kept["."]
	if kept == nil {
		t.Fatal("a large directory is not kept")
	}
	check("kept")
	if s.s.listings.kept["."] != kept {
		t.Error("a directory that did not change is read again")
	}

	add("r500-a", "r5000", "zz")
	setTime(young)
	check("changed")
	if s.s.listings.kept["."] != nil || s.s.listings.size != 0 {
		t.Errorf("a listing is kept of what has changed, %d bytes", s.s.listings.size)
	}

	// Without a change of time it is forgotten after a while.
	setTime(old)
	check("old again")
	kept = s.s.listings.kept["."]
	add("zzz")
	setTime(old)
	kept.read = kept.read.Add(-listingAge)
	check("a minute later")
	if s.s.listings.kept["."] == kept {
		t.Error("a listing is kept for ever")
	}
}

func TestLists(t *testing.T) {
	s := start(t, Options{})
	_, doc := s.image("r", "t0", 1)
	for i := 1; i < 7; i++ {
		s.want(201, "PUT", fmt.Sprintf("/v2/r/manifests/t%d", i), doc, "Content-Type", oci.MediaTypeManifest)
	}
	for _, repo := range []string{"a/b", "a", "zz"} {
		s.push(repo, []byte(repo))
	}
	for url, want := range map[string]string{
		"/v2/r/tags/list":                `[["t0" "t1" "t2" "t3" "t4" "t5" "t6"]]`,
		"/v2/r/tags/list?n=3":            `[["t0" "t1" "t2"] ["t3" "t4" "t5"] ["t6"]]`,
		"/v2/r/tags/list?n=7":            `[["t0" "t1" "t2" "t3" "t4" "t5" "t6"]]`,
		"/v2/r/tags/list?last=t4":        `[["t5" "t6"]]`,
		"/v2/r/tags/list?n=1&last=t45":   `[["t5"] ["t6"]]`,
		"/v2/r/tags/list?n=0":            `[[]]`,
		"/v2/r/tags/list?n=99999999":     `[["t0" "t1" "t2" "t3" "t4" "t5" "t6"]]`,
		"/v2/r/tags/list?last=zz":        `[[]]`,
		"/v2/_catalog":                   `[["a" "a/b" "r" "zz"]]`,
		"/v2/_catalog?n=3":               `[["a" "a/b" "r"] ["zz"]]`,
		"/v2/_catalog?n=999999999999999": `[["a" "a/b" "r" "zz"]]`,
	} {
		key := "tags"
		if strings.Contains(url, "catalog") {
			key = "repositories"
		}
		if got := fmt.Sprintf("%s", s.pages(url, key)); got != want {
			t.Errorf("%s = %s, want %s", url, got, want)
		}
	}
	for _, n := range []string{"-1", "x", "99999999999999999999"} {
		s.want(400, "GET", "/v2/r/tags/list?n="+n, nil)
	}
	if a := s.want(404, "GET", "/v2/absent/tags/list", nil); a.code(t) != "NAME_UNKNOWN" {
		t.Errorf("%s", a.body)
	}
}

// An entry that is larger than a page is a page of its own.
func TestReferrersLargerThanAPage(t *testing.T) {
	s := start(t, Options{})
	s.s.pageBytes = 1
	s.push("r", []byte("{}"))
	subject := oci.Describe(oci.MediaTypeManifest, []byte("absent"))
	for i := range 3 {
		m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: oci.Describe("application/vnd.x.config", []byte("{}")), Subject: &subject, ArtifactType: fmt.Sprint("a/", i)}
		doc, err := oci.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		s.want(201, "PUT", "/v2/r/manifests/"+sum(doc), doc, "Content-Type", oci.MediaTypeManifest)
	}
	pages := s.pages("/v2/r/referrers/"+subject.Digest.String(), "manifests")
	for _, page := range pages {
		if len(page) != 1 {
			t.Errorf("a page of %d entries", len(page))
		}
	}
	if len(pages) != 3 {
		t.Errorf("%d pages, want 3", len(pages))
	}
}

func TestReferrers(t *testing.T) {
	s := start(t, Options{})
	s.s.pageBytes = 100_000
	empty := s.want(200, "GET", "/v2/nobody/referrers/"+sum(nil), nil)
	if got, want := string(empty.body), `{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}`; got != want {
		t.Errorf("of an unknown repository: %s", got)
	}
	s.push("r", []byte("{}"))
	subject := oci.Describe(oci.MediaTypeManifest, []byte("absent"))
	put := func(m oci.Manifest) string {
		m.SchemaVersion, m.MediaType, m.Subject = 2, oci.MediaTypeManifest, &subject
		doc, err := oci.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		a := s.want(201, "PUT", "/v2/r/manifests/"+sum(doc), doc, "Content-Type", oci.MediaTypeManifest)
		if got := a.Header.Get("OCI-Subject"); got != subject.Digest.String() {
			t.Errorf("OCI-Subject = %q", got)
		}
		return sum(doc)
	}
	config := oci.Describe("application/vnd.x.config", []byte("{}"))
	want := map[string]string{}
	for i := range 30 { // annotations so large that they do not fit on one page
		want[put(oci.Manifest{Config: config, ArtifactType: fmt.Sprintf("a/%d", i%3), Annotations: oci.AnnotationsOf(map[string]string{"n": fmt.Sprint(i), "fill": strings.Repeat("x", 5_000)})})] = fmt.Sprintf("a/%d", i%3)
	}
	want[put(oci.Manifest{Config: config})] = "application/vnd.x.config"
	for range 2 { // the second time from what is remembered
		for filter, count := range map[string]int{"": 31, "?artifactType=a/1": 10, "?artifactType=application/vnd.x.config": 1, "?artifactType=none": 0} {
			got := map[string]string{}
			pages := s.pages("/v2/r/referrers/"+subject.Digest.String()+filter, "manifests")
			for _, page := range pages {
				for _, raw := range page {
					var e oci.Descriptor
					if err := json.Unmarshal(raw, &e); err != nil {
						t.Fatal(err)
					}
					got[e.Digest.String()] = e.ArtifactType
					if want[e.Digest.String()] != e.ArtifactType || e.MediaType != oci.MediaTypeManifest || strings.HasPrefix(e.ArtifactType, "a/") && e.Annotations.Get("n") == "" {
						t.Errorf("entry %s", raw[:min(len(raw), 300)])
					}
				}
			}
			if len(got) != count || filter == "" && len(pages) < 2 {
				t.Errorf("filter %q: %d referrers on %d pages, want %d", filter, len(got), len(pages), count)
			}
		}
	}
	if a := s.want(200, "GET", "/v2/r/referrers/"+subject.Digest.String()+"?artifactType=x", nil); a.Header.Get("OCI-Filters-Applied") != "artifactType" {
		t.Errorf("header: %v", a.Header)
	}
	s.want(400, "GET", "/v2/r/referrers/sha256:zz", nil)
	verifyAll(t, s.dir)
}

func TestMount(t *testing.T) {
	s := start(t, Options{})
	data := digesttest.Noise(10_000, 9)
	d := s.push("from", data)
	for to, query := range map[string]string{"to/known": "mount=" + d + "&from=from", "to/any": "mount=" + d, "from": "mount=" + d} {
		a := s.want(201, "POST", "/v2/"+to+"/blobs/uploads/?"+query, nil)
		if got, want := a.Header.Get("Location"), "/v2/"+to+"/blobs/"+d; got != want {
			t.Errorf("Location = %q, want %q", got, want)
		}
		s.want(200, "GET", "/v2/"+to+"/blobs/"+d, nil)
	}
	other := sum([]byte("absent"))
	for _, query := range []string{"mount=" + other + "&from=from", "mount=" + other, "mount=" + d + "&from=absent", "mount=" + d + "&from=../from", "from=from"} {
		a := s.want(202, "POST", "/v2/new/blobs/uploads/?"+query, nil)
		s.want(204, "DELETE", a.Header.Get("Location"), nil)
	}
	s.want(400, "POST", "/v2/new/blobs/uploads/?mount=sha256:zz&from=from", nil)
	s.want(202, "DELETE", "/v2/from/blobs/"+d, nil)
	s.want(200, "GET", "/v2/to/known/blobs/"+d, nil)
	s.want(404, "GET", "/v2/from/blobs/"+d, nil)
	verifyAll(t, s.dir)
}

func TestBlobRanges(t *testing.T) {
	s := start(t, Options{})
	data := digesttest.Noise(3<<20, 10)
	url := "/v2/r/blobs/" + s.push("r", data)
	for header, want := range map[string][2]int{"bytes=0-99": {0, 100}, "bytes=100-": {100, 3 << 20}, "bytes=-10": {3<<20 - 10, 3 << 20}, "bytes=1000-99999999": {1000, 3 << 20}} {
		a := s.want(206, "GET", url, nil, "Range", header)
		if string(a.body) != string(data[want[0]:want[1]]) {
			t.Errorf("%s: other bytes", header)
		}
	}
	for _, header := range []string{"bytes=3145728-", "bytes=500-0", "bytes=99999999999999999999999-", "bytes=-0", "bytes=-00, -0"} {
		s.want(416, "GET", url, nil, "Range", header)
	}
	s.want(206, "GET", url, nil, "Range", "BYTES=0-9")
	s.want(200, "GET", url, nil, "Range", "lines=0-9")
	if a := s.want(206, "GET", url, nil, "Range", "bytes=0-9,-0"); string(a.body) != string(data[:10]) {
		t.Errorf("a part and nothing: %d bytes", len(a.body))
	}

	// There is no last byte of nothing.
	empty := "/v2/r/blobs/" + s.push("r", nil)
	for _, header := range []string{"bytes=-5", "bytes=0-", "bytes=-0"} {
		if a := s.want(200, "GET", empty, nil, "Range", header); a.Header.Get("Content-Range") != "" {
			t.Errorf("%s of an empty blob: Content-Range %q", header, a.Header.Get("Content-Range"))
		}
	}
	a := s.want(200, "HEAD", url, nil)
	if a.ContentLength != 3<<20 || a.Header.Get("Docker-Content-Digest") != sum(data) {
		t.Errorf("HEAD: %v", a.Header)
	}
	s.want(304, "GET", url, nil, "If-None-Match", a.Header.Get("ETag"))
	s.want(200, "GET", strings.Replace(url, "sha256:", "sha256%3A", 1), nil)
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	w := startIn(t, dir, Options{})
	d, doc := w.image("r", "t", 1)
	loc := w.begin("r")
	before := files(t, dir)
	s := startIn(t, dir, Options{ReadOnly: true})
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/r/tags/list", "/v2/r/manifests/t", "/v2/r/blobs/" + d, "/v2/r/referrers/" + d, "/", "/-/repository/r"} {
		s.want(200, "GET", path, nil)
	}
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/r/manifests/new", "/v2/r/manifests/t", "/v2/r/blobs/" + d, "/v2/r/blobs/uploads/", "/v2/r/blobs/uploads/?digest=" + sum(doc), loc, "/", "/-/events"} {
		for _, method := range []string{"PUT", "POST", "PATCH", "DELETE", "PROPFIND"} {
			if a := s.want(405, method, path, doc); a.code(t) != "UNSUPPORTED" {
				t.Errorf("%s %s: %s", method, path, a.body)
			}
		}
	}
	if after := files(t, dir); !slices.Equal(before, after) {
		t.Errorf("files changed: %q, were %q", after, before)
	}
}

// Parallel pushes to one repository lose nothing.
func TestParallelTags(t *testing.T) {
	s := start(t, Options{})
	_, doc := s.image("r", "base", 1)
	done := make(chan int, 16)
	for i := range 16 {
		go func() {
			for k := range 5 {
				if a := s.do("PUT", fmt.Sprintf("/v2/r/manifests/t%d-%d", i, k), doc, "Content-Type", oci.MediaTypeManifest); a.StatusCode != 201 {
					t.Errorf("PUT: %d %s", a.StatusCode, a.body)
				}
			}
			done <- i
		}()
	}
	for range 16 {
		<-done
	}
	if got := s.pages("/v2/r/tags/list", "tags"); len(got[0]) != 81 {
		t.Errorf("%d tags, want 81", len(got[0]))
	}
	verifyAll(t, s.dir)
}
