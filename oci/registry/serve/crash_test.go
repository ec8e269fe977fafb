package serve

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocikit/digest/digesttest"
	"ocikit/oci"
)

// childDir names the variable that makes the test binary a registry of that directory.
const childDir = "OCIKIT_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		runChild(dir)
	}
	os.Exit(m.Run())
}

func runChild(dir string) {
	s, err := New(dir, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(ln.Addr())
	s.Serve(context.Background(), ln)
	os.Exit(1)
}

// A child is a registry in a process of its own, to be killed.
type child struct {
	cmd   *exec.Cmd
	url   string
	tries atomic.Int64 // requests that were made
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &child{cmd: cmd, url: "http://" + strings.TrimSpace(addr)}
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// waitTries waits until so many more requests were made, in the middle of the last one, or
// nobody makes any.
func (c *child) waitTries(n int, ended <-chan struct{}) {
	for before := c.tries.Load(); c.tries.Load()-before < int64(n); {
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// try sends a request and returns status and Location, 0 if the connection broke.
func (c *child) try(method, url string, body []byte, header ...string) (int, string) {
	c.tries.Add(1)
	if strings.HasPrefix(url, "/") {
		url = c.url + url
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return 0, ""
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, strings.TrimPrefix(resp.Header.Get("Location"), c.url)
}

// A registry that is killed again and again among its uploads has every layout sound, every
// name that it confirmed, and every session at least as far as it said.
func TestKilled(t *testing.T) {
	rounds, enough := 20, 200 // kills and uploads at least, however slow the machine is
	if testing.Short() {
		rounds, enough = 3, 1
	}
	dir := t.TempDir()
	var mu sync.Mutex
	confirmed := map[string]string{}     // path of a manifest: its digest
	open := map[string]int{}             // Location: offset that was confirmed
	data := digesttest.Noise(3<<20, 100) // of every session that is open
	uploads, resumed, kills := 0, 0, 0
	for round := 0; round < rounds || uploads < enough; round++ {
		c := startChild(t, dir)
		resumed += c.resumeAll(t, open, data)
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for i := range 1000 {
					repo := fmt.Sprintf("team%d/app", w%3)
					path, d, ok := c.pushSmall(repo, byte(round), byte(w), i)
					mu.Lock()
					uploads++
					if ok {
						confirmed[path] = d
					}
					mu.Unlock()
					if !ok || !c.leaveOpen(repo, data, &mu, open) {
						return
					}
				}
			})
		}
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		c.waitTries(30+round*17%120, ended)
		c.kill()
		kills++
		<-ended
		verifyAll(t, dir)
	}
	if resumed == 0 || len(confirmed) == 0 {
		t.Fatalf("nothing was tried: %d resumed, %d confirmed", resumed, len(confirmed))
	}
	c := startChild(t, dir)
	defer c.kill()
	resumed += c.resumeAll(t, open, data)
	for path, d := range confirmed {
		if status, _ := c.try("GET", path, nil); status != 200 {
			t.Errorf("%s (%s) was confirmed and is gone: %d", path, d, status)
		}
	}
	verifyAll(t, dir)
	t.Logf("%d kills, %d uploads, %d images confirmed, %d sessions resumed", kills, uploads, len(confirmed), resumed)
}

// pushSmall pushes an image of one blob, which is layer and config.
func (c *child) pushSmall(repo string, round, worker byte, i int) (path, d string, ok bool) {
	layer := append(digesttest.Noise(20_000, int(worker)), round, worker, byte(i))
	status, loc := c.try("POST", "/v2/"+repo+"/blobs/uploads/", nil)
	if status != 202 {
		return
	}
	if status, loc = c.try("PATCH", c.url+loc, layer); status != 202 {
		return
	}
	if status, _ = c.try("PUT", c.url+loc+"&digest="+sum(layer), nil); status != 201 {
		return
	}
	doc, err := oci.Encode(oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest,
		Config: oci.Describe("application/x", layer), Layers: []oci.Descriptor{oci.Describe(oci.MediaTypeLayer, layer)}})
	if err != nil {
		return
	}
	path = fmt.Sprintf("/v2/%s/manifests/t%d-%d-%d", repo, round, worker, i)
	status, _ = c.try("PUT", path, doc, "Content-Type", oci.MediaTypeManifest)
	return path, sum(doc), status == 201
}

// leaveOpen opens a session, sends part of the data and leaves it.
func (c *child) leaveOpen(repo string, data []byte, mu *sync.Mutex, open map[string]int) bool {
	status, loc := c.try("POST", "/v2/"+repo+"/blobs/uploads/", nil)
	for off := 0; status == 202 && off < len(data)/2; off += 500_000 {
		mu.Lock()
		open[loc] = off
		mu.Unlock()
		old := loc
		if status, loc = c.try("PATCH", c.url+loc, data[off:off+500_000]); status == 202 {
			mu.Lock()
			delete(open, old)
			open[loc] = off + 500_000
			mu.Unlock()
		}
	}
	return status == 202
}

// resumeAll finishes the sessions that are open, each from where the registry says.
func (c *child) resumeAll(t *testing.T, open map[string]int, data []byte) (n int) {
	t.Helper()
	for loc, confirmed := range open {
		delete(open, loc)
		resp, err := http.Get(c.url + loc)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		end := -1
		fmt.Sscanf(resp.Header.Get("Range"), "0-%d", &end)
		at := end + 1
		if strings.HasSuffix(resp.Header.Get("Location"), "offset=0") {
			at = 0
		}
		if resp.StatusCode != 204 || at < confirmed || at > len(data) {
			t.Errorf("session %s: %d, Range %q, %d bytes were confirmed", loc, resp.StatusCode, resp.Header.Get("Range"), confirmed)
			continue
		}
		status, _ := c.try("PUT", resp.Header.Get("Location")+"&digest="+sum(data), data[at:])
		if status != 201 {
			t.Errorf("session %s at %d: PUT = %d", loc, at, status)
		}
		n++
	}
	return n
}

// Serve stops when it is told to, whatever is going on, and keeps what has come.
func TestGracefulStop(t *testing.T) {
	dir := t.TempDir()
	s, err := New(dir, Options{Grace: 200 * time.Millisecond, IdleTimeout: time.Hour}) // nothing waits for that long
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	ts := &testServer{t, s, dir, "http://" + ln.Addr().String(), ln.Addr().String()}
	loc := ts.begin("r")
	c := ts.dial()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n12345", loc)
	watcher := ts.dial()
	fmt.Fprintf(watcher, "GET /-/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	idle := ts.dial()
	defer idle.Close()
	ts.await(loc, 5)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	again := startIn(t, dir, Options{})
	if a := again.want(204, "GET", loc, nil); a.Header.Get("Range") != "0-4" {
		t.Errorf("Range = %q, want 0-4", a.Header.Get("Range"))
	}
}
