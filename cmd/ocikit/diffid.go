package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/oci/image"
)

func diffidCommand() Command {
	return Command{
		Name: "diffid", Args: "[FILE...]", Group: groupLayer, Progress: true,
		Short: "print the diff ID of a layer: the digest of its uncompressed tar",
		Long: `Diffid prints the digest of the uncompressed bytes of FILE, or of standard input: the same
for a tar and for the tar compressed. Of several files each line has the name behind it. The
compression is found by its magic bytes; a tar that is cut is an error.`,
		Example: "ocikit tar --whiteout etc/motd | ocikit gzip | ocikit diffid",
		Bind: func(fs *flag.FlagSet) Action {
			return func(ctx context.Context, env *Env, args []string) error {
				return eachInput(env, args, func(name string, r io.Reader) error {
					id, err := image.DiffID(ctx, r)
					if err != nil {
						return fmt.Errorf("%s: %w", inputName(name), err)
					}
					return printDigest(env, id, name, len(args))
				})
			}
		},
	}
}
