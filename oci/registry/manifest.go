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
)

// HeadManifest asks for the descriptor of a manifest by tag or digest (end-3). The digest is
// what the registry claims. One that does not say, or does not answer HEAD, is asked with
// GET.
func (c *Client) HeadManifest(ctx context.Context, repo, name string) (oci.Descriptor, error) {
	r := c.manifestRequest(http.MethodHead, repo, name)
	resp, err := c.do(ctx, r, http.StatusOK)
	var status *StatusError
	if errors.As(err, &status) && (status.Status == http.StatusMethodNotAllowed || resp != nil && resp.away) {
		desc, _, err := c.GetManifest(ctx, repo, name)
		return desc, err
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	d, err := digest.Parse(resp.header.Get("Docker-Content-Digest"))
	size := contentLength(resp)
	mediaType := headerType(resp)
	if err != nil || size < 0 || !oci.IsIndex(mediaType) && !oci.IsManifest(mediaType) {
		desc, _, err := c.GetManifest(ctx, repo, name)
		return desc, err
	}
	if want, err := digest.Parse(name); err == nil && want != d && want.Algorithm() == d.Algorithm() {
		return oci.Descriptor{}, fmt.Errorf("HEAD %s: got %s, want %s: %w", c.red.url(resp.url), d, want, digest.ErrMismatch)
	}
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: size}, nil
}

func (c *Client) manifestRequest(method, repo, name string) *request {
	return &request{
		method: method, url: c.url(repo, "manifests", name), endpoint: "end-3", scopes: []scope{pull(repo)},
		// Without the types some registries answer 404, others with another manifest.
		header: http.Header{"Accept": {strings.Join(oci.ManifestTypes(), ", ")}}, limit: oci.MaxDocument,
		want: []int{http.StatusOK},
	}
}

// headerType returns the Content-Type without parameters.
func headerType(resp *response) string {
	t, _, err := mime.ParseMediaType(resp.header.Get("Content-Type"))
	if err != nil {
		t, _, _ = strings.Cut(resp.header.Get("Content-Type"), ";")
	}
	return strings.TrimSpace(t)
}

// GetManifest returns a manifest or index by tag or digest, and its descriptor (end-3). The
// bytes are those of the registry. They are checked against the digest if it was asked by
// one, else against the header Docker-Content-Digest if there is one, and their type against
// the mediaType inside. Others give [digest.ErrMismatch] or [ErrProtocol].
func (c *Client) GetManifest(ctx context.Context, repo, name string) (oci.Descriptor, []byte, error) {
	r := c.manifestRequest(http.MethodGet, repo, name)
	asked, byDigest := digest.Digest{}, false
	if d, err := digest.Parse(name); err == nil {
		asked, byDigest = d, true
	}
	r.check = func(resp *response) {
		if resp.status == http.StatusOK && byDigest {
			checkDigestHeader(resp, asked)
		}
	}
	resp, err := c.do(ctx, r, http.StatusOK)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	desc, err := describe(resp, asked)
	if err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("GET %s: %w", c.red.url(resp.url), err)
	}
	return desc, resp.body, nil
}

// describe checks a manifest that was got. The digest that was asked for counts; without
// one the header's does.
func describe(resp *response, asked digest.Digest) (oci.Descriptor, error) {
	claimed, _ := digest.Parse(resp.header.Get("Docker-Content-Digest"))
	want := asked
	if want.IsZero() && claimed.Verifiable() {
		want = claimed
	}
	desc := oci.Describe("", resp.body)
	if !want.IsZero() {
		if !want.Verifiable() {
			return desc, fmt.Errorf("%s: %w", want, digest.ErrUnsupported)
		}
		got, _, _ := digest.FromReader(want.Algorithm(), bytes.NewReader(resp.body))
		if got != want {
			return desc, fmt.Errorf("manifest %s: got %s: %w", want, got, digest.ErrMismatch)
		}
		desc.Digest = want
	}
	header, inside := headerType(resp), ""
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	if err := oci.Decode(resp.body, &doc); err != nil {
		return desc, err
	}
	inside = doc.MediaType
	known := func(t string) bool { return oci.IsIndex(t) || oci.IsManifest(t) }
	switch {
	case known(header) && inside != "" && inside != header:
		return desc, fmt.Errorf("%w: Content-Type is %s, mediaType inside is %s", ErrProtocol, quote(header), quote(inside))
	case known(header):
		desc.MediaType = header
	case header != "" && header != "application/json" && header != "application/octet-stream" && header != "text/plain":
		return desc, fmt.Errorf("%w: Content-Type is %s, which is no manifest", ErrProtocol, quote(header))
	default:
		desc.MediaType = oci.SniffDocument(resp.body)
	}
	if !known(desc.MediaType) {
		return desc, fmt.Errorf("%w: the document is no manifest", ErrProtocol)
	}
	return desc, nil
}

// A PutResult is what a registry says about a manifest that it took.
type PutResult struct {
	Digest  digest.Digest // from the header; zero if there is none
	Tags    []string      // that the registry says it set, of those that were asked for
	Subject digest.Digest // from OCI-Subject: the registry maintains the list of referrers
}

// PutManifest stores data under name, a tag or its digest (end-7a), exactly as it is. With
// tags, name must be the digest; they are set with the same request where the registry knows
// how (end-7b): whoever asks for tags must look at [PutResult.Tags]. A registry that claims to
// have stored other bytes gives [digest.ErrMismatch].
func (c *Client) PutManifest(ctx context.Context, repo, name, mediaType string, data []byte, tags ...string) (PutResult, error) {
	return c.putManifest(ctx, c.putRequest(repo, name, mediaType, data, tags), tags)
}

// A putRequest is the request that stores a manifest, and the digest that it will have.
type putRequest struct {
	*request
	digest digest.Digest
}

func (c *Client) putRequest(repo, name, mediaType string, data []byte, tags []string) putRequest {
	u := c.url(repo, "manifests", name)
	endpoint := "end-7a"
	for _, tag := range tags {
		endpoint = "end-7b"
		addQuery(u, "tag="+url.QueryEscape(tag))
	}
	alg := digest.SHA256
	if d, err := digest.Parse(name); err == nil && d.Verifiable() {
		alg = d.Algorithm()
	}
	want, _, _ := digest.FromReader(alg, bytes.NewReader(data))
	return putRequest{&request{
		method: http.MethodPut, url: u, endpoint: endpoint, scopes: []scope{push(repo)}, repeat: true, slow: true,
		header: http.Header{"Content-Type": {mediaType}}, body: newSource(bytes.NewReader(data), int64(len(data))),
		want: []int{http.StatusCreated},
		check: func(resp *response) {
			checkLocation(resp)
			if resp.status == http.StatusCreated {
				checkDigestHeader(resp, want)
			}
			if set := tagsSet(resp, tags); resp.status < 300 && len(set) < len(tags) {
				resp.note("note", "OCI-Tag names %d of %d tags", len(set), len(tags))
			}
		},
	}, want}
}

func (c *Client) putManifest(ctx context.Context, r putRequest, tags []string) (PutResult, error) {
	resp, err := c.do(ctx, r.request, http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent)
	var status *StatusError
	if errors.As(err, &status) && status.TooLarge() {
		return PutResult{}, fmt.Errorf("manifest of %d bytes: %w", r.body.size, err)
	}
	if err != nil {
		return PutResult{}, err
	}
	out := PutResult{Tags: tagsSet(resp, tags)}
	if header := resp.header.Get("Docker-Content-Digest"); header != "" {
		got, err := digest.Parse(header)
		if err != nil || got != r.digest && got.Algorithm() == r.digest.Algorithm() {
			return out, fmt.Errorf("PUT %s: the registry says it stored %s, want %s: %w", c.red.url(resp.url), quote(header), r.digest, digest.ErrMismatch)
		}
		if got == r.digest {
			out.Digest = got
		}
	}
	out.Subject, _ = digest.Parse(resp.header.Get("OCI-Subject"))
	return out, nil
}

// tagsSet returns those of tags that the headers OCI-Tag name, one each or as a list.
func tagsSet(resp *response, tags []string) []string {
	var named []string
	for _, v := range resp.header.Values("OCI-Tag") {
		for t := range strings.SplitSeq(v, ",") {
			named = append(named, strings.TrimSpace(t))
		}
	}
	var set []string
	for _, t := range tags {
		if slices.Contains(named, t) {
			set = append(set, t)
		}
	}
	return set
}

// DeleteManifest asks the registry to remove a manifest by its digest, or a tag (end-9).
func (c *Client) DeleteManifest(ctx context.Context, repo, name string) error {
	r := &request{method: http.MethodDelete, url: c.url(repo, "manifests", name), endpoint: "end-9", scopes: []scope{remove(repo)}, want: []int{http.StatusAccepted}}
	_, err := c.do(ctx, r, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	return err
}
