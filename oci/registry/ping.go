package registry

import (
	"context"
	"net/http"
	"strings"

	"ocikit/oci/registry/auth"
	"ocikit/oci/registry/wire"
)

// A PingResult is what a registry says about itself.
type PingResult struct {
	URL        string           `json:"url"`
	APIVersion string           `json:"apiVersion,omitempty"` // Docker-Distribution-Api-Version
	Anonymous  bool             `json:"anonymous"`            // it answered without credentials; that says nothing about writes
	Challenges []auth.Challenge `json:"challenges,omitempty"` // how it wants to be authorized
}

// Ping asks for /v2/ (end-1), which tells whether there is a registry and whether it takes the
// credentials. A status other than 200, after authorization, is a [StatusError]. What is known by
// then is returned with any error.
func (c *Client) Ping(ctx context.Context) (PingResult, error) {
	var out PingResult
	r := &wire.Request{Method: http.MethodGet, URL: c.conn.Endpoint(""), Endpoint: "end-1", Want: []int{http.StatusOK}}

	// The first answer is the one to a request without credentials.
	first := true
	r.Check = func(resp *wire.Response) {
		if first {
			first = false
			out.Challenges = auth.ParseChallenges(resp.Header)
			out.Anonymous = resp.Status == http.StatusOK
		}
		if resp.Status == http.StatusOK && !strings.HasPrefix(resp.Header.Get("Docker-Distribution-Api-Version"), "registry/2") {
			resp.Note("note", "no Docker-Distribution-Api-Version, which is optional")
		}
	}

	resp, err := c.conn.Do(ctx, r, http.StatusOK)
	out.URL = c.URL()
	if resp != nil {
		out.APIVersion = wire.Truncate(c.conn.Red.Text(resp.Header.Get("Docker-Distribution-Api-Version")), 80)
	}

	return out, err
}
