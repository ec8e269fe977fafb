package fault

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

// patchStatus makes a fault that answers PATCH with another status.
func patchStatus(status int) *fault {
	short := fmt.Sprintf("PATCH is answered with %d in place of 202", status)
	return edits("patch-"+itoa(status), short, isPatch, func(_ *call, got int, h http.Header) int {
		if got != http.StatusAccepted {
			return got
		}
		if status == http.StatusNoContent {
			h.Del("Content-Length")
		}
		return status
	})
}

// firstPatch is the first PATCH of a session that is worth spoiling.
func firstPatch(c *call) bool { return isPatch(c) && c.hasBody() && c.first(1, c.rt.Ref) }

// patchFailure makes a fault that keeps what came and says that it failed.
func patchFailure(status int) *fault {
	short := fmt.Sprintf("the first PATCH of a session is answered with %d and no body, but its bytes are kept", status)
	return edits("patch-"+itoa(status), short, firstPatch, func(_ *call, _ int, h http.Header) int {
		h.Del("Location")
		h.Del("Range")
		return status
	})
}

// patchLost makes a fault that cuts the first PATCH and forgets the session, whose requests are
// refused from then on.
func patchLost(name, short string, status int, code string) *fault {
	lost := func(c *call) bool { return c.rt.Kind == exchange.Upload && c.known(c.rt.Ref+" lost") }
	return &fault{Fault: Fault{name, short}, stored: true, applies: func(c *call) bool { return lost(c) || firstPatch(c) },
		commit: func(c *call, next func() error) error {
			if lost(c) {
				return c.answer(status, code, "the upload is not known")
			}
			c.note()

			// From here on the session counts as lost, whatever becomes of the request.
			c.first(1, c.rt.Ref+" lost")
			err := c.cut(c.half(), next)
			c.store.Drop(c.r.Context(), *c.rt)
			return err
		}}
}

func patchFaults() []*fault {
	return []*fault{
		patchStatus(http.StatusOK), patchStatus(http.StatusCreated), patchStatus(http.StatusNoContent),
		patchFailure(http.StatusInternalServerError), patchFailure(http.StatusBadGateway), patchFailure(http.StatusServiceUnavailable),
		acts("patch-cut", "the first PATCH of a session is cut half way; the bytes are kept", firstPatch,
			func(c *call, next func() error) error { return c.cut(c.half(), next) }),
		acts("patch-cut-part", "the first PATCH of a session is cut half way, and only half of that is kept", firstPatch, func(c *call, next func() error) error {
			err := c.cut(c.half(), next)
			c.store.Shorten(c.r.Context(), *c.rt, func(n int64) int64 { return n / 2 })
			return err
		}).onStore(),
		patchLost("patch-cut-lost", "the first PATCH of a session is cut half way, and the session is gone: 404", http.StatusNotFound, exchange.CodeUploadUnknown),
		patchLost("patch-cut-lost-400", "the first PATCH of a session is cut half way, and the session is gone: 400", http.StatusBadRequest, exchange.CodeUploadUnknown),
		patchLost("patch-cut-lost-invalid", "the first PATCH of a session is cut half way; then it is gone, with BLOB_UPLOAD_INVALID", http.StatusNotFound, exchange.CodeUploadInvalid),
		acts("patch-stall", "the first PATCH of a session is read half way, and then not for a minute", firstPatch, func(c *call, next func() error) error {
			rest := &lateReader{c.w.Body.R, func() { c.wait(time.Minute) }}
			c.w.Body.R = io.MultiReader(io.LimitReader(c.w.Body.R, c.half()), rest)
			return next()
		}),
		acts("patch-half", "the first PATCH of a session keeps half of its bytes and says so, with 202", firstPatch, keepHalf),
		refuse("no-patch", "PATCH is not supported: 405", isPatch, exchange.Fail(http.StatusMethodNotAllowed, exchange.CodeUnsupported, "PATCH is not supported")),
	}
}

// keepHalf takes half of a body and reads the rest for nothing.
func keepHalf(c *call, next func() error) error {
	all, half := c.w.Body.R, c.half()
	c.w.Body.R = io.LimitReader(all, half)
	c.r.ContentLength = min(c.r.ContentLength, half)
	c.r.Header.Del("Content-Range") // it says more than will come
	err := next()
	io.Copy(io.Discard, all)
	return err
}

// redirectOnce makes a fault that sends PUT of a session to its own URL with one more
// parameter.
func redirectOnce(status int) *fault {
	first := func(c *call) bool { return isPut(c) && !c.r.URL.Query().Has("redirected") }
	short := fmt.Sprintf("PUT of a session is redirected with %d to another path of the registry", status)
	return acts("put-"+itoa(status), short, first, func(c *call, _ func() error) error {
		return c.redirect(status, c.r.URL.RequestURI()+"&redirected=1")
	})
}

// cancelStatus makes a fault that refuses to cancel a session.
func cancelStatus(status int) *fault {
	return refuse("cancel-"+itoa(status), fmt.Sprintf("DELETE of a session is answered with %d", status), isCancel, exchange.Fail(status, exchange.CodeUnknown, "no"))
}

// endFaults are about PUT and DELETE of a session.
func endFaults() []*fault {
	return []*fault{
		edits("put-500", "PUT of a session is answered with 500 although the blob was stored", isPut, func(_ *call, _ int, h http.Header) int {
			h.Del("Location")
			return http.StatusInternalServerError
		}),
		acts("put-lost", "the answer to PUT of a session is lost although the blob was stored", isPut, loseAnswer),
		redirectOnce(301), redirectOnce(302), redirectOnce(303), redirectOnce(307), redirectOnce(308),
		cancelStatus(400), cancelStatus(401), cancelStatus(404), cancelStatus(500),
		acts("cancel-stall", "DELETE of a session is not answered for a minute", isCancel, stall),
	}
}

// stall does not answer for a minute.
func stall(c *call, next func() error) error {
	c.wait(time.Minute)
	return next()
}

// loseAnswer does what was asked and breaks the connection in place of the answer.
func loseAnswer(c *call, next func() error) error {
	c.w.ResponseWriter = muted{c.w.ResponseWriter}
	c.w.Abort = true
	return next()
}

// muted is a ResponseWriter that says nothing.
type muted struct{ http.ResponseWriter }

func (muted) WriteHeader(int)             {}
func (muted) Write(p []byte) (int, error) { return len(p), nil }
