package registry

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

func (up *Upload) url() (*url.URL, error) {
	u, err := url.Parse(up.Location)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: the session has no usable Location", ErrProtocol)
	}
	return u, nil
}

// addQuery adds a parameter to the query of a Location, which stays as it is, byte for byte.
func addQuery(u *url.URL, parameter string) {
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += parameter
}

// update brings up to the state after an answer to a request that sent n bytes.
func (c *Client) update(up *Upload, resp *response, n int64) error {
	location, err := c.resolveLocation(resp)
	if err != nil {
		return err
	}
	up.Location = location
	up.Offset += n
	c.learnRange(up, resp)
	for _, h := range []struct {
		name  string
		value *int64
	}{{"OCI-Chunk-Min-Length", &up.ChunkMin}, {"OCI-Chunk-Max-Length", &up.ChunkMax}} {
		text := resp.header.Get(h.name)
		if text == "" {
			continue
		}
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v < 0 || v > maxChunkHint && h.value == &up.ChunkMin {
			return fmt.Errorf("%s %s: %w: %s is %s", resp.method, c.red.url(resp.url), ErrProtocol, h.name, quote(text))
		}
		*h.value = min(v, maxChunkHint)
	}
	return nil
}

// learnRange takes over what an answer, also one that refuses, says about the bytes that the
// registry has.
func (c *Client) learnRange(up *Upload, resp *response) {
	if resp == nil {
		return
	}
	n, ambiguous, ok := parseRange(resp.header.Get("Range"))
	if !ok {
		n = -1
	}
	up.Server, up.Ambiguous = n, ambiguous
	if resp.status == http.StatusRequestedRangeNotSatisfiable && resp.header.Get("Location") != "" {
		if location, err := c.resolveLocation(resp); err == nil {
			up.Location = location
		}
	}
}

// parseRange reads the Range of an upload and returns the number of bytes it stands for. It
// knows the spellings that registries use: "0-99", "bytes=0-99", "bytes 0-99", "0--1" for
// nothing, and "0-0", which is one byte or nothing.
func parseRange(s string) (n int64, ambiguous, ok bool) {
	s = strings.TrimSpace(s)
	if rest, found := strings.CutPrefix(s, "bytes"); found {
		s = strings.TrimLeft(rest, "= ")
	}
	first, last, found := strings.Cut(s, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if !found || err != nil || err2 != nil || start != 0 || end < -1 || end == 1<<63-1 || strings.HasPrefix(last, "+") || strings.HasPrefix(first, "+") {
		return 0, false, false
	}
	return end + 1, end == 0, true
}

// resolveLocation returns the absolute form of an upload's Location, after the rules for
// where it may lead.
func (c *Client) resolveLocation(resp *response) (string, error) {
	text := resp.header.Get("Location")
	fail := func(cause error, why string) (string, error) {
		return "", fmt.Errorf("%s %s: status %d: %w: %s", resp.method, c.red.url(resp.url), resp.status, cause, why)
	}
	if text == "" {
		return fail(ErrProtocol, "no Location")
	}
	u, err := resp.url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return fail(ErrProtocol, "malformed Location")
	}
	u.Fragment, u.RawFragment = "", ""
	home := c.url("")
	switch {
	case origin(u) == origin(home):
	case u.Hostname() == home.Hostname() && u.Scheme == "http" && home.Scheme == "https" && (u.Port() == "" || u.Port() == "80" || u.Port() == home.Port()):
		// A proxy that ends TLS did not tell the registry about it.
		c.notice(fmt.Sprintf("%s names an http Location, using https", c.ref.Host))
		u.Scheme, u.Host = home.Scheme, home.Host
	case c.o.StrictLocation:
		return fail(ErrUnsafe, "Location is on "+quote(u.Host))
	case home.Scheme == "https" && u.Scheme == "http":
		return fail(ErrUnsafe, "Location is not https: "+quote(u.Host))
	default:
		c.notice(fmt.Sprintf("%s sends uploads to %s, which gets no credentials", c.ref.Host, quote(u.Host)))
	}
	return u.String(), nil
}

// checkLocation judges a success that has to say where something is.
func checkLocation(resp *response) {
	if resp.status < 300 && resp.header.Get("Location") == "" {
		resp.note("violation", "no Location")
	}
}

// checkRange judges the Range of an answer against the end of what was sent.
func checkRange(resp *response, want int64) {
	raw := resp.header.Get("Range")
	got, _, ok := parseRange(raw)
	switch {
	case raw == "":
		resp.note("note", "no Range")
	case !ok:
		resp.note("violation", "Range %s cannot be read", quote(raw))
	case got != want:
		resp.note("violation", "Range %s, want 0-%d", quote(raw), want-1)
	default:
		resp.note("ok", "Range is right")
	}
}
