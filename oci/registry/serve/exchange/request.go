package exchange

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Scheme returns the scheme of the URL by which a client has found the server, as far as it sees: a
// proxy in front may speak TLS.
func Scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// base returns the beginning of an absolute URL by which the client reaches the server, or ""
// if that is not known: a proxy may have another name, and may speak TLS. Those that say
// nothing of themselves speak HTTP/1.0.
func base(r *http.Request) string {
	if r.Host == "" || !r.ProtoAtLeast(1, 1) || strings.ContainsAny(r.Host, "\"\\/ ") {
		return ""
	}
	for _, sign := range []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"} {
		if r.Header.Get(sign) != "" {
			return ""
		}
	}
	return Scheme(r) + "://" + r.Host
}

// OwnName reports whether a request came to one of the server's own names. On a loopback address
// those are addresses, localhost and what is below it, and the names in more, as HOST or HOST:PORT.
// A page in a browser that has led its own name to this machine is told by that. On any other
// address every name will do.
func OwnName(r *http.Request, more []string) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() || r.Host == "" {
		return true
	}

	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}

	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if ip := net.ParseIP(host); ip != nil {
		return true // no name was looked up, so none was led astray
	}

	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}

	return slices.ContainsFunc(more, func(name string) bool { return strings.EqualFold(name, host) || strings.EqualFold(name, r.Host) })
}

// Bearer returns the token that a request has.
func Bearer(r *http.Request) (token string, ok bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// NewID returns 32 hexadecimal digits that nobody can guess.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Query returns the parameters of a request.
func Query(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, Fail(http.StatusBadRequest, CodeUnsupported, "query: %v", err)
	}
	return q, nil
}
