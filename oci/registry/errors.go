package registry

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
)

var (
	// ErrNotFound matches the answer that a repository, manifest, blob or upload is not there.
	ErrNotFound = errors.New("not found")
	// ErrDenied matches 401 and 403, and every failure to find usable credentials.
	ErrDenied = errors.New("not allowed")
	// ErrProtocol means that an answer breaks the distribution-spec in a way that cannot be
	// worked around.
	ErrProtocol = errors.New("answer breaks the protocol")
	// ErrUnsafe means that the registry named an address that this package does not go to.
	ErrUnsafe = errors.New("refused to follow the registry")
	// ErrStalled means that no byte moved for as long as [Options.Timeout].
	ErrStalled = errors.New("no byte moved")
	// ErrCut is the error of a request that [Body.CutAfter] cut on purpose.
	ErrCut = errors.New("cut on purpose")
)

// maxErrorBody bounds what is read of an answer that reports an error.
const maxErrorBody = 64 << 10

// A StatusError is an answer of a registry that is not the one that was asked for. Its
// text is capped, quoted and free of secrets.
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
				fmt.Fprintf(&b, ": %s", quote(info.Message))
			}
			if info.Detail != "" && e.Status != http.StatusUnauthorized {
				fmt.Fprintf(&b, " (%s)", quote(info.Detail))
			}
		}
	case e.Body != "":
		fmt.Fprintf(&b, ": %s", quote(e.Body))
	default:
		fmt.Fprintf(&b, " (%s)", http.StatusText(e.Status))
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " [request %s]", quote(e.RequestID))
	}
	return b.String()
}

// Has reports whether the error list contains one of the codes.
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

// Retryable reports whether the same request may succeed later.
func (e *StatusError) Retryable() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout || e.Status >= 500
}

// Is makes errors.Is find [ErrNotFound] and [ErrDenied].
func (e *StatusError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound || e.Has("NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN")
	case ErrDenied:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	}
	return false
}

// Hint says what a user may try, or "".
func (e *StatusError) Hint() string {
	switch {
	case e.Has("NAME_UNKNOWN") && e.Method != http.MethodGet && e.Method != http.MethodHead:
		return "some registries want a repository to be created before the first push"
	case e.Status == http.StatusMethodNotAllowed && e.Method != http.MethodGet && e.Method != http.MethodHead:
		return "the registry may be read-only"
	case e.TooLarge() && strings.Contains(e.URL, "/manifests/"):
		return "the registry, or a proxy before it, takes no manifest of that size; the distribution-spec expects 4 MiB to work"
	case e.Status == http.StatusRequestEntityTooLarge && e.Server != "":
		return "the limit is set by " + quote(e.Server) + "; a smaller --chunk-size may pass"
	case e.Status == http.StatusRequestEntityTooLarge:
		return "a smaller --chunk-size may pass"
	case e.Status == http.StatusUnauthorized:
		return "`ocikit help credentials` says where credentials come from, `ocikit registry token REF --explain` which were used"
	case e.Status == http.StatusBadRequest && e.Says("http request to an https server"):
		return "the registry speaks HTTPS; leave out --plain-http"
	case e.RetryAfter > maxPause:
		return fmt.Sprintf("the registry asks to wait %s", e.RetryAfter.Round(time.Second))
	}
	return ""
}

// newStatusError decodes an answer whose body, as far as it was read, is body.
func newStatusError(r *response, red *redactor) *StatusError {
	e := &StatusError{
		Method: r.method, URL: red.url(r.url), Status: r.status,
		Server:     truncate(red.text(r.header.Get("Server")), 80),
		RetryAfter: retryAfter(r.header, r.received),
		Unsent:     r.unsent,
	}
	for _, name := range []string{"X-Request-Id", "Docker-Registry-Request-Id", "X-Amzn-Requestid", "X-Ms-Correlation-Request-Id"} {
		if id := r.header.Get(name); id != "" {
			e.RequestID = truncate(red.text(id), 80)
			break
		}
	}
	e.Errors = decodeErrors(r.body, red)
	if len(e.Errors) == 0 {
		e.Body = truncate(strings.TrimSpace(red.text(string(r.body))), 300)
	}
	return e
}

// decodeErrors reads the error list whatever the Content-Type says it is.
func decodeErrors(body []byte, red *redactor) []ErrorInfo {
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
		info := ErrorInfo{Code: truncate(red.text(e.Code), 60), Message: truncate(red.text(e.Message), 300)}
		if d := string(e.Detail); d != "null" && d != `""` && d != "{}" {
			info.Detail = truncate(red.text(d), 200)
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

// Retryable reports whether the same request may succeed later: not if the certificate is
// wrong, and not if the caller gave up.
func (e *ConnError) Retryable() bool {
	return !isCertificateError(e.Err) && !errors.Is(e.Err, ErrUnsafe) && !errors.Is(e.Err, ErrCut) &&
		!errors.Is(e.Err, context.Canceled) && !isBodyError(e.Err)
}

// Hint says what a user may try, or "".
func (e *ConnError) Hint() string {
	var mismatch tls.RecordHeaderError
	switch {
	case isCertificateError(e.Err):
		return "--ca-file names the authority that signed the registry's certificate"
	case errors.Is(e.Err, http.ErrSchemeMismatch) || errors.As(e.Err, &mismatch):
		return "the registry does not speak HTTPS; --plain-http talks to it without"
	}
	return ""
}

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

// bodyError marks an error of reading what should be sent: it is the caller's, not the
// network's.
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
