package serve

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/exchange"
)

// fetchManifest sees to it that the layout has the manifest that is asked for, if the upstream has
// it. The upstream is asked each time what a tag means, by HEAD, which registries that limit pulls
// do not count. If it cannot be asked, the manifest that is here will do. If it says that the tag
// is gone, that is the answer.
func (o *origin) fetchManifest(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	tag, d, err := reference(rt.Ref)
	if err != nil {
		return err
	}

	have, err := o.kept(tag, d)
	found := err == nil
	if err != nil && !errors.Is(err, layout.ErrNotFound) {
		return err
	}

	// A digest never comes to mean something else.
	if found && tag == "" {
		return nil
	}

	ctx, cancel := o.patience(r.Context(), found)
	defer cancel()

	// A HEAD tells whether what is here is still what the tag names.
	fetch := true
	if found {
		var now oci.Descriptor
		now, err = o.c.HeadManifest(ctx, o.path, tag)
		fetch = err == nil && now.Digest != have.Digest
		if err == nil && !fetch {
			w.Access.Upstream = "same"
		}
	}

	if fetch {
		var got original
		if got.desc, got.data, err = o.c.GetManifest(ctx, o.path, rt.Ref); err == nil {
			w.Access.Upstream = "fetched"
			return o.keep(r.Context(), tag, got)
		}
	}

	// An upstream that cannot be reached is noted. One that says that the tag is gone is believed.
	switch {
	case err == nil:
	case found && !errors.Is(err, registry.ErrNotFound):
		stale(w, err)
	default:
		return o.failure(err, unknownManifest(rt, nil))
	}

	return nil
}

// patience bounds how long an upstream is asked whether a document that is here has changed. A
// document that is not here yet is waited for.
func (o *origin) patience(ctx context.Context, here bool) (context.Context, context.CancelFunc) {
	if !here {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, o.s.patience)
}

// kept returns the descriptor of a manifest that is here whole, else [layout.ErrNotFound].
func (o *origin) kept(tag string, d digest.Digest) (oci.Descriptor, error) {
	l, err := layout.OpenBelow(o.s.root, o.repo)
	if isAbsent(err) {
		return oci.Descriptor{}, layout.ErrNotFound
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer l.Close()

	desc, err := o.s.find(o.repo, l, tag, d)
	if errors.Is(err, layout.ErrAmbiguous) {
		err = layout.ErrNotFound
	}

	if err == nil {
		_, err = l.Stat(desc.Digest)
	}

	return desc, err
}

// An original is a manifest or an index as the upstream gave it, with its digest checked.
type original struct {
	desc oci.Descriptor
	data []byte
}

// keep stores documents that the upstream gave, and their names: tag, if it is not empty, the
// full name with it, as pull writes it. Documents that no index here holds get an entry without a
// name, so that they are not garbage.
func (o *origin) keep(ctx context.Context, tag string, docs ...original) error {
	l, err := o.open()
	if err != nil {
		return err
	}
	defer l.Close()

	return l.Update(ctx, func(x *oci.Index) error {
		for _, doc := range docs {
			m, err := understand(doc.desc, doc.data)
			if err != nil {
				return o.failure(err, nil)
			}

			// The bytes are there before the entry, which is written when this function has
			// returned.
			if _, _, err := l.Put(bytes.NewReader(doc.data), doc.desc.Digest); err != nil {
				return err
			}
			var tags []string
			if tag != "" {
				m.desc = m.desc.WithAnnotation(oci.AnnotationImageName, o.name+":"+tag)
				tags = []string{tag}
			} else if isHeld(l, x.Manifests, m.desc.Digest) {
				continue
			}
			setNames(x, m, tags)
		}

		return nil
	})
}

// open opens the layout of the copy, which is made if need be.
func (o *origin) open() (*layout.Layout, error) {
	return o.s.makeRepoWith(o.repo, map[string]string{upstreamAnnotation: o.name})
}

// isHeld reports whether an index in the layout names a manifest.
func isHeld(l *layout.Layout, entries []oci.Descriptor, d digest.Digest) bool {
	indexes := slices.DeleteFunc(slices.Clone(entries), func(e oci.Descriptor) bool { return !oci.IsIndex(e.MediaType) })
	return checkUnused(l, indexes, d) != nil
}

// maxFetched bounds how many referrers one request has fetched; the next goes on.
const maxFetched = 1000

// fetchReferrers sees to it that the layout has the manifests which the upstream lists as referrers,
// and which are: so the list can be made here, and without the upstream as well.
func (o *origin) fetchReferrers(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	subject, err := parseDigest(rt.Ref)
	if err != nil {
		return err
	}

	ctx, cancel := o.patience(r.Context(), o.s.hasLayout(o.repo))
	defer cancel()
	list, err := o.c.Referrers(ctx, o.path, subject, "")
	var found []original
	for _, desc := range list.Descriptors {
		if _, keptErr := o.kept("", desc.Digest); keptErr == nil || !oci.IsDocument(desc.MediaType) || !desc.Digest.Verifiable() {
			continue
		}
		var doc original
		if doc.desc, doc.data, err = o.c.GetManifest(ctx, o.path, desc.Digest.String()); err != nil {
			break
		}

		// The list is believed only where the manifest itself names the subject.
		if s := graph.Subject(doc.data); s != nil && s.Digest == subject {
			found = append(found, doc)
		}
		if len(found) == maxFetched {
			break
		}
	}

	// Referrers that came before an error are kept all the same.
	if len(found) > 0 {
		w.Access.Upstream = "fetched"
		if err := o.keep(r.Context(), "", found...); err != nil {
			return err
		}
	}

	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		stale(w, err)
	}

	return nil
}

// sendTags answers with the tags that the upstream has. It reports false if those that are here have
// to do.
func (o *origin) sendTags(w *exchange.Recorder, r *http.Request, rt exchange.Route) (bool, error) {
	ctx, cancel := o.patience(r.Context(), o.s.hasLayout(o.repo))
	defer cancel()
	var tags []string
	for tag, err := range o.c.Tags(ctx, o.path, 0) {
		if err != nil && o.s.hasLayout(o.repo) && !errors.Is(err, registry.ErrNotFound) {
			stale(w, err)
			return false, nil
		}
		if err != nil {
			return true, o.failure(err, unknownRepo(rt.Repo))
		}
		if exchange.CheckTag(tag) == nil {
			tags = append(tags, tag)
		}
	}

	slices.Sort(tags)
	return true, sendTags(w, r, rt.Repo, slices.Compact(tags))
}
