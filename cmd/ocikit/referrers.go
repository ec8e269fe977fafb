package main

import (
	"flag"

	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/layout"
)

// bindRequireReferrers declares the flag that goes with --referrers.
func bindRequireReferrers(fs *flag.FlagSet) *bool {
	return fs.Bool("require-referrers", false, "as --referrers, and fail if an image has none")
}

// countReferrers says how much refers to images in a layout. An image without any is an error
// if they are required.
func countReferrers(env *Env, l *layout.Layout, descs []oci.Descriptor, require bool) error {
	var images []archive.Image
	for _, d := range descs {
		images = append(images, archive.Image{Layout: l, Desc: d})
	}
	_, n, err := archive.Referrers(images, require)
	if err == nil {
		reportReferrers(env, n)
	}
	return err
}

func reportReferrers(env *Env, n int) { env.notice("ocikit: %d referrers", n) }

// withReferrers adds what refers to images of an archive.
func withReferrers(env *Env, images []archive.Image, require bool) ([]archive.Image, error) {
	found, n, err := archive.Referrers(images, require)
	if err != nil {
		return nil, err
	}
	for i, im := range images {
		for _, r := range found[i] {
			images = append(images, archive.Image{Layout: im.Layout, Desc: r.Desc, Tag: r.Desc.Annotations[oci.AnnotationRefName]})
		}
	}
	reportReferrers(env, n)
	return images, nil
}
