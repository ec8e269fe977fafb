package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry/wire"
)

// HeadBlob asks whether a blob is there (end-2) and returns its size in bytes, -1 if the registry
// does not say. An absent blob gives [ErrNotFound]. Where HEAD is not answered, a GET whose body is
// thrown away asks in its place.
func (c *Client) HeadBlob(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	r := &wire.Request{Method: http.MethodHead, URL: c.conn.Endpoint(repo, "blobs", d.String()), Endpoint: "end-2", Scopes: []wire.Scope{wire.PullScope(repo)}, Want: []int{http.StatusOK}}
	r.Check = func(resp *wire.Response) {
		if resp.Status == http.StatusOK {
			checkDigestHeader(resp, d)
		}
	}

	resp, err := c.conn.Do(ctx, r, http.StatusOK)
	if err == nil {
		return contentLength(resp), nil
	}

	if status, ok := errors.AsType[*StatusError](err); ok && (status.Status == http.StatusMethodNotAllowed || resp != nil && resp.Away) {
		// Storage behind a redirect may be signed for GET alone.
		b, err := c.GetBlob(ctx, repo, d, 0, 0)
		if err != nil {
			return 0, err
		}
		b.Close()
		return b.Size, nil
	}

	return 0, err
}

// contentLength returns the Content-Length of an answer, -1 if there is none.
func contentLength(resp *wire.Response) int64 {
	n, err := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// checkDigestHeader judges the header Docker-Content-Digest against the digest that was asked for.
// One of another algorithm may be right, so it breaks nothing.
func checkDigestHeader(resp *wire.Response, want digest.Digest) {
	switch got := resp.Header.Get("Docker-Content-Digest"); {
	case got == "":
		resp.Note("note", "no Docker-Content-Digest")
	case got == want.String():
		resp.Note("ok", "Docker-Content-Digest is right")
	case strings.HasPrefix(got, string(want.Algorithm())+":"):
		resp.Note("violation", "Docker-Content-Digest is %s, want %s", wire.Quote(got), want)
	default:
		resp.Note("note", "Docker-Content-Digest is of another algorithm: %s", wire.Quote(got))
	}
}

// A BlobReader is the body of an answer to [Client.GetBlob]. Its bytes are not verified, and end where
// the connection breaks. The caller closes it.
type BlobReader struct {
	io.ReadCloser
	Offset int64 // of the first byte in the blob: 0 if the registry ignored the range
	Size   int64 // of the whole blob, -1 if the registry does not say
}

// GetBlob asks for a blob (end-2) and returns its bytes unverified, where [Client.OpenBlob]
// verifies them. With offset > 0 it asks for the bytes from there to the end of a blob of size
// bytes; the registry may send the whole blob all the same, see [BlobReader.Offset]. Another part
// than the one asked for gives [ErrProtocol]. The caller closes the reader.
func (c *Client) GetBlob(ctx context.Context, repo string, d digest.Digest, offset, size int64) (*BlobReader, error) {
	return c.getBlob(ctx, repo, d, offset, max(size-1, offset))
}

// getBlob asks for the bytes from offset to last, both included. An offset of 0 asks for the whole
// blob without a Range, whatever last is.
func (c *Client) getBlob(ctx context.Context, repo string, d digest.Digest, offset, last int64) (*BlobReader, error) {
	r := &wire.Request{
		Method: http.MethodGet, URL: c.conn.Endpoint(repo, "blobs", d.String()), Endpoint: "end-2",
		Scopes: []wire.Scope{wire.PullScope(repo)}, Header: http.Header{}, Stream: true, Want: []int{http.StatusOK, http.StatusPartialContent},
	}

	if offset > 0 {
		// A closed range: one registry refuses "bytes=5-".
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, last))
	}

	r.Check = func(resp *wire.Response) {
		if resp.Status == http.StatusOK && resp.Header.Get("Docker-Content-Digest") != "" {
			checkDigestHeader(resp, d)
		}
		if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
			resp.Note("note", "Content-Encoding %s, the bytes are taken as they are", wire.Quote(enc))
		}
	}

	resp, err := c.conn.Do(ctx, r, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return nil, err
	}

	// A 200 is the whole blob, which a registry without ranges may send (RFC 9110, section
	// 14.2). A 206 must be the part that was asked for: bytes of another place would be joined
	// to those before them.
	b := &BlobReader{ReadCloser: resp.Stream, Size: contentLength(resp)}
	if resp.Status == http.StatusPartialContent {
		var ok bool
		b.Offset, b.Size, ok = wire.ParseContentRange(resp.Header.Get("Content-Range"))
		if !ok || b.Offset != offset || offset == 0 {
			resp.Event.Verdicts = append(resp.Event.Verdicts, wire.Verdict{Level: "violation", Spec: "end-2", Text: "Content-Range does not fit the request"})
			resp.Stream.Close()
			return nil, fmt.Errorf("GET %s: %w: asked for bytes from %d on, got Content-Range %s",
				c.conn.Red.URL(resp.URL), ErrProtocol, offset, wire.Quote(resp.Header.Get("Content-Range")))
		}
	}

	return b, nil
}

// OpenBlob opens a blob for reading; the caller closes it. The bytes are verified as they pass: a
// mismatch comes from Read in place of io.EOF and wraps [digest.ErrMismatch]. A connection that
// breaks is made again where it broke, up to [Options.Retry] times in a row without a new byte.
// With a size of -1 in desc the registry must say how long the blob is, else the error wraps
// [oci.ErrMalformed].
func (c *Client) OpenBlob(ctx context.Context, repo string, desc oci.Descriptor) (io.ReadCloser, error) {
	b, err := c.ResumeBlob(ctx, repo, desc, 0)
	if err != nil {
		return nil, err
	}
	return oci.ReadCloser(digest.NewReader(b, desc.Digest, desc.Size), b), nil
}

// ResumeBlob is [Client.OpenBlob] from an offset on, without verification: a digest takes the whole
// blob, and only the caller has the bytes before the offset. The caller closes the reader.
//
// A large blob comes over several connections where that is faster. The reader then has a method
// Ranged() bool that returns true. If the bytes turn out to be wrong, that may be the reason, and
// the caller may try once more after [Client.OneConnection].
func (c *Client) ResumeBlob(ctx context.Context, repo string, desc oci.Descriptor, offset int64) (io.ReadCloser, error) {
	b := &resumer{ctx: ctx, c: c, repo: repo, desc: desc, at: offset}
	if err := b.connect(); err != nil {
		return nil, err
	}
	if b.desc.Size-offset > rangedRest {
		return newRangedReader(ctx, b), nil
	}
	return b, nil
}

// A resumer reads a blob over as many connections as it takes.
type resumer struct {
	ctx   context.Context
	c     *Client
	repo  string
	desc  oci.Descriptor
	at    int64 // offset of the next byte
	body  *BlobReader
	tries int // since the last byte
	err   error
}

// connect opens a connection whose next byte is the one at b.at.
func (b *resumer) connect() error {
	body, err := b.c.GetBlob(b.ctx, b.repo, b.desc.Digest, b.at, b.desc.Size)
	var status *StatusError
	if b.at > 0 && (errors.As(err, &status) && status.Status == http.StatusRequestedRangeNotSatisfiable || errors.Is(err, ErrProtocol)) {
		// There are no ranges here, or wrong ones: ask for all, and skip what is known.
		body, err = b.c.GetBlob(b.ctx, b.repo, b.desc.Digest, 0, 0)
	}
	if err != nil {
		return err
	}

	if b.desc.Size < 0 {
		b.desc.Size = body.Size // later connections must say the same
	}

	switch {
	case b.desc.Size < 0:
		body.Close()
		return fmt.Errorf("blob %s: the registry does not say how long it is: %w", b.desc.Digest, oci.ErrMalformed)
	case body.Size >= 0 && body.Size != b.desc.Size:
		body.Close()
		return fmt.Errorf("blob %s: the registry says %d bytes, want %d: %w", b.desc.Digest, body.Size, b.desc.Size, digest.ErrMismatch)
	}

	// The registry sent the whole blob where its end was asked for.
	if skip := b.at - body.Offset; skip > 0 {
		if _, err := io.CopyN(io.Discard, body, skip); err != nil {
			body.Close()
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("GET blob %s: skip to %d: %w", b.desc.Digest, b.at, err)
		}
	}

	b.body = body
	return nil
}

// Read returns bytes as they come, and hides broken connections until broken gives up.
func (b *resumer) Read(p []byte) (int, error) {
	for b.err == nil {
		if b.body != nil {
			n, err := b.body.Read(p)
			b.at += int64(n)
			if n > 0 {
				b.tries = 0
			}
			switch {
			case err == nil:
			case err == io.EOF && b.at >= b.desc.Size:
				b.err = err
			// A clean end before the last byte is a broken connection that was closed politely.
			case err == io.EOF:
				err = fmt.Errorf("GET blob %s: %w after %d of %d bytes", b.desc.Digest, io.ErrUnexpectedEOF, b.at, b.desc.Size)
				fallthrough
			default:
				b.broken(err)
			}
			if n > 0 || len(p) == 0 {
				return n, nil
			}
			continue
		}

		// The connection is gone. A new one goes on at b.at, so the caller sees no gap.
		if err := b.connect(); err != nil {
			b.broken(err)
		}
	}

	return 0, b.err
}

// broken closes the connection and decides whether to try another.
func (b *resumer) broken(err error) {
	if b.body != nil {
		b.body.Close()
		b.body = nil
	}

	var (
		status *StatusError
		conn   *ConnError
	)

	// A refusal that will stay (404, 401, a bad certificate) is not tried again. tries counts
	// from the last byte that came, so a slow line may break any number of times.
	again := errors.As(err, &conn) && conn.Retryable() || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &status) && status.Retryable()
	again = again && !errors.Is(err, wire.ErrDrips) // another connection drips as well
	if b.tries++; !again || b.tries > b.c.o.Retry || b.ctx.Err() != nil {
		b.err = err
		return
	}
	if b.tries == 1 {
		return // at once: one cut says nothing about the next connection
	}

	if err := b.c.o.Sleep(b.ctx, wire.Backoff(b.tries-2)); err != nil {
		b.err = err
	}
}

func (b *resumer) Close() error {
	if b.body != nil {
		return b.body.Close()
	}
	return nil
}

// DeleteBlob asks the registry to remove a blob (end-10).
func (c *Client) DeleteBlob(ctx context.Context, repo string, d digest.Digest) error {
	return c.remove(ctx, "end-10", repo, "blobs", d.String())
}

// remove sends the DELETE of an endpoint.
func (c *Client) remove(ctx context.Context, endpoint, repo string, elem ...string) error {
	r := &wire.Request{Method: http.MethodDelete, URL: c.conn.Endpoint(repo, elem...), Endpoint: endpoint, Scopes: []wire.Scope{wire.DeleteScope(repo)}, Want: []int{http.StatusAccepted}}
	_, err := c.conn.Do(ctx, r, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	return err
}
