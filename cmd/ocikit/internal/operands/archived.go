package operands

import (
	"context"
	"errors"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/source"
)

// An Archived image is a member of a set as an archive calls it.
type Archived struct {
	Member
	Image archive.Image
}

// SetIn is [SetOf] for a place that was opened under a name, which must name the place alone, with the
// images as --map calls them.
func SetIn(env *cli.Env, flags *commonflags.Set, src source.Source, n oci.ImageName, platforms string) ([]Member, error) {
	if n.Tag != "" || !n.Digest.IsZero() {
		return nil, cli.Usagef("%q names an image: with --all or --from-file give the place without a tag or digest", n)
	}
	members, err := SetOf(env, flags, src, platforms)
	for i, m := range members {
		if m.Err == nil {
			members[i].Desc = flags.Rename(m.Desc)
		}
	}
	return members, err
}

// PlanSet plans an archive of a set. It plans all images, or, if that fails, those that try takes,
// each alone. The others are named on standard error, and failed says how many they are. If no
// image is left, if there are too many for an archive, or if failFast is given and one fails, err says so
// instead of failed.
func PlanSet[P any](ctx context.Context, env *cli.Env, members []Archived, failFast bool, plan func([]archive.Image) (P, error), try func(archive.Image) error) (p P, failed, err error) {
	images := make([]archive.Image, 0, len(members))
	several := false // places
	for _, m := range members {
		if m.Src != members[0].Src {
			several = true
		}
		if m.Err == nil {
			images = append(images, m.Image)
		}
	}

	// Where nothing is wrong one plan is all there is to do.
	if len(images) == len(members) {
		p, err = plan(images)
		if long := new(archive.SizeError); err == nil || len(images) == 1 || errors.As(err, &long) || ctx.Err() != nil {
			return p, nil, err
		}
	}

	// Something is wrong with one of them. Trying each alone tells which.
	images = nil
	plain := make([]Member, len(members))
	for i, m := range members {
		plain[i] = m.Member
		if several {
			plain[i].Name = m.NameIn()
		}
	}
	failed = Each(ctx, env, plain, failFast, func(i int, _ Member) error {
		err := try(members[i].Image)
		if err == nil {
			images = append(images, members[i].Image)
		}
		return err
	})

	// Images that were not tried are missing, which must not look like a plan of those that can be had.
	if err := context.Cause(ctx); err != nil {
		return p, nil, err
	}

	if len(images) == 0 || failFast && failed != nil {
		return p, nil, failed
	}

	p, err = plan(images)
	return p, failed, err
}
