package imagecmd

import (
	"context"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func convertCommand() cli.Command {
	return cli.Command{
		Name: "convert", Args: "IMAGE", Group: cli.GroupImage, Progress: true,
		Short: "write an image with another compression or other media types",
		Long: `Convert makes an image that holds what IMAGE does, in other bytes, and prints its descriptor: with
--compress the layers are compressed in another way, with --types the media types are those of OCI or
Docker. Of an index every image is converted, unless --platform names one; a layer that several have is
made once. Diff IDs, history, annotations and fields that ocikit does not know stay, so "ocikit diff"
finds no difference in content. IMAGE itself stays as it is.

Layers that are compressed in the way that is asked for stay byte for byte, unless --level asks for
another level. Of an eStargz layer the table of contents stays in the tar as a file; what is made eStargz
gets one, and so another diff ID. Foreign layers stay as they are. An attestation of an image that
has changed would be false: it is left out, with a notice. Docker's types have no name for zstd, and
readers refuse the mixture: that is an error before any work.

Digests change. On standard error stand the old and the new one of each image, and what goes on naming
the old ones: tags, signatures and other referrers, images that are built on them.`,
		Example: "ocikit convert app --compress zstd -t zstd\nocikit convert app --compress zstd --level 9 --dry-run",
		Status:  "1 if a layer is damaged, or the types have no name for its compression",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(convertFlags)
			f.edit = bindEditFlags(fs)
			f.compression = commonflags.BindCompression(fs, "keep (as they are)", "gzip", "zstd", "estargz", "none")

			// A level that was asked for is a reason to compress again what has the right compression,
			// the default is none. Only the flag itself knows whether it was given.
			f.level, _ = fs.Lookup("level").Value.(*cli.Optional)
			f.types = cli.Choice(fs, "types", "", "write the media types of `FAMILY`", "oci", "docker")
			return f.run
		},
	}
}

// convertFlags are the flags of convert.
type convertFlags struct {
	edit        *editFlags
	compression func() (image.LayerOptions, error)
	level       *cli.Optional
	types       *string
}

// run converts the layers, then the documents that name them.
func (f *convertFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	var o image.ConvertOptions
	var err error
	if o.Layer, err = f.compression(); err != nil {
		return err
	}

	o.Again, o.Dry = f.level.Given, *f.edit.dryRun
	if o.Family, err = parseTypes(*f.types, *f.edit.platform); err != nil {
		return err
	}

	if o.Layer.Compression == image.Keep && o.Family == nil {
		return cli.Usagef("nothing to convert to: want --compress or --types")
	}

	l, desc, opts, err := f.edit.open(args)
	if err != nil {
		return err
	}
	defer l.Close()

	env.Watch(l)

	// The converter makes the layers, each once. The edits below only look up what became of one.
	c, err := image.NewConverter(ctx, l, desc, opts.Platform, o)
	if image.IsDockerZstd(err) {
		return cli.WithHint(err, "--types oci writes the media types that have one")
	}
	if err != nil {
		return operands.IncompleteHint(l, editHint(err))
	}

	opts.Changes, opts.Family = []image.Change{c.Change}, o.Family
	if err := f.edit.reportDigests(env, l, desc, opts); err != nil {
		return err
	}

	return f.edit.run(ctx, env, l, desc, opts)
}

// parseTypes returns the family that --types names, or nil.
func parseTypes(types, platform string) (*oci.Family, error) {
	family := oci.FamilyOCI
	switch types {
	case "":
		return nil, nil
	case "docker":
		family = oci.FamilyDocker
	}
	if platform != "" {
		return nil, cli.Usagef("flags --types and --platform exclude each other: an index and its images have the types of one family")
	}
	return &family, nil
}

// reportDigests says which digests change, and what goes on naming the old ones.
func (e *editFlags) reportDigests(env *cli.Env, l *layout.Layout, desc oci.Descriptor, o image.EditOptions) error {
	plan, err := image.Edit(l, desc, o)
	if err != nil {
		return editHint(err)
	}
	return operands.ReportReplaced(env, l, plan, e.tag.Value)
}
