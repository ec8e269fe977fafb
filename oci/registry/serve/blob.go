package serve

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// getBlob is GET and HEAD of a blob (end-2), with ranges.
func (s *Server) getBlob(w *recorder, r *http.Request, rt route) error {
	d, err := parseDigest(rt.ref)
	if err != nil {
		return err
	}
	l, err := s.openRepo(rt.repo)
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := l.OpenBlob(d)
	if errors.Is(err, layout.ErrNotFound) {
		return fail(http.StatusNotFound, codeBlobUnknown, "blob %s is not known in %q", d, rt.repo)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	serveFile(w, r, f, d, oci.MediaTypeOctetStream, true)
	return nil
}

// serveFile sends a file that has a digest, and says whether the URL will always mean this
// one. The client checks the digest: reading the bytes here would only keep the system from
// sending them straight from the file.
func serveFile(w *recorder, r *http.Request, f *os.File, d digest.Digest, mediaType string, always bool) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", `"`+d.String()+`"`)
	h.Set("Cache-Control", "no-cache")
	if always {
		h.Set("Cache-Control", "max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, f)
}

// deleteBlob is DELETE of a blob (end-10). A blob that a manifest names stays.
func (s *Server) deleteBlob(w *recorder, r *http.Request, rt route) error {
	d, err := parseDigest(rt.ref)
	if err != nil {
		return err
	}
	l, err := s.openRepo(rt.repo)
	if err != nil {
		return err
	}
	defer l.Close()
	err = l.Update(r.Context(), func(x *oci.Index) error {
		if _, err := l.Stat(d); err != nil {
			return err
		}
		for _, e := range x.Manifests {
			if e.Digest == d {
				return inUse(d, "it is a manifest")
			}
		}
		if err := checkUnused(l, x.Manifests, d); err != nil {
			return err
		}
		return l.RemoveBlob(d)
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func inUse(d digest.Digest, why string) error {
	return fail(http.StatusMethodNotAllowed, codeDenied, "%s stays: %s", d, why)
}

// checkUnused reports whether a manifest that can be reached from roots names d.
func checkUnused(l *layout.Layout, roots []oci.Descriptor, d digest.Digest) error {
	return eachManifest(l, roots, func(desc oci.Descriptor, data []byte) error {
		refs, err := oci.References(desc, data)
		if err != nil {
			return nil
		}
		for _, ref := range refs {
			if ref.Digest == d {
				return inUse(d, "manifest "+desc.Digest.String()+" names it")
			}
		}
		return nil
	})
}

// eachManifest calls visit for every manifest and index that can be reached from roots, each
// once. Those that are absent or not what they should be are passed over.
func eachManifest(l *layout.Layout, roots []oci.Descriptor, visit func(desc oci.Descriptor, data []byte) error) error {
	seen := map[digest.Digest]bool{}
	todo := slices.Clone(roots)
	for len(todo) > 0 {
		desc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[desc.Digest] || !isManifest(desc.MediaType) {
			continue
		}
		seen[desc.Digest] = true
		data, err := l.Document(desc)
		if err != nil {
			continue
		}
		if err := visit(desc, data); err != nil {
			return err
		}
		if oci.IsIndex(desc.MediaType) {
			if x, err := oci.DecodeIndex(desc, data); err == nil {
				todo = append(todo, x.Manifests...)
			}
		}
	}
	return nil
}

// mount gives a repository the blob d of another one, of any if from is empty (end-11). It
// reports whether the repository has the blob now.
func (s *Server) mount(ctx context.Context, repo, from string, d digest.Digest) bool {
	if from != "" {
		return checkName(from) == nil && s.mountFrom(repo, from, d)
	}
	if s.hasBlob(repo, d) {
		return true
	}
	found := false
	s.walkRepos(ctx, func(from string, entries []fs.DirEntry) error {
		if found = isLayout(entries) && s.mountFrom(repo, from, d); found {
			return errStop
		}
		return nil
	})
	return found
}

func (s *Server) hasBlob(repo string, d digest.Digest) bool {
	l, err := layout.OpenBelow(s.root, repo)
	if err != nil {
		return false
	}
	defer l.Close()
	_, err = l.Stat(d)
	return err == nil
}

// mountFrom links the blob, or copies it where that cannot be done.
func (s *Server) mountFrom(repo, from string, d digest.Digest) bool {
	src, err := layout.OpenBelow(s.root, from)
	if err != nil {
		return false
	}
	defer src.Close()
	f, err := src.OpenBlob(d)
	if err != nil {
		return false
	}
	defer f.Close()
	dst, err := s.makeRepo(repo)
	if err != nil {
		return false
	}
	defer dst.Close()
	if layout.LinkBlob(s.root, from, repo, d) == nil {
		return true
	}
	_, _, err = dst.Put(f, d)
	return err == nil
}
