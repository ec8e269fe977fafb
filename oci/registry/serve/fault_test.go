package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/registry/serve/fault"
)

// Every fault has a name and a line. What each does is tried on our own client, see
// TestFaultsMeetOurClient.
func TestFaultNames(t *testing.T) {
	word := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	var seen []string
	for _, f := range fault.All() {
		if !word.MatchString(f.Name) || slices.Contains(seen, f.Name) || f.Short == "" || strings.Contains(f.Short, "\n") {
			t.Errorf("fault %q: %q", f.Name, f.Short)
		}
		seen = append(seen, f.Name)
	}
	if _, err := New(t.TempDir(), Options{Faults: []string{"no-such"}}); err == nil {
		t.Error("an unknown fault is not an error")
	}
}

// A cut upload goes on where the registry says, and a blob that was cut is whole the next
// time.
func TestCutFaults(t *testing.T) {
	for _, name := range []string{"patch-cut", "patch-cut-part", "patch-half", "patch-503", "chunk-lost"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Options{Faults: []string{name, "blob-cut"}})
			data := digesttest.Noise(6<<20, 2)
			loc := s.begin("r")
			for range 10 {
				at := strings.TrimPrefix(loc[strings.Index(loc, "?"):], "?offset=")
				off := 0
				for _, c := range at {
					off = off*10 + int(c-'0')
				}
				if off == len(data) {
					break
				}
				req, err := http.NewRequest("PATCH", s.url+loc, bytes.NewReader(data[off:min(off+2<<20, len(data))]))
				if err != nil {
					t.Fatal(err)
				}
				if resp, err := http.DefaultClient.Do(req); err == nil {
					resp.Body.Close()
				}
				loc = s.want(204, "GET", loc, nil).Header.Get("Location")
			}
			s.want(201, "PUT", loc+"&digest="+sum(data), nil)
			if _, err := readAll(s.url + "/v2/r/blobs/" + sum(data)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the first GET: %v, want it cut", err)
			}
			if got, err := readAll(s.url + "/v2/r/blobs/" + sum(data)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the second GET: %v, %d bytes", err, len(got))
			}
			verifyAll(t, s.dir)
		})
	}
}

func readAll(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// An index without manifests has no layer to lose, and is refused all the same.
func TestInvalidEmptyIndex(t *testing.T) {
	s := start(t, Options{Faults: []string{"manifest-invalid"}})
	empty := `{"schemaVersion":2,"manifests":[]}`
	if got := s.want(400, "PUT", "/v2/r/manifests/x", empty, "Content-Type", oci.MediaTypeIndex); got.code(t) != "MANIFEST_INVALID" {
		t.Errorf("refused with %s", got.body)
	}
}

// An answer that takes minutes ends with the server, which cannot end it by itself: its connection was
// taken over.
func TestSlowHeaderEnds(t *testing.T) {
	s := start(t, Options{Faults: []string{"headers-slow"}})
	c := s.dial()
	fmt.Fprintf(c, "GET /v2/r/tags/list HTTP/1.1\r\nHost: %s\r\n\r\n", s.addr)
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.s.Close()
	if rest, err := io.ReadAll(c); err != nil {
		t.Errorf("%q comes behind the end, then %v", rest, err)
	}
}
