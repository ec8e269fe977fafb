package main

import (
	"context"
	"flag"
	"slices"

	"ocikit/oci/image"
)

func flattenCommand() Command {
	return Command{
		Name: "flatten", Args: "IMAGE", Group: groupImage, Progress: true,
		Short: "merge the layers of an image into one",
		Long: `Flatten makes an image whose layers are merged into one that holds what a container would see,
and prints its descriptor. With --from N the lowest N layers stay as they are, and those above become
one layer that does to them what they did together, deletions included. The history keeps its
entries, and gets one for the new layer. Of an index every image is flattened, unless --platform names
one.`,
		Example: "ocikit append app --layer ./rootfs -t child\nocikit flatten app:child -t flat",
		Bind: func(fs *flag.FlagSet) Action {
			e := bindEditFlags(fs)
			h := bindHistoryFlags(fs, "ocikit flatten")
			from := fs.Int("from", 0, "leave the lowest `n` layers as they are")
			compress := fs.String("compress", "gzip", "store the layer as `how`: gzip, none or estargz")
			level := levelFlag(fs)
			workers := workersFlag(fs)
			return func(ctx context.Context, env *Env, args []string) error {
				lo := image.LayerOptions{Compression: image.Compression(*compress), Level: *level, Workers: *workers}
				if !slices.Contains([]image.Compression{image.Gzip, image.None, image.Estargz}, lo.Compression) {
					return usagef("flag --compress: %q: want gzip, none or estargz", *compress)
				}
				if err := checkLevel(*level); err != nil {
					return err
				}
				if *from < 0 {
					return usagef("flag --from: it cannot be negative")
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
				return e.run(ctx, env, l, nil, desc, o)
			}
		},
	}
}
