package layercmd

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
)

func digestCommand() cli.Command {
	return cli.Command{
		Name: "digest", Args: "[FILE...]", Group: cli.GroupLayer, Progress: true,
		Short: "print the digest of bytes, or their descriptor",
		Long: `Digest prints the digest of FILE, or of standard input; of several files, each with its name
behind it. --check compares: status 0 and no output if the digest is right, 1 if not. With --pass
the bytes go on to the next command once all of them are right, and none before:
"curl URL | ocikit digest --check DIGEST --pass | tar -x". Until then they are in a temporary file.

--descriptor prints a descriptor instead: one line of JSON with digest, size and media type. The
type of a manifest, index, config or layer is found by its content.`,
		Example: "printf hello | ocikit digest",
		Status:  "1 if the bytes do not have the digest that --check wants",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(digestFlags)
			f.algorithm = commonflags.Algorithm(fs)
			f.check = fs.String("check", "", "fail unless the bytes have the digest `DIGEST`")
			f.asJSON = cli.BindJSON(fs)
			f.pass = fs.Bool("pass", false, "write the bytes to standard output, if they have the digest that --check wants")
			f.descriptor = fs.Bool("descriptor", false, "print a descriptor")
			f.mediaType = commonflags.BindMediaType(fs, "media-type", "give the descriptor the media type `TYPE`")
			return f.run
		},
	}
}

// digestFlags are the flags of digest.
type digestFlags struct {
	algorithm  *digest.Algorithm
	check      *string
	asJSON     *bool
	pass       *bool
	descriptor *bool
	mediaType  *string
}

// run prints the digest or the descriptor of each input, or compares it.
func (f *digestFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	want, err := f.want()
	if err != nil {
		return err
	}

	// The digest to compare with says by which algorithm to hash.
	alg := *f.algorithm
	if !want.IsZero() {
		alg = want.Algorithm()
	}

	if *f.pass && (want.IsZero() || *f.descriptor || len(args) > 1) {
		return cli.Usagef("--pass goes with --check and one input, and without --descriptor")
	}

	if *f.mediaType != "" && !*f.descriptor {
		return cli.Usagef("--media-type goes with --descriptor")
	}

	return eachInput(env, args, func(name string, r io.Reader) error {
		if *f.pass {
			return passChecked(ctx, env, name, r, want)
		}

		desc, err := describe(ctx, alg, r, *f.mediaType)
		switch {
		case err != nil:
			return err
		case !want.IsZero() && desc.Digest != want:
			return mismatch(name, desc.Digest, want)
		case *f.descriptor:
			return oci.WriteDescriptors(env.Stdout, desc)
		case !want.IsZero():
			return nil
		}

		return printDigest(env, desc.Digest, name, len(args), *f.asJSON)
	})
}

// want returns the digest that --check wants, zero without the flag.
func (f *digestFlags) want() (digest.Digest, error) {
	if *f.check == "" {
		return digest.Digest{}, nil
	}
	want, err := operands.ParseDigest("check", *f.check)
	if err == nil && !want.Verifiable() {
		err = cli.Usagef("flag --check: a digest of %s cannot be verified: want sha256 or sha512", want.Algorithm())
	}
	return want, err
}

func mismatch(name string, got, want digest.Digest) error {
	return fmt.Errorf("%s: got %s, want %s: %w", cli.InputName(name), got, want, digest.ErrMismatch)
}

// passChecked hands on the bytes of an input once they are known to have a digest. The next command
// may use what it reads at once, so until then they wait in a temporary file.
func passChecked(ctx context.Context, env *cli.Env, name string, r io.Reader, want digest.Digest) error {
	f, err := disk.CreateTemp(env.Getenv("TMPDIR"), "ocikit-digest-*")
	if err != nil {
		return err
	}
	defer f.Close()

	desc, err := describe(ctx, want.Algorithm(), io.TeeReader(r, f), "")
	if err != nil {
		return err
	}

	if desc.Digest != want {
		return mismatch(name, desc.Digest, want)
	}

	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}

	// The file may have been changed, or the disk have erred, so the bytes are checked again.
	_, err = oci.CopyUntil(ctx, env.Stdout, digest.NewReader(f, want, desc.Size))
	return err
}

// printDigest prints a digest on a line, with the name of the file if there are several.
func printDigest(env *cli.Env, d digest.Digest, name string, operands int, asJSON bool) error {
	line := d.String()
	if operands > 1 {
		line += " " + name
	}
	return show.WriteRecord(env.Stdout, asJSON, map[string]string{"digest": d.String(), "name": name}, line)
}

// eachInput runs do on each operand, or on standard input if there is none.
func eachInput(env *cli.Env, args []string, do func(name string, r io.Reader) error) error {
	if len(args) == 0 {
		args = []string{"-"}
	}

	for _, name := range args {
		in, err := env.Data(name)
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

// describe reads r to its end and returns the descriptor of its bytes. Without a mediaType the
// content decides.
func describe(ctx context.Context, alg digest.Algorithm, r io.Reader, mediaType string) (oci.Descriptor, error) {
	h := digest.NewHasher(alg)
	s := operands.Sniffer{}
	if _, err := oci.CopyUntil(ctx, io.MultiWriter(h, &s), r); err != nil {
		return oci.Descriptor{}, err
	}
	return oci.Descriptor{MediaType: cmp.Or(mediaType, s.MediaType()), Digest: h.Digest(), Size: h.Size()}, nil
}
