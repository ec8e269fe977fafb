package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/oci"
	"ocikit/tarutil"
)

func catCommand() Command {
	return Command{
		Name: "cat", Args: "IMAGE|LAYOUT@DIGEST", Group: groupLayout, Progress: true,
		Short: "print a blob, verified",
		Long: `Cat prints the manifest or index of an image, or any blob by its digest. The bytes are checked
while they are printed: if they are not what the digest names, the exit status is 1, and what was
printed must not be used. --decompress prints the tar inside a compressed layer.`,
		Example: "ocikit cat app",
		Status:  "1 if the bytes are not what the digest names, 4 if there are none",
		Bind: func(fs *flag.FlagSet) Action {
			decompress := fs.Bool("decompress", false, "print the uncompressed bytes")
			platform := fs.String("platform", "", "print the manifest for this `platform` of an index")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) > 1 {
					return &usageError{
						msg:  fmt.Sprintf("%d operands, want one", len(args)),
						hint: "`ocikit export IMAGE PATH | tar -xO` prints a file, `ocikit cat LAYOUT@DIGEST` a blob",
					}
				}
				if len(args) != 1 {
					return usagef("%d operands, want one", len(args))
				}
				blob, err := openBlob(env, args[0], *platform)
				if err != nil {
					return err
				}
				defer blob.Close()
				return env.toOutput(*out, false, func(w io.Writer) error {
					if !*decompress {
						_, err := copyTo(ctx, w, blob)
						return err
					}
					plain, _, err := tarutil.Decompress(blob)
					if err != nil {
						return err
					}
					if _, err := copyTo(ctx, w, plain); err != nil {
						return err
					}
					_, err = copyTo(ctx, io.Discard, blob) // the digest covers what is behind it
					return err
				})
			}
		},
	}
}

// openBlob opens what "cat" names: a blob by its digest alone, else the document of an image.
func openBlob(env *Env, operand, platform string) (io.ReadCloser, error) {
	l, n, err := openName(operand)
	if err != nil {
		return nil, err
	}
	var desc oci.Descriptor
	if n.Tag == "" && !n.Digest.IsZero() && platform == "" {
		desc.Digest = n.Digest
		desc.Size, err = l.Stat(n.Digest)
		defer l.Close()
	} else {
		l.Close()
		if l, desc, err = openMaybe(operand, platform); err == nil {
			defer l.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	env.watch(l)
	return l.Blob(desc)
}
