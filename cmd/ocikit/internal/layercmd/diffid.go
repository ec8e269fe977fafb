package layercmd

import (
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci/image"
)

func diffidCommand() cli.Command {
	return cli.Command{
		Name: "diffid", Args: "[FILE...]", Group: cli.GroupLayer, Progress: true,
		Short: "print the diff ID of a layer: the digest of its uncompressed tar",
		Long: `Diffid prints the digest of the uncompressed bytes of FILE, or of standard input: the same
for a tar and for the tar compressed. Of several files each line has the name behind it. The
compression is found by its magic bytes; a tar that is cut is an error.`,
		Example: "ocikit tar --whiteout etc/motd | ocikit gzip | ocikit diffid",
		Bind: func(fs *flag.FlagSet) cli.Action {
			asJSON := cli.BindJSON(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				return eachInput(env, args, func(name string, r io.Reader) error {
					id, err := image.IncomingDiffID(ctx, r, name != "-")
					if err != nil {
						return commonflags.TarHint(fmt.Errorf("%s: %w", cli.InputName(name), err))
					}
					return printDigest(env, id, name, len(args), *asJSON)
				})
			}
		},
	}
}
