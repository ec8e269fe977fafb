package registry_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
)

// A plan looks at a blob several times. What is there is asked for once, what is not may come.
func TestStatAsksOnce(t *testing.T) {
	here, gone := digest.FromBytes([]byte("here")), digest.FromBytes([]byte("gone"))
	asked := map[digest.Digest]int{}
	r := newRig(t, servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, d := range []digest.Digest{here, gone} {
			if strings.HasSuffix(r.URL.Path, d.String()) {
				asked[d]++
			}
		}
		if !strings.HasSuffix(r.URL.Path, here.String()) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", "5")
	})))
	repo := registry.NewRepository(t.Context(), r.Client, registry.Reference{Host: "r.test", Repo: "app"}, nil)

	for range 3 {
		if size, err := repo.Stat(here); size != -1 || err != nil {
			t.Errorf("Stat = %d, %v", size, err)
		}
		if _, err := repo.Stat(gone); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Stat of what is gone = %v", err)
		}
	}
	if asked[here] != 1 || asked[gone] != 3 {
		t.Errorf("asked %d and %d times, want 1 and 3", asked[here], asked[gone])
	}

	// What HEAD says of the length counts for nothing.
	desc := oci.Descriptor{MediaType: oci.MediaTypeLayerGzip, Digest: here, Size: 4}
	if state, err := (graph.Rules{}).StateOf(repo, "", desc); state != graph.Present {
		t.Errorf("a blob whose length is said to be another: %v, %v", state, err)
	}
}
