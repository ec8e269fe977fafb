package commonflags

import (
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/archive"
)

// BindRequireReferrers declares the flag that goes with --referrers.
func BindRequireReferrers(fs *flag.FlagSet) *bool {
	return fs.Bool("require-referrers", false, "as --referrers, and fail if an image has none")
}

// ReportReferrers says how many referrers go along.
func ReportReferrers(env *cli.Env, n int) { env.Notice("ocikit: %s", show.Count(n, "referrer")) }

// WithReferrers adds what refers to images of an archive.
func WithReferrers(env *cli.Env, images []archive.Image, require bool) ([]archive.Image, error) {
	found, n, err := archive.Referrers(images, require)
	if err != nil {
		return nil, err
	}
	for i, im := range images {
		for _, r := range found[i] {
			images = append(images, archive.Image{Source: im.Source, Desc: r.Desc, Tag: r.Desc.Annotations.Get(oci.AnnotationRefName)})
		}
	}
	ReportReferrers(env, n)
	return images, nil
}
