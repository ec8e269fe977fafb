package registrycmd

import (
	"context"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci/registry"
)

func loginCommand() cli.Command {
	return cli.Command{
		Name: "login", Args: "HOST --username NAME --password-stdin", Group: cli.GroupRegistry,
		Short: "keep the password for a registry",
		Long: `Login asks the registry whether it takes the user name and the password, and keeps them where docker,
podman, skopeo, crane and every command here look: in $REGISTRY_AUTH_FILE, else in Docker's
config.json, or with --authfile in that file. If the file names a store for the registry, the program
docker-credential-NAME gets them; otherwise they stand in the file as they are, which is said. What the
registry refuses is not kept.`,
		Example: "echo secret | ocikit login localhost:5000 --username me --password-stdin",
		Status:  "5 if the registry does not take them",
		Bind: func(fs *flag.FlagSet) cli.Action {
			flags := commonflags.BindRegistry(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				if flags.Settings.Username == "" {
					return cli.Usagef("want --username NAME with --password-stdin")
				}

				c, err := openStore(env, flags, args)
				if err != nil {
					return err
				}

				stored, err := c.Login(ctx)
				if err != nil {
					return err
				}

				if stored.Helper == "" {
					env.Notice("ocikit: the password stands in %q as it is; a store keeps it better: `ocikit help credentials`", stored.File)
				}

				return nil
			}
		},
	}
}

// openStore returns a client that keeps credentials in the file that --authfile names, where
// other commands read them from.
func openStore(env *cli.Env, flags *commonflags.Registry, args []string) (*registry.Client, error) {
	// Here --authfile is what to write. What is tried comes from the command line.
	flags.Settings.StoreFile, flags.Settings.AuthFile = flags.Settings.AuthFile, ""
	c, _, err := flags.Dial(env, registry.ParseHost, args[0], false)
	return c, err
}
