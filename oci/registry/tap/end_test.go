package tap

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
)

// halfWays are exchanges that do not get any further, each with a registry that takes part until started
// is called.
func halfWays() map[string]func(w http.ResponseWriter, r *http.Request, started func()) {
	return map[string]func(w http.ResponseWriter, r *http.Request, started func()){
		"GET no answer": func(_ http.ResponseWriter, _ *http.Request, started func()) {
			started()
		},
		"GET half an answer": func(w http.ResponseWriter, _ *http.Request, started func()) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			started()
		},
		"PATCH half a request": func(_ http.ResponseWriter, r *http.Request, started func()) {
			io.ReadFull(r.Body, make([]byte, 4))
			started()
			io.Copy(io.Discard, r.Body)
		},
		"PATCH a request that is not taken": func(_ http.ResponseWriter, _ *http.Request, started func()) {
			started()
		},
	}
}

// run has a client begin an exchange that stays half way, calls then as soon as it is, and returns how the
// exchange was written down.
func run(t *testing.T, name string, change func(*Options), then func(stop func())) (*record.Entry, judge.Verdict, *Tap) {
	t.Helper()
	begun := make(chan struct{})
	released := make(chan struct{})
	half := halfWays()[name]
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		half(w, r, func() { close(begun) })
		<-released // a registry that does not notice by itself that the tap is gone
	})

	type end struct {
		e *record.Entry
		v judge.Verdict
	}
	seen := make(chan end, 1)
	tap, address, stop := serveBefore(t, h, func(o *Options) {
		o.Seen = func(e *record.Entry, v []judge.Verdict) { seen <- end{e, v[0]} }
		change(o)
	})

	ctx, cancel := context.WithCancel(t.Context())
	method, _, _ := strings.Cut(name, " ")
	path := "/v2/app/blobs/" + digest.FromBytes(nil).String()
	var body io.Reader
	abandon := make(chan struct{})
	if method == "PATCH" {
		path = "/v2/app/blobs/uploads/1"
		body = io.MultiReader(strings.NewReader("half"), waiting(abandon))
		if strings.Contains(name, "not taken") {
			body = zeros{}
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, address+path, body)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	defer func() {
		cancel()
		close(abandon)
		<-answered
	}()

	<-begun
	then(stop)
	got := <-seen
	close(released)
	return got.e, got.v, tap
}

// What is under way when the tap ends is written down and judged before Serve returns, and nobody is
// blamed for it.
func TestEnd(t *testing.T) {
	for name := range halfWays() {
		t.Run(name, func(t *testing.T) {
			e, v, tap := run(t, name, func(o *Options) { o.Grace = time.Millisecond }, func(stop func()) { stop() })
			if e.Cut != "end" || v.Rule != "ended" || v.Broken() {
				t.Errorf("cut by %q, %s", e.Cut, v)
			}
			lines := tap.Summary().Lines()
			if len(lines) != 2 || !strings.HasPrefix(lines[0], "all right so far: ") || !strings.HasSuffix(lines[1], "; 1 request cut by the end of the tap") {
				t.Errorf("summary: %q", lines)
			}
		})
	}
}

// A registry that lets nothing move for too long is cut and named, and so is a client.
func TestStalled(t *testing.T) {
	for name := range halfWays() {
		t.Run(name, func(t *testing.T) {
			var way noting
			want := "stalled"
			e, v, _ := run(t, name, func(o *Options) {
				way = noting{o.Transport, make(chan *passage, 1)}
				o.Transport, o.Idle = way, time.Hour
			}, func(func()) {
				p := <-way.passages
				if name == "PATCH half a request" {
					want = "client-stalled"
					p.w.Body.Stop() // as if the deadline had come
					return
				}

				// An hour passes. It may be the client's turn for a moment.
				for !p.watch.silent() {
					p.watch.moved.Store(0)
					p.watch.look()
				}
			})
			if !e.Stalled || v.Rule != want {
				t.Errorf("cut by %q, %s", e.Cut, v)
			}
		})
	}
}

// A noting transport tells which passage a request belongs to.
type noting struct {
	http.RoundTripper
	passages chan *passage
}

func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	n.passages <- r.Context().Value(passageKey{}).(*passage)
	return n.RoundTripper.RoundTrip(r)
}

// A registry may think for long about what moves meanwhile, and be slow for long in sum.
func TestSlowIsNotStalled(t *testing.T) {
	w := new(watch)
	now := time.Now()
	ctx := w.start(t.Context(), time.Hour)
	defer w.stop()
	for _, test := range []struct {
		whose turn
		ago   time.Duration
		cut   bool
	}{
		{theRegistry, time.Minute, false},
		{theClient, 2 * time.Hour, false}, // its connection has a deadline of its own
		{theRegistry, 2 * time.Hour, true},
	} {
		w.wait(test.whose)
		w.moved.Store(now.Add(-test.ago).UnixNano())
		w.look()
		if w.silent() != test.cut || (ctx.Err() != nil) != test.cut {
			t.Errorf("%v after %s: cut %t, %v", test.whose, test.ago, w.silent(), ctx.Err())
		}
	}
}

// waiting is a file in which nothing comes until the channel is closed, and then its end.
type waiting chan struct{}

func (w waiting) Read([]byte) (int, error) {
	<-w
	return 0, io.EOF
}
