package layoutcmd

import (
	"context"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
)

func resolveCommand() cli.Command {
	return cli.Command{
		Name: "resolve", Args: "IMAGE", Group: cli.GroupLayout,
		Short: "print the descriptor that a name means",
		Long: `Resolve prints the descriptor of an image: one line of JSON. TAG@DIGEST asserts that the tag
has that digest. --platform picks from an index.`,
		Example: "ocikit resolve app:latest",
		Status:  "1 if a tag does not have the digest that was asserted, 4 if there is no such name",
		Bind: func(fs *flag.FlagSet) cli.Action {
			platform := commonflags.BindPlatform(fs)
			places := operands.BindPlaces(fs)
			places.Documents = true
			return func(ctx context.Context, env *cli.Env, args []string) error {
				l, desc, err := places.Maybe(ctx, env, args[0], *platform)
				if err != nil {
					return err
				}
				defer l.Close()
				return oci.WriteDescriptors(env.Stdout, operands.Unnamed(desc))
			}
		},
	}
}
