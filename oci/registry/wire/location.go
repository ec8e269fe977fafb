package wire

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ParseLocation reads the absolute address of an open upload. One without a host gives [ErrProtocol].
func ParseLocation(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: the session has no usable Location", ErrProtocol)
	}
	return u, nil
}

// AddQuery adds a parameter, already escaped, behind the query of a Location. The query itself stays
// as it is, byte for byte: it may hold a signature over its own spelling.
func AddQuery(u *url.URL, parameter string) {
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += parameter
}

// ParseRange reads the header Range of an upload and returns the number of bytes that it stands for.
// It takes the spellings that registries use: "0-99", "bytes=0-99", "bytes 0-99", and "0--1" for no
// bytes. "0-0" is ambiguous: registries write it for one byte and for none.
func ParseRange(s string) (n int64, ambiguous, ok bool) {
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

// ResolveLocation returns the Location of an upload as an absolute URL. It mends what proxies
// typically get wrong about the registry's own address, with a notice. A Location that is missing
// or malformed gives [ErrProtocol], one that leads from https to http elsewhere [ErrUnsafe], and so
// does any other host with [Options.StrictLocation].
func (c *Conn) ResolveLocation(resp *Response) (string, error) {
	text := resp.Header.Get("Location")
	fail := func(cause error, why string) (string, error) {
		return "", fmt.Errorf("%s %s: status %d: %w: %s", resp.Method, c.Red.URL(resp.URL), resp.Status, cause, why)
	}

	if text == "" {
		return fail(ErrProtocol, "no Location")
	}

	u, err := resp.URL.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return fail(ErrProtocol, "malformed Location")
	}

	u.Fragment, u.RawFragment = "", ""
	home := c.Endpoint("")
	switch {
	case Origin(u) == Origin(home):
	case u.Hostname() == home.Hostname() && u.Scheme == "http" && home.Scheme == "https" && (u.Port() == "" || u.Port() == "80" || u.Port() == home.Port()):
		// A proxy that ends TLS did not tell the registry about it.
		c.Notice(fmt.Sprintf("%s names an http Location, using https: the proxy before it should send X-Forwarded-Proto: https", c.o.Host))
		u.Scheme, u.Host = home.Scheme, home.Host
	case u.Hostname() == home.Hostname() && u.Scheme == home.Scheme && u.Port() == "" && home.Port() != "":
		// A proxy that passes the name of the host alone: $host of nginx, where $http_host is meant.
		c.Notice(fmt.Sprintf("%s names a Location without its port, using %s: the proxy before it should send the port in Host, too", c.o.Host, home.Port()))
		u.Host = home.Host
	case c.o.StrictLocation:
		return fail(ErrUnsafe, "Location is on "+Quote(u.Host))
	case home.Scheme == "https" && u.Scheme == "http":
		return fail(ErrUnsafe, "Location is not https: "+Quote(u.Host))
	default:
		c.Notice(fmt.Sprintf("%s sends uploads to %s, which gets no credentials", c.o.Host, Quote(u.Host)))
	}

	return u.String(), nil
}

// ParseContentRange reads "bytes a-b/size" and returns a and the size of the whole, -1 if that is
// unknown. The unit may be missing, as in the answers of one registry.
func ParseContentRange(s string) (start, size int64, ok bool) {
	s = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s), "bytes"))
	span, total, _ := strings.Cut(s, "/")
	first, last, dash := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if err != nil || err2 != nil || !dash || start < 0 || end < start {
		return 0, 0, false
	}
	if size, err = strconv.ParseInt(total, 10, 64); err != nil || size <= end {
		size = -1
	}
	return start, size, true
}
