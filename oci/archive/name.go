package archive

import (
	"fmt"

	"ocikit/oci"
	"ocikit/oci/layout"
)

// name gives the entries the names that they will have in the layout.
func (ld *loader) name(entries []oci.Descriptor) ([]oci.Descriptor, error) {
	if ld.o.Tag != "" {
		if len(entries) != 1 {
			return nil, fmt.Errorf("the archive holds %d images: one name is not enough", len(entries))
		}
		entries[0] = entries[0].WithAnnotation(oci.AnnotationRefName, ld.o.Tag)
		return entries, nil
	}
	taken := map[string]oci.Descriptor{} // by tag
	known := map[string]string{}         // tags, by full name
	if !ld.o.DryRun {
		x, err := ld.l.Index()
		if err != nil {
			return nil, err
		}
		for _, d := range x.Manifests {
			tag := d.Annotations[oci.AnnotationRefName]
			taken[tag] = d
			known[d.Annotations[oci.AnnotationImageName]] = tag
		}
	}
	own := map[string]bool{}
	for i, e := range entries {
		tag, full := e.Annotations[oci.AnnotationRefName], e.Annotations[oci.AnnotationImageName]
		if full != "" {
			_, suffix := oci.SplitName(full)
			if tag == "" {
				tag = suffix
			}
			// A tag that another image has, here or in the archive, is not enough.
			other, ok := taken[tag]
			switch {
			case known[full] == full:
				tag = full // as it was called when it came before
			case ok && other.Digest != e.Digest && !sameRepo(other, full), own[tag]:
				tag = full
			}
		}
		if tag == "" {
			continue
		}
		if err := oci.CheckTag(tag); err != nil {
			return nil, err
		}
		if own[tag] {
			return nil, fmt.Errorf("two images of the archive are named %q: %w", tag, layout.ErrAmbiguous)
		}
		own[tag] = true
		entries[i] = e.WithAnnotation(oci.AnnotationRefName, tag)
	}
	return entries, nil
}

// sameRepo reports whether an entry of the layout may be an earlier state of the image full.
func sameRepo(entry oci.Descriptor, full string) bool {
	name := entry.Annotations[oci.AnnotationImageName]
	if name == "" {
		return false
	}
	was, _ := oci.SplitName(name)
	is, _ := oci.SplitName(full)
	return was == is
}
