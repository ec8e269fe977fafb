package serve

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/live"
)

func TestPages(t *testing.T) {
	s := start(t, Options{})
	d, _ := s.image("team/app", "v1", 1)
	s.image("team/app", "", 2)
	os.MkdirAll(filepath.Join(s.dir, "broken"), 0o755)
	os.WriteFile(filepath.Join(s.dir, "broken/oci-layout"), []byte("{}"), 0o644)
	for path, want := range map[string][]string{
		"/":                      {`href="/-/repository/team/app"`, `>v1<`, "1 without a tag", "it cannot be opened"},
		"/-/repository/team/app": {d, "linux/amd64", "<rect", `width="1000"`, "1000 B", "without a tag"},
		"/-/app.js":              {"EventSource"},
		"/-/style.css":           {".upload"},
	} {
		a := s.want(200, "GET", path, nil)
		for _, part := range want {
			if !strings.Contains(string(a.body), part) {
				t.Errorf("%s lacks %q:\n%s", path, part, a.body)
			}
		}
		if csp := a.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		for _, foreign := range []string{"http://", "https://", "//cdn", "style="} {
			if strings.Contains(string(a.body), foreign) {
				t.Errorf("%s holds %q", path, foreign)
			}
		}
	}
	for _, path := range []string{"/x", "/-/", "/-/repository/", "/-/repository/absent", "/-/repository/a/../b", "/favicon.ico"} {
		if a := s.do("GET", path, nil); a.StatusCode != 404 && a.StatusCode != 400 {
			t.Errorf("%s = %d", path, a.StatusCode)
		}
	}
}

// The command to pull with names the tag that people expect, and else the first.
func TestPageSaysWhatToPull(t *testing.T) {
	s := start(t, Options{})
	for n, tag := range []string{"b", "a", "latest"} {
		s.image("app", tag, byte(n+1))
		want := "/app:" + tag
		if page := string(s.want(200, "GET", "/-/repository/app", nil).body); strings.Count(page, "/app:") != 2 || strings.Count(page, want+"<") != 2 {
			t.Errorf("with the tag %s the page does not say %q", tag, want)
		}
	}
}

// Images inside an index of an index are shown as those of an index are; an artifact is shown by its
// type.
func TestPageOfIndexes(t *testing.T) {
	s := start(t, Options{})
	d, doc := s.image("r", "", 1)
	put := func(ref, mediaType, text string) oci.Descriptor {
		s.want(201, "PUT", "/v2/r/manifests/"+ref, text, "Content-Type", mediaType)
		return oci.Describe(mediaType, []byte(text))
	}
	index := func(ref string, entry oci.Descriptor) oci.Descriptor {
		text, err := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{entry}})
		if err != nil {
			t.Fatal(err)
		}
		return put(ref, oci.MediaTypeIndex, string(text))
	}
	inner := index("inner", oci.Describe(oci.MediaTypeManifest, doc))
	index("outer", inner)
	s.push("r", []byte("{}"))
	put("art", oci.MediaTypeManifest, `{"schemaVersion":2,"mediaType":"`+oci.MediaTypeManifest+`","config":{"mediaType":"application/x.sums","digest":"`+sum([]byte("{}"))+`","size":2},"layers":[]}`)

	page := string(s.want(200, "GET", "/-/repository/r", nil).body)
	for part, times := range map[string]int{"linux/amd64": 2, "application/x.sums": 1, d: 0} {
		if strings.Count(page, part) != times {
			t.Errorf("%q is there %d times, want %d:\n%s", part, strings.Count(page, part), times, page)
		}
	}
}

// What stands in documents cannot become markup.
func TestPageEscapes(t *testing.T) {
	s := start(t, Options{})
	s.image("r", "t", 1)
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"<script>alert(1)</script>\u202e","digest":"` + sum(nil) + `","size":0,"annotations":{"org.opencontainers.image.ref.name":"<img src=x>"}}]}`
	if err := os.WriteFile(filepath.Join(s.dir, "r/index.json"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/-/repository/r"} {
		a := s.want(200, "GET", path, nil)
		for _, bad := range []string{"<script>alert", "<img", "\x1b", "\u202e"} {
			if strings.Contains(string(a.body), bad) {
				t.Errorf("%s holds %q", path, bad)
			}
		}
	}
}

// Who watches sees an upload step by step.
func TestEvents(t *testing.T) {
	s := start(t, Options{})
	resp, err := http.Get(s.url + "/-/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data := digesttest.Noise(1000, 1)
	loc := s.want(202, "PATCH", s.begin("r"), data[:400]).Header.Get("Location")
	var text strings.Builder
	sent := false
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		message, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var m struct {
			Uploads []live.Upload
			Events  []live.Event
		}
		if err := json.Unmarshal([]byte(message), &m); err != nil {
			t.Fatal(err)
		}
		for _, u := range m.Uploads {
			if !sent && u.Offset == 400 {
				sent = true
				s.want(201, "PUT", loc+"&digest="+sum(data), data[400:])
			}
		}
		for _, e := range m.Events {
			text.WriteString(e.Text + "\n")
		}
		if strings.Contains(text.String(), "finished") && strings.Contains(text.String(), "→ 201") {
			break
		}
	}
	for _, step := range []string{"opened", "POST → 202, offset 0", "PATCH 400 bytes at 0 → 202, offset 400", "PUT 600 bytes at 400 → 201", "finished as " + sum(data)} {
		if !strings.Contains(text.String(), step+"\n") {
			t.Errorf("no step %q in:\n%s", step, text.String())
		}
	}
}

func TestAccess(t *testing.T) {
	var lines []string
	s := start(t, Options{Log: func(a exchange.Access) { lines = append(lines, a.String(), a.JSON()) }, Now: func() time.Time { return time.Unix(0, 0) }})
	loc := s.begin("r")
	s.want(202, "PATCH", loc, "hello")
	s.do("GET", "/v2/%1b%0aok/tags/list", nil)
	s.s.logMu.Lock()
	defer s.s.logMu.Unlock()
	id := strings.Split(strings.Split(loc, "uploads/")[1], "?")[0]
	for i, want := range []string{
		"1970-01-01T00:00:00Z 127.0.0.1 - POST /v2/r/blobs/uploads/ 202 0 0 0 session=" + id + " offset=0",
		`{"time":"`,
		"1970-01-01T00:00:00Z 127.0.0.1 - PATCH /v2/r/blobs/uploads/" + id + "?offset=0 202 5 0 0 session=" + id + " offset=0-5",
		`{"time":"`,
		"1970-01-01T00:00:00Z 127.0.0.1 - GET /v2/%1b%0aok/tags/list 400 0 ",
	} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d = %q, want %q…", i, lines[i], want)
		}
		if strings.ContainsAny(lines[i], "\n\x1b") {
			t.Errorf("line %d = %q", i, lines[i])
		}
	}
}
