package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/archive/split"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

// saved pushes an image and returns an archive of it, under two full names, and its manifest.
func saved(t *testing.T) (data []byte, d string) {
	t.Helper()
	s := start(t, Options{})
	d, _ = s.image("app", "v1", 1)
	l, err := layout.Open(filepath.Join(s.dir, "app"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	desc, err := l.Resolve(oci.ImageName{Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := archive.NewPlan([]archive.Image{
		{Source: l, Desc: desc, Tag: "v1", Name: "docker.io/library/one:v1"}, {Source: l, Desc: desc, Tag: "v2", Name: "example.com/team/two:v2"},
	}, archive.OCI, graph.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := plan.Save(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), d
}

// pullAll reads an image by tag, with its blobs and a range of one.
func (t *testServer) pullAll(repo, tag, d string) {
	t.Helper()
	a := t.want(200, "GET", "/v2/"+repo+"/manifests/"+tag, nil)
	if sum(a.body) != d || a.Header.Get("Docker-Content-Digest") != d || a.Header.Get("Content-Type") != oci.MediaTypeManifest {
		t.Errorf("%s:%s is %s of type %s, want %s", repo, tag, a.Header.Get("Docker-Content-Digest"), a.Header.Get("Content-Type"), d)
	}
	t.want(200, "HEAD", "/v2/"+repo+"/manifests/"+d, nil)
	var m oci.Manifest
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatal(err)
	}
	for _, b := range append(m.Layers, m.Config) {
		url := "/v2/" + repo + "/blobs/" + b.Digest.String()
		whole := t.want(200, "GET", url, nil).body
		if sum(whole) != b.Digest.String() {
			t.Errorf("%s: blob %s differs", repo, b.Digest)
		}
		if part := t.want(206, "GET", url, nil, "Range", "bytes=5-9").body; !bytes.Equal(part, whole[5:10]) {
			t.Errorf("%s: a range of blob %s differs", repo, b.Digest)
		}
	}
	t.want(200, "GET", "/v2/"+repo+"/referrers/"+d, nil)
	t.want(404, "GET", "/v2/"+repo+"/blobs/"+sum([]byte("none")), nil)
	t.want(404, "GET", "/v2/"+repo+"/manifests/none", nil)
}

// repositories returns what the catalog lists.
func (t *testServer) repositories() []string {
	t.Helper()
	var list struct{ Repositories []string }
	if err := json.Unmarshal(t.want(200, "GET", "/v2/_catalog", nil).body, &list); err != nil {
		t.Fatal(err)
	}
	return list.Repositories
}

// Archives below the directory are repositories beside the layouts: they are read where they are,
// nothing is written beside them, and nothing can be pushed into them.
func TestArchivesBelow(t *testing.T) {
	data, d := saved(t)
	s := start(t, Options{})
	s.image("team/layout", "v1", 2)
	dir := filepath.Join(s.dir, "team")
	for name, data := range map[string][]byte{"app.tar": data, "no.tar": bytes.Repeat([]byte("x"), 2000), "Upper.tar": data} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("app.tar", filepath.Join(dir, "link.tar")); err != nil {
		t.Fatal(err)
	}
	if _, err := split.Split(t.Context(), bytes.NewReader(data), filepath.Join(dir, "parts"), split.Options{Name: "x", Size: 2000}); err != nil {
		t.Fatal(err)
	}
	before := files(t, s.dir)

	if got, want := s.repositories(), []string{"team/app", "team/layout", "team/no", "team/parts"}; !slices.Equal(got, want) {
		t.Errorf("repositories %q, want %q", got, want)
	}
	for _, repo := range []string{"team/app", "team/parts"} {
		s.pullAll(repo, "v1", d)
		if tags := s.want(200, "GET", "/v2/"+repo+"/tags/list", nil).body; string(tags) != `{"name":"`+repo+`","tags":["v1","v2"]}` {
			t.Errorf("%s: tags %s", repo, tags)
		}
		s.want(200, "GET", "/-/repository/"+repo, nil)
		for _, method := range []string{"POST", "PUT", "DELETE"} {
			s.want(405, method, "/v2/"+repo+"/manifests/v1", nil)
		}
		s.want(405, "POST", "/v2/"+repo+"/blobs/uploads/", nil)
	}
	s.want(200, "GET", "/", nil)
	s.want(404, "GET", "/v2/team/link/manifests/v1", nil)
	if code := s.do("GET", "/v2/team/no/manifests/v1", nil).code(t); code != "NAME_UNKNOWN" {
		t.Errorf("a file that is not an archive: %s", code)
	}
	if after := files(t, s.dir); !slices.Equal(before, after) {
		t.Errorf("there is %q, was %q", after, before)
	}
}

// An archive that is replaced is read anew, while whoever reads the old one goes on.
func TestArchiveIsReplaced(t *testing.T) {
	data, d := saved(t)
	s := start(t, Options{})
	name := filepath.Join(s.dir, "app.tar")
	if err := os.WriteFile(name, []byte("not yet"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.want(404, "GET", "/v2/app/manifests/v1", nil)
	var readers sync.WaitGroup
	for range digesttest.Reps(20, 5) {
		if err := os.WriteFile(name+".new", data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			readers.Go(func() { s.pullAll("app", "v1", d) })
		}
	}
	readers.Wait()
	s.s.archives.mu.Lock()
	defer s.s.archives.mu.Unlock()
	if n := len(s.s.archives.kept); n != 1 {
		t.Errorf("%d archives are kept open", n)
	}
}

// One archive in place of a directory has a repository of its own name, and one for each full name.
func TestServeArchive(t *testing.T) {
	data, d := saved(t)
	a, err := archive.OpenStream(context.Background(), bytes.NewReader(data), "-", archive.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s := startIn(t, "", Options{Archive: a, Repository: "set"})
	if got, want := s.repositories(), []string{"library/one", "set", "team/two"}; !slices.Equal(got, want) {
		t.Errorf("repositories %q, want %q", got, want)
	}
	s.pullAll("set", "v1", d)
	s.pullAll("library/one", "v1", d)
	s.pullAll("example.com/team/two", "v2", d)
	s.want(404, "GET", "/v2/team/two/manifests/v1", nil)
	s.want(404, "GET", "/v2/other/manifests/v1", nil)
	s.want(200, "GET", "/v2/other/referrers/"+d, nil)
	s.want(405, "POST", "/v2/other/blobs/uploads/", nil)
	s.want(200, "GET", "/", nil)

	if _, err := New("", Options{Archive: a, Repository: "No Name"}); err == nil {
		t.Error("a repository of a bad name")
	}
}
