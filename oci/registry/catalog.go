package registry

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"ocikit/oci"
	"ocikit/oci/registry/wire"
)

// Catalog lists the repositories of the registry. It asks for pages of n names; 0 leaves their size
// to the registry. The sequence ends with the first error, see also [Client.Tags].
//
// The catalog is not a part of the distribution-spec. Docker Hub and other shared registries have none;
// others show it to administrators alone, with a token for "registry:catalog:*".
func (c *Client) Catalog(ctx context.Context, n int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		first := c.conn.Endpoint("")
		first.Path += "_catalog"
		if n > 0 {
			first.RawQuery = "n=" + strconv.Itoa(n)
		}

		all := wire.Scope{Resource: "registry:catalog", Actions: []string{"*"}}
		err := c.pages(ctx, first, "", all, func(resp *wire.Response) (bool, error) {
			var page struct {
				Repositories []string `json:"repositories"`
			}
			if err := oci.Decode(resp.Body, &page); err != nil {
				return false, fmt.Errorf("GET %s: %w", c.conn.Red.URL(resp.URL), err)
			}
			for _, name := range page.Repositories {
				if !yield(name, nil) {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			yield("", err)
		}
	}
}
