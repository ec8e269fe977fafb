package serve

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/registry/serve/exchange"
)

// getBlob is GET and HEAD of a blob (end-2), with ranges.
func (s *Server) getBlob(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	d, err := parseDigest(rt.Ref)
	if err != nil {
		return err
	}

	l, err := s.openRepo(rt.Repo)
	if err != nil {
		return err
	}
	defer l.Close()

	content, closer, err := openContent(r, l, d)
	if errors.Is(err, layout.ErrNotFound) {
		return exchange.Fail(http.StatusNotFound, exchange.CodeBlobUnknown, "blob %s is not known in %q", d, rt.Repo)
	}
	if err != nil {
		return err
	}
	defer closer.Close()

	serveContent(w, r, content, oci.Descriptor{MediaType: oci.MediaTypeOctetStream, Digest: d}, true)
	return nil
}

// serveContent sends what has a digest, and says whether the URL will always mean this
// one. The client checks the digest: reading the bytes here would only keep the system from
// sending them straight from the file.
func serveContent(w *exchange.Recorder, r *http.Request, content io.ReadSeeker, desc oci.Descriptor, always bool) {
	h := w.Header()
	h.Set("Content-Type", desc.MediaType)
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("ETag", `"`+desc.Digest.String()+`"`)
	h.Set("Cache-Control", "no-cache")
	if always {
		h.Set("Cache-Control", "max-age=31536000, immutable")
	}
	if size, err := content.Seek(0, io.SeekEnd); err == nil && r.Header.Get("Range") != "" {
		r = r.Clone(r.Context())
		mendRange(r.Header, size)
	}
	http.ServeContent(w, r, "", time.Time{}, content)
}

// mendRange makes the Range of a request what net/http answers as RFC 9110 wants it. By itself it
// sends the last 0 bytes with 206 and a Content-Range that ends before it begins, refuses units that
// it does not know, and knows bytes in lower case alone.
func mendRange(h http.Header, size int64) {
	unit, list, _ := strings.Cut(h.Get("Range"), "=")
	if !strings.EqualFold(unit, "bytes") {
		h.Del("Range")
		return
	}

	parts := slices.DeleteFunc(strings.Split(list, ","), func(part string) bool {
		n, isSuffix := strings.CutPrefix(strings.TrimSpace(part), "-")
		length, err := strconv.ParseInt(n, 10, 64)
		return isSuffix && err == nil && (length == 0 || size == 0)
	})
	if len(parts) == 0 {
		parts = []string{strconv.FormatInt(math.MaxInt64, 10) + "-"} // behind every end
	}
	h.Set("Range", "bytes="+strings.Join(parts, ","))
}

// deleteBlob is DELETE of a blob (end-10). A blob that a manifest names stays.
func (s *Server) deleteBlob(w *exchange.Recorder, r *http.Request, rt exchange.Route) error {
	d, err := parseDigest(rt.Ref)
	if err != nil {
		return err
	}

	l, err := s.openLayout(rt.Repo)
	if err != nil {
		return err
	}
	defer l.Close()

	// Under the lock of index.json, so that no manifest that names the blob can come meanwhile.
	err = l.Update(r.Context(), func(x *oci.Index) error {
		if _, err := l.Stat(d); err != nil {
			return err
		}
		if slices.ContainsFunc(x.Manifests, func(e oci.Descriptor) bool { return e.Digest == d }) {
			return inUse(d, "it is a manifest")
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
	return exchange.Fail(http.StatusMethodNotAllowed, exchange.CodeDenied, "%s stays: %s", d, why)
}

// checkUnused reports whether a manifest that can be reached from roots names d. Those that are
// absent or damaged name nothing.
func checkUnused(l *layout.Layout, roots []oci.Descriptor, d digest.Digest) error {
	return graph.Documents(l, roots, func(n graph.Node) error {
		if slices.ContainsFunc(n.Refs, func(ref oci.Descriptor) bool { return ref.Digest == d }) {
			return inUse(d, "manifest "+n.Desc.Digest.String()+" names it")
		}
		return nil
	})
}

// mount gives a repository the blob d of another one, or of any that the client may pull if from is
// empty (end-11). It reports whether the repository has the blob now.
func (s *Server) mount(r *http.Request, repo, from string, d digest.Digest) bool {
	if from != "" {
		return exchange.CheckName(from) == nil && s.mountFrom(repo, from, d)
	}
	if s.hasBlob(repo, d) {
		return true
	}
	found := false
	s.walkRepos(r.Context(), func(from string, entries []fs.DirEntry) error {
		if found = isLayout(from, entries) && s.gate.MayPull(r, from) && s.mountFrom(repo, from, d); found {
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
