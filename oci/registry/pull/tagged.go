package pull

import (
	"context"
	"errors"

	"ocikit/oci"
	"ocikit/oci/registry"
)

// tagSuffixes are what cosign puts behind the digest of an image in the tags of signatures,
// attestations and SBOMs.
func tagSuffixes() []string { return []string{".sig", ".att", ".sbom"} }

// findTagged collects the referrers of a manifest that only their tags tell. They keep these.
func (im *Image) findTagged(ctx context.Context, subject oci.Descriptor) error {
	for _, suffix := range tagSuffixes() {
		tag := registry.FallbackTag(subject.Digest) + suffix
		d, data, err := im.c.GetManifest(ctx, im.ref.Repo, tag)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if im.known[d.Digest] {
			continue
		}
		if err := im.add(ctx, d, data, 0); err != nil {
			return err
		}
		im.referrers = append(im.referrers, bare(d).WithAnnotation(oci.AnnotationRefName, tag))
	}
	return nil
}
