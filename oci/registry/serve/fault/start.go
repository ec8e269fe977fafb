package fault

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"ocikit/oci/registry/serve/exchange"
)

// mountStatus makes a fault that answers a mount with a status.
func mountStatus(status int, short string) *fault {
	return refuse("mount-"+itoa(status), short, isMount, exchange.Fail(status, exchange.CodeDenied, "the blob cannot be mounted"))
}

func hasDigest(c *call) bool { return isPost(c) && c.r.URL.Query().Has("digest") }

// startOnly makes of a POST with the whole blob one that opens a session.
func (c *call) startOnly(next func() error) error {
	c.w.Body.R = http.NoBody
	c.r.URL.RawQuery, c.r.TransferEncoding, c.r.ContentLength = "", nil, 0
	return next()
}

func startFaults() []*fault {
	return []*fault{
		acts("post-lost", "the answer to the first POST of a repository is lost",
			func(c *call) bool { return isPost(c) && c.first(1, c.rt.Repo) }, loseAnswer),
		acts("post-202", "POST with the whole blob is answered with 202, its bytes are read and forgotten", hasDigest, func(c *call, next func() error) error {
			io.Copy(io.Discard, c.w.Body)
			return c.startOnly(next)
		}),
		acts("post-202-unread", "POST with the whole blob is answered with 202 before its bytes are read", hasDigest, (*call).startOnly),
		acts("mount-202", "no blob is ever mounted: a session is opened in its place", isMount, func(c *call, next func() error) error {
			c.r.URL.RawQuery = ""
			return next()
		}),
		mountStatus(400, "a mount is refused with 400"),
		mountStatus(403, "a mount is refused with 403"),
		mountStatus(404, "a mount is refused with 404"),
		mountStatus(405, "a mount is refused with 405"),
		mountStatus(500, "a mount is answered with 500"),
	}
}

// location makes a fault that changes the Location of answers about sessions.
func location(name, short string, change func(c *call, u *url.URL) string) *fault {
	return edits(name, short, isUpload, func(c *call, status int, h http.Header) int {
		// An answer that ends a session names a blob, not a session.
		u, err := url.Parse(h.Get("Location"))
		if err != nil || u.Path == "" || status == http.StatusCreated {
			return status
		}
		u.Scheme, u.Host = "", "" // it is on this host, whatever it says
		h.Del("Location")
		if loc := change(c, u); loc != "" {
			h.Set("Location", loc)
		}
		return status
	})
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
		location("location-relative", "Location of a session is a path alone", func(c *call, u *url.URL) string {
			return u.String()
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
			return c.rt.Kind != exchange.Upload || strings.Contains(c.r.URL.RawQuery, "&_state=a%2Bb%3D%3D&digest-like=sha256%3A0")
		}),
		location("location-missing", "answers about sessions have no Location", func(*call, *url.URL) string { return "" }),
		location("location-foreign", "Location of a session is on another host (localhost in place of 127.0.0.1)", func(c *call, u *url.URL) string {
			return exchange.Scheme(c.r) + "://" + otherName(c.r.Host) + u.String()
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
			return c.answer(http.StatusNotFound, exchange.CodeUploadUnknown, "the query of the Location did not come back")
		}
		return commit(c, next)
	}
	return f
}

// rangeFault makes a fault that changes the Range of answers about sessions; end is the last
// byte, -1 if there is none.
func rangeFault(name, short string, change func(end int64) string) *fault {
	return marks(name, short, isUpload, func(c *call, h http.Header) {
		if h.Get("Range") != "" && c.w.Access.Offset != nil {
			h.Del("Range")
			if v := change(*c.w.Access.Offset - 1); v != "" {
				h.Set("Range", v)
			}
		}
	})
}

func rangeFaults() []*fault {
	return []*fault{
		rangeFault("range-missing", "answers about sessions have no Range", func(int64) string { return "" }),
		rangeFault("range-bytes", "Range is written bytes=0-n", func(end int64) string { return fmt.Sprintf("bytes=0-%d", max(end, 0)) }),
		rangeFault("range-negative", "Range of an empty session is 0--1", func(end int64) string { return fmt.Sprintf("0-%d", end) }),
		rangeFault("range-frozen", "Range never moves from 0-0", func(int64) string { return "0-0" }),
		rangeFault("range-off-by-one", "Range ends behind the last byte", func(end int64) string { return fmt.Sprintf("0-%d", end+1) }),
		rangeFault("range-garbage", "Range is not a range", func(int64) string { return "potato" }),
		marks("status-ahead", "the status of a session claims 1 TiB too many", isStatus, func(c *call, h http.Header) {
			if c.w.Access.Offset != nil {
				h.Set("Range", fmt.Sprintf("0-%d", *c.w.Access.Offset+1<<40-1))
			}
		}),
	}
}
