package layoutcmd

import (
	"context"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/layout"
)

func initCommand() cli.Command {
	return cli.Command{
		Name: "init", Args: "DIR", Group: cli.GroupLayout,
		Short: "make an empty layout",
		Long: `Init makes DIR an empty OCI image layout: oci-layout, index.json and blobs. DIR is created if
need be. A layout that is there already is left as it is; a directory that holds anything else is an
error.`,
		Example: "ocikit init app",
		Bind: func(fs *flag.FlagSet) cli.Action {
			return func(ctx context.Context, env *cli.Env, args []string) error {
				if n, err := oci.ParseImageName(args[0]); err != nil || n.Tag != "" || !n.Digest.IsZero() {
					return cli.Usagef("%q: want a directory alone; `ocikit tag` gives names to what is in it", args[0])
				}
				if err := operands.CheckNewDir(args[0]); err != nil {
					return err
				}
				l, err := layout.Init(args[0])
				if err != nil {
					return err
				}
				return l.Close()
			}
		},
	}
}
