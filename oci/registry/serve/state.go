package serve

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"ocikit/digest"
)

// restore brings the hash function to the end of the file: from memory if that is where it
// is, else from the saved state and the bytes behind it, else from all bytes.
func (s *Server) restore(u *session, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || u.h != nil && u.h.Size() == size {
		return err
	}
	u.h = s.loadState(u)
	if u.h.Size() > size {
		u.h = digest.NewHasher(digest.SHA256)
	}
	if _, err = f.Seek(u.h.Size(), io.SeekStart); err == nil {
		_, err = io.CopyBuffer(u.h, io.LimitReader(f, size-u.h.Size()), make([]byte, 256<<10))
	}
	if err == nil && u.h.Size() != size {
		err = fmt.Errorf("upload session %s: file has %d bytes, read %d", u.id, size, u.h.Size())
	}
	if err != nil {
		u.h = nil
	}
	return err
}

// A state is what the state file of a session holds.
type state struct {
	Algorithm digest.Algorithm `json:"algorithm"`
	Offset    int64            `json:"offset"`
	Hash      []byte           `json:"hash"`
}

// saveState writes the state of the hash function beside the file of the session. Its bytes
// must be on stable storage: after a loss of power the state vouches for them.
func (s *Server) saveState(u *session) error {
	hash, err := u.h.MarshalBinary()
	if err != nil {
		return err
	}
	data, err := json.Marshal(state{u.alg(), u.h.Size(), hash})
	if err != nil {
		return err
	}
	tmp := u.path() + ".new"
	if err := s.root.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	u.saved = u.h.Size()
	return s.root.Rename(tmp, u.path()+stateSuffix)
}

// loadState returns the saved hash function, or a fresh one if there is none to be had.
func (s *Server) loadState(u *session) *digest.Hasher {
	var st state
	info, err := s.root.Lstat(u.path() + stateSuffix)
	if err == nil && info.Mode().IsRegular() && info.Size() < 4096 {
		data, err := s.root.ReadFile(u.path() + stateSuffix)
		if err == nil && json.Unmarshal(data, &st) == nil {
			if h, err := digest.Restore(st.Algorithm, st.Hash, st.Offset); err == nil {
				u.saved = st.Offset
				return h
			}
		}
	}
	if st.Algorithm.Available() {
		return digest.NewHasher(st.Algorithm)
	}
	return digest.NewHasher(digest.SHA256)
}

func (u *session) alg() digest.Algorithm { return u.h.Digest().Algorithm() }
