package fault

import (
	"net/http"

	"ocikit/oci/registry/serve/exchange"
)

// Sizes that chunk faults speak of.
const (
	faultMaxChunk = 1 << 20
	faultMaxRange = 4 << 20
)

// postHeader makes a fault that adds a header to the answer of POST.
func postHeader(name, short, key, value string) *fault {
	return marks(name, short, isPost, func(_ *call, h http.Header) { h.Set(key, value) })
}

func chunkFaults() []*fault {
	return []*fault{
		postHeader("chunk-min", "POST asks for chunks of at least 5 MiB", "OCI-Chunk-Min-Length", "5242880"),
		postHeader("chunk-min-absurd", "POST asks for chunks of at least 1 TiB", "OCI-Chunk-Min-Length", "1099511627776"),
		{Fault: Fault{"chunk-max", "POST announces chunks of at most 1 MiB, larger ones are refused with 413"},
			applies: func(c *call) bool { return isPost(c) || isPatch(c) || isPut(c) },
			commit: func(c *call, next func() error) error {
				if c.r.ContentLength > faultMaxChunk {
					return c.answer(http.StatusRequestEntityTooLarge, exchange.CodeSizeInvalid, "the chunk is too large")
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
			exchange.Fail(http.StatusRequestedRangeNotSatisfiable, exchange.CodeUploadInvalid, "request body is too large: the limit is 4.00MiB")),
		{Fault: Fault{"chunk-lost", "the second chunk of a session is taken and then forgotten, so the third is out of order"}, stored: true,
			applies: isPatch,
			commit: func(c *call, next func() error) error {
				before, open := c.store.Size(*c.rt)
				if !open || c.first(1, c.rt.Ref) || !c.first(2, c.rt.Ref+" again") {
					return next()
				}
				c.note()
				err := next()
				c.store.Shorten(c.r.Context(), *c.rt, func(int64) int64 { return before })
				return err
			}},
		refuse("chunk-needs-range", "a second PATCH without Content-Range is refused with 400",
			func(c *call) bool {
				return isPatch(c) && !c.first(1, c.rt.Ref) && c.r.Header.Get("Content-Range") == ""
			},
			exchange.Fail(http.StatusBadRequest, exchange.CodeUploadInvalid, "stream uploads after first write are not allowed")),
		refuse("no-chunked", "bodies with Transfer-Encoding: chunked are refused with 411",
			func(c *call) bool { return len(c.r.TransferEncoding) > 0 },
			exchange.Fail(http.StatusLengthRequired, exchange.CodeSizeInvalid, "a Content-Length is required")),
		acts("put-413", "PUT of over 1 MiB is refused with 413 and a page of HTML, as by a proxy",
			func(c *call) bool { return isPut(c) && c.r.ContentLength > faultMaxChunk },
			func(c *call, _ func() error) error {
				return sendHTML(c.w, http.StatusRequestEntityTooLarge, "413 Request Entity Too Large")
			}),
	}
}
