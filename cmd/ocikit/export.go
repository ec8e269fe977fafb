package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/oci/image"
	"ocikit/tarutil"
)

func exportCommand() Command {
	return Command{
		Name: "export", Args: "IMAGE [PATH...]", Group: groupFiles, Progress: true,
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
		Bind: func(fs *flag.FlagSet) Action {
			platform := fs.String("platform", "", "take the manifest for this `platform` of an index")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) == 0 {
					return usagef("no operand, want IMAGE")
				}
				l, desc, err := openManifest(args[0], *platform)
				if err != nil {
					return err
				}
				defer l.Close()
				env.watchLayers(l, desc)
				return env.toOutput(*out, true, func(w io.Writer) error {
					stack, err := image.NewStack(ctx, l, desc, tarutil.ApplyOptions{})
					if err != nil {
						return incompleteHint(l, err)
					}
					if len(args) > 1 {
						if stack, err = stack.Select(args[1:]...); err != nil {
							return fmt.Errorf("%q: path %w", args[0], err)
						}
					}
					return incompleteHint(l, stack.WriteTar(ctx, w))
				})
			}
		},
	}
}
