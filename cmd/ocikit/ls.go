package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"ocikit/oci"
	"ocikit/oci/archive"
)

func lsCommand() Command {
	return Command{
		Name: "ls", Args: "LAYOUT|ARCHIVE", Group: groupLayout,
		Short: "list the names in a layout, or in an archive",
		Long: `Ls prints a line for each entry of index.json: its tag, or the full name that containerd gave it,
or "@" and the digest if it has neither. Each may be put behind the layout's name, as in app:TAG and
app@DIGEST. With --digests the digest is a second field. With --json each line is the descriptor.

An archive is a tar file of images, compressed or not, as "docker save", skopeo, podman or BuildKit write
it; "-" is standard input. Of one that only Docker reads the digest is that of the config, the image ID.`,
		Example: "ocikit ls app",
		Status:  "4 if there is no such layout or file",
		Bind: func(fs *flag.FlagSet) Action {
			digests := fs.Bool("digests", false, "print the digest behind the name")
			asJSON := fs.Bool("json", false, "print descriptors")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want LAYOUT or ARCHIVE", len(args))
				}
				entries, err := listEntries(ctx, env, args[0])
				if err != nil {
					return err
				}
				if *asJSON {
					return oci.WriteDescriptors(env.Stdout, entries...)
				}
				for _, d := range entries {
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

// listEntries returns the entries of a layout, or of an archive if the operand is a file.
func listEntries(ctx context.Context, env *Env, operand string) ([]oci.Descriptor, error) {
	if info, err := os.Stat(operand); operand == "-" || err == nil && !info.IsDir() {
		in, err := env.input(operand)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		entries, err := archive.Names(ctx, in)
		if err != nil {
			err = fmt.Errorf("%s: %w", inputName(operand), err)
		}
		return entries, err
	}
	l, err := openLayout(operand)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	x, err := l.Index()
	return x.Manifests, err
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
