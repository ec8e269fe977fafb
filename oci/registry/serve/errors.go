package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"syscall"

	"ocikit/digest"
	"ocikit/oci/layout"
)

// Error codes of the distribution-spec ("Error Codes"), and the one that registries use for
// errors of their own.
const (
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeUploadInvalid       = "BLOB_UPLOAD_INVALID"
	codeUploadUnknown       = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeUnauthorized        = "UNAUTHORIZED"
	codeDenied              = "DENIED"
	codeUnsupported         = "UNSUPPORTED"
	codeTooManyRequests     = "TOOMANYREQUESTS"
	codeUnknown             = "UNKNOWN"
)

// A failure is an error with an answer. Handlers return it, the server sends it.
type failure struct {
	status  int
	code    string
	message string
	detail  any
	retry   int // seconds after which to try again; 0: not said
}

func (f *failure) Error() string { return f.message }

func fail(status int, code, format string, args ...any) *failure {
	return &failure{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func nameInvalid(format string, args ...any) *failure {
	return fail(http.StatusBadRequest, codeNameInvalid, format, args...)
}

// quote returns text of a client as it may stand in a message: short and escaped.
func quote(s string) string {
	if len(s) > 100 {
		return fmt.Sprintf("%q…", s[:100])
	}
	return fmt.Sprintf("%q", s)
}

// parseDigest returns a digest that this program can compute.
func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	switch {
	case err != nil:
		return d, fail(http.StatusBadRequest, codeDigestInvalid, "%v", err)
	case !d.Verifiable():
		return d, fail(http.StatusBadRequest, codeDigestInvalid, "digest %s: want sha256 or sha512", quote(s))
	}
	return d, nil
}

// answerTo turns an error of the layers below into an answer. Their text may hold names of
// files, so it goes to the log, not to the client, unless it is about what the client sent.
func answerTo(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, errCut):
		return fail(http.StatusBadRequest, codeUploadInvalid, "%v", errCut)
	case errors.Is(err, digest.ErrMismatch):
		return fail(http.StatusBadRequest, codeDigestInvalid, "%v", err)
	case errors.Is(err, layout.ErrNotFound):
		return fail(http.StatusNotFound, codeBlobUnknown, "%v", err)
	case errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded):
		return fail(http.StatusRequestTimeout, codeUnknown, "the request was cut short")
	case isExhausted(err):
		f := fail(http.StatusServiceUnavailable, codeTooManyRequests, "too many files are open")
		f.retry = 1
		return f
	case errors.Is(err, syscall.ENOSPC):
		return fail(http.StatusInsufficientStorage, codeUnknown, "the disk is full")
	}
	return fail(http.StatusInternalServerError, codeUnknown, "internal error, see the log of the registry")
}

// isExhausted reports whether err says that there is no handle left for another file.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// send writes the failure in the form of the distribution-spec.
func (f *failure) send(w http.ResponseWriter) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, err := json.Marshal(map[string][]entry{"errors": {{f.code, f.message, f.detail}}})
	if err != nil {
		panic(err) // details are our own
	}
	if f.retry > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(f.retry))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)+1))
	w.WriteHeader(f.status)
	w.Write(append(body, '\n'))
}
