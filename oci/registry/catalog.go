package registry

import (
	"context"
	"iter"

	"ocikit/oci/registry/wire"
)

// Catalog lists the repositories of the registry. It asks for pages of n names; 0 leaves their size
// to the registry. The sequence ends with the first error, see also [Client.Tags].
//
// The catalog is not a part of the distribution-spec. Docker Hub and other shared registries have none;
// others show it to administrators alone, with a token for "registry:catalog:*".
func (c *Client) Catalog(ctx context.Context, n int) iter.Seq2[string, error] {
	type page struct {
		Repositories []string `json:"repositories"`
	}
	all := wire.Scope{Resource: "registry:catalog", Actions: []string{"*"}}
	return names(ctx, c, list{"_catalog", "", all, n}, func(p page) []string { return p.Repositories })
}
