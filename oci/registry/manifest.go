package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry/wire"
)

// HeadManifest returns the descriptor of a manifest by tag or digest (end-3), as the registry claims
// it: nothing is verified, but a claim other than the digest asked for gives [digest.ErrMismatch].
// Where HEAD is not answered, or the answer lacks digest, size or type, a GET finds them out.
func (c *Client) HeadManifest(ctx context.Context, repo, name string) (oci.Descriptor, error) {
	r := c.manifestRequest(http.MethodHead, repo, name)
	resp, err := c.conn.Do(ctx, r, http.StatusOK)
	if status, ok := errors.AsType[*StatusError](err); ok && (status.Status == http.StatusMethodNotAllowed || resp != nil && resp.Away) {
		desc, _, err := c.GetManifest(ctx, repo, name)
		return desc, err
	}
	if err != nil {
		return oci.Descriptor{}, err
	}

	// The header Docker-Content-Digest is optional, and Content-Type may be one that any file
	// has.
	d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	size := contentLength(resp)
	mediaType := headerType(resp)
	if err != nil || size < 0 || !oci.IsIndex(mediaType) && !oci.IsManifest(mediaType) {
		desc, _, err := c.GetManifest(ctx, repo, name)
		return desc, err
	}

	if want, err := digest.Parse(name); err == nil && want != d && want.Algorithm() == d.Algorithm() {
		return oci.Descriptor{}, fmt.Errorf("HEAD %s: got %s, want %s: %w", c.conn.Red.URL(resp.URL), d, want, digest.ErrMismatch)
	}

	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: size}, nil
}

// manifestRequest returns a request that reads a manifest, by GET or HEAD.
func (c *Client) manifestRequest(method, repo, name string) *wire.Request {
	return &wire.Request{
		Method: method, URL: c.conn.Endpoint(repo, "manifests", name), Endpoint: "end-3", Scopes: []wire.Scope{wire.PullScope(repo)},
		// Without the types some registries answer 404, others with another manifest.
		Header: http.Header{"Accept": {strings.Join(oci.ManifestTypes(), ", ")}}, Limit: oci.MaxDocument,
		Want: []int{http.StatusOK},
	}
}

// headerType returns the Content-Type without parameters.
func headerType(resp *wire.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		t, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
	}
	return strings.TrimSpace(t)
}

// GetManifest returns a manifest or index by tag or digest, and its descriptor (end-3). The bytes are
// exactly those that came. They are checked against the digest in name, else against the header
// Docker-Content-Digest if there is one; a difference gives [digest.ErrMismatch]. A Content-Type
// that is not the mediaType inside, or a document that is not a manifest, gives [ErrProtocol].
func (c *Client) GetManifest(ctx context.Context, repo, name string) (oci.Descriptor, []byte, error) {
	r := c.manifestRequest(http.MethodGet, repo, name)
	asked, byDigest := digest.Digest{}, false
	if d, err := digest.Parse(name); err == nil {
		asked, byDigest = d, true
	}

	r.Check = func(resp *wire.Response) {
		if resp.Status == http.StatusOK && byDigest {
			checkDigestHeader(resp, asked)
		}
	}

	resp, err := c.conn.Do(ctx, r, http.StatusOK)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}

	desc, err := describe(resp, asked)
	if err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("GET %s: %w", c.conn.Red.URL(resp.URL), err)
	}

	return desc, resp.Body, nil
}

// describe checks an answer that holds a manifest, and returns its descriptor. The digest that was
// asked for counts; without one the header's does.
func describe(resp *wire.Response, asked digest.Digest) (oci.Descriptor, error) {
	// A header that cannot be read, or is of an algorithm that we do not have, is as good as
	// none.
	claimed, _ := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	want := asked
	if want.IsZero() && claimed.Verifiable() {
		want = claimed
	}

	desc := oci.Describe("", resp.Body)
	if !want.IsZero() {
		if !want.Verifiable() {
			return desc, fmt.Errorf("%s: %w", want, digest.ErrUnsupported)
		}
		got := want.Algorithm().FromBytes(resp.Body)
		if got != want {
			return desc, fmt.Errorf("manifest %s: got %s: %w", want, got, digest.ErrMismatch)
		}
		desc.Digest = want
	}

	var err error
	desc.MediaType, err = documentType(resp)
	return desc, err
}

// documentType returns the media type of a manifest or index: the header and the document may both name it,
// and must not disagree.
func documentType(resp *wire.Response) (string, error) {
	header := headerType(resp)
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	if err := oci.Decode(resp.Body, &doc); err != nil {
		return "", err
	}

	known := func(t string) bool { return oci.IsIndex(t) || oci.IsManifest(t) }

	// The types that servers use for any file say nothing, so the document decides. Any other
	// type means that something else answered, such as the page of a proxy.
	switch {
	case known(header) && doc.MediaType != "" && doc.MediaType != header:
		return "", fmt.Errorf("%w: Content-Type is %s, mediaType inside is %s", ErrProtocol, wire.Quote(header), wire.Quote(doc.MediaType))
	case known(header):
		return header, nil
	case header != "" && header != "application/json" && header != "application/octet-stream" && header != "text/plain":
		return "", fmt.Errorf("%w: Content-Type is %s, which is not a manifest", ErrProtocol, wire.Quote(header))
	}

	sniffed := oci.SniffDocument(resp.Body)
	if !known(sniffed) {
		return sniffed, fmt.Errorf("%w: the document is not a manifest", ErrProtocol)
	}
	return sniffed, nil
}

// A PutResult is what a registry says about a manifest that it took.
type PutResult struct {
	Digest  digest.Digest // from the header; zero if there is none
	Tags    []string      // that the registry says it set, of those that were asked for
	Subject digest.Digest // from OCI-Subject: the registry maintains the list of referrers
}

// PutManifest stores data, byte for byte, under name, which is a tag or the digest of data (end-7a).
// A registry that claims to have stored other bytes gives [digest.ErrMismatch].
//
// With tags, name must be the digest, and the request asks for these tags to be set as well
// (end-7b). A registry that does not know how ignores them without an error: the caller must compare
// [PutResult.Tags].
func (c *Client) PutManifest(ctx context.Context, repo, name, mediaType string, data []byte, tags ...string) (PutResult, error) {
	return c.putManifest(ctx, c.putRequest(repo, name, mediaType, data, tags), tags)
}

// A putRequest is the request that stores a manifest, and the digest that it will have.
type putRequest struct {
	*wire.Request
	digest digest.Digest
}

// putRequest returns the request that stores data under name, and the digest that data has in the
// algorithm of name.
func (c *Client) putRequest(repo, name, mediaType string, data []byte, tags []string) putRequest {
	u := c.conn.Endpoint(repo, "manifests", name)
	endpoint := "end-7a"
	for _, tag := range tags {
		endpoint = "end-7b"
		wire.AddQuery(u, "tag="+url.QueryEscape(tag))
	}

	alg := digest.SHA256
	if d, err := digest.Parse(name); err == nil && d.Verifiable() {
		alg = d.Algorithm()
	}

	want := alg.FromBytes(data)

	// The body may be sent again: the request names its own place, so a second one changes
	// nothing.
	return putRequest{&wire.Request{
		Method: http.MethodPut, URL: u, Endpoint: endpoint, Scopes: []wire.Scope{wire.PushScope(repo)}, Repeat: true, Slow: true,
		Header: http.Header{"Content-Type": {mediaType}}, Body: wire.NewBody(bytes.NewReader(data), int64(len(data))),
		Want: []int{http.StatusCreated},
		Check: func(resp *wire.Response) {
			checkCreated(want)(resp)
			if set := tagsSet(resp, tags); resp.Status < 300 && len(set) < len(tags) {
				resp.Note("note", "OCI-Tag names %d of %d tags", len(set), len(tags))
			}
		},
	}, want}
}

// putManifest sends r and compares what the registry says it stored.
func (c *Client) putManifest(ctx context.Context, r putRequest, tags []string) (PutResult, error) {
	resp, err := c.conn.Do(ctx, r.Request, http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent)
	if status, ok := errors.AsType[*StatusError](err); ok && status.TooLarge() {
		return PutResult{}, fmt.Errorf("manifest of %d bytes: %w", r.Body.Size, err)
	}
	if err != nil {
		return PutResult{}, err
	}

	// A digest of another algorithm cannot be compared. It is not taken for a confirmation
	// either.
	out := PutResult{Tags: tagsSet(resp, tags)}
	if header := resp.Header.Get("Docker-Content-Digest"); header != "" {
		got, err := digest.Parse(header)
		if err != nil || got != r.digest && got.Algorithm() == r.digest.Algorithm() {
			return out, fmt.Errorf("PUT %s: the registry says it stored %s, want %s: %w", c.conn.Red.URL(resp.URL), wire.Quote(header), r.digest, digest.ErrMismatch)
		}
		if got == r.digest {
			out.Digest = got
		}
	}

	out.Subject, _ = digest.Parse(resp.Header.Get("OCI-Subject"))
	return out, nil
}

// tagsSet returns those of tags that the headers OCI-Tag name, one each or as a list.
func tagsSet(resp *wire.Response, tags []string) []string {
	var named []string
	for _, v := range resp.Header.Values("OCI-Tag") {
		for t := range strings.SplitSeq(v, ",") {
			named = append(named, strings.TrimSpace(t))
		}
	}
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return !slices.Contains(named, t) })
}

// DeleteManifest asks the registry to remove a manifest by its digest, or a tag (end-9).
func (c *Client) DeleteManifest(ctx context.Context, repo, name string) error {
	return c.remove(ctx, "end-9", repo, "manifests", name)
}
