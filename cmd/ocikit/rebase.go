package main

import (
	"context"
	"flag"
	"fmt"
	"slices"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func rebaseCommand() Command {
	return Command{
		Name: "rebase", Args: "IMAGE", Group: groupImage, Progress: true,
		Short: "put an image on another base",
		Long: `Rebase makes an image in which the layers of --new-base stand in the place of those of
--old-base, and prints its descriptor. The layers of the old base must be the lowest ones of IMAGE, by
their digests or diff IDs; else the first that differs is named. The history follows the layers. The
config of IMAGE stays unless --config says otherwise. No layer is read.

Without --old-base or --new-base the annotations org.opencontainers.image.base.digest and base.name
of IMAGE count, which "ocikit append" writes: they name images in the same layout. Bases may be in
other layouts; what IMAGE's lacks is copied then. Of an index every image is put on the image of the
new base for its platform.`,
		Example: "ocikit append app --layer ./rootfs -t child\nocikit mutate app --label release=2 -t base2\nocikit rebase app:child --old-base app:latest --new-base app:base2 -t child",
		Status:  "1 if IMAGE is not built on the old base",
		Bind: func(fs *flag.FlagSet) Action {
			e := bindEditFlags(fs)
			oldBase := fs.String("old-base", "", "the `image` that IMAGE is built on")
			newBase := fs.String("new-base", "", "the `image` to put in its place")
			config := fs.String("config", "keep", "`which` config: keep that of IMAGE, new-base, or merge: what IMAGE took over follows the new base")
			return func(ctx context.Context, env *Env, args []string) (err error) {
				rule := image.ConfigRule(*config)
				if !slices.Contains([]image.ConfigRule{image.ConfigKeep, image.ConfigBase, image.ConfigMerge}, rule) {
					return usagef("flag --config: %q: want keep, new-base or merge", *config)
				}
				l, desc, o, err := e.open(args)
				if err != nil {
					return err
				}
				defer l.Close()
				opts := image.RebaseOptions{Layout: l, Config: rule}
				if opts.OldBase, err = openBase("old-base", *oldBase); err != nil {
					return err
				}
				defer closeBase(opts.OldBase)
				if opts.NewBase, err = openBase("new-base", *newBase); err != nil {
					return err
				}
				defer closeBase(opts.NewBase)
				opts.NewName = image.ReferenceOf(opts.NewBase.Desc)
				o.Changes = []image.Change{image.Rebase(opts)}
				return e.run(ctx, env, l, opts.NewBase.Layout, desc, o)
			}
		},
	}
}

// openBase opens the image that a flag names; none if it names none.
func openBase(flagName, operand string) (image.Source, error) {
	if operand == "" {
		return image.Source{}, nil
	}
	if _, err := oci.ParseImageName(operand); err != nil {
		return image.Source{}, usagef("flag --%s: %v", flagName, err)
	}
	l, desc, err := openImage(operand)
	if err != nil {
		return image.Source{}, fmt.Errorf("--%s: %w", flagName, err)
	}
	return image.Source{Layout: l, Desc: desc}, nil
}

func closeBase(s image.Source) {
	if s.Layout != (*layout.Layout)(nil) {
		s.Layout.Close()
	}
}
