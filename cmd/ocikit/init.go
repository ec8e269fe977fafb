package main

import (
	"context"
	"flag"

	"ocikit/oci"
	"ocikit/oci/layout"
)

func initCommand() Command {
	return Command{
		Name: "init", Args: "DIR", Group: groupLayout,
		Short: "make an empty layout",
		Long: `Init makes DIR an empty OCI image layout: oci-layout, index.json and blobs. DIR is created if
need be. A layout that is there already is left as it is; a directory that holds anything else is an
error.`,
		Example: "ocikit init app",
		Bind: func(fs *flag.FlagSet) Action {
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want DIR", len(args))
				}
				if n, err := oci.ParseImageName(args[0]); err != nil || n.Tag != "" || !n.Digest.IsZero() {
					return usagef("%q: want a directory alone; `ocikit tag` gives names to what is in it", args[0])
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
