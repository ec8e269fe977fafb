package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"

	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/registry/pull"
)

func pullCommand() Command {
	return Command{
		Name: "pull", Args: "REF LAYOUT[:TAG]", Group: groupRegistry, Progress: true,
		Short: "bring an image from a registry into a layout",
		Long: `Pull fetches everything that the image REF needs and LAYOUT lacks, names it, and prints its
descriptor. LAYOUT is made if it is not there. What the layout has is verified and not fetched; what is
damaged there is repaired. A transfer that breaks off is gone on with by the next pull, in another process too:
what came is kept in LAYOUT until the blob is whole.

Of an index all platforms come. With one --platform the image for it comes, alone; with several,
joined by commas, an index of those, with their attestations: it has a digest of its own.

The name in the layout is TAG, or else the tag of REF; its full name is kept as well, in the
annotation io.containerd.image.name. A tag that the layout has for an image of another repository is
not taken unless TAG says so. With --all REF is a repository, and every tag of it is pulled; a pull that
fails leaves those that came before. Layers that are not distributed with their image are skipped and
named if the registry lacks them; addresses in "urls" are never asked.`,
		Example: "ocikit pull localhost:5000/hello:latest app",
		Status:  "4 if there is no such image, or none for the platform",
		Bind: func(fs *flag.FlagSet) Action {
			flags := bindRegistryFlags(fs)
			var o pull.Options
			platform := fs.String("platform", "", "pull the image for this `platform` of an index alone, or an index of these, joined by commas")
			fs.BoolVar(&o.Referrers, "referrers", false, "pull what refers to the image too: signatures, SBOMs")
			require := bindRequireReferrers(fs)
			fs.IntVar(&o.Jobs, "j", 0, "fetch `n` blobs at once (0: as many as is good)")
			all := fs.Bool("all", false, "pull every tag of the repository REF")
			asJSON := fs.Bool("json", false, "print a report as a JSON line for each image")
			dryRun := fs.Bool("dry-run", false, "print what would be done, a JSON line for each step")
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 2 {
					return usagef("%d operands, want REF and LAYOUT", len(args))
				}
				parse := registry.ParseReference
				if *all {
					parse = registry.ParseRepository
				}
				ref, err := parseRef(parse, args[0])
				if err != nil {
					return err
				}
				n, err := pullTarget(args[1])
				if err != nil {
					return err
				}
				if *all && n.Tag != "" {
					return usagef("%q names an image: with --all name the layout alone", args[1])
				}
				o.Referrers = o.Referrers || *require
				if o.Jobs < 0 {
					return usagef("flag -j: it cannot be negative")
				}
				if o.Platforms, err = parsePlatforms(*platform); err != nil {
					return err
				}
				o.Progress = env.progress.report()
				o.Notice = func(text string) { env.notice("ocikit: %s", text) }
				client, err := flags.client(env, ref, false)
				if err != nil {
					return err
				}
				defer flags.close(&err)
				defer client.Close()
				refs := []registry.Reference{ref}
				if *all {
					if refs, err = taggedRefs(ctx, client, ref); err != nil {
						return err
					}
				}
				for _, ref := range refs {
					if err := runPull(ctx, env, client, ref, n, o, *require, *dryRun, *asJSON); err != nil {
						return err
					}
				}
				return nil
			}
		},
	}
}

// taggedRefs returns a reference for each tag of a repository.
func taggedRefs(ctx context.Context, c *registry.Client, repo registry.Reference) ([]registry.Reference, error) {
	var refs []registry.Reference
	for tag, err := range c.Tags(ctx, repo.Repo, 0) {
		if err == nil {
			err = registry.CheckTag(tag)
		}
		if err != nil {
			return nil, err
		}
		ref := repo
		ref.Tag = tag
		refs = append(refs, ref)
	}
	if len(refs) == 0 {
		return nil, &notThere{fmt.Errorf("%s: the repository has no tags", repo.Repository())}
	}
	return refs, nil
}

// pullTarget reads LAYOUT[:TAG].
func pullTarget(operand string) (oci.ImageName, error) {
	n, err := parseImage(operand)
	switch {
	case err != nil:
		return n, err
	case !n.Digest.IsZero():
		return n, usagef("%q: a digest cannot be chosen", operand)
	case n.Tag == "":
		return n, nil
	case isAddress(n):
		return n, &usageError{msg: fmt.Sprintf("%q: want a layout", operand), hint: "REF comes first, LAYOUT behind it; from registry to registry it takes `ocikit pull` and `ocikit push`"}
	}
	if err := oci.CheckTag(n.Tag); err != nil {
		return n, usagef("%v", err)
	}
	return n, nil
}

func runPull(ctx context.Context, env *Env, c *registry.Client, ref registry.Reference, n oci.ImageName, o pull.Options, require, dryRun, asJSON bool) error {
	l, err := layout.Open(n.Dir)
	switch {
	case err == nil:
		o.Local = l
		defer l.Close()
	case !errors.Is(err, fs.ErrNotExist) && !isEmptyDir(n.Dir):
		_, err := openDir(n.Dir)
		return err
	}
	im, err := pull.Find(ctx, c, ref, o)
	if errors.Is(err, oci.ErrPlatform) {
		err = &notThere{err}
	}
	if err != nil {
		return err
	}
	if o.Referrers {
		if require && len(im.Referrers()) == 0 {
			return fmt.Errorf("image %s: %w", im.Desc.Digest, archive.ErrNoReferrers)
		}
		reportReferrers(env, len(im.Referrers()))
	}
	entry, err := pulledEntry(l, im.Desc, ref, n)
	if err != nil {
		return err
	}
	if dryRun {
		steps, err := im.Plan(ctx, l, entry)
		for _, s := range steps {
			err = errors.Join(err, writeJSON(env.Stdout, s))
		}
		return err
	}
	if l == nil {
		if l, err = layout.Init(n.Dir); err != nil {
			return err
		}
		defer l.Close()
	}
	env.watch(l)
	report, err := im.Pull(ctx, l, entry)
	env.summary(err, "ocikit: %s: %d bytes received, %d requests, %.1f s", report.Reference, report.BytesReceived, report.Requests, report.Seconds)
	switch {
	case asJSON:
		return errors.Join(err, writeJSON(env.Stdout, report))
	case err != nil:
		return err
	}
	return oci.WriteDescriptors(env.Stdout, im.Desc)
}

// pulledEntry returns the entry of index.json for what is pulled. A tag that comes from REF
// does not take the place of what another repository has it for.
func pulledEntry(l *layout.Layout, desc oci.Descriptor, ref registry.Reference, n oci.ImageName) (oci.Descriptor, error) {
	tag := ref.Tag
	if tag == "" && ref.Digest.IsZero() {
		tag = "latest"
	}
	full := ""
	if tag != "" {
		full = ref.Repository() + ":" + tag
	}
	entry := desc.WithAnnotation(oci.AnnotationImageName, full)
	if n.Tag != "" {
		return entry.WithAnnotation(oci.AnnotationRefName, n.Tag), nil
	}
	if tag == "" || l == nil {
		return entry.WithAnnotation(oci.AnnotationRefName, tag), nil
	}
	x, err := l.Index()
	if err != nil {
		return entry, err
	}
	i := slices.IndexFunc(x.Manifests, func(d oci.Descriptor) bool { return d.Annotations[oci.AnnotationRefName] == tag })
	if i >= 0 && x.Manifests[i].Digest != desc.Digest {
		other := x.Manifests[i].Annotations[oci.AnnotationImageName]
		if repo, _ := oci.SplitName(other); other != "" && repo != ref.Repository() {
			return entry, withHint(fmt.Errorf("tag %q: the layout has it for %s", tag, other), "name the image with %s:TAG", n.Dir)
		}
	}
	return entry.WithAnnotation(oci.AnnotationRefName, tag), nil
}
