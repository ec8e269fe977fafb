package layoutcmd

import (
	"cmp"
	"context"
	"errors"
	"flag"
	iofs "io/fs"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

func tagCommand() cli.Command {
	return cli.Command{
		Name: "tag", Args: "IMAGE [DESCRIPTOR|DIGEST]", Group: cli.GroupLayout,
		Short: "name an image in a layout",
		Long: `Tag gives the manifest or index of a descriptor the name that IMAGE holds ("latest" if it
holds none), in place of what had that name, and prints the descriptor. The descriptor is a literal, a
file, or read from standard input; a digest will do for what is in the layout. The image must be
whole. "ocikit copy LAYOUT:OLD LAYOUT:NEW" gives what has a name already one more.

--tag gives it further names in the same step: all of them or none. --expect makes it a
compare-and-swap: names are changed only if each means that digest now, or if "none" is expected and
there is none of them. Any number of processes may tag at once.`,
		Example: "ocikit resolve app | ocikit tag app:v1.2.3 --tag v1.2 --tag v1",
		Status:  "1 if the name does not mean what --expect says",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(tagFlags)
			f.expect = fs.String("expect", "", "change the name only if it has the digest `DIGEST`, or \"none\"")
			f.also = cli.List(fs, "tag", "t", "name the image by `TAG` too (repeatable)")
			return f.run
		},
	}
}

// tagFlags are the flags of tag.
type tagFlags struct {
	expect *string
	also   *[]string
}

// run names an image, by all names or by none.
func (f *tagFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	tag, want, err := tagOperand(args[0], *f.expect)
	if err != nil {
		return err
	}

	for _, name := range *f.also {
		if err := oci.CheckTag(name); err != nil {
			return cli.Usagef("flag --tag: %v", err)
		}
	}

	l, n, err := operands.OpenName(args[0])
	if err != nil {
		return err
	}
	defer l.Close()

	desc, err := taggedDescriptor(ctx, env, l, args[1:])
	if err != nil {
		return err
	}

	// DIR:TAG@DIGEST asserts what is named.
	if !n.Digest.IsZero() && n.Digest != desc.Digest {
		return cli.Usagef("the descriptor names %s, IMAGE names %s", desc.Digest, n.Digest)
	}

	if err := l.Tag(ctx, tag, desc, layout.TagOptions{Expect: want, Also: *f.also}); err != nil {
		return operands.TagHint(l, err)
	}

	return oci.WriteDescriptors(env.Stdout, desc)
}

// taggedDescriptor reads the descriptor to name: an operand, or standard input.
func taggedDescriptor(ctx context.Context, env *cli.Env, l *layout.Layout, rest []string) (oci.Descriptor, error) {
	input := cli.FileOperand(rest)

	if d, err := digest.Parse(input); err == nil && d.Verifiable() {
		desc, err := l.Resolve(oci.ImageName{Dir: l.Name(), Digest: d})

		// The name that it has already is not the one that it gets.
		return operands.Unnamed(desc), err
	}

	desc, _, err := operands.OneDescriptor(ctx, env, input)
	if errors.Is(err, iofs.ErrNotExist) {
		return desc, cli.WithHint(err, "`ocikit copy LAYOUT:OLD LAYOUT:NEW` gives an image one more name")
	}
	if err != nil {
		return desc, cli.WithHint(err, "`ocikit manifest`, `ocikit index` and `ocikit resolve IMAGE` print descriptors to pipe in here")
	}

	return desc, nil
}

// tagOperand returns the tag of an image name, and what --expect asks for.
func tagOperand(operand, expect string) (string, layout.Expectation, error) {
	n, err := operands.ParseImage(operand)
	if err != nil {
		return "", layout.Expectation{}, err
	}
	n.Tag = cmp.Or(n.Tag, "latest")
	if err := oci.CheckTag(n.Tag); err != nil {
		return "", layout.Expectation{}, cli.Usagef("%v", err)
	}
	want, err := expectation(expect)
	return n.Tag, want, err
}

func expectation(s string) (layout.Expectation, error) {
	switch s {
	case "":
		return layout.Expectation{}, nil
	case "none":
		return layout.ExpectAbsent(), nil
	}
	d, err := operands.ParseDigest("expect", s)
	return layout.Expect(d), err
}
