package main

import (
	"context"
	"errors"
	"flag"
	iofs "io/fs"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

func tagCommand() Command {
	return Command{
		Name: "tag", Args: "IMAGE [DESCRIPTOR|DIGEST]", Group: groupLayout,
		Short: "name an image in a layout",
		Long: `Tag gives the manifest or index of a descriptor the name that IMAGE holds ("latest" if it
holds none), in place of what had that name, and prints the descriptor. The descriptor is a literal, a
file, or read from standard input; a digest will do for what is in the layout. The image must be
whole. "ocikit copy LAYOUT:OLD LAYOUT:NEW" gives what has a name already one more.

--expect makes it a compare-and-swap: the name is changed only if it means that digest now, or if
"none" is expected and there is no such name. Any number of processes may tag at once.`,
		Example: "ocikit resolve app | ocikit tag app:v1",
		Status:  "1 if the name does not mean what --expect says",
		Bind: func(fs *flag.FlagSet) Action {
			expect := fs.String("expect", "", "change the name only if it has this `digest`, or \"none\"")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) < 1 || len(args) > 2 {
					return usagef("%d operands, want IMAGE and at most one more", len(args))
				}
				tag, want, err := tagOperand(args[0], *expect)
				if err != nil {
					return err
				}
				l, n, err := openName(args[0])
				if err != nil {
					return err
				}
				defer l.Close()
				desc, err := taggedDescriptor(ctx, env, l, args[1:])
				if err != nil {
					return err
				}
				if !n.Digest.IsZero() && n.Digest != desc.Digest {
					return usagef("the descriptor is that of %s, IMAGE says %s", desc.Digest, n.Digest)
				}
				if err := l.Tag(ctx, tag, desc, want); err != nil {
					return tagHint(l, err)
				}
				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}

// taggedDescriptor reads the descriptor to name: an operand, or standard input.
func taggedDescriptor(ctx context.Context, env *Env, l *layout.Layout, operands []string) (oci.Descriptor, error) {
	input := "-"
	if len(operands) > 0 {
		input = operands[0]
	}
	if d, err := digest.Parse(input); err == nil && d.Verifiable() {
		return l.Resolve(oci.ImageName{Dir: l.Dir(), Digest: d})
	}
	desc, _, err := oneDescriptor(ctx, env, input)
	if errors.Is(err, iofs.ErrNotExist) {
		return desc, withHint(err, "`ocikit copy LAYOUT:OLD LAYOUT:NEW` gives an image one more name")
	}
	if err != nil {
		return desc, withHint(err, "`ocikit manifest`, `ocikit index` and `ocikit resolve IMAGE` print descriptors to pipe in here")
	}
	return desc, nil
}

// tagOperand returns the tag of an image name, and what --expect asks for.
func tagOperand(operand, expect string) (string, layout.Expectation, error) {
	n, err := parseImage(operand)
	if err != nil {
		return "", layout.Expectation{}, err
	}
	if n.Tag == "" {
		n.Tag = "latest"
	}
	if err := oci.CheckTag(n.Tag); err != nil {
		return "", layout.Expectation{}, usagef("%v", err)
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
	d, err := parseDigest("expect", s)
	return layout.Expect(d), err
}

func tagHint(l *layout.Layout, err error) error {
	if errors.Is(err, layout.ErrConflict) {
		return withHint(err, "somebody moved it: look with `ocikit resolve`, then expect what is there")
	}
	return incompleteHint(l, err)
}
