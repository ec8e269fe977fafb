package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func configCommand() Command {
	return Command{
		Name: "config", Args: "[LAYOUT]", Group: groupDocument, Progress: true,
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
		Bind: func(fs *flag.FlagSet) Action {
			flags := bindConfigFlags(fs)
			from := fs.String("from", "", "start from the config of `image`, or from a file")
			platform := fs.String("platform", "", "take the image for this `platform` from the index that --from names")
			layers := list(fs, "layer", "", "a layer or its descriptor, `input` (repeatable)")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) > 1 {
					return usagef("%d operands, want LAYOUT alone", len(args))
				}
				if len(args) == 1 && *out != "" {
					return usagef("-o goes without LAYOUT")
				}
				b, err := newConfigBuild(ctx, env, flags, *from, *platform)
				if err != nil {
					return err
				}
				var l *layout.Layout
				if len(args) == 1 {
					if l, err = openLayout(args[0]); err != nil {
						return err
					}
					defer l.Close()
				}
				added, err := layerInputs(ctx, env, *layers)
				if err != nil {
					return err
				}
				if l != nil && *from == "" && len(added) == 0 && !env.InTTY && !env.InNull {
					return withHint(errors.New("standard input: no descriptor of a layer came: the command in front failed"),
						"a config without layers is made with </dev/null")
				}
				data, err := b.finish(added)
				if err != nil {
					return err
				}
				if l == nil {
					return env.toOutput(*out, false, func(w io.Writer) error { return writeAll(w, data) })
				}
				desc, err := l.PutDocument(oci.MediaTypeConfig, data)
				if err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, append([]oci.Descriptor{desc}, b.layers...)...)
			}
		},
	}
}

func writeAll(w io.Writer, data []byte) error {
	_, err := w.Write(data)
	return err
}

// A configBuild is a config under way: where it starts, and the edits to come.
type configBuild struct {
	config  *oci.Config
	layers  []oci.Descriptor // those of the base, then those added
	edits   []edit
	history oci.History
	created bool // the time was asked for
}

func newConfigBuild(ctx context.Context, env *Env, flags *configFlags, from, platform string) (*configBuild, error) {
	b := &configBuild{}
	created, asked, err := flags.createdTime(env)
	if err != nil {
		return nil, err
	}
	b.created = asked
	b.history = oci.History{Created: created, CreatedBy: *flags.createdBy, Comment: *flags.comment, Author: flags.author.value}
	if b.history.CreatedBy == "" {
		b.history.CreatedBy = "ocikit layer"
	}
	if b.edits, err = flags.edits(ctx, env); err != nil {
		return nil, err
	}
	if from == "" {
		if platform != "" {
			return nil, usagef("--platform goes with --from")
		}
		b.config = oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"})
		b.created = true
		return b, nil
	}
	return b, b.start(env, from, platform)
}

// start reads the config that --from names: that of an image if it names a layout.
func (b *configBuild) start(env *Env, from, platform string) error {
	n, err := oci.ParseImageName(from)
	if err != nil {
		return usagef("flag --from: %v", err)
	}
	if info, err := os.Stat(n.Dir); err == nil && info.IsDir() {
		l, desc, err := openManifest(from, platform)
		if err != nil {
			return err
		}
		defer l.Close()
		m, err := image.ReadManifest(l, desc)
		if err != nil {
			return err
		}
		if b.config, err = image.ReadConfig(l, m.Config); err != nil {
			return err
		}
		b.layers, err = image.Layers(l, desc)
		return err
	}
	in, err := env.input(from)
	if err != nil {
		return err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, oci.MaxDocument+1))
	if err != nil {
		return err
	}
	if b.config, err = oci.ParseConfig(data); err != nil {
		return fmt.Errorf("%s: %w", inputName(from), err)
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
			return nil, withHint(err, "take the descriptor from `ocikit layer` or `ocikit layers`, or name the file with --layer")
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
