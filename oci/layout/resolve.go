package layout

import (
	"fmt"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

// Resolve returns the descriptor that a name means; n.Dir is not looked at. A tag is looked
// for among the names of index.json, then among the full names that containerd writes, then
// among the tags at the end of full names. A digest names a manifest or index whether
// index.json lists it or not, and with a tag asserts what the tag means. Without either, a
// lone image is meant, else the tag "latest".
//
// No such name gives [ErrNotFound], two images under one name [ErrAmbiguous].
func (l *Layout) Resolve(n oci.ImageName) (oci.Descriptor, error) {
	x, err := l.Index()
	if err != nil {
		return oci.Descriptor{}, err
	}
	var desc oci.Descriptor
	switch {
	case n.Tag != "":
		desc, err = findTag(x, n.Tag)
		if err == nil && !n.Digest.IsZero() && desc.Digest != n.Digest {
			err = fmt.Errorf("tag %q: got %s, want %s: %w", n.Tag, desc.Digest, n.Digest, digest.ErrMismatch)
		}
	case !n.Digest.IsZero():
		desc, err = l.findDigest(x, n.Digest)
	default:
		desc, err = findLone(x)
	}
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("layout %q: %w", l.dir, err)
	}
	return desc, nil
}

func findTag(x oci.Index, tag string) (oci.Descriptor, error) {
	for _, match := range []func(oci.Descriptor) bool{
		func(d oci.Descriptor) bool { return d.Annotations[oci.AnnotationRefName] == tag },
		func(d oci.Descriptor) bool { return d.Annotations[oci.AnnotationImageName] == tag },
		func(d oci.Descriptor) bool {
			return isFullName(d.Annotations[oci.AnnotationRefName], tag) || isFullName(d.Annotations[oci.AnnotationImageName], tag)
		},
	} {
		found := distinct(x.Manifests, match)
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return oci.Descriptor{}, fmt.Errorf("tag %q: %w: it names %s and %s", tag, ErrAmbiguous, found[0].Digest, found[1].Digest)
		}
	}
	return oci.Descriptor{}, fmt.Errorf("tag %q: %w", tag, ErrNotFound)
}

// isFullName reports whether name is a reference with a repository and the given tag.
func isFullName(name, tag string) bool {
	repo, ok := strings.CutSuffix(name, ":"+tag)
	return ok && strings.Contains(repo, "/") && !strings.Contains(tag, "/")
}

func (l *Layout) findDigest(x oci.Index, d digest.Digest) (oci.Descriptor, error) {
	if i := slices.IndexFunc(x.Manifests, func(e oci.Descriptor) bool { return e.Digest == d }); i >= 0 {
		return x.Manifests[i], nil
	}
	desc, err := l.Describe(d)
	if err != nil {
		return desc, err
	}
	if !oci.IsManifest(desc.MediaType) && !oci.IsIndex(desc.MediaType) {
		return desc, fmt.Errorf("blob %s: neither a manifest nor an index: %w", d, ErrNotFound)
	}
	return desc, nil
}

func findLone(x oci.Index) (oci.Descriptor, error) {
	found := distinct(x.Manifests, func(oci.Descriptor) bool { return true })
	switch len(found) {
	case 0:
		return oci.Descriptor{}, fmt.Errorf("it holds no image: %w", ErrNotFound)
	case 1:
		return found[0], nil
	}
	desc, err := findTag(x, "latest")
	if err != nil {
		err = fmt.Errorf("it holds %d images, name one by tag: %w", len(found), err)
	}
	return desc, err
}

// distinct returns the entries that match, the first of each digest.
func distinct(entries []oci.Descriptor, match func(oci.Descriptor) bool) []oci.Descriptor {
	var found []oci.Descriptor
	for _, e := range entries {
		if match(e) && !slices.ContainsFunc(found, func(f oci.Descriptor) bool { return f.Digest == e.Digest }) {
			found = append(found, e)
		}
	}
	return found
}
