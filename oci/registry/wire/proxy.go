package wire

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// A proxyConfig is what the environment says about proxies, read as net/http does, but from
// the environment that the caller passes.
type proxyConfig struct {
	http, https *url.URL
	direct      []string // entries of NO_PROXY, lower case
}

// newProxyConfig reads HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in capitals or else in lower case.
func newProxyConfig(getenv func(string) string) proxyConfig {
	env := func(name string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return getenv(strings.ToLower(name))
	}

	p := proxyConfig{https: parseProxy(env("HTTPS_PROXY"))}
	if getenv("REQUEST_METHOD") == "" { // in a CGI program HTTP_PROXY is a header of the client
		p.http = parseProxy(env("HTTP_PROXY"))
	}

	for e := range strings.SplitSeq(env("NO_PROXY"), ",") {
		if e = strings.ToLower(strings.TrimSpace(e)); e != "" {
			p.direct = append(p.direct, e)
		}
	}

	return p
}

// parseProxy reads the address of a proxy, which may lack its scheme. One that cannot be read is none.
func parseProxy(s string) *url.URL {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" && u.Scheme != "socks5h" {
		u, err = url.Parse("http://" + s)
	}
	if err != nil || u.Host == "" {
		return nil
	}
	return u
}

// secrets returns the passwords in the addresses of proxies.
func (p proxyConfig) secrets() []string {
	var list []string
	for _, u := range []*url.URL{p.http, p.https} {
		if u != nil && u.User != nil {
			if password, ok := u.User.Password(); ok {
				list = append(list, password)
			}
		}
	}
	return list
}

// forRequest returns the proxy for a request, nil for none. Loopback needs none.
func (p proxyConfig) forRequest(req *http.Request) (*url.URL, error) {
	proxy := p.https
	if req.URL.Scheme == "http" {
		proxy = p.http
	}
	if proxy == nil || IsLoopbackName(req.URL.Hostname()) || p.isDirect(req.URL) {
		return nil, nil
	}
	return proxy, nil
}

// isDirect reports whether NO_PROXY excepts u: by "*", by a host or a domain with all below it, each
// with a port if need be, or by an address or a range of addresses.
func (p proxyConfig) isDirect(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	ip, ipErr := netip.ParseAddr(host)
	for _, e := range p.direct {
		name, port, hasPort := strings.Cut(e, ":")
		if prefix, err := netip.ParsePrefix(e); err == nil {
			if ipErr == nil && prefix.Contains(ip.Unmap()) {
				return true
			}
			continue
		}
		if hasPort && strings.Count(e, ":") == 1 && !strings.HasSuffix(Origin(u), ":"+port) {
			continue
		}
		name = strings.TrimPrefix(name, "*")
		switch {
		case e == "*", host == name, e == host:
			return true
		case strings.HasPrefix(name, "."):
			if strings.HasSuffix(host, name) {
				return true
			}
		case name != "" && strings.HasSuffix(host, "."+name):
			return true
		}
	}

	return false
}
