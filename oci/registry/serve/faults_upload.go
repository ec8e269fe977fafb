package serve

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// location makes a fault that changes the Location of answers about sessions.
func location(name, short string, change func(c *call, u *url.URL) string) *fault {
	return &fault{Fault: Fault{name, short}, applies: isUpload, commit: func(c *call, next func() error) error {
		return c.edit(next, func(status int, h http.Header) int {
			u, err := url.Parse(h.Get("Location"))
			if err != nil || u.Path == "" || status == http.StatusCreated {
				return status
			}
			h.Del("Location")
			if loc := change(c, u); loc != "" {
				h.Set("Location", loc)
			}
			return status
		})
	}}
}

// otherName is another name of the same server, as far as there is one: the loopback
// interface has two.
func otherName(host string) string {
	if rest, ok := strings.CutPrefix(host, "127.0.0.1"); ok {
		return "localhost" + rest
	}
	if rest, ok := strings.CutPrefix(host, "localhost"); ok {
		return "127.0.0.1" + rest
	}
	return "other." + host
}

func locationFaults() []*fault {
	return []*fault{
		location("location-absolute", "Location of a session has scheme and host", func(c *call, u *url.URL) string {
			return scheme(c.r) + "://" + c.r.Host + u.String()
		}),
		location("location-no-scheme", "Location of a session begins with //host", func(c *call, u *url.URL) string {
			return "//" + c.r.Host + u.String()
		}),
		location("location-path-relative", "Location of a session is relative to the path of the request", func(c *call, u *url.URL) string {
			here := c.r.URL.Path[:strings.LastIndex(c.r.URL.Path, "/")+1]
			if rest, ok := strings.CutPrefix(u.String(), here); ok {
				return rest
			}
			return u.String()
		}),
		location("location-query", "Location of a session has a query that must come back as it is", func(c *call, u *url.URL) string {
			return u.String() + "&_state=a%2Bb%3D%3D&digest-like=sha256%3A0"
		}).requiring(func(c *call) bool {
			return c.rt.kind != endUpload || strings.Contains(c.r.URL.RawQuery, "&_state=a%2Bb%3D%3D&digest-like=sha256%3A0")
		}),
		location("location-missing", "answers about sessions have no Location", func(*call, *url.URL) string { return "" }),
		location("location-foreign", "Location of a session is on another host (localhost in place of 127.0.0.1)", func(c *call, u *url.URL) string {
			return scheme(c.r) + "://" + otherName(c.r.Host) + u.String()
		}),
		location("location-http", "Location of a session is plain http, as behind a proxy that ends TLS", func(c *call, u *url.URL) string {
			return "http://" + c.r.Host + u.String()
		}),
	}
}

// requiring adds to a fault that requests which do not meet the condition are refused.
func (f *fault) requiring(ok func(c *call) bool) *fault {
	commit := f.commit
	f.commit = func(c *call, next func() error) error {
		if !ok(c) {
			return c.answer(http.StatusNotFound, codeUploadUnknown, "the query of the Location did not come back")
		}
		return commit(c, next)
	}
	return f
}

// patchStatus makes a fault that answers PATCH with another status.
func patchStatus(status int) *fault {
	name := fmt.Sprintf("patch-%d", status)
	return &fault{Fault: Fault{name, fmt.Sprintf("PATCH is answered with %d in place of 202", status)}, applies: isPatch,
		commit: func(c *call, next func() error) error {
			return c.edit(next, func(got int, h http.Header) int {
				if got != http.StatusAccepted {
					return got
				}
				if status == http.StatusNoContent {
					h.Del("Content-Length")
				}
				return status
			})
		}}
}

// rangeFault makes a fault that changes the Range of answers about sessions; end is the last
// byte, -1 if there is none.
func rangeFault(name, short string, change func(end int64) string) *fault {
	return &fault{Fault: Fault{name, short}, applies: isUpload, commit: func(c *call, next func() error) error {
		return c.edit(next, func(status int, h http.Header) int {
			if h.Get("Range") != "" && c.w.access.Offset != nil {
				h.Del("Range")
				if v := change(*c.w.access.Offset - 1); v != "" {
					h.Set("Range", v)
				}
			}
			return status
		})
	}}
}

func uploadFaults() []*fault {
	once := func(c *call) bool { return isPatch(c) && c.hasBody() && c.first(1, c.rt.ref) }
	return []*fault{
		patchStatus(http.StatusOK), patchStatus(http.StatusCreated), patchStatus(http.StatusNoContent),
		rangeFault("range-missing", "answers about sessions have no Range", func(int64) string { return "" }),
		rangeFault("range-bytes", "Range is written bytes=0-n", func(end int64) string { return fmt.Sprintf("bytes=0-%d", max(end, 0)) }),
		rangeFault("range-negative", "Range of an empty session is 0--1", func(end int64) string { return fmt.Sprintf("0-%d", end) }),
		rangeFault("range-frozen", "Range never moves from 0-0", func(int64) string { return "0-0" }),
		rangeFault("range-off-by-one", "Range ends behind the last byte", func(end int64) string { return fmt.Sprintf("0-%d", end+1) }),
		rangeFault("range-garbage", "Range is no range", func(int64) string { return "potato" }),
		{Fault: Fault{"patch-cut", "the first PATCH of a session is cut half way; the bytes are kept"}, applies: once,
			commit: func(c *call, next func() error) error { c.note(); return c.cut(c.half(), next) }},
		{Fault: Fault{"patch-cut-lost", "the first PATCH of a session is cut half way, and the session is gone"}, applies: once, commit: cutAndForget},
		{Fault: Fault{"patch-cut-part", "the first PATCH of a session is cut half way, and only half of that is kept"}, applies: once,
			commit: func(c *call, next func() error) error {
				c.note()
				err := c.cut(c.half(), next)
				c.shorten(func(n int64) int64 { return n / 2 })
				return err
			}},
		{Fault: Fault{"patch-half", "the first PATCH of a session keeps half of its bytes and says so, with 202"}, applies: once, commit: keepHalf},
		{Fault: Fault{"patch-503", "the first PATCH of a session is answered with 503 and no body, but its bytes are kept"}, applies: once,
			commit: func(c *call, next func() error) error {
				return c.edit(next, func(_ int, h http.Header) int {
					h.Del("Location")
					h.Del("Range")
					return http.StatusServiceUnavailable
				})
			}},
		{Fault: Fault{"status-ahead", "the status of a session claims 1,000 bytes too many"}, applies: isStatus,
			commit: func(c *call, next func() error) error {
				return c.edit(next, func(status int, h http.Header) int {
					if c.w.access.Offset != nil {
						h.Set("Range", fmt.Sprintf("0-%d", *c.w.access.Offset+999))
					}
					return status
				})
			}},
		{Fault: Fault{"put-500", "PUT of a session is answered with 500 although the blob was stored"}, applies: isPut,
			commit: func(c *call, next func() error) error {
				return c.edit(next, func(status int, h http.Header) int {
					h.Del("Location")
					return http.StatusInternalServerError
				})
			}},
		{Fault: Fault{"put-lost", "the answer to PUT of a session is lost although the blob was stored"}, applies: isPut, commit: loseAnswer},
		{Fault: Fault{"post-lost", "the answer to the first POST of a repository is lost"},
			applies: func(c *call) bool { return isPost(c) && c.first(1, c.rt.repo) }, commit: loseAnswer},
		{Fault: Fault{"cancel-500", "DELETE of a session is answered with 500"},
			applies: func(c *call) bool { return c.rt.kind == endUpload && c.r.Method == http.MethodDelete },
			commit: func(c *call, _ func() error) error {
				return c.answer(http.StatusInternalServerError, codeUnknown, "no")
			}},
	}
}

func cutAndForget(c *call, next func() error) error {
	c.note()
	err := c.cut(c.half(), next)
	if u := c.session(); u != nil && c.s.take(c.r.Context(), u) == nil {
		c.s.drop(u)
		c.s.release(u)
	}
	return err
}

// loseAnswer does what was asked and breaks the connection in place of the answer.
func loseAnswer(c *call, next func() error) error {
	c.note()
	c.w.ResponseWriter = muted{c.w.ResponseWriter}
	c.w.abort = true
	return next()
}

// muted is a ResponseWriter that says nothing.
type muted struct{ http.ResponseWriter }

func (muted) WriteHeader(int)             {}
func (muted) Write(p []byte) (int, error) { return len(p), nil }
