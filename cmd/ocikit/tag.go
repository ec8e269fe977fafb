package main

import (
	"context"
	"errors"
	"flag"
	"strings"

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
whole.

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
				var desc oci.Descriptor
				if len(args) == 2 && !strings.HasPrefix(args[1], "{") && strings.Contains(args[1], ":") {
					if d, err := digest.Parse(args[1]); err == nil {
						if desc, err = l.Resolve(oci.ImageName{Dir: n.Dir, Digest: d}); err != nil {
							return err
						}
					}
				}
				if desc.Digest.IsZero() {
					input := "-"
					if len(args) == 2 {
						input = args[1]
					}
					if desc, _, err = oneDescriptor(ctx, env, input); err != nil {
						return withHint(err, "`ocikit manifest`, `ocikit index` and `ocikit resolve IMAGE` print descriptors to pipe in here")
					}
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

// tagOperand returns the tag of an image name, and what --expect asks for.
func tagOperand(operand, expect string) (string, layout.Expectation, error) {
	n, err := oci.ParseImageName(operand)
	if err != nil {
		return "", layout.Expectation{}, usagef("%v", err)
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
