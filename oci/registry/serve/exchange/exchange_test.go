package exchange

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestFinish(t *testing.T) {
	start := time.Unix(100, 0)
	for _, c := range []struct {
		status int
		abort  bool
		want   int
	}{{0, false, 200}, {0, true, 0}, {404, false, 404}} {
		r := httptest.NewRequest("GET", "/v2/?a=b", nil)
		r.RemoteAddr = "192.0.2.1:1234"
		r.Header.Set("User-Agent", "me")
		w := NewRecorder(httptest.NewRecorder(), r, start, time.Minute)
		if w.Abort = c.abort; c.status != 0 {
			w.WriteHeader(c.status)
		}
		w.Finish(r, start.Add(1500*time.Millisecond))
		want := Access{Time: start, Remote: "192.0.2.1", Method: "GET", Path: "/v2/?a=b", Status: c.want, Millis: 1500, Agent: "me"}
		if w.Access != want {
			t.Errorf("Finish: got %+v, want %+v", w.Access, want)
		}
	}
}

func TestSendJSON(t *testing.T) {
	w := httptest.NewRecorder()
	if err := SendJSON(w, "application/x", []int{1}); err != nil || w.Code != 200 || w.Body.String() != "[1]" || w.Header().Get("Content-Length") != "3" {
		t.Errorf("SendJSON = %v, sent %+v", err, w)
	}
	w = httptest.NewRecorder()
	if err := SendJSON(w, "application/x", make(chan int)); err == nil || w.Body.Len() > 0 {
		t.Errorf("SendJSON of no document = %v, sent %q", err, w.Body)
	}
}

func TestQuote(t *testing.T) {
	long := strings.Repeat("a", 100)
	for in, want := range map[string]string{"a\n": `"a\n"`, long: `"` + long + `"`, long + "b": `"` + long + `"…`} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}
