package main

import (
	"context"
	"flag"
	"fmt"

	"ocikit/oci"
)

func lsCommand() Command {
	return Command{
		Name: "ls", Args: "LAYOUT", Group: groupLayout, Files: "dirs",
		Short: "list the names in a layout",
		Long: `Ls prints a line for each entry of index.json: its tag, or "@" and the digest if it has none.
Either may be put behind the layout's name, as in app:TAG and app@DIGEST. With --digests the digest
is a second field. With --json each line is the descriptor.`,
		Example: "ocikit ls app",
		Bind: func(fs *flag.FlagSet) Action {
			digests := fs.Bool("digests", false, "print the digest behind the name")
			asJSON := fs.Bool("json", false, "print descriptors")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want LAYOUT", len(args))
				}
				l, err := openLayout(args[0])
				if err != nil {
					return err
				}
				defer l.Close()
				x, err := l.Index()
				if err != nil {
					return err
				}
				if *asJSON {
					return oci.WriteDescriptors(env.Stdout, x.Manifests...)
				}
				for _, d := range x.Manifests {
					line := nameOf(d)
					if *digests {
						line += " " + d.Digest.String()
					}
					if _, err := fmt.Fprintln(env.Stdout, line); err != nil {
						return err
					}
				}
				return nil
			}
		},
	}
}

// nameOf returns what an entry of index.json is called: its tag, else its full name, else
// "@" and its digest.
func nameOf(d oci.Descriptor) string {
	for _, key := range []string{oci.AnnotationRefName, oci.AnnotationImageName} {
		if name := d.Annotations[key]; name != "" {
			return printable(name)
		}
	}
	return "@" + d.Digest.String()
}
