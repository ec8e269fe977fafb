package documentcmd

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

func indexCommand() cli.Command {
	return cli.Command{
		Name: "index", Args: "[LAYOUT]", Group: cli.GroupDocument,
		Surplus: "`ocikit resolve IMAGE` prints the descriptors of images, to pipe in here",
		Short:   "make an image index of manifests, one for each platform",
		Long: `Index joins manifests to one image for several platforms. They come as descriptors on
standard input, or from --manifest. With LAYOUT the platform of each is read from its config, the
index is stored and its descriptor printed. Without LAYOUT the JSON is printed, and platforms come
from the descriptors or from --for, given once for each manifest in the same order. Standard input
without any descriptor is an error, since the command in front has failed, unless it is /dev/null.
What comes twice is named once; two images for one platform are an error.

--from begins with an index that is there: --remove takes entries out of it, an image's attestations
with it, then --add, which takes an image of the same layout, and --manifest add others. Entries that
stay are as they were. On standard error stands what goes on naming the index that it was.`,
		Status:  "4 if there is nothing to --remove",
		Example: "ocikit mutate app:latest --arch arm64 -t arm64\nocikit resolve app:latest > images\nocikit resolve app:arm64 >> images\nocikit index app < images | ocikit tag app:multi\nocikit mutate app:latest --arch s390x -t s390x\nocikit index app --from app:multi --remove linux/arm64 --add app:s390x | ocikit tag app:multi",
		Bind: func(fs *flag.FlagSet) cli.Action {
			x := &indexing{target: bindTarget(fs)}
			x.manifests = cli.List(fs, "manifest", "", "take the manifest or descriptors in `INPUT` (repeatable)")
			x.platforms = cli.List(fs, "for", "", "say that the manifest in the same place is for `PLATFORM` (repeatable)")
			cli.Alias(fs, "for", "platform")
			x.annotations = commonflags.BindAnnotations(fs)
			x.edit = bindIndexEdit(fs)
			return x.checked(x.run)
		},
	}
}

// An indexing is a run of index: its flags.
type indexing struct {
	*target
	manifests, platforms, annotations *[]string
	edit                              *indexEdit
}

// run makes the index, and stores or prints it.
func (x *indexing) run(ctx context.Context, env *cli.Env, args []string) error {
	pairs, err := cli.KeyValues("annotation", *x.annotations)
	if err != nil {
		return err
	}

	if err := x.edit.parse(len(args) == 1); err != nil {
		return err
	}

	wishes := make([]*oci.Platform, len(*x.platforms))
	for i, p := range *x.platforms {
		if wishes[i], err = operands.ParsePlatformFlag(p); err != nil {
			return err
		}
	}

	if err := x.open(args); err != nil {
		return err
	}
	defer x.close()

	// With --from or --add alone, standard input is not read.
	var entries []oci.Descriptor
	if len(*x.manifests) > 0 || !x.edit.given() {
		if entries, err = indexInputs(ctx, env, *x.manifests); err != nil {
			return err
		}
	}

	if err := setPlatforms(x.layout, entries, wishes); err != nil {
		return err
	}

	data, mediaType, err := x.edit.apply(env, x.layout, entries, pairs)
	if err != nil {
		return err
	}

	if x.layout == nil {
		return env.PutOut(*x.out, data)
	}

	desc, err := x.put(mediaType, data, x.edit.rules)
	if err != nil {
		return err
	}

	if err := x.edit.report(env, x.layout, desc); err != nil {
		return err
	}

	return oci.WriteDescriptors(env.Stdout, desc)
}

// indexInputs reads the descriptors of manifests and indexes from the inputs, or from standard
// input if there are none.
func indexInputs(ctx context.Context, env *cli.Env, inputs []string) ([]oci.Descriptor, error) {
	var entries []oci.Descriptor
	if len(inputs) == 0 {
		var err error
		if entries, err = operands.ReadStream(env); err != nil {
			return nil, err
		}

		if len(entries) == 0 && emptyPipe(env) {
			return nil, cli.WithHint(errors.New("standard input: no descriptor of a manifest came: the command in front failed"),
				"an index of nothing is made with </dev/null")
		}
	}

	for _, in := range inputs {
		descs, _, err := operands.ReadInput(ctx, env, in, operands.DocumentInput)
		if err != nil {
			return nil, err
		}
		entries = append(entries, descs...)
	}

	for _, d := range entries {
		if !oci.IsDocument(d.MediaType) {
			return nil, fmt.Errorf("%s is of type %q, want a manifest or an index", d.Digest, d.MediaType)
		}
	}

	return entries, nil
}

// setPlatforms gives each manifest the platform that was asked for, or that its config says.
func setPlatforms(l *layout.Layout, entries []oci.Descriptor, wishes []*oci.Platform) error {
	if len(wishes) > 0 && len(wishes) != len(entries) {
		return cli.Usagef("%d platforms for %d manifests: give --for once for each, in the same order", len(wishes), len(entries))
	}

	for i, d := range entries {
		switch {
		case len(wishes) > 0:
			entries[i].Platform = wishes[i]
		case l != nil && oci.IsManifest(d.MediaType):
			p, err := graph.PlatformOf(l, d)
			if err != nil {
				return operands.IncompleteHint(l, err)
			}
			entries[i].Platform = p
		}
	}

	return nil
}
