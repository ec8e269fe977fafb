package replay

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci/registry/tap/record"
	"ocikit/oci/registry/wire"
)

// A client that sends two blobs at once may open their sessions in another order than it did in the
// recording: that is no difference. Another digest or another body is one.
func TestSessionsInAnotherOrder(t *testing.T) {
	const uploads = "/v2/app/blobs/uploads/"
	of := func(text string) string { return digest.FromBytes([]byte(text)).String() }

	var entries []*record.Entry
	add := func(method, path, body, location string) {
		e := &record.Entry{N: len(entries) + 1, Event: wire.Event{Method: method, URL: "http://registry.test" + path, Status: 202, Response: http.Header{"Location": {location}}}}
		e.Asked.Size, e.Asked.Digest = int64(len(body)), of(body)
		entries = append(entries, e)
	}
	add("PATCH", uploads+"a", "one", uploads+"a-2")
	add("PATCH", uploads+"b", "two", uploads+"b-2")
	add("PUT", uploads+"a-2?digest="+of("one"), "", "/v2/app/blobs/"+of("one"))
	add("PUT", uploads+"b-2?digest="+of("two"), "", "/v2/app/blobs/"+of("two"))
	add("PUT", uploads+"c?digest="+of("three"), "three", "/v2/app/blobs/"+of("three"))
	add("PUT", uploads+"d?digest="+of("four"), "four", "/v2/app/blobs/"+of("four"))

	for _, c := range []struct {
		name     string
		requests [][3]string // method, path and body
		location string      // of the last answer
		diverged int
	}{
		{"as recorded", [][3]string{{"PATCH", uploads + "a", "one"}, {"PATCH", uploads + "b", "two"}}, uploads + "b-2", 0},
		{"in chunks", [][3]string{{"PATCH", uploads + "b", "one"}, {"PATCH", uploads + "a", "two"}, {"PUT", uploads + "b-2?digest=" + of("two"), ""}}, "/v2/app/blobs/" + of("two"), 0},
		{"in one PUT", [][3]string{{"PUT", uploads + "d?digest=" + of("three"), "three"}, {"PUT", uploads + "c?digest=" + of("four"), "four"}}, "/v2/app/blobs/" + of("four"), 0},
		{"another digest", [][3]string{{"PUT", uploads + "c?digest=" + of("five"), "three"}}, "", 1},
		{"another body", [][3]string{{"PATCH", uploads + "b", "six"}}, uploads + "b-2", 1},
		{"twice", [][3]string{{"PATCH", uploads + "a", "one"}, {"PATCH", uploads + "a", "one"}}, uploads + "a-2", 1},
	} {
		s, err := NewServer(record.Head{Registry: "http://registry.test"}, entries, nil)
		if err != nil {
			t.Fatal(err)
		}
		location := ""
		for _, r := range c.requests {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(r[0], r[1], strings.NewReader(r[2])))
			location = w.Header().Get("Location")
		}
		if _, _, diverged := s.Result(); location != c.location || len(diverged) != c.diverged {
			t.Errorf("%s: led to %q, diverged %q, want %q, %d", c.name, location, diverged, c.location, c.diverged)
		}
	}
}
