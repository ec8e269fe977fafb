package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
)

func digestCommand() Command {
	return Command{
		Name: "digest", Args: "[FILE...]", Group: groupLayer, Progress: true,
		Short: "print the digest of bytes, or their descriptor",
		Long: `Digest prints the digest of FILE, or of standard input; of several files, each with its name
behind it. --check compares: status 0 and no output if the digest is right, 1 if not.

--descriptor prints a descriptor instead: one line of JSON with digest, size and media type. The
type of a manifest, index, config or layer is found by its content.`,
		Example: "printf hello | ocikit digest",
		Status:  "1 if the bytes do not have the digest that --check wants",
		Bind: func(fs *flag.FlagSet) Action {
			algorithm := fs.String("algorithm", "sha256", "hash with `name`: sha256 or sha512")
			check := fs.String("check", "", "fail unless the bytes have this `digest`")
			descriptor := fs.Bool("descriptor", false, "print a descriptor")
			mediaType := fs.String("media-type", "", "media `type` of the descriptor")
			return func(ctx context.Context, env *Env, args []string) error {
				alg := digest.Algorithm(*algorithm)
				var want digest.Digest
				if *check != "" {
					var err error
					if want, err = parseDigest("check", *check); err != nil {
						return err
					}
					alg = want.Algorithm()
				}
				if !alg.Available() {
					return usagef("algorithm %q: want sha256 or sha512", string(alg))
				}
				if *mediaType != "" && !*descriptor {
					return usagef("--media-type goes with --descriptor")
				}
				return eachInput(env, args, func(name string, r io.Reader) error {
					desc, err := describe(ctx, alg, r, *mediaType)
					switch {
					case err != nil:
						return err
					case !want.IsZero() && desc.Digest != want:
						return fmt.Errorf("%s: got %s, want %s: %w", inputName(name), desc.Digest, want, digest.ErrMismatch)
					case *descriptor:
						return oci.WriteDescriptors(env.Stdout, desc)
					case !want.IsZero():
						return nil
					}
					return printDigest(env, desc.Digest, name, len(args))
				})
			}
		},
	}
}

func parseDigest(flagName, s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return d, usagef("flag %s: %v", dashed(flagName), err)
	}
	return d, nil
}

// printDigest prints a digest on a line, with the name of the file if there are several.
func printDigest(env *Env, d digest.Digest, name string, operands int) error {
	line := d.String()
	if operands > 1 {
		line += " " + printable(name)
	}
	_, err := fmt.Fprintln(env.Stdout, line)
	return err
}

// eachInput runs do on each operand, or on standard input if there is none.
func eachInput(env *Env, args []string, do func(name string, r io.Reader) error) error {
	if len(args) == 0 {
		args = []string{"-"}
	}
	for _, name := range args {
		in, err := env.data(name)
		if err != nil {
			return err
		}
		err = do(name, in)
		in.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// describe reads r to its end and returns the descriptor of its bytes. If mediaType is "",
// it is found by the content.
func describe(ctx context.Context, alg digest.Algorithm, r io.Reader, mediaType string) (oci.Descriptor, error) {
	h := digest.NewHasher(alg)
	s := sniffer{}
	if _, err := copyTo(ctx, io.MultiWriter(h, &s), r); err != nil {
		return oci.Descriptor{}, err
	}
	if mediaType == "" {
		mediaType = s.mediaType()
	}
	return oci.Descriptor{MediaType: mediaType, Digest: h.Digest(), Size: h.Size()}, nil
}
