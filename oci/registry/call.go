package registry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
)

// A Call is one request as the caller spells it, to find out what a registry makes of it.
// The other methods of [Client] work around what registries get wrong; [Client.Call] shows it.
type Call struct {
	Endpoint string // its id in the table of the distribution-spec, for traces
	Method   string
	Path     string // behind "/v2/", with the query, escaped as it is to be sent
	Location string // in place of Path: where an [Answer] leads, an absolute URL
	Query    string // one more parameter for Location, escaped
	Scopes   string // what a token must allow, as "repository:NAME:pull,push", split by blanks

	Header   http.Header
	Body     []byte
	Chunked  bool  // send the body without Content-Length
	CutAfter int64 // break the connection after so many bytes of it, if > 0

	Stay  bool  // a redirect is the answer; otherwise it is followed
	Limit int64 // of the answer's body; 0 is 64 KiB
}

// An Answer is what came, of any status. Its header and body are the registry's own words:
// neither redacted nor fit for a terminal.
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
	Sent     int64       // bytes of the body that were taken
}

// Call sends one request, never again, with the Client's authorization, safety rules and limits, and
// returns the answer whatever its status is. An error means that there was none: a connection
// that broke ([ErrCut] if on purpose), a body over the limit, no credentials.
func (c *Client) Call(ctx context.Context, call Call) (Answer, error) {
	r, err := c.newCall(call)
	if err != nil {
		return Answer{}, err
	}
	resp, err := c.do(ctx, r)
	if _, refused := err.(*StatusError); !refused || resp == nil {
		return Answer{}, err // do takes no status for good, so an answer is an error, too
	}
	a := Answer{
		Status: resp.status, Header: resp.header, Body: resp.body, Sent: resp.sent,
		Range:  -1,
		Errors: decodeErrors(resp.body, c.red), Proto: resp.event.Proto, TLS: resp.event.TLS,
	}
	if n, _, ok := parseRange(resp.header.Get("Range")); ok {
		a.Range = n
	}
	if resp.away {
		a.Away = resp.url.Host
	}
	if resp.header.Get("Location") != "" {
		a.Location, _ = c.resolveLocation(resp)
	}
	return a, nil
}

func (c *Client) newCall(call Call) (*request, error) {
	u, err := c.url("").Parse(call.Path)
	if call.Location != "" {
		u, err = (&Upload{Location: call.Location}).url()
	}
	if err != nil {
		return nil, fmt.Errorf("call of %s: %w", quote(call.Path), err)
	}
	if call.Query != "" {
		addQuery(u, call.Query)
	}
	r := &request{
		method: call.Method, url: u, endpoint: call.Endpoint, scopes: parseScopes(call.Scopes), header: call.Header.Clone(),
		once: true, slow: call.Method == http.MethodPut, stay: call.Stay, limit: call.Limit,
	}
	if r.header == nil {
		r.header = http.Header{}
	}
	if len(call.Body) > 0 {
		r.body = newSource(bytes.NewReader(call.Body), int64(len(call.Body)))
		r.body.cut = call.CutAfter
	}
	if call.CutAfter > 0 {
		r.expect = +1 // the head goes out before the body
	}
	if call.Chunked {
		r.length = -1
	}
	return r, nil
}
