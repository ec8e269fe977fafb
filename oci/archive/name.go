package archive

import (
	"cmp"
	"fmt"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// nameEntries gives images the names that they will have beside those that x lists: each its tag,
// or its full name if another image has the tag. What says the same as an entry before it is left out.
func nameEntries(entries []oci.Descriptor, x oci.Index) ([]oci.Descriptor, error) {
	taken := map[string]oci.Descriptor{} // by tag
	known := map[string]string{}         // tags, by full name
	for _, d := range x.Manifests {
		tag := d.Annotations.Get(oci.AnnotationRefName)
		taken[tag] = d
		known[d.Annotations.Get(oci.AnnotationImageName)] = tag
	}

	own := map[string]digest.Digest{}
	var named []oci.Descriptor
	for _, e := range entries {
		tag, err := plainName(e, oci.AnnotationRefName)
		if err != nil {
			return nil, err
		}

		full, err := plainName(e, oci.AnnotationImageName)
		if err != nil {
			return nil, err
		}

		if suffix := oci.SplitName(full).Tag; suffix != "" {
			tag = cmp.Or(tag, suffix)
			// A tag that another image has, here or in the archive, is not enough. And the image
			// may have come before, and been called by its full name.
			other, ok := taken[tag]
			_, twice := own[tag]
			if known[full] == full || twice || ok && other.Digest != e.Digest && !sameRepo(other, full) {
				tag = full
			}
		}

		if tag == "" {
			named = append(named, e.WithAnnotation(oci.AnnotationRefName, ""))
			continue
		}

		if err := oci.CheckTag(tag); err != nil {
			return nil, err
		}

		d, twice := own[tag]
		if twice && d != e.Digest {
			return nil, fmt.Errorf("two images of the archive are named %q: %w", tag, graph.ErrAmbiguous)
		}

		if !twice {
			own[tag] = e.Digest
			named = append(named, e.WithAnnotation(oci.AnnotationRefName, tag))
		}
	}

	return named, nil
}

// sameRepo reports whether an entry of the layout may be an earlier state of the image full.
func sameRepo(entry oci.Descriptor, full string) bool {
	name := entry.Annotations.Get(oci.AnnotationImageName)
	return name != "" && oci.SplitName(name).Repo == oci.SplitName(full).Repo
}

// plainName returns the name in an annotation without the digest that containerd, skopeo and others
// put behind it. It must be that of the image. A repository without a tag is not a name alone: there the
// digest stays.
func plainName(e oci.Descriptor, annotation string) (string, error) {
	name, d := oci.CutDigest(e.Annotations.Get(annotation))
	if !d.IsZero() && d != e.Digest {
		return "", fmt.Errorf("the image named %q is %s: %w", e.Annotations.Get(annotation), e.Digest, digest.ErrMismatch)
	}
	if !d.IsZero() && strings.Contains(name, "/") && oci.SplitName(name).Tag == "" {
		return e.Annotations.Get(annotation), nil
	}
	return name, nil
}
