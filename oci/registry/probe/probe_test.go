package probe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/oci/registry/probe"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/servetest"
)

func newClient(t testing.TB, host string, change ...func(*registry.Options)) *registry.Client {
	t.Helper()
	o := registry.Options{PlainHTTP: true, Retry: 3, Timeout: 20 * time.Second, Sleep: noSleep}
	for _, f := range change {
		f(&o)
	}
	return servetest.Client(t, host, o)
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// run probes a registry. Where a probe gives it a moment to notice a connection that was cut, it has
// until it is done with each PATCH that was sent.
func run(t testing.TB, h http.Handler, o probe.Options) (probe.Profile, error) {
	t.Helper()
	var sent atomic.Int32
	done := make(chan struct{}, 1000)
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			defer func() { done <- struct{}{} }()
		}
		h.ServeHTTP(w, r)
	})
	client := newClient(t, servetest.Serve(t, counted), func(o *registry.Options) {
		o.Trace = func(e registry.Event) {
			if e.Method == http.MethodPatch {
				sent.Add(1)
			}
		}
	})
	o.Sleep = func(ctx context.Context, _ time.Duration) error {
		for ; sent.Load() > 0; sent.Add(-1) {
			select {
			case <-done:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return ctx.Err()
	}
	return probe.Run(t.Context(), client, "app/x", "", o)
}

func find(p probe.Profile, id string) probe.Finding {
	i := slices.IndexFunc(p.Findings, func(f probe.Finding) bool { return f.ID == id })
	if i < 0 {
		return probe.Finding{}
	}
	return p.Findings[i]
}

// Our own registry keeps to the spec, and nothing stays behind in it.
func TestServe(t *testing.T) {
	t.Parallel()
	p, err := run(t, servetest.New(t, serve.Options{}), probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Findings {
		if f.Level != probe.OK {
			t.Errorf("%+v", f)
		}
	}
	rows, err := probe.List(probe.Options{})
	if err != nil || len(p.Findings) != len(rows) {
		t.Errorf("%d findings of %d probes, %v", len(p.Findings), len(rows), err)
	}
	if len(p.Left) > 0 {
		t.Errorf("left behind: %q", p.Left)
	}
}

// What is there stays as it is.
func TestOtherTagsStay(t *testing.T) {
	reg := servetest.NewQuirky(t)
	want := reg.PutManifest("app/x", "v1", oci.MediaTypeManifest, []byte("{}"))
	p, err := run(t, reg, probe.Options{})
	if err != nil || reg.Tag("app/x", "v1") != want || !reg.Has("app/x", want) {
		t.Errorf("tag v1 is %s, %v", reg.Tag("app/x", "v1"), err)
	}
	if len(p.Left) > 0 || reg.Uploads() > 0 {
		t.Errorf("left behind: %q, %d uploads", p.Left, reg.Uploads())
	}
	for _, r := range reg.Requests() {
		if r.Method != "GET" && strings.Contains(r.URL, "v1") {
			t.Errorf("%s %s", r.Method, r.URL)
		}
	}
}

// Each fault that serve can commit and a probe can see has its finding.
func TestFaults(t *testing.T) {
	for name, want := range map[string]string{
		"location-relative":      "start ok Location relative",
		"location-no-scheme":     "start note without a scheme",
		"location-path-relative": "start note relative to the path",
		"location-missing":       "start violation no Location",
		"location-foreign":       "start note another host, localhost:",
		"patch-200":              "chunk violation 200",
		"patch-201":              "chunk violation 201",
		"patch-204":              "chunk violation 204",
		"range-missing":          "chunk violation no Range",
		"range-bytes":            `chunk note bytes=0-4095`,
		"range-negative":         "status note 0--1",
		"range-frozen":           "chunk violation Range 0-0 for 4096 bytes",
		"range-off-by-one":       "chunk violation Range 0-4096 for 4096 bytes",
		"range-garbage":          "chunk violation Range potato cannot be read",
		"patch-cut":              "chunk violation no answer",
		"patch-half":             "chunk violation Range 0-2047 for 4096 bytes",
		"patch-503":              "chunk violation 503",
		"status-ahead":           "status violation for 0 bytes",
		"put-500":                "put violation 500",
		"put-lost":               "put violation no answer",
		"cancel-500":             "cancel violation 500",
		"chunk-min":              "start note OCI-Chunk-Min-Length 5242880",
		"chunk-min-absurd":       "start note OCI-Chunk-Min-Length 1099511627776",
		"chunk-max":              "start note OCI-Chunk-Max-Length 1048576",
		"chunk-416":              "chunk-large note 416",
		"chunk-lost":             "put-chunks violation 400 DIGEST_INVALID",
		"chunk-needs-range":      "chunk-again note 400",
		"no-patch":               "chunk violation 405",
		"no-chunked":             "put-encoding note 411",
		"put-413":                "put-large note 413 with a body of type text/html",
		"mount-202":              "mount note a session was opened",
		"mount-403":              "mount violation 403",
		"mount-500":              "mount violation 500",
		"post-202":               "post ok a session was opened",
		"post-401":               "start note 401",
		"patch-401":              "chunk violation 401",
		"put-307":                "put ok 201",
		"put-303":                "put violation cannot be redirected",
		"manifest-put-digest":    "manifest violation not that of the bytes",
		"manifest-put-bare":      "manifest note no Docker-Content-Digest",
		"manifest-get-digest":    "get violation not that of the bytes",
		"manifest-get-bare":      "get note no Docker-Content-Digest",
		"manifest-charset":       "get note has a parameter",
		"manifest-type":          "get violation Content-Type is application/vnd.oci.image.index",
		"manifest-413":           "manifest violation 413",
		"immutable-tags":         "manifest-again note 400",
		"tags-some":              "tags-at-once note names 1 of 2",
		"tags-none":              "tags-at-once note names 0 of 2",
		"no-referrers":           "referrers note 404",
		"blob-corrupt":           "blob violation other bytes",
		"blob-no-range":          "blob-range note 200",
		"blob-open-range":        "blob-range-open note 416",
		"blob-gzip-label":        "blob note Content-Encoding is gzip",
		"blob-redirect":          "blob ok from another host",
		"blob-redirect-loop":     "blob violation redirect",
		"head-length":            "blob-head violation Content-Length is",
		"head-405":               "blob-head violation 405",
		"429":                    "rate-limit note refused with 429",
		"503":                    "rate-limit note refused with 429 or 503",
		"post-lost":              "start ok 202",
		"429-seconds":            "rate-limit note Retry-After",
		"errors-html":            "get-unknown note text/html",
		"errors-empty":           "get-unknown note 404 without a body",
		"errors-torn":            "get-unknown note no error code",
		"warnings":               "warnings note different ones",
		"tags-loop":              "tags violation Link to itself",
		"tags-foreign":           "tags violation Link to another host",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, rest, _ := strings.Cut(want, " ")
			level, text, _ := strings.Cut(rest, " ")
			only := []string{id}
			switch first, _, _ := strings.Cut(id, "-"); first {
			case "rate", "warnings":
				only = append(only, "start")
			case "blob":
				only = append(only, "put")
			case "tags", "get":
				only = append(only, "manifest-tag")
			case "referrers":
				only = append(only, "subject", "get")
			}
			p, err := run(t, servetest.New(t, serve.Options{Faults: []string{name}}), probe.Options{Only: only})
			if err != nil {
				t.Fatal(err)
			}
			f := find(p, id)
			if string(f.Level) != level || !strings.Contains(f.Got, text) {
				t.Errorf("%s is %s: %s; want %s: %s", id, f.Level, f.Got, level, text)
			}
		})
	}
}

// Quirks of real registries.
func TestQuirks(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*servetest.Quirky)
		want string // "ID LEVEL part of what came"
		push string // a line of advice
	}{
		{"by the book", func(g *servetest.Quirky) {}, "chunk-gap ok 416", "a broken upload goes on at the byte where it broke"},
		{"session is lost", func(g *servetest.Quirky) { g.LoseSession = true }, "cut note the session is lost", "a broken upload starts over"},
		{"parts are kept", func(g *servetest.Quirky) { g.Granularity = 50_000 }, "cut note 50000 of 65536 bytes", "a broken upload goes on before the byte where it broke"},
		{"no status", func(g *servetest.Quirky) { g.NoStatus = true }, "status violation 400 NAME_INVALID", "a broken upload starts over"},
		{"Content-Range is ignored", func(g *servetest.Quirky) { g.IgnoreRange = true }, "chunk-gap violation 202", ""},
		{"one stream", func(g *servetest.Quirky) { g.OneStream = true }, "chunk-again note 400", "--mode chunk works"},
		{"tail needs a range", func(g *servetest.Quirky) { g.PutRange = true }, "put-tail-bare note 416", ""},
		{"Location stays", func(g *servetest.Quirky) { g.StableLocation = true }, "chunk ok another than before", ""},
		{"no PATCH", func(g *servetest.Quirky) { g.NoPatch = true }, "chunk violation 405", "--mode put is what works"},
		{"no PUT with a body", func(g *servetest.Quirky) { g.NoPut = true }, "put violation 405", "--mode stream is what works"},
		{"no mount", func(g *servetest.Quirky) { g.NoMount = 202 }, "mount note 202", "--mount-from is of no use"},
		{"single POST", func(g *servetest.Quirky) { g.SinglePost = true }, "post ok 201", ""},
		{"no single POST", func(g *servetest.Quirky) {}, "post ok a session was opened", ""},
		{"no list of referrers", func(g *servetest.Quirky) { g.NoReferrers = 404 }, "referrers note 404", "--referrers keeps the list of referrers under a tag"},
		{"one tag a request", func(g *servetest.Quirky) { g.NoMultiTag = true }, "tags-at-once note", "several tags take a request each"},
		{"no digest header", func(g *servetest.Quirky) { g.NoDigestHeader = true }, "manifest note no Docker-Content-Digest", ""},
		{"no HEAD", func(g *servetest.Quirky) { g.NoHead = true }, "head violation 405", ""},
		{"hidden cause", func(g *servetest.Quirky) { g.HideMissingBlobs = true }, "manifest-missing note does not say", ""},
		{"immutable tags", func(g *servetest.Quirky) { g.ImmutableTags = true }, "manifest-move note 400", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reg := servetest.NewQuirky(t)
			c.set(reg)
			id, rest, _ := strings.Cut(c.want, " ")
			p, err := run(t, reg, probe.Options{Only: []string{id, "put-stream", "put-tail", "cut", "mount", "tags-at-once", "manifest", "get", "referrers"}})
			if err != nil {
				t.Fatal(err)
			}
			level, text, _ := strings.Cut(rest, " ")
			if f := find(p, id); string(f.Level) != level || !strings.Contains(f.Got, text) {
				t.Errorf("%s is %s: %s; want %s", id, f.Level, f.Got, c.want)
			}
			if c.push != "" && !slices.Contains(p.Push, c.push) {
				t.Errorf("push: %q, want %q", p.Push, c.push)
			}
			if reg.Uploads() > 0 && !reg.NoStatus {
				t.Errorf("%d uploads are open, left: %q", reg.Uploads(), p.Left)
			}
		})
	}
}

// oras-project/oras-go#1396: the tag that stands in for the list of referrers is answered with the
// manifest whose digest it spells.
func TestReferrersTagOfTheManifest(t *testing.T) {
	reg := servetest.NewQuirky(t)
	mangle := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = strings.Replace(r.URL.Path, "/manifests/sha256-", "/manifests/sha256:", 1)
		reg.ServeHTTP(w, r)
	})
	for name, c := range map[string]struct {
		h    http.Handler
		want probe.Level
	}{"mangled": {mangle, probe.Violation}, "by the book": {reg, probe.OK}} {
		p, err := run(t, c.h, probe.Options{Only: []string{"manifest", "get", "referrers-tag"}})
		if err != nil {
			t.Fatal(err)
		}
		if f := find(p, "referrers-tag"); f.Level != c.want || (c.want == probe.Violation) != (f.Push == "does not take that for a list") {
			t.Errorf("%s: referrers-tag is %s: %s; push: %q", name, f.Level, f.Got, f.Push)
		}
	}
}

// Where nothing may be written, by choice or not, the rest is tried on what is there.
func TestReadOnly(t *testing.T) {
	reg := servetest.NewQuirky(t)
	blob := reg.PutBlob("app/x", []byte(strings.Repeat("layer", 100)))
	m, err := oci.Encode(oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: oci.Descriptor{MediaType: oci.MediaTypeConfig, Digest: blob, Size: 500}})
	if err != nil {
		t.Fatal(err)
	}
	reg.PutManifest("app/x", "v1", oci.MediaTypeManifest, m)
	locked := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" && r.Method != "HEAD" {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(405)
			return
		}
		reg.ServeHTTP(w, r)
	})
	for name, c := range map[string]struct {
		h http.Handler
		o probe.Options
	}{"chosen": {reg, probe.Options{ReadOnly: true}}, "refused": {locked, probe.Options{}}} {
		p, err := run(t, c.h, c.o)
		if err != nil || !p.ReadOnly {
			t.Errorf("%s: read-only %t, %v", name, p.ReadOnly, err)
		}
		for _, id := range []string{"get", "head", "blob-head", "blob-range", "tags"} {
			if f := find(p, id); f.Level != probe.OK {
				t.Errorf("%s: %+v", name, f)
			}
		}
		for _, r := range reg.Requests() {
			if r.Method != "GET" && r.Method != "HEAD" {
				t.Errorf("%s: %s %s was sent", name, r.Method, r.URL)
			}
		}
	}
}

// Who is not let in learns so, and sends little.
func TestDenied(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{User: "me", Password: "planted-secret"}
	if _, err := run(t, reg, probe.Options{}); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("Run() = %v", err)
	}
	reg.Auth.Bearer = true
	c := newClient(t, servetest.Serve(t, reg), func(o *registry.Options) { o.Username, o.Password = "me", "planted-secret" })
	p, err := probe.Run(t.Context(), c, "app/x", "", probe.Options{Sleep: noSleep})
	if f := find(p, "auth"); err != nil || !strings.Contains(f.Got, `wants bearer from the registry itself for service "test registry"`) {
		t.Errorf("auth = %+v, %v", f, err)
	}
	if text := fmt.Sprintf("%+v", p); strings.Contains(text, "planted-") {
		t.Errorf("a secret is in the profile: %s", text)
	}
}

// Registries that never end, never answer, or answer everything with rubbish, cost little.
func TestHostile(t *testing.T) {
	pinged := func(h http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				h(w, r)
			}
		})
	}
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		fail bool
	}{
		"reset": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, true},
		"hang":  {func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }, true},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, true},
		"rubbish": {func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Location", "Range", "Docker-Content-Digest", "Content-Type", "Oci-Subject", "Oci-Tag", "Link", "Warning", "Content-Range"} {
				w.Header().Set(name, "\x9b31m"+strings.Repeat("\u202e", 300)+`"://x`)
			}
			w.WriteHeader(201)
			io.WriteString(w, `{"errors":[{"code":"\u001b[31m","message":"\n"}],"tags":[null,7]}`)
		}, false},
		"HTML":       {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>log in</html>") }, false},
		"429 always": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) }, false},
		"elsewhere":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://169.254.169.254/", 307) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(pinged(c.h))
			t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
			client := newClient(t, strings.TrimPrefix(s.URL, "http://"), func(o *registry.Options) {
				o.Retry = 0
				if c.fail { // Those that answer get their time.
					o.Timeout = 200 * time.Millisecond
				}
			})
			p, err := probe.Run(t.Context(), client, "app/x", "", probe.Options{Sleep: noSleep})
			if (err != nil) != c.fail {
				t.Errorf("Run() = %v", err)
			}
			if n, _ := client.Stats(); n > 400 {
				t.Errorf("%d requests", n)
			}
			for _, f := range p.Findings {
				if len(f.Got) > 4000 || strings.ContainsAny(f.Got, "\x1b\n\u202e\u009b") {
					t.Errorf("%s: %d bytes of text: %.300q", f.ID, len(f.Got), f.Got)
				}
			}
		})
	}
}

// An interrupt gives the open sessions back.
func TestInterrupt(t *testing.T) {
	reg := servetest.NewQuirky(t)
	ctx, cancel := context.WithCancel(t.Context())
	h := servetest.BreakIf(1, func(r *http.Request) bool { return r.Method == "PATCH" }, func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}, reg)
	_, err := probe.Run(ctx, newClient(t, servetest.Serve(t, h)), "app/x", "", probe.Options{Sleep: noSleep})
	if !errors.Is(err, context.Canceled) || reg.Uploads() > 0 {
		t.Errorf("Run() = %v, %d uploads are open", err, reg.Uploads())
	}
}

func TestOnly(t *testing.T) {
	if _, err := probe.List(probe.Options{Only: []string{"potato"}}); err == nil {
		t.Error("an unknown probe is not an error")
	}
	rows, err := probe.List(probe.Options{Only: []string{"manifest-tag"}})
	var ids []string
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	if got := strings.Join(ids, " "); err != nil || got != "ping start put manifest manifest-tag" {
		t.Errorf("List() = %s, %v", got, err)
	}
}

// The blob without bytes is the same for everybody. One that was there before stays.
func TestEmptyBlobStays(t *testing.T) {
	reg := servetest.NewQuirky(t)
	empty := reg.PutBlob("app/x", nil)
	c := newClient(t, servetest.Serve(t, reg))
	p, err := probe.Run(t.Context(), c, "app/x", "", probe.Options{Sleep: noSleep})
	if err != nil || find(p, "put-empty").Level != probe.OK {
		t.Errorf("put-empty = %+v, %v", find(p, "put-empty"), err)
	}
	if _, err := c.HeadBlob(t.Context(), "app/x", empty); err != nil {
		t.Error(err)
	}
}

// A registry that stops to answer is not asked to take back every upload that is open.
func TestGoneRegistry(t *testing.T) {
	var requests, open atomic.Int32
	reg := servetest.NewQuirky(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if open.Load() >= 8 {
			requests.Add(1)
			panic(http.ErrAbortHandler)
		}
		if r.Method == http.MethodPost {
			open.Add(1)
		}
		reg.ServeHTTP(w, r)
	})
	c := newClient(t, servetest.Serve(t, h), func(o *registry.Options) { o.Retry = 0 })
	p, err := probe.Run(t.Context(), c, "app/x", "", probe.Options{Sleep: noSleep})
	if err == nil || requests.Load() > 8 || len(p.Left) == 0 {
		t.Errorf("Run() = %v, %d requests in vain, left %q", err, requests.Load(), p.Left)
	}
}

// The commonest reason why a push fails behind a proxy is that it takes no body over 1 MiB. The
// limit is found with a few bytes, and what passes is advised. nginx counts the length that a
// request claims; a session per question is all that it costs.
func TestBodyLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{64 << 10, 1 << 20, 10 << 20, 99<<20 + 5} {
		s := servetest.New(t, serve.Options{})
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > limit {
				w.Header().Set("Server", "nginx/1.22.1")
				http.Error(w, "<html>413 Request Entity Too Large</html>", http.StatusRequestEntityTooLarge)
				return
			}
			s.ServeHTTP(w, r)
		})
		p, err := run(t, h, probe.Options{Only: []string{"body-limit", "chunk", "put-tail"}})
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("up to %dKiB pass", limit>>16<<6)
		if limit>>16<<16%(1<<20) == 0 {
			want = fmt.Sprintf("up to %dMiB pass", limit>>20)
		}
		if f := find(p, "body-limit"); f.Level != probe.Note || !strings.Contains(f.Got, want) || !strings.Contains(f.Got, "nginx") {
			t.Errorf("limit %d: %+v, want %q", limit, f, want)
		}
		if advice := "--chunk-size " + strings.Fields(want)[2]; !strings.Contains(strings.Join(p.Push, "\n"), advice) {
			t.Errorf("limit %d: push %q, want %q", limit, p.Push, advice)
		}
		if p.Sent > 100<<10 || p.Requests > 80 {
			t.Errorf("limit %d: %d bytes in %d requests", limit, p.Sent, p.Requests)
		}
	}
	p, err := run(t, servetest.New(t, serve.Options{}), probe.Options{Only: []string{"body-limit"}})
	if f := find(p, "body-limit"); err != nil || f.Level != probe.OK {
		t.Errorf("no limit: %+v, %v", f, err)
	}
}

// A manifest that was refused is one finding. It is not looked for as well.
func TestRefusedManifest(t *testing.T) {
	t.Parallel()
	p, err := run(t, servetest.New(t, serve.Options{Faults: []string{"manifest-413"}}), probe.Options{Only: []string{"manifest", "get"}})
	if err != nil {
		t.Fatal(err)
	}
	if put, get := find(p, "manifest"), find(p, "get"); put.Level != probe.Violation || get.Level != probe.Skipped {
		t.Errorf("PUT is %s: %s; GET is %s: %s", put.Level, put.Got, get.Level, get.Got)
	}
}
