package layoutcmd

import (
	"net/http/httptest"
	"testing"

	"ocikit/oci"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
)

// The task of a blob that is closed before its end stayed open.
func TestRemoteSourceClosedEarly(t *testing.T) {
	reg := servetest.NewQuirky(t)
	data := []byte("some bytes")
	reg.PutBlob("app", data)
	server := httptest.NewServer(reg)
	defer server.Close()
	ref, err := registry.ParseReference(server.Listener.Addr().String() + "/app")
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(ref, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	var last progress.Kind
	src := remoteSource{client, ref.Repo, func(e progress.Event) { last = e.Kind }}
	blob, err := src.Fetch(t.Context(), oci.Describe(oci.MediaTypeOctetStream, data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	blob.Close()
	if last != progress.Stop {
		t.Errorf("the last event is %q, want %q", last, progress.Stop)
	}
}
