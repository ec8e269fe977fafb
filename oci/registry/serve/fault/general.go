package fault

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

// rateLimit makes a fault that answers the first request for each path with 429.
func rateLimit(name, short, key string, value func(now time.Time) string) *fault {
	return &fault{Fault: Fault{name, short},
		applies: func(c *call) bool { return c.first(1, c.r.Method+" "+c.r.URL.Path) },
		commit: func(c *call, _ func() error) error {
			if key != "" {
				c.w.Header().Set(key, value(c.host.Now()))
			}
			return c.answer(http.StatusTooManyRequests, exchange.CodeTooManyRequests, "too many requests")
		}}
}

// errorBody makes a fault that replaces the body of failures.
func errorBody(name, short, mediaType string, write func(w io.Writer, code, message string)) *fault {
	return &fault{Fault: Fault{name, short}, applies: isAny, commit: func(c *call, next func() error) error {
		return c.hold(next, func(status int) bool { return status >= 400 }, func(w http.ResponseWriter, a *held) {
			c.note()
			var doc struct {
				Errors []struct{ Code, Message string }
			}
			json.Unmarshal(a.body.Bytes(), &doc) // a failure without a code has none
			doc.Errors = append(doc.Errors, struct{ Code, Message string }{})
			w.Header().Del("Content-Length")
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(a.status)
			write(w, doc.Errors[0].Code, doc.Errors[0].Message)
		})
	}}
}

func rateFaults() []*fault {
	second := func(time.Time) string { return "1" }
	return []*fault{
		rateLimit("429", "the first request for each path is answered with 429 and no hint", "", nil),
		rateLimit("429-seconds", "the first request for each path is answered with 429 and Retry-After: 1", "Retry-After", second),
		rateLimit("429-date", "the first request for each path is answered with 429 and a date in Retry-After", "Retry-After",
			func(now time.Time) string { return now.Add(time.Second).UTC().Format(http.TimeFormat) }),
		rateLimit("429-epoch", "the first request for each path is answered with 429 and a Unix time in Retry-After", "Retry-After",
			func(now time.Time) string { return fmt.Sprint(now.Unix() + 1) }),
		rateLimit("429-reset", "the first request for each path is answered with 429 and Ratelimit-Reset: 1", "Ratelimit-Reset", second),
		refuse("503", "the first two requests for each path are answered with 503",
			func(c *call) bool { return c.first(2, c.r.Method+" "+c.r.URL.Path) },
			exchange.Fail(http.StatusServiceUnavailable, exchange.CodeUnknown, "try again later")),
	}
}

func errorFaults() []*fault {
	return []*fault{
		errorBody("errors-html", "failures have a body of HTML", "text/html", func(w io.Writer, code, message string) {
			io.WriteString(w, "<html><body><h1>error</h1></body></html>")
		}),
		errorBody("errors-empty", "failures have no body", "application/json", func(io.Writer, string, string) {}),
		errorBody("errors-text", "failures have their JSON labelled text/plain", "text/plain", func(w io.Writer, code, message string) {
			fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
		}),
		errorBody("errors-huge", "failures have a body of 10 MiB", "application/json", func(w io.Writer, code, message string) {
			fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"`, code)
			for range 160 {
				io.WriteString(w, strings.Repeat("x", 64<<10))
			}
			io.WriteString(w, `"}]}`)
		}),
		errorBody("errors-hostile", "failures have control characters and bad UTF-8 in their message", "application/json", func(w io.Writer, code, message string) {
			fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"\u001b[2J\u001b]0;owned\u0007\nok: pushed %s"}]}`, code, "\xff\xfe")
		}),
		errorBody("errors-torn", "failures have JSON that ends in the middle", "application/json", func(w io.Writer, code, message string) {
			fmt.Fprintf(w, `{"errors":[{"code":%q,"mess`, code)
		}),
		marks("warnings", "every answer has 100 Warning headers, some malformed, one with escapes", isAny, func(_ *call, h http.Header) {
			for i := range 98 {
				h.Add("Warning", fmt.Sprintf(`299 - "warning %d"`, i%3))
			}
			h.Add("Warning", `299 - "a \"quoted\" warning"`)
			h.Add("Warning", `potato`)
		}),
	}
}
