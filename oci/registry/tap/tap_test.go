package tap_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/access"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/oci/registry/tap"
	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
)

// A rig is a tap before a registry.
type rig struct {
	*testing.T
	tap  *tap.Tap
	stop func() // waits until all exchanges are written down
	url  string
	real string // the registry's own address

	mu       sync.Mutex
	entries  []*record.Entry
	verdicts [][]judge.Verdict
}

func (r *rig) seen(e *record.Entry, v []judge.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries, r.verdicts = append(r.entries, e), append(r.verdicts, v)
}

// newRig puts a tap before a handler.
func newRig(t *testing.T, h http.Handler, change func(*tap.Options)) *rig {
	t.Helper()
	upstream := httptest.NewServer(h)
	t.Cleanup(upstream.Close)
	u, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, real: upstream.URL}
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	o := tap.Options{Registry: u, Transport: tr, Seen: r.seen, Digests: true}
	if change != nil {
		change(&o)
	}
	if r.tap, err = tap.New(o); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(r.tap)
	t.Cleanup(front.Close)
	r.stop = front.Close
	r.url = front.URL
	return r
}

func (r *rig) client(change func(*registry.Options)) *registry.Client {
	r.Helper()
	o := registry.Options{PlainHTTP: true}
	if change != nil {
		change(&o)
	}
	return servetest.Client(r, strings.TrimPrefix(r.url, "http://"), o)
}

// push pushes an image of one layer in two chunks and pulls it again.
func push(ctx context.Context, c *registry.Client, repo string, layer []byte) error {
	d := digest.FromBytes(layer)
	up, err := c.StartUpload(ctx, repo, digest.SHA256)
	if err != nil {
		return err
	}
	half := int64(len(layer) / 2)
	for _, part := range [][]byte{layer[:half], layer[half:]} {
		if err := c.PatchUpload(ctx, &up, registry.Body{Reader: bytes.NewReader(part), Size: int64(len(part))}); err != nil {
			return err
		}
	}
	if err := c.PutUpload(ctx, &up, d, registry.Body{}); err != nil {
		return err
	}
	config := []byte(`{"architecture":"amd64","os":"linux"}`)
	if _, _, err := c.PostBlob(ctx, repo, digest.FromBytes(config), registry.Body{Reader: bytes.NewReader(config), Size: int64(len(config))}); err != nil {
		return err
	}
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		oci.MediaTypeManifest, digest.FromBytes(config), len(config), d, len(layer))
	if _, err := c.PutManifest(ctx, repo, "v1", oci.MediaTypeManifest, manifest); err != nil {
		return err
	}
	_, got, err := c.GetManifest(ctx, repo, "v1")
	if err != nil || !bytes.Equal(got, manifest) {
		return fmt.Errorf("the manifest differs: %v", err)
	}
	b, err := c.GetBlob(ctx, repo, d, 0, int64(len(layer)))
	if err != nil {
		return err
	}
	defer b.Close()
	back, err := io.ReadAll(b)
	if err == nil && !bytes.Equal(back, layer) {
		err = fmt.Errorf("the layer differs")
	}
	return err
}

func random(n int) []byte { return digesttest.Noise(n, 1) }

// What passes is what was sent, and every exchange of a correct conversation is right.
func TestPushAndPull(t *testing.T) {
	r := newRig(t, servetest.New(t, serve.Options{}), nil)
	if err := push(t.Context(), r.client(nil), "team/app", random(1<<20)); err != nil {
		t.Fatal(err)
	}
	r.stop()
	for i, list := range r.verdicts {
		for _, v := range list {
			if v.Level != judge.Right {
				t.Errorf("%s: %s", judge.What(r.entries[i]), v)
			}
		}
	}
	s := r.tap.Summary()
	if s.Lines()[0] != "all right: nothing was broken" || s.Uploads != 1 || s.Finished != 1 || s.Open != 0 {
		t.Errorf("summary: %q, %+v", s.Lines(), s)
	}
	if whole := r.entries[3].Whole; whole != digest.FromBytes(random(1<<20)).String() {
		t.Errorf("digest of the session: %q, %+v", whole, r.entries[3])
	}
}

// With tokens the client logs in through the tap, and no secret is in what the tap says.
func TestTokens(t *testing.T) {
	line, err := access.PasswordLine("me", "planted-password")
	if err != nil {
		t.Fatal(err)
	}
	auth, err := access.NewAuth(strings.NewReader(line), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tokens := range []bool{false, true} {
		r := newRig(t, servetest.New(t, serve.Options{Auth: auth, TokenAuth: tokens}), nil)
		c := r.client(func(o *registry.Options) { o.Username, o.Password = "me", "planted-password" })
		if err := push(t.Context(), c, "app", random(100_000)); err != nil {
			t.Fatal(err)
		}
		r.stop()
		if line := r.tap.Summary().Lines()[0]; line != "all right: nothing was broken" {
			t.Errorf("tokens %t: %s", tokens, line)
		}
		var out bytes.Buffer
		w, err := record.NewWriter(&out, record.Head{Registry: r.real})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.entries {
			if err := w.Write(e); err != nil {
				t.Fatal(err)
			}
			if e.Endpoint == "token" && e.Asked.Digest+e.Answered.Digest != "" { // of a form with a password, by which it can be guessed
				t.Errorf("%s: the recording holds the digest of what was said to the token server", judge.What(e))
			}
		}
		for _, secret := range []string{"planted-password", "bWU6cGxhbnRlZC1wYXNzd29yZA", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."} {
			if strings.Contains(out.String(), secret) {
				t.Errorf("tokens %t: the recording holds %q", tokens, secret)
			}
		}
	}
}

// A registry leads to storage by a signed URL, which is as good as a password. Storage that refuses it
// repeats the signature in its answer. It is nowhere in what the tap says.
func TestSignedURL(t *testing.T) {
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("X-Amz-Signature") != "planted/signature" || r.Header.Get("Authorization") != "" {
			t.Errorf("storage was asked for %s with %q", r.URL, r.Header.Get("Authorization"))
		}
		w.Header().Set("X-Refused", r.URL.Query().Get("X-Amz-Signature"))
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<Error><Code>SignatureDoesNotMatch</Code><SignatureProvided>%s</SignatureProvided></Error>", r.URL.Query().Get("X-Amz-Signature"))
	}))
	defer storage.Close()
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, storage.URL+"/bucket?X-Amz-Signature=planted%2Fsignature", http.StatusTemporaryRedirect)
	}), nil)

	resp, err := http.Get(r.url + "/v2/app/blobs/" + digest.FromBytes(nil).String())
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	page, err := http.Get(r.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	shown, err := io.ReadAll(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()

	if len(r.entries) != 2 || r.entries[1].Status != http.StatusForbidden || !r.entries[1].Away {
		t.Fatalf("%d exchanges", len(r.entries))
	}
	out := bytes.NewBuffer(shown)
	har := record.NewHAR(out)
	for i, e := range r.entries {
		line, err := oci.EncodeLine(e)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(line)
		fmt.Fprintln(out, r.verdicts[i], e.Curl(), har.Write(e))
	}
	fmt.Fprintln(out, r.tap.Summary())
	for _, secret := range []string{"planted/signature", "planted%2Fsignature"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in\n%s", secret, out.String())
		}
	}
}

// The page follows: its stream tells of the summary as it is, not as it was when the page was loaded.
func TestPageSummary(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }), nil)
	events, err := http.Get(r.url + "/-/events")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()

	lines := bufio.NewScanner(events.Body)
	for _, want := range []string{`"summary":["nothing came: `, `"summary":["cause: the registry: too many requests (429)`} {
		found := false
		for !found && lines.Scan() {
			found = strings.Contains(lines.Text(), want)
		}
		if !found {
			t.Fatalf("the stream ended without %s: %v", want, lines.Err())
		}
		resp, err := http.Get(r.url + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

// Large bodies are hashed only where somebody has a doubt, and the tap says what it does not know.
func TestLargeBodies(t *testing.T) {
	layer := random(100_000)
	d := digest.FromBytes(layer).String()
	small := func(o *tap.Options) { o.Digests, o.Large = false, 10_000 }
	rules := func(r *rig) (list []string) {
		for _, vs := range r.verdicts {
			for _, v := range vs {
				if v.Broken() {
					list = append(list, v.Rule)
				}
			}
		}
		return list
	}

	// One that passes twice is hashed the second time.
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(append([]byte("x"), layer[1:]...)) }), small)
	for i := range 2 {
		resp, err := http.Get(r.url + "/v2/app/blobs/" + d)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if line := r.tap.Summary().Lines()[0]; i == 0 && !strings.Contains(line, "digests of 1 large blobs") {
			t.Errorf("summary: %s", line)
		}
	}
	r.stop()
	if got := rules(r); len(got) != 1 || got[0] != "blob-bytes" || r.entries[0].Answered.Digest != "" {
		t.Errorf("two pulls of wrong bytes: %q, %+v", got, r.entries[0])
	}

	// An upload that is refused makes the tap look at all that follow, in one piece or in several.
	for _, chunks := range []int{1, 3} {
		r := newRig(t, servetest.New(t, serve.Options{}), small)
		c := r.client(nil)
		for range 2 {
			up, err := c.StartUpload(t.Context(), "app", digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			for i := range chunks {
				part := layer[i*len(layer)/chunks : (i+1)*len(layer)/chunks]
				if err := c.PatchUpload(t.Context(), &up, registry.Body{Reader: bytes.NewReader(part), Size: int64(len(part))}); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.PutUpload(t.Context(), &up, digest.FromBytes([]byte("other")), registry.Body{}); err == nil {
				t.Fatal("the registry took a wrong digest")
			}
		}
		r.stop()
		if got := rules(r); len(got) != 2 || got[0] != "digest-unknown" || got[1] != "digest-client" {
			t.Errorf("two uploads in %d chunks with a wrong digest: %q", chunks, got)
		}
		if whole := r.entries[len(r.entries)-1].Whole; whole != d {
			t.Errorf("digest of the second upload: %q, want %s", whole, d)
		}
	}
}

// A client may ask how far an upload is while a chunk of it is on its way. The race detector sees
// whether the two get in each other's way.
func TestStatusDuringChunk(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/v2/app/blobs/uploads/1")
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(n-1, 0)))
		w.WriteHeader(http.StatusAccepted)
	}), nil)
	send := func(method, path string, body io.Reader) {
		req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, body)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	}
	send("POST", "/v2/app/blobs/uploads/", nil)

	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		send("PATCH", "/v2/app/blobs/uploads/1", pr)
	}()
	for range 20 {
		pw.Write(random(1000))
		send("GET", "/v2/app/blobs/uploads/1", nil)
	}
	pw.Close()
	<-done
	r.stop()

	// The tap writes an exchange down after its client has the answer, so the upload and the
	// last question may stand in either order.
	uploads := 0
	for _, e := range r.entries {
		if e.Method == "PATCH" && e.Sent == 20_000 {
			uploads++
		}
	}
	if len(r.entries) != 22 || uploads != 1 {
		t.Errorf("%d exchanges, %d of them the whole upload", len(r.entries), uploads)
	}
}

// Whoever has all of an answer finds the exchange written down, and is not taken for two requests at
// once by the next.
func TestWrittenDownBeforeTheEnd(t *testing.T) {
	body := random(100_000)
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		switch r.URL.Query().Get("how") {
		case "length":
			w.Header().Set("Content-Length", strconv.Itoa(n))
		case "pieces":
			w.Header().Set("Content-Length", strconv.Itoa(n))
			w.Write(body[:n/2])
			http.NewResponseController(w).Flush()
			w.Write(body[n/2 : n])
			return
		}
		w.Write(body[:n])
	}), nil)
	seen := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.entries)
	}

	passed := 0
	for _, method := range []string{"GET", "HEAD", "DELETE"} {
		for _, how := range []string{"length", "pieces", "unknown"} {
			for _, n := range []int{0, 1, 2, 2047, 2048, 2049, 4096, 32 << 10, 32<<10 + 1, 100_000} {
				req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("%s/v2/?n=%d&how=%s", r.url, n, how), nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if method == "HEAD" {
					n = 0
				}
				if err != nil || !bytes.Equal(got, body[:n]) {
					t.Errorf("%s of %d bytes, %s: %d bytes, %v", method, n, how, len(got), err)
				}
				if passed++; seen() != passed {
					t.Fatalf("%s of %d bytes, %s: %d of %d exchanges are written down", method, n, how, seen(), passed)
				}
			}
		}
	}
}

// A certificate or a key that somebody has put there alone is not replaced.
func TestAuthorityHalf(t *testing.T) {
	for _, name := range []string{"ca.crt", "ca.key"} {
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := tap.Authority(dir, []string{"r.test"}, time.Now())
		data, _ := os.ReadFile(file)
		files, _ := os.ReadDir(dir)
		if err == nil || string(data) != "mine" || len(files) != 1 {
			t.Errorf("%s alone: %v, it holds %q beside %d files", name, err, data, len(files)-1)
		}
	}

	dir := filepath.Join(t.TempDir(), "new")
	for range 2 {
		if _, err := tap.Authority(dir, []string{"r.test"}, time.Now()); err != nil {
			t.Error(err)
		}
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A panic of the tap itself is written down, and blames neither the client nor the registry.
func TestPanic(t *testing.T) {
	r := newRig(t, http.NotFoundHandler(), func(o *tap.Options) {
		o.Transport = transport(func(*http.Request) (*http.Response, error) { panic("planted") })
	})
	if resp, err := http.Get(r.url + "/v2/"); err == nil {
		resp.Body.Close()
		t.Errorf("status %d, want a connection that breaks", resp.StatusCode)
	}
	r.stop()
	if len(r.entries) != 1 || !strings.HasPrefix(r.entries[0].Error, "panic: planted in tap_test.") {
		t.Fatalf("exchanges: %+v", r.entries)
	}
	if v := r.verdicts[0][0]; v.Rule != "tap-cut" || v.Broken() {
		t.Errorf("verdict: %s", v)
	}
}

// A panic of the page is told, too: there is no exchange that could say it.
func TestPagePanic(t *testing.T) {
	var told []string
	tp, err := tap.New(tap.Options{
		Registry: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Failed: func(text string) { told = append(told, text) },
	})
	if err != nil {
		t.Fatal(err)
	}

	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("the handler ended with %v, want a connection that is cut", p)
			}
		}()
		tp.ServeHTTP(panicking{httptest.NewRecorder()}, httptest.NewRequest("GET", "/", nil))
	}()

	if len(told) != 1 || !strings.HasPrefix(told[0], "panic: planted in tap_test.panicking.Write:") {
		t.Errorf("told: %q", told)
	}
}

type panicking struct{ *httptest.ResponseRecorder }

func (panicking) Write([]byte) (int, error) { panic("planted") }

// An upload whose end got no answer may still be open, so it stays known.
func TestDeleteWithoutAnswer(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Location", "/v2/app/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	}), nil)
	for _, request := range []string{"POST /v2/app/blobs/uploads/", "DELETE /v2/app/blobs/uploads/1", "PATCH /v2/app/blobs/uploads/1"} {
		method, path, _ := strings.Cut(request, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}
	r.stop()
	if len(r.entries) != 3 || r.entries[1].Cut != "registry" || r.entries[2].From == nil {
		t.Errorf("exchanges: %+v", r.entries)
	}
}

// The page of a proxy is quoted in its words, and a title that is the heading as well once.
func TestSays(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusGatewayTimeout)
		io.WriteString(w, "<html><head><title>504 Gateway Time-out</title></head>\n<body><center><h1>504 Gateway\nTime-out</h1></center><hr>nginx<br>nginx 504</body></html>\n")
	}), nil)
	resp, err := http.Get(r.url + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	r.stop()
	if len(r.entries) != 1 || r.entries[0].Says != "504 Gateway Time-out nginx nginx 504" {
		t.Errorf("exchanges: %+v", r.entries)
	}
}

// A client that speaks TLS to the plain port is the cause while nothing else has come.
func TestHello(t *testing.T) {
	tp, err := tap.New(tap.Options{Registry: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Transport: transport(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- tp.Serve(ctx, ln, nil) }()

	if resp, err := http.Get("https://" + ln.Addr().String() + "/v2/"); err == nil {
		resp.Body.Close()
		t.Error("the tap speaks TLS")
	}
	if s := tp.Summary(); !s.Verdict.Broken() || !strings.HasPrefix(s.Lines()[0], "cause: the client: it speaks TLS to this port") || strings.Contains(s.Lines()[0], "request 0") {
		t.Errorf("summary %+v", s)
	}

	// Clients that were told to go on in plain HTTP.
	resp, err := http.Get("http://" + ln.Addr().String() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if s := tp.Summary(); s.Requests != 1 || s.Verdict.Broken() {
		t.Errorf("summary %+v", s)
	}
}
