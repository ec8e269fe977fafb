package serve

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/registry/serve/exchange"
)

// raw sends bytes as they are and returns the status of the answer, 0 if the connection was
// closed without one.
func (t *testServer) raw(request string) int {
	t.Helper()
	c := t.dial()
	io.WriteString(c, request)
	if !strings.Contains(request, " HTTP/1.") {
		c.(*net.TCPConn).CloseWrite() // the server would wait for the rest
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode
}

func line(method, target string, header ...string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + strings.Join(header, "\r\n") + map[bool]string{true: "\r\n"}[len(header) > 0] + "\r\n"
}

// What is hostile is refused, and nothing changes below or beside the root.
func TestHostileRequests(t *testing.T) {
	outer := t.TempDir()
	root := filepath.Join(outer, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	s := startIn(t, root, Options{})
	s.image("x/y", "t", 1)
	// A layout beside the root, and a link to it from inside.
	canary := startIn(t, outer, Options{})
	canary.image("canary", "t", 2)
	if err := os.Symlink(filepath.Join(outer, "canary"), filepath.Join(root, "link")); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	before := files(t, outer)
	digit := "sha256:" + strings.Repeat("0", 64)
	id := strings.Repeat("0", 32)
	refused := []int{400, 404, 405, 411, 413, 414, 416, 421, 431, 501}
	for _, c := range []struct {
		request string
		want    []int // any of refused if empty
	}{
		{line("GET", "/v2/../canary/manifests/t"), nil},
		{line("GET", "/v2/%2e%2e/canary/manifests/t"), nil},
		{line("GET", "/v2/%2e%2e%2fcanary/manifests/t"), nil},
		{line("GET", "/v2/x/../../canary/manifests/t"), nil},
		{line("GET", "/v2/x%2fy/manifests/t"), []int{400}},
		{line("GET", "/v2/link/manifests/t"), nil},
		{line("GET", "/v2//etc/passwd/manifests/x"), nil},
		{line("GET", "/v2/x//y/manifests/t"), nil},
		{line("GET", "/v2/x/y/blobs/sha256/manifests/t"), nil},
		{line("GET", "/v2/x/y/index.json/manifests/t"), nil},
		{line("GET", "/v2/UPPER/manifests/x"), []int{400}},
		{line("GET", "/v2/x%00/manifests/x"), []int{400}},
		{line("GET", "/v2/x%0a/manifests/x"), []int{400}},
		{line("GET", "/v2/"+strings.Repeat("a/", 200)+"a/manifests/x"), []int{400}},
		{line("GET", "/v2/"+strings.Repeat("a", 40_000)+"/manifests/x"), []int{400}},
		{line("GET", "/v2/"+strings.Repeat("a", 200_000)+"/manifests/x"), []int{431}},
		{line("GET", "/v2/x/y/manifests/"+strings.Repeat("t", 129)), []int{400}},
		{line("GET", "/v2/x/y/manifests/.."), nil},
		{line("GET", "/v2/x/y/manifests/-t"), nil},
		{line("GET", "/v2/x/y/blobs/sha256:..%2f..%2f..%2fcanary"), []int{400}},
		{line("GET", "/v2/x/y/blobs/sha256:../../index.json"), nil},
		{line("GET", "/v2/x/y/blobs/sha256:ab"), []int{400}},
		{line("GET", "/v2/x/y/blobs/sha256:"+strings.Repeat("A", 64)), []int{400}},
		{line("GET", "/v2/x/y/blobs/md5:"+strings.Repeat("0", 32)), []int{400}},
		{line("GET", "/v2/x/y/blobs/"+digit, "Range: bytes=99999999999999999999999-"), []int{404}},
		{line("GET", "/v2/x/y/blobs/uploads/../../index.json"), nil},
		{line("GET", "/v2/x/y/blobs/uploads/..%2f..%2findex.json"), nil},
		{line("GET", "/v2/x/y/blobs/uploads/"+id), []int{404}},
		{line("PATCH", "/v2/x/y/blobs/uploads/"+strings.Repeat("0", 31)+".", "Content-Length: 0"), []int{404}},
		{line("GET", "/v2/x/y/referrers/sha256:zz"), []int{400}},
		{line("GET", "/v2/x/y/tags/list?n=-5"), []int{400}},
		{line("GET", "/v2/x/y/tags/list?n=%zz"), []int{400}},
		{line("GET", "/v2/x/y/tags/list?a;b"), []int{400}},
		{line("BREW", "/v2/"), []int{405}},
		{line("TRACE", "/v2/"), []int{405}},
		{line("CONNECT", "x:80"), nil},
		{line("OPTIONS", "*"), nil},
		{line("GET", "http://other/v2/%2e%2e/canary/manifests/t"), nil},
		{line("GET", "/v2/x/y/manifests/t", "Content-Length: 5", "Content-Length: 6"), []int{400}},
		{line("GET", "/v2/x/y/manifests/t", "Bad Header : x"), []int{400}},
		{line("GET", "/v2/x/y/manifests/t", "X: a\x00b"), []int{400}},
		{"GET /v2/x/y/manifests/t HTTP/1.1\r\n\r\n", []int{400}},
		{"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []int{400}},
		{line("GET", "/v2/", "X: "+strings.Repeat("x", 1<<20)), []int{431}},
		{line("GET", "/v2/", strings.Repeat("X: y\r\n", 100_000)+"X: y"), []int{431}},
		{line("POST", "/v2/x/y/blobs/uploads/", "Content-Length: 5") + "hello", []int{400}},
		{line("POST", "/v2/x/y/blobs/uploads/", "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n", []int{400}},
		{line("POST", "/v2/x/y/blobs/uploads/", "Content-Length: -1"), []int{400}},
		{line("POST", "/v2/x/y/blobs/uploads/", "Content-Length: 99999999999999999999"), []int{400}},
		{line("POST", "/v2/x/y/blobs/uploads/", "Transfer-Encoding: gzip, chunked"), []int{501}},
		{line("POST", "/v2/x/y/blobs/uploads/?digest="+digit, "Content-Length: 2") + "{}", []int{400}},
		{line("POST", "/v2/x/y/blobs/uploads/?digest=sha256:..", "Content-Length: 0"), []int{400}},
		{line("POST", "/v2/x/y/blobs/uploads/?digest-algorithm=md5", "Content-Length: 0"), []int{400}},
		{line("POST", "/v2/x/y/blobs/uploads/?digest-algorithm=../..", "Content-Length: 0"), []int{400}},
		{line("POST", "/v2/../x/blobs/uploads/", "Content-Length: 0"), nil},
		{line("POST", "/v2/new/", "Content-Length: 0"), nil},
		{line("PUT", "/v2/x/y/manifests/..", "Content-Type: "+oci.MediaTypeManifest, "Content-Length: 2") + "{}", []int{400}},
		{line("PUT", "/v2/x/y/manifests/big", "Content-Type: "+oci.MediaTypeManifest, "Content-Length: 5242963"), []int{413}},
		{line("PUT", "/v2/x/y/manifests/conf", "Content-Type: "+oci.MediaTypeIndex, "Content-Length: 21") + `{"config":{},"a":"b"}`, []int{400}},
		{line("PUT", "/v2/x/y/manifests/"+digit, "Content-Type: "+oci.MediaTypeManifest, "Content-Length: 2") + "{}", []int{400}},
		{line("DELETE", "/v2/x/y/manifests/absent"), []int{404}},
		{line("DELETE", "/v2/x/y/blobs/"+digit), []int{404}},
		{line("POST", "/v2/x/y/blobs/uploads/", "Content-Length: 0", "Sec-Fetch-Site: cross-site", "Origin: http://evil.test"), []int{403}},
		{line("GET", "/-/repository/../canary"), nil},
		{line("GET", "/-/repository/link"), nil},
		{line("GET", "/-/../../etc/passwd"), nil},
		{line("GET", "/assets/app.js"), nil},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", []int{0, 400}},
		{"GET\r\n\r\n", []int{0, 400}},
	} {
		want := c.want
		if want == nil {
			want = refused
		}
		if got := s.raw(c.request); !slices.Contains(want, got) {
			t.Errorf("%.150q = %d, want one of %v", c.request, got, want)
		}
	}
	if after := files(t, outer); !slices.Equal(before, after) {
		t.Errorf("files changed: %q, were %q", after, before)
	}
	verifyAll(t, outer)
}

// Files that are not what they should be neither hang nor harm the server.
func TestHostileDisk(t *testing.T) {
	s := start(t, Options{})
	d, _ := s.image("r", "t", 1)
	blobs := filepath.Join(s.dir, "r/blobs/sha256")
	secret := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(secret, []byte("secret"), 0o600)
	ghost := strings.Repeat("1", 64)
	if err := os.Symlink(secret, filepath.Join(blobs, ghost)); err != nil {
		t.Skip(err)
	}
	if a := s.do("GET", "/v2/r/blobs/sha256:"+ghost, nil); a.StatusCode < 400 || strings.Contains(string(a.body), "secret") {
		t.Errorf("a link among the blobs: %d %s", a.StatusCode, a.body)
	}
	if a := s.do("POST", "/v2/r2/blobs/uploads/?mount=sha256:"+ghost+"&from=r", nil); a.StatusCode != 202 {
		t.Errorf("mount of a link: %d", a.StatusCode)
	}
	os.WriteFile(filepath.Join(s.dir, "r/index.json"), []byte("{"), 0o644)
	for _, path := range []string{"/v2/r/tags/list", "/v2/r/manifests/t", "/v2/r/referrers/" + d} {
		if a := s.want(500, "GET", path, nil); strings.Contains(string(a.body), s.dir) {
			t.Errorf("%s tells where the layout is: %s", path, a.body)
		}
	}
	s.want(200, "GET", "/", nil)
	os.MkdirAll(filepath.Join(s.dir, "full"), 0o755)
	os.WriteFile(filepath.Join(s.dir, "full/notes.txt"), nil, 0o644)
	s.want(409, "POST", "/v2/full/blobs/uploads/?digest="+sum([]byte("x")), "x")
}

// A thousand clients that trickle cost little, and hinder nobody.
func TestSlowClients(t *testing.T) {
	s := start(t, Options{IdleTimeout: time.Hour}) // nobody waits until the others are cut
	var before, after runtime.MemStats
	loc := make([]string, digesttest.Reps(1000, 200))
	for i := range loc {
		loc[i] = s.begin("r")
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]net.Conn, len(loc))
	for i := range conns {
		conns[i] = s.dial()
		switch i % 4 {
		case 0: // a head that does not end
			fmt.Fprintf(conns[i], "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: ")
		case 1: // a body that does not move
			fmt.Fprintf(conns[i], "PATCH %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nab", loc[i])
		case 2:
			fmt.Fprintf(conns[i], "POST /v2/r/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nab", sum(nil))
		case 3:
			fmt.Fprintf(conns[i], "PUT /v2/r/manifests/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n%s", strings.Repeat(" ", 50_000))
		}
	}
	time.Sleep(time.Second) // so that most of them wait for more
	for round := range 3 {
		for _, c := range conns {
			c.Write([]byte("x"))
		}
		s.push("quick", digesttest.Noise(1<<20, round))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)
	t.Logf("%d KiB for each connection, both ends", used/1024/int64(len(conns)))
	if used > 150<<20 {
		t.Errorf("%d MiB for %d connections", used>>20, len(conns))
	}
	for _, c := range conns {
		c.Close()
	}
	for i := 1; i < len(loc); i += 4 { // their bytes are there
		s.await(loc[i], 5)
	}
	verifyAll(t, s.dir)
}

// A body that stands still is cut after the idle time; its session stays.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, Options{IdleTimeout: 300 * time.Millisecond})
	loc := s.begin("r")
	for _, request := range []string{
		fmt.Sprintf("PATCH %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc", loc),
		"PUT /v2/r/manifests/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc",
		"PUT /v2/absent/blobs/uploads/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc", // refused unread
	} {
		c := s.dial()
		io.WriteString(c, request)
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%.30q: %v", request, err)
		}
	}
	if a := s.want(204, "GET", loc, nil); a.Header.Get("Range") != "0-2" {
		t.Errorf("Range = %q, want 0-2", a.Header.Get("Range"))
	}
}

// A client that sends megabytes learns why they are refused, also while it sends.
func TestRefusalIsHeard(t *testing.T) {
	t.Parallel()
	s := start(t, Options{MaxUpload: 1000})
	data := digesttest.Noise(20<<20, 1)
	for range 5 {
		s.want(413, "PUT", "/v2/r/manifests/x", data, "Content-Type", oci.MediaTypeManifest)
		s.want(413, "POST", "/v2/r/blobs/uploads/?digest="+sum(nil), data)
		s.want(404, "PATCH", "/v2/r/blobs/uploads/"+strings.Repeat("0", 32), data)
		s.want(404, "PUT", "/v2/r/blobs/uploads/"+strings.Repeat("0", 32)+"?digest="+sum(nil), io.MultiReader(strings.NewReader(string(data))))
	}
	s.want(404, "PATCH", "/v2/r/blobs/uploads/"+strings.Repeat("0", 32), data, "Expect", "100-continue")
}

// A handler that panics is a fault of ours. The client gets no answer, and the log does not say that
// it got one.
func TestPanicIsLogged(t *testing.T) {
	logged := make(chan exchange.Access, 8)
	s := start(t, Options{Log: func(a exchange.Access) { logged <- a }})
	s.s.routes[exchange.Ping] = map[string]handler{"GET": func(*Server, *exchange.Recorder, *http.Request, exchange.Route) error {
		var none []int
		return fmt.Errorf("%d", none[len(none)])
	}}
	if resp, err := http.Get(s.url + "/v2/"); err == nil {
		resp.Body.Close()
		t.Errorf("the client got %s", resp.Status)
	}
	a := <-logged
	if a.Status != 0 || !strings.HasPrefix(a.Error, "panic: runtime error: index out of range [0] with length 0 in serve.TestPanicIsLogged.") {
		t.Errorf("logged: %s", a)
	}
}
