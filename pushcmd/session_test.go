package pushcmd_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/pushcmd"
)

// pass sends a session through a pipe, as between two commands.
func pass(t testing.TB, s *pushcmd.Session) *pushcmd.Session {
	t.Helper()
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != 1 {
		t.Fatalf("a session of %d lines", n)
	}
	out, err := pushcmd.ReadSession(&b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tempFile(t testing.TB, data []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The pipe of the manual: start | chunk --length | chunk | finish, each in its own process.
func TestStepsThroughPipes(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		reg := servetest.NewQuirky(t)
		host := servetest.Serve(t, reg)
		data := digesttest.Noise(1_000_000, 1)
		want, _, _ := digest.FromReader(alg, bytes.NewReader(data))
		s, err := pushcmd.Start(t.Context(), newClient(t, host).Client, "app", alg)
		if err != nil {
			t.Fatal(err)
		}
		for _, length := range []int64{300_000, 1, 0, 0} {
			s = pass(t, s)
			result, err := s.Chunk(t.Context(), newClient(t, host).Client, tempFile(t, data), pushcmd.ChunkOptions{Length: length})
			if err != nil || length > 0 && result.Sent != length || result.End != (length == 0) {
				t.Fatalf("Chunk(%d) = %+v, %v", length, result, err)
			}
		}
		desc, err := pass(t, s).Finish(t.Context(), newClient(t, host).Client, pushcmd.FinishOptions{})
		if err != nil || desc.Digest != want || desc.Size != 1_000_000 || !reg.Has("app", want) {
			t.Errorf("%s: Finish() = %+v, %v", alg, desc, err)
		}
	}
}

// By hand with a file: head -c | chunk -, status, tail -c | chunk -, finish.
func TestStepsThroughFile(t *testing.T) {
	t.Parallel()
	reg := servetest.NewQuirky(t)
	c := newClient(t, servetest.Serve(t, reg), patient).Client
	name := filepath.Join(t.TempDir(), "up.json")
	data := digesttest.Noise(40<<20, 1)
	s, err := pushcmd.Start(t.Context(), c, "app", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var saves int
	for _, part := range [][]byte{data[:1_000_000], data[1_000_000:]} {
		if err := s.Save(name); err != nil {
			t.Fatal(err)
		}
		if info, _ := os.Stat(name); info.Mode().Perm() != 0o600 {
			t.Errorf("session file has mode %v", info.Mode())
		}
		if s, err = pushcmd.LoadSession(name); err != nil {
			t.Fatal(err)
		}
		save := func(s *pushcmd.Session) error { saves++; return s.Save(name) }
		if _, err := s.Chunk(t.Context(), c, io.MultiReader(bytes.NewReader(part)), pushcmd.ChunkOptions{Save: save}); err != nil {
			t.Fatal(err)
		}
		status, err := s.Status(t.Context(), c)
		if err != nil || status.Offset != status.Before || status.Server != s.Upload.Offset {
			t.Errorf("Status() = %+v, %v", status, err)
		}
	}
	if saves != 4 { // 1 MB, and 16 + 16 + 7 MiB
		t.Errorf("%d requests, want 4", saves)
	}
	if _, err := s.Finish(t.Context(), c, pushcmd.FinishOptions{}); err != nil || !reg.Has("app", digest.FromBytes(data)) {
		t.Error(err)
	}
	left, _ := os.ReadDir(filepath.Dir(name))
	if len(left) != 1 {
		t.Errorf("%d files beside the session", len(left)-1)
	}
}

func TestWrongDigest(t *testing.T) {
	reg := servetest.NewQuirky(t)
	c := newClient(t, servetest.Serve(t, reg)).Client
	s, err := pushcmd.Start(t.Context(), c, "app", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Chunk(t.Context(), c, strings.NewReader("hello"), pushcmd.ChunkOptions{}); err != nil {
		t.Fatal(err)
	}
	wrong := digest.FromBytes([]byte("other"))
	n := len(reg.Requests())
	if _, err := pass(t, s).Finish(t.Context(), c, pushcmd.FinishOptions{Digest: wrong}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Finish(wrong) = %v", err)
	}
	if len(reg.Requests()) != n {
		t.Error("a request was sent")
	}
	_, err = pass(t, s).Finish(t.Context(), c, pushcmd.FinishOptions{Digest: wrong, Force: true})
	var status *registry.StatusError
	if !errors.As(err, &status) || !status.Has("DIGEST_INVALID") {
		t.Errorf("Finish(wrong, force) = %v", err)
	}
}

func TestFinishWithRest(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.PutRange = true
	c := newClient(t, servetest.Serve(t, reg)).Client
	data := digesttest.Noise(100_000, 1)
	s, err := pushcmd.Start(t.Context(), c, "app", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	f := tempFile(t, data)
	if _, err := s.Chunk(t.Context(), c, f, pushcmd.ChunkOptions{Length: 60_000}); err != nil {
		t.Fatal(err)
	}
	if desc, err := pass(t, s).Finish(t.Context(), c, pushcmd.FinishOptions{Rest: tempFile(t, data[:59_999])}); err == nil || !strings.Contains(err.Error(), "at least 60000 bytes") {
		t.Errorf("Finish(a file that ends before the offset) = %+v, %v", desc, err)
	}
	desc, err := pass(t, s).Finish(t.Context(), c, pushcmd.FinishOptions{Rest: f})
	if err != nil || desc.Size != 100_000 || !reg.Has("app", digest.FromBytes(data)) {
		t.Errorf("Finish(rest) = %+v, %v", desc, err)
	}
}

// A chunk that is cut on purpose leaves the session where it was; status moves it to where
// the registry stands, and a named file brings the hash back.
func TestCutAndResume(t *testing.T) {
	reg := servetest.NewQuirky(t)
	h, patched := tellOfPatches(reg)
	c := newClient(t, servetest.Serve(t, h)).Client
	data := digesttest.Noise(500_000, 1)
	s, err := pushcmd.Start(t.Context(), c, "app", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	f := tempFile(t, data)
	_, err = s.Chunk(t.Context(), c, f, pushcmd.ChunkOptions{Body: registry.Body{CutAfter: 123_456}})
	if !errors.Is(err, registry.ErrCut) || s.Upload.Offset != 0 {
		t.Fatalf("Chunk(cut) = %v, offset %d", err, s.Upload.Offset)
	}
	s = pass(t, s)
	<-patched // the registry notices the cut in its own time
	status, err := s.Status(t.Context(), c)
	if err != nil || status.Offset != 123_456 || s.Upload.Offset != 123_456 {
		t.Fatalf("Status() = %+v, %v", status, err)
	}
	s = pass(t, s)
	if _, err := s.Finish(t.Context(), c, pushcmd.FinishOptions{}); err == nil || !strings.Contains(err.Error(), "--digest") {
		t.Errorf("Finish() without a hash = %v", err)
	}
	if _, err := s.Chunk(t.Context(), c, f, pushcmd.ChunkOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pass(t, s).Finish(t.Context(), c, pushcmd.FinishOptions{}); err != nil || !reg.Has("app", digest.FromBytes(data)) {
		t.Error(err)
	}
}

// tellOfPatches returns a handler that hands on to h, and the header of each PATCH that h is done with,
// which may be later than its client is.
func tellOfPatches(h http.Handler) (http.Handler, <-chan http.Header) {
	patched := make(chan http.Header, 100)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		if r.Method == http.MethodPatch {
			patched <- r.Header
		}
	}), patched
}

// Wrong values on purpose reach the registry as they are.
func TestWrongValues(t *testing.T) {
	h, patched := tellOfPatches(servetest.NewQuirky(t))
	c := newClient(t, servetest.Serve(t, h)).Client
	for _, x := range []struct {
		body registry.Body
		want string // of the header Content-Range
	}{
		{registry.Body{}, "0-4"},
		{registry.Body{NoRange: true}, ""},
		{registry.Body{ContentRange: "bytes 5-9/10"}, "bytes 5-9/10"},
		{registry.Body{ContentType: "text/plain"}, "0-4"},
		{registry.Body{ContentLength: 3}, "0-4"},
		{registry.Body{ContentLength: 9}, "0-4"},
	} {
		s, err := pushcmd.Start(t.Context(), c, "app", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		s.Chunk(t.Context(), c, strings.NewReader("hello"), pushcmd.ChunkOptions{Body: x.body})
		header := <-patched
		if got := header.Get("Content-Range"); got != x.want || x.body.ContentType != "" && header.Get("Content-Type") != x.body.ContentType {
			t.Errorf("%+v: Content-Range %q, Content-Type %q", x.body, got, header.Get("Content-Type"))
		}
		s.Cancel(t.Context(), c)
	}
}

func TestMountStep(t *testing.T) {
	reg := servetest.NewQuirky(t)
	c := newClient(t, servetest.Serve(t, reg)).Client
	d := reg.PutBlob("base", []byte("x"))
	if s, err := pushcmd.Mount(t.Context(), c, "app", d, "base"); err != nil || s != nil || !reg.Has("app", d) {
		t.Errorf("Mount() = %v, %v", s, err)
	}
	s, err := pushcmd.Mount(t.Context(), c, "app", d, "none")
	if err != nil || s == nil {
		t.Fatalf("Mount(none) = %v, %v", s, err)
	}
	if err := pass(t, s).Cancel(t.Context(), c); err != nil || reg.Uploads() != 0 {
		t.Errorf("Cancel() = %v, %d sessions left", err, reg.Uploads())
	}
}

func TestMalformedSessions(t *testing.T) {
	good := `{"version":1,"registry":"http://r.test","repository":"app","location":"http://r.test/x","offset":0,"serverOffset":0,"algorithm":"sha256"}`
	if _, err := pushcmd.ReadSession(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{good, ""}, {good, "x"}, {good, good + "\n" + good}, {`"version":1`, `"version":2`}, {`r.test"`, `r.test/"`}, {`"http://r.test"`, `"file:///etc"`},
		{`"app"`, `"../app"`}, {`"offset":0`, `"offset":-1`}, {`"offset":0`, `"offset":5,"hashState":"AAAA"`}, {`"offset":0`, `"offset":5,"hashState":"%"`},
		{`sha256`, `md5`}, {`"location":"http://r.test/x"`, `"location":""`}, {`{`, strings.Repeat(" ", 100_000) + `{`},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if _, err := pushcmd.ReadSession(strings.NewReader(text)); !errors.Is(err, pushcmd.ErrSession) {
			t.Errorf("ReadSession(%.200q) = %v", text, err)
		}
	}
	dir := t.TempDir()
	if _, err := pushcmd.LoadSession(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("LoadSession(absent) = %v", err)
	}
	if s, err := pushcmd.LoadSession(dir); err == nil {
		t.Errorf("LoadSession of a directory = %+v", s)
	}
	name := filepath.Join(dir, "session")
	for text, want := range map[string]error{good: nil, good[1:]: pushcmd.ErrSession} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := pushcmd.LoadSession(name); !errors.Is(err, want) || (s == nil) != (want != nil) {
			t.Errorf("LoadSession of %s = %+v, %v, want %v", text, s, err, want)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A session that was not written is an upload that is lost: the command has to fail.
func TestSessionThatCannotBeWritten(t *testing.T) {
	c := newClient(t, servetest.Serve(t, servetest.NewQuirky(t))).Client
	s, err := pushcmd.Start(t.Context(), c, "app", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(fullDisk{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Write to a full disk = %v", err)
	}
	if err := s.Save(filepath.Join(t.TempDir(), "absent", "session")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Save into a folder that is not there = %v", err)
	}
}

// A registry that wants larger pieces than are held in memory gets them from a file.
func TestStreamWithChunkMinimum(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.ChunkMin = 20 << 20
	c := newClient(t, servetest.Serve(t, reg), patient).Client
	data := digesttest.Noise(45<<20, 1)
	s, err := pushcmd.Start(t.Context(), c, "app", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	result, err := s.Chunk(t.Context(), c, struct{ io.Reader }{bytes.NewReader(data)}, pushcmd.ChunkOptions{})
	if err != nil || result.Requests != 3 {
		t.Fatalf("Chunk() = %+v, %v", result, err)
	}
	if _, err := s.Finish(t.Context(), c, pushcmd.FinishOptions{}); err != nil || !reg.Has("app", digest.FromBytes(data)) {
		t.Error(err)
	}
}

// A captive portal answers everything with 200 and a page.
func TestCaptivePortal(t *testing.T) {
	s := newStore(t)
	desc := s.image(t, 1000)
	for _, length := range []bool{true, false} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			if !length {
				w.(http.Flusher).Flush()
			}
			io.WriteString(w, "<html>log in</html>")
		})
		if report, err := push(t, h, s, desc, pushcmd.Options{}); err == nil {
			t.Errorf("Push() to a captive portal = %+v", report)
		}
	}
}

// patient is for tests that send much, on a machine that may be busy.
func patient(o *registry.Options) { o.Timeout = time.Minute }
