package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

func layerCommand() Command {
	return Command{
		Name: "layer", Args: "LAYOUT [TAR|DIR]", Group: groupLayer, Progress: true,
		Short: "store a tar as a layer and print its descriptor",
		Long: `Layer reads a tar from a file or from standard input, stores it as a blob in LAYOUT, and
prints its descriptor with its diff ID. It is one pass: the tar is checked, hashed, compressed,
hashed and stored while it is read. A tar that ends early is an error, so that the failure of the
command in front of the pipe is not taken for an end.

Input that is compressed already is kept byte for byte. With --compress estargz it becomes a
gzip layer of which a snapshotter can fetch single files; a table of contents is added to the tar, and
its digest is an annotation of the descriptor. A directory is packed first, as "ocikit
tar DIR" does, with the same flags.`,
		Example: "ocikit init app\nocikit tar ./rootfs | ocikit layer app",
		Status:  "1 if the tar is malformed or ends early; the layout is then as it was",
		Bind: func(fs *flag.FlagSet) Action {
			bind := packFlags(fs)
			compress := fs.String("compress", "gzip", "store the layer as `how`: gzip, none, estargz, or keep what comes")
			level := levelFlag(fs)
			workers := workersFlag(fs)
			annotations := list(fs, "annotation", "a", "set the annotation `key=value` of the descriptor (repeatable)")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) < 1 || len(args) > 2 {
					return usagef("%d operands, want LAYOUT and at most one more", len(args))
				}
				o := image.LayerOptions{Compression: image.Compression(*compress), Level: *level, Workers: *workers}
				var err error
				if o.Annotations, err = keyValues("annotation", *annotations); err != nil {
					return err
				}
				if !slices.Contains([]image.Compression{image.Gzip, image.None, image.Estargz, image.Keep}, o.Compression) {
					return usagef("flag --compress: %q: want gzip, none, estargz or keep", *compress)
				}
				if err := checkLevel(*level); err != nil {
					return err
				}
				pack, err := bind(env)
				if err != nil {
					return err
				}
				l, err := openLayout(args[0])
				if err != nil {
					return err
				}
				defer l.Close()
				desc, err := addLayer(ctx, env, l, args[1:], pack, o)
				if err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}

// addLayer stores the layer that the operand holds: a tar, a directory, or standard input.
func addLayer(ctx context.Context, env *Env, l *layout.Layout, args []string, pack tarutil.PackOptions, o image.LayerOptions) (oci.Descriptor, error) {
	name, err := oneOperand(args)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() && name != "-" {
		w, err := image.NewLayerWriter(l, o)
		if err != nil {
			return oci.Descriptor{}, err
		}
		defer w.Abort()
		counted, done := env.written(w, name)
		if err := done(tarutil.Pack(ctx, counted, []tarutil.Source{{Path: name}}, pack)); err != nil {
			return oci.Descriptor{}, packHint(err)
		}
		return w.Commit()
	}
	in, err := env.data(name)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer in.Close()
	desc, err := image.AddLayer(ctx, l, in, o)
	if err != nil {
		err = fmt.Errorf("%s: %w", inputName(name), err)
	}
	return desc, err
}

// keyValues reads the values of a repeatable flag that are KEY=VALUE.
func keyValues(flagName string, pairs []string) (map[string]string, error) {
	var m map[string]string
	for _, p := range pairs {
		k, v, err := keyValue(flagName, p)
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = map[string]string{}
		}
		m[k] = v
	}
	return m, nil
}
