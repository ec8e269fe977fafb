package imagecmd

import (
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci/image"
	"ocikit/tarutil/stack"
)

func exportCommand() cli.Command {
	return cli.Command{
		Name: "export", Args: "IMAGE [PATH...]", Group: cli.GroupFiles, Progress: true,
		Short: "write the files of an image as one tar",
		Long: `Export applies the layers of an image and writes what a container would see as one tar, on
standard output: owners, permissions, times, links, devices and extended attributes as the layers have
them, deleted and replaced files left out. The same image gives the same bytes. Nothing is written to
disk, and memory does not grow with the size of the layers.

With PATHs only those are written, each with all that is below it, under the names given and behind
the directories on the way. Links on the way and at the end of a PATH are followed inside the image, so
"ocikit export app bin/sh" has the program and not the link; a pipe into "tar -xO" prints a file.
--platform picks from an index.`,
		Example: "ocikit export app -o rootfs.tar\nocikit export app bin | ocikit digest",
		Status:  "4 if a PATH means nothing in the image",
		Bind: func(fs *flag.FlagSet) cli.Action {
			platform := commonflags.BindPlatform(fs)
			out := commonflags.BindOutput(fs)
			places := operands.BindPlaces(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				l, desc, err := places.Manifest(ctx, env, args[0], *platform)
				if err != nil {
					return err
				}

				// Layers are read twice, to merge and verify them and for the contents, so those of
				// a registry are kept in temporary files.
				l = operands.KeepLayers(env, l)
				defer l.Close()
				watchLayers(env, l, desc, 2)
				return env.ToOutput(*out, true, func(w io.Writer) error {
					merged, err := image.NewStack(ctx, l, desc, stack.Options{})
					if err != nil {
						return operands.IncompleteHint(l, err)
					}
					if len(args) > 1 {
						if merged, err = merged.Select(args[1:]...); err != nil {
							return fmt.Errorf("%q: path %w", args[0], err)
						}
					}
					return operands.IncompleteHint(l, merged.WriteTar(ctx, w))
				})
			}
		},
	}
}
