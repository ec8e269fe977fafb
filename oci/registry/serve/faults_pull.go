package serve

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci"
)

func itoa(n int) string { return strconv.Itoa(n) }

// setHeader makes a fault that sets a header of an answer, or removes it if value is "".
func setHeader(name, short string, applies func(c *call) bool, key, value string) *fault {
	return &fault{Fault: Fault{name, short}, applies: applies, commit: func(c *call, next func() error) error {
		return c.edit(next, func(status int, h http.Header) int {
			if status < 300 {
				h.Del(key)
				if value != "" {
					h.Set(key, value)
				}
			}
			return status
		})
	}}
}

// wrongDigest is that of no manifest.
const wrongDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func manifestFaults() []*fault {
	tags := func(c *call) bool { return isPutManifest(c) && c.r.URL.Query().Has("tag") }
	return []*fault{
		setHeader("manifest-put-digest", "PUT of a manifest answers with a wrong Docker-Content-Digest", isPutManifest, "Docker-Content-Digest", wrongDigest),
		setHeader("manifest-put-bare", "PUT of a manifest answers without Docker-Content-Digest", isPutManifest, "Docker-Content-Digest", ""),
		setHeader("manifest-get-digest", "GET of a manifest answers with a wrong Docker-Content-Digest", isGetManifest, "Docker-Content-Digest", wrongDigest),
		setHeader("manifest-get-bare", "GET of a manifest answers without Docker-Content-Digest", isGetManifest, "Docker-Content-Digest", ""),
		setHeader("manifest-charset", "GET of a manifest answers with a parameter in Content-Type", isGetManifest, "Content-Type", oci.MediaTypeManifest+"; charset=utf-8"),
		setHeader("manifest-type", "GET of a manifest answers with the Content-Type of an index", isGetManifest, "Content-Type", oci.MediaTypeIndex),
		refuse("manifest-blob-unknown", "the first two PUTs of a manifest are refused with MANIFEST_BLOB_UNKNOWN",
			func(c *call) bool { return isPutManifest(c) && c.first(2, c.rt.repo+" "+c.rt.ref) },
			http.StatusBadRequest, codeManifestBlobUnknown, "blob unknown to registry"),
		refuse("manifest-413", "PUT of a manifest is refused with 413", isPutManifest, http.StatusRequestEntityTooLarge, codeManifestInvalid, "the manifest is too large"),
		refuse("immutable-tags", "PUT of a manifest by a tag that is there already is refused with 400",
			func(c *call) bool { return isPutManifest(c) && c.s.hasTag(c.rt) },
			http.StatusBadRequest, "TAG_INVALID", "the tag exists and is immutable"),
		{Fault: Fault{"tags-some", "PUT of a manifest with several tags sets only the first"}, applies: tags,
			commit: func(c *call, next func() error) error {
				c.note()
				q := c.r.URL.Query()
				q["tag"] = q["tag"][:1]
				c.r.URL.RawQuery = q.Encode()
				return next()
			}},
		{Fault: Fault{"tags-none", "PUT of a manifest ignores tags in the query"}, applies: tags,
			commit: func(c *call, next func() error) error { c.note(); c.r.URL.RawQuery = ""; return next() }},
		{Fault: Fault{"no-referrers", "there is no referrers endpoint, and no OCI-Subject"},
			applies: func(c *call) bool { return c.rt.kind == endReferrers || isPutManifest(c) },
			commit: func(c *call, next func() error) error {
				if c.rt.kind == endReferrers {
					return c.answer(http.StatusNotFound, codeUnsupported, "not found")
				}
				return c.edit(next, func(status int, h http.Header) int { h.Del("OCI-Subject"); return status })
			}},
	}
}

func (s *Server) hasTag(rt route) bool {
	l, err := s.openRepo(rt.repo)
	if err != nil || checkTag(rt.ref) != nil {
		return false
	}
	defer l.Close()
	_, err = s.find(rt.repo, l, rt.ref, digest.Digest{})
	return err == nil
}

func pullFaults() []*fault {
	once := func(c *call) bool { return isGetBlob(c) && c.first(1, c.rt.repo+" "+c.rt.ref) }
	return []*fault{
		{Fault: Fault{"blob-cut", "the first GET of a blob is cut half way"}, applies: once, commit: spoil((*spoiler).cut)},
		{Fault: Fault{"blob-stall", "the first GET of a blob stalls half way for a minute, then it is cut"}, applies: once, commit: spoil((*spoiler).stall)},
		{Fault: Fault{"blob-corrupt", "GET of a blob has one wrong byte"}, applies: isGetBlob, commit: spoil((*spoiler).flip)},
		{Fault: Fault{"blob-slow", "GET of a blob trickles: 64 KiB a second"}, applies: isGetBlob, commit: spoil((*spoiler).slow)},
		{Fault: Fault{"blob-no-range", "GET of a blob ignores Range and answers with 200"}, applies: isGetBlob,
			commit: func(c *call, next func() error) error {
				c.note()
				c.r.Header.Del("Range")
				return next()
			}},
		refuse("blob-open-range", "GET of a blob with an open range is refused with 416",
			func(c *call) bool { return isGetBlob(c) && strings.HasSuffix(c.r.Header.Get("Range"), "-") },
			http.StatusRequestedRangeNotSatisfiable, codeUnsupported, "the range has no end"),
		setHeader("blob-gzip-label", "GET of a blob is labelled Content-Encoding: gzip", isGetBlob, "Content-Encoding", "gzip"),
		{Fault: Fault{"blob-redirect", "GET of a blob is redirected with 307 to another host, which refuses Authorization"}, applies: isGetBlob, commit: redirectAway},
		{Fault: Fault{"blob-redirect-loop", "GET of a blob is redirected to itself"}, applies: isGetBlob,
			commit: func(c *call, _ func() error) error {
				c.note()
				c.w.Header().Set("Location", c.r.URL.RequestURI())
				c.w.WriteHeader(http.StatusTemporaryRedirect)
				return nil
			}},
		setHeader("head-length", "HEAD of a blob answers with a wrong Content-Length", isHeadBlob, "Content-Length", "12345"),
		refuse("head-405", "HEAD of a blob is not supported", isHeadBlob, http.StatusMethodNotAllowed, codeUnsupported, "HEAD is not supported"),
		refuse("head-500", "HEAD of a blob is answered with 500", isHeadBlob, http.StatusInternalServerError, codeUnknown, "internal error"),
	}
}

func redirectAway(c *call, next func() error) error {
	c.note()
	if c.r.URL.Query().Has("signed") {
		if c.r.Header.Get("Authorization") != "" {
			return c.answer(http.StatusBadRequest, codeUnsupported, "only one auth mechanism allowed")
		}
		return next()
	}
	c.w.Header().Set("Location", fmt.Sprintf("%s://%s%s?signed=1", scheme(c.r), otherName(c.r.Host), c.r.URL.EscapedPath()))
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}

// A spoiler stands between a blob and its client. It has no ReadFrom, so it sees all bytes.
type spoiler struct {
	http.ResponseWriter
	c    *call
	n    int64 // bytes that have passed
	half int64
	act  func(*spoiler, []byte) error
}

func spoil(act func(*spoiler, []byte) error) func(c *call, next func() error) error {
	return func(c *call, next func() error) error {
		c.note()
		c.w.ResponseWriter = &spoiler{ResponseWriter: c.w.ResponseWriter, c: c, act: act}
		return next()
	}
}

func (s *spoiler) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *spoiler) WriteHeader(status int) {
	size, _ := strconv.ParseInt(s.Header().Get("Content-Length"), 10, 64)
	s.half = size / 2
	s.ResponseWriter.WriteHeader(status)
}

func (s *spoiler) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		part := p
		if s.n < s.half { // never across the middle
			part = p[:min(int64(len(p)), s.half-s.n)]
		}
		if err := s.act(s, part); err != nil {
			return written, err
		}
		n, err := s.ResponseWriter.Write(part)
		written += n
		s.n += int64(n)
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

func (s *spoiler) cut([]byte) error {
	if s.n < s.half {
		return nil
	}
	s.c.w.abort = true
	return errFault
}

func (s *spoiler) stall(p []byte) error {
	if s.n < s.half {
		return nil
	}
	http.NewResponseController(s.ResponseWriter).Flush()
	s.wait(time.Minute)
	return s.cut(p)
}

func (s *spoiler) flip(p []byte) error {
	if s.n == s.half {
		p[0] ^= 1
	}
	return nil
}

func (s *spoiler) slow(p []byte) error {
	http.NewResponseController(s.ResponseWriter).Flush()
	s.wait(time.Duration(len(p)) * time.Second / (64 << 10))
	return nil
}

// wait waits, unless the client goes away.
func (s *spoiler) wait(d time.Duration) {
	select {
	case <-time.After(d):
		s.c.w.extend()
	case <-s.c.r.Context().Done():
	}
}
