package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"ocikit/digest"
	"ocikit/oci/registry/wire"
)

// An Upload is the state of an open upload session, enough to send its next request. It is a plain
// value, so it can be saved and taken up by another process. Keep it secret: some registries let
// anybody write who has the Location.
type Upload struct {
	Repo     string
	Location string // absolute URL for the next request; changes with every answer
	Offset   int64  // bytes that were sent, by our own count
	Server   int64  // bytes that the registry says it has, -1 if it does not say
	ChunkMin int64  // OCI-Chunk-Min-Length; 0 if there is none
	ChunkMax int64  // OCI-Chunk-Max-Length; 0 if there is none

	// Ambiguous means that Server may be 0 as well as 1. Both are written "0-0" in the header
	// Range, which names the last byte.
	Ambiguous bool
}

// A Body is the body of an upload request. Reader and Size are all that a push needs. The other
// fields break rules on purpose, to find out how a registry takes it.
type Body struct {
	Reader io.Reader // may be an io.Seeker, which lets a redirect be followed; nil means no body
	Size   int64     // bytes to send, exactly

	NoRange       bool   // send no Content-Range
	ContentRange  string // send this one
	ContentType   string // in place of application/octet-stream
	ContentLength int64  // in place of Size, if > 0
	CutAfter      int64  // break the connection after so many bytes, if > 0
}

// maxChunkHint bounds what a registry may ask for in OCI-Chunk-Min-Length.
const maxChunkHint = 1 << 30

// StartUpload opens an upload session (end-4a). An alg other than "" and sha256 goes along in the
// query (end-4c), because the registry has to know it before it hashes the first byte.
func (c *Client) StartUpload(ctx context.Context, repo string, alg digest.Algorithm) (Upload, error) {
	u := c.conn.Endpoint(repo, "blobs", "uploads/")
	r := &wire.Request{
		Method: http.MethodPost, URL: u, Endpoint: "end-4a", Scopes: []wire.Scope{wire.PushScope(repo)},
		Want: []int{http.StatusAccepted}, Check: checkLocation,
	}

	if alg != "" && alg != digest.SHA256 {
		u.RawQuery, r.Endpoint = "digest-algorithm="+url.QueryEscape(string(alg)), "end-4c"
	}

	// Only 202 follows the spec; the other statuses are accepted if they come with a Location.
	up := Upload{Repo: repo}
	resp, err := c.conn.Do(ctx, r, http.StatusAccepted, http.StatusCreated, http.StatusOK, http.StatusNoContent)
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

// Mount asks the registry to take a blob over from the repository from (end-11). If it does not,
// it opens a session in its place: then Mounted is false and the Upload can be used. An empty from
// lets the registry look anywhere; some refuse a request without it.
func (c *Client) Mount(ctx context.Context, repo string, d digest.Digest, from string) (MountResult, Upload, error) {
	u := c.conn.Endpoint(repo, "blobs", "uploads/")
	u.RawQuery = "mount=" + url.QueryEscape(d.String())
	r := &wire.Request{
		Method: http.MethodPost, URL: u, Endpoint: "end-11", Scopes: []wire.Scope{wire.PushScope(repo)},
		Want: []int{http.StatusCreated, http.StatusAccepted},
	}

	// The token has to allow reading the other repository, too. Without that scope registries
	// open a session, as if the blob were not there.
	if from != "" {
		u.RawQuery += "&from=" + url.QueryEscape(from)
		r.Scopes = append(r.Scopes, wire.PullScope(from))
	}

	r.Check = checkCreated(d)

	up := Upload{Repo: repo}
	resp, err := c.conn.Do(ctx, r, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return MountResult{}, up, err
	}

	if resp.Status == http.StatusCreated {
		return MountResult{true, resp.Header.Get("Docker-Content-Digest") == d.String()}, up, nil
	}

	return MountResult{}, up, c.update(&up, resp, 0)
}

// PostBlob sends a whole blob with the request that opens the session (end-4b) and reports whether
// the registry took it. If it answers 202, it has ignored the body: the result is false, and the
// Upload is open for [Client.PutUpload]. The request is never repeated.
func (c *Client) PostBlob(ctx context.Context, repo string, d digest.Digest, body Body) (bool, Upload, error) {
	u := c.conn.Endpoint(repo, "blobs", "uploads/")
	u.RawQuery = "digest=" + url.QueryEscape(d.String())
	r := bodyRequest(repo, body, "")
	r.Method, r.URL, r.Endpoint = http.MethodPost, u, "end-4b"
	r.Slow, r.Want, r.Check = true, []int{http.StatusCreated, http.StatusAccepted}, checkLocation

	up := Upload{Repo: repo}
	resp, err := c.conn.Do(ctx, r, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return false, up, err
	}

	if resp.Status == http.StatusCreated {
		return true, up, nil
	}
	return false, up, c.update(&up, resp, 0)
}

// bodyRequest returns a request, still without an endpoint, that carries bytes of a blob, or none.
// It is sent once: a registry appends what it gets, so bytes that came twice would be in the blob
// twice.
func bodyRequest(repo string, body Body, contentRange string) *wire.Request {
	r := &wire.Request{
		Scopes: []wire.Scope{wire.PushScope(repo)}, Once: true,
		Header: http.Header{}, Length: body.ContentLength,
	}

	switch {
	case body.ContentRange != "":
		contentRange = body.ContentRange
	case body.NoRange:
		contentRange = ""
	}

	if contentRange != "" {
		r.Header.Set("Content-Range", contentRange)
	}

	r.Header.Set("Content-Type", "application/octet-stream") // never a form type, which swallows bodies
	if body.ContentType != "" {
		r.Header.Set("Content-Type", body.ContentType)
	}

	if body.Reader != nil && body.Size > 0 {
		r.Body = wire.NewBody(body.Reader, body.Size)
		r.Body.Cut = body.CutAfter
		if body.CutAfter > 0 || body.ContentLength > body.Size {
			r.Expect = true // the head goes out before the body, so all of it that there is does
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

// PatchUpload sends the bytes that belong at up.Offset (end-5) and sets up to the new state. It
// sends Content-Range unless body says otherwise. The request is never repeated; after an error
// [Client.UploadStatus] says how many bytes the registry has. An answer that comes before all
// bytes were taken gives [ErrProtocol], also with a status of success.
func (c *Client) PatchUpload(ctx context.Context, up *Upload, body Body) error {
	u, err := wire.ParseLocation(up.Location)
	if err != nil {
		return err
	}

	r := bodyRequest(up.Repo, body, chunkRange(up.Offset, body.Size))
	r.Method, r.URL, r.Endpoint = http.MethodPatch, u, "end-5"
	r.Want = []int{http.StatusAccepted}
	r.Check = func(resp *wire.Response) {
		checkLocation(resp)
		if resp.Status < 300 {
			checkRange(resp, up.Offset+body.Size)
		}
	}

	resp, err := c.sendPart(ctx, up, r, body, http.StatusAccepted, http.StatusOK, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return err
	}

	// A 202 has to name the next Location. Registries that answer with another 2xx often name
	// none and go on under the old one.
	if resp.Status != http.StatusAccepted && resp.Header.Get("Location") == "" {
		resp.Header.Set("Location", up.Location)
	}

	return c.update(up, resp, body.Size)
}

// sendPart sends a request with bytes that belong at up.Offset. After a failure up knows what the
// answer says of the bytes that the registry has.
func (c *Client) sendPart(ctx context.Context, up *Upload, r *wire.Request, body Body, success ...int) (*wire.Response, error) {
	resp, err := c.conn.Do(ctx, r, success...)
	if err != nil {
		c.learnRange(up, resp)
		return nil, err
	}

	// A success for a part of the bytes cannot be true. Offset would count bytes that the
	// registry never saw.
	if body.Reader != nil && resp.Sent < body.Size && body.ContentLength == 0 {
		return nil, fmt.Errorf("%s %s: %w: status %d after %d of %d bytes", r.Method, c.conn.Red.URL(resp.URL), ErrProtocol, resp.Status, resp.Sent, body.Size)
	}

	return resp, nil
}

// UploadStatus asks how many bytes the registry has (end-13) and sets Server, Ambiguous and Location
// of up; Offset stays, since it is the caller's count. A session that is gone gives an error for
// which [IsUploadLost] is true.
func (c *Client) UploadStatus(ctx context.Context, up *Upload) error {
	u, err := wire.ParseLocation(up.Location)
	if err != nil {
		return err
	}

	r := &wire.Request{Method: http.MethodGet, URL: u, Endpoint: "end-13", Scopes: []wire.Scope{wire.PushScope(up.Repo)}, Want: []int{http.StatusNoContent}}
	r.Check = func(resp *wire.Response) {
		checkLocation(resp)
		if resp.Status == http.StatusNoContent {
			checkRange(resp, up.Offset)
		}
	}

	resp, err := c.conn.Do(ctx, r, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Status == http.StatusNotFound && u.Query().Has("_state") && c.conn.IsHome(u) {
		// This registry finds a session whose state was lost by its path alone.
		bare := *u
		bare.RawQuery = ""
		r.URL = &bare
		if again, err2 := c.conn.Do(ctx, r, http.StatusNoContent); err2 == nil {
			resp, err = again, nil
		}
	}
	if err != nil {
		return err
	}

	if resp.Header.Get("Location") == "" {
		resp.Header.Set("Location", up.Location)
	}

	return c.update(up, resp, 0)
}

// IsUploadLost reports whether err, from a request to an upload session, means that the session
// cannot be gone on with: it does not exist any more (404, 410, or an error code that says so), or
// the registry cannot tell how far it is (400 or 405 in answer to a GET).
func IsUploadLost(err error) bool {
	var status *StatusError
	if !errors.As(err, &status) {
		return false
	}

	// A 416 is about the place of the bytes. The session lives on, whatever code comes with it.
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

// PutUpload closes the session (end-6): the registry stores the blob as d if its bytes have that
// digest. The rest of the bytes may come in body. The request is never repeated; after an error
// [Client.HeadBlob] tells whether the blob was stored all the same.
func (c *Client) PutUpload(ctx context.Context, up *Upload, d digest.Digest, body Body) error {
	u, err := wire.ParseLocation(up.Location)
	if err != nil {
		return err
	}

	wire.AddQuery(u, "digest="+url.QueryEscape(d.String()))

	// A PUT with the whole blob has no Content-Range in the spec; only the last part of a blob
	// in chunks does.
	contentRange := ""
	if up.Offset > 0 {
		contentRange = chunkRange(up.Offset, body.Size)
	}

	r := bodyRequest(up.Repo, body, contentRange)
	r.Method, r.URL, r.Endpoint = http.MethodPut, u, "end-6"
	r.Slow, r.Want = true, []int{http.StatusCreated}
	r.Check = checkCreated(d)
	if _, err = c.sendPart(ctx, up, r, body, http.StatusCreated, http.StatusNoContent, http.StatusOK); err == nil {
		up.Offset += body.Size
	}
	return err
}

// CancelUpload closes the session and drops its bytes (end-14). The spec does not ask registries for
// that; one that cannot gives a [StatusError].
func (c *Client) CancelUpload(ctx context.Context, up Upload) error {
	u, err := wire.ParseLocation(up.Location)
	if err != nil {
		return err
	}
	r := &wire.Request{Method: http.MethodDelete, URL: u, Endpoint: "end-14", Scopes: []wire.Scope{wire.PushScope(up.Repo)}, Once: true, Want: []int{http.StatusNoContent}}
	_, err = c.conn.Do(ctx, r, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	return err
}
