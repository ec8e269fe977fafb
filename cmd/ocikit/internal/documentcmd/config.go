package documentcmd

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
)

func configCommand() cli.Command {
	return cli.Command{
		Name: "config", Args: "[LAYOUT]", Group: cli.GroupDocument, Progress: true,
		Short: "make an image config for layers",
		Long: `Config makes the config of an image: how to run it, and the diff IDs of its layers. The layers
come from --layer, or as descriptors on standard input. With LAYOUT the config is stored, and its
descriptor is printed, followed by those of the layers, for "ocikit manifest"; standard input without
any descriptor is an error then, since the command in front has failed, unless it is /dev/null.
Without LAYOUT the JSON is printed.

--from starts from the config in a file, or from that of an image, whose layers then come first.
What no flag names stays as it was there, known to ocikit or not. Removing what is not there is an
error. The platform is linux/amd64 unless flags say otherwise, on every machine.`,
		Example: "ocikit config --layer layer.tar --env PATH=/bin --entrypoint '[\"/bin/hello\"]' -o config.json",
		Bind: func(fs *flag.FlagSet) cli.Action {
			c := &configuring{target: bindTarget(fs), flags: commonflags.BindConfig(fs), layers: commonflags.BindLayers(fs)}
			c.from = commonflags.BindFrom(fs)
			c.platform = commonflags.BindPlatform(fs)
			c.places = operands.BindPlaces(fs)
			c.places.Documents = true
			return c.checked(c.run)
		},
	}
}

// A configuring is a run of config: its flags.
type configuring struct {
	*target
	flags          *commonflags.Config
	layers         *[]string
	from, platform *string
	places         *operands.Places
}

// run makes the config, and stores or prints it.
func (c *configuring) run(ctx context.Context, env *cli.Env, args []string) error {
	b, err := newConfigBuild(ctx, env, c.flags, baseImage{c.places, *c.from, *c.platform})
	if err != nil {
		return err
	}

	if err := c.open(args); err != nil {
		return err
	}
	defer c.close()

	added, err := operands.LayerInputs(ctx, env, *c.layers)
	if err != nil {
		return err
	}

	if c.layout != nil && *c.from == "" && len(added) == 0 && emptyPipe(env) {
		return cli.WithHint(errors.New("standard input: no descriptor of a layer came: the command in front failed"),
			"a config without layers is made with </dev/null")
	}

	data, err := b.finish(added)
	if err != nil {
		return err
	}

	if c.layout == nil {
		return env.PutOut(*c.out, data)
	}

	desc, err := c.layout.PutDocumentWith(*c.algorithm, oci.MediaTypeConfig, data)
	if err != nil {
		return err
	}

	return oci.WriteDescriptors(env.Stdout, append([]oci.Descriptor{desc}, b.layers...)...)
}

// A configBuild is a config in the making: where it starts, and the edits to come.
type configBuild struct {
	config  *oci.Config
	layers  []oci.Descriptor // those of the base, then those added
	edits   []commonflags.Edit
	history oci.History
	created bool // the time was asked for
}

// newConfigBuild reads the flags, and the config that the new one begins with.
func newConfigBuild(ctx context.Context, env *cli.Env, flags *commonflags.Config, base baseImage) (*configBuild, error) {
	b := &configBuild{}
	created, asked, err := flags.CreatedTime(env)
	if err != nil {
		return nil, err
	}

	b.created = asked
	b.history = oci.History{Created: created, CreatedBy: cmp.Or(*flags.CreatedBy, "ocikit layer"), Comment: *flags.Comment, Author: flags.Author.Value}

	if b.edits, err = flags.Edits(ctx, env); err != nil {
		return nil, err
	}

	if base.name == "" {
		if base.platform != "" {
			return nil, cli.Usagef("--platform goes with --from")
		}

		// A new config tells when it was made. One that --from names keeps its time unless another
		// was asked for.
		b.config = oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"})
		b.created = true
		return b, nil
	}

	return b, b.start(ctx, env, base)
}

// A baseImage is what --from names.
type baseImage struct {
	places         *operands.Places
	name, platform string
}

// start reads the config that --from names: that of an image, or a file.
func (b *configBuild) start(ctx context.Context, env *cli.Env, base baseImage) error {
	n, err := oci.ParseImageName(base.name)
	if err != nil {
		return cli.Usagef("flag --from: %v", err)
	}

	// A directory can only be a layout, or hold the parts of an archive. Other operands are images if they
	// look like one, else files with a config.
	info, err := os.Stat(n.Dir)
	isImage := err == nil && info.IsDir() || operands.IsImage(base.name)
	if isImage || operands.HoldsImages(ctx, env, base.name) {
		l, desc, err := base.places.Manifest(ctx, env, base.name, base.platform)
		if err != nil {
			return err
		}
		defer l.Close()
		m, err := graph.Manifest(l, desc)
		if err != nil {
			return err
		}
		if b.config, err = graph.Config(l, m.Config); err != nil {
			return err
		}
		b.layers, err = image.Layers(l, desc)
		return err
	}

	data, err := env.Document(base.name)
	if err != nil {
		return err
	}

	if b.config, err = oci.ParseConfig(data); err != nil {
		return fmt.Errorf("%s: %w", cli.InputName(base.name), err)
	}

	return nil
}

// finish adds layers, applies the edits and returns the document.
func (b *configBuild) finish(layers []oci.Descriptor) ([]byte, error) {
	for _, d := range layers {
		id, ok := d.DiffID()
		if !ok && d.MediaType == oci.MediaTypeLayer {
			id, ok = d.Digest, true // what is not compressed is its own diff ID
		}
		if !ok {
			err := fmt.Errorf("layer %s, %q: %w", d.Digest, d.MediaType, oci.ErrNoDiffID)
			return nil, cli.WithHint(err, "take the descriptor from `ocikit layer` or `ocikit layers`, or name the file with --layer")
		}
		if err := b.config.AddLayer(id, b.history); err != nil {
			return nil, err
		}
	}

	b.layers = append(b.layers, layers...)
	if b.created {
		b.config.Set("created", b.history.Created)
	}

	for _, e := range b.edits {
		if err := e(b.config); err != nil {
			return nil, err
		}
	}

	return b.config.Encode()
}
