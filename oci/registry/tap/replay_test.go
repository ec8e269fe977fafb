package tap_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/oci/registry/tap/replay"
)

// Another correct registry answers a recording as the first one did, whether the bytes of the blobs
// are there or have to be made up.
func TestReplay(t *testing.T) {
	r := newRig(t, servetest.New(t, serve.Options{}), nil)
	layer, c := random(100_000), r.client(nil)
	if err := push(t.Context(), c, "app", layer); err != nil {
		t.Fatal(err)
	}
	_, manifest, err := c.GetManifest(t.Context(), "app", "v1")
	if err != nil {
		t.Fatal(err)
	}

	// One of its own that goes by its digest alone, which is another one where blobs are made up.
	manifest = append(manifest, '\n')
	if _, err := c.PutManifest(t.Context(), "app", digest.FromBytes(manifest).String(), oci.MediaTypeManifest, manifest, "a", "b"); err != nil {
		t.Fatal(err)
	}
	r.stop()

	have := func(d digest.Digest) (io.ReadCloser, error) {
		if d != digest.FromBytes(layer) {
			return nil, errors.New("not here")
		}
		return io.NopCloser(bytes.NewReader(layer)), nil
	}
	for what, blobs := range map[string]replay.Blobs{"with the layer": have, "without blobs": nil} {
		second := httptest.NewServer(servetest.New(t, serve.Options{}))
		defer second.Close()

		steps := 0
		err := replay.Run(t.Context(), (&rig{T: t, url: second.URL}).client(nil), r.entries, blobs, func(s replay.Step) {
			steps++
			if !s.Same {
				t.Errorf("%s: %s", what, s)
			}
		})
		if err != nil || steps != len(r.entries) {
			t.Errorf("%s: %d of %d exchanges, %v", what, steps, len(r.entries), err)
		}
	}
}

// A recording may hold digests of an algorithm that is not known here, even of manifests that a registry
// took.
func TestReplayOfUnknownAlgorithm(t *testing.T) {
	lenient := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	r := newRig(t, lenient, nil)
	path := "/v2/app/manifests/blake3:" + strings.Repeat("0", 64)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, r.url+path, strings.NewReader("{}"))
	req.Header.Set("Content-Type", oci.MediaTypeManifest)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	r.stop()

	var asked string
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked = req.URL.Path
		w.WriteHeader(http.StatusCreated)
	}))
	defer second.Close()

	err = replay.Run(t.Context(), (&rig{T: t, url: second.URL}).client(nil), r.entries, nil, func(s replay.Step) {
		if !s.Same {
			t.Error(s)
		}
	})
	if err != nil || asked != path {
		t.Errorf("asked for %q, want %q, %v", asked, path, err)
	}
}
