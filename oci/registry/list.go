package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci"
)

const (
	maxPages    = 1000
	maxListBody = 4 << 20
)

// Tags lists the tags of a repository (end-8a), in the order of the registry, page by page
// with n tags each (0: as the registry likes). The sequence ends with the first error. A
// registry that sends a page twice, or on without end, gives [ErrProtocol].
func (c *Client) Tags(ctx context.Context, repo string, n int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		first := c.url(repo, "tags", "list")
		if n > 0 {
			first.RawQuery = "n=" + strconv.Itoa(n)
		}
		err := c.pages(ctx, first, "end-8a", pull(repo), func(resp *response) (bool, error) {
			var page struct {
				Tags []string `json:"tags"`
			}
			if err := oci.Decode(resp.body, &page); err != nil {
				return false, fmt.Errorf("GET %s: %w", c.red.url(resp.url), err)
			}
			for _, t := range page.Tags {
				if !yield(t, nil) {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			yield("", err)
		}
	}
}

// pages gets first and what its Link headers lead to.
func (c *Client) pages(ctx context.Context, first *url.URL, endpoint string, s scope, page func(*response) (bool, error)) error {
	seen := map[string]bool{}
	for u := first; u != nil; {
		if seen[u.String()] {
			return fmt.Errorf("GET %s: %w: the list leads in a circle", c.red.url(u), ErrProtocol)
		}
		if len(seen) == maxPages {
			return fmt.Errorf("GET %s: %w: the list has over %d pages", c.red.url(u), ErrProtocol, maxPages)
		}
		seen[u.String()] = true
		r := &request{method: http.MethodGet, url: u, endpoint: endpoint, scopes: []scope{s}, limit: maxListBody, want: []int{http.StatusOK}}
		resp, err := c.do(ctx, r, http.StatusOK)
		if err != nil {
			return err
		}
		if more, err := page(resp); err != nil || !more {
			return err
		}
		if u, err = c.nextPage(resp); err != nil {
			return err
		}
	}
	return nil
}

// nextPage reads the Link header with rel="next". It must stay on the registry.
func (c *Client) nextPage(resp *response) (*url.URL, error) {
	for _, link := range resp.header.Values("Link") {
		target, ok := nextLink(link)
		if !ok {
			continue
		}
		u, err := resp.url.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("GET %s: %w: malformed Link", c.red.url(resp.url), ErrProtocol)
		}
		if !c.isHome(u) || u.User != nil {
			return nil, fmt.Errorf("GET %s: %w: Link to %s", c.red.url(resp.url), ErrUnsafe, c.red.url(u))
		}
		return u, nil
	}
	return nil, nil
}

// nextLink returns the target with the relation "next" of a Link header, which may hold several
// (RFC 8288, section 3).
func nextLink(s string) (string, bool) {
	for {
		_, rest, _ := strings.Cut(s, "<")
		target, rest, ok := strings.Cut(rest, ">")
		if !ok {
			return "", false
		}
		p := &scanner{rest}
		for p.skip(" \t;"); p.s != "" && p.peek() != ','; p.skip(" \t;") {
			name := p.until(" \t=;,")
			if p.skip(" \t"); p.peek() != '=' {
				continue
			}
			p.next()
			p.skip(" \t")
			value := ""
			if p.peek() == '"' {
				value = p.value()
			} else {
				value = p.until(" \t;,")
			}
			if strings.EqualFold(name, "rel") && slices.Contains(strings.Fields(strings.ToLower(value)), "next") {
				return target, true
			}
		}
		s = p.s
	}
}

// A ReferrerList is what refers to a manifest.
type ReferrerList struct {
	Descriptors []oci.Descriptor
	Fallback    bool // they came from the fallback tag: the registry has no referrers API
	Filtered    bool // the registry applied the filter; otherwise it was applied here
}

// maxReferrers bounds the descriptors that are collected.
const maxReferrers = 100_000

// Referrers lists the manifests whose subject is d (end-12), of one artifact type if that is
// not empty. Where the registry has no referrers API, the fallback tag is read ("Unavailable
// Referrers API"). No referrers give an empty list.
func (c *Client) Referrers(ctx context.Context, repo string, d digest.Digest, artifactType string) (ReferrerList, error) {
	var list ReferrerList
	first := c.url(repo, "referrers", d.String())
	if artifactType != "" {
		first.RawQuery = "artifactType=" + url.QueryEscape(artifactType)
	}
	err := c.pages(ctx, first, "end-12", pull(repo), func(resp *response) (bool, error) {
		if t := headerType(resp); t != oci.MediaTypeIndex {
			return false, fmt.Errorf("GET %s: %w: Content-Type is %s", c.red.url(resp.url), errNoReferrers, quote(t))
		}
		var page oci.Index
		if err := oci.Decode(resp.body, &page); err != nil {
			return false, fmt.Errorf("GET %s: %w", c.red.url(resp.url), err)
		}
		list.Filtered = strings.Contains(resp.header.Get("OCI-Filters-Applied"), "artifactType")
		list.Descriptors = append(list.Descriptors, page.Manifests...)
		if len(list.Descriptors) > maxReferrers {
			return false, fmt.Errorf("GET %s: %w: over %d referrers", c.red.url(resp.url), ErrProtocol, maxReferrers)
		}
		return true, nil
	})
	if noReferrersAPI(err) {
		list.Fallback = true
		list.Descriptors, _, err = c.fallbackIndex(ctx, repo, d)
	}
	if err != nil {
		return ReferrerList{}, err
	}
	if artifactType != "" && !list.Filtered {
		all := list.Descriptors
		list.Descriptors = nil
		for _, desc := range all {
			if desc.ArtifactType == artifactType {
				list.Descriptors = append(list.Descriptors, desc)
			}
		}
	}
	return list, nil
}

// errNoReferrers means that something else than the referrers API answered.
var errNoReferrers = fmt.Errorf("%w: no list of referrers", ErrProtocol)

// noReferrersAPI reports whether err says that the registry does not have the API.
func noReferrersAPI(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Status {
		case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
			return true
		}
	}
	return errors.Is(err, errNoReferrers)
}

// FallbackTag returns the tag under which the referrers of d are listed where there is no
// API: algorithm and encoded part, cut to 32 and 64 characters ("Referrers Tag Schema").
func FallbackTag(d digest.Digest) string {
	clean := func(s string, n int) string {
		s = s[:min(len(s), n)]
		return strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c) {
				return c
			}
			return '-'
		}, s)
	}
	return clean(string(d.Algorithm()), 32) + "-" + clean(d.Encoded(), 64)
}

// fallbackIndex reads the fallback tag. An absent one is an empty list.
func (c *Client) fallbackIndex(ctx context.Context, repo string, d digest.Digest) ([]oci.Descriptor, []byte, error) {
	desc, data, err := c.GetManifest(ctx, repo, FallbackTag(d))
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	x, err := oci.DecodeIndex(desc, data)
	return x.Manifests, data, err
}

// AddReferrer puts desc into the list under the fallback tag of subject, for a registry that
// did not confirm the subject of a manifest (see [PutResult.Subject]) and has no referrers
// API. It reads the list again afterwards and repeats if another writer was faster. It
// reports whether it had to: a registry with the API needs nothing.
func (c *Client) AddReferrer(ctx context.Context, repo string, subject digest.Digest, desc oci.Descriptor) (bool, error) {
	r := &request{
		method: http.MethodGet, url: c.url(repo, "referrers", subject.String()), endpoint: "end-12",
		scopes: []scope{pull(repo)}, limit: maxListBody,
	}
	resp, err := c.do(ctx, r, http.StatusOK)
	if err == nil && headerType(resp) == oci.MediaTypeIndex {
		return false, nil
	}
	if err != nil && !noReferrersAPI(err) {
		return false, err
	}
	conditional := true // few registries look at If-Match, and some may not mean the digest
	for range 4 {
		list, old, err := c.fallbackIndex(ctx, repo, subject)
		if err != nil || listed(list, desc.Digest) {
			return true, err
		}
		data, err := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: append(list, desc)})
		if err != nil {
			return true, err
		}
		start := c.o.Now()
		r := c.putRequest(repo, FallbackTag(subject), oci.MediaTypeIndex, data, nil)
		if old != nil && conditional {
			r.header.Set("If-Match", `"`+digest.FromBytes(old).String()+`"`)
		}
		_, err = c.putManifest(ctx, r, nil)
		var status *StatusError
		if errors.As(err, &status) && status.Status == http.StatusPreconditionFailed {
			conditional = false
			continue
		}
		if err != nil {
			return true, err
		}
		// Who read the list before us writes it about now.
		if err := c.o.Sleep(ctx, min(c.o.Now().Sub(start), time.Second)); err != nil {
			return true, err
		}
		after, _, err := c.fallbackIndex(ctx, repo, subject)
		if err != nil || listed(after, desc.Digest) {
			return true, err
		}
	}
	return true, fmt.Errorf("referrers of %s: others change the list all the time: %w", subject, ErrProtocol)
}

func listed(list []oci.Descriptor, d digest.Digest) bool {
	for _, l := range list {
		if l.Digest == d {
			return true
		}
	}
	return false
}
