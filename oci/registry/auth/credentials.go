package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"ocikit/oci/registry/wire"
)

// A credential is what a source knows for one registry. It holds a password, an identity token or a
// registry token, or nothing.
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

// describe fills in what info says of the kind of credential, without the secret.
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

// check refuses what cannot stand in a header: a control character, or a user name that Basic would
// cut at its colon (RFC 7617, section 2).
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

// nobody is the credential of an anonymous request.
func nobody() *credential {
	k := &credential{}
	k.describe()
	return k
}

// unusable is the error of a source that knows the registry and does not deliver.
func (a *Authenticator) unusable(err error) error {
	return fmt.Errorf("credentials for %s: %w: %w", a.o.Host, wire.ErrDenied, err)
}

// findCredential looks through the sources; the first hit wins. A source that names the
// registry and does not deliver is an error: another account must not take its place.
func (a *Authenticator) findCredential(ctx context.Context) (*credential, error) {
	for _, source := range []func(context.Context) (*credential, error){a.fromOptions, a.fromEnvironment, a.fromFiles} {
		k, err := source(ctx)
		if err == nil && k != nil {
			err = k.check()
		}
		if err != nil {
			return nil, a.unusable(err)
		}
		if k != nil && !k.none() {
			k.describe()
			a.c.Red.Hide(k.password, k.identityToken, k.registryToken)
			if k.password != "" {
				a.c.Red.Hide(k.username + ":" + k.password)
			}
			return k, nil
		}
	}

	return nobody(), nil
}

func (a *Authenticator) fromOptions(context.Context) (*credential, error) {
	k := &credential{username: a.o.Username, password: a.o.Password, identityToken: a.o.IdentityToken, registryToken: a.o.RegistryToken}
	k.info.Source = "options"
	return k, nil
}

// fromEnvironment reads OCIKIT_USERNAME, OCIKIT_PASSWORD and OCIKIT_TOKEN, which count only
// for the registry that OCIKIT_REGISTRY names.
func (a *Authenticator) fromEnvironment(context.Context) (*credential, error) {
	env := a.o.Getenv
	k := &credential{username: env("OCIKIT_USERNAME"), password: env("OCIKIT_PASSWORD"), registryToken: env("OCIKIT_TOKEN")}
	k.info.Source = "environment"
	if k.none() {
		return nil, nil
	}
	host, err := a.o.ParseHost(env("OCIKIT_REGISTRY"))
	if err != nil {
		return nil, errors.New("OCIKIT_REGISTRY must name the registry that OCIKIT_USERNAME, OCIKIT_PASSWORD or OCIKIT_TOKEN are for")
	}
	if host != a.o.Host {
		return nil, nil
	}
	return k, nil
}
