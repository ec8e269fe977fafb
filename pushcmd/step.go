package pushcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
	"ocikit/oci/registry/wire"
)

// pieceSize is how much of a stream is held in memory to send it with a Content-Length.
const pieceSize = 16 << 20

// Start opens an upload to a repository. The blob's digest will be of the given algorithm.
func Start(ctx context.Context, c *registry.Client, repo string, alg digest.Algorithm) (*Session, error) {
	up, err := c.StartUpload(ctx, repo, alg)
	if err != nil {
		return nil, err
	}
	return newSession(c, up, alg), nil
}

func newSession(c *registry.Client, up registry.Upload, alg digest.Algorithm) *Session {
	// A session that was opened just now is empty, so 0-0 is no byte here.
	if up.Ambiguous {
		up.Server, up.Ambiguous = 0, false
	}
	return &Session{Registry: c.Ref(), Upload: up, alg: alg, hash: digest.NewHasher(alg)}
}

// Mount asks the registry to take the blob over from another repository ("" for any). A nil
// Session without an error means that the blob is there now; otherwise the Session is the one
// that the registry opened instead, for an upload.
func Mount(ctx context.Context, c *registry.Client, repo string, d digest.Digest, from string) (*Session, error) {
	result, up, err := c.Mount(ctx, repo, d, from)
	if err != nil || result.Mounted {
		return nil, err
	}
	s := newSession(c, up, d.Algorithm())
	s.Digest = d
	return s, nil
}

// ChunkOptions are the options of one chunk. The zero value sends all that there is.
type ChunkOptions struct {
	Length int64 // at most so many bytes; 0 is all there are
	// Body holds values to send that are not right; its Reader and Size are ignored.
	Body registry.Body
	// Save is called after each request that changed the session, if it is not nil.
	Save func(*Session) error

	Progress func(progress.Event) // is told how many bytes were sent; nil for nobody
	Name     string               // what it is told that the input is called

	task *progress.Task
}

// A ChunkResult says what a chunk did.
type ChunkResult struct {
	Sent     int64 // bytes
	Requests int
	End      bool // the input has no more bytes
}

// Chunk sends the next bytes of src. A regular file stands for the whole blob: its bytes
// from the session's offset on are sent, in one request (more if the registry limits
// them), wherever the file's own position is. Anything else is a stream: its next bytes are
// the next ones of the blob. Since their number is not known and a registry wants to know
// it, they are held in memory, 16 MiB at a time, each a request of its own (in a temporary
// file if the registry wants larger ones). After an error the session is as after the last
// request that succeeded.
func (s *Session) Chunk(ctx context.Context, c *registry.Client, src io.Reader, o ChunkOptions) (ChunkResult, error) {
	if f, ok := src.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return s.chunkFile(ctx, c, f, info.Size(), o)
		}
	}
	return s.chunkStream(ctx, c, src, o)
}

func (s *Session) chunkFile(ctx context.Context, c *registry.Client, f *os.File, size int64, o ChunkOptions) (ChunkResult, error) {
	var result ChunkResult
	at := s.Upload.Offset
	if at > size {
		return result, fmt.Errorf("chunk of %q: the session is at %d, the file has %d bytes", f.Name(), at, size)
	}

	if s.hash == nil { // the bytes before the offset were not hashed: they are in the file
		h := digest.NewHasher(s.alg)
		if _, err := io.Copy(h, io.NewSectionReader(f, 0, at)); err != nil || h.Size() != at {
			return result, errors.Join(fmt.Errorf("hash the first %d bytes of %q: got %d", at, f.Name(), h.Size()), err)
		}
		s.hash = h
	}

	end := size
	if o.Length > 0 {
		end = min(size, at+o.Length)
	}

	o.task = progress.NewTask(o.Progress, progress.Event{Name: o.Name, Size: end, Offset: at})
	defer o.task.Stop()
	for s.Upload.Offset < end {
		// The limit is looked at each time: every answer may bring another one.
		n := end - s.Upload.Offset
		if limit := s.Upload.ChunkMax; limit > 0 {
			n = min(n, limit)
		}
		if err := s.send(ctx, c, io.NewSectionReader(f, s.Upload.Offset, n), n, o); err != nil {
			return result, err
		}
		result.Sent += n
		result.Requests++
	}

	o.task.Done()
	result.End = end == size
	return result, nil
}

func (s *Session) chunkStream(ctx context.Context, c *registry.Client, src io.Reader, o ChunkOptions) (ChunkResult, error) {
	var result ChunkResult
	size := int64(pieceSize)
	if s.Upload.ChunkMax > 0 {
		size = min(size, s.Upload.ChunkMax)
	}
	size = max(size, s.Upload.ChunkMin)

	o.task = progress.NewTask(o.Progress, progress.Event{Name: o.Name})
	defer o.task.Stop()
	for o.Length == 0 || result.Sent < o.Length {
		n := size
		if o.Length > 0 {
			n = min(n, o.Length-result.Sent)
		}

		piece, got, err := hold(src, n)
		if err != nil {
			return result, fmt.Errorf("read chunk: %w", err)
		}

		if got > 0 {
			err = s.send(ctx, c, piece, got, o)
			result.Requests++
		}

		if closer, ok := piece.(io.Closer); ok {
			closer.Close()
		}

		if err != nil {
			return result, err
		}

		result.Sent += got
		if got < n {
			result.End = true
			break
		}
	}

	o.task.Done()
	return result, nil
}

// hold reads up to n bytes and returns them as something that can be read again. If that is an
// io.Closer, the caller closes it.
func hold(src io.Reader, n int64) (io.ReadSeeker, int64, error) {
	if n <= pieceSize {
		var b bytes.Buffer
		got, err := io.Copy(&b, io.LimitReader(src, n))
		return bytes.NewReader(b.Bytes()), got, err
	}

	f, err := disk.CreateTemp("", "ocikit-chunk-*")
	if err != nil {
		return nil, 0, err
	}

	got, err := io.Copy(f, io.LimitReader(src, n))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}

	return f, got, nil
}

// send sends one chunk and moves session and hash together.
func (s *Session) send(ctx context.Context, c *registry.Client, r io.ReadSeeker, n int64, o ChunkOptions) error {
	// The hash moves on as a copy, so that the session is as before after a request that
	// failed.
	h, err := s.fork()
	if err != nil {
		return err
	}

	body := o.Body
	reader := &hashing{r: r, h: h, task: o.task}
	body.Reader, body.Size = reader, n
	before := s.Upload
	err = c.PatchUpload(ctx, &s.Upload, body)
	if status, ok := errors.AsType[*registry.StatusError](err); ok && status.Status == 401 && !status.Unsent && body.CutAfter == 0 {
		// The client has got another token. Only the registry knows whether it took bytes with
		// the old one, so the chunk goes again only if it says that it took none.
		if c.UploadStatus(ctx, &s.Upload) == nil && (s.Upload.Server == before.Offset || s.Upload.Ambiguous && before.Offset == 0) {
			if _, err := reader.Seek(0, io.SeekStart); err != nil {
				return err
			}
			err = c.PatchUpload(ctx, &s.Upload, body)
		}
	}

	if err != nil {
		return err
	}

	s.Upload.Offset = before.Offset + reader.at
	if s.hash != nil {
		s.hash = reader.h
		if s.hash.Size() != s.Upload.Offset {
			s.hash = nil // less was sent than was claimed, on purpose
		}
	}

	if o.Save != nil {
		return o.Save(s)
	}

	return nil
}

// fork returns a copy of the hash, nil if there is none.
func (s *Session) fork() (*digest.Hasher, error) {
	if s.hash == nil {
		return nil, nil
	}
	state, err := s.hash.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return digest.Restore(s.alg, state, s.hash.Size())
}

// A hashing reader hashes what is read of it, once, whatever is read again.
type hashing struct {
	r      io.ReadSeeker
	h      *digest.Hasher // may be nil
	at     int64          // position in r
	hashed int64          // position up to which bytes were hashed
	task   *progress.Task // is told of those
}

func (r *hashing) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.at += int64(n)
	if fresh := r.at - r.hashed; fresh > 0 {
		if r.h != nil {
			r.h.Write(p[int64(n)-fresh : n])
		}
		r.task.Add(int(fresh))
		r.hashed = r.at
	}
	return n, err
}

// FileSection says which bytes of which file these are.
func (r *hashing) FileSection() wire.FileSection {
	section, ok := r.r.(*io.SectionReader)
	if !ok {
		return wire.FileSection{}
	}
	outer, offset, _ := section.Outer()
	return sectionOf(outer, offset)
}

func sectionOf(r io.ReaderAt, offset int64) wire.FileSection {
	if f, ok := r.(interface{ Name() string }); ok {
		return wire.FileSection{Name: f.Name(), Offset: offset}
	}
	return wire.FileSection{}
}

func (r *hashing) Seek(offset int64, whence int) (int64, error) {
	at, err := r.r.Seek(offset, whence)
	if err == nil {
		r.at = at
	}
	return at, err
}

// A StatusResult is where an upload stands.
type StatusResult struct {
	Offset    int64 `json:"offset"`              // of the session now
	Before    int64 `json:"before"`              // of the session before
	Server    int64 `json:"serverOffset"`        // what the registry says, -1 for nothing that can be read
	Ambiguous bool  `json:"ambiguous,omitempty"` // the registry said "0-0": one byte, or none
}

// Status asks the registry how many bytes it has and brings the session there. An answer that
// says nothing, or "0-0" to a session that is at 0 or 1, leaves it where it is. The hash is
// lost if the session moves; a file given to Chunk restores it.
func (s *Session) Status(ctx context.Context, c *registry.Client) (StatusResult, error) {
	result := StatusResult{Offset: s.Upload.Offset, Before: s.Upload.Offset}
	if err := c.UploadStatus(ctx, &s.Upload); err != nil {
		return result, err
	}
	result.Server, result.Ambiguous = s.Upload.Server, s.Upload.Ambiguous
	if s.Upload.Server < 0 || s.Upload.Server == s.Upload.Offset || s.Upload.Ambiguous && s.Upload.Offset <= 1 {
		return result, nil
	}

	// The hash is of other bytes than the registry has. At 0 it can begin anew, so a byte that
	// may or may not be there is sent again.
	s.Upload.Offset, s.hash = s.Upload.Server, nil
	if s.Upload.Ambiguous || s.Upload.Offset == 0 {
		s.Upload.Offset, s.hash = 0, digest.NewHasher(s.alg)
	}
	result.Offset = s.Upload.Offset
	return result, nil
}

// FinishOptions of [Session.Finish].
type FinishOptions struct {
	Digest digest.Digest // zero: the hash of what was sent
	Force  bool          // send Digest though it is known to be wrong
	Rest   *os.File      // a regular file: its bytes from the session's offset on go with the request
	Body   registry.Body // values to send that are not right; its Reader and Size are ignored

	Progress func(progress.Event) // is told how much of Rest was sent, under the name of the file; nil: nobody asks
}

// Finish closes the upload, and returns the descriptor of the blob with the media type
// application/octet-stream. A digest that is not that of the bytes is refused with
// [digest.ErrMismatch] before anything is sent, unless it is forced.
func (s *Session) Finish(ctx context.Context, c *registry.Client, o FinishOptions) (oci.Descriptor, error) {
	h, err := s.fork()
	if err != nil {
		return oci.Descriptor{}, err
	}

	body := o.Body
	body.Reader, body.Size = nil, 0
	var task *progress.Task
	if o.Rest != nil {
		if body, h, err = s.rest(o.Rest, body, h); err != nil {
			return oci.Descriptor{}, err
		}
		end := s.Upload.Offset + body.Size
		task = progress.NewTask(o.Progress, progress.Event{Name: o.Rest.Name(), Size: end, Offset: s.Upload.Offset})
		defer task.Stop()
		body.Reader = &hashing{r: io.NewSectionReader(o.Rest, s.Upload.Offset, body.Size), task: task}
	}

	// A digest that was computed here is surer than one that was named. Two of one algorithm
	// can be compared, and a wrong one is sent only on purpose.
	d := o.Digest
	switch {
	case h == nil && d.IsZero():
		return oci.Descriptor{}, fmt.Errorf("finish upload: the digest is not known: not all bytes before %d went through this session; name it with --digest", s.Upload.Offset)
	case d.IsZero():
		d = h.Digest()
	case h != nil && d.Algorithm() == s.alg && d != h.Digest() && !o.Force:
		return oci.Descriptor{}, fmt.Errorf("finish upload: the %d bytes that were sent have %s, not %s: %w", h.Size(), h.Digest(), d, digest.ErrMismatch)
	}

	if err := c.PutUpload(ctx, &s.Upload, d, body); err != nil {
		return oci.Descriptor{}, err
	}

	task.Done()
	return oci.Descriptor{MediaType: oci.MediaTypeOctetStream, Digest: d, Size: s.Upload.Offset}, nil
}

// rest checks the file that the bytes behind the offset come from, and sets the size of the
// last request's body. The digest stands in the head of that, so they are hashed before.
func (s *Session) rest(f *os.File, body registry.Body, h *digest.Hasher) (registry.Body, *digest.Hasher, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() < s.Upload.Offset {
		return body, nil, fmt.Errorf("finish upload: %q: want a regular file of at least %d bytes", f.Name(), s.Upload.Offset)
	}
	if h == nil {
		h = digest.NewHasher(s.alg)
	}
	at := h.Size()
	if _, err := io.Copy(h, io.NewSectionReader(f, at, info.Size()-at)); err != nil {
		return body, nil, fmt.Errorf("finish upload: %w", err)
	}
	body.Size = info.Size() - s.Upload.Offset
	return body, h, nil
}

// Cancel closes the upload and drops what was sent.
func (s *Session) Cancel(ctx context.Context, c *registry.Client) error {
	return c.CancelUpload(ctx, s.Upload)
}
