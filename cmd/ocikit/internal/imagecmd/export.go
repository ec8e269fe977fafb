package imagecmd

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/source"
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

				// Layers may be read twice, to merge and verify them and for the contents, so those of
				// a registry are kept in temporary files.
				l = operands.KeepLayers(env, l)
				defer l.Close()
				x := exported{env, l, desc, args[0], args[1:]}
				return env.ToOutput(*out, true, func(w io.Writer) error {
					if f, ok := w.(*os.File); ok {
						return operands.IncompleteHint(l, x.toFile(ctx, f))
					}
					return operands.IncompleteHint(l, x.toPipe(ctx, w))
				})
			}
		},
	}
}

// An exported is an image, or some paths of it.
type exported struct {
	env   *cli.Env
	src   source.Source
	desc  oci.Descriptor
	image string
	paths []string
}

// toPipe writes the tar to w.
func (x exported) toPipe(ctx context.Context, w io.Writer) error {
	watchLayers(x.env, x.src, x.desc, 2)
	merged, err := image.NewStack(ctx, x.src, x.desc, stack.Options{})
	if err != nil {
		return err
	}
	if len(x.paths) > 0 {
		if merged, err = merged.Select(x.paths...); err != nil {
			return fmt.Errorf("%q: path %w", x.image, err)
		}
	}
	return merged.WriteTar(ctx, w)
}

// toFile writes the tar to f. A file can be emptied, so it is tried first whether one reading of a single
// layer is enough.
func (x exported) toFile(ctx context.Context, f *os.File) error {
	buffered := bufio.NewWriterSize(f, 256<<10)
	info, err := f.Stat()
	if err != nil {
		return err
	}

	if info.Mode().IsRegular() && len(x.paths) == 0 && image.MayWriteOnce(x.src, x.desc) {
		watchLayers(x.env, x.src, x.desc, 1)
		done, err := image.WriteOnce(ctx, x.src, x.desc, buffered)
		if err != nil {
			return err
		}
		if done {
			return buffered.Flush()
		}

		buffered.Reset(f)
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
	}

	if err := x.toPipe(ctx, buffered); err != nil {
		return err
	}
	return buffered.Flush()
}
