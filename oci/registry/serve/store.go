package serve

import (
	"bytes"
	"errors"
	"net/http"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// storeManifest stores the bytes, and the names in index.json. Nothing is stored if a blob
// that the manifest names is absent, unless [Options.Sparse] allows that, or of another size.
func (s *Server) storeManifest(r *http.Request, repo string, m manifest, data []byte, tags []string) error {
	l, err := layout.OpenBelow(s.root, repo)
	if isAbsent(err) {
		for _, ref := range m.refs {
			if !s.mayBeAbsent(ref) {
				return missing(ref)
			}
		}
		l, err = s.makeRepo(repo)
	}
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Update(r.Context(), func(x *oci.Index) error {
		for _, ref := range m.refs {
			if err := s.checkRef(l, ref); err != nil {
				return err
			}
		}
		if _, _, err := l.Put(bytes.NewReader(data), m.desc.Digest); err != nil {
			return err
		}
		setNames(x, m, tags)
		return nil
	})
}

func missing(ref oci.Descriptor) error {
	f := fail(http.StatusBadRequest, codeManifestBlobUnknown, "blob %s is not known", ref.Digest)
	f.detail = map[string]string{"digest": ref.Digest.String()}
	return f
}

func (s *Server) mayBeAbsent(ref oci.Descriptor) bool {
	return s.opts.Sparse || oci.IsForeignLayer(ref.MediaType) || ref.Data != nil
}

func (s *Server) checkRef(l *layout.Layout, ref oci.Descriptor) error {
	size, err := l.Stat(ref.Digest)
	switch {
	case errors.Is(err, layout.ErrNotFound) && s.mayBeAbsent(ref):
		return nil
	case errors.Is(err, layout.ErrNotFound):
		return missing(ref)
	case err != nil:
		return err
	case size != ref.Size:
		return fail(http.StatusBadRequest, codeManifestInvalid, "blob %s: got %d bytes, the manifest says %d", ref.Digest, size, ref.Size)
	}
	return nil
}

// setNames gives the manifest its entries in index.json: one for each tag, in place of what
// the tag named before; without tags one that has no name, unless it is listed already.
// Entries without a name that the manifest, or a tag, holds from now on are dropped.
func setNames(x *oci.Index, m manifest, tags []string) {
	for _, tag := range tags {
		entry := m.desc.WithAnnotation(oci.AnnotationRefName, tag)
		i := slices.IndexFunc(x.Manifests, func(e oci.Descriptor) bool { return slices.Contains(names(e), tag) })
		if i < 0 {
			x.Manifests = append(x.Manifests, entry)
			continue
		}
		x.Manifests[i] = entry
		rest := slices.DeleteFunc(x.Manifests[i+1:], func(e oci.Descriptor) bool { return slices.Contains(names(e), tag) })
		x.Manifests = x.Manifests[:i+1+len(rest)]
	}
	held := map[digest.Digest]bool{}
	for _, ref := range m.refs {
		held[ref.Digest] = true
	}
	if len(tags) > 0 {
		held[m.desc.Digest] = true
	}
	x.Manifests = slices.DeleteFunc(x.Manifests, func(e oci.Descriptor) bool { return held[e.Digest] && len(names(e)) == 0 })
	listed := func(e oci.Descriptor) bool { return e.Digest == m.desc.Digest }
	if len(tags) == 0 && !slices.ContainsFunc(x.Manifests, listed) {
		x.Manifests = append(x.Manifests, m.desc)
	}
}

// deleteManifest is DELETE of a tag or a manifest (end-9).
func (s *Server) deleteManifest(w *recorder, r *http.Request, rt route) error {
	tag, d, err := reference(rt.ref)
	if err != nil {
		return err
	}
	l, err := s.openRepo(rt.repo)
	if err != nil {
		return err
	}
	defer l.Close()
	err = l.Update(r.Context(), func(x *oci.Index) error {
		n := len(x.Manifests)
		x.Manifests = slices.DeleteFunc(x.Manifests, func(e oci.Descriptor) bool {
			if tag != "" {
				return slices.Contains(names(e), tag)
			}
			return e.Digest == d
		})
		if tag != "" {
			if len(x.Manifests) == n {
				return unknownManifest(rt, nil)
			}
			return nil
		}
		if desc, err := l.Describe(d); err != nil || !isManifest(desc.MediaType) && len(x.Manifests) == n {
			return unknownManifest(rt, nil)
		}
		return checkUnused(l, x.Manifests, d)
	})
	if err == nil && tag == "" {
		err = l.Update(r.Context(), func(x *oci.Index) error { return removeUnlisted(l, x, d) })
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// removeUnlisted removes the blob of a manifest once index.json is without it, so that no
// crash leaves an entry without a blob. A manifest that was pushed again meanwhile stays.
func removeUnlisted(l *layout.Layout, x *oci.Index, d digest.Digest) error {
	if slices.ContainsFunc(x.Manifests, func(e oci.Descriptor) bool { return e.Digest == d }) || checkUnused(l, x.Manifests, d) != nil {
		return nil
	}
	if err := l.RemoveBlob(d); !errors.Is(err, layout.ErrNotFound) {
		return err
	}
	return nil
}

func isManifest(mediaType string) bool { return oci.IsManifest(mediaType) || oci.IsIndex(mediaType) }
