package serve

import (
	"io"
	"net/http"
)

// keepHalf takes half of a body and reads the rest for nothing.
func keepHalf(c *call, next func() error) error {
	c.note()
	all := c.w.body.r
	c.w.body.r = io.LimitReader(all, c.half())
	c.r.Header.Del("Content-Range") // it says more than will come
	err := next()
	io.Copy(io.Discard, all)
	return err
}

// Sizes that chunk faults speak of.
const (
	faultMinChunk = 5 << 20
	faultMaxChunk = 1 << 20
	faultMaxRange = 4 << 20
)

// header makes a fault that adds a header to the answer of POST.
func postHeader(name, short, key, value string) *fault {
	return &fault{Fault: Fault{name, short}, applies: isPost, commit: func(c *call, next func() error) error {
		return c.edit(next, func(status int, h http.Header) int {
			h.Set(key, value)
			return status
		})
	}}
}

// refuse makes a fault that answers some requests with a failure.
func refuse(name, short string, applies func(c *call) bool, status int, code, message string) *fault {
	return &fault{Fault: Fault{name, short}, applies: applies, commit: func(c *call, _ func() error) error {
		return c.answer(status, code, message)
	}}
}

func chunkFaults() []*fault {
	return []*fault{
		postHeader("chunk-min", "POST asks for chunks of at least 5 MiB", "OCI-Chunk-Min-Length", "5242880"),
		postHeader("chunk-min-absurd", "POST asks for chunks of at least 1 TiB", "OCI-Chunk-Min-Length", "1099511627776"),
		{Fault: Fault{"chunk-max", "POST announces chunks of at most 1 MiB, larger ones are refused with 413"},
			applies: func(c *call) bool { return isPost(c) || isPatch(c) || isPut(c) },
			commit: func(c *call, next func() error) error {
				if c.r.ContentLength > faultMaxChunk {
					return c.answer(http.StatusRequestEntityTooLarge, codeSizeInvalid, "the chunk is too large")
				}
				return c.edit(next, func(status int, h http.Header) int {
					h.Set("OCI-Chunk-Max-Length", "1048576")
					return status
				})
			}},
		refuse("chunk-416", "a chunk with Content-Range of over 4 MiB is refused with 416",
			func(c *call) bool {
				return (isPatch(c) || isPut(c)) && c.r.Header.Get("Content-Range") != "" && c.r.ContentLength > faultMaxRange
			},
			http.StatusRequestedRangeNotSatisfiable, codeUploadInvalid, "request body is too large: the limit is 4.00MiB"),
		{Fault: Fault{"chunk-lost", "the second chunk of a session is taken and then forgotten, so the third is out of order"},
			applies: isPatch,
			commit: func(c *call, next func() error) error {
				u := c.session()
				if u == nil || c.first(1, c.rt.ref) || !c.first(2, c.rt.ref+" again") {
					return next()
				}
				before := u.size.Load()
				c.note()
				err := next()
				c.shorten(func(int64) int64 { return before })
				return err
			}},
		refuse("chunk-needs-range", "a second PATCH without Content-Range is refused with 400",
			func(c *call) bool {
				return isPatch(c) && !c.first(1, c.rt.ref) && c.r.Header.Get("Content-Range") == ""
			},
			http.StatusBadRequest, codeUploadInvalid, "stream uploads after first write are not allowed"),
		refuse("no-patch", "PATCH is not supported: 405", isPatch, http.StatusMethodNotAllowed, codeUnsupported, "PATCH is not supported"),
		refuse("no-chunked", "bodies with Transfer-Encoding: chunked are refused with 411",
			func(c *call) bool { return len(c.r.TransferEncoding) > 0 },
			http.StatusLengthRequired, codeSizeInvalid, "a Content-Length is required"),
		{Fault: Fault{"put-413", "PUT of over 1 MiB is refused with 413 and a page of HTML, as by a proxy"},
			applies: func(c *call) bool { return isPut(c) && c.r.ContentLength > faultMaxChunk },
			commit: func(c *call, _ func() error) error {
				c.note()
				return sendHTML(c.w, http.StatusRequestEntityTooLarge, "413 Request Entity Too Large")
			}},
	}
}

func sendHTML(w *recorder, status int, title string) error {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, err := io.WriteString(w, "<html><head><title>"+title+"</title></head><body><h1>"+title+"</h1><hr>proxy</body></html>\n")
	return err
}

// mountStatus makes a fault that answers a mount with a status.
func mountStatus(status int, short string) *fault {
	return refuse("mount-"+itoa(status), short, isMount, status, codeDenied, "the blob cannot be mounted")
}

func startFaults() []*fault {
	return []*fault{
		{Fault: Fault{"mount-202", "no blob is ever mounted: a session is opened in its place"}, applies: isMount,
			commit: func(c *call, next func() error) error {
				c.note()
				c.r.URL.RawQuery = ""
				return next()
			}},
		mountStatus(400, "a mount is refused with 400"),
		mountStatus(403, "a mount is refused with 403"),
		mountStatus(404, "a mount is refused with 404"),
		mountStatus(405, "a mount is refused with 405"),
		mountStatus(500, "a mount is answered with 500"),
		{Fault: Fault{"post-202", "POST with the whole blob is answered with 202, its bytes are read and forgotten"},
			applies: func(c *call) bool { return isPost(c) && c.r.URL.Query().Has("digest") },
			commit: func(c *call, next func() error) error {
				c.note()
				io.Copy(io.Discard, c.w.body)
				c.w.body.r = http.NoBody
				c.r.URL.RawQuery, c.r.TransferEncoding = "", nil
				return next()
			}},
		{Fault: Fault{"post-401", "POST without credentials is refused with 401; any are taken"},
			applies: func(c *call) bool { return isPost(c) && c.r.Header.Get("Authorization") == "" }, commit: challenge},
		{Fault: Fault{"patch-401", "the first PATCH of a session is refused with 401 before its body is read"},
			applies: func(c *call) bool { return isPatch(c) && c.first(1, c.rt.ref) }, commit: challenge},
		{Fault: Fault{"put-401", "the first PUT of a session is refused with 401, as if a token had expired"},
			applies: func(c *call) bool { return isPut(c) && c.first(1, c.rt.ref) }, commit: challenge},
		{Fault: Fault{"put-307", "PUT of a session is redirected with 307 to another path of the registry"},
			applies: isPut, commit: redirectOnce(http.StatusTemporaryRedirect)},
		{Fault: Fault{"put-303", "PUT of a session is redirected with 303"},
			applies: isPut, commit: redirectOnce(http.StatusSeeOther)},
	}
}

func challenge(c *call, _ func() error) error {
	c.w.Header().Set("WWW-Authenticate", `Basic realm="ocikit fault"`)
	return c.answer(http.StatusUnauthorized, codeUnauthorized, "authentication required")
}

// redirectOnce sends a request to its own URL with one more parameter.
func redirectOnce(status int) func(c *call, next func() error) error {
	return func(c *call, next func() error) error {
		if c.r.URL.Query().Has("redirected") {
			return next()
		}
		c.note()
		c.w.Header().Set("Location", c.r.URL.RequestURI()+"&redirected=1")
		c.w.Header().Set("Content-Length", "0")
		c.w.WriteHeader(status)
		return nil
	}
}
