package main

import (
	"context"
	"flag"

	"ocikit/oci"
	"ocikit/oci/image"
)

func layersCommand() Command {
	return Command{
		Name: "layers", Args: "IMAGE", Group: groupLayout,
		Short: "print the descriptors of an image's layers",
		Long: `Layers prints the descriptors of the layers, the lowest first, each with its diff ID from the
config: what "ocikit config" reads. --platform picks from an index.

To compress the layers of an image in another way, take each apart and put all together with the
config as it is, which does not change. A pipe through zstd in place of --compress none makes layers
that are kept as zstd writes them:

    { ocikit cat app | jq -c .config
      for d in $(ocikit layers app | jq -r .digest); do
          ocikit cat app@$d --decompress | ocikit layer app --compress none
      done; } | ocikit manifest app | ocikit tag app:plain`,
		Example: "ocikit layers app",
		Bind: func(fs *flag.FlagSet) Action {
			platform := fs.String("platform", "", "take the manifest for this `platform` of an index")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want one", len(args))
				}
				l, desc, err := openManifest(args[0], *platform)
				if err != nil {
					return err
				}
				defer l.Close()
				layers, err := image.Layers(l, desc)
				if err != nil {
					return incompleteHint(l, err)
				}
				return oci.WriteDescriptors(env.Stdout, layers...)
			}
		},
	}
}
