package record_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
	"ocikit/oci/registry/wire"
)

const sample = `{"ocikitRecording":1,"registry":"http://localhost:5000","started":"2026-01-01T00:00:00Z"}
{"n":2,"time":"2026-01-01T00:00:00Z","method":"PUT","url":"http://localhost:5000/v2/team/app/manifests/v1","endpoint":"end-7a","status":201,"sent":2,"received":0,"timing":{"total":1},"request":{"Content-Type":["application/json"]},"asked":{"size":2,"text":"{}"},"answered":{"size":0}}
{"n":1,"time":"2026-01-01T00:00:00Z","method":"GET","url":"http://localhost:5000/v2/","endpoint":"end-1","status":401,"sent":0,"received":0,"timing":{"total":1},"request":{},"response":{"Www-Authenticate":["Bearer realm=\"https://auth.corp/token\",service=\"corp\",scope=\"repository:team/app:pull\""]},"asked":{"size":0},"answered":{"size":0}}
`

// Whatever a recording holds, it is read or refused, judged and exported without a panic, and what
// was read can be written and read again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(sample[:len(sample)-20]))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again bytes.Buffer
		c, namer, har := judge.New(), record.NewNamer(), record.NewHAR(io.Discard)
		w, err := record.NewWriter(&again, record.Head{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		_, err = record.Read(bytes.NewReader(data), func(e *record.Entry) error {
			n++
			if len(c.Judge(e)) == 0 {
				t.Error("an exchange without a verdict")
			}
			namer.Entry(e)
			e.Curl()
			return errors.Join(har.Write(e), w.Write(e))
		})
		if err != nil {
			return
		}
		if line := c.Summary().Lines()[0]; strings.ContainsAny(line, "\n\x1b") {
			t.Errorf("the summary begins with %q", line)
		}
		m := 0
		if _, err := record.Read(&again, func(*record.Entry) error { m++; return nil }); err != nil || n != m {
			t.Errorf("read again: %d of %d entries, %v", m, n, err)
		}
	})
}

// No name is left in a recording that is meant to be published, and the same name becomes the same.
func TestNamer(t *testing.T) {
	namer := record.NewNamer()
	var out bytes.Buffer
	w, err := record.NewWriter(&out, record.Head{Registry: namer.URL("http://localhost:5000")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := record.Read(strings.NewReader(sample), func(e *record.Entry) error { return w.Write(namer.Entry(e)) }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "team", "app:", "v1\"", "corp"} {
		if strings.Contains(out.String(), name) {
			t.Errorf("%q is left in\n%s", name, out.String())
		}
	}
	if !strings.Contains(out.String(), "http://host-1.example/v2/repo-1/manifests/tag-1") || !strings.Contains(out.String(), "repository:repo-1:pull") {
		t.Errorf("the same name is not the same:\n%s", out.String())
	}
}

// Wherever a host, a repository, a tag or a session stands, it does not stay, and what is said of the
// exchanges stays the same.
func TestNamerPlanted(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	base := "https://planted.corp:5000/v2/planted/app/"
	text := func(s string) record.Body { return record.Body{Size: int64(len(s)), Digest: digest, Text: &s} }
	entries := []*record.Entry{
		{Event: wire.Event{URL: base + "blobs/uploads/?mount=" + digest + "&from=planted/base", Method: "POST", Endpoint: "end-11", Status: 202,
			Response: map[string][]string{"Location": {"/v2/planted/app/blobs/uploads/planted-1?_state=REDACTED-abcdef"}, "Docker-Upload-Uuid": {"planted-1"}}}, Session: "planted-1"},
		{Event: wire.Event{URL: base + "blobs/uploads/planted-1?digest=planted", Method: "PATCH", Endpoint: "end-5", Status: 202,
			Request:  map[string][]string{"Referer": {"https://planted.corp:5000/v2/planted/app/manifests/planted"}, "User-Agent": {"client/1 (planted.corp:5000)"}},
			Response: map[string][]string{"Location": {"planted.corp:5000/v2/planted/app"}, "Range": {"0-9"}, "Server": {"planted/app"}, "X-Served-By": {"planted"}}}, Session: "planted-1"},
		{Event: wire.Event{URL: base + "manifests/sha256-planted", Method: "PUT", Endpoint: "end-7a", Status: 400, Error: "planted", RequestID: "planted",
			Request: map[string][]string{"Authorization": {"Basic REDACTED (12 bytes, abcdef)"}, "X-Planted": {"planted"}},
			Errors:  []wire.ErrorInfo{{Code: "MANIFEST_BLOB_UNKNOWN", Message: "planted", Detail: `{"planted":"` + digest + `"}`}, {Code: "planted"}}},
			Asked:    text(`{"config":{"digest":"` + digest + `","annotations":{"planted":"planted"}},"layers":[{"digest":"planted","urls":["https://planted"]}],"planted":1}`),
			Answered: text(`{"errors":[{"code":"planted","message":"planted","detail":{"planted":"planted"}}]}`)},
		{Event: wire.Event{URL: base + "tags/list?n=5&last=planted&planted=planted&ns=planted.corp", Method: "GET", Endpoint: "end-8b", Status: 200,
			Response: map[string][]string{"Link": {`</v2/planted/app/tags/list?last=planted>; rel="next"`}, "Etag": {`"planted"`}}}, Answered: text(`{"name":"planted/app","tags":["planted","sha256-planted"]}`)},
		{Event: wire.Event{URL: "https://planted.corp/token/planted?service=planted.corp&scope=repository:planted/app:pull,planted&scope=planted&account=planted", Method: "GET", Endpoint: "token", Status: 200},
			Away: true, Answered: text(`{"token":"planted","expires_in":300,"planted":[]}`)},
		{Event: wire.Event{URL: base + "manifests/v1", Method: "PLANTED", Status: 401, Response: map[string][]string{"Www-Authenticate": {
			`Bearer realm="https://planted.corp/token",service=planted,scope="repository:planted/app:pull registry:planted:*",error="insufficient_scope",planted="x"`, `Planted planted, Basic realm="planted"`}}}},
		{Event: wire.Event{URL: "https://planted.corp:5000/v2/_catalog?last=planted/app", Method: "GET", Status: 200}, Answered: text(`{"repositories":["planted/app"]}`)},
	}

	namer, before, after := record.NewNamer(), judge.New(), judge.New()
	var out bytes.Buffer
	w, err := record.NewWriter(&out, record.Head{Registry: namer.URL("https://planted.corp:5000")})
	if err != nil {
		t.Fatal(err)
	}
	har := record.NewHAR(&out)
	for i, e := range entries {
		e.N = i + 1
		bare := namer.Entry(e)
		if err := errors.Join(w.Write(bare), har.Write(bare)); err != nil {
			t.Fatal(err)
		}
		rule := func(v judge.Verdict) string { return v.Rule }
		if got, want := rule(after.Judge(bare)[0]), rule(before.Judge(e)[0]); got != want {
			t.Errorf("exchange %d: rule %s, with names %s", e.N, got, want)
		}
	}

	for line := range strings.SplitSeq(out.String(), "\n") {
		if strings.Contains(strings.ToLower(line), "planted") || strings.Contains(line, "abcdef") {
			t.Errorf("a name or the mark of a secret is left in\n%s", line)
		}
	}
}

// An archive has what version 1.2 of the format demands, whether there are exchanges or none.
func TestHAR(t *testing.T) {
	for _, lines := range []string{sample, sample[:strings.IndexByte(sample, '\n')+1]} {
		var out bytes.Buffer
		har := record.NewHAR(&out)
		if _, err := record.Read(strings.NewReader(lines), har.Write); err != nil {
			t.Fatal(err)
		}
		if err := har.Close(); err != nil {
			t.Fatal(err)
		}

		var doc struct {
			Log struct {
				Version string
				Creator struct{ Name, Version string }
				Entries []map[string]any
			}
		}
		if err := json.Unmarshal(out.Bytes(), &doc); err != nil || doc.Log.Version != "1.2" || doc.Log.Creator.Name == "" || doc.Log.Creator.Version == "" || doc.Log.Entries == nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}

		has := func(v any, where string, keys string) {
			for key := range strings.FieldsSeq(keys) {
				if _, ok := v.(map[string]any)[key]; !ok {
					t.Errorf("%s has no %s", where, key)
				}
			}
		}
		for _, e := range doc.Log.Entries {
			has(e, "entry", "startedDateTime time request response cache timings")
			has(e["request"], "request", "method url httpVersion cookies headers queryString headersSize bodySize")
			has(e["response"], "response", "status statusText httpVersion cookies headers content redirectURL headersSize bodySize")
			has(e["response"].(map[string]any)["content"], "content", "size mimeType")
			has(e["timings"], "timings", "send wait receive")
		}
	}
}

// Whether a path can be parsed stays as it is, since the verdicts look at that, and no name is left in
// one that cannot.
func TestNamerURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://r.corp/v2/":                           "http://host-1.example/v2/",
		"http://r.corp/v2/_catalog?n=5":               "http://host-1.example/v2/_catalog?n=5",
		"http://r.corp/v2/team/app/manifests/v1":      "http://host-1.example/v2/repo-1/manifests/tag-1",
		"http://r.corp/v2/team/app/manifests/team:v1": "http://host-1.example/v2/repo-1/manifests/tag-1",
		"http://r.corp/v2/team/app/blobs/v1":          "http://host-1.example/v2/repo-1/blobs/tag-1",
		"http://r.corp/v2/team/app/blobs/uploads/1":   "http://host-1.example/v2/repo-1/blobs/uploads/session-1",
		"http://r.corp/v2/Team/app/manifests/v1":      "http://host-1.example/v2/path-1",
		"http://r.corp/v2/team/app/_signatures/v1":    "http://host-1.example/v2/path-1",
		"http://r.corp/v2/team%2Fapp/manifests/v1#v1": "http://host-1.example/v2/path-1",
		"http://r.corp/team/app#v1":                   "http://host-1.example/path-1",
		"team:app":                                    "redacted:",
		"r.corp:5000/v2/team/app":                     "redacted:",
		"http://me:pw@r.corp/v2/?team=app":            "http://host-1.example/v2/?key-1=value-1",
	} {
		if got := record.NewNamer().URL(in); got != want {
			t.Errorf("URL(%q) = %q, want %q", in, got, want)
		}
	}
}
