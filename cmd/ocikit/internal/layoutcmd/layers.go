package layoutcmd

import (
	"context"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/image"
)

func layersCommand() cli.Command {
	return cli.Command{
		Name: "layers", Args: "IMAGE", Group: cli.GroupLayout,
		Short: "print the descriptors of an image's layers",
		Long: `Layers prints the descriptors of the layers, the lowest first, each with its diff ID from the
config: what "ocikit config" reads. --platform picks from an index.

"ocikit convert" compresses the layers of an image in another way.`,
		Example: "ocikit layers app",
		Bind: func(fs *flag.FlagSet) cli.Action {
			platform := commonflags.BindPlatform(fs)
			places := operands.BindPlaces(fs)
			places.Documents = true
			return func(ctx context.Context, env *cli.Env, args []string) error {
				l, desc, err := places.Manifest(ctx, env, args[0], *platform)
				if err != nil {
					return err
				}
				defer l.Close()
				layers, err := image.Layers(l, desc)
				if err != nil {
					return operands.IncompleteHint(l, err)
				}
				return oci.WriteDescriptors(env.Stdout, layers...)
			}
		},
	}
}
