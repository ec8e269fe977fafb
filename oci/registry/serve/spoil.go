package serve

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry/serve/exchange"
)

// A faultHost is the Server as faults see it, see [fault.Host] and [fault.Store].
type faultHost struct{ s *Server }

func (h faultHost) Now() time.Time { return h.s.opts.Now() }

func (h faultHost) Answer(err error) *exchange.Failure { return answerTo(err) }

func (h faultHost) Challenge(r *http.Request, rt exchange.Route) string {
	return cmp.Or(h.s.gate.Challenge(r, rt), `Basic realm="ocikit fault"`)
}

func (h faultHost) Size(rt exchange.Route) (int64, bool) {
	u, err := h.s.findUpload(rt)
	if err != nil {
		return 0, false
	}
	return u.size.Load(), true
}

func (h faultHost) Drop(ctx context.Context, rt exchange.Route) {
	if u, err := h.s.findUpload(rt); err == nil && h.s.take(ctx, u) == nil {
		h.s.drop(u)
		h.s.release(u)
	}
}

func (h faultHost) Shorten(ctx context.Context, rt exchange.Route, size func(int64) int64) {
	u, err := h.s.findUpload(rt)
	if err != nil || h.s.take(ctx, u) != nil {
		return
	}
	defer h.s.release(u)

	f, err := h.s.open(u)
	if err != nil {
		return
	}
	defer f.Close()

	n := size(u.h.Size())
	if f.Truncate(n) == nil {
		u.h = nil // found again from the file
		u.size.Store(n)
		h.s.root.Remove(u.path() + stateSuffix)
	}
}

func (h faultHost) HasTag(rt exchange.Route) bool {
	l, err := h.s.openRepo(rt.Repo)
	if err != nil || exchange.CheckTag(rt.Ref) != nil {
		return false
	}
	defer l.Close()
	_, err = h.s.find(rt.Repo, l, rt.Ref, digest.Digest{})
	return err == nil
}

func (h faultHost) LoseLayer(r *http.Request, rt exchange.Route, data []byte) error {
	m, err := parseManifest(r, data, digest.Digest{})
	if err != nil {
		return err
	}

	// An index may name nothing.
	if len(m.refs) == 0 {
		return nil
	}

	l, err := h.s.openLayout(rt.Repo)
	if err != nil {
		return err
	}
	defer l.Close()

	return l.Update(r.Context(), func(x *oci.Index) error {
		lost := m.refs[len(m.refs)-1].Digest
		if err := checkUnused(l, x.Manifests, lost); err != nil {
			return err
		}
		return l.RemoveBlob(lost)
	})
}

func (h faultHost) FirstChild(rt exchange.Route) (ref string, ok bool) {
	tag, d, err := reference(rt.Ref)
	if err != nil {
		return "", false
	}

	l, err := h.s.openRepo(rt.Repo)
	if err != nil {
		return "", false
	}
	defer l.Close()

	desc, err := h.s.find(rt.Repo, l, tag, d)
	if err != nil || !oci.IsIndex(desc.MediaType) {
		return "", false
	}

	x, err := graph.Index(l, desc)
	if err != nil || len(x.Manifests) == 0 {
		return "", false
	}

	return x.Manifests[0].Digest.String(), true
}

func (h faultHost) KeepTag(ctx context.Context, rt exchange.Route) (restore func() error, err error) {
	l, err := h.s.makeRepo(rt.Repo)
	if err != nil {
		return nil, err
	}
	defer l.Close()

	before, err := l.Index()
	if err != nil {
		return nil, err
	}

	hasTag := func(e oci.Descriptor) bool { return slices.Contains(names(e), rt.Ref) }

	// The entries of the tag alone go back, since others may have changed meanwhile.
	return func() error {
		l, err := h.s.openLayout(rt.Repo)
		if err != nil {
			return err
		}
		defer l.Close()
		return l.Update(ctx, func(x *oci.Index) error {
			x.Manifests = slices.DeleteFunc(x.Manifests, hasTag)
			if i := slices.IndexFunc(before.Manifests, hasTag); i >= 0 {
				x.Manifests = append(x.Manifests, before.Manifests[i])
			}
			return nil
		})
	}, nil
}
