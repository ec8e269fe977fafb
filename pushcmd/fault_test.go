package pushcmd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/pushcmd"
)

const blobSize = 3 << 20

// faults are those that may hit any request.
func faults() map[string]servetest.Fault {
	return map[string]servetest.Fault{
		"reset":        servetest.Reset,
		"cut-0":        servetest.CutBody(0),
		"cut-1":        servetest.CutBody(1),
		"cut-150000":   servetest.CutBody(150_000),
		"lost-answer":  servetest.LostAnswer,
		"late-500":     servetest.LateAnswer(500),
		"500":          servetest.Answer(500, ""),
		"502-html":     servetest.Answer(502, "<html>Bad Gateway</html>"),
		"503":          servetest.Answer(503, "", "Retry-After", "0"),
		"429":          servetest.Answer(429, "slow down", "Ratelimit-Reset", "1"),
		"401":          servetest.Answer(401, ""),
		"403":          servetest.Answer(403, `{"errors":[{"code":"DENIED"}]}`),
		"404":          servetest.Answer(404, ""),
		"400":          servetest.Answer(400, "\x1b[31mnot JSON"),
		"416":          servetest.Answer(416, ""),
		"no-location":  servetest.Rewrite(func(s int, h http.Header) int { h.Del("Location"); return s }),
		"bad-location": servetest.Rewrite(func(s int, h http.Header) int { h.Set("Location", "::"); return s }),
		"bad-range":    servetest.Rewrite(func(s int, h http.Header) int { h.Set("Range", "7-garbage"); return s }),
		"range-more":   servetest.Rewrite(func(s int, h http.Header) int { h.Set("Range", "0-999999999"); return s }),
		"range-less":   servetest.Rewrite(func(s int, h http.Header) int { h.Set("Range", "0-9"); return s }),
		"wrong-digest": servetest.Rewrite(func(s int, h http.Header) int {
			if h.Get("Docker-Content-Digest") != "" {
				h.Set("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))
			}
			return s
		}),
	}
}

// TestBreakEveryRequest breaks the first request of a push, then the second, until a push
// runs untouched. Success means stored; after a failure the next push works. Under -short each
// mode has other requests broken.
func TestBreakEveryRequest(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 300_000, 100)
	for name, fault := range faults() {
		for i, mode := range []pushcmd.Mode{pushcmd.ModeStream, pushcmd.ModePut, pushcmd.ModeChunk} {
			t.Run(name+"/"+string(mode), func(t *testing.T) {
				t.Parallel()
				o := pushcmd.Options{Mode: mode, ChunkSize: 100_000, Jobs: 1}
				first := digesttest.Reps(1, 1+i)
				for k, n := first, first; k <= n+1 && k < 60; k += digesttest.Reps(1, 7) {
					reg := servetest.NewQuirky(t)
					b := servetest.BreakAt(k, fault, reg)
					_, err := push(t, b, s, desc, o)
					var fired int
					if n, fired = b.Count(); fired == 0 && k <= n {
						t.Fatalf("request %d of %d was not broken", k, n)
					}
					if err == nil {
						checkPushed(t, reg, s, desc)
					} else if errors.Is(err, digest.ErrMismatch) && name != "wrong-digest" {
						t.Errorf("request %d broken: %v", k, err)
					}
					if strings.ContainsRune(fmt.Sprint(err), 0x1b) {
						t.Errorf("request %d broken: raw escape in %q", k, err)
					}
					if _, err := push(t, reg, s, desc, o); err != nil {
						t.Errorf("push after broken request %d: %v", k, err)
					}
					checkPushed(t, reg, s, desc)
				}
			})
		}
	}
}

// TestBreakFromRequest breaks a request and all that follow: the push must end, with the
// status that says try again.
func TestBreakFromRequest(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, blobSize)
	for name, fault := range map[string]servetest.Fault{"reset": servetest.Reset, "500": servetest.Answer(500, ""), "lost-answer": servetest.LostAnswer} {
		for k := 1; k < 9; k += digesttest.Reps(1, 3) {
			reg := servetest.NewQuirky(t)
			_, err := push(t, servetest.BreakFrom(k, fault, reg), s, desc, pushcmd.Options{Jobs: 1})
			var re interface{ Retryable() bool }
			if err == nil || !errors.As(err, &re) || !re.Retryable() {
				t.Errorf("%s from request %d on: Push() = %v, want an error to retry", name, k, err)
			}
			if _, err := push(t, reg, s, desc, pushcmd.Options{}); err != nil {
				t.Errorf("%s from request %d on: next push: %v", name, k, err)
			}
		}
	}
}

func isPatch(r *http.Request) bool { return r.Method == http.MethodPatch }
func isPut(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/uploads/")
}
func isUpload(r *http.Request) bool { return r.ContentLength > 0 && (isPatch(r) || isPut(r)) }
func isManifestPut(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/")
}

// A quirk is a registry that is odd in one way, and what a push must do there.
type quirk struct {
	name  string
	set   func(*servetest.Quirky)
	o     pushcmd.Options
	fault servetest.Fault          // spoils the first times requests that match
	match func(*http.Request) bool // nil: PATCH
	times int                      // 0: one
	taken int64                    // bytes the registry may keep at most; 0: blobSize
	wait  time.Duration            // of the client for a byte; 0: longer than any machine takes
	check func(*testing.T, *servetest.Quirky, pushcmd.Report)
}

func spell(format string) func(int64, int64) string {
	return func(_, end int64) string { return fmt.Sprintf(format, max(end-1, 0)) }
}

func quirks() []quirk {
	chunk := pushcmd.Options{Mode: pushcmd.ModeChunk, ChunkSize: 1 << 20}
	cut := servetest.CutBody(1_000_000)
	mounted := pushcmd.Options{MountFrom: []string{"base"}}
	noMount := func(status int) func(*servetest.Quirky) { return func(g *servetest.Quirky) { g.NoMount = status } }
	return []quirk{
		{name: "F1 absolute Location", set: func(g *servetest.Quirky) {
			g.Location = func(r *http.Request, p string) string { return "http://" + r.Host + p }
		}},
		{name: "F1 Location of two slashes", set: func(g *servetest.Quirky) {
			g.Location = func(r *http.Request, p string) string { return "//" + r.Host + p }
		}},
		{name: "F1 Location relative to the path", set: func(g *servetest.Quirky) {
			g.Location = func(r *http.Request, p string) string {
				if r.Method == http.MethodPost {
					return strings.TrimPrefix(p, "/v2/app/blobs/uploads/")
				}
				return "./" + p[strings.LastIndexByte(p, '/')+1:]
			}
		}, o: chunk},
		{name: "F1 query that looks like ours", set: func(g *servetest.Quirky) {
			g.Location = func(r *http.Request, p string) string { return p + "&a=b&digest-like=sha256%3Aab&x=%20+" }
		}, o: chunk},
		{name: "F5 PATCH 201", set: func(g *servetest.Quirky) { g.PatchStatus = 201 }},
		{name: "F5 PATCH 204", set: func(g *servetest.Quirky) { g.PatchStatus = 204 }, o: chunk},
		{name: "F5 PATCH 200", set: func(g *servetest.Quirky) { g.PatchStatus = 200 }, o: chunk},
		{name: "R16 PUT 204", set: func(g *servetest.Quirky) { g.PutStatus = 204 }},
		{name: "F6 no Range", set: func(g *servetest.Quirky) { g.Range = func(int64, int64) string { return "" } }, o: chunk},
		{name: "F6 bytes=0-n", set: func(g *servetest.Quirky) { g.Range = spell("bytes=0-%d") }, o: chunk},
		{name: "F6 0--1", set: func(g *servetest.Quirky) {
			g.Range = func(_, end int64) string { return fmt.Sprintf("0-%d", end-1) }
		}, o: chunk},
		{name: "F6 garbage", set: func(g *servetest.Quirky) { g.Range = spell("all of %d") }, o: chunk},
		{name: "F6 end is exclusive", set: func(g *servetest.Quirky) {
			g.Range = func(_, end int64) string { return fmt.Sprintf("0-%d", end) }
		}, o: chunk},
		{name: "F6 frozen after the first chunk", set: func(g *servetest.Quirky) {
			g.Range = func(_, end int64) string { return fmt.Sprintf("0-%d", min(end, 1<<20)-1) }
		}, o: chunk},
		{name: "F6 only the last body", set: func(g *servetest.Quirky) {
			g.Range = func(first, end int64) string { return fmt.Sprintf("0-%d", end-first-1) }
		}, o: chunk},
		{name: "F8 cut, session kept", fault: cut, check: resumed},
		{name: "F8 cut in chunks", fault: cut, o: chunk, check: resumed},
		{name: "F8 cut in PUT", fault: cut, o: pushcmd.Options{Mode: pushcmd.ModePut}, match: isPut, check: resumed},
		{name: "F8 cut five times", fault: servetest.CutBody(500_000), times: 5, check: resumed},
		{name: "F9 session gone", fault: cut, set: func(g *servetest.Quirky) { g.LoseSession = true }, check: sentTwice},
		{name: "F9 session gone five times", fault: servetest.CutBody(100_000), times: 5, match: isUpload, set: func(g *servetest.Quirky) { g.LoseSession = true }},
		{name: "F9 400 unknown", fault: cut, set: func(g *servetest.Quirky) { g.LoseSession, g.LostStatus = true, 400 }},
		{name: "F9 404 invalid", fault: cut, set: func(g *servetest.Quirky) { g.LoseSession, g.LostCode = true, "BLOB_UPLOAD_INVALID" }},
		{name: "F9 no status", fault: cut, set: func(g *servetest.Quirky) { g.NoStatus = true }, taken: 2 * blobSize},
		{name: "F10 less was kept", fault: cut, set: func(g *servetest.Quirky) { g.Granularity = 300_000 }, check: resumed},
		{name: "F11 claims more", fault: cut, set: func(g *servetest.Quirky) {
			n := 0
			g.Range = func(_, end int64) string {
				if n++; n == 3 {
					end += 2_000_000
				}
				return fmt.Sprintf("0-%d", max(end-1, 0))
			}
		}, taken: 2 * blobSize},
		{name: "F12 half was kept, 202", fault: half},
		{name: "F12 half was kept in chunks", fault: half, o: chunk},
		{name: "F13 500, nothing kept", fault: servetest.Answer(500, "")},
		{name: "F13 503 three times", fault: servetest.Answer(503, ""), times: 3},
		{name: "F14 500 after the commit", fault: servetest.LateAnswer(500), match: isPut},
		{name: "F15 commit without answer", fault: servetest.LostAnswer, match: isPut},
		{name: "F16 start without answer", fault: servetest.LostAnswer, match: func(r *http.Request) bool { return r.Method == "POST" }},
		{name: "PATCH without answer", fault: servetest.LostAnswer},
		{name: "F26 413", set: func(g *servetest.Quirky) { g.MaxBody = 1 << 20 }, check: mode(pushcmd.ModeChunk)},
		{name: "F26 413 in PUT", set: func(g *servetest.Quirky) { g.MaxBody = 1 << 20 }, o: pushcmd.Options{Mode: pushcmd.ModePut}, check: mode(pushcmd.ModeChunk)},
		{name: "F27 chunk too large", set: func(g *servetest.Quirky) { g.MaxChunk = 1 << 20 }, o: pushcmd.Options{Mode: pushcmd.ModeChunk, ChunkSize: 2 << 20}},
		{name: "F27 stream is not limited", set: func(g *servetest.Quirky) { g.MaxChunk = 1 << 20 }, check: mode(pushcmd.ModeStream)},
		{name: "F28 416 once", fault: servetest.Answer(416, ""), o: chunk},
		{name: "F29 chunk minimum", set: func(g *servetest.Quirky) { g.ChunkMin = 2 << 20 }, o: chunk},
		{name: "F29 chunk maximum", set: func(g *servetest.Quirky) { g.ChunkMax, g.MaxBody = 1<<20, 1<<20 }},
		{name: "F30 one stream", set: func(g *servetest.Quirky) { g.OneStream = true }, fault: cut, check: resumed},
		{name: "F30 PUT wants a range", set: func(g *servetest.Quirky) { g.PutRange = true }, o: chunk},
		{name: "R20 appends whatever comes", set: func(g *servetest.Quirky) { g.IgnoreRange = true }, fault: cut},
		{name: "R7 stable Location", set: func(g *servetest.Quirky) { g.StableLocation = true }, o: chunk},
		{name: "R28 no PATCH", set: func(g *servetest.Quirky) { g.NoPatch = true }, check: mode(pushcmd.ModePut)},
		{name: "R28 no PUT with a body", set: func(g *servetest.Quirky) { g.NoPut = true }, o: pushcmd.Options{Mode: pushcmd.ModePut}, check: mode(pushcmd.ModeStream)},
		{name: "R29 chunks without a tail in PUT", set: func(g *servetest.Quirky) { g.NoPut = true }, o: chunk, taken: 2 * blobSize},
		{name: "F42 blob unknown twice", fault: servetest.Answer(400, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`), match: isManifestPut, times: 2},
		{name: "F54 stale connection", fault: servetest.Reset, match: func(r *http.Request) bool { return r.Method == "HEAD" }, times: 2},
		{name: "F56 stalled PATCH", fault: servetest.Hang, taken: 2 * blobSize, wait: time.Second},
		{name: "F41 no digest header", set: func(g *servetest.Quirky) { g.NoDigestHeader = true }},
		{name: "HEAD is 405", set: func(g *servetest.Quirky) { g.NoHead = true }},
		{name: "F24 mount is 202", set: noMount(202), o: mounted},
		{name: "F24 mount is 400", set: noMount(400), o: mounted},
		{name: "F24 mount is 404", set: noMount(404), o: mounted},
		{name: "F24 mount is 405", set: noMount(405), o: mounted},
		{name: "F24 mount is 500", set: noMount(500), o: mounted},
		{name: "F23 mount scope is denied", set: func(g *servetest.Quirky) {
			g.Auth = &servetest.Auth{Bearer: true, Deny: "repository:base:"}
		}, o: mounted},
		{name: "F44 OCI-Tag is a list", fault: servetest.Rewrite(func(s int, h http.Header) int {
			h.Set("OCI-Tag", strings.Join(h["Oci-Tag"], ", "))
			return s
		}), match: isManifestPut, o: pushcmd.Options{Tags: []string{"v2"}}, check: func(t *testing.T, g *servetest.Quirky, _ pushcmd.Report) {
			puts := 0
			for _, q := range g.Requests() {
				if q.Method == "PUT" && strings.Contains(q.URL, "/manifests/") {
					puts++
				}
			}
			if g.Tag("app", "v2").IsZero() || puts != 1 {
				t.Errorf("%d requests for two tags", puts)
			}
		}},
		{name: "F44 no multi-tag", set: func(g *servetest.Quirky) { g.NoMultiTag = true }, o: pushcmd.Options{Tags: []string{"v2"}}, check: func(t *testing.T, g *servetest.Quirky, _ pushcmd.Report) {
			if g.Tag("app", "v2").IsZero() {
				t.Error("tag v2 is not set")
			}
		}},
	}
}

// half stores half of a body and says so with 202.
func half(h http.Handler, w http.ResponseWriter, r *http.Request) {
	keep(h, w, r, r.ContentLength/2)
}

// few stores a few bytes of a body and says so with 202.
func few(h http.Handler, w http.ResponseWriter, r *http.Request) {
	keep(h, w, r, min(r.ContentLength, 100))
}

// fewAndReset stores a few bytes of a body and breaks the connection.
func fewAndReset(h http.Handler, _ http.ResponseWriter, r *http.Request) {
	few(h, httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func keep(h http.Handler, w http.ResponseWriter, r *http.Request, n int64) {
	all, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(all[:n])))
	r.ContentLength = n
	if cr := r.Header.Get("Content-Range"); cr != "" {
		var a, b int64
		fmt.Sscanf(cr, "%d-%d", &a, &b)
		r.Header.Set("Content-Range", fmt.Sprintf("%d-%d", a, a+n-1))
	}
	h.ServeHTTP(w, r)
}

func resumed(t *testing.T, g *servetest.Quirky, r pushcmd.Report) {
	for _, s := range r.Steps {
		if s.Size == blobSize && s.Action != "resumed" {
			t.Errorf("the blob was %s (%s), want resumed", s.Action, s.Reason)
		}
	}
	starts := 0
	for _, q := range g.Requests() {
		if q.Method == "POST" {
			starts++
		}
	}
	if starts != 2 {
		t.Errorf("%d sessions, want 2: the upload was not resumed", starts)
	}
}

func sentTwice(t *testing.T, g *servetest.Quirky, r pushcmd.Report) {
	for _, s := range r.Steps {
		if s.Size == blobSize && s.Sent < blobSize+1_000_000 {
			t.Errorf("%d bytes sent, want the whole blob again", s.Sent)
		}
	}
}

func mode(want pushcmd.Mode) func(*testing.T, *servetest.Quirky, pushcmd.Report) {
	return func(t *testing.T, _ *servetest.Quirky, r pushcmd.Report) {
		for _, s := range r.Steps {
			if s.Size == blobSize && s.Mode != want {
				t.Errorf("mode %s, want %s", s.Mode, want)
			}
		}
	}
}

func TestQuirks(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, blobSize)
	for i, q := range quirks() {
		if i%digesttest.Reps(1, 4) != 0 {
			continue
		}
		t.Run(q.name, func(t *testing.T) {
			t.Parallel()
			reg := servetest.NewQuirky(t)
			if q.set != nil {
				q.set(reg)
			}
			var h http.Handler = reg
			if q.fault != nil {
				match := q.match
				if match == nil {
					match = isPatch
				}
				h = servetest.BreakIf(max(q.times, 1), match, q.fault, reg)
			}
			q.o.Jobs = 1
			if q.o.Mode == "" {
				q.o.Mode = pushcmd.ModeStream
			}
			report, err := push(t, h, s, desc, q.o, func(o *registry.Options) { o.Timeout = q.wait })
			if err != nil {
				t.Fatal(err)
			}
			checkPushed(t, reg, s, desc)
			if b, ok := h.(*servetest.Breaker); ok {
				if _, fired := b.Count(); fired == 0 {
					t.Error("the fault never fired")
				}
			}
			limit := max(q.taken, blobSize) + 1<<20
			if reg.LoseSession || reg.NoPut || reg.IgnoreRange {
				limit = 3 * blobSize
			}
			if got := reg.Taken(); got > limit {
				t.Errorf("the registry kept %d bytes, want at most %d", got, limit)
			}
			if q.check != nil {
				q.check(t, reg, report)
			}
		})
	}
}

// A user who is told of the limit can set it, and spares each push the body that is refused.
func TestTooLargeIsTold(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	desc := s.image(t, blobSize)
	reg := servetest.NewQuirky(t)
	reg.MaxBody = 1 << 20
	var notices []string
	o := pushcmd.Options{Mode: pushcmd.ModePut, Jobs: 1, Notice: func(text string) { notices = append(notices, text) }}
	if _, err := push(t, reg, s, desc, o); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(notices, "\n"); !strings.Contains(all, "takes no body of 3145728 bytes; using chunks of") {
		t.Errorf("notices %q", all)
	}
}

// TestPausesAfterCuts adds up what a push chooses to wait: next to nothing after the first
// broken connection, more after each that follows without progress.
func TestPausesAfterCuts(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, blobSize)
	for _, c := range []struct {
		name     string
		lose     bool // the registry forgets the upload
		cuts     int
		min, max time.Duration
	}{
		{"kept, once", false, 1, 0, 300 * time.Millisecond},
		{"kept, five times", false, 5, 0, 1500 * time.Millisecond}, // there is progress each time
		{"forgotten, once", true, 1, 0, 0},
		{"forgotten, five times", true, 5, time.Second, 10 * time.Second},
	} {
		reg := servetest.NewQuirky(t)
		reg.LoseSession = c.lose
		h := servetest.BreakIf(c.cuts, isUpload, servetest.CutBody(500_000), reg)
		var paused atomic.Int64
		o := pushcmd.Options{Mode: pushcmd.ModeStream, Jobs: 1, Sleep: func(_ context.Context, d time.Duration) error {
			paused.Add(int64(d))
			return nil
		}}
		client := newClient(t, servetest.Serve(t, h))
		if _, err := pushcmd.Push(t.Context(), client.Client, s, desc, repo, o); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := time.Duration(paused.Load()); d < c.min || d > c.max {
			t.Errorf("%s: paused for %s, want %s to %s", c.name, d, c.min, c.max)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	desc := s.image(t, blobSize)
	for _, c := range []struct {
		name  string
		set   func(*servetest.Quirky)
		fault servetest.Fault
		match func(*http.Request) bool
		is    error
		text  string
	}{
		{name: "F2 no Location", set: func(g *servetest.Quirky) { g.Location = func(*http.Request, string) string { return "" } }, is: registry.ErrProtocol, text: "no Location"},
		{name: "F29 absurd chunk minimum", set: func(g *servetest.Quirky) { g.ChunkMin = 1 << 40 }, is: registry.ErrProtocol, text: "OCI-Chunk-Min-Length"},
		{name: "403", fault: servetest.Answer(403, `{"errors":[{"code":"DENIED","message":"no"}]}`), match: isPatch, is: registry.ErrDenied, text: "DENIED"},
		{name: "F41 wrong digest", fault: servetest.Rewrite(func(s int, h http.Header) int {
			h.Set("Docker-Content-Digest", "sha256:"+strings.Repeat("b", 64))
			return s
		}), match: isManifestPut, is: digest.ErrMismatch},
		{name: "413 with an escape", fault: servetest.Answer(413, "\x1b[2Jtoo large"), match: isManifestPut, text: `\x1b[2Jtoo large`},
		{name: "405", fault: servetest.Answer(405, "", "Allow", "GET"), match: func(r *http.Request) bool { return r.Method == "POST" }, text: "405"},
		{name: "404 name unknown", fault: servetest.Answer(404, `{"errors":[{"code":"NAME_UNKNOWN"}]}`), match: func(r *http.Request) bool { return r.Method == "POST" }, is: registry.ErrNotFound},
	} {
		reg := servetest.NewQuirky(t)
		if c.set != nil {
			c.set(reg)
		}
		var h http.Handler = reg
		if c.fault != nil {
			h = servetest.BreakIf(1000, c.match, c.fault, reg)
		}
		_, err := push(t, h, s, desc, pushcmd.Options{Mode: pushcmd.ModeStream})
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: Push() = %v", c.name, err)
		}
		if !reg.Tag("app", "v1").IsZero() && c.is != digest.ErrMismatch {
			t.Errorf("%s: the tag was set", c.name)
		}
	}
}

// A registry that takes a few bytes of each request is given up. Each of them once counted as
// progress, so that a blob was sent as often as it has such parts.
func TestSmallProgressIsNone(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, blobSize)
	for name, fault := range map[string]servetest.Fault{"202": few, "reset": fewAndReset} {
		for _, mode := range []pushcmd.Mode{pushcmd.ModeStream, pushcmd.ModeChunk} {
			reg := servetest.NewQuirky(t)
			b := servetest.BreakIf(60, isPatch, fault, reg)
			_, err := push(t, b, s, desc, pushcmd.Options{Mode: mode, ChunkSize: 1 << 20, Jobs: 1})
			if _, fired := b.Count(); err == nil || fired > 50 {
				t.Errorf("%s, mode %s: %d requests, error %v, want it given up", name, mode, fired, err)
			}
		}
	}
}

// F43: a registry that hides a missing blob behind another code gets the blob again.
func TestLostBlobIsPushedAgain(t *testing.T) {
	for _, hide := range []bool{false, true} {
		s := newStore(t)
		desc := s.image(t, 5000)
		layer := s.blobs(t, desc)[1]
		reg := servetest.NewQuirky(t)
		reg.HideMissingBlobs = hide
		h := servetest.BreakIf(1, isManifestPut, func(h http.Handler, w http.ResponseWriter, r *http.Request) {
			reg.Remove("app", layer.Digest)
			h.ServeHTTP(w, r)
		}, reg)
		if _, err := push(t, h, s, desc, pushcmd.Options{}); err != nil {
			t.Errorf("hide %t: %v", hide, err)
		}
		checkPushed(t, reg, s, desc)
	}
}

// F47: a tag that may not change and names the same image is not an error.
func TestImmutableTag(t *testing.T) {
	s := newStore(t)
	desc, other := s.image(t, 100), s.image(t, 200)
	reg := servetest.NewQuirky(t)
	reg.ImmutableTags = true
	for range 2 {
		// The tag comes into being between the question for it and the put.
		h := servetest.BreakIf(1, func(r *http.Request) bool {
			return r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/manifests/")
		}, servetest.Answer(http.StatusNotFound, ""), reg)
		if _, err := push(t, h, s, desc, pushcmd.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := push(t, reg, s, other, pushcmd.Options{}); err == nil {
		t.Error("another image took an immutable tag")
	}
}

// F7, and resume by another process.
func TestStateAcrossProcesses(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	desc := s.image(t, blobSize)
	for _, cut := range []int64{0, 1, 1_000_000} {
		for _, m := range []pushcmd.Mode{pushcmd.ModeStream, pushcmd.ModeChunk} {
			reg := servetest.NewQuirky(t)
			o := pushcmd.Options{State: t.TempDir(), Mode: m, ChunkSize: 700_000, Jobs: 1}
			ctx, cancel := context.WithCancel(t.Context())
			die := servetest.BreakIf(1, isPatch, func(h http.Handler, w http.ResponseWriter, r *http.Request) {
				body := io.NopCloser(io.MultiReader(io.LimitReader(r.Body, cut), iotest.ErrReader(io.ErrUnexpectedEOF)))
				half := r.Clone(context.Background())
				half.Body = body
				h.ServeHTTP(httptest.NewRecorder(), half)
				cancel()
				io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}, reg)
			host := servetest.Serve(t, die)
			if _, err := pushcmd.Push(ctx, newClient(t, host).Client, s, desc, repo, o); !errors.Is(err, context.Canceled) {
				t.Fatalf("interrupted Push() = %v", err)
			}
			files, _ := os.ReadDir(o.State)
			if len(files) != 1 {
				t.Fatalf("cut at %d: %d state files", cut, len(files))
			}
			if info, _ := files[0].Info(); info.Mode().Perm() != 0o600 {
				t.Errorf("state file has mode %v", info.Mode())
			}
			before := reg.Taken()
			report, err := pushcmd.Push(t.Context(), newClient(t, host).Client, s, desc, repo, o)
			if err != nil {
				t.Fatal(err)
			}
			checkPushed(t, reg, s, desc)
			want := report.BytesNeeded - before
			if cut > 1 && report.BytesSent > want+2000 {
				t.Errorf("cut at %d, mode %s: second process sent %d bytes, want about %d", cut, m, report.BytesSent, want)
			}
			if files, _ := os.ReadDir(o.State); len(files) != 0 {
				t.Errorf("%d state files left", len(files))
			}
		}
	}
}

// A file of an upload that fits nothing, or nothing any more, is told and forgotten.
func TestStateThatDoesNotFit(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 300_000)
	for name, change := range map[string]func(string) string{
		"no session":   func(string) string { return "x" },
		"another blob": func(text string) string { return strings.Replace(text, `"size":300000`, `"size":300001`, 1) },
		"another host": func(text string) string { return strings.Replace(text, "http://127.0.0.1", "http://127.0.0.2", 1) },
		"gone":         func(text string) string { return strings.Replace(text, "/blobs/uploads/", "/blobs/uploads/x", 1) },
	} {
		reg := servetest.NewQuirky(t)
		o := pushcmd.Options{State: t.TempDir(), Mode: pushcmd.ModeStream, Jobs: 1}
		ctx, cancel := context.WithCancel(t.Context())
		die := servetest.BreakIf(1, isPatch, func(h http.Handler, w http.ResponseWriter, r *http.Request) {
			cancel()
			servetest.CutBody(100_000)(h, w, r)
		}, reg)
		host := servetest.Serve(t, die)
		if _, err := pushcmd.Push(ctx, newClient(t, host).Client, s, desc, repo, o); !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted Push() = %v", err)
		}
		files, _ := filepath.Glob(filepath.Join(o.State, "*"))
		if len(files) != 1 {
			t.Fatalf("state files: %q", files)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		changed := change(string(text))
		if changed == string(text) {
			t.Fatalf("%s: nothing to change in %s", name, text)
		}
		if err := os.WriteFile(files[0], []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}

		c := newClient(t, host)
		var notices []string
		o.Notice = func(s string) { notices = append(notices, s) }
		report, err := pushcmd.Push(t.Context(), c.Client, s, desc, repo, o)
		if err != nil || report.BytesSent < 300_000 {
			t.Errorf("%s: sent %d bytes, %v", name, report.BytesSent, err)
		}
		checkPushed(t, reg, s, desc)
		if all := strings.Join(notices, "\n"); !strings.Contains(all, "starting over") {
			t.Errorf("%s: notices %q", name, all)
		}
		if files, _ := os.ReadDir(o.State); len(files) != 0 {
			t.Errorf("%s: %d state files left", name, len(files))
		}
	}
}

// Bytes that were on their way when a connection broke still arrive: the first answer about the
// offset is not believed.
func TestOffsetThatStillMoves(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 300_000)
	reg := servetest.NewQuirky(t)
	cut := servetest.BreakIf(1, isPatch, servetest.CutBody(100_000), reg)
	early := servetest.BreakIf(1, func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/")
	},
		func(_ http.Handler, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.Path)
			w.Header().Set("Range", "0-49999")
			w.WriteHeader(http.StatusNoContent)
		}, cut)
	report, err := push(t, early, s, desc, pushcmd.Options{Mode: pushcmd.ModeStream, Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	checkPushed(t, reg, s, desc)
	var ranges []string
	for _, r := range reg.Requests() {
		if r.Method == http.MethodPatch {
			ranges = append(ranges, r.Header.Get("Content-Range"))
		}
	}
	if slices.ContainsFunc(ranges, func(r string) bool { return strings.HasPrefix(r, "50000-") }) {
		t.Errorf("bodies %q, %+v", ranges, report)
	}
}

// F51, F52: an interrupt cancels the session, and a registry that does not answer that
// does not hold us up.
func TestInterruptCancels(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	desc := s.image(t, blobSize)
	for _, hang := range []bool{false, true} {
		reg := servetest.NewQuirky(t)
		ctx, cancel := context.WithCancel(t.Context())
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == "PATCH":
				cancel()
				io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			case r.Method == "DELETE" && hang:
				<-r.Context().Done()
			default:
				reg.ServeHTTP(w, r)
			}
		})
		// The cancel does not wait as long as a client does.
		c := newClient(t, servetest.Serve(t, h), func(o *registry.Options) { o.Timeout = time.Hour })
		_, err := pushcmd.Push(ctx, c.Client, s, desc, repo, pushcmd.Options{Mode: pushcmd.ModeStream, Jobs: 1})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Push() = %v, want it cancelled", err)
		}
		if n := reg.Uploads(); n != 0 && !hang {
			t.Errorf("%d sessions left open", n)
		}
	}
}

// F3: a Location on another host gets the bytes and no credentials.
func TestForeignLocation(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, blobSize)
	reg := servetest.NewQuirky(t)
	var leaked atomic.Bool
	storage := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			leaked.Store(true)
		}
		reg.ServeHTTP(w, r)
	}))
	reg.Location = func(_ *http.Request, p string) string { return "http://" + storage + p }
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "planted-secret" {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		reg.ServeHTTP(w, r)
	})
	login := func(o *registry.Options) { o.Username, o.Password = "me", "planted-secret" }
	c := newClient(t, servetest.Serve(t, h), login)
	if _, err := pushcmd.Push(t.Context(), c.Client, s, desc, repo, pushcmd.Options{}); err != nil {
		t.Fatal(err)
	}
	if leaked.Load() {
		t.Error("credentials went to the other host")
	}
	if !c.said("gets no credentials") {
		t.Error("no notice")
	}
	strict := newClient(t, servetest.Serve(t, h), login, func(o *registry.Options) { o.StrictLocation = true })
	if _, err := pushcmd.Push(t.Context(), strict.Client, s, desc, registry.Reference{Repo: "other", Tag: "x"}, pushcmd.Options{}); !errors.Is(err, registry.ErrUnsafe) {
		t.Errorf("strict: Push() = %v", err)
	}
}

// F19: a token that expires between two requests of an upload.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	desc := s.image(t, blobSize, 500_000)
	for uses := 3; uses < 9; uses += digesttest.Reps(1, 3) {
		for _, m := range []pushcmd.Mode{pushcmd.ModeStream, pushcmd.ModePut, pushcmd.ModeChunk} {
			reg := servetest.NewQuirky(t)
			reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: "planted-secret", Uses: uses}
			_, err := push(t, reg, s, desc, pushcmd.Options{Mode: m, ChunkSize: 1 << 20, Jobs: 1}, func(o *registry.Options) {
				o.Username, o.Password = "me", "planted-secret"
			})
			if err != nil {
				t.Errorf("token good for %d requests, mode %s: %v", uses, m, err)
				continue
			}
			checkPushed(t, reg, s, desc)
			if got := reg.Taken(); got > blobSize+500_000+1000 {
				t.Errorf("token good for %d requests, mode %s: %d bytes taken", uses, m, got)
			}
		}
	}
}

// Parallel uploads use up each other's tokens.
func TestTokenOfFewRequests(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 70_001, 70_002, 70_003, 70_004, 70_005, 70_006, 70_007, 70_008)
	for uses := 1; uses < 4; uses++ {
		for _, m := range []pushcmd.Mode{pushcmd.ModeStream, pushcmd.ModePut, pushcmd.ModeChunk} {
			reg := servetest.NewQuirky(t)
			reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: "planted-secret", Uses: uses}
			_, err := push(t, reg, s, desc, pushcmd.Options{Mode: m, ChunkSize: 30_000, Jobs: 8}, func(o *registry.Options) {
				o.Username, o.Password = "me", "planted-secret"
			})
			if err != nil {
				t.Errorf("token good for %d requests, mode %s: %v", uses, m, err)
				continue
			}
			checkPushed(t, reg, s, desc)
		}
	}
}

// F46: two writers of one fallback tag.
func TestFallbackTagOfTwo(t *testing.T) {
	s := newStore(t)
	subject := s.image(t, 100)
	var sboms []oci.Descriptor
	for _, kind := range []string{"a", "b"} {
		m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x-" + kind, Subject: &subject}
		m.Config = s.put(t, oci.MediaTypeEmpty, []byte("{}"))
		sboms = append(sboms, s.doc(t, oci.MediaTypeManifest, m))
	}
	reg := servetest.NewQuirky(t)
	reg.NoReferrers = 404
	host := servetest.Serve(t, reg)
	other := newClient(t, host)
	// The other writer comes between our read and our write of the list.
	n := 0
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isManifestPut(r) && strings.HasSuffix(r.URL.Path, graph.FallbackTag(subject.Digest)) {
			if n++; n == 1 {
				reg.ServeHTTP(w, r)
				list := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{sboms[1]}}
				data, _ := oci.Encode(list)
				reg.PutManifest("app", graph.FallbackTag(subject.Digest), oci.MediaTypeIndex, data)
				return
			}
		}
		reg.ServeHTTP(w, r)
	})
	if _, err := pushcmd.Push(t.Context(), other.Client, s, sboms[1], registry.Reference{Repo: "app", Digest: sboms[1].Digest}, pushcmd.Options{}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, servetest.Serve(t, h))
	if _, err := pushcmd.Push(t.Context(), c.Client, s, sboms[0], registry.Reference{Repo: "app", Digest: sboms[0].Digest}, pushcmd.Options{}); err != nil {
		t.Fatal(err)
	}
	list, err := c.Referrers(t.Context(), "app", subject.Digest, "")
	if err != nil || len(list.Descriptors) != 2 {
		t.Errorf("Referrers() = %+v, %v, want both", list.Descriptors, err)
	}
}
