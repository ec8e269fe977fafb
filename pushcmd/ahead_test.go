package pushcmd_test

import (
	"net/http"
	"slices"
	"strings"
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

	connected []int // for how many blobs connections were wanted
}

func (s *farStore) Connect(n int) { s.connected = append(s.connected, n) }

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
// mounted. Its connection is made while the registry is asked for the blob.
func TestPushAsksTheSourceAhead(t *testing.T) {
	s := &farStore{store: newStore(t)}
	desc := s.image(t, 2000, 3000, 4000)
	for _, mounted := range []bool{false, true} {
		s.wanted.Store(0)
		s.connected = nil
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
			if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/") && !mounted && len(s.connected) == 0 {
				t.Error("a blob was asked for before the source was told to connect")
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
		if want := map[bool][]int{false: {4}}[mounted]; !slices.Equal(s.connected, want) {
			t.Errorf("mounted %t: connections for %d blobs, want %d", mounted, s.connected, want)
		}

		// Of an image that is there no blob is read.
		s.connected = nil
		if _, err := pushcmd.Push(t.Context(), c.Client, s, desc, repo, o); err != nil || s.connected != nil {
			t.Errorf("pushed again: connections for %d blobs, %v", s.connected, err)
		}
	}
}
