package main

import (
	"context"
	"flag"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/archive"
)

func saveCommand() Command {
	return Command{
		Name: "save", Args: "IMAGE...", Group: groupCarry, Progress: true,
		Short: "write images as one tar that docker, podman and readers of layouts load",
		Long: `Save writes an archive of images on standard output: the tar of an OCI layout that has Docker's
manifest.json as well, so that "docker load", "podman load", "ctr image import", skopeo's oci-archive
and docker-archive, "crane push" and "ocikit load" all take it. The same images give the same bytes.
Blobs go in as they are, each once, verified. Of several platforms all are written; manifest.json,
which knows none, names the image for linux/amd64, or the first.

An image is called by the full name that it has in the layout, or else by the layout's directory
and its tag: app:v1 is loaded as app:v1. --tag gives another name.`,
		Example: "ocikit save app:latest -o app.tar\nocikit load carried app.tar",
		Bind: func(fs *flag.FlagSet) Action {
			format := fs.String("format", "both", "`kind` of archive: both, oci (a layout alone) or docker (manifest.json alone)")
			tag := optionalFlag(fs, "tag", "t", "call the only image `name[:tag]`")
			platform := fs.String("platform", "", "write the image for this `platform` of an index alone")
			referrers := fs.Bool("referrers", false, "save what refers to the images too: signatures, SBOMs")
			require := bindRequireReferrers(fs)
			dryRun := fs.Bool("dry-run", false, "print what would be written, a JSON line for each file")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) == 0 {
					return usagef("no IMAGE")
				}
				if !slices.Contains([]archive.Format{archive.Both, archive.OCI, archive.Docker}, archive.Format(*format)) {
					return usagef("flag --format: %q: want both, oci or docker", *format)
				}
				if tag.given && len(args) > 1 {
					return usagef("flag --tag: there are %d images", len(args))
				}
				if _, ok := oci.FullName(tag.value); tag.given && !ok {
					return usagef("flag --tag: %q: want [host/]name[:tag]", tag.value)
				}
				if (*referrers || *require) && *format == "docker" {
					return usagef("--referrers: Docker's format cannot hold them")
				}
				var images []archive.Image
				for _, operand := range args {
					l, desc, err := openMaybe(operand, *platform)
					if err != nil {
						return err
					}
					defer l.Close()
					im := archive.Image{Layout: l, Desc: desc}
					im.Tag, im.Name = savedName(operand, desc, tag)
					if im.Name == "" {
						env.notice("ocikit: %q gets no name in the archive: --tag gives one", operand)
					}
					images = append(images, im)
				}
				if *referrers || *require {
					var err error
					if images, err = withReferrers(env, images, *require); err != nil {
						return err
					}
				}
				plan, err := archive.NewPlan(images, archive.Format(*format))
				if err != nil {
					return incompleteHint(images[0].Layout, err)
				}
				for _, text := range plan.Notices {
					env.notice("ocikit: %s", text)
				}
				if *dryRun {
					for _, m := range plan.Members {
						if err := writeJSON(env.Stdout, m); err != nil {
							return err
						}
					}
					return nil
				}
				return saveArchive(ctx, env, *out, images, plan)
			}
		},
	}
}

// saveArchive writes what a plan holds, and shows how far it is.
func saveArchive(ctx context.Context, env *Env, out string, images []archive.Image, plan *archive.Plan) error {
	for _, im := range images {
		env.watch(im.Layout)
	}
	env.planned(plan.Bytes())
	return env.toOutput(out, true, func(w io.Writer) error { return plan.Save(ctx, w) })
}

// savedName returns the tag and the full name that an image has in an archive: as --tag says,
// as the layout has it, or of the layout's directory. A name that nobody gave is none.
func savedName(operand string, desc oci.Descriptor, flag *optional) (tag, full string) {
	if flag.given {
		full, _ = oci.FullName(flag.value)
		_, tag = oci.SplitName(full)
		return tag, full
	}
	tag = desc.Annotations[oci.AnnotationRefName]
	n, err := oci.ParseImageName(operand)
	if tag == "" && err == nil {
		tag = n.Tag
	}
	if name, ok := oci.FullName(desc.Annotations[oci.AnnotationImageName]); ok {
		if tag == "" {
			_, tag = oci.SplitName(name)
		}
		return tag, name
	}
	if strings.ContainsAny(tag, "/:") {
		if name, ok := oci.FullName(tag); ok {
			return tag, name
		}
	}
	dir, err := filepath.Abs(n.Dir)
	if tag == "" || err != nil {
		return tag, ""
	}
	name, ok := oci.FullName(strings.ToLower(filepath.Base(dir)) + ":" + tag)
	if !ok {
		return tag, ""
	}
	return tag, name
}
