package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A Credential is what a source knows for one registry.
type credential struct {
	username, password string
	identityToken      string // an OAuth2 refresh token
	registryToken      string // is sent as it is, as Bearer
	info               CredentialInfo
}

// A CredentialInfo says where credentials came from. It holds no secret.
type CredentialInfo struct {
	Source   string `json:"source"`             // "options", "environment", "file", "helper", or "none"
	File     string `json:"file,omitempty"`     // the file that named them
	Key      string `json:"key,omitempty"`      // the key in the file that matched
	Helper   string `json:"helper,omitempty"`   // the program that was asked
	Kind     string `json:"kind"`               // "password", "identity token", "registry token", or "none"
	Username string `json:"username,omitempty"` // of a password
}

func (k *credential) none() bool {
	return k.password == "" && k.username == "" && k.identityToken == "" && k.registryToken == ""
}

func (k *credential) describe() {
	k.info.Username = k.username
	switch {
	case k.registryToken != "":
		k.info.Kind = "registry token"
	case k.identityToken != "":
		k.info.Kind = "identity token"
	case k.username != "" || k.password != "":
		k.info.Kind = "password"
	default:
		k.info = CredentialInfo{Source: "none", Kind: "none"}
	}
}

// check refuses what cannot stand in a header.
func (k *credential) check() error {
	for _, s := range []string{k.username, k.password, k.identityToken, k.registryToken} {
		if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return errors.New("credentials hold a control character")
		}
	}
	if strings.Contains(k.username, ":") && k.password != "" {
		return errors.New("the user name holds a colon")
	}
	return nil
}

// findCredential looks through the sources; the first hit wins. A source that names the
// registry and does not deliver is an error: another account must not take its place.
func (c *Client) findCredential(ctx context.Context) (*credential, error) {
	for _, source := range []func(context.Context) (*credential, error){c.fromOptions, c.fromEnvironment, c.fromFiles} {
		k, err := source(ctx)
		if err == nil && k != nil {
			err = k.check()
		}
		if err != nil {
			return nil, fmt.Errorf("credentials for %s: %w: %w", c.ref.Host, ErrDenied, err)
		}
		if k != nil && !k.none() {
			k.describe()
			c.red.add(k.password, k.identityToken, k.registryToken)
			if k.password != "" {
				c.red.add(k.username + ":" + k.password)
			}
			return k, nil
		}
	}
	k := &credential{}
	k.describe()
	return k, nil
}

func (c *Client) fromOptions(context.Context) (*credential, error) {
	k := &credential{username: c.o.Username, password: c.o.Password, identityToken: c.o.IdentityToken}
	k.info.Source = "options"
	return k, nil
}

// fromEnvironment reads OCIKIT_USERNAME, OCIKIT_PASSWORD and OCIKIT_TOKEN, which count only
// for the registry that OCIKIT_REGISTRY names.
func (c *Client) fromEnvironment(context.Context) (*credential, error) {
	env := c.o.Getenv
	k := &credential{username: env("OCIKIT_USERNAME"), password: env("OCIKIT_PASSWORD"), registryToken: env("OCIKIT_TOKEN")}
	k.info.Source = "environment"
	if k.none() {
		return nil, nil
	}
	host, err := ParseHost(env("OCIKIT_REGISTRY"))
	if err != nil {
		return nil, errors.New("OCIKIT_REGISTRY must name the registry that OCIKIT_USERNAME, OCIKIT_PASSWORD or OCIKIT_TOKEN are for")
	}
	if host.Host != c.ref.Host {
		return nil, nil
	}
	return k, nil
}
