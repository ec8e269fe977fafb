package main

import (
	"context"
	"errors"
	"flag"

	"ocikit/oci"
	"ocikit/oci/layout"
)

func untagCommand() Command {
	return Command{
		Name: "untag", Args: "IMAGE", Group: groupLayout,
		Short: "remove a name from a layout",
		Long: `Untag removes the name that IMAGE holds, as DIR:TAG. The blobs stay. With --expect, or with
DIR:TAG@DIGEST, it is removed only if it means that digest.`,
		Example: "ocikit resolve app | ocikit tag app:old\nocikit untag app:old",
		Status:  "1 if the name does not mean what --expect says, 4 if there is no such name",
		Bind: func(fs *flag.FlagSet) Action {
			expect := fs.String("expect", "", "remove the name only if it has this `digest`")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want one", len(args))
				}
				n, err := oci.ParseImageName(args[0])
				if err != nil || n.Tag == "" {
					return usagef("%q: want DIR:TAG", args[0])
				}
				want, err := expectation(*expect)
				if err != nil {
					return err
				}
				if !n.Digest.IsZero() {
					want = layout.Expect(n.Digest)
				}
				l, err := openDir(n.Dir)
				if err != nil {
					return err
				}
				defer l.Close()
				err = l.Untag(ctx, n.Tag, want)
				if errors.Is(err, layout.ErrNotFound) {
					err = withHint(err, "`ocikit ls %s` lists the names", n.Dir)
				}
				return err
			}
		},
	}
}
