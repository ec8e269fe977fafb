package layoutcmd

import (
	"context"
	"errors"
	"flag"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
	"ocikit/tarutil"
)

func catCommand() cli.Command {
	return cli.Command{
		Name: "cat", Args: "IMAGE|LAYOUT@DIGEST", Group: cli.GroupLayout, Progress: true,
		Surplus: "`ocikit export IMAGE PATH | tar -xO` prints a file, `ocikit cat LAYOUT@DIGEST` a blob",
		Short:   "print a blob, verified",
		Long: `Cat prints the manifest or index of an image, or any blob by its digest. The bytes are checked
while they are printed: if they are not what the digest names, the exit status is 1, and what was
printed must not be used. --config prints the config of an image, --decompress prints the tar inside a compressed layer.`,
		Example: "ocikit cat app\nocikit cat app --config",
		Status:  "1 if the bytes are not what the digest names, 4 if there are none",
		Bind: func(fs *flag.FlagSet) cli.Action {
			config := fs.Bool("config", false, "print the config of the image")
			decompress := fs.Bool("decompress", false, "print the uncompressed bytes")
			platform := commonflags.BindPlatform(fs)
			out := commonflags.BindOutput(fs)
			places := operands.BindPlaces(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				blob, err := openBlob(ctx, env, catOperand{places, args[0], *platform, *config})
				if err != nil {
					return err
				}
				defer blob.Close()

				return env.ToOutput(*out, false, func(w io.Writer) error {
					if !*decompress {
						_, err := oci.CopyUntil(ctx, w, blob)
						return err
					}
					plain, _, err := tarutil.Decompress(blob)
					if err != nil {
						return err
					}
					if _, err := oci.CopyUntil(ctx, w, plain); err != nil {
						return err
					}

					// The digest covers what stands behind the compressed bytes as well.
					_, err = oci.CopyUntil(ctx, io.Discard, blob)
					return err
				})
			}
		},
	}
}

// openBlob opens what "cat" names: a blob by its digest alone, else the document of an image.
func openBlob(ctx context.Context, env *cli.Env, c catOperand) (io.ReadCloser, error) {
	if c.config {
		return openConfig(ctx, env, c)
	}

	places, operand, platform := c.places, c.name, c.platform
	src, n, err := places.Open(ctx, env, operand)
	if err != nil {
		return nil, err
	}

	// A digest alone may name any blob. A name, or a platform to choose, leads to a document.
	desc := oci.Descriptor{Digest: n.Digest}
	if n.Tag == "" && !n.Digest.IsZero() && platform == "" {
		desc.Size, err = src.Stat(n.Digest)
	} else {
		desc, err = operands.Find(env, src, n, operand, platform)
	}
	if err != nil {
		src.Close()
		return nil, err
	}

	env.Watch(src)
	blob, err := src.Blob(desc)
	if err != nil {
		src.Close()
		return nil, err
	}

	return &sourceBlob{blob, src}, nil
}

// openConfig opens the config of an image.
func openConfig(ctx context.Context, env *cli.Env, c catOperand) (io.ReadCloser, error) {
	src, desc, err := c.places.Manifest(ctx, env, c.name, c.platform)
	if err != nil {
		return nil, err
	}
	m, err := graph.Manifest(src, desc)
	if err == nil {
		var blob io.ReadCloser
		if blob, err = src.Blob(m.Config); err == nil {
			return &sourceBlob{blob, src}, nil
		}
	}
	src.Close()
	return nil, err
}

// A catOperand is what to print.
type catOperand struct {
	places         *operands.Places
	name, platform string
	config         bool // its config
}

// A sourceBlob closes its source along with the blob, which may be read from the open file of an
// archive.
type sourceBlob struct {
	io.ReadCloser
	src source.Source
}

func (b *sourceBlob) Close() error { return errors.Join(b.ReadCloser.Close(), b.src.Close()) }
