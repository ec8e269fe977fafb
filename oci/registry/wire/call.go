package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// A Call is one request as the caller spells it, to find out how a registry answers it. The methods
// of package registry work around what registries get wrong; [Conn.Call] shows it as it is.
type Call struct {
	Endpoint string // its id in the table of the distribution-spec, for traces
	Method   string
	Path     string // behind "/v2/", with the query, escaped as it is to be sent
	Location string // in place of Path: where an [Answer] leads, an absolute URL
	Query    string // one more parameter for Location, escaped
	Scopes   string // what a token must allow, as "repository:NAME:pull,push", split by blanks

	Header   http.Header
	Body     []byte
	Stream   io.Reader // in place of Body, if that is too large to be held; sent again only if it can seek
	Size     int64     // of Stream
	Chunked  bool      // send the body without Content-Length
	Length   int64     // claim this Content-Length, if > 0; with CutAfter, to see whether it is refused
	CutAfter int64     // break the connection after so many bytes of it, if > 0

	Stay  bool  // a redirect is the answer; otherwise it is followed
	Limit int64 // of the answer's body; 0 is 64 KiB
}

// An Answer is the answer to a [Call], of any status. Its header and body are the registry's own
// words, neither redacted nor fit for a terminal.
type Answer struct {
	Status   int
	Header   http.Header
	Body     []byte
	Errors   []ErrorInfo // decoded from the body; redacted
	Location string      // the Location as an absolute URL; "" for none, or one that is not followed
	Range    int64       // bytes that the Range of an upload stands for, -1 for none that can be read
	Away     string      // the host that answered, if a redirect led away from the registry
	Proto    string      // as "HTTP/1.1"
	TLS      string      // version and name of the certificate; "" without TLS
}

// Call sends one request as call spells it, with the registry's authorization, safety rules and
// limits, and returns the answer of any status. The request is never repeated. An error means that
// there was no answer: the connection broke ([ErrCut] if on purpose), the body was over the limit,
// or credentials could not be had.
func (c *Conn) Call(ctx context.Context, call Call) (Answer, error) {
	r, err := c.newCall(call)
	if err != nil {
		return Answer{}, err
	}

	resp, err := c.Do(ctx, r)
	var refused *StatusError
	if !errors.As(err, &refused) || resp == nil {
		return Answer{}, err // no status is asked for, so every answer is a StatusError
	}

	a := Answer{
		Status: resp.Status, Header: resp.Header, Body: resp.Body,
		Range:  -1,
		Errors: decodeErrors(resp.Body, c.Red), Proto: resp.Event.Proto, TLS: resp.Event.TLS,
	}

	if n, _, ok := ParseRange(resp.Header.Get("Range")); ok {
		a.Range = n
	}

	if resp.Away {
		a.Away = resp.URL.Host
	}

	if resp.Header.Get("Location") != "" {
		a.Location, _ = c.ResolveLocation(resp)
	}

	return a, nil
}

// newCall returns the request that call spells. Once keeps it from being repeated.
func (c *Conn) newCall(call Call) (*Request, error) {
	u, err := c.Endpoint("").Parse(call.Path)
	if call.Location != "" {
		u, err = ParseLocation(call.Location)
	}

	if err != nil {
		return nil, fmt.Errorf("call of %s: %w", Quote(call.Path), err)
	}

	if call.Query != "" {
		AddQuery(u, call.Query)
	}

	r := &Request{
		Method: call.Method, URL: u, Endpoint: call.Endpoint, Scopes: ParseScopes(call.Scopes), Header: call.Header.Clone(),
		Once: true, Slow: call.Method == http.MethodPut, stay: call.Stay, Limit: call.Limit,
	}

	if r.Header == nil {
		r.Header = http.Header{}
	}

	if len(call.Body) > 0 {
		r.Body = NewBody(bytes.NewReader(call.Body), int64(len(call.Body)))
		r.Body.Cut = call.CutAfter
	}

	if call.Stream != nil && call.Size > 0 {
		r.Body = NewBody(call.Stream, call.Size)
		r.Body.Cut = call.CutAfter
	}

	if call.CutAfter > 0 {
		r.Expect = true // the head goes out before the body
	}

	switch {
	case call.Chunked:
		r.Length = -1
	case call.Length > 0:
		r.Length = call.Length
	}

	return r, nil
}
