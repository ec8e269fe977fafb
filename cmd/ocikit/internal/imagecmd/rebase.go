package imagecmd

import (
	"context"
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/image"
)

func rebaseCommand() cli.Command {
	return cli.Command{
		Name: "rebase", Args: "IMAGE", Group: cli.GroupImage, Progress: true,
		Short: "put an image on another base",
		Long: `Rebase makes an image in which the layers of --new-base stand in the place of those of
--old-base, and prints its descriptor. The layers of the old base must be the lowest ones of IMAGE, by
their digests or diff IDs; else the first that differs is named. The history follows the layers. The
config of IMAGE stays unless --config says otherwise, but for the version of Windows, which is that of
the layers. With --dry-run layers are read, and it is named which go, stay and come, and which files
lose their ground: those that IMAGE deletes or replaces in the old base, and the new one has not.

If the layers that stay have 8 MiB at most, they are read for hard links to files of the base, which no
builder writes: where one leads to nothing in the new base, no image is made.

Without --old-base or --new-base the annotations org.opencontainers.image.base.digest and base.name
of IMAGE count, which "ocikit append" writes: they name images in the same layout. Bases may be in
other layouts; what IMAGE's lacks is copied then. Of an index every image is put on the image of the
new base for its platform.`,
		Example: "ocikit append app --layer ./rootfs -t child\nocikit tar --whiteout etc/motd | ocikit append app --layer - -t base2\nocikit rebase app:child --old-base app:latest --new-base app:base2 -t child",
		Status:  "1 if IMAGE is not built on the old base",
		Bind: func(fs *flag.FlagSet) cli.Action {
			e := bindEditFlags(fs)
			oldBase := fs.String("old-base", "", "take `IMAGE` for what the operand is built on")
			newBase := fs.String("new-base", "", "put `IMAGE` in the place of the old base")
			config := cli.Choice(fs, "config", "keep", "take the config of `WHICH`",
				"keep (of IMAGE)", "new-base", "merge (what IMAGE took over from the old base follows the new one)")
			return func(ctx context.Context, env *cli.Env, args []string) (err error) {
				l, desc, o, err := e.open(args)
				if err != nil {
					return err
				}
				defer l.Close()

				opts := image.RebaseOptions{Layout: l, Config: image.ConfigRule(*config), Explain: *e.dryRun}
				if opts.OldBase, err = openBase("old-base", *oldBase); err != nil {
					return err
				}
				defer closeBase(opts.OldBase)

				if opts.NewBase, err = openBase("new-base", *newBase); err != nil {
					return err
				}
				defer closeBase(opts.NewBase)

				opts.NewName = image.ReferenceOf(opts.NewBase.Desc)
				o.Changes = []image.Change{image.Rebase(ctx, opts)}
				e.more = opts.NewBase.Source
				return e.run(ctx, env, l, desc, o)
			}
		},
	}
}

// openBase opens the image that a flag names. Without one its Source is nil: annotations of IMAGE
// then name the base.
func openBase(flagName, operand string) (image.Base, error) {
	if operand == "" {
		return image.Base{}, nil
	}
	if _, err := oci.ParseImageName(operand); err != nil {
		return image.Base{}, cli.Usagef("flag --%s: %v", flagName, err)
	}
	l, desc, err := operands.OpenImage(operand)
	if err != nil {
		return image.Base{}, fmt.Errorf("--%s: %w", flagName, err)
	}
	return image.Base{Source: l, Desc: desc}, nil
}

// closeBase closes what openBase opened, if anything.
func closeBase(b image.Base) {
	if b.Source != nil {
		b.Source.Close()
	}
}
