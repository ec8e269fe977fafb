package registry_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/oci/source"
)

// A following blob is what a push reads of a repository.
type following interface {
	source.BlobAt
	Ahead(off int64)
	ReadSome(p []byte, off int64) (int, error)
}

// follow returns a blob that is answered by answer.
func follow(t *testing.T, data []byte, answer func(w http.ResponseWriter, r *http.Request)) following {
	t.Helper()
	r := newRig(t, servetest.Serve(t, http.HandlerFunc(answer)))
	repo := registry.NewRepository(t.Context(), r.Client, registry.Reference{Host: "r.test", Repo: "app"}, nil)
	b, err := repo.BlobAt(oci.Describe(oci.MediaTypeLayerGzip, data))
	if err != nil {
		t.Fatal(err)
	}
	return b.(following)
}

// A blob that will be read is asked for before it is, once.
func TestBlobIsAskedForAhead(t *testing.T) {
	data := []byte("0123456789")
	asked := make(chan string, 10)
	b := follow(t, data, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Range")
		w.Write(data)
	})
	b.Ahead(0)
	if got := <-asked; got != "" {
		t.Errorf("asked for %q", got)
	}
	b.Ahead(0)
	b.Ahead(5)
	got, err := io.ReadAll(io.NewSectionReader(b, 0, int64(len(data))))
	if err != nil || !bytes.Equal(got, data) || len(asked) != 0 {
		t.Errorf("read %q, %v; %d more requests", got, err, len(asked))
	}

	// The request was for the beginning, so bytes from elsewhere take another.
	p := make([]byte, 3)
	if _, err := b.ReadAt(p, 4); err != nil || string(p) != "456" {
		t.Errorf("ReadAt(4) = %q, %v", p, err)
	}
	if got := <-asked; got != "bytes=4-9" {
		t.Errorf("asked for %q", got)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// Nobody waits for the answer to a request whose bytes are not wanted any more.
func TestCloseBeforeTheAnswer(t *testing.T) {
	asked, closed := make(chan bool), make(chan bool)
	b := follow(t, []byte("x"), func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-closed
	})
	defer close(closed)
	b.Ahead(0)
	<-asked
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// What has come is handed out before the rest has.
func TestReadSomeWaitsForTheFirstByteOnly(t *testing.T) {
	data := largeBlob(100_000)
	more := make(chan bool)
	b := follow(t, data, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.Write(data[:1000])
		w.(http.Flusher).Flush()
		<-more
		w.Write(data[1000:])
	})
	defer b.Close()

	got := make([]byte, len(data))
	n, err := b.ReadSome(got, 0)
	close(more)
	if err != nil || n < 1 || n > 1000 {
		t.Fatalf("ReadSome() = %d, %v, want 1 to 1000 bytes", n, err)
	}
	for n < len(got) && err == nil {
		var k int
		k, err = b.ReadSome(got[n:], int64(n))
		n += k
	}
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := b.ReadSome(got, int64(len(data))); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}
