package pushcmd_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"ocikit/oci"
	"ocikit/oci/registry/serve/servetest"
	"ocikit/oci/source"
	"ocikit/pushcmd"
)

// A farStore is a store of blobs that come over a network.
type farStore struct {
	*store
	wanted atomic.Int64 // blobs that were to get ready
}

type farBlob struct {
	source.BlobAt
	s *farStore
}

func (s *farStore) BlobAt(desc oci.Descriptor) (source.BlobAt, error) {
	b, err := s.store.BlobAt(desc)
	return farBlob{b, s}, err
}

func (b farBlob) Ahead(int64) { b.s.wanted.Add(1) }

// ReadSome has one byte ready each time.
func (b farBlob) ReadSome(p []byte, off int64) (int, error) { return b.ReadAt(p[:1], off) }

// A blob that comes over a network is asked for before the session for it, and not at all where it is
// mounted.
func TestPushAsksTheSourceAhead(t *testing.T) {
	s := &farStore{store: newStore(t)}
	desc := s.image(t, 2000, 3000, 4000)
	for _, mounted := range []bool{false, true} {
		s.wanted.Store(0)
		reg := servetest.NewQuirky(t)
		var o pushcmd.Options
		if mounted {
			o.MountFrom = []string{"base"}
			for _, b := range s.blobs(t, desc) {
				data, err := s.Document(b)
				if err != nil {
					t.Fatal(err)
				}
				reg.PutBlob("base", data)
			}
		}

		var posts atomic.Int64
		c := newClient(t, servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && !mounted {
				if n, wanted := posts.Add(1), s.wanted.Load(); wanted < n {
					t.Errorf("session %d was asked for before its blob: %d blobs", n, wanted)
				}
			}
			reg.ServeHTTP(w, r)
		})))
		if _, err := pushcmd.Push(t.Context(), c.Client, s, desc, repo, o); err != nil {
			t.Fatal(err)
		}
		checkPushed(t, reg, s.store, desc)
		if want := map[bool]int64{false: 4, true: 0}[mounted]; s.wanted.Load() != want {
			t.Errorf("mounted %t: %d blobs were asked for, want %d", mounted, s.wanted.Load(), want)
		}
	}
}
