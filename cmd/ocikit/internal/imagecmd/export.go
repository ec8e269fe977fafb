package imagecmd

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/disk"
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
them, deleted and replaced files left out. The same image gives the same bytes. Memory does not grow
with the size of the layers. On its way into a pipe a single layer waits in a temporary file, up to
1 GiB, until it was verified; otherwise nothing else is written to disk.

With PATHs only those are written, each with all that is below it, under the names given and behind
the directories on the way. Links on the way and at the end of a PATH are followed inside the image, so
"ocikit export app bin/sh" has the program and not the link; a pipe into "tar -xO" prints a file.
--platform picks from an index.`,
		Example: "ocikit export app -o rootfs.tar\nocikit export app bin | ocikit digest",
		Status:  "4 if a PATH means nothing in the image",
		Bind: func(fs *flag.FlagSet) cli.Action {
			platform := commonflags.BindPlatform(fs)
			out := operands.BindTarOutput(fs)
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
				return operands.WriteTar(env, *out, func(w io.Writer) error {
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

// toFile writes the tar to f. A file can be emptied, so it is tried first whether one reading of a single
// layer is enough.
func (x exported) toFile(ctx context.Context, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return x.toPipe(ctx, f)
	}

	if x.mayWriteOnce(math.MaxInt64) {
		if done, err := x.once(ctx, f); done || err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
	}

	return x.merged(ctx, f)
}

// toPipe writes the tar to w, which gets no byte of a layer that was not verified. A single layer is
// read once all the same: its tar waits in a temporary file, for it takes much longer to decompress it
// again. Without room for that file it is read twice.
func (x exported) toPipe(ctx context.Context, w io.Writer) error {
	if x.mayWriteOnce(maxWaiting / 4) { // most tars are smaller than four times their blobs
		if temp, err := disk.CreateTemp(x.env.Getenv("TMPDIR"), "ocikit-export-*"); err == nil {
			defer temp.Close()
			done, _ := x.once(ctx, &boundedWriter{temp, maxWaiting})
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if done {
				_, err := oci.CopyUntil(ctx, w, io.NewSectionReader(temp, 0, maxWaiting))
				return err
			}
			temp.Truncate(0) // the room is for others
		}
	}

	return x.merged(ctx, w)
}

// maxWaiting bounds what waits in a temporary file.
const maxWaiting = 1 << 30

// A boundedWriter takes so many bytes, and no more.
type boundedWriter struct {
	w    io.Writer
	left int
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, io.ErrShortWrite
	}
	b.left -= len(p)
	return b.w.Write(p)
}

// mayWriteOnce reports whether to try one reading: of a single layer with a blob of at most so many bytes.
func (x exported) mayWriteOnce(most int64) bool {
	return len(x.paths) == 0 && image.MayWriteOnce(x.src, x.desc, most)
}

// once writes the tar in one reading of a single layer, and reports whether that was possible.
func (x exported) once(ctx context.Context, w io.Writer) (bool, error) {
	watchLayers(x.env, x.src, x.desc, 1)
	buffered := bufio.NewWriterSize(w, writeSize)
	done, err := image.WriteOnce(ctx, x.src, x.desc, buffered)
	if done {
		err = buffered.Flush()
	}
	return done && err == nil, err
}

// merged writes the tar in two readings of the layers.
func (x exported) merged(ctx context.Context, w io.Writer) error {
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
	buffered := bufio.NewWriterSize(w, writeSize)
	if err := merged.WriteTar(ctx, buffered); err != nil {
		return err
	}
	return buffered.Flush()
}

// writeSize is how many bytes are written at once.
const writeSize = 256 << 10
