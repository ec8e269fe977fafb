package imagecmd

import (
	"context"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci/image"
)

func flattenCommand() cli.Command {
	return cli.Command{
		Name: "flatten", Args: "IMAGE", Group: cli.GroupImage, Progress: true,
		Short: "merge the layers of an image into one",
		Long: `Flatten makes an image whose layers are merged into one that holds what a container would see,
and prints its descriptor. With --keep N the lowest N layers stay as they are, and those above become
one layer that does to them what they did together, deletions included. The history keeps its
entries, and gets one for the new layer. Of an index every image is flattened, unless --platform names
one.`,
		Example: "ocikit append app --layer ./rootfs -t child\nocikit flatten app:child -t flat",
		Bind: func(fs *flag.FlagSet) cli.Action {
			e := bindEditFlags(fs)
			h := bindHistoryFlags(fs, "ocikit flatten")
			from := fs.Int("keep", 0, "keep the lowest `N` layers as they are")
			cli.Alias(fs, "keep", "from")
			compression := commonflags.BindCompression(fs, "gzip", "zstd", "estargz", "none")
			return func(ctx context.Context, env *cli.Env, args []string) error {
				lo, err := compression()
				if err != nil {
					return err
				}

				if *from < 0 {
					return cli.Usagef("flag --from: it cannot be negative")
				}

				entry, created, err := h.history(env)
				if err != nil {
					return err
				}

				l, desc, o, err := e.open(args)
				if err != nil {
					return err
				}
				defer l.Close()

				o.Changes = []image.Change{image.Flatten(ctx, l, image.FlattenOptions{From: *from, Layer: lo, History: entry, Dry: *e.dryRun}), created}
				return e.run(ctx, env, l, desc, o)
			}
		},
	}
}
