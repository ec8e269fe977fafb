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
)

// HeadBlob asks whether a blob is there (end-2) and returns its size, -1 if the registry does
// not say. An absent blob gives [ErrNotFound]. A registry that does not answer HEAD is asked
// with GET.
func (c *Client) HeadBlob(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	r := &request{method: http.MethodHead, url: c.url(repo, "blobs", d.String()), endpoint: "end-2", scopes: []scope{pull(repo)}, want: []int{http.StatusOK}}
	r.check = func(resp *response) {
		if resp.status == http.StatusOK {
			checkDigestHeader(resp, d)
		}
	}
	resp, err := c.do(ctx, r, http.StatusOK)
	if err == nil {
		return contentLength(resp), nil
	}
	var status *StatusError
	if errors.As(err, &status) && (status.Status == http.StatusMethodNotAllowed || resp != nil && resp.away) {
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

func contentLength(resp *response) int64 {
	n, err := strconv.ParseInt(resp.header.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// checkDigestHeader judges the header Docker-Content-Digest against what was asked for.
func checkDigestHeader(resp *response, want digest.Digest) {
	switch got := resp.header.Get("Docker-Content-Digest"); {
	case got == "":
		resp.note("note", "no Docker-Content-Digest")
	case got == want.String():
		resp.note("ok", "Docker-Content-Digest is right")
	case strings.HasPrefix(got, string(want.Algorithm())+":"):
		resp.note("violation", "Docker-Content-Digest is %s, want %s", quote(got), want)
	default:
		resp.note("note", "Docker-Content-Digest is of another algorithm: %s", quote(got))
	}
}

// A BlobReader is the body of an answer to [Client.GetBlob]. Its bytes are not verified.
type BlobReader struct {
	io.ReadCloser
	Offset int64 // of the first byte in the blob: 0 if the registry ignored the range
	Size   int64 // of the whole blob, -1 if the registry does not say
}

// GetBlob asks for a blob (end-2) and hands out what comes, unverified; [Client.OpenBlob]
// verifies. With offset > 0 it asks for the bytes from there to the end of a blob of size
// bytes; the registry may send the whole blob instead, see [BlobReader]. The caller closes.
func (c *Client) GetBlob(ctx context.Context, repo string, d digest.Digest, offset, size int64) (*BlobReader, error) {
	r := &request{
		method: http.MethodGet, url: c.url(repo, "blobs", d.String()), endpoint: "end-2",
		scopes: []scope{pull(repo)}, header: http.Header{}, stream: true, want: []int{http.StatusOK, http.StatusPartialContent},
	}
	if offset > 0 {
		// A closed range: one registry refuses "bytes=5-".
		r.header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, max(size-1, offset)))
	}
	r.check = func(resp *response) {
		if resp.status == http.StatusOK && resp.header.Get("Docker-Content-Digest") != "" {
			checkDigestHeader(resp, d)
		}
		if enc := resp.header.Get("Content-Encoding"); enc != "" && enc != "identity" {
			resp.note("note", "Content-Encoding %s, the bytes are taken as they are", quote(enc))
		}
	}
	resp, err := c.do(ctx, r, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return nil, err
	}
	b := &BlobReader{ReadCloser: resp.stream, Size: contentLength(resp)}
	if resp.status == http.StatusPartialContent {
		var ok bool
		b.Offset, b.Size, ok = parseContentRange(resp.header.Get("Content-Range"))
		if !ok || b.Offset != offset || offset == 0 {
			resp.event.Verdicts = append(resp.event.Verdicts, Verdict{"violation", "end-2", "Content-Range does not fit the request"})
			resp.stream.Close()
			return nil, fmt.Errorf("GET %s: %w: asked for bytes from %d on, got Content-Range %s",
				c.red.url(resp.url), ErrProtocol, offset, quote(resp.header.Get("Content-Range")))
		}
	}
	return b, nil
}

// parseContentRange reads "bytes a-b/size", also without the unit, as one registry writes it.
func parseContentRange(s string) (start, size int64, ok bool) {
	s = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s), "bytes"))
	span, total, _ := strings.Cut(s, "/")
	first, last, dash := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if err != nil || err2 != nil || !dash || start < 0 || end < start {
		return 0, 0, false
	}
	if size, err = strconv.ParseInt(total, 10, 64); err != nil || size <= end {
		size = -1
	}
	return start, size, true
}

// OpenBlob opens a blob for reading. Its bytes are verified as they pass: a mismatch comes
// from Read in place of io.EOF and wraps [digest.ErrMismatch]. A connection that breaks is
// made again where it broke, through the registry, [Options.Retry] times without progress.
// If desc has the size -1 the registry must say how long the blob is. The caller closes it.
func (c *Client) OpenBlob(ctx context.Context, repo string, desc oci.Descriptor) (io.ReadCloser, error) {
	b, err := c.ResumeBlob(ctx, repo, desc, 0)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{digest.NewReader(b, desc.Digest, desc.Size), b}, nil
}

// ResumeBlob is [Client.OpenBlob] from an offset on. What it reads is not verified, since
// that takes the whole blob: the caller, who has the bytes before the offset, does that.
func (c *Client) ResumeBlob(ctx context.Context, repo string, desc oci.Descriptor, offset int64) (io.ReadCloser, error) {
	b := &resumer{ctx: ctx, c: c, repo: repo, desc: desc, at: offset}
	if err := b.connect(); err != nil {
		return nil, err
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

func (b *resumer) connect() error {
	body, err := b.c.GetBlob(b.ctx, b.repo, b.desc.Digest, b.at, b.desc.Size)
	var status *StatusError
	if b.at > 0 && errors.As(err, &status) && status.Status == http.StatusRequestedRangeNotSatisfiable {
		body, err = b.c.GetBlob(b.ctx, b.repo, b.desc.Digest, 0, 0) // no ranges here
	}
	if err != nil {
		return err
	}
	if b.desc.Size < 0 {
		b.desc.Size = body.Size // what the registry says holds for the connections to come
	}
	switch {
	case b.desc.Size < 0:
		body.Close()
		return fmt.Errorf("blob %s: the registry does not say how long it is: %w", b.desc.Digest, oci.ErrMalformed)
	case body.Size >= 0 && body.Size != b.desc.Size:
		body.Close()
		return fmt.Errorf("blob %s: the registry says %d bytes, want %d: %w", b.desc.Digest, body.Size, b.desc.Size, digest.ErrMismatch)
	}
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
	again := errors.As(err, &conn) && conn.Retryable() || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &status) && status.Retryable()
	if b.tries++; !again || b.tries > b.c.o.Retry || b.ctx.Err() != nil {
		b.err = err
		return
	}
	if b.tries == 1 {
		return // at once: one cut says nothing about the next connection
	}
	if err := b.c.o.Sleep(b.ctx, backoff(b.tries-2)); err != nil {
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
	r := &request{method: http.MethodDelete, url: c.url(repo, "blobs", d.String()), endpoint: "end-10", scopes: []scope{remove(repo)}, want: []int{http.StatusAccepted}}
	_, err := c.do(ctx, r, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	return err
}
