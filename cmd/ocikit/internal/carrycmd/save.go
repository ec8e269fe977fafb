package carrycmd

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"io"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/graph"
	"ocikit/oci/source"
)

func saveCommand() cli.Command {
	return cli.Command{
		Name: "save", Args: "IMAGE...", Group: cli.GroupCarry, Progress: true,
		Short: "write images as one tar that docker, podman and readers of layouts load",
		Long: `Save writes an archive of images on standard output: the tar of an OCI layout that has Docker's
manifest.json as well, so that "docker load", "podman load", "ctr image import", skopeo's oci-archive
and docker-archive, "crane push" and "ocikit load" all take it. The same images give the same bytes.
Blobs go in as they are, each once, verified. Of several platforms all are written, or those of
--platform; manifest.json, which knows none, names the image for linux/amd64, or the first.

An image is called by the full name that it has in the layout, or else by the layout's directory
and its tag: app:v1 is loaded as app:v1. --tag gives another name. --all saves every image of the
places that the operands name, --from-file those that a list names; one that cannot be saved is named,
and the archive holds the others, but with --fail-fast.`,
		Example: "ocikit save app:latest -o app.tar\nocikit load carried app.tar",
		Bind: func(fs *flag.FlagSet) cli.Action {
			s := new(saving)
			s.format = cli.Choice(fs, "format", "both", "write an archive of `KIND`", "both", "oci (a layout alone)", "docker (manifest.json alone)")
			s.set = commonflags.BindSet(fs)
			s.tag = cli.OptionalFlag(fs, "tag", "t", "call the only image `NAME[:TAG]`")
			s.platform = commonflags.BindPlatform(fs)
			s.referrers = commonflags.BindReferrers(fs)
			s.require = commonflags.BindRequireReferrers(fs)
			commonflags.Sparse(fs, &s.rules)
			s.places = operands.BindPlaces(fs)
			s.dryRun = commonflags.BindDryRun(fs)
			s.out = operands.BindTarOutput(fs)
			return s.run
		},
	}
}

// A saving is one run of save: its flags, then what it saves.
type saving struct {
	format             *string
	set                *commonflags.Set
	tag                *cli.Optional
	platform           *string
	referrers, require *bool
	rules              graph.Rules
	places             *operands.Places
	dryRun             *bool
	out                *string

	images  []archive.Image // those that the operands name
	members []operands.Archived
	sources []source.Source
}

func (s *saving) run(ctx context.Context, env *cli.Env, args []string) error {
	if err := s.check(args); err != nil {
		return err
	}

	defer func() {
		for _, src := range s.sources {
			src.Close()
		}
	}()

	for _, operand := range args {
		if err := s.open(ctx, env, operand); err != nil {
			return err
		}
	}

	plan, failed, err := s.plan(ctx, env)
	switch {
	case err != nil && s.set.Many():
		return err
	case err != nil:
		return operands.IncompleteHint(s.sources[0], err)
	}

	env.Say(plan.Notices...)

	if *s.dryRun {
		if err := cli.CheckOutput(*s.out); err != nil {
			return err
		}
		return errors.Join(show.WriteEachJSON(env.Stdout, plan.Members), failed)
	}

	env.Watch(s.sources...)
	env.Planned(plan.Bytes())
	return errors.Join(operands.WriteTar(env, *s.out, func(w io.Writer) error { return plan.Save(ctx, w) }), failed)
}

// check refuses flags that exclude each other, before anything is opened.
func (s *saving) check(args []string) error {
	if err := s.set.Parse(s.set.Many(), len(args)); err != nil {
		return err
	}

	_, isName := oci.FullName(s.tag.Value)
	switch {
	case s.tag.Given && len(args) > 1:
		return cli.Usagef("flag --tag: there are %d images", len(args))
	case s.tag.Given && !isName:
		return cli.Usagef("flag --tag: %q: want [host/]name[:tag]", s.tag.Value)
	case (*s.referrers || *s.require) && *s.format == "docker":
		return cli.Usagef("--referrers: Docker's format cannot hold them")
	case s.set.Many() && s.tag.Given:
		return cli.Usagef("--tag goes without --all and --from-file")
	}

	return nil
}

// open opens the place of an operand, and finds the images there.
func (s *saving) open(ctx context.Context, env *cli.Env, operand string) error {
	if !s.set.Many() {
		src, desc, err := s.places.Some(ctx, env, operand, *s.platform)
		if err != nil {
			return err
		}
		s.sources = append(s.sources, src)
		s.images = append(s.images, s.named(env, operand, src, operands.Called(src, desc)))
		return nil
	}

	src, n, err := s.places.Open(ctx, env, operand)
	if err != nil {
		return err
	}

	s.sources = append(s.sources, src)
	members, err := operands.SetIn(env, s.set, src, n, *s.platform)
	for _, m := range members {
		a := operands.Archived{Member: m}
		if m.Err == nil {
			a.Image = s.named(env, operand, m.Src, m.Desc)
		}
		s.members = append(s.members, a)
	}

	return err
}

// named returns an image with the names that it has in the archive. It gives a notice about one
// without any.
func (s *saving) named(env *cli.Env, operand string, src source.Source, desc oci.Descriptor) archive.Image {
	im := archive.Image{Source: src, Desc: desc}
	im.Tag, im.Name = savedName(operand, desc, s.tag)
	if im.Name == "" && !(s.set.Many() && im.Tag != "") {
		env.Notice("ocikit: %q gets no name in the archive: --tag gives one", operand)
	}
	return im
}

// plan works out the archive; of a set it takes the images that can be saved, and failed is about
// the others.
func (s *saving) plan(ctx context.Context, env *cli.Env) (plan *archive.Plan, failed, err error) {
	of := func(images []archive.Image) (*archive.Plan, error) {
		if *s.referrers || *s.require {
			var err error
			if images, err = commonflags.WithReferrers(env, images, *s.require); err != nil {
				return nil, err
			}
		}
		return archive.NewPlan(images, archive.Format(*s.format), s.rules)
	}

	if !s.set.Many() {
		plan, err = of(s.images)
		return plan, nil, err
	}

	return operands.PlanSet(ctx, env, s.members, s.set.FailFast, of, func(im archive.Image) error {
		_, err := archive.NewPlan([]archive.Image{im}, archive.Format(*s.format), s.rules)
		return err
	})
}

// savedName returns the tag and the full name that an image has in an archive: those of --tag, or
// those of the layout, or the name of the layout's directory with the tag. Without a tag there is
// no full name.
func savedName(operand string, desc oci.Descriptor, flag *cli.Optional) (tag, full string) {
	if flag.Given {
		full, _ = oci.FullName(flag.Value)
		tag = oci.SplitName(full).Tag
		return tag, full
	}

	tag = desc.Annotations.Get(oci.AnnotationRefName)
	n, err := oci.ParseImageName(operand)
	if tag == "" && err == nil {
		tag = n.Tag
	}

	// containerd, and pull, keep the full name in an annotation of its own.
	if name, ok := oci.FullName(desc.Annotations.Get(oci.AnnotationImageName)); ok {
		tag = cmp.Or(tag, oci.SplitName(name).Tag)
		return tag, name
	}

	// Some programs write the full name where the tag belongs.
	if strings.ContainsAny(tag, "/:") {
		if name, ok := oci.FullName(tag); ok {
			return tag, name
		}
	}

	// An image that containerd knows by its digest has the repository beside the tag.
	plain, _ := oci.CutDigest(tag)
	if repo := oci.SplitName(desc.Annotations.Get(oci.AnnotationImageName)).Repo; repo != "" && plain != "" {
		if name, ok := oci.FullName(repo + ":" + plain); ok {
			return tag, name
		}
	}

	// Docker names what it loads by manifest.json, so the directory stands in for a repository. One
	// that is called, say, "My Images" cannot: nothing loads an archive with such a name.
	name, ok := operands.FullNameOf(n.Dir, tag)
	if !ok {
		return tag, ""
	}
	return tag, name
}
