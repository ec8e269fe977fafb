package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"

	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/exchange"
)

// Upstreams are the registries whose repositories a server keeps copies of: what a copy lacks is
// fetched when it is asked for, verified, kept, and served. A repository that the directory holds
// already, and that is not a copy, is local: nothing of it is asked for elsewhere. Only local ones
// take what clients push.
type Upstreams struct {
	// Only is the one upstream. Repository a/b is a copy of a/b there. A client may name the
	// upstream, with the parameter ns, and no other.
	Only *registry.Client

	// Named are upstreams by what the parameter ns calls them, if there is no Only. Repository a/b
	// of NAME is kept as NAME/a/b, which is also a name that clients may ask for. A colon in NAME
	// is an underscore there, since names of repositories have none.
	Named map[string]*registry.Client

	// Any gives the upstream for every other name; nil: there are no others. It is asked once for a
	// name, which has been checked, and again only if it fails. Several requests may ask it at a time.
	Any func(name string) (*registry.Client, error)

	Offline bool // ask nobody: serve what is there
}

// An upstreamSet is Upstreams in use, with the clients for names that were asked for. Those who hold
// an old one when the upstreams change leave no client with old credentials in the new one.
type upstreamSet struct {
	*Upstreams

	mu  sync.Mutex                                  // not held while Any is asked, which may take long
	any map[string]func() (*registry.Client, error) // what Any says, by name
}

// upstreamAnnotation marks the index.json of a copy with the repository that it is one of.
const upstreamAnnotation = "org.ocikit.upstream"

// maxUpstreams bounds how many names clients may have asked for.
const maxUpstreams = 1000

// place returns the name below which a repository is kept, by the parameter ns of the request.
// See "Registry Proxying" in the distribution-spec.
func (u *Upstreams) place(r *http.Request, repo string) (string, error) {
	ns := r.URL.Query().Get("ns")
	if repo == "" || ns == "" {
		return repo, nil
	}

	ref, err := registry.ParseHost(ns)
	unknown := exchange.Fail(http.StatusNotFound, exchange.CodeNameUnknown, "this registry keeps no copies of what is in %s", exchange.Quote(ns))
	switch {
	case err != nil || ref.Scheme != "":
		return repo, exchange.Fail(http.StatusBadRequest, exchange.CodeNameInvalid, "ns=%s: want the name of a registry", exchange.Quote(ns))
	case u.Only != nil && u.Only.Host() != ref.Host:
		return repo, unknown
	case u.Only != nil:
		return repo, nil
	case u.Named[ref.Host] == nil && u.Any == nil:
		return repo, unknown
	}

	repo = directoryOf(ref.Host) + "/" + repo
	return repo, exchange.CheckName(repo)
}

// directoryOf returns the name of the directory for the repositories of a registry.
func directoryOf(host string) string { return strings.ReplaceAll(host, ":", "_") }

// An origin is where a repository is a copy from.
type origin struct {
	s    *Server
	repo string // here
	name string // there, with the name of the registry
	path string // there
	c    *registry.Client

	offline bool
}

// origin returns where a repository is a copy from, nil if it is local.
func (s *Server) origin(repo string) (*origin, error) {
	u := s.copied.Load()
	if u == nil || repo == "" {
		return nil, nil
	}

	o := &origin{s: s, repo: repo, path: repo, c: u.Only, offline: u.Offline}

	// With several upstreams the first component of the name says which.
	if o.c == nil {
		dir, path, found := strings.Cut(repo, "/")
		host := strings.ReplaceAll(dir, "_", ":") // no host has an underscore
		if !found || u.Named[host] == nil && (u.Any == nil || !strings.ContainsAny(host, ".:") && host != "localhost") {
			return nil, nil
		}
		var err error
		if o.c, err = u.client(host); err != nil {
			return nil, err
		}
		o.path = path
	}

	o.name = o.c.Host() + "/" + o.path

	// A repository that was here by itself is not mixed with one of the same name elsewhere.
	local, err := o.isLocal()
	if local || err != nil {
		return nil, err
	}

	return o, nil
}

// client returns the client for an upstream that has a name.
func (u *upstreamSet) client(host string) (*registry.Client, error) {
	if c := u.Named[host]; c != nil {
		return c, nil
	}

	ref, err := registry.ParseHost(host)
	if err != nil || ref.Host != host {
		return nil, exchange.Fail(http.StatusNotFound, exchange.CodeNameUnknown, "%s is not a name of a registry", exchange.Quote(host))
	}

	ask, err := u.asking(host)
	if err != nil {
		return nil, err
	}

	c, err := ask()
	if err != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.any, host) // the next request asks again
	}

	return c, err
}

// asking returns what asks [Upstreams.Any] for a name, and remembers the answer.
func (u *upstreamSet) asking(host string) (func() (*registry.Client, error), error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if ask := u.any[host]; ask != nil {
		return ask, nil
	}

	// Clients choose these names, so there is a bound.
	if len(u.any) >= maxUpstreams {
		return nil, exchange.Fail(http.StatusTooManyRequests, exchange.CodeTooManyRequests, "over %d registries were asked for", maxUpstreams)
	}

	u.any[host] = sync.OnceValues(func() (*registry.Client, error) { return u.Any(host) })
	return u.any[host], nil
}

// isLocal reports whether there is a repository that is not a copy. A copy says so in its index.json.
// A repository that was brought here by other means is a copy if a name in it leads to the
// upstream.
func (o *origin) isLocal() (bool, error) {
	l, err := o.s.openSource(o.repo)
	if l == nil || err != nil {
		return false, err
	}
	defer l.Close()

	x, err := o.s.index(o.repo, l)
	if err != nil || x.about.Annotations.Get(upstreamAnnotation) == o.name {
		return false, err
	}

	// An image that pull has brought has the full name of its origin. Such a repository may go on
	// as a copy.
	for _, e := range x.all() {
		if oci.SplitName(e.Annotations.Get(oci.AnnotationImageName)).Repo == o.name {
			return false, nil
		}
	}

	return true, nil
}

// answer is the handler of what is read of a copy: it fetches what is missing and leaves the rest to
// the handler of the endpoint.
func (o *origin) answer(w *exchange.Recorder, r *http.Request, rt exchange.Route, handle handler) error {
	if o.offline {
		return handle(o.s, w, r, rt)
	}

	var done bool
	var err error
	switch rt.Kind {
	case exchange.Manifest:
		err = o.fetchManifest(w, r, rt)
	case exchange.Referrers:
		err = o.fetchReferrers(w, r, rt)
	case exchange.Blob:
		done, err = o.sendBlob(w, r, rt)
	case exchange.Tags:
		done, err = o.sendTags(w, r, rt)
	}

	if done || err != nil {
		return err
	}

	return handle(o.s, w, r, rt)
}

// refuse answers a request that would change a copy.
func (o *origin) refuse() error {
	return exchange.Fail(http.StatusForbidden, exchange.CodeDenied, "repository %q is a copy of %s: it is changed there", o.repo, o.name)
}

// stale notes in the log that the answer is what is here, since the upstream could not be asked.
func stale(w *exchange.Recorder, err error) { w.Access.Upstream = "stale: " + err.Error() }

// failure turns an error of the upstream into an answer; the log has the error itself. absent is the
// answer if what was asked for is not there.
func (o *origin) failure(err, absent error) error {
	var status *registry.StatusError
	var answer error
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return absent
	case errors.Is(err, context.Canceled), errors.Is(err, syscall.ENOSPC), isExhausted(err): // that is here
		return err
	case errors.Is(err, registry.ErrDenied):
		answer = exchange.Fail(http.StatusForbidden, exchange.CodeDenied, "the upstream %s does not let this registry have it", o.c.Host())
	case errors.As(err, &status) && status.Status == http.StatusTooManyRequests:
		f := exchange.Fail(http.StatusTooManyRequests, exchange.CodeTooManyRequests, "the upstream %s wants fewer requests", o.c.Host())
		f.Retry = max(1, int(status.RetryAfter.Seconds()))
		answer = f
	default:
		answer = exchange.Fail(http.StatusBadGateway, exchange.CodeUnknown, "the upstream %s cannot be asked, or answers wrongly: see the log of the registry", o.c.Host())
	}

	return fmt.Errorf("%w: %w", answer, err)
}
