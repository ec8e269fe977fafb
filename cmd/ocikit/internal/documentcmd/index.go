package documentcmd

import (
	"context"
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
from the descriptors or from --platform, given once for each manifest in the same order.

--from begins with an index that is there: --remove takes entries out of it, an image's attestations
with it, then --add, which takes an image of the same layout, and --manifest add others. Entries that
stay are as they were. On standard error stands what goes on naming the index that it was.`,
		Status:  "4 if there is nothing to --remove",
		Example: "ocikit mutate app:latest --arch arm64 -t arm64\nocikit resolve app:latest > images\nocikit resolve app:arm64 >> images\nocikit index app < images | ocikit tag app:multi\nocikit mutate app:latest --arch s390x -t s390x\nocikit index app --from app:multi --remove linux/arm64 --add app:s390x | ocikit tag app:multi",
		Bind: func(fs *flag.FlagSet) cli.Action {
			algorithm := commonflags.Algorithm(fs)
			manifests := cli.List(fs, "manifest", "", "take the manifest or descriptors in `INPUT` (repeatable)")
			platforms := cli.List(fs, "platform", "", "say that the manifest in the same place is for `PLATFORM` (repeatable)")
			annotations := commonflags.BindAnnotations(fs)
			edit := bindIndexEdit(fs)
			out := commonflags.BindOutput(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				if len(args) == 1 && *out != "" {
					return cli.Usagef("-o goes without LAYOUT")
				}

				pairs, err := cli.KeyValues("annotation", *annotations)
				if err != nil {
					return err
				}

				if err := edit.parse(len(args) == 1); err != nil {
					return err
				}

				wishes := make([]*oci.Platform, len(*platforms))
				for i, p := range *platforms {
					if wishes[i], err = operands.ParsePlatformFlag(p); err != nil {
						return err
					}
				}

				var l *layout.Layout
				if len(args) == 1 {
					if l, err = operands.OpenLayout(args[0]); err != nil {
						return err
					}
					defer l.Close()
				}

				// With --from or --add alone, standard input is not read.
				var entries []oci.Descriptor
				if len(*manifests) > 0 || !edit.given() {
					if entries, err = indexInputs(ctx, env, *manifests); err != nil {
						return err
					}
				}

				if err := setPlatforms(l, entries, wishes); err != nil {
					return err
				}

				data, mediaType, err := edit.apply(env, l, entries, pairs)
				if err != nil {
					return err
				}

				if l == nil {
					return env.PutOut(*out, data)
				}

				// The index is checked before it is stored: a refused one leaves no blob behind.
				desc := oci.DescribeWith(*algorithm, mediaType, data)
				if err := graph.CheckRefs(l, desc, data, edit.rules); err != nil {
					return operands.IncompleteHint(l, err)
				}

				if desc, err = l.PutDocumentWith(*algorithm, desc.MediaType, data); err != nil {
					return err
				}

				if err := edit.report(env, l, desc); err != nil {
					return err
				}

				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
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
	}

	for _, in := range inputs {
		descs, _, err := operands.ReadInput(ctx, env, in, operands.DocumentInput)
		if err != nil {
			return nil, err
		}
		entries = append(entries, descs...)
	}

	for _, d := range entries {
		if !oci.IsManifest(d.MediaType) && !oci.IsIndex(d.MediaType) {
			return nil, fmt.Errorf("%s is of type %q, want a manifest or an index", d.Digest, d.MediaType)
		}
	}

	return entries, nil
}

// setPlatforms gives each manifest the platform that was asked for, or that its config says.
func setPlatforms(l *layout.Layout, entries []oci.Descriptor, wishes []*oci.Platform) error {
	if len(wishes) > 0 && len(wishes) != len(entries) {
		return cli.Usagef("%d times --platform for %d manifests", len(wishes), len(entries))
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
