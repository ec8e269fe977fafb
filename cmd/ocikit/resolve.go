package main

import (
	"context"
	"flag"

	"ocikit/oci"
)

func resolveCommand() Command {
	return Command{
		Name: "resolve", Args: "IMAGE", Group: groupLayout,
		Short: "print the descriptor that a name means",
		Long: `Resolve prints the descriptor of an image: one line of JSON. TAG@DIGEST asserts that the tag
has that digest. --platform picks from an index.`,
		Example: "ocikit resolve app:latest",
		Status:  "1 if a tag does not have the digest that was asserted, 4 if there is no such name",
		Bind: func(fs *flag.FlagSet) Action {
			platform := fs.String("platform", "", "print the manifest for this `platform` of an index")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want one", len(args))
				}
				l, desc, err := openMaybe(args[0], *platform)
				if err != nil {
					return err
				}
				defer l.Close()
				return oci.WriteDescriptors(env.Stdout, unnamed(desc))
			}
		},
	}
}

// unnamed returns a descriptor without the names that index.json gave it: they belong to the
// entry, not to the image.
func unnamed(d oci.Descriptor) oci.Descriptor {
	return d.WithAnnotation(oci.AnnotationRefName, "").WithAnnotation(oci.AnnotationImageName, "")
}
