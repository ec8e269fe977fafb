// Package record keeps the exchanges between a client and a registry in a file: one exchange a line,
// in JSON, without secrets.
//
// An [Entry] is one request and its answer. A [Writer] writes them, [Read] reads them back, a [Namer]
// takes the names out so that a recording can be published, and a [HAR] is written for the tools of
// browsers. Bodies of JSON are kept whole, since they say what an image is; of blobs only digest and
// size are kept.
package record

import (
	"net/url"
	"slices"
	"strings"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/wire"
)

// An Entry is one exchange: what the client sent, and what the registry answered before the tap
// changed the addresses in it.
type Entry struct {
	N int `json:"n"` // counts the requests of a recording, from 1

	wire.Event

	Client    string `json:"client,omitempty"`    // name and version that it gives itself
	Away      bool   `json:"away,omitempty"`      // the request went to another origin than the registry's
	Asked     Body   `json:"asked"`               // body of the request
	Answered  Body   `json:"answered"`            // body of the answer
	Announced *int64 `json:"announced,omitempty"` // its length by the header, where that is known

	Session string `json:"session,omitempty"` // of an upload
	From    *int64 `json:"from,omitempty"`    // where in it the request's body begins
	Offset  *int64 `json:"offset,omitempty"`  // what the registry says that it holds
	Whole   string `json:"whole,omitempty"`   // digest of all bytes of a session, at its end

	Unhashed bool `json:"-"`                // a digest is not known since the body, or the session, is large
	Latest   bool `json:"latest,omitempty"` // the request used the latest Location of the session

	Says string `json:"says,omitempty"` // the beginning of an error's body that is not JSON

	// Cut says who broke the connection: "client", "registry", "tap" by a fault of ours, "end" since
	// the tap was ended. With Stalled it was the tap, as no byte came from there for too long.
	Cut     string `json:"cut,omitempty"`
	Stalled bool   `json:"stalled,omitempty"`

	Fault string `json:"fault,omitempty"` // that the tap committed
	Shown int    `json:"shown,omitempty"` // status that the client got, if it is another
}

// A Body is what is known of the body of a request or an answer.
type Body struct {
	Size   int64   `json:"size"`
	Digest string  `json:"digest,omitempty"` // sha256, of what came
	Text   *string `json:"text,omitempty"`   // of JSON; it stands for the bytes
}

// Route returns the endpoint and names that the request asks for; ok is false if its address is no
// path of the API, or on another origin than the registry's.
func (e *Entry) Route() (rt exchange.Route, ok bool) {
	u, err := url.Parse(e.URL)
	if err != nil || e.Away || !exchange.Known(u.Path) {
		return exchange.Route{}, false
	}
	rt, err = exchange.ParseURL(u)
	return rt, err == nil
}

// Head returns the first value of a header of the answer.
func (e *Entry) Head(name string) string { return first(e.Response[name]) }

// Ask returns the first value of a header of the request.
func (e *Entry) Ask(name string) string { return first(e.Request[name]) }

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// HasCode reports whether the answer has an error code.
func (e *Entry) HasCode(code string) bool {
	return slices.ContainsFunc(e.Errors, func(i wire.ErrorInfo) bool { return i.Code == code })
}

// Path returns path and query of the request.
func (e *Entry) Path() string {
	_, rest, _ := strings.Cut(e.URL, "://")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return "/"
}
