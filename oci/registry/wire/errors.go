package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocikit/oci"
)

var (
	// ErrNotFound matches the answer that a repository, manifest, blob or upload is not there.
	ErrNotFound = oci.ErrNotFound
	// ErrDenied matches 401 and 403, and every failure to find usable credentials.
	ErrDenied = errors.New("not allowed")
	// ErrProtocol means that an answer breaks the distribution-spec in a way that cannot be
	// worked around.
	ErrProtocol = errors.New("answer breaks the protocol")
	// ErrUnsafe means that the registry named an address that this package does not go to.
	ErrUnsafe = errors.New("refused to follow the registry")
	// ErrStalled means that no byte moved for as long as [Options.Timeout].
	ErrStalled = errors.New("no byte moved")
	// ErrDrips means that a blob came slower than a KiB a second for a minute.
	ErrDrips = errors.New("under a KiB a second for a minute")
	// ErrCut is the error of a request that [Call.CutAfter], or that of an upload, cut on purpose.
	ErrCut = errors.New("cut on purpose")
)

// maxErrorBody bounds what is read of an answer that reports an error.
const maxErrorBody = 64 << 10

// A StatusError is an answer whose status is not one of those asked for. Its fields are capped and
// free of secrets, but the registry's own words: they may hold any character. The text of Error is
// quoted and fit for a terminal.
type StatusError struct {
	Method     string
	URL        string // redacted
	Status     int
	Errors     []ErrorInfo   // the decoded list, empty if the body holds none
	Body       string        // the beginning of the body if it holds no list
	RequestID  string        // what the registry calls the request in its logs
	Server     string        // the header Server, which names a proxy
	RetryAfter time.Duration // what the registry asks for; 0 if nothing
	Unsent     bool          // the answer came before any byte of the request's body was sent

	limited bool // its headers are those of a rate limit
}

// An ErrorInfo is one entry of the error list of the distribution-spec ("Error Codes").
type ErrorInfo struct {
	Code    string `json:"code"`
	Message string `json:"message,omitempty"`
	Detail  string `json:"detail,omitempty"` // JSON, capped
}

// Error names the request, the status and what the registry says about it.
func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: status %d", e.Method, e.URL, e.Status)
	switch {
	case len(e.Errors) > 0:
		for i, info := range e.Errors {
			if i == 3 {
				fmt.Fprintf(&b, "; and %d more", len(e.Errors)-i)
				break
			}
			fmt.Fprintf(&b, ": %s", quoteCode(info.Code))
			if info.Message != "" {
				fmt.Fprintf(&b, ": %s", Quote(info.Message))
			}
			// The detail of a 401 repeats what was asked for, and no cause.
			if info.Detail != "" && e.Status != http.StatusUnauthorized {
				fmt.Fprintf(&b, " (%s)", Quote(info.Detail))
			}
		}
	case e.Body != "":
		fmt.Fprintf(&b, ": %s", Quote(e.Body))
	case http.StatusText(e.Status) != "":
		fmt.Fprintf(&b, " (%s)", http.StatusText(e.Status))
	}

	if e.RequestID != "" {
		fmt.Fprintf(&b, " [request %s]", Quote(e.RequestID))
	}

	return b.String()
}

// Has reports whether the error list contains one of the codes of the distribution-spec ("Error
// Codes").
func (e *StatusError) Has(codes ...string) bool {
	return slices.ContainsFunc(e.Errors, func(i ErrorInfo) bool { return slices.Contains(codes, i.Code) })
}

// Says reports whether the registry's text contains one of the phrases, given in lower case.
func (e *StatusError) Says(phrases ...string) bool {
	text := strings.ToLower(e.Body)
	for _, i := range e.Errors {
		text += " " + strings.ToLower(i.Message+" "+i.Detail)
	}
	return slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(text, p) })
}

// TooLarge reports whether the body of the request was larger than the registry takes; some
// say so with 400.
func (e *StatusError) TooLarge() bool {
	return e.Status == http.StatusRequestEntityTooLarge || e.Status == http.StatusBadRequest && e.Says("request body too large")
}

// RateLimited reports whether the answer says that there were too many requests: with its
// status, with the code of the distribution-spec under another one, or under 403 or 400 with the
// headers of a rate limit or in words alone.
func (e *StatusError) RateLimited() bool {
	switch {
	case e.Status == http.StatusTooManyRequests, e.Has("TOOMANYREQUESTS"):
		return true
	case e.Status == http.StatusForbidden, e.Status == http.StatusBadRequest:
		return e.limited || e.Says("rate limit", "rate exceeded", "too many requests", "abuse detection", "throttl")
	}
	return false
}

// limitedBy reports whether headers say that a request would be served later: nobody names a time
// to try again after which the answer is the same. When a limit ends is no such sign, since some
// registries say it with every answer.
func limitedBy(h http.Header) bool {
	return h.Get("Retry-After") != "" || h.Get("X-Ratelimit-Remaining") == "0" || h.Get("Ratelimit-Remaining") == "0"
}

// WantsTLS reports whether the answer says that plain HTTP was sent to a port that speaks HTTPS.
func (e *StatusError) WantsTLS() bool {
	return e.Status == http.StatusBadRequest && e.Says("http request to an https server", "http request was sent to https port")
}

// Retryable reports whether the same request may succeed later without a change on this side: after
// a rate limit, a timeout, an error of the server, or if it came too early for a new connection
// (RFC 8470).
func (e *StatusError) Retryable() bool {
	return e.RateLimited() || e.Has("UNAVAILABLE") || e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooEarly || e.Status >= 500
}

// Is implements the matching of [errors.Is] for [ErrNotFound] and [ErrDenied]. A 403 that is a rate
// limit in disguise is not a denial.
func (e *StatusError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound || e.Has("NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN")
	case ErrDenied:
		return (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) && !e.Retryable()
	}
	return false
}

// NewStatusError makes a StatusError of an answer, as far as its body was read, with the secrets that
// red knows taken out. It does not look at the status.
func NewStatusError(r *Response, red *Redactor) *StatusError {
	e := &StatusError{
		Method: r.Method, URL: red.URL(r.URL), Status: r.Status,
		Server:     Truncate(red.Text(r.Header.Get("Server")), 80),
		RetryAfter: retryAfter(r.Header, r.Received),
		Unsent:     r.unsent,
		limited:    limitedBy(r.Header),
	}

	for _, name := range []string{"X-Request-Id", "Docker-Registry-Request-Id", "X-Amzn-Requestid", "X-Ms-Correlation-Request-Id"} {
		if id := r.Header.Get(name); id != "" {
			e.RequestID = Truncate(red.Text(id), 80)
			break
		}
	}

	e.Errors = decodeErrors(r.Body, red)
	if len(e.Errors) == 0 {
		e.Body = Truncate(strings.TrimSpace(red.Text(string(r.Body))), 300)
	}

	return e
}

// decodeErrors reads the error list whatever the Content-Type says it is.
func decodeErrors(body []byte, red *Redactor) []ErrorInfo {
	var doc struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return nil
	}

	var list []ErrorInfo
	for _, e := range doc.Errors[:min(len(doc.Errors), 20)] {
		info := ErrorInfo{Code: Truncate(red.Text(e.Code), 60), Message: Truncate(red.Text(e.Message), 300)}
		if d := string(e.Detail); d != "null" && d != `""` && d != "{}" {
			info.Detail = Truncate(red.Text(d), 200)
		}
		list = append(list, info)
	}

	return list
}

// A ConnError is a request that got no answer: the registry could not be reached, or the
// connection broke.
type ConnError struct {
	Method string
	URL    string // redacted
	Stage  string // "look up name", "connect", "proxy", "TLS", "send", "receive"
	Sent   int64  // bytes of the request's body that were handed to the network
	Err    error
}

// Error names the request and the stage that failed.
func (e *ConnError) Error() string {
	return fmt.Sprintf("%s %s: %s: %v", e.Method, e.URL, e.Stage, e.Err)
}

// Unwrap returns the cause.
func (e *ConnError) Unwrap() error { return e.Err }

// Retryable reports whether the same request may succeed later. It may not if the certificate is
// wrong, there is no such host, the address was refused as unsafe, the body could not be read, or
// the caller gave up.
func (e *ConnError) Retryable() bool {
	return !isCertificateError(e.Err) && !e.NoSuchHost() && !errors.Is(e.Err, ErrUnsafe) && !errors.Is(e.Err, ErrCut) &&
		!errors.Is(e.Err, context.Canceled) && !isBodyError(e.Err)
}

// NoSuchHost reports whether the name service has answered that there is no host of that name. It is
// false if the name service gave no answer.
func (e *ConnError) NoSuchHost() bool {
	var dns *net.DNSError
	return errors.As(e.Err, &dns) && dns.IsNotFound && !dns.IsTemporary && !dns.IsTimeout
}

// BadCertificate reports whether the certificate of the other side was not accepted.
func (e *ConnError) BadCertificate() bool { return isCertificateError(e.Err) }

// NotTLS reports whether the other side does not speak TLS.
func (e *ConnError) NotTLS() bool {
	var mismatch tls.RecordHeaderError
	return errors.Is(e.Err, http.ErrSchemeMismatch) || errors.As(e.Err, &mismatch)
}

// isCertificateError reports whether err is about a certificate, or is an alert of TLS, by which a
// server refuses ours.
func isCertificateError(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		alert     tls.AlertError
	)
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &name) || errors.As(err, &invalid) || errors.As(err, &alert)
}

// bodyError marks an error of reading the body that was to be sent. It is the caller's fault and not
// the network's, so nothing is repeated.
type bodyError struct{ error }

func (e bodyError) Unwrap() error { return e.error }

func isBodyError(err error) bool {
	var b bodyError
	return errors.As(err, &b)
}

// stage says in which step of a request err happened.
func stage(err error, sent int64) string {
	var (
		dns *net.DNSError
		op  *net.OpError
		rec tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &dns):
		return "look up name"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "proxy"
	case errors.As(err, &op) && op.Op == "dial":
		return "connect"
	case isCertificateError(err), errors.As(err, &rec), errors.Is(err, http.ErrSchemeMismatch):
		return "TLS"
	case sent > 0:
		return "send body, after " + strconv.FormatInt(sent, 10) + " bytes"
	}

	return "receive"
}
