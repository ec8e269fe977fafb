package exchange

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Error codes of the distribution-spec ("Error Codes"), and the one that registries use for
// errors of their own.
const (
	CodeBlobUnknown         = "BLOB_UNKNOWN"
	CodeUploadInvalid       = "BLOB_UPLOAD_INVALID"
	CodeUploadUnknown       = "BLOB_UPLOAD_UNKNOWN"
	CodeDigestInvalid       = "DIGEST_INVALID"
	CodeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     = "MANIFEST_INVALID"
	CodeManifestUnknown     = "MANIFEST_UNKNOWN"
	CodeNameInvalid         = "NAME_INVALID"
	CodeNameUnknown         = "NAME_UNKNOWN"
	CodeSizeInvalid         = "SIZE_INVALID"
	CodeUnauthorized        = "UNAUTHORIZED"
	CodeDenied              = "DENIED"
	CodeUnsupported         = "UNSUPPORTED"
	CodeTooManyRequests     = "TOOMANYREQUESTS"
	CodeUnknown             = "UNKNOWN"
)

// A Failure is an error with an answer: the status, and code, message and detail as the
// distribution-spec has them ("Error Codes"). Handlers return it, the server sends it.
type Failure struct {
	Status  int
	Code    string
	Message string
	Detail  any
	Retry   int // seconds after which to try again; 0: not said
}

func (f *Failure) Error() string { return f.Message }

// Fail returns a Failure with a formatted message.
func Fail(status int, code, format string, args ...any) *Failure {
	return &Failure{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func nameInvalid(format string, args ...any) *Failure {
	return Fail(http.StatusBadRequest, CodeNameInvalid, format, args...)
}

// Quote returns text of a client as it may stand in a message: short and escaped.
func Quote(s string) string {
	if len(s) > 100 {
		return fmt.Sprintf("%q…", s[:100])
	}
	return fmt.Sprintf("%q", s)
}

// Send writes the failure in the form of the distribution-spec. Nothing may have been written
// before.
func (f *Failure) Send(w http.ResponseWriter) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, err := json.Marshal(map[string][]entry{"errors": {{f.Code, f.Message, f.Detail}}})
	if err != nil {
		panic(err) // details are our own
	}

	if f.Retry > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(f.Retry))
	}

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)+1))
	w.WriteHeader(f.Status)
	w.Write(append(body, '\n'))
}
