package registry

import (
	"cmp"
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
	"ocikit/oci/graph"
	"ocikit/oci/registry/wire"
)

const (
	maxPages    = 1000
	maxListBody = 4 << 20
	maxList     = 64 << 20 // bytes of all pages
)

// Tags lists the tags of a repository (end-8a) in the order of the registry. It asks for pages of n
// tags; 0 leaves their size to the registry. The sequence ends with the first error. A list that
// leads in a circle, or is over 1,000 pages or 64 MiB long, gives [ErrProtocol].
func (c *Client) Tags(ctx context.Context, repo string, n int) iter.Seq2[string, error] {
	type page struct {
		Tags []string `json:"tags"`
	}
	return names(ctx, c, list{repo + "/tags/list", "end-8a", wire.PullScope(repo), n}, func(p page) []string { return p.Tags })
}

// A list is what a registry lists page by page.
type list struct {
	path, endpoint string // behind /v2/, and as the distribution-spec numbers it
	scope          wire.Scope
	n              int // names to a page; 0 leaves it to the registry
}

// names returns the names on the pages of a list.
func names[Page any](ctx context.Context, c *Client, l list, of func(Page) []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		first := c.conn.Endpoint("")
		first.Path += l.path
		if l.n > 0 {
			first.RawQuery = "n=" + strconv.Itoa(l.n)
		}

		err := c.pages(ctx, first, l.endpoint, l.scope, func(resp *wire.Response) (bool, error) {
			var page Page
			if err := oci.Decode(resp.Body, &page); err != nil {
				return false, fmt.Errorf("GET %s: %w", c.conn.Red.URL(resp.URL), err)
			}
			for _, name := range of(page) {
				if !yield(name, nil) {
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

// pages calls page with the answer to first and to each address that the Link headers lead to, until
// page returns false or there is no further one. The bounds are against a registry whose list never
// ends.
func (c *Client) pages(ctx context.Context, first *url.URL, endpoint string, s wire.Scope, page func(*wire.Response) (bool, error)) error {
	seen := map[string]bool{}
	bytes := 0
	for u := first; u != nil; {
		if seen[u.String()] {
			return fmt.Errorf("GET %s: %w: the list leads in a circle", c.conn.Red.URL(u), ErrProtocol)
		}
		if len(seen) == maxPages {
			return fmt.Errorf("GET %s: %w: the list has over %d pages", c.conn.Red.URL(u), ErrProtocol, maxPages)
		}
		seen[u.String()] = true

		r := &wire.Request{Method: http.MethodGet, URL: u, Endpoint: endpoint, Scopes: []wire.Scope{s}, Limit: maxListBody, Want: []int{http.StatusOK}}
		resp, err := c.conn.Do(ctx, r, http.StatusOK)
		if err != nil {
			return err
		}
		if bytes += len(resp.Body); bytes > maxList {
			return fmt.Errorf("GET %s: %w: the list has over %d bytes", c.conn.Red.URL(u), ErrProtocol, maxList)
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
func (c *Client) nextPage(resp *wire.Response) (*url.URL, error) {
	for _, link := range resp.Header.Values("Link") {
		target, ok := nextLink(link)
		if !ok {
			continue
		}
		u, err := resp.URL.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("GET %s: %w: malformed Link", c.conn.Red.URL(resp.URL), ErrProtocol)
		}
		if !c.conn.IsHome(u) || u.User != nil {
			return nil, fmt.Errorf("GET %s: %w: Link to %s", c.conn.Red.URL(resp.URL), ErrUnsafe, c.conn.Red.URL(u))
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

		p := &wire.HeaderScanner{Rest: rest}
		for p.Skip(" \t;"); p.Rest != "" && p.Peek() != ','; p.Skip(" \t;") {
			name := p.Until(" \t=;,")
			if p.Skip(" \t"); p.Peek() != '=' {
				continue
			}
			p.Next()
			p.Skip(" \t")
			value := ""
			if p.Peek() == '"' {
				value = p.Value()
			} else {
				value = p.Until(" \t;,")
			}

			// rel may hold several relations, split by blanks.
			if strings.EqualFold(name, "rel") && slices.Contains(strings.Fields(strings.ToLower(value)), "next") {
				return target, true
			}
		}

		s = p.Rest
	}
}

// A ReferrerList is the list of the manifests that refer to another one.
type ReferrerList struct {
	Descriptors []oci.Descriptor
	Fallback    bool // they came from the fallback tag: the registry has no referrers API
	Filtered    bool // the registry says of each page that it applied the filter
}

// maxReferrers bounds the descriptors that are collected.
const maxReferrers = 100_000

// Referrers lists the manifests whose subject is d (end-12), of one artifact type if that is not
// empty. Where the registry has no referrers API, the fallback tag is read ("Unavailable Referrers
// API"). No referrers give an empty list. The entries are claims: nothing has looked into the
// manifests.
func (c *Client) Referrers(ctx context.Context, repo string, d digest.Digest, artifactType string) (ReferrerList, error) {
	list := ReferrerList{Filtered: artifactType != ""}
	first := c.conn.Endpoint(repo, "referrers", d.String())
	if artifactType != "" {
		first.RawQuery = "artifactType=" + url.QueryEscape(artifactType)
	}

	err := c.pages(ctx, first, "end-12", wire.PullScope(repo), func(resp *wire.Response) (bool, error) {
		if t := headerType(resp); t != oci.MediaTypeIndex {
			return false, fmt.Errorf("GET %s: %w: Content-Type is %s", c.conn.Red.URL(resp.URL), errNoReferrers, wire.Quote(t))
		}
		var page oci.Index
		if err := oci.Decode(resp.Body, &page); err != nil {
			return false, fmt.Errorf("GET %s: %w", c.conn.Red.URL(resp.URL), err)
		}

		// A registry that cannot filter sends everything and leaves this header out. Pages may come
		// from several, or from a cache.
		if !strings.Contains(resp.Header.Get("OCI-Filters-Applied"), "artifactType") {
			list.Filtered = false
		}
		list.Descriptors = append(list.Descriptors, page.Manifests...)

		if len(list.Descriptors) > maxReferrers {
			return false, fmt.Errorf("GET %s: %w: over %d referrers", c.conn.Red.URL(resp.URL), ErrProtocol, maxReferrers)
		}
		return true, nil
	})

	// Without the API, clients keep the list under the fallback tag.
	if noReferrersAPI(err) {
		denied := errors.Is(err, ErrDenied)
		list.Fallback, list.Filtered = true, false
		list.Descriptors, _, err = c.fallbackIndex(ctx, repo, d)
		if errors.Is(err, ErrDenied) && !denied {
			err = nil // some registries answer 403 for a tag that is not there
		}
	}
	if err != nil {
		return ReferrerList{}, err
	}

	if artifactType != "" {
		list.Descriptors, err = c.ofType(ctx, repo, list, artifactType)
	}

	return list, err
}

// maxAsked bounds the manifests that are asked for their type.
const maxAsked = 100

// ofType returns the referrers of a type. An entry that names another type is not of this one, also
// if the registry says that it filtered; one that names none is believed to be then. Lists under a
// fallback tag are written by clients, and some leave out artifactType. If no entry of such a list has
// the type, the manifests are asked themselves.
func (c *Client) ofType(ctx context.Context, repo string, list ReferrerList, artifactType string) ([]oci.Descriptor, error) {
	found := slices.DeleteFunc(slices.Clone(list.Descriptors), func(d oci.Descriptor) bool {
		return d.ArtifactType != artifactType && !(list.Filtered && d.ArtifactType == "")
	})
	if len(found) > 0 || !list.Fallback || len(list.Descriptors) > maxAsked {
		return found, nil
	}

	for _, desc := range list.Descriptors {
		got, data, err := c.GetManifest(ctx, repo, desc.Digest.String())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var doc struct {
			ArtifactType string         `json:"artifactType"`
			Config       oci.Descriptor `json:"config"`
		}

		// An image without an artifactType has the type of its config (distribution-spec,
		// "Listing Referrers").
		if oci.Decode(data, &doc) == nil && cmp.Or(doc.ArtifactType, doc.Config.MediaType) == artifactType {
			desc.ArtifactType, desc.MediaType = artifactType, got.MediaType
			found = append(found, desc)
		}
	}

	return found, nil
}

// errNoReferrers means that something else than the referrers API answered.
var errNoReferrers = fmt.Errorf("%w: no list of referrers", ErrProtocol)

// noReferrersAPI reports whether err means that the registry does not have the API. The spec has 404
// for that; registries and proxies that do not know the path use others.
func noReferrersAPI(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		switch status.Status {
		case http.StatusNotFound, http.StatusForbidden, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
			return true
		}
	}
	return errors.Is(err, errNoReferrers)
}

// fallbackIndex reads the fallback tag. An absent one is an empty list, and so is what is not a list:
// some registries answer with the manifest whose digest the tag spells (oras-project/oras-go#1396).
func (c *Client) fallbackIndex(ctx context.Context, repo string, d digest.Digest) ([]oci.Descriptor, []byte, error) {
	desc, data, err := c.GetManifest(ctx, repo, graph.FallbackTag(d))
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	x, isList := graph.IsReferrersList(desc, data, d, func(digest.Digest) bool { return false })
	if !isList {
		return nil, nil, nil
	}
	return x.Manifests, data, nil
}

// AddReferrer adds desc to the list under the fallback tag of subject, where the registry has no
// referrers API, and reports whether that was so: with the API it writes nothing. Call it after the
// put of a manifest whose subject the registry did not confirm, see [PutResult.Subject].
//
// Other writers may replace the list at the same time. AddReferrer reads it back and tries again,
// four times in all; then the error wraps [ErrProtocol].
func (c *Client) AddReferrer(ctx context.Context, repo string, subject digest.Digest, desc oci.Descriptor) (bool, error) {
	if has, err := c.hasReferrersAPI(ctx, repo, subject); has || err != nil {
		return false, err
	}

	isListed := func(l oci.Descriptor) bool { return l.Digest == desc.Digest }
	conditional := true // few registries look at If-Match, and some may not mean the digest

	// Two clients that read the same list each write one without the other's entry, and nothing
	// in the spec prevents that. If-Match helps where the registry honours it; elsewhere only a
	// look afterwards does.
	for range 4 {
		list, old, err := c.fallbackIndex(ctx, repo, subject)
		if err != nil || slices.ContainsFunc(list, isListed) {
			return true, err
		}

		data, err := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: append(list, desc)})
		if err != nil {
			return true, err
		}

		start := c.o.Now()
		r := c.putRequest(repo, graph.FallbackTag(subject), oci.MediaTypeIndex, data, nil)
		if old != nil && conditional {
			r.Header.Set("If-Match", `"`+digest.FromBytes(old).String()+`"`)
		}

		_, err = c.putManifest(ctx, r, nil)
		if status, ok := errors.AsType[*StatusError](err); ok && status.Status == http.StatusPreconditionFailed {
			conditional = false
			continue
		}
		if err != nil {
			return true, err
		}

		// A writer that read the list before us writes about now, so wait as long as our own
		// write took before looking.
		if err := c.o.Sleep(ctx, min(c.o.Now().Sub(start), time.Second)); err != nil {
			return true, err
		}

		after, _, err := c.fallbackIndex(ctx, repo, subject)
		if err != nil || slices.ContainsFunc(after, isListed) {
			return true, err
		}
	}

	return true, fmt.Errorf("referrers of %s: others change the list all the time: %w", subject, ErrProtocol)
}

// hasReferrersAPI asks for the referrers of a manifest, and reports whether the registry lists them.
func (c *Client) hasReferrersAPI(ctx context.Context, repo string, subject digest.Digest) (bool, error) {
	r := &wire.Request{
		Method: http.MethodGet, URL: c.conn.Endpoint(repo, "referrers", subject.String()), Endpoint: "end-12",
		Scopes: []wire.Scope{wire.PullScope(repo)}, Limit: maxListBody,
	}

	resp, err := c.conn.Do(ctx, r, http.StatusOK)
	if noReferrersAPI(err) {
		return false, nil
	}
	return err == nil && headerType(resp) == oci.MediaTypeIndex, err
}
