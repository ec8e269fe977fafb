package registry

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

// do sends r until there is an answer that is worth something: authorized, redirects
// followed, repeated where that is allowed. An answer with a status that is not in ok gives
// a [StatusError]; the response is returned with it.
func (c *Client) do(ctx context.Context, r *request, ok ...int) (*response, error) {
	if err := c.auth.prepare(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	for _, s := range r.scopes {
		if w, ok := c.wide[s.resource]; ok {
			r.scopes = mergeScopes(r.scopes, w)
		}
	}
	c.mu.Unlock()
	for n := 0; ; n++ {
		if err := c.waitPause(ctx); err != nil {
			return nil, err
		}
		done, err := c.load.enter(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := c.authorized(ctx, r)
		done()
		if err == nil {
			c.load.learn(resp.status)
			c.showWarnings(resp)
			if slices.Contains(ok, resp.status) {
				return resp, nil
			}
			if resp.stream != nil {
				resp.stream.Close()
			}
			err = newStatusError(resp, c.red)
		}
		wait, again := c.retry(r, err, n)
		if !again {
			return resp, err
		}
		if err := c.o.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// retry decides whether r is sent once more after err, and after which pause.
func (c *Client) retry(r *request, err error, n int) (time.Duration, bool) {
	var status *StatusError
	wait := backoff(n)
	if errors.As(err, &status) {
		if status.Status == http.StatusNotImplemented || status.RetryAfter > maxPause {
			return 0, false
		}
		if status.RetryAfter > 0 {
			wait = status.RetryAfter
		}
		if status.Status == http.StatusTooManyRequests || status.Status == http.StatusServiceUnavailable {
			c.mu.Lock()
			c.pause = c.o.Now().Add(wait)
			c.mu.Unlock()
		}
	}
	var (
		re   interface{ Retryable() bool }
		auth authError
	)
	if errors.As(err, &auth) || n >= c.o.Retry || r.once || r.body != nil && r.body.size > 0 && !r.repeat || !errors.As(err, &re) || !re.Retryable() {
		return 0, false
	}
	return wait, true
}

// An authError is one of asking for a token, which has been repeated already.
type authError struct{ error }

func (e authError) Unwrap() error { return e.error }

// backoff returns 0.2 s, 0.4 s, 0.8 s and so on up to 10 s, give or take a quarter.
func backoff(n int) time.Duration {
	d := min(200*time.Millisecond<<min(n, 10), 10*time.Second)
	return d*3/4 + time.Duration(rand.Int64N(int64(d)/2))
}

// waitPause waits until the registry's last 429 or 503 is over.
func (c *Client) waitPause(ctx context.Context) error {
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
func (c *Client) authorized(ctx context.Context, r *request) (*response, error) {
	header, err := c.auth.header(ctx, r)
	if err != nil {
		return nil, authError{err}
	}
	resp, err := c.follow(ctx, r, header)
	for n := 0; n < 2 && err == nil && resp.status == http.StatusUnauthorized && !resp.away; n++ {
		next, authErr := c.auth.answer(ctx, r, resp, header, n > 0)
		if authErr != nil {
			return resp, authError{authErr}
		}
		if next == "" || !resp.unsent && !r.repeat {
			break // nothing better to offer; or the caller must find out what became of the body
		}
		header = next
		resp, err = c.follow(ctx, r, header)
	}
	return resp, err
}

// follow sends r and goes where redirects lead. The credentials stay with the registry.
func (c *Client) follow(ctx context.Context, r *request, authorization string) (*response, error) {
	u := r.url
	for hop := 0; ; hop++ {
		header := ""
		if c.isHome(c.adjust(u)) {
			header = authorization
		}
		resp, err := c.attempt(ctx, r, u, header)
		if err != nil {
			return nil, err
		}
		next, err := c.redirect(r, resp, hop)
		if next == nil || err != nil {
			return resp, err
		}
		u = next
	}
}

// redirect returns where resp leads, nil if nowhere.
func (c *Client) redirect(r *request, resp *response, hop int) (*url.URL, error) {
	location := resp.header.Get("Location")
	if r.stay {
		return nil, nil
	}
	switch resp.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	if location == "" {
		return nil, nil
	}
	refuse := func(format string, args ...any) (*url.URL, error) {
		return nil, fmt.Errorf("%s %s: status %d: %w: %s", r.method, c.red.url(resp.url), resp.status, ErrUnsafe, fmt.Sprintf(format, args...))
	}
	next, err := resp.url.Parse(location)
	if err != nil || next.Host == "" || next.Scheme != "http" && next.Scheme != "https" || next.User != nil {
		return refuse("malformed Location")
	}
	upgrade := next.Scheme == "https" && resp.url.Scheme == "http" && next.Hostname() == resp.url.Hostname()
	reads := r.method == http.MethodGet || r.method == http.MethodHead
	switch {
	case hop >= maxRedirects:
		return refuse("over %d redirects", maxRedirects)
	case resp.url.Scheme == "https" && next.Scheme == "http":
		return refuse("from https to %s", c.red.url(next))
	case !reads && resp.status < 307 && !upgrade:
		return refuse("a %s cannot be redirected to %s; use that host", r.method, c.red.url(next))
	case !reads && !resp.unsent && r.body.size > 0:
		if _, err := r.body.open(); err != nil {
			return refuse("to %s after the body was sent", c.red.url(next))
		}
	}
	next.Fragment = ""
	return next, nil
}

// attempt sends r to u once, besides two things that cost nothing: a loopback registry that
// does not speak TLS is asked in plain HTTP, one that does not know Expect without it.
func (c *Client) attempt(ctx context.Context, r *request, u *url.URL, authorization string) (*response, error) {
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
	if resp.status == http.StatusExpectationFailed && resp.unsent && r.expect == 0 {
		c.mu.Lock()
		c.noExpect = true
		c.mu.Unlock()
		return c.roundTrip(ctx, r, c.adjust(u), authorization)
	}
	return resp, nil
}

// fallBack switches a loopback registry, of which nothing was known yet, to plain HTTP.
func (c *Client) fallBack(u *url.URL) bool {
	c.mu.Lock()
	first := c.undecided && u.Host == c.base.Host
	if first {
		c.undecided = false
		base := *c.base
		base.Scheme = "http"
		c.base = &base
	}
	switched := c.base.Scheme == "http" && u.Host == c.base.Host && c.ref.Scheme == ""
	c.mu.Unlock()
	if first {
		c.detail(fmt.Sprintf("%s does not speak HTTPS, using plain HTTP", c.ref.Host))
	}
	return switched
}

func (c *Client) decide() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undecided = false
}

// adjust returns u with the scheme that the registry turned out to speak.
func (c *Client) adjust(u *url.URL) *url.URL {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.Scheme == "https" && c.base.Scheme == "http" && c.ref.Scheme == "" && !c.o.PlainHTTP && u.Host == c.base.Host {
		v := *u
		v.Scheme = "http"
		return &v
	}
	return u
}

// showWarnings passes on the registry's warnings ("Warnings" in the distribution-spec).
func (c *Client) showWarnings(resp *response) {
	if resp.away {
		return
	}
	for i, w := range resp.header.Values("Warning") {
		text, ok := strings.CutPrefix(w, "299 - ")
		if !ok || i >= 20 {
			continue
		}
		if s, err := strconv.Unquote(text); err == nil {
			text = s
		} else {
			text = strings.Trim(text, `"`)
		}
		c.notice(fmt.Sprintf("%s warns: %s", c.ref.Host, quote(text)))
	}
}
