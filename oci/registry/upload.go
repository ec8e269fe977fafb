package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"ocikit/digest"
)

// An Upload is an open upload session: what is needed to send the next request. It is a
// value that can be saved. Location is worth a credential: who has it may write.
type Upload struct {
	Repo     string
	Location string // absolute URL for the next request; changes with every answer
	Offset   int64  // bytes that were sent, by our own count
	Server   int64  // bytes that the registry says it has, -1 if it does not say
	ChunkMin int64  // OCI-Chunk-Min-Length; 0 if there is none
	ChunkMax int64  // OCI-Chunk-Max-Length; 0 if there is none

	// Ambiguous means that Server is 0 or 1: the registry said "0-0", which both are
	// written as.
	Ambiguous bool
}

// A Body is the body of an upload request. The fields behind Size send on purpose what is
// not right, to see what a registry makes of it.
type Body struct {
	Reader io.Reader // may be an io.Seeker, which lets a redirect be followed; nil is no body
	Size   int64     // bytes to send, exactly

	NoRange       bool   // send no Content-Range
	ContentRange  string // send this one
	ContentType   string // in place of application/octet-stream
	ContentLength int64  // in place of Size, if > 0
	CutAfter      int64  // break the connection after so many bytes, if > 0
	Expect        int    // +1: always ask with Expect: 100-continue, -1: never
}

// maxChunkHint bounds what a registry may ask for in OCI-Chunk-Min-Length.
const maxChunkHint = 1 << 30

// StartUpload opens an upload session (end-4a; end-4c for another algorithm than sha256,
// which the registry wants to know before it hashes; zero stands for sha256).
func (c *Client) StartUpload(ctx context.Context, repo string, alg digest.Algorithm) (Upload, error) {
	u := c.url(repo, "blobs", "uploads/")
	r := &request{
		method: http.MethodPost, url: u, endpoint: "end-4a", scopes: []scope{push(repo)},
		want: []int{http.StatusAccepted}, check: checkLocation,
	}
	if alg != "" && alg != digest.SHA256 {
		u.RawQuery, r.endpoint = "digest-algorithm="+url.QueryEscape(string(alg)), "end-4c"
	}
	up := Upload{Repo: repo}
	resp, err := c.do(ctx, r, http.StatusAccepted, http.StatusCreated, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return up, err
	}
	return up, c.update(&up, resp, 0)
}

// A MountResult says what became of a mount.
type MountResult struct {
	Mounted   bool // the blob is in the repository now
	Confirmed bool // and the registry named its digest
}

// Mount asks the registry to take a blob over from another repository (end-11). If it did
// not, the Upload is open and can be used in its place. With an empty from the registry may
// look anywhere, which some do not take.
func (c *Client) Mount(ctx context.Context, repo string, d digest.Digest, from string) (MountResult, Upload, error) {
	u := c.url(repo, "blobs", "uploads/")
	u.RawQuery = "mount=" + url.QueryEscape(d.String())
	r := &request{
		method: http.MethodPost, url: u, endpoint: "end-11", scopes: []scope{push(repo)},
		want: []int{http.StatusCreated, http.StatusAccepted},
	}
	if from != "" {
		u.RawQuery += "&from=" + url.QueryEscape(from)
		r.scopes = append(r.scopes, pull(from))
	}
	r.check = func(resp *response) {
		checkLocation(resp)
		if resp.status == http.StatusCreated {
			checkDigestHeader(resp, d)
		}
	}
	up := Upload{Repo: repo}
	resp, err := c.do(ctx, r, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return MountResult{}, up, err
	}
	if resp.status == http.StatusCreated {
		return MountResult{true, resp.header.Get("Docker-Content-Digest") == d.String()}, up, nil
	}
	return MountResult{}, up, c.update(&up, resp, 0)
}

// PostBlob sends a whole blob with the request that opens the session (end-4b). It reports
// whether the registry took it; if not, the Upload is open and PutUpload can send the blob.
func (c *Client) PostBlob(ctx context.Context, repo string, d digest.Digest, body Body) (bool, Upload, error) {
	u := c.url(repo, "blobs", "uploads/")
	u.RawQuery = "digest=" + url.QueryEscape(d.String())
	r := c.bodyRequest(http.MethodPost, u, "end-4b", repo, body, "")
	r.slow, r.want, r.check = true, []int{http.StatusCreated, http.StatusAccepted}, checkLocation
	up := Upload{Repo: repo}
	resp, err := c.do(ctx, r, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return false, up, err
	}
	if resp.status == http.StatusCreated {
		return true, up, nil
	}
	return false, up, c.update(&up, resp, 0)
}

// bodyRequest returns a request that carries bytes of a blob, or none.
func (c *Client) bodyRequest(method string, u *url.URL, endpoint, repo string, body Body, contentRange string) *request {
	r := &request{
		method: method, url: u, endpoint: endpoint, scopes: []scope{push(repo)}, once: true,
		header: http.Header{}, expect: body.Expect, length: body.ContentLength,
	}
	switch {
	case body.ContentRange != "":
		contentRange = body.ContentRange
	case body.NoRange:
		contentRange = ""
	}
	if contentRange != "" {
		r.header.Set("Content-Range", contentRange)
	}
	r.header.Set("Content-Type", "application/octet-stream") // never a form type, which swallows bodies
	if body.ContentType != "" {
		r.header.Set("Content-Type", body.ContentType)
	}
	if body.Reader != nil && body.Size > 0 {
		r.body = newSource(body.Reader, body.Size)
		r.body.cut = body.CutAfter
		if body.CutAfter > 0 || body.ContentLength > body.Size {
			r.expect = +1 // the head goes out before the body, so all of it that there is does
		}
	}
	return r
}

// chunkRange is the Content-Range of size bytes at offset: no unit, no total.
func chunkRange(offset, size int64) string {
	if size == 0 {
		return ""
	}
	return fmt.Sprintf("%d-%d", offset, offset+size-1)
}

// PatchUpload sends bytes at up.Offset (end-5) and brings up to the new state. The request is
// never repeated: after an error the caller asks with [Client.UploadStatus] what the registry
// has. Content-Range is sent unless body says otherwise.
func (c *Client) PatchUpload(ctx context.Context, up *Upload, body Body) error {
	u, err := up.url()
	if err != nil {
		return err
	}
	r := c.bodyRequest(http.MethodPatch, u, "end-5", up.Repo, body, chunkRange(up.Offset, body.Size))
	r.want = []int{http.StatusAccepted}
	r.check = func(resp *response) {
		checkLocation(resp)
		if resp.status < 300 {
			checkRange(resp, up.Offset+body.Size)
		}
	}
	resp, err := c.do(ctx, r, http.StatusAccepted, http.StatusOK, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		c.learnRange(up, resp)
		return err
	}
	if resp.sent < body.Size && body.ContentLength == 0 {
		return fmt.Errorf("PATCH %s: %w: status %d after %d of %d bytes", c.red.url(resp.url), ErrProtocol, resp.status, resp.sent, body.Size)
	}
	if resp.status != http.StatusAccepted && resp.header.Get("Location") == "" {
		resp.header.Set("Location", up.Location)
	}
	return c.update(up, resp, body.Size)
}

// UploadStatus asks how many bytes the registry has (end-13) and brings up to that: Server,
// Location, Ambiguous; Offset stays. A session that is gone gives an error that
// [IsUploadLost] recognizes.
func (c *Client) UploadStatus(ctx context.Context, up *Upload) error {
	u, err := up.url()
	if err != nil {
		return err
	}
	r := &request{method: http.MethodGet, url: u, endpoint: "end-13", scopes: []scope{push(up.Repo)}, want: []int{http.StatusNoContent}}
	r.check = func(resp *response) {
		checkLocation(resp)
		if resp.status == http.StatusNoContent {
			checkRange(resp, up.Offset)
		}
	}
	resp, err := c.do(ctx, r, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	var status *StatusError
	if errors.As(err, &status) && status.Status == http.StatusNotFound && u.Query().Has("_state") && c.isHome(u) {
		// This registry finds a session whose state was lost by its path alone.
		bare := *u
		bare.RawQuery = ""
		r.url = &bare
		if again, err2 := c.do(ctx, r, http.StatusNoContent); err2 == nil {
			resp, err = again, nil
		}
	}
	if err != nil {
		return err
	}
	if resp.header.Get("Location") == "" {
		resp.header.Set("Location", up.Location)
	}
	return c.update(up, resp, 0)
}

// IsUploadLost reports whether err says that there is no such session (any more), or that
// the registry cannot tell: 404, or 400 and 405 from an endpoint that does not know how.
func IsUploadLost(err error) bool {
	var status *StatusError
	if !errors.As(err, &status) {
		return false
	}
	if status.Has("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID") && status.Status != http.StatusRequestedRangeNotSatisfiable {
		return true
	}
	switch status.Status {
	case http.StatusNotFound, http.StatusGone:
		return true
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		return status.Method == http.MethodGet
	}
	return false
}

// PutUpload closes the session (end-6): the blob gets the digest d, if its bytes have it. The
// rest of the bytes may be in body. The request is never repeated; after an error
// [Client.HeadBlob] tells whether it did its work.
func (c *Client) PutUpload(ctx context.Context, up *Upload, d digest.Digest, body Body) error {
	u, err := up.url()
	if err != nil {
		return err
	}
	addQuery(u, "digest="+url.QueryEscape(d.String()))
	contentRange := ""
	if up.Offset > 0 {
		contentRange = chunkRange(up.Offset, body.Size)
	}
	r := c.bodyRequest(http.MethodPut, u, "end-6", up.Repo, body, contentRange)
	r.slow, r.want = true, []int{http.StatusCreated}
	r.check = func(resp *response) {
		checkLocation(resp)
		if resp.status == http.StatusCreated {
			checkDigestHeader(resp, d)
		}
	}
	resp, err := c.do(ctx, r, http.StatusCreated, http.StatusNoContent, http.StatusOK)
	if err != nil {
		c.learnRange(up, resp)
		return err
	}
	if body.Reader != nil && resp.sent < body.Size && body.ContentLength == 0 {
		return fmt.Errorf("PUT %s: %w: status %d after %d of %d bytes", c.red.url(resp.url), ErrProtocol, resp.status, resp.sent, body.Size)
	}
	up.Offset += body.Size
	return nil
}

// CancelUpload closes the session and drops its bytes (end-14). Not every registry can.
func (c *Client) CancelUpload(ctx context.Context, up Upload) error {
	u, err := up.url()
	if err != nil {
		return err
	}
	r := &request{method: http.MethodDelete, url: u, endpoint: "end-14", scopes: []scope{push(up.Repo)}, once: true, want: []int{http.StatusNoContent}}
	_, err = c.do(ctx, r, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	return err
}
