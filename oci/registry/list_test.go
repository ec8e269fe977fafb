package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/servetest"
)

// noReferrers makes a registry one without the referrers API, which answers with a status.
func noReferrers(status int, h http.Handler) http.Handler {
	return servetest.BreakIf(1000, func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/referrers/") }, servetest.Answer(status, ""), h)
}

// oras-project/oras-go#1396: without a referrers API the tag sha256-HEX is read, and GitLab
// answers with the manifest sha256:HEX itself. That is not a list of what refers to it, and none that
// is written into one.
func TestFallbackTagOfTheSubject(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	child, _ := image(reg, "app", "child", []byte("layer"))
	data, _ := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{child}})
	index := oci.Describe(oci.MediaTypeIndex, data)
	reg.PutManifest("app", "v1", oci.MediaTypeIndex, data)
	itself := func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if _, tag, ok := strings.Cut(r.URL.Path, "/manifests/sha256-"); ok && r.Method != http.MethodPut {
			if reg.Tag("app", "sha256-"+tag).IsZero() { // nobody has written a list
				r.URL.Path = "/v2/app/manifests/sha256:" + tag
			}
		}
		h.ServeHTTP(w, r)
	}
	r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, itself, noReferrers(404, reg))))
	for _, subject := range []oci.Descriptor{child, index} {
		list, err := r.Referrers(t.Context(), "app", subject.Digest, "")
		if err != nil || len(list.Descriptors) != 0 {
			t.Errorf("%s: Referrers() = %+v, %v", subject.MediaType, list, err)
		}
	}
	sig := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: child.Digest, Size: child.Size, ArtifactType: "application/x-sig"}
	if _, err := r.AddReferrer(t.Context(), "app", index.Digest, sig); err != nil {
		t.Fatal(err)
	}
	list, err := r.Referrers(t.Context(), "app", index.Digest, "")
	if err != nil || len(list.Descriptors) != 1 || list.Descriptors[0].ArtifactType != "application/x-sig" {
		t.Errorf("after a signature: Referrers() = %+v, %v", list, err)
	}
}

// NVIDIA/aicr#1957: clients have written lists whose artifactType is that of the config, or none.
func TestTypeOfReferrersInAList(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	subject, _ := image(reg, "app", "v1", []byte("layer"))
	config := []byte("{}")
	reg.PutBlob("app", config)
	data, _ := oci.Encode(oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x-sbom",
		Config: oci.Describe(oci.MediaTypeEmpty, config), Subject: &subject,
	})
	reg.PutManifest("app", "sbom", oci.MediaTypeManifest, data)
	entry := oci.Describe(oci.MediaTypeManifest, data)
	entry.ArtifactType = oci.MediaTypeEmpty
	list, _ := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{entry}})
	reg.PutManifest("app", graph.FallbackTag(subject.Digest), oci.MediaTypeIndex, list)
	r := newRig(t, servetest.Serve(t, noReferrers(404, reg)))
	got, err := r.Referrers(t.Context(), "app", subject.Digest, "application/x-sbom")
	if err != nil || len(got.Descriptors) != 1 || got.Descriptors[0].Digest != entry.Digest {
		t.Errorf("Referrers() = %+v, %v", got, err)
	}
	if got, err = r.Referrers(t.Context(), "app", subject.Digest, "application/x-other"); err != nil || len(got.Descriptors) != 0 {
		t.Errorf("another type: Referrers() = %+v, %v", got, err)
	}
}

// A registry says of each page whether it filtered it, and may be wrong: what names another type is
// left out in any case, what names none where the registry vouches for it.
func TestTypeOfReferrersOverPages(t *testing.T) {
	subject := digest.FromBytes([]byte("subject"))
	const typed, other, untyped = "application/x-sbom", "application/x-other", ""
	for _, c := range []struct {
		name     string
		filtered [2]bool // what the pages say
		want     int
		vouched  bool
	}{
		{"neither page", [2]bool{false, false}, 2, false},
		{"the last alone", [2]bool{false, true}, 2, false},
		{"the first alone", [2]bool{true, false}, 2, false},
		{"both", [2]bool{true, true}, 4, true},
	} {
		r := newRig(t, servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			page := 0
			if r.URL.Query().Get("page") != "" {
				page = 1
			} else {
				w.Header().Set("Link", `<?page=2>; rel="next"`)
			}
			if c.filtered[page] {
				w.Header().Set("OCI-Filters-Applied", "artifactType")
			}
			x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
			for _, kind := range []string{typed, other, untyped} {
				desc := oci.Describe(oci.MediaTypeManifest, []byte(kind+fmt.Sprint(page)))
				desc.ArtifactType = kind
				x.Manifests = append(x.Manifests, desc)
			}
			data, _ := oci.Encode(x)
			w.Header().Set("Content-Type", oci.MediaTypeIndex)
			w.Write(data)
		})))

		list, err := r.Referrers(t.Context(), "app", subject, typed)
		if err != nil || len(list.Descriptors) != c.want || list.Filtered != c.vouched {
			t.Errorf("%s says that it filtered: Referrers() = %d descriptors, Filtered %t, %v, want %d, %t", c.name, len(list.Descriptors), list.Filtered, err, c.want, c.vouched)
		}
		for _, desc := range list.Descriptors {
			if desc.ArtifactType == other {
				t.Errorf("%s says that it filtered: another type is listed", c.name)
			}
		}
	}
}

// Some registries call what is not there forbidden. Where one has no referrers API, its fallback
// tag is looked for in case there is one: that it may not be read is not a reason to fail.
func TestForbiddenFallbackTag(t *testing.T) {
	forbidden := func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/sha256-") {
			w.WriteHeader(403)
			return
		}
		h.ServeHTTP(w, r)
	}
	reg := servetest.New(t, serve.Options{})
	subject, _ := image(reg, "app", "v1", nil)
	r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, forbidden, noReferrers(404, reg))))
	if list, err := r.Referrers(t.Context(), "app", subject.Digest, ""); err != nil || len(list.Descriptors) != 0 {
		t.Errorf("Referrers() = %+v, %v", list, err)
	}
	r = newRig(t, servetest.Serve(t, servetest.BreakFrom(1, forbidden, noReferrers(403, reg))))
	if _, err := r.Referrers(t.Context(), "app", subject.Digest, ""); status(err) != 5 {
		t.Errorf("both forbidden: Referrers() = %v", err)
	}
}

// podman-container-tools/skopeo#364: the list of repositories, over pages, with a token for it.
func TestCatalog(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	scopes := ""
	login := func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			scopes = r.URL.Query().Get("scope")
			fmt.Fprint(w, `{"token":"good"}`)
		case r.Header.Get("Authorization") != "Bearer good":
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="s"`)
			w.WriteHeader(401)
		default:
			h.ServeHTTP(w, r)
		}
	}
	pages := func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/_catalog") {
			h.ServeHTTP(w, r)
			return
		}
		if r.URL.Query().Get("last") == "" {
			w.Header().Set("Link", `</v2/_catalog?last=b&n=2>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["a","b"]}`)
			return
		}
		fmt.Fprint(w, `{"repositories":["c"]}`)
	}
	r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, login, servetest.BreakFrom(1, pages, reg))))
	var names []string
	for name, err := range r.Catalog(t.Context(), 2) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) || scopes != "registry:catalog:*" {
		t.Errorf("Catalog() = %q with a token for %q", names, scopes)
	}
}

// A list goes on where the registry says, but on the registry: another host, or an account in the
// address, is refused before it is asked. What is asked for is pages of the wanted size.
func TestPagesStayHome(t *testing.T) {
	asked := 0
	elsewhere := servetest.Serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	for _, c := range []struct {
		size  int
		query string // of the first request
		next  func(host string) string
		want  []string
		err   error
	}{
		{0, "", func(string) string { return "/v2/app/tags/list?last=a" }, []string{"a", "b"}, nil},
		{1, "n=1", func(host string) string { return "http://" + host + "/v2/app/tags/list?last=a" }, []string{"a", "b"}, nil},
		{1, "n=1", func(string) string { return "http://" + elsewhere + "/v2/app/tags/list" }, []string{"a"}, registry.ErrUnsafe},
		{1, "n=1", func(host string) string { return "http://me:secret@" + host + "/v2/app/tags/list?last=a" }, []string{"a"}, registry.ErrUnsafe},
	} {
		var queries []string
		r := newRig(t, servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			queries = append(queries, r.URL.RawQuery)
			if r.URL.Query().Get("last") != "" {
				fmt.Fprint(w, `{"name":"app","tags":["b"]}`)
				return
			}
			w.Header().Set("Link", "<"+c.next(r.Host)+`>; rel="next"`)
			fmt.Fprint(w, `{"name":"app","tags":["a"]}`)
		})))
		var got []string
		var err error
		for tag, tagErr := range r.Tags(t.Context(), "app", c.size) {
			if err = tagErr; err == nil {
				got = append(got, tag)
			}
		}
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) || queries[0] != c.query {
			t.Errorf("next page %s: tags %q, %v, queries %q", c.next("HOST"), got, err, queries)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells a password: %v", err)
		}
	}
	if asked > 0 {
		t.Errorf("another host was asked %d times", asked)
	}
}

// Storage behind a redirect may be signed for GET alone, and some registries know no HEAD: the size of
// a blob is found all the same. A refusal of the registry itself stays one.
func TestHeadBlobWithoutHead(t *testing.T) {
	reg := servetest.New(t, serve.Options{})
	d := reg.PutBlob("app", []byte("bytes of a blob"))
	storage := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(403)
			return
		}
		fmt.Fprint(w, "bytes of a blob")
	}))
	for name, c := range map[string]struct {
		head func(http.ResponseWriter, *http.Request)
		ok   bool
	}{
		"405":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(405) }, true},
		"403":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, false},
		"redirected": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://"+storage+"/blob", 307) }, true},
	} {
		r := newRig(t, servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/blobs/") && (r.Method == http.MethodHead || name == "redirected") {
				c.head(w, r)
				return
			}
			reg.ServeHTTP(w, r)
		})))
		if size, err := r.HeadBlob(t.Context(), "app", d); (err == nil) != c.ok || c.ok && size != 15 {
			t.Errorf("%s: HeadBlob = %d, %v, want success %t", name, size, err, c.ok)
		}
	}
}
