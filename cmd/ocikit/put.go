package main

import (
	"context"
	"flag"
	"io"

	"ocikit/digest"
	"ocikit/oci"
)

func putCommand() Command {
	return Command{
		Name: "put", Args: "LAYOUT [FILE]", Group: groupLayout, Progress: true,
		Short: "store a blob and print its descriptor",
		Long: `Put stores FILE, or standard input, as a blob in LAYOUT, byte for byte, and prints its
descriptor. The media type is found by the content unless --media-type gives it. It names nothing:
"ocikit tag" does.`,
		Example: "ocikit init app\necho '{}' | ocikit put app --media-type application/json",
		Bind: func(fs *flag.FlagSet) Action {
			mediaType := fs.String("media-type", "", "media `type` of the descriptor")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) < 1 || len(args) > 2 {
					return usagef("%d operands, want LAYOUT and at most one FILE", len(args))
				}
				name, err := oneOperand(args[1:])
				if err != nil {
					return err
				}
				l, err := openLayout(args[0])
				if err != nil {
					return err
				}
				defer l.Close()
				in, err := env.data(name)
				if err != nil {
					return err
				}
				defer in.Close()
				w, err := l.NewWriter()
				if err != nil {
					return err
				}
				defer w.Abort()
				var s sniffer
				if _, err := copyTo(ctx, io.MultiWriter(w, &s), in); err != nil {
					return err
				}
				desc := oci.Descriptor{MediaType: *mediaType}
				if desc.MediaType == "" {
					desc.MediaType = s.mediaType()
				}
				if desc.Digest, desc.Size, err = w.Commit(digest.Digest{}); err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}
