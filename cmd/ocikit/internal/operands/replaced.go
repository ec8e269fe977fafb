package operands

import (
	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

// ReportReplaced says which digests a plan changes, and what still names the old ones, except for
// the tag that the result gets. To find out it looks through the layout, unless the user asked for
// quiet.
func ReportReplaced(env *cli.Env, l *layout.Layout, plan *image.Plan, tag string) error {
	if env.Quiet {
		return nil
	}

	for _, s := range plan.Steps {
		switch {
		case s.Action == "index":
			env.Notice("ocikit: index %s becomes %s", s.Replaces, s.Descriptor.Digest)
		case s.Action == "manifest":
			env.Notice("ocikit: image for %s: %s becomes %s", s.Platform, s.Replaces, s.Descriptor.Digest)
		}
	}

	x, err := l.Index()
	if err != nil {
		return err
	}

	// Tags, bases and subjects that name the old digests stay as they are, so they are told of.
	left, err := image.LeftBehind(l, x, plan)
	if err != nil {
		return err
	}

	for _, n := range left {
		switch {
		case n.Base:
			env.Notice("ocikit: image %s is built on %s", n.Desc.Digest, n.Digest)
		case n.Tag == "":
			env.Notice("ocikit: %s refers to %s, and not to what it becomes", n.Desc.Digest, n.Digest)
		case n.Tag != tag:
			env.Notice("ocikit: tag %q goes on naming %s", n.Tag, n.Digest)
		}
	}

	return nil
}
