package layoutcmd

import (
	"context"
	"errors"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/layout"
)

func untagCommand() cli.Command {
	return cli.Command{
		Name: "untag", Args: "IMAGE", Group: cli.GroupLayout,
		Short: "remove a name from a layout",
		Long: `Untag removes the name that IMAGE holds, as DIR:TAG. The blobs stay. With --expect, or with
DIR:TAG@DIGEST, it is removed only if it means that digest.`,
		Example: "ocikit resolve app | ocikit tag app:old\nocikit untag app:old",
		Status:  "1 if the name does not mean what --expect says, 4 if there is no such name",
		Bind: func(fs *flag.FlagSet) cli.Action {
			expect := fs.String("expect", "", "remove the name only if it has the digest `DIGEST`")
			return func(ctx context.Context, env *cli.Env, args []string) error {
				n, err := oci.ParseImageName(args[0])
				if err != nil || n.Tag == "" {
					return cli.Usagef("%q: want DIR:TAG", args[0])
				}

				want, err := expectation(*expect)
				if err != nil {
					return err
				}

				if !n.Digest.IsZero() {
					want = layout.Expect(n.Digest)
				}

				l, err := operands.OpenDir(n.Dir)
				if err != nil {
					return err
				}
				defer l.Close()

				err = l.Untag(ctx, n.Tag, want)
				if errors.Is(err, layout.ErrNotFound) {
					err = cli.WithHint(err, "`ocikit ls %s` lists the names", n.Dir)
				}

				return err
			}
		},
	}
}
