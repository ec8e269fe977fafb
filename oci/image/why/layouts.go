package why

import (
	"context"
	"slices"

	"ocikit/oci"
	"ocikit/oci/source"
)

// Layouts returns why the images of two layouts or archives differ, paired by their names. Where one name
// occurs several times, equal images are pairs, and what is left is paired in its order. An error about
// one of the two is a [*SideError].
func Layouts(ctx context.Context, here, there source.Source) ([]Cause, error) {
	x, y, err := both(here, there, source.Source.Index)
	if err != nil {
		return nil, err
	}

	r := &run{ctx: ctx, a: here, b: there}
	other := pairByName(x.Manifests, y.Manifests)
	paired := make([]bool, len(y.Manifests))
	for i, d := range x.Manifests {
		name, j := d.EntryName(), other[i]
		if j < 0 {
			r.add(nil, Cause{Kind: PlatformHere, Path: name})
			continue
		}

		paired[j] = true
		if err := r.images([]string{name}, d, y.Manifests[j]); err != nil {
			return r.causes, err
		}
	}

	for j, d := range y.Manifests {
		if !paired[j] {
			r.add(nil, Cause{Kind: PlatformThere, Path: d.EntryName()})
		}
	}

	return r.causes, nil
}

// pairByName returns for each entry of a the place of its pair in b, or -1. There may be very many
// entries, so each is looked up, and not compared with all others.
func pairByName(a, b []oci.Descriptor) []int {
	other := slices.Repeat([]int{-1}, len(a))
	used := make([]bool, len(b))
	for _, key := range []func(oci.Descriptor) string{
		func(d oci.Descriptor) string { return d.Digest.String() + " " + d.EntryName() },
		oci.Descriptor.EntryName,
	} {
		free := map[string][]int{} // places in b
		for j, d := range b {
			if !used[j] {
				free[key(d)] = append(free[key(d)], j)
			}
		}

		for i, d := range a {
			if list := free[key(d)]; other[i] < 0 && len(list) > 0 {
				other[i], free[key(d)] = list[0], list[1:]
				used[list[0]] = true
			}
		}
	}

	return other
}
