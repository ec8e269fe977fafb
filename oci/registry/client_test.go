package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/servetest"
)

const secret = "planted-secret"

// A rig is a client with everything it says: notices, traces, curl lines, waits.
type rig struct {
	*registry.Client
	mu    sync.Mutex
	out   bytes.Buffer
	waits []time.Duration
}

func newRig(t testing.TB, host string, change ...func(*registry.Options)) *rig {
	t.Helper()
	r := &rig{}
	write := func(s string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.out.WriteString(s + "\n")
	}
	jsonLine, text := registry.TraceJSON(writer(write)), registry.TraceText(writer(write))
	o := registry.Options{
		PlainHTTP: true, Retry: 3, Curl: writer(write), Notice: func(s string) { write("notice: " + s) }, Detail: write,
		Trace: func(e registry.Event) { jsonLine(e); text(e) },
		Sleep: func(ctx context.Context, d time.Duration) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.waits = append(r.waits, d)
			return ctx.Err()
		},
	}
	for _, f := range change {
		f(&o)
	}
	r.Client = servetest.Client(t, host, o)
	return r
}

type writer func(string)

func (w writer) Write(p []byte) (int, error) { w(string(p)); return len(p), nil }

func (r *rig) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

func login(o *registry.Options) { o.Username, o.Password = "me", secret }

// retryable reports what the command line makes of an error.
func status(err error) int {
	var re interface{ Retryable() bool }
	switch {
	case err == nil:
		return 0
	case errors.Is(err, registry.ErrDenied):
		return 5
	case errors.Is(err, registry.ErrNotFound):
		return 4
	case errors.As(err, &re) && re.Retryable():
		return 3
	}
	return 1
}

func image(reg interface {
	PutBlob(repo string, data []byte) digest.Digest
	PutManifest(repo, tag, mediaType string, data []byte) digest.Digest
}, repo, tag string, layer []byte) (manifest, blob oci.Descriptor) {
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	reg.PutBlob(repo, config)
	reg.PutBlob(repo, layer)
	blob = oci.Describe(oci.MediaTypeLayerGzip, layer)
	data, _ := oci.Encode(oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: oci.Describe(oci.MediaTypeConfig, config), Layers: []oci.Descriptor{blob}})
	reg.PutManifest(repo, tag, oci.MediaTypeManifest, data)
	return oci.Describe(oci.MediaTypeManifest, data), blob
}

func readBlob(t testing.TB, c *rig, repo string, desc oci.Descriptor) ([]byte, error) {
	t.Helper()
	r, err := c.OpenBlob(t.Context(), repo, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		answer int
		body   string
		want   int
	}{
		{200, "{}", 0}, {400, "", 1}, {401, "", 5}, {403, "", 5}, {404, "", 4}, {405, "", 1}, {408, "", 3}, {413, "", 1}, {429, "", 3},
		{500, "", 3}, {502, "<html>", 3}, {503, "", 3}, {501, "", 3}, {400, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, 4},
	} {
		c2 := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, servetest.Answer(c.answer, c.body), nil)))
		_, err := c2.Ping(t.Context())
		if got := status(err); got != c.want {
			t.Errorf("answer %d %q: status %d (%v), want %d", c.answer, c.body, got, err, c.want)
		}
	}
	_, err := newRig(t, "127.0.0.1:1").Ping(t.Context())
	if status(err) != 3 {
		t.Errorf("refused connection: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newRig(t, "localhost:1").Ping(ctx); !errors.Is(err, context.Canceled) || status(err) == 3 {
		t.Errorf("cancelled: %v", err)
	}
}

// F33, R51
func TestRetries(t *testing.T) {
	now := time.Unix(1.8e9, 0)
	clock := func(o *registry.Options) { o.Now = func() time.Time { return now } }
	for _, c := range []struct {
		header []string
		want   time.Duration
	}{
		{[]string{"Retry-After", "1"}, time.Second},
		{[]string{"Retry-After", "0"}, 0},
		{[]string{"Ratelimit-Reset", "2"}, 2 * time.Second},
		{[]string{"Retry-After", fmt.Sprint(now.Add(30 * time.Second).Unix())}, 30 * time.Second},
		{[]string{"Retry-After", now.Add(30 * time.Second).UTC().Format(http.TimeFormat)}, 30 * time.Second},
	} {
		h := servetest.BreakIf(1, func(*http.Request) bool { return true }, servetest.Answer(429, "", c.header...), servetest.NewQuirky(t))
		r := newRig(t, servetest.Serve(t, h), clock)
		if _, err := r.Ping(t.Context()); err != nil {
			t.Errorf("%v: %v", c.header, err)
		}
		if len(r.waits) == 0 || c.want > 0 && r.waits[0] != c.want {
			t.Errorf("%v: waited %v, want %s", c.header, r.waits, c.want)
		}
	}
	r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, servetest.Answer(503, "", "Retry-After", "3600"), nil)))
	_, err := r.Ping(t.Context())
	var se *registry.StatusError
	if !errors.As(err, &se) || len(r.waits) > 0 || se.RetryAfter < 30*time.Minute {
		t.Errorf("an hour: %v, waited %v", err, r.waits)
	}
}

// F49: error bodies of every kind end up short, quoted, harmless.
func TestErrorBodies(t *testing.T) {
	for _, body := range []string{
		"", "<html>\n<h1>x</h1>", `{"errors":`, "\x1b[31m\x9b31m\u202eevil\x00\xff\xfe\r\nok: pushed", strings.Repeat("a", 10<<20),
		`{"errors":[{"code":"\u001b[2J","message":"\u001b]0;x\u0007\nforged","detail":{"a":"\u009b"}}]}`,
		`{"errors":"none"}`, `{"errors":[null]}`, `[]`, "\xef\xbb\xbf{}",
	} {
		r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, servetest.Answer(400, body, "X-Request-Id", "id\t7", "Server", "proxy/1"), nil)))
		_, err := r.Ping(t.Context())
		text := fmt.Sprint(err) + r.said()
		if err == nil || len(err.Error()) > 2000 {
			t.Errorf("body %.40q: %d bytes of error", body, len(fmt.Sprint(err)))
		}
		for _, bad := range []string{"\x1b", "\x9b", "\u202e", "\x00", "\u009b", "\xff"} {
			if strings.Contains(text, bad) {
				t.Errorf("body %.40q: raw %q comes out", body, bad)
			}
		}
	}
}

// F50
func TestWarnings(t *testing.T) {
	h := servetest.Rewrite(func(s int, h http.Header) int {
		for range 100 {
			h.Add("Warning", `299 - "old \"name\" \u001b[31m"`)
		}
		h.Add("Warning", `199 x "other"`)
		h.Add("Warning", `299 - no quotes`)
		return s
	})
	r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, h, servetest.NewQuirky(t))), func(o *registry.Options) { o.Trace, o.Curl = nil, nil })
	for range 3 {
		r.Ping(t.Context())
	}
	if n := strings.Count(r.said(), "warns"); n != 1 || strings.Contains(r.said(), "\x1b") {
		t.Errorf("%d warnings: %q", n, r.said())
	}
}

// F37, F38, F39, F48, and the rows about pulling of the bad inputs.
func TestOpenBlob(t *testing.T) {
	layer := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	isBlob := func(r *http.Request) bool { return r.Method == "GET" && strings.Contains(r.URL.Path, "/blobs/") }
	swap := func(data []byte) servetest.Fault {
		return func(_ http.Handler, w http.ResponseWriter, r *http.Request) { w.Write(data) }
	}
	other := append([]byte(nil), layer...)
	other[777] ^= 1
	for _, c := range []struct {
		name  string
		fault servetest.Fault
		times int
		set   func(*servetest.Quirky)
		wait  time.Duration // for a byte; 0: longer than any machine takes
		ok    bool
		is    error
	}{
		{name: "whole", ok: true},
		{name: "reset", fault: servetest.Reset, times: 2, ok: true},
		{name: "cut once", fault: servetest.CutAnswer(50_000), times: 1, ok: true},
		{name: "cut three times", fault: servetest.CutAnswer(30_000), times: 3, ok: true},
		{name: "cut at the start", fault: servetest.CutAnswer(0), times: 2, ok: true},
		{name: "cut, ranges ignored", fault: servetest.CutAnswer(50_000), times: 1, set: func(g *servetest.Quirky) { g.NoRanges = true }, ok: true},
		{name: "cut half way, always", fault: cutHalf, times: 1000, set: func(g *servetest.Quirky) { g.NoRanges = true }},
		{name: "503 twice", fault: servetest.Answer(503, "", "Retry-After", "0"), times: 2, ok: true},
		{name: "labelled gzip", fault: servetest.Rewrite(func(s int, h http.Header) int { h.Set("Content-Encoding", "gzip"); return s }), times: 1, ok: true},
		{name: "one byte differs", fault: swap(other), times: 9, is: digest.ErrMismatch},
		{name: "longer", fault: swap(append(other, 'x')), times: 9, is: digest.ErrMismatch},
		{name: "shorter", fault: swap(layer[:100]), times: 9, is: digest.ErrMismatch},
		{name: "empty", fault: servetest.Answer(200, "", "Content-Length", "0"), times: 9, is: digest.ErrMismatch},
		{name: "206 for no range", fault: servetest.Answer(206, "half", "Content-Range", "bytes 0-3/8"), times: 9, is: registry.ErrProtocol},
		{name: "403 of expired storage", fault: sequence(servetest.CutAnswer(9000), servetest.Answer(403, "expired")), times: 2},
		{name: "endless", fault: endless, times: 9, is: digest.ErrMismatch},
		{name: "stalled", fault: servetest.Hang, times: 1, wait: time.Second, ok: true},
		{name: "no digest header", set: func(g *servetest.Quirky) { g.NoDigestHeader = true }, ok: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reg := servetest.NewQuirky(t)
			_, blob := image(reg, "app", "v1", layer)
			if c.set != nil {
				c.set(reg)
			}
			var h http.Handler = reg
			if c.fault != nil {
				h = servetest.BreakIf(c.times, isBlob, c.fault, reg)
			}
			r := newRig(t, servetest.Serve(t, h), func(o *registry.Options) { o.Timeout = c.wait })
			got, err := readBlob(t, r, "app", blob)
			if c.ok && (err != nil || !bytes.Equal(got, layer)) {
				t.Errorf("OpenBlob() = %d bytes, %v", len(got), err)
			}
			if !c.ok && (err == nil || c.is != nil && !errors.Is(err, c.is)) {
				t.Errorf("OpenBlob() = %d bytes, %v, want %v", len(got), err, c.is)
			}
		})
	}
}

func cutHalf(h http.Handler, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "160000")
	w.Write(make([]byte, 100))
	panic(http.ErrAbortHandler)
}

func endless(_ http.Handler, w http.ResponseWriter, r *http.Request) {
	buf := make([]byte, 64<<10)
	for r.Context().Err() == nil && r.Method != http.MethodHead {
		if _, err := w.Write(buf); err != nil {
			return
		}
	}
}

// sequence uses one fault after the other.
func sequence(faults ...servetest.Fault) servetest.Fault {
	n := 0
	return func(h http.Handler, w http.ResponseWriter, r *http.Request) {
		f := faults[min(n, len(faults)-1)]
		n++
		f(h, w, r)
	}
}

// F40, and the rows about manifests of the bad inputs.
func TestGetManifest(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault servetest.Fault
		set   func(*servetest.Quirky)
		ok    bool
	}{
		{name: "plain", ok: true},
		{name: "charset", fault: header("Content-Type", oci.MediaTypeManifest+"; charset=utf-8"), ok: true},
		{name: "no digest header", set: func(g *servetest.Quirky) { g.NoDigestHeader = true }, ok: true},
		{name: "no HEAD", set: func(g *servetest.Quirky) { g.NoHead = true }, ok: true},
		{name: "503 twice", fault: sequence(servetest.Answer(503, "", "Retry-After", "0"), servetest.Answer(503, "", "Retry-After", "0"), pass), ok: true},
		{name: "type of an index", fault: header("Content-Type", oci.MediaTypeIndex)},
		{name: "wrong digest header", fault: header("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))},
		{name: "captive portal", fault: servetest.Answer(200, "<html>log in</html>", "Content-Type", "text/html")},
		{name: "64 MiB", fault: servetest.Answer(200, strings.Repeat(" ", 64<<20), "Content-Type", oci.MediaTypeManifest)},
		{name: "endless", fault: endless},
		{name: "other JSON", fault: servetest.Answer(200, `{"schemaVersion":2}`, "Content-Type", "application/json")},
		{name: "cut", fault: servetest.CutAnswer(10)},
		{name: "302 to itself", fault: func(_ http.Handler, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), 307) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reg := servetest.NewQuirky(t)
			want, _ := image(reg, "app", "v1", []byte("layer"))
			if c.set != nil {
				c.set(reg)
			}
			var h http.Handler = reg
			if c.fault != nil {
				h = servetest.BreakFrom(1, c.fault, reg)
			}
			r := newRig(t, servetest.Serve(t, h))
			desc, data, err := r.GetManifest(t.Context(), "app", "v1")
			if c.ok && (err != nil || desc.Digest != want.Digest || desc.MediaType != want.MediaType || digest.FromBytes(data) != want.Digest) {
				t.Errorf("GetManifest() = %+v, %v", desc, err)
			}
			if !c.ok && err == nil {
				t.Errorf("GetManifest() = %+v, want an error", desc)
			}
			if desc, err := r.HeadManifest(t.Context(), "app", "v1"); c.ok && (err != nil || desc.Digest != want.Digest || desc.Size != want.Size) {
				t.Errorf("HeadManifest() = %+v, %v", desc, err)
			}
		})
	}
}

func pass(h http.Handler, w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }

func header(name, value string) servetest.Fault {
	return servetest.Rewrite(func(s int, h http.Header) int { h.Set(name, value); return s })
}

func TestGetManifestByDigest(t *testing.T) {
	reg := servetest.NewQuirky(t)
	a, _ := image(reg, "app", "a", []byte("a"))
	image(reg, "app", "b", []byte("b"))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/v2/app/manifests/b" // whatever is asked for
		reg.ServeHTTP(w, r)
	})
	_, _, err := newRig(t, servetest.Serve(t, h)).GetManifest(t.Context(), "app", a.Digest.String())
	if !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("another manifest: %v", err)
	}
	_, err = newRig(t, servetest.Serve(t, h)).HeadManifest(t.Context(), "app", a.Digest.String())
	if !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("HEAD of another manifest: %v", err)
	}
}

// F57
func TestTags(t *testing.T) {
	reg := servetest.NewQuirky(t)
	for i := range 25 {
		reg.PutManifest("app", fmt.Sprintf("v%02d", i), oci.MediaTypeManifest, []byte("{}"))
	}
	host := servetest.Serve(t, reg)
	n := 0
	for tag, err := range newRig(t, host).Tags(t.Context(), "app", 7) {
		if err != nil || tag != fmt.Sprintf("v%02d", n) {
			t.Errorf("tag %d = %q, %v", n, tag, err)
		}
		n++
	}
	if n != 25 {
		t.Errorf("%d tags, want 25", n)
	}
	for range newRig(t, host).Tags(t.Context(), "app", 7) {
		break
	}
	page := 0
	for name, link := range map[string]func(r *http.Request) string{
		"itself":       func(r *http.Request) string { return r.URL.String() },
		"endless":      func(r *http.Request) string { page++; return fmt.Sprintf("/v2/app/tags/list?last=%d", page) },
		"another host": func(r *http.Request) string { return "http://127.0.0.2:1/v2/app/tags/list" },
		"other scheme": func(r *http.Request) string { return "https://" + r.Host + "/v2/app/tags/list" },
		"credentials":  func(r *http.Request) string { return "http://x:y@" + r.Host + "/v2/app/tags/list?n=1" },
	} {
		c := newRig(t, servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<"+link(r)+`>; rel="next"`)
			io.WriteString(w, `{"tags":["a"]}`)
		})), func(o *registry.Options) { o.Trace, o.Curl = nil, nil })
		var last error
		count := 0
		for _, err := range c.Tags(t.Context(), "app", 0) {
			last = err
			count++
		}
		if last == nil || count > 1001 {
			t.Errorf("Link to %s: %d tags, %v", name, count, last)
		}
	}
}

// Verdicts of a trace cite the endpoint of the distribution-spec, and times are kept.
func TestVerdicts(t *testing.T) {
	odd := func(change func(h http.Header)) servetest.Fault {
		return servetest.Rewrite(func(s int, h http.Header) int { change(h); return s })
	}
	for _, c := range []struct {
		method string
		fault  servetest.Fault
		want   string
	}{
		{"POST", nil, "end-4a ok: 202 Accepted"},
		{"POST", servetest.Rewrite(func(_ int, h http.Header) int { return 201 }), "end-4a violation: status 201, want 202"},
		{"POST", odd(func(h http.Header) { h.Del("Location") }), "end-4a violation: no Location"},
		{"PATCH", nil, "end-5 ok: Range is right"},
		{"PATCH", servetest.Rewrite(func(int, http.Header) int { return 204 }), "end-5 violation: status 204, want 202"},
		{"PATCH", odd(func(h http.Header) { h.Set("Range", "0-9") }), `end-5 violation: Range "0-9", want 0-4`},
		{"GET", nil, "end-13 ok: 204 No Content"},
		{"PUT", nil, "end-6 ok: Docker-Content-Digest is right"},
		{"PUT", odd(func(h http.Header) { h.Del("Location") }), "end-6 violation: no Location"},
		{"HEAD", nil, "end-2 ok: 200 OK"},
		{"DELETE", nil, "end-10 ok: 202 Accepted"},
	} {
		var h http.Handler = servetest.NewQuirky(t)
		if c.fault != nil {
			h = servetest.BreakIf(1, func(r *http.Request) bool { return r.Method == c.method }, c.fault, h)
		}
		var verdicts []string
		r := newRig(t, servetest.Serve(t, h), func(o *registry.Options) {
			o.Trace = func(e registry.Event) {
				if e.Timing.Total <= 0 || e.Time.IsZero() {
					t.Errorf("%s: no times: %+v", c.method, e)
				}
				for _, v := range e.Verdicts {
					verdicts = append(verdicts, fmt.Sprintf("%s %s: %s", v.Spec, v.Level, v.Text))
				}
			}
		})
		data := []byte("hello")
		d := digest.FromBytes(data)
		if up, err := r.StartUpload(t.Context(), "app", ""); err == nil {
			r.PatchUpload(t.Context(), &up, registry.Body{Reader: bytes.NewReader(data), Size: 5})
			r.UploadStatus(t.Context(), &up)
			r.PutUpload(t.Context(), &up, d, registry.Body{})
			r.HeadBlob(t.Context(), "app", d)
			r.DeleteBlob(t.Context(), "app", d)
		}
		if !slices.Contains(verdicts, c.want) {
			t.Errorf("%s: verdicts %q, want %q", c.method, verdicts, c.want)
		}
	}
}

// R42: a manifest that is too large for the registry is told from a blob that is.
func TestManifestTooLarge(t *testing.T) {
	for _, fault := range []servetest.Fault{
		servetest.Answer(413, "<html>413</html>"),
		servetest.Answer(400, `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":"http: request body too large"}]}`),
	} {
		r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, fault, nil)))
		_, err := r.PutManifest(t.Context(), "app", "v1", oci.MediaTypeManifest, []byte(`{"a":1}`))
		var se *registry.StatusError
		if !errors.As(err, &se) || !se.TooLarge() || !strings.Contains(err.Error(), "manifest of 7 bytes") {
			t.Errorf("PutManifest() = %v", err)
		}
	}
}

// R61: who refuses again and again gets one request at a time.
func TestStrainedRegistry(t *testing.T) {
	var mu sync.Mutex
	count, now, most := 0, 0, 0
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		count++
		refuse := count <= 6
		if now++; !refuse {
			most = max(most, now)
		}
		mu.Unlock()
		if !refuse {
			time.Sleep(2 * time.Millisecond) // long enough for others to come in between
		}
		mu.Lock()
		now--
		mu.Unlock()
		if refuse {
			w.WriteHeader(429)
		}
	})
	r := newRig(t, servetest.Serve(t, h), func(o *registry.Options) { o.Retry = 10 })
	for range 3 {
		r.HeadBlob(t.Context(), "app", digest.FromBytes(nil))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := r.HeadBlob(t.Context(), "app", digest.FromBytes(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d requests at once", most)
	}
}

// F46: the list under the fallback tag, which others write too.
func TestFallbackTagRaces(t *testing.T) {
	subject := digest.FromBytes([]byte("subject"))
	ours, theirs := oci.Describe(oci.MediaTypeManifest, []byte("ours")), oci.Describe(oci.MediaTypeManifest, []byte("theirs"))
	tag := graph.FallbackTag(subject)
	write := func(reg *servetest.Quirky, list ...oci.Descriptor) {
		data, _ := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: list})
		reg.PutManifest("app", tag, oci.MediaTypeIndex, data)
	}
	isPut := func(r *http.Request) bool { return r.Method == "PUT" }
	for name, c := range map[string]struct {
		fault servetest.Fault // of PUT
		pause bool            // the other writer comes after our PUT
		list  []oci.Descriptor
	}{
		"alone":                       {pass, false, nil},
		"a list is there":             {pass, false, []oci.Descriptor{theirs}},
		"others write while we pause": {pass, true, []oci.Descriptor{theirs}},
		"If-Match is never true":      {nil, false, []oci.Descriptor{theirs}},
	} {
		reg := servetest.NewQuirky(t)
		for _, d := range []string{"ours", "theirs"} {
			reg.PutManifest("app", "", oci.MediaTypeManifest, []byte(d))
		}
		reg.NoReferrers = 404
		if c.list != nil {
			write(reg, c.list...)
		}
		if c.fault == nil {
			c.fault = func(h http.Handler, w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-Match") != "" {
					w.WriteHeader(412)
					return
				}
				h.ServeHTTP(w, r)
			}
		}
		r := newRig(t, servetest.Serve(t, servetest.BreakIf(9, isPut, c.fault, reg)), func(o *registry.Options) {
			once := c.pause
			o.Sleep = func(context.Context, time.Duration) error {
				if once {
					once = false
					write(reg, theirs)
				}
				return nil
			}
		})
		if added, err := r.AddReferrer(t.Context(), "app", subject, ours); err != nil || !added {
			t.Errorf("%s: AddReferrer() = %t, %v", name, added, err)
		}
		list, err := r.Referrers(t.Context(), "app", subject, "")
		if err != nil || len(list.Descriptors) != 1+len(c.list) {
			t.Errorf("%s: Referrers() = %+v, %v", name, list.Descriptors, err)
		}
	}
}

// F34, F36: where redirects of reads may lead.
func TestRedirectsOfReads(t *testing.T) {
	reg := servetest.NewQuirky(t)
	_, blob := image(reg, "app", "v1", []byte("layer"))
	var leaked []string
	storage := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			leaked = append(leaked, a)
			w.WriteHeader(400)
			return
		}
		reg.ServeHTTP(w, r)
	}))
	hops := 0
	for _, c := range []struct {
		name string
		to   func(r *http.Request) string
		ok   bool
	}{
		{"another origin", func(r *http.Request) string { return "http://" + storage + r.URL.Path }, true},
		{"the same origin", func(r *http.Request) string { return r.URL.Path + "?direct" }, true},
		{"itself", func(r *http.Request) string { return r.URL.String() }, false},
		{"hop after hop", func(r *http.Request) string { hops++; return fmt.Sprintf("%s?hop=%d", r.URL.Path, hops) }, false},
		{"user information", func(r *http.Request) string { return "http://a:b@" + storage + r.URL.Path }, false},
		{"a file", func(r *http.Request) string { return "file:///etc/passwd" }, false},
		{"metadata", func(r *http.Request) string { return "http://169.254.169.254/latest" }, false},
		{"the unspecified address", func(r *http.Request) string { return "http://0.0.0.0:1/" }, false},
	} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "me" || password != secret {
				w.Header().Set("Www-Authenticate", `Basic realm="x"`)
				w.WriteHeader(401)
			} else if r.URL.RawQuery == "direct" {
				reg.ServeHTTP(w, r)
			} else {
				w.Header().Set("Location", c.to(r))
				w.WriteHeader(307)
			}
		})
		r := newRig(t, servetest.Serve(t, h), login, func(o *registry.Options) { o.Retry = 0 })
		data, err := readBlob(t, r, "app", blob)
		if c.ok != (err == nil) || c.ok && string(data) != "layer" {
			t.Errorf("redirect to %s: %q, %v", c.name, data, err)
		}
		if n, _ := r.Stats(); n > 10 {
			t.Errorf("redirect to %s: %d requests", c.name, n)
		}
	}
	if len(leaked) > 0 {
		t.Errorf("credentials went to the storage: %d times", len(leaked))
	}
}

// F35: redirects of writes.
func TestRedirectsOfWrites(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		reg := servetest.NewQuirky(t)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PUT" && r.URL.Query().Get("moved") == "" {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Location", r.URL.Path+"?moved=1&"+r.URL.RawQuery)
				w.WriteHeader(code)
				return
			}
			reg.ServeHTTP(w, r)
		})
		r := newRig(t, servetest.Serve(t, h))
		up, err := r.StartUpload(t.Context(), "app", "")
		if err != nil {
			t.Fatal(err)
		}
		data := []byte("hello")
		err = r.PutUpload(t.Context(), &up, digest.FromBytes(data), registry.Body{Reader: bytes.NewReader(data), Size: 5})
		if stored := reg.Has("app", digest.FromBytes(data)); (err == nil) != (code >= 307) || stored != (err == nil) {
			t.Errorf("PUT redirected with %d: %v, stored %t", code, err, stored)
		}
		if code < 307 && !errors.Is(err, registry.ErrUnsafe) {
			t.Errorf("PUT redirected with %d: %v", code, err)
		}
	}
}

// F25, R32
func TestPostBlob(t *testing.T) {
	data := []byte("hello")
	for _, single := range []bool{false, true} {
		reg := servetest.NewQuirky(t)
		reg.SinglePost = single
		r := newRig(t, servetest.Serve(t, reg))
		body := registry.Body{Reader: bytes.NewReader(data), Size: 5}
		done, up, err := r.PostBlob(t.Context(), "app", digest.FromBytes(data), body)
		if err != nil || done != single {
			t.Fatalf("PostBlob() = %t, %v", done, err)
		}
		if !done {
			body.Reader = bytes.NewReader(data)
			if err := r.PutUpload(t.Context(), &up, digest.FromBytes(data), body); err != nil {
				t.Fatal(err)
			}
		}
		if !reg.Has("app", digest.FromBytes(data)) {
			t.Errorf("single %t: not stored", single)
		}
	}
}

// F18, F32: a big body is not sent before it is wanted, and a registry that does not know
// how to say so gets it anyway.
func TestExpect(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 5<<20)
	send := func(h http.Handler, reg *servetest.Quirky) (*rig, error) {
		patient := func(o *registry.Options) { o.Timeout = time.Minute }
		r := newRig(t, servetest.Serve(t, h), login, patient)
		up, err := r.StartUpload(t.Context(), "app", "")
		if err != nil {
			return r, err
		}
		return r, r.PatchUpload(t.Context(), &up, registry.Body{Reader: bytes.NewReader(data), Size: int64(len(data))})
	}
	reg := servetest.NewQuirky(t)
	h := servetest.BreakIf(1, func(r *http.Request) bool { return r.Method == "PATCH" }, func(_ http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Expect") == "" {
			t.Error("no Expect")
		}
		w.Header().Set("Www-Authenticate", `Basic realm="x"`)
		w.WriteHeader(401)
	}, reg)
	r, err := send(h, reg)
	if err != nil {
		t.Errorf("401 before the body: %v", err)
	}
	if _, sent := r.Stats(); sent > int64(len(data)) {
		t.Errorf("401 before the body: %d bytes sent", sent)
	}
	h = servetest.BreakIf(1, func(r *http.Request) bool { return r.Header.Get("Expect") != "" }, servetest.Answer(417, ""), reg)
	if _, err = send(h, reg); err != nil {
		t.Errorf("417: %v", err)
	}
}

func TestSchemes(t *testing.T) {
	plain := httptest.NewServer(servetest.NewQuirky(t))
	defer plain.Close()
	tlsServer := httptest.NewTLSServer(servetest.NewQuirky(t))
	defer tlsServer.Close()
	tlsServer.Config.ErrorLog = nil
	unset := func(o *registry.Options) { o.PlainHTTP = false }
	r := newRig(t, strings.TrimPrefix(plain.URL, "http://"), unset)
	if _, err := r.Ping(t.Context()); err != nil || !strings.Contains(r.said(), "plain HTTP") {
		t.Errorf("plain server on loopback: %v, said %s", err, r.said())
	}
	r = newRig(t, strings.Replace(plain.URL, "http://", "https://", 1), unset)
	if _, err := r.Ping(t.Context()); err == nil {
		t.Error("https:// fell back to http")
	}
	host := strings.TrimPrefix(tlsServer.URL, "https://")
	r = newRig(t, host, unset)
	var ce *registry.ConnError
	if _, err := r.Ping(t.Context()); !errors.As(err, &ce) || ce.Retryable() || ce.Stage != "TLS" || strings.Contains(r.said(), "plain HTTP") {
		t.Errorf("unknown authority: %v", err)
	}
	r = newRig(t, host)
	if _, err := r.Ping(t.Context()); err == nil {
		t.Error("plain HTTP to a TLS server")
	} else if se := new(registry.StatusError); errors.As(err, &se) && !se.WantsTLS() {
		t.Errorf("WantsTLS() of %v = false", se)
	}
	r = newRig(t, host, unset, func(o *registry.Options) { o.Insecure = true })
	if _, err := r.Ping(t.Context()); err != nil {
		t.Errorf("insecure: %v", err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	os.WriteFile(ca, pemOf(tlsServer.Certificate().Raw), 0o600)
	r = newRig(t, host, unset, func(o *registry.Options) { o.CAFile = ca })
	if _, err := r.Ping(t.Context()); err != nil {
		t.Errorf("CA file: %v", err)
	}
	home := t.TempDir()
	dir := filepath.Join(home, ".config", "containers", "certs.d", host)
	os.MkdirAll(dir, 0o700)
	os.WriteFile(filepath.Join(dir, "ca.crt"), pemOf(tlsServer.Certificate().Raw), 0o600)
	r = newRig(t, host, unset, func(o *registry.Options) { o.Home = home })
	if _, err := r.Ping(t.Context()); err != nil {
		t.Errorf("certs.d: %v", err)
	}
}

// F4: a Location that forgot about TLS is put right on the same host, refused elsewhere.
func TestLocationDowngrade(t *testing.T) {
	reg := servetest.NewQuirky(t)
	server := httptest.NewTLSServer(reg)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	for target, ok := range map[string]bool{host: true, "127.0.0.2:1": false} {
		reg.Location = func(_ *http.Request, p string) string { return "http://" + target + p }
		r := newRig(t, host, func(o *registry.Options) { o.PlainHTTP, o.Insecure = false, true })
		up, err := r.StartUpload(t.Context(), "app", "")
		if (err == nil) != ok || ok && !strings.HasPrefix(up.Location, "https://"+host) || !ok && !errors.Is(err, registry.ErrUnsafe) {
			t.Errorf("Location on %s: %q, %v", target, up.Location, err)
		}
	}
}

// F36: a redirect does not lead out of TLS, nor from a public registry to this machine.
func TestRedirectsToWorse(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/other", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	r := newRig(t, strings.TrimPrefix(server.URL, "https://"), func(o *registry.Options) { o.PlainHTTP, o.Insecure = false, true })
	if _, _, err := r.GetManifest(t.Context(), "app", "v1"); !errors.Is(err, registry.ErrUnsafe) {
		t.Errorf("redirect from https to http: %v", err)
	}
}

// A tag that leads to another repository is refused before it is asked for; what images share
// is asked for once.
func TestInventoryOfTags(t *testing.T) {
	shared := oci.Describe("application/x", []byte("shared"))
	manifest := func(n string) []byte {
		data, err := oci.Encode(oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x", Config: shared, Annotations: oci.AnnotationsOf(map[string]string{"n": n})})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	asked := map[string]int{}
	c := newRig(t, servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.Method+" "+r.URL.Path]++
		w.Header().Set("Content-Type", oci.MediaTypeManifest)
		switch r.URL.Path {
		case "/v2/app/manifests/a", "/v2/app/manifests/b":
			w.Write(manifest(r.URL.Path))
		case "/v2/app/blobs/" + shared.Digest.String():
			w.Header().Set("Content-Length", "6")
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})))
	names := func(list ...string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for _, n := range list {
				if !yield(n, nil) {
					return
				}
			}
		}
	}
	if got, err := c.Inventory(t.Context(), "app", names("a", "b", "a")); err != nil || len(got) != 3 {
		t.Errorf("Inventory = %+v, %v", got, err)
	}
	if n := asked["HEAD /v2/app/blobs/"+shared.Digest.String()]; n != 1 {
		t.Errorf("the shared blob was asked for %d times", n)
	}
	if got, err := c.Inventory(t.Context(), "app", names("gone", "a", "b")); !errors.Is(err, registry.ErrNotFound) || len(got) != 3 {
		t.Errorf("Inventory behind a tag that is gone = %+v, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := c.Inventory(ended, "app", names("")); !errors.Is(err, context.Canceled) {
		t.Errorf("Inventory behind an interrupt = %+v, %v", got, err)
	}
	for _, name := range []string{"../../other/manifests/a", "a/../b", "a\n", "", "x?y=z"} {
		clear(asked)
		if _, err := c.Inventory(t.Context(), "app", names(name)); !errors.Is(err, registry.ErrReference) || len(asked) > 0 {
			t.Errorf("Inventory of tag %q = %v, after %v", name, err, asked)
		}
	}
}

// A blob that no manifest names can be deleted, and is gone then.
func TestDeleteBlob(t *testing.T) {
	r := newRig(t, servetest.Serve(t, servetest.NewQuirky(t)))
	data := []byte("hello")
	d := digest.FromBytes(data)
	up, err := r.StartUpload(t.Context(), "app", "")
	if err == nil {
		err = r.PutUpload(t.Context(), &up, d, registry.Body{Reader: bytes.NewReader(data), Size: 5})
	}
	if err == nil {
		err = r.DeleteBlob(t.Context(), "app", d)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.HeadBlob(t.Context(), "app", d); err == nil {
		t.Error("the blob is still there")
	}
}

// A piecesReader notes how much it is asked for at a time.
type piecesReader struct {
	io.Reader
	most int
}

func (r *piecesReader) Read(p []byte) (int, error) {
	r.most = max(r.most, len(p))
	return r.Reader.Read(p)
}

// A body is not sent in the small pieces of the standard library, which cost a call and a packet each.
func TestBodiesGoInLargePieces(t *testing.T) {
	data := largeBlob(5 << 20)
	reg := servetest.New(t, serve.Options{})
	r := newRig(t, servetest.Serve(t, reg))
	up, err := r.StartUpload(t.Context(), "app", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	body := &piecesReader{Reader: bytes.NewReader(data)}
	d := digest.FromBytes(data)
	if err := r.PutUpload(t.Context(), &up, d, registry.Body{Reader: body, Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	if got, err := readBlob(t, r, "app", oci.Descriptor{Digest: d, Size: int64(len(data))}); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	if body.most < 256<<10 {
		t.Errorf("it was read %d bytes at a time", body.most)
	}
}
