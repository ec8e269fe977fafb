package layoutcmd

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
)

func lsCommand() cli.Command {
	return cli.Command{
		Name: "ls", Args: "LAYOUT|ARCHIVE|REF", Group: cli.GroupLayout,
		Short: "list the names in a layout, an archive or a repository",
		Long: `Ls prints a line for each entry of index.json: its tag, or the full name that containerd gave it,
or "@" and the digest if it has neither. Each may be put behind the layout's name, as in app:TAG and
app@DIGEST. With --digests the digest is a second field. With --json each line is the descriptor.
The index.json of a layout may have 64 MiB, over 300,000 entries, that of an archive 32 MiB.

An archive is a tar file of images, compressed or not, as "docker save", skopeo, podman or BuildKit write
it, or a directory of its parts; "-" is standard input. What is printed is what "ocikit load" makes of it.

Of a repository of a registry, HOST/REPO, the tags are printed. With --digests or --json the registry is
asked what each of them means.`,
		Example: "ocikit ls app\nocikit ls docker://localhost:5000/hello",
		Status:  "4 if there is no such layout, file or repository",
		Bind: func(fs *flag.FlagSet) cli.Action {
			digests := fs.Bool("digests", false, "print the digest behind the name")
			asJSON := cli.BindJSON(fs)
			places := operands.BindPlaces(fs)
			places.Documents = true
			return func(ctx context.Context, env *cli.Env, args []string) error {
				entries, listErr := places.List(ctx, env, args[0], *digests || *asJSON)
				if *asJSON {
					return errors.Join(oci.WriteDescriptors(env.Stdout, entries...), listErr)
				}
				for _, d := range entries {
					line := operands.NameOf(d)
					if *digests {
						line += " " + d.Digest.String()
					}
					if _, err := fmt.Fprintln(env.Stdout, line); err != nil {
						return err
					}
				}
				return listErr
			}
		},
	}
}
