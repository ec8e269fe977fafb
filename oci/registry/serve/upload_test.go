package serve

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/digest/digesttest"
	"ocikit/oci/layout"
	"ocikit/oci/progress"
)

// The ways to push a blob, each with what must come back.
func TestPushWays(t *testing.T) {
	data := digesttest.Noise(100_000, 1)
	ways := map[string]func(s *testServer, d string) answer{
		"put": func(s *testServer, d string) answer {
			return s.want(201, "PUT", s.begin("a/b")+"&digest="+d, data)
		},
		"put chunked transfer": func(s *testServer, d string) answer {
			return s.want(201, "PUT", s.begin("a/b")+"&digest="+d, io.MultiReader(strings.NewReader(string(data))))
		},
		"post": func(s *testServer, d string) answer {
			return s.want(201, "POST", "/v2/a/b/blobs/uploads/?digest="+d, data)
		},
		"stream": func(s *testServer, d string) answer {
			a := s.want(202, "PATCH", s.begin("a/b"), data)
			return s.want(201, "PUT", a.Header.Get("Location")+"&digest="+d, nil)
		},
		"chunks": func(s *testServer, d string) answer {
			loc := s.begin("a/b")
			for off := 0; off < 80_000; off += 40_000 {
				loc = s.want(202, "PATCH", loc, data[off:off+40_000], "Content-Range", fmt.Sprintf("%d-%d", off, off+39_999)).Header.Get("Location")
			}
			return s.want(201, "PUT", loc+"&digest="+d, data[80_000:], "Content-Range", "80000-99999")
		},
		"first Location kept, with Content-Range": func(s *testServer, d string) answer {
			loc := s.begin("a/b")
			s.want(202, "PATCH", loc, data[:5], "Content-Range", "0-4")
			s.want(202, "PATCH", loc, data[5:], "Content-Range", "5-99999")
			return s.want(201, "PUT", loc+"&digest="+d, nil)
		},
		"digest-algorithm": func(s *testServer, d string) answer {
			alg, _, _ := strings.Cut(d, ":")
			a := s.want(202, "POST", "/v2/a/b/blobs/uploads/?digest-algorithm="+alg, nil)
			a = s.want(202, "PATCH", a.Header.Get("Location"), data)
			return s.want(201, "PUT", a.Header.Get("Location")+"&digest="+d, nil)
		},
	}
	for name, way := range ways {
		for _, d := range []string{sum(data), sum512(data)} {
			t.Run(name+" "+d[:6], func(t *testing.T) {
				s := start(t, Options{})
				a := way(s, d)
				if got, want := a.Header.Get("Location"), "/v2/a/b/blobs/"+d; got != want {
					t.Errorf("Location = %q, want %q", got, want)
				}
				if got := a.Header.Get("Docker-Content-Digest"); got != d {
					t.Errorf("Docker-Content-Digest = %q, want %q", got, d)
				}
				if got := s.want(200, "GET", "/v2/a/b/blobs/"+d, nil); string(got.body) != string(data) {
					t.Errorf("GET returned other bytes")
				}
				for _, f := range files(t, s.dir) {
					if strings.Contains(f, layout.UploadPrefix) {
						t.Errorf("left behind: %s", f)
					}
				}
				verifyAll(t, s.dir)
			})
		}
	}
}

// What is out of order is refused with the place to go on at, and nothing changes.
func TestDisorder(t *testing.T) {
	s := start(t, Options{})
	data := digesttest.Noise(1000, 2)
	first := s.begin("r")
	second := s.want(202, "PATCH", first, data[:500], "Content-Range", "0-499").Header.Get("Location")
	for name, try := range map[string]func() answer{
		"gap":                   func() answer { return s.do("PATCH", second, data[600:], "Content-Range", "600-999") },
		"again":                 func() answer { return s.do("PATCH", second, data[:500], "Content-Range", "0-499") },
		"stale Location":        func() answer { return s.do("PATCH", first, data[:500]) },
		"no query":              func() answer { return s.do("PATCH", strings.Split(first, "?")[0], data[500:]) },
		"PUT with gap":          func() answer { return s.do("PUT", second+"&digest="+sum(data), data[600:], "Content-Range", "600-999") },
		"PUT on stale Location": func() answer { return s.do("PUT", first+"&digest="+sum(data), data) },
		"PUT stale, chunked":    func() answer { return s.do("PUT", first+"&digest="+sum(data), io.MultiReader(strings.NewReader("x"))) },
		"far beyond any file": func() answer {
			return s.do("PATCH", second, "x", "Content-Range", "9223372036854775806-9223372036854775806")
		},
		"negative offset in the URL": func() answer { return s.do("PATCH", strings.Replace(second, "=500", "=-500", 1), "x") },
	} {
		a := try()
		if a.StatusCode != 416 || a.Header.Get("Range") != "0-499" || a.Header.Get("Location") != second || a.code(t) != "BLOB_UPLOAD_INVALID" {
			t.Errorf("%s: %d, Range %q, Location %q, want 416 and the place to go on", name, a.StatusCode, a.Header.Get("Range"), a.Header.Get("Location"))
		}
	}
	for name, h := range map[string]string{
		"bytes unit": "bytes 500-999/1000", "backwards": "999-500", "too large": "500-99999999999999999999", "longer than the body": "500-1000",
	} {
		if a := s.do("PATCH", second, data[500:], "Content-Range", h); a.StatusCode != 400 {
			t.Errorf("%s: %d, want 400", name, a.StatusCode)
		}
	}
	// A body of unknown length that is not as long as its range says is taken back.
	for _, body := range []string{"short", strings.Repeat("long", 1000)} {
		a := s.do("PATCH", second, io.MultiReader(strings.NewReader(body)), "Content-Range", "500-599")
		if a.StatusCode != 400 && a.StatusCode != 413 {
			t.Errorf("body of %d bytes for 100: %d", len(body), a.StatusCode)
		}
	}
	s.want(400, "PUT", second+"&digest="+sum(data), data[:500]) // other bytes: as it was before
	a := s.want(204, "GET", first, nil)
	if a.Header.Get("Range") != "0-499" || a.Header.Get("Location") != second {
		t.Fatalf("status = %v", a.Header)
	}
	s.want(201, "PUT", second+"&digest="+sum(data), data[500:], "Content-Range", "500-999")
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		if a := s.want(404, method, second, nil); a.code(t) != "BLOB_UPLOAD_UNKNOWN" {
			t.Errorf("%s of a finished session: %s", method, a.body)
		}
	}
	verifyAll(t, s.dir)
}

// A fresh session has the Range that docker's client can read, and an empty blob is one.
func TestEmptyBlob(t *testing.T) {
	s := start(t, Options{})
	a := s.want(202, "POST", "/v2/r/blobs/uploads/", nil)
	if a.Header.Get("Range") != "0-0" || a.Header.Get("Docker-Upload-UUID") == "" {
		t.Errorf("POST: %v", a.Header)
	}
	a = s.want(202, "PATCH", a.Header.Get("Location"), nil)
	if a.Header.Get("Range") != "0-0" {
		t.Errorf("PATCH of nothing: %v", a.Header)
	}
	s.want(201, "PUT", a.Header.Get("Location")+"&digest="+sum(nil), nil)
	if a := s.want(200, "HEAD", "/v2/r/blobs/"+sum(nil), nil); a.ContentLength != 0 {
		t.Errorf("Content-Length = %d", a.ContentLength)
	}
}

// A directory becomes a layout with its first blob; one that never gets any goes away.
func TestCancelLeavesNothing(t *testing.T) {
	s := start(t, Options{})
	a, b := s.begin("deep/er/repo"), s.begin("deep/er")
	s.want(404, "GET", "/v2/deep/er/repo/tags/list", nil)
	s.want(204, "DELETE", a, nil)
	s.want(204, "DELETE", b, nil)
	s.want(404, "DELETE", b, nil)
	s.want(400, "POST", "/v2/deep/blobs/uploads/?digest="+sum([]byte("x")), "y")
	if left := files(t, s.dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	s.push("deep", []byte("x"))
	s.begin("deep/er/repo")
	s.push("deep/er", []byte("x"))
	verifyAll(t, s.dir)
}

// A client that has gone before its blob was taken leaves nothing, either. The turn at a session and the
// end of the request come in any order, so there are several.
func TestGoneLeavesNothing(t *testing.T) {
	s := start(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		r := httptest.NewRequestWithContext(ctx, "POST", "/v2/r/blobs/uploads/?digest="+sum([]byte("x")), strings.NewReader("y"))
		r.Host = s.addr
		s.s.ServeHTTP(httptest.NewRecorder(), r)
	}
	if left := files(t, s.dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// cutAfter sends the head of a PATCH for size bytes, n of them, and breaks the connection.
func (t *testServer) cutAfter(loc string, data []byte, n int) {
	t.Helper()
	c := t.dial()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", loc, len(data))
	c.Write(data[:n])
	c.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c)
	c.Close()
}

func TestResumeAfterCut(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	data := digesttest.Noise(5<<20, 3)
	for _, n := range []int{0, 1, 4095, 1 << 20, 5<<20 - 1} {
		loc := s.begin("r")
		s.cutAfter(loc, data, n)
		a := s.want(204, "GET", loc, nil)
		if got, want := a.Header.Get("Range"), fmt.Sprintf("0-%d", max(n-1, 0)); got != want {
			t.Fatalf("cut after %d: Range = %q, want %q", n, got, want)
		}
		a = s.want(202, "PATCH", a.Header.Get("Location"), data[n:], "Content-Range", fmt.Sprintf("%d-%d", n, len(data)-1))
		s.want(201, "PUT", a.Header.Get("Location")+"&digest="+sum(data), nil)
	}
	verifyAll(t, s.dir)
}

// A connection that says nothing more gives way to its client's next one.
func TestStalledGivesWay(t *testing.T) {
	t.Parallel()
	s := start(t, Options{IdleTimeout: time.Hour}) // which is not waited for
	data := digesttest.Noise(1000, 4)
	loc := s.begin("r")
	c := s.dial()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n%s", loc, data[:300])
	a := s.await(loc, 300)
	a = s.want(202, "PATCH", a.Header.Get("Location"), data[300:], "Content-Range", "300-999")
	s.want(201, "PUT", a.Header.Get("Location")+"&digest="+sum(data), nil)
}

// A cancel does not wait for a body.
func TestCancelWhileReceiving(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	loc := s.begin("r")
	c := s.dial()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc", loc)
	s.await(loc, 3)
	s.want(204, "DELETE", loc, nil)
	if left := files(t, s.dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Many requests at once for one session: exactly one is in order, whatever the order.
func TestConcurrentChunks(t *testing.T) {
	s := start(t, Options{})
	data := digesttest.Noise(200_000, 5)
	loc := s.begin("r")
	for off := 0; off < len(data); off += 50_000 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		statuses := map[int]int{}
		for range 8 {
			wg.Go(func() {
				a := s.do("PATCH", loc, data[off:off+50_000], "Content-Range", fmt.Sprintf("%d-%d", off, off+49_999))
				mu.Lock()
				statuses[a.StatusCode]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if statuses[202] != 1 || statuses[416] != 7 {
			t.Fatalf("statuses = %v, want one 202 and seven 416", statuses)
		}
	}
	s.want(201, "PUT", loc+"&digest="+sum(data), nil)
	verifyAll(t, s.dir)
}

// A session outlives its server, with and without a saved state, and with a wrong one.
func TestRestart(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, state string){
		"state saved":  func(t *testing.T, state string) {},
		"state absent": func(t *testing.T, state string) { os.Remove(state) },
		"state torn":   func(t *testing.T, state string) { os.Truncate(state, 20) },
		"state is of more bytes than there are": func(t *testing.T, state string) {
			if err := os.Truncate(strings.TrimSuffix(state, stateSuffix), 5_000_000); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, alg := range []string{"sha256", "sha512"} {
			t.Run(name+" "+alg, func(t *testing.T) {
				dir := t.TempDir()
				data := digesttest.Noise(6_000_000, 6)
				d := sum(data)
				if alg == "sha512" {
					d = sum512(data)
				}
				s := startIn(t, dir, Options{})
				loc := s.want(202, "POST", "/v2/r/blobs/uploads/?digest-algorithm="+alg, nil).Header.Get("Location")
				loc = s.want(202, "PATCH", loc, data[:5_500_000]).Header.Get("Location")
				loc = s.want(202, "PATCH", loc, data[5_500_000:5_600_000]).Header.Get("Location") // not worth saving
				states, _ := filepath.Glob(filepath.Join(dir, "r", layout.UploadPrefix+"*"+stateSuffix))
				if len(states) != 1 {
					t.Fatalf("states = %q, want one", states)
				}
				spoil(t, states[0])
				s = startIn(t, dir, Options{})
				a := s.want(204, "GET", loc, nil)
				var end int
				if _, err := fmt.Sscanf(a.Header.Get("Range"), "0-%d", &end); err != nil {
					t.Fatal(err)
				}
				s.want(201, "PUT", a.Header.Get("Location")+"&digest="+d, data[end+1:])
				verifyAll(t, dir)
				if left, _ := filepath.Glob(filepath.Join(dir, "r", layout.UploadPrefix+"*")); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			})
		}
	}
}

func TestLimits(t *testing.T) {
	s := start(t, Options{MaxUpload: 1000, MaxSessions: 3})
	data := digesttest.Noise(1001, 7)
	d := sum(data)
	chunked := func() io.Reader { return io.MultiReader(strings.NewReader(string(data))) }
	for name, a := range map[string]answer{
		"post":          s.do("POST", "/v2/r/blobs/uploads/?digest="+d, data),
		"post, chunked": s.do("POST", "/v2/r/blobs/uploads/?digest="+d, chunked()),
		"patch":         s.do("PATCH", s.begin("r"), data),
		"put, chunked":  s.do("PUT", s.begin("r")+"&digest="+d, chunked()),
	} {
		if a.StatusCode != 413 || a.code(t) != "SIZE_INVALID" {
			t.Errorf("%s: %d %s, want 413", name, a.StatusCode, a.body)
		}
	}
	s.begin("r")
	a := s.want(429, "POST", "/v2/r/blobs/uploads/", nil)
	if a.code(t) != "TOOMANYREQUESTS" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
}

func TestExpiry(t *testing.T) {
	dir := t.TempDir()
	s := startIn(t, dir, Options{})
	old, young := s.begin("old/one"), s.begin("young")
	s.want(202, "PATCH", old, digesttest.Noise(5<<20, 8))
	past := time.Now().Add(-48 * time.Hour)
	all, _ := filepath.Glob(filepath.Join(dir, "old/one", layout.UploadPrefix+"*"))
	if len(all) != 2 {
		t.Fatalf("files = %q, want a session and its state", all)
	}
	for _, f := range all {
		os.Chtimes(f, past, past)
	}
	s = startIn(t, dir, Options{})
	gone := func() bool {
		_, err := os.Stat(filepath.Join(dir, "old"))
		return err != nil
	}
	for i := 0; i < 3000 && !gone(); i++ {
		time.Sleep(20 * time.Millisecond)
	}
	if !gone() {
		t.Errorf("left behind: %q", files(t, dir))
	}
	s.want(404, "GET", old, nil)
	s.want(204, "GET", young, nil)
}

// Whoever watches sees the body of each request begin, go on, and end; a session that stays
// open has not come to its end.
func TestUploadProgress(t *testing.T) {
	var mu sync.Mutex
	var got []string
	s := start(t, Options{Progress: func(e progress.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind != progress.Bytes {
			name, id, _ := strings.Cut(e.Name, " ")
			got = append(got, fmt.Sprintf("%s %s %d of %d %d", e.Kind, name, e.Offset, e.Size, len(id)))
		}
	}})
	data := digesttest.Noise(300_000, 5)
	s.want(201, "POST", "/v2/a/b/blobs/uploads/?digest="+sum(data), data)
	loc := s.want(202, "PATCH", s.begin("r"), data[:100_000]).Header.Get("Location")
	s.want(400, "PUT", loc+"&digest="+sum(data), data[:200_000])
	s.want(201, "PUT", loc+"&digest="+sum(data), data[100_000:])
	want := []string{
		"start a/b 0 of 300000 12", "done a/b 300000 of 300000 12",
		"start r 0 of 100000 12", "stop r 100000 of 100000 12",
		"resume r 100000 of 300000 12", "stop r 300000 of 300000 12",
		"resume r 100000 of 300000 12", "done r 300000 of 300000 12",
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
