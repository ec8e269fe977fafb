package layercmd

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil/pack"
)

func layerCommand() cli.Command {
	return cli.Command{
		Name: "layer", Args: "LAYOUT [TAR|DIR]", Group: cli.GroupLayer, Progress: true,
		Short: "store a tar as a layer and print its descriptor",
		Long: `Layer reads a tar from a file or from standard input, stores it as a blob in LAYOUT, and
prints its descriptor with its diff ID. It is one pass: the tar is checked, hashed, compressed,
hashed and stored while it is read. A tar that ends early is an error, so that the failure of the
command in front of the pipe is not taken for an end, and so are more than 64 MiB behind its end.

Input that is compressed already is kept byte for byte, unless --compress asks for what is not the
default. With zstd it becomes a zstd layer, smaller and faster to unpack than one of gzip: most readers
of today take it, not Docker before 23 and podman before 4. With estargz it becomes a gzip layer of
which a snapshotter can fetch single files; a table of contents is added to the tar, and its digest is
an annotation of the descriptor. A directory is packed first, as "ocikit tar DIR" does, with the same
flags.`,
		Example: "ocikit init app\nocikit tar ./rootfs | ocikit layer app",
		Status:  "1 if the tar is malformed or ends early; the layout is then as it was",
		Bind: func(fs *flag.FlagSet) cli.Action {
			bind := commonflags.BindPack(fs)
			compression := commonflags.BindCompression(fs, "gzip", "zstd", "estargz", "none", "keep (as it comes)")
			algorithm := commonflags.Algorithm(fs)
			annotations := commonflags.BindAnnotations(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				o, err := compression()
				if err != nil {
					return err
				}

				o.Algorithm = *algorithm
				if o.Annotations, err = cli.KeyValues("annotation", *annotations); err != nil {
					return err
				}

				packing, err := bind(env)
				if err != nil {
					return err
				}

				l, err := operands.OpenLayout(args[0])
				if err != nil {
					return err
				}
				defer l.Close()

				desc, err := addLayer(ctx, env, l, args[1:], Packing{packing, o})
				if err != nil {
					return err
				}

				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}

// A Packing says how a directory is packed, and how the layer is stored.
type Packing struct {
	Tree  pack.Options
	Layer image.LayerOptions
}

// IsTree reports whether a name is that of a directory, which is packed.
func IsTree(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir() && name != "-"
}

// AddTree stores a directory as a layer, and returns its descriptor, which carries the diff ID. After an
// error the layout is as before. With l nil nothing is stored.
func AddTree(ctx context.Context, env *cli.Env, l *layout.Layout, dir string, p Packing) (oci.Descriptor, error) {
	// The layout may lie in the directory. It is left out: it grows while it is read.
	if l != nil {
		if info, err := os.Stat(l.Name()); err == nil {
			p.Tree.Output = append(p.Tree.Output, info)
		}
	}

	w, err := image.NewLayerWriter(l, p.Layer)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer w.Abort()
	counted, done := env.Written(w, dir)
	if err := done(pack.Tar(ctx, counted, []pack.Source{{Path: behindLinks(dir)}}, p.Tree)); err != nil {
		return oci.Descriptor{}, commonflags.PackHint(err)
	}
	return w.Commit()
}

// addLayer stores the layer that args[0] names, a tar or a directory, or without args that on standard
// input.
func addLayer(ctx context.Context, env *cli.Env, l *layout.Layout, args []string, p Packing) (oci.Descriptor, error) {
	name := cli.FileOperand(args)
	if IsTree(name) {
		return AddTree(ctx, env, l, name, p)
	}

	in, err := env.Data(name)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer in.Close()

	// In a pipe the missing end of a tar may mean that its writer has died.
	o := p.Layer
	o.AllowNoEnd = name != "-"
	o.Notice = func(text string) { env.Notice("ocikit: %s: %s", cli.InputName(name), text) }
	desc, err := image.AddLayer(ctx, l, in, o)
	if err != nil {
		err = commonflags.TarHint(fmt.Errorf("%s: %w", cli.InputName(name), err))
	}

	return desc, err
}

// behindLinks returns the directory to which a link leads: its files are meant, not the link.
func behindLinks(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}
