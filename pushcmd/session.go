package pushcmd

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/oci/registry"
)

// ErrSession is wrapped by the errors about a saved session that cannot be used.
var ErrSession = errors.New("malformed upload session")

const (
	sessionVersion = 1
	maxSession     = 64 << 10
)

// A Session is an open upload and the hash of what was sent so far. Whoever reads a saved
// session can write to the upload, so its file is for the owner alone. A Session is not safe
// for concurrent use.
type Session struct {
	Registry registry.Reference // scheme and host, without a repository
	Upload   registry.Upload

	// hash is the state after Upload.Offset bytes. It is nil when the bytes before the
	// offset were never seen, as after Status brought the session somewhere else.
	hash *digest.Hasher
	alg  digest.Algorithm

	// Digest and Size name the blob if they are known before its end, as in a push.
	Digest digest.Digest
	Size   int64
}

// savedSession is the JSON of a Session.
type savedSession struct {
	Version    int              `json:"version"`
	Registry   string           `json:"registry"`
	Repository string           `json:"repository"`
	Location   string           `json:"location"`
	Offset     int64            `json:"offset"`
	Server     int64            `json:"serverOffset"` // -1: unknown
	ChunkMin   int64            `json:"chunkMin,omitempty"`
	ChunkMax   int64            `json:"chunkMax,omitempty"`
	Algorithm  digest.Algorithm `json:"algorithm"`
	HashState  string           `json:"hashState,omitempty"`
	Digest     *digest.Digest   `json:"digest,omitempty"`
	Size       int64            `json:"size,omitempty"`
}

// ReadSession reads a session as [Session.Write] writes it: one JSON object and nothing else.
func ReadSession(r io.Reader) (*Session, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSession+1))
	if err != nil {
		return nil, fmt.Errorf("read upload session: %w", err)
	}

	if len(data) > maxSession {
		return nil, fmt.Errorf("%w: over %d bytes", ErrSession, maxSession)
	}

	if len(data) == 0 {
		return nil, fmt.Errorf("%w: it is empty; the step before may have failed", ErrSession)
	}

	var saved savedSession
	if err := oci.Decode(data, &saved); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSession, err)
	}

	s, err := saved.restore()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSession, err)
	}

	return s, nil
}

func (saved *savedSession) restore() (*Session, error) {
	if saved.Version != sessionVersion {
		return nil, fmt.Errorf("version %d, want %d", saved.Version, sessionVersion)
	}

	// A session may come out of any pipe, so everything that gets into a request is checked.
	ref, err := registry.ParseHost(saved.Registry)
	if err != nil {
		return nil, err
	}

	if err := registry.CheckRepository(saved.Repository); err != nil {
		return nil, err
	}

	if saved.Location == "" || saved.Offset < 0 || saved.ChunkMin < 0 || saved.ChunkMax < 0 || saved.Size < 0 {
		return nil, errors.New("location, offset or a limit is missing or negative")
	}

	if !saved.Algorithm.Available() {
		return nil, fmt.Errorf("algorithm %q: %w", string(saved.Algorithm), digest.ErrUnsupported)
	}

	s := &Session{Registry: ref, alg: saved.Algorithm, Size: saved.Size}
	s.Upload = registry.Upload{
		Repo: saved.Repository, Location: saved.Location, Offset: saved.Offset,
		Server: saved.Server, ChunkMin: saved.ChunkMin, ChunkMax: saved.ChunkMax,
	}

	if saved.Digest != nil {
		s.Digest = *saved.Digest
	}

	// Without a state the hash is known only where nothing was sent yet.
	if saved.HashState == "" {
		if saved.Offset == 0 {
			s.hash = digest.NewHasher(s.alg)
		}
		return s, nil
	}

	state, err := base64.StdEncoding.DecodeString(saved.HashState)
	if err != nil {
		return nil, errors.New("hashState is not base64")
	}

	s.hash, err = digest.Restore(s.alg, state, saved.Offset)
	return s, err
}

// Write writes the session as one line of JSON.
func (s *Session) Write(w io.Writer) error {
	saved := savedSession{
		Version: sessionVersion, Registry: s.Registry.String(), Repository: s.Upload.Repo, Location: s.Upload.Location,
		Offset: s.Upload.Offset, Server: s.Upload.Server, ChunkMin: s.Upload.ChunkMin, ChunkMax: s.Upload.ChunkMax,
		Algorithm: s.alg, Size: s.Size,
	}

	if !s.Digest.IsZero() {
		saved.Digest = &s.Digest
	}

	// With the state of its hash a later step need not read again what was sent.
	if s.hash != nil && s.hash.Size() > 0 {
		state, err := s.hash.MarshalBinary()
		if err != nil {
			return err
		}
		saved.HashState = base64.StdEncoding.EncodeToString(state)
	}

	line, err := oci.Encode(saved)
	if err != nil {
		return err
	}

	_, err = w.Write(append(line, '\n'))
	return err
}

// inUse is the error about a session that another process has.
type inUse struct{ name string }

func (e inUse) Error() string   { return fmt.Sprintf("session %q is in use by another process", e.name) }
func (e inUse) Retryable() bool { return true }

// LockSession keeps the file of a session, which need not be there, for this process until unlock is
// called: two steps at once would send the same bytes, or save one over the other. If another
// process has it the error has a method Retryable that says true.
func LockSession(name string) (unlock func(), err error) {
	unlock, ok, err := disk.LockBeside(name)
	if err != nil {
		return nil, fmt.Errorf("lock session %q: %w", name, oci.Pathless(err))
	}
	if !ok {
		return nil, inUse{name}
	}
	return unlock, nil
}

// LoadSession reads the session in a file.
func LoadSession(name string) (*Session, error) {
	// A named pipe makes no sense here, since Save puts a file in its place, and to open one
	// may wait for ever.
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("file %q: it is not a regular file", name)
	}
	if err != nil {
		return nil, fmt.Errorf("upload session: %w", err)
	}

	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("upload session: %w", err)
	}
	defer f.Close()

	s, err := ReadSession(f)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", name, err)
	}

	return s, nil
}

// Save writes the session to a file that only its owner can read. The file is replaced
// whole: after a crash it holds the old session or the new one.
func (s *Session) Save(name string) error {
	if err := oci.WriteFile(name, 0o600, s.Write); err != nil {
		return fmt.Errorf("save upload session: %w", err)
	}
	return nil
}

// RemoveSession removes the file of a session that is over. An absent one is not an error.
func RemoveSession(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove upload session: %w", err)
	}
	return nil
}
