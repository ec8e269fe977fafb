package fault

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

func headFaults() []*fault {
	return []*fault{
		setHeader("head-length", "HEAD of a blob answers with a wrong Content-Length", isHeadBlob, "Content-Length", "12345"),
		refuse("head-403", "HEAD of a blob is refused with 403", isHeadBlob, exchange.Fail(http.StatusForbidden, exchange.CodeDenied, "not allowed")),
		refuse("head-405", "HEAD of a blob is not supported", isHeadBlob, exchange.Fail(http.StatusMethodNotAllowed, exchange.CodeUnsupported, "HEAD is not supported")),
		refuse("head-500", "HEAD of a blob is answered with 500", isHeadBlob, exchange.Fail(http.StatusInternalServerError, exchange.CodeUnknown, "internal error")),
	}
}

func blobFaults() []*fault {
	once := func(c *call) bool { return isGetBlob(c) && c.first(1, c.rt.Repo+" "+c.rt.Ref) }
	part := func(c *call) bool { return isGetBlob(c) && c.r.Header.Get("Range") != "" }
	return []*fault{
		{Fault: Fault{"blob-cut", "the first GET of a blob is cut half way"}, applies: once, commit: spoil((*spoiler).cut)},
		{Fault: Fault{"blob-stall", "the first GET of a blob stalls half way for a minute, then it is cut"}, applies: once, commit: spoil((*spoiler).stall)},
		{Fault: Fault{"blob-corrupt", "GET of a blob has one wrong byte"}, applies: isGetBlob, commit: spoil((*spoiler).flip)},
		{Fault: Fault{"blob-slow", "GET of a blob trickles: 64 KiB a second"}, applies: isGetBlob, commit: spoil((*spoiler).slow)},
		acts("blob-no-range", "GET of a blob ignores Range and answers with 200", isGetBlob, func(c *call, next func() error) error {
			c.r.Header.Del("Range")
			return next()
		}),
		setHeader("blob-wrong-range", "GET of a part of a blob says that it is another part", part, "Content-Range", "bytes 1-2/3"),
		{Fault: Fault{"blob-longer", "GET of a blob has one byte too many"}, applies: isGetBlob, commit: growBlob},
		{Fault: Fault{"blob-shorter", "GET of a blob has one byte too few, and a length to match"}, applies: isGetBlob, commit: shrinkBlob},
		refuse("blob-open-range", "GET of a blob with an open range is refused with 416",
			func(c *call) bool { return isGetBlob(c) && strings.HasSuffix(c.r.Header.Get("Range"), "-") },
			exchange.Fail(http.StatusRequestedRangeNotSatisfiable, exchange.CodeUnsupported, "the range has no end")),
		setHeader("blob-gzip-label", "GET of a blob is labelled Content-Encoding: gzip", isGetBlob, "Content-Encoding", "gzip"),
	}
}

// growBlob sends one byte behind a blob.
func growBlob(c *call, next func() error) error {
	// The length of a part stands in Content-Range as well: only whole blobs grow.
	if c.r.Header.Get("Range") != "" {
		return next()
	}
	err := c.edit(next, func(status int, h http.Header) int {
		if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && status == http.StatusOK {
			h.Set("Content-Length", strconv.FormatInt(n+1, 10))
		}
		return status
	})
	if err == nil {
		_, err = c.w.Write([]byte{'x'})
	}
	return err
}

// shrinkBlob sends a blob without its first byte as if it were all.
func shrinkBlob(c *call, next func() error) error {
	c.r.Header.Set("Range", "bytes=1-")
	return c.edit(next, func(status int, h http.Header) int {
		h.Del("Content-Range")
		if status == http.StatusPartialContent {
			status = http.StatusOK
		}
		return status
	})
}

// goTo redirects a request.
func (c *call) goTo(location string) error {
	c.note()
	return c.redirect(http.StatusTemporaryRedirect, location)
}

func (c *call) redirect(status int, location string) error {
	c.w.Header().Set("Location", location)
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(status)
	return nil
}

func redirectFaults() []*fault {
	redirect := func(name, short string, commit func(c *call, next func() error) error) *fault {
		return &fault{Fault: Fault{name, short}, applies: isGetBlob, commit: commit}
	}

	return []*fault{
		redirect("blob-redirect", "GET of a blob is redirected with 307 to another host, which refuses Authorization", redirectAway),
		redirect("blob-redirect-expired", "GET of a blob is redirected to a URL good for one request, whose first answer is cut", redirectExpired),
		redirect("blob-redirect-many", "GET of a blob is redirected eleven times", func(c *call, next func() error) error {
			hops, _ := strconv.Atoi(c.r.URL.Query().Get("hop"))
			if hops == 11 {
				return next()
			}
			return c.goTo(fmt.Sprintf("%s?hop=%d", c.r.URL.EscapedPath(), hops+1))
		}),
		redirect("blob-redirect-loop", "GET of a blob is redirected to itself", func(c *call, _ func() error) error {
			return c.goTo(c.r.URL.RequestURI())
		}),
		redirect("blob-redirect-http", "GET of a blob is redirected to plain http, also if the registry is not", func(c *call, next func() error) error {
			if c.r.URL.Query().Has("plain") {
				return next()
			}
			return c.goTo("http://" + c.r.Host + c.r.URL.EscapedPath() + "?plain=1")
		}),
	}
}

func redirectAway(c *call, next func() error) error {
	if c.r.URL.Query().Has("signed") {
		if c.r.Header.Get("Authorization") != "" {
			return c.answer(http.StatusBadRequest, exchange.CodeUnsupported, "only one auth mechanism allowed")
		}
		return next()
	}
	return c.goTo(fmt.Sprintf("%s://%s%s?signed=1", exchange.Scheme(c.r), otherName(c.r.Host), c.r.URL.EscapedPath()))
}

// redirectExpired is what storage in a cloud does when a pull takes too long.
func redirectExpired(c *call, next func() error) error {
	signed := c.r.URL.Query().Get("signed")
	switch {
	case signed == "":
		return c.goTo(c.r.URL.EscapedPath() + "?signed=" + exchange.NewID())
	case !c.first(1, signed):
		return c.answer(http.StatusForbidden, exchange.CodeDenied, "request has expired")
	case c.first(1, c.rt.Ref):
		return spoil((*spoiler).cut)(c, next)
	}
	return next()
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
	// A connection that breaks without a byte would be made again by the client's library.
	http.NewResponseController(s.ResponseWriter).Flush()
	s.c.w.Abort = true
	return errCut
}

func (s *spoiler) stall(p []byte) error {
	if s.n < s.half {
		return nil
	}
	http.NewResponseController(s.ResponseWriter).Flush()
	s.c.wait(time.Minute)
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
	s.c.wait(time.Duration(len(p)) * time.Second / (64 << 10))
	return nil
}
