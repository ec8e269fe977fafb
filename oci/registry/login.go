package registry

import (
	"context"
	"fmt"

	"ocikit/oci/registry/auth"
)

// A Stored says where credentials were put, or removed from.
type Stored = auth.Stored

// Login asks the registry whether it takes the user name and password of [Options], and stores them
// where Docker, podman, skopeo and crane look. The file is [Options.StoreFile], else
// $REGISTRY_AUTH_FILE, else Docker's config.json. If it names a credential helper for the registry,
// the helper gets them; otherwise they go into the file as plain text. Credentials that the registry
// refuses are not stored.
func (c *Client) Login(ctx context.Context) (Stored, error) {
	if _, err := c.auth.CheckLogin(ctx); err != nil {
		return Stored{}, err
	}
	out, err := c.auth.Store(ctx)
	if err != nil {
		return out, fmt.Errorf("store credentials for %s: %w", c.ref.Host, err)
	}
	return out, nil
}

// Logout removes what [Client.Login] stores. It is not an error if there is nothing; see
// [auth.Stored.Changed].
func (c *Client) Logout(ctx context.Context) (Stored, error) {
	out, err := c.auth.Erase(ctx)
	if err != nil {
		return out, fmt.Errorf("remove credentials for %s: %w", c.ref.Host, err)
	}
	return out, nil
}
