package layoutcmd

import (
	"cmp"
	"context"
	"flag"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/digest"
	"ocikit/oci"
)

func putCommand() cli.Command {
	return cli.Command{
		Name: "put", Args: "LAYOUT [FILE]", Group: cli.GroupLayout, Progress: true,
		Short: "store a blob and print its descriptor",
		Long: `Put stores FILE, or standard input, as a blob in LAYOUT, byte for byte, and prints its
descriptor. The media type is found by the content unless --media-type gives it. It names nothing:
"ocikit tag" does. The annotation org.opencontainers.image.title is the name of the file that the blob
of an artifact holds: "ocikit extract" writes it under that.`,
		Example: "ocikit init app\necho '{}' | ocikit put app --media-type application/json",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(putFlags)
			f.mediaType = commonflags.BindMediaType(fs, "media-type", "give the descriptor the media type `TYPE`")
			f.algorithm = commonflags.Algorithm(fs)
			f.annotations = commonflags.BindAnnotations(fs)
			return f.run
		},
	}
}

// putFlags are the flags of put.
type putFlags struct {
	mediaType   *string
	algorithm   *digest.Algorithm
	annotations *[]string
}

// run stores a blob and prints its descriptor.
func (f *putFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	name := cli.FileOperand(args[1:])
	pairs, err := cli.KeyValues("annotation", *f.annotations)
	if err != nil {
		return err
	}

	l, err := operands.OpenLayout(args[0])
	if err != nil {
		return err
	}
	defer l.Close()

	in, err := env.Data(name)
	if err != nil {
		return err
	}
	defer in.Close()

	w, err := l.NewWriterFor(*f.algorithm)
	if err != nil {
		return err
	}
	defer w.Abort()

	// The bytes pass once: the sniffer sees them while they are stored.
	var s operands.Sniffer
	if _, err := oci.CopyUntil(ctx, io.MultiWriter(w, &s), in); err != nil {
		return err
	}

	desc := oci.Descriptor{MediaType: cmp.Or(*f.mediaType, s.MediaType()), Annotations: oci.AnnotationsOf(pairs)}

	if desc.Digest, desc.Size, err = w.Commit(digest.Digest{}); err != nil {
		return err
	}

	return oci.WriteDescriptors(env.Stdout, desc)
}
