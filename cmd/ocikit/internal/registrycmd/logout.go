package registrycmd

import (
	"context"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
)

func logoutCommand() cli.Command {
	return cli.Command{
		Name: "logout", Args: "HOST", Group: cli.GroupRegistry,
		Short: "forget the password for a registry",
		Long: `Logout removes what login keeps for the registry: from the file, or from the store that the file names.
That there is nothing is not a failure. The registry is not asked.`,
		Example: "ocikit logout localhost:5000",
		Bind: func(fs *flag.FlagSet) cli.Action {
			flags := commonflags.BindRegistry(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				c, err := openStore(env, flags, args)
				if err != nil {
					return err
				}
				stored, err := c.Logout(ctx)
				if err == nil && !stored.Changed {
					env.Notice("ocikit: %q holds no credentials for %s", stored.File, c.Host())
				}
				return err
			}
		},
	}
}
