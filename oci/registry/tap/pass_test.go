package tap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
)

// serveBefore runs a tap on a listener of its own before a handler, until the test ends or stop is
// called, which waits for it.
func serveBefore(t *testing.T, h http.Handler, change func(*Options)) (tap *Tap, address string, stop func()) {
	t.Helper()
	upstream := httptest.NewServer(h)
	t.Cleanup(upstream.Close)
	u, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}

	transport := &http.Transport{DisableCompression: true, ReadBufferSize: 64 << 10}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return Dialed(c), nil
	}
	t.Cleanup(transport.CloseIdleConnections)

	o := Options{Registry: u, Transport: transport}
	if change != nil {
		change(&o)
	}
	if tap, err = New(o); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tap.Serve(ctx, ln, nil) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	return tap, "http://" + ln.Addr().String(), stop
}

// Large blobs come whole, take the pipe where there is one, and leave both connections in order: the
// next request uses them again.
func TestPass(t *testing.T) {
	blob := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{1}).Read(blob)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	})

	var entries []*record.Entry
	tap, address, stop := serveBefore(t, h, func(o *Options) {
		o.Large = 2 << 20
		o.Seen = func(e *record.Entry, _ []judge.Verdict) { entries = append(entries, e) }
	})

	path := address + "/v2/app/blobs/" + digest.FromBytes(blob).String()
	for _, test := range []struct {
		method, span string
		from, to     int
	}{
		{"GET", "", 0, len(blob)},
		{"HEAD", "", 0, 0},
		{"GET", "bytes=5-5000000", 5, 5000001},
		{"GET", "bytes=7-99", 7, 100},
		{"GET", "", 0, len(blob)}, // hashed, as it comes again
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.span != "" {
			req.Header.Set("Range", test.span)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, blob[test.from:test.to]) {
			t.Errorf("%s %s: %d bytes, %v", test.method, test.span, len(got), err)
		}
	}

	checkLanes(t, tap, true)

	stop()
	if len(entries) != 5 {
		t.Fatalf("%d exchanges", len(entries))
	}
	for i, e := range entries {
		if i > 0 && !e.Reused {
			t.Errorf("request %d made a new connection", e.N)
		}
	}
	if last := entries[4]; entries[0].Answered.Digest != "" || last.Answered.Digest != digest.FromBytes(blob).String() {
		t.Errorf("digests: %q, then %q", entries[0].Answered.Digest, last.Answered.Digest)
	}
}

// checkLanes fails unless bodies took pipes, and all of them but what was in a buffer already, or none did.
func checkLanes(t *testing.T, tap *Tap, want bool) {
	t.Helper()
	passed := 0
	for range maxLanes {
		l := <-tap.lanes
		if l != nil {
			passed++
			if slices.Max(l.mark[64<<10:]) > 0 { // behind what the transport's buffer can hold
				t.Error("bytes were copied that should have taken the pipe")
			}
		}
		tap.lanes <- l
	}
	if runtime.GOOS == "linux" && (passed > 0) != want {
		t.Errorf("%d pipes were made", passed)
	}
}

// Large bodies of requests pass in the same way, to the last byte. Where faults may change them they are
// copied.
func TestPassPush(t *testing.T) {
	blob := make([]byte, 6<<20)
	rand.NewChaCha8([32]byte{2}).Read(blob)
	for _, faults := range [][]string{nil, {"put-401"}} {
		got := make(chan []byte, 1)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				w.Header().Set("Location", "/v2/app/blobs/uploads/1")
				w.WriteHeader(http.StatusAccepted)
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got <- body
			w.WriteHeader(http.StatusCreated)
		})

		var entries []*record.Entry
		tap, address, stop := serveBefore(t, h, func(o *Options) {
			o.Large, o.Faults, o.FaultPath = 2<<20, faults, "nowhere"
			o.Seen = func(e *record.Entry, _ []judge.Verdict) { entries = append(entries, e) }
		})

		for range 2 {
			for _, test := range []struct {
				method, path string
				body         []byte
			}{
				{"POST", "/v2/app/blobs/uploads/", nil},
				{"PUT", "/v2/app/blobs/uploads/1?digest=" + digest.FromBytes(blob).String(), blob},
			} {
				req, err := http.NewRequestWithContext(t.Context(), test.method, address+test.path, bytes.NewReader(test.body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if test.body != nil && (resp.StatusCode != http.StatusCreated || !bytes.Equal(<-got, blob)) {
					t.Errorf("status %d, or other bytes", resp.StatusCode)
				}
			}
		}

		checkLanes(t, tap, faults == nil)
		stop()
		for i, e := range entries {
			if e.Method == "PUT" && (e.Sent != int64(len(blob)) || e.Cut != "" || !e.Unhashed) || i > 0 && !e.Reused {
				t.Errorf("%s: %d bytes, cut by %q, unhashed %t, reused %t", e.Method, e.Sent, e.Cut, e.Unhashed, e.Reused)
			}
		}
	}
}

// Whoever breaks the connection in the middle of what passes by itself is named.
func TestPassCut(t *testing.T) {
	const size, part = 40 << 20, 5 << 20
	for _, who := range []string{"registry", "client"} {
		half := make(chan struct{})
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.Write(make([]byte, part))
			http.NewResponseController(w).Flush()
			if who == "client" { // the rest comes until nobody takes it
				<-half
				io.CopyN(w, zeros{}, size-part)
			}
			panic(http.ErrAbortHandler)
		})

		seen := make(chan *record.Entry, 1)
		tap, address, stop := serveBefore(t, h, func(o *Options) {
			o.Seen = func(e *record.Entry, _ []judge.Verdict) { seen <- e }
		})

		resp, err := http.Get(address + "/v2/app/blobs/" + digest.FromBytes(nil).String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyN(io.Discard, resp.Body, part)
		if n != part || err != nil {
			t.Errorf("%s: %d bytes, %v", who, n, err)
		}
		if who == "registry" {
			if n, err := io.Copy(io.Discard, resp.Body); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("behind the cut: %d bytes, %v", n, err)
			}
		}
		resp.Body.Close()
		close(half)

		e := <-seen
		if e.Cut != who || e.Received < part || e.Received >= size {
			t.Errorf("%s: cut by %q after %d bytes", who, e.Cut, e.Received)
		}
		stop()

		// No place is lost, and all pipes are closed.
		for range maxLanes {
			if l := <-tap.lanes; l != nil {
				t.Errorf("%s: a pipe is left open", who)
			}
		}
	}
}

// So is whoever breaks it in the middle of a request that passes.
func TestPassPushCut(t *testing.T) {
	const size, part = 40 << 20, 5 << 20
	for _, who := range []string{"registry", "client"} {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if who == "registry" {
				io.CopyN(io.Discard, r.Body, part)
				panic(http.ErrAbortHandler)
			}
			io.Copy(io.Discard, r.Body)
		})

		seen := make(chan *record.Entry, 1)
		_, address, stop := serveBefore(t, h, func(o *Options) {
			o.Seen = func(e *record.Entry, _ []judge.Verdict) { seen <- e }
		})

		c, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PATCH /v2/app/blobs/uploads/1 HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", strings.TrimPrefix(address, "http://"), size)
		send := int64(size)
		if who == "client" {
			send = part
		}
		io.CopyN(c, zeros{}, send) // fails when the connection has broken
		if who == "client" {
			c.Close()
		}

		if e := <-seen; e.Cut != who || e.Sent < part {
			t.Errorf("%s: cut by %q after %d bytes %s", who, e.Cut, e.Sent, e.Error)
		}
		c.Close()
		stop() // waits for all lanes
	}
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
