package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const maxRedirects = 5

// Do sends r until there is a final answer: authorized, with redirects followed, and repeated after
// a pause where that can do no harm. A status that is not in ok gives a [StatusError], with the
// Response beside it; no answer gives a [ConnError]. The caller closes the Stream of a Response that
// has one.
func (c *Conn) Do(ctx context.Context, r *Request, ok ...int) (*Response, error) {
	c.mu.Lock()
	for _, s := range r.Scopes {
		if w, ok := c.wide[s.Resource]; ok {
			r.Scopes = MergeScopes(r.Scopes, w)
		}
	}
	c.mu.Unlock()

	// A pause that the registry asks for holds for every request of the Conn, so each one waits
	// first.
	for n := 0; ; n++ {
		if err := c.waitPause(ctx); err != nil {
			return nil, err
		}

		done, err := c.overload.enter(ctx)
		if err != nil {
			return nil, err
		}

		resp, err := c.authorized(ctx, r)
		done()
		if err == nil {
			c.overload.learn(resp.Status)
			c.showWarnings(resp)
			if slices.Contains(ok, resp.Status) {
				return resp, nil
			}
			if resp.Stream != nil {
				resp.Stream.Close()
			}
			err = NewStatusError(resp, c.Red)
		}

		wait, again := c.Retry(r, err, n)
		if !again {
			return resp, c.explained(r, err)
		}

		if err := c.o.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// explained adds to a refusal what the authorizer knows about its cause, such as a credential helper
// that failed.
func (c *Conn) explained(r *Request, err error) error {
	if status, ok := err.(*StatusError); ok && errors.Is(err, ErrDenied) {
		return c.auth.Explain(r, status)
	}
	return err
}

// Retry reports whether r may be sent again after err, its n-th failure counted from 0, and after
// which pause. A body is sent again only if r says that this does no harm. A 429 or 503 makes every
// other request of the Conn pause as well.
func (c *Conn) Retry(r *Request, err error, n int) (time.Duration, bool) {
	var status *StatusError
	wait := Backoff(n)
	if errors.As(err, &status) {
		if status.Status == http.StatusNotImplemented || status.RetryAfter > maxPause {
			return 0, false
		}
		switch {
		case status.RetryAfter > 0:
			wait = status.RetryAfter
		case status.RateLimited() && status.Status != http.StatusTooManyRequests:
			// Such a limit lasts minutes, and how many is said in prose at best.
			wait = max(wait, limitPause<<min(n, 3))
		}
		if status.RateLimited() || status.Status == http.StatusServiceUnavailable {
			c.mu.Lock()
			if until := c.o.Now().Add(wait); until.After(c.pause) {
				c.pause = until
			}
			c.mu.Unlock()
		}
	}

	// Only an error that says of itself that it may pass is worth another try. Asking for a
	// token has had its own.
	var (
		re   interface{ Retryable() bool }
		auth authError
	)
	if errors.As(err, &auth) || n >= c.o.Retry || r.Once || r.Body != nil && r.Body.Size > 0 && !r.Repeat || !errors.As(err, &re) || !re.Retryable() {
		return 0, false
	}

	return wait, true
}

// limitPause is the first pause after a rate limit that does not say how long it lasts.
const limitPause = 2 * time.Second

// An authError is a failure to get an Authorization header. Requests for a token are repeated below,
// so this is not repeated again.
type authError struct{ error }

func (e authError) Unwrap() error { return e.error }

// Backoff returns 0.2 s, 0.4 s, 0.8 s and so on up to 10 s, give or take a quarter.
func Backoff(n int) time.Duration {
	d := min(200*time.Millisecond<<min(n, 10), 10*time.Second)
	return d*3/4 + time.Duration(rand.Int64N(int64(d)/2))
}

// waitPause waits until the registry's last 429 or 503 is over.
func (c *Conn) waitPause(ctx context.Context) error {
	c.mu.Lock()
	wait := c.pause.Sub(c.o.Now())
	c.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	return c.o.Sleep(ctx, wait)
}

// retryAfter reads what an answer asks to wait: seconds, a date, a Unix time as one
// registry sends it, or Ratelimit-Reset.
func retryAfter(h http.Header, now time.Time) time.Duration {
	for _, name := range []string{"Retry-After", "Ratelimit-Reset"} {
		v := strings.TrimSpace(h.Get(name))
		if v == "" {
			continue
		}
		var d time.Duration
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			// No pause has over 30 years in seconds, so this is a Unix time.
			if n > 1e9 {
				d = time.Unix(min(n, 1e11), 0).Sub(now)
			} else {
				d = time.Duration(n) * time.Second
			}
		} else if t, err := http.ParseTime(v); err == nil {
			d = t.Sub(now)
		}
		return max(d, 0)
	}

	return 0
}

// authorized sends r with the credentials it needs: those known before, or those that a 401
// asks for.
func (c *Conn) authorized(ctx context.Context, r *Request) (*Response, error) {
	header, err := c.auth.Header(ctx, r)
	if err != nil {
		return nil, authError{err}
	}

	resp, err := c.Follow(ctx, r, header)

	// A 401 is answered twice at most: the token that another request has fetched meanwhile may
	// have been used up as well, so the second time it is one of our own. Storage behind a
	// redirect gets no answer; its 401 is about its own signature.
	for n := 0; n < 2 && err == nil && resp.Status == http.StatusUnauthorized && !resp.Away; n++ {
		next, authErr := c.auth.Answer(ctx, r, resp, header, n > 0)
		if authErr != nil {
			return resp, authError{authErr}
		}
		if next == "" || !resp.unsent && !r.Repeat {
			break // nothing better to offer; or the caller must find out what became of the body
		}
		header = next
		resp, err = c.Follow(ctx, r, header)
	}

	return resp, err
}

// Follow sends r and goes where redirects lead, by the rules of [Conn.Redirect]. authorization goes
// to the registry's own origin and nowhere else. An answer of any other status is returned as it is.
func (c *Conn) Follow(ctx context.Context, r *Request, authorization string) (*Response, error) {
	u := r.URL
	for hop := 0; ; hop++ {
		header := ""
		if c.IsHome(c.adjust(u)) {
			header = authorization
		}
		resp, err := c.Attempt(ctx, r, u, header)
		if err != nil {
			return nil, err
		}
		next, err := c.Redirect(r, resp, hop)
		if next == nil || err != nil {
			return resp, err
		}
		u = next
	}
}

// Redirect returns the address that resp leads to after hop redirects, nil if it is not a redirect. It
// refuses with [ErrUnsafe] what is unsafe or cannot be repeated: a way from https to http, a write
// that would become a GET, a body that was sent and cannot be read again, too many hops.
func (c *Conn) Redirect(r *Request, resp *Response, hop int) (*url.URL, error) {
	location := resp.Header.Get("Location")
	if r.stay {
		return nil, nil
	}

	switch resp.Status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}

	if location == "" {
		return nil, nil
	}

	refuse := func(format string, args ...any) (*url.URL, error) {
		return nil, fmt.Errorf("%s %s: status %d: %w: %s", r.Method, c.Red.URL(resp.URL), resp.Status, ErrUnsafe, fmt.Sprintf(format, args...))
	}

	next, err := resp.URL.Parse(location)
	if err != nil || next.Host == "" || next.Scheme != "http" && next.Scheme != "https" || next.User != nil {
		return refuse("malformed Location")
	}

	// A 301 or 302 turns a write into a GET in most clients (RFC 9110, section 15.4), which
	// would look like a success. It is safe to keep the method where only the scheme changes to
	// https.
	upgrade := next.Scheme == "https" && resp.URL.Scheme == "http" && next.Hostname() == resp.URL.Hostname()
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case hop >= maxRedirects:
		return refuse("over %d redirects", maxRedirects)
	case resp.URL.Scheme == "https" && next.Scheme == "http":
		return refuse("from https to %s", c.Red.URL(next))
	case !reads && resp.Status < 307 && !upgrade:
		return refuse("a %s cannot be redirected to %s; use that host", r.Method, c.Red.URL(next))
	case !reads && !resp.unsent && r.Body.Size > 0:
		if _, err := r.Body.open(); err != nil {
			return refuse("to %s after the body was sent", c.Red.URL(next))
		}
	}

	next.Fragment = ""
	return next, nil
}

// Attempt sends r to u once. It sends it a second time in two cases in which the first had no effect:
// a loopback registry that does not speak TLS is asked in plain HTTP, and one that answers 417
// before it took any of the body is asked without Expect.
func (c *Conn) Attempt(ctx context.Context, r *Request, u *url.URL, authorization string) (*Response, error) {
	u = c.adjust(u)
	resp, err := c.roundTrip(ctx, r, u, authorization)
	var plain *notTLSError
	if errors.As(err, &plain) {
		if err = plain.ConnError; c.fallBack(u) {
			resp, err = c.roundTrip(ctx, r, c.adjust(u), authorization)
		}
	}
	if err != nil {
		return nil, err
	}

	c.decide()
	if resp.Status == http.StatusExpectationFailed && resp.unsent && !r.Expect {
		c.mu.Lock()
		c.noExpect = true
		c.mu.Unlock()
		return c.roundTrip(ctx, r, c.adjust(u), authorization)
	}

	return resp, nil
}

// fallBack switches a loopback registry to plain HTTP if HTTPS was assumed and has never worked. It
// reports whether u is to be asked in plain HTTP, which is also so if a parallel request was first.
func (c *Conn) fallBack(u *url.URL) bool {
	c.mu.Lock()
	first := c.undecided && u.Host == c.base.Host
	if first {
		c.undecided = false
		base := *c.base
		base.Scheme = "http"
		c.base = &base
	}
	switched := c.base.Scheme == "http" && u.Host == c.base.Host && !c.o.Fixed
	c.mu.Unlock()
	if first {
		c.detail(fmt.Sprintf("%s does not speak HTTPS, using plain HTTP", c.o.Host))
	}
	return switched
}

// decide ends the guess about the scheme: there was an answer, so it was right.
func (c *Conn) decide() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undecided = false
}

// adjust returns u with the scheme that the registry turned out to speak.
func (c *Conn) adjust(u *url.URL) *url.URL {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.Scheme == "https" && c.base.Scheme == "http" && !c.o.Fixed && !c.o.PlainHTTP && u.Host == c.base.Host {
		v := *u
		v.Scheme = "http"
		return &v
	}
	return u
}

// showWarnings passes on the registry's warnings ("Warnings" in the distribution-spec).
func (c *Conn) showWarnings(resp *Response) {
	if resp.Away {
		return
	}

	for i, w := range resp.Header.Values("Warning") {
		text, ok := strings.CutPrefix(w, "299 - ")
		if !ok || i >= 20 {
			continue
		}
		if s, err := strconv.Unquote(text); err == nil {
			text = s
		} else {
			text = strings.Trim(text, `"`)
		}
		c.Notice(fmt.Sprintf("%s warns: %s", c.o.Host, Quote(text)))
	}
}
