package registrycmd

import (
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve"
)

// anyUpstream is the value of --upstream for every registry that a client names.
const anyUpstream = "*"

// upstream reads the flags about registries to keep copies of; nil is none.
func (f *serveFlags) upstream(env *cli.Env) (*serve.Upstreams, error) {
	names := *f.upstreams
	if len(names) == 0 {
		if f.offline {
			return nil, cli.Usagef("--offline goes with --upstream")
		}
		return nil, nil
	}

	client := func(name string) (*registry.Client, error) {
		ref, err := commonflags.ParseRef(registry.ParseHost, name)
		if err != nil {
			return nil, err
		}
		f.dialing.Lock()
		defer f.dialing.Unlock()
		return f.registry.Client(env, ref, f.passwords == "-" || f.tokens == "-")
	}

	u := &serve.Upstreams{Offline: f.offline}

	// A lone registry needs no namespace: its repositories lie in DIR itself.
	if len(names) == 1 && names[0] != anyUpstream && !strings.Contains(names[0], "=") {
		var err error
		u.Only, err = client(names[0])
		return u, err
	}

	if (len(names) > 1 || names[0] == anyUpstream) && f.registry.OneRegistry() {
		return nil, cli.Usagef("--username, --token and --header would reach every upstream: give credentials with --authfile")
	}

	// Each of several registries is known to clients by NS; a bare REGISTRY is its own NS.
	u.Named = map[string]*registry.Client{}
	for _, name := range names {
		if name == anyUpstream {
			u.Any = client
			continue
		}
		ns, from, found := strings.Cut(name, "=")
		if !found {
			from = ns
		}
		ref, err := commonflags.ParseRef(registry.ParseHost, ns)
		if err != nil {
			return nil, err
		}
		if u.Named[ref.Host] != nil {
			return nil, cli.Usagef("flag --upstream: %s twice", ref.Host)
		}
		if u.Named[ref.Host], err = client(from); err != nil {
			return nil, err
		}
	}

	return u, nil
}
