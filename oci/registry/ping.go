package registry

import (
	"context"
	"net/http"
	"strings"
)

// A PingResult is what a registry says about itself.
type PingResult struct {
	URL        string      `json:"url"`
	APIVersion string      `json:"apiVersion,omitempty"` // Docker-Distribution-Api-Version
	Anonymous  bool        `json:"anonymous"`            // it answered without credentials; that says nothing about writes
	Challenges []Challenge `json:"challenges,omitempty"` // how it wants to be authorized
}

// Ping asks for /v2/ (end-1): whether there is a registry, and whether it takes the
// credentials. An answer that is not one of a registry is an error.
func (c *Client) Ping(ctx context.Context) (PingResult, error) {
	var out PingResult
	r := &request{method: http.MethodGet, url: c.url(""), endpoint: "end-1", want: []int{http.StatusOK}}
	first := true
	r.check = func(resp *response) {
		if first {
			first = false
			out.Challenges = parseChallenges(resp.header)
			out.Anonymous = resp.status == http.StatusOK
		}
		if resp.status == http.StatusOK && !strings.HasPrefix(resp.header.Get("Docker-Distribution-Api-Version"), "registry/2") {
			resp.note("note", "no Docker-Distribution-Api-Version, which is optional")
		}
	}
	resp, err := c.do(ctx, r, http.StatusOK)
	out.URL = c.URL()
	if resp != nil {
		out.APIVersion = truncate(c.red.text(resp.header.Get("Docker-Distribution-Api-Version")), 80)
	}
	return out, err
}
