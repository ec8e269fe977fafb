package registrycmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/registry/pull"
)

func pullCommand() cli.Command {
	return cli.Command{
		Name: "pull", Args: "[REF] LAYOUT[:TAG]", Group: cli.GroupRegistry, Progress: true,
		Short: "bring an image from a registry into a layout",
		Long: `Pull fetches everything that the image REF needs and LAYOUT lacks, names it, and prints its
descriptor. LAYOUT is made if it is not there. What the layout has is verified and not fetched; what is
damaged there is repaired. A transfer that breaks off is gone on with by the next pull, in another process too:
what came is kept in LAYOUT until the blob is whole.

Of an index all platforms come. With one --platform the image for it comes, alone; with several,
joined by commas, an index of those, with their attestations: it has a digest of its own.

The name in the layout is TAG, or else the tag of REF; its full name is kept as well, in the
annotation io.containerd.image.name. Where an image of another repository has the tag, the full name is
the name. With --all REF is a repository, and every tag of it is pulled, with --map under its full
name. Layers that are not distributed with their image are skipped and named if the registry lacks
them; addresses in "urls" are never asked.

With --from-file there is no REF: the images that a list names are pulled, from as many registries as it
names, each under its full name, as "ocikit help names" says. A line of the list is NAME, or "NAME as
OTHER"; what follows a # is a comment. With --tags a NAME without a tag stands for all tags of the
repository that fit. What one image has in common with another is fetched once, and layouts share the
rest of the work as ever.

--lock FILE pins the list: a name that FILE holds is pulled by the digest that it has there, whatever its
tag means now, and one that it lacks is added. Without a line in FILE a name is looked up again. If the
registry no longer has the digest, the name is one that failed, and what the tag means now is said.

Of many images, one that cannot be pulled is named and does not keep the others, but for --fail-fast.`,
		Example: "ocikit pull localhost:5000/hello:latest app\necho localhost:5000/hello:latest > images.txt\nocikit pull --from-file images.txt store --lock images.lock\nocikit ls store",
		Status:  "4 if there is no such image, or none for the platform; of many the worst of them",
		Bind: func(fs *flag.FlagSet) cli.Action {
			p := &pulling{clients: operands.NewClients(commonflags.BindRegistry(fs))}
			commonflags.Sparse(fs, &p.o.Rules)
			p.platform = commonflags.BindPlatform(fs)
			commonflags.ReferrersVar(fs, &p.o.Referrers)
			p.require = commonflags.BindRequireReferrers(fs)
			commonflags.JobsVar(fs, &p.o.Jobs)
			p.set = commonflags.BindSet(fs)
			p.lockFile = commonflags.BindLock(fs)
			p.asJSON = cli.BindJSON(fs)
			p.dryRun = commonflags.BindDryRun(fs)
			return p.start
		},
	}
}

// A pulling is one run of pull: where to, and what the flags say.
type pulling struct {
	clients  *operands.Clients
	set      *commonflags.Set
	target   oci.ImageName
	o        pull.Options
	platform *string
	require  *bool // referrers
	dryRun   *bool
	asJSON   *bool
	lockFile *string

	l     *layout.Layout            // the target, once it is there
	tags  map[string]oci.Descriptor // its entries by their tags, as entry has read them; nil: not read
	group *naming                   // of many: what gets its names together
}

// start finds out which images are meant, and pulls them.
func (p *pulling) start(ctx context.Context, env *cli.Env, args []string) error {
	if err := p.check(args); err != nil {
		return err
	}

	p.clients.StdinIsList = p.set.FromFile == "-"
	p.o.Progress = env.Report()
	p.o.Notice = env.Tell

	// local opens the layout once something has to be read there.
	defer func() {
		if p.l != nil {
			p.l.Close()
		}
	}()

	switch {
	case p.set.FromFile != "":
		return p.list(ctx, env)
	case p.set.All:
		return p.all(ctx, env, args[0])
	}

	ref, err := commonflags.ParseRef(registry.ParseReference, args[0])
	if err != nil {
		return err
	}

	_, err = p.run(ctx, env, operands.Wanted{Ref: ref})
	return err
}

// check checks the command line, and reads of it what says where the images go and which platforms.
func (p *pulling) check(args []string) (err error) {
	want := 2
	if p.set.FromFile != "" {
		want = 1
	}

	switch {
	case len(args) != want:
		return cli.Usagef("%s, want %s", show.Count(len(args), "operand"), map[int]string{1: "LAYOUT alone with --from-file", 2: "REF LAYOUT[:TAG]"}[want])
	case p.set.All && p.set.FromFile != "":
		return cli.Usagef("--all and --from-file exclude each other: --tags '*' takes every tag")
	case *p.lockFile != "" && p.set.FromFile == "":
		return cli.Usagef("--lock goes with --from-file")
	}

	if err := p.set.Parse(p.set.Many(), 1); err != nil {
		return err
	}

	if p.target, err = pullTarget(args[want-1]); err != nil {
		return err
	}

	// One tag cannot name many images.
	if p.set.Many() && p.target.Tag != "" {
		return cli.Usagef("%q names an image: of many images name the layout alone", args[want-1])
	}

	p.o.Referrers = p.o.Referrers || *p.require
	if p.o.Jobs < 0 {
		return cli.Usagef("flag -j: it cannot be negative")
	}

	p.o.Platforms, err = operands.ParsePlatforms(*p.platform)
	return err
}

// pullTarget reads LAYOUT[:TAG].
func pullTarget(operand string) (oci.ImageName, error) {
	n, err := operands.ParseImage(operand)
	switch {
	case err != nil:
		return n, err
	case operands.CheckNewDir(n.Dir) != nil:
		return n, operands.CheckNewDir(n.Dir)
	case !n.Digest.IsZero():
		return n, cli.Usagef("%q: a digest cannot be chosen", operand)
	case n.Tag == "":
		return n, nil
	// Either the operands are in the wrong order, or both are registries.
	case operands.IsAddress(n):
		return n, &cli.UsageError{Msg: fmt.Sprintf("%q: want a layout", operand), Advice: "REF comes first, LAYOUT behind it; from registry to registry it takes `ocikit pull` and `ocikit push`"}
	}

	if err := oci.CheckTag(n.Tag); err != nil {
		return n, cli.Usagef("%v", err)
	}

	return n, nil
}

// local opens the target layout, if it is there. One that is still to be made leaves p.l nil.
func (p *pulling) local() (err error) {
	if p.l != nil {
		return nil
	}
	p.l, err = operands.LayoutIfThere(p.target.Dir)
	return err
}

// run brings one image into the target, and returns the digest that its name has in the registry.
// With --platform that may be an index, of which only a part is stored.
func (p *pulling) run(ctx context.Context, env *cli.Env, w operands.Wanted) (named digest.Digest, err error) {
	o, ref := p.o, w.Ref
	o.As = w.As
	client, err := p.clients.Of(env, ref)
	if err != nil {
		return named, err
	}

	if err := p.local(); err != nil {
		return named, err
	}
	o.Local = p.l

	im, err := pull.Find(ctx, client, ref, o)
	if errors.Is(err, graph.ErrPlatform) {
		err = cli.NotThere(err)
	}
	if err != nil {
		return named, err
	}

	if err := p.referrers(env, im, w); err != nil {
		return named, err
	}

	entry, err := p.entry(env, im.Desc, w)
	if err != nil {
		return named, err
	}

	if *p.dryRun {
		steps, err := im.Plan(ctx, p.l, entry)
		return im.Named, errors.Join(err, show.WriteEachJSON(env.Stdout, steps))
	}

	return im.Named, p.bring(ctx, env, im, entry, w.Name == "")
}

// bring brings an image that was found into the layout, and prints what came of it. The report of one of
// many that fails is printed by the loop over them.
func (p *pulling) bring(ctx context.Context, env *cli.Env, im *pull.Image, entry oci.Descriptor, alone bool) (err error) {
	// The layout is made only now, when the image is known to exist: a wrong name leaves no
	// directory behind.
	if p.l == nil {
		if p.l, err = layout.Init(p.target.Dir); err != nil {
			return err
		}
	}

	env.Watch(p.l)
	report, err := im.Pull(ctx, p.l, entry)
	env.Summary(err, "ocikit: %s: %d bytes received, %s, %.1f s", report.Reference, report.BytesReceived, show.Count(int(report.Requests), "request"), report.Seconds)

	print := func() error {
		if *p.asJSON {
			return show.WriteJSON(env.Stdout, report)
		}
		return oci.WriteDescriptors(env.Stdout, im.Desc)
	}

	switch {
	case err != nil && *p.asJSON && alone:
		return errors.Join(err, print())
	case err != nil:
		return err
	}

	// Nothing is printed of an image before it has its name. Of many images that may be later.
	return p.group.then(print)
}

// referrers says how many referrers come along, if they were asked for.
func (p *pulling) referrers(env *cli.Env, im *pull.Image, w operands.Wanted) error {
	if !p.o.Referrers {
		return nil
	}

	n := len(im.Referrers())
	if *p.require && n == 0 {
		return fmt.Errorf("image %s: %w", im.Desc.Digest, archive.ErrNoReferrers)
	}

	// One line for each of many images would be noise.
	if w.Name == "" {
		commonflags.ReportReferrers(env, n)
	}
	return nil
}

// entry returns the entry of index.json for what is pulled. A tag that comes from REF does not take
// the place of the same tag of another repository.
func (p *pulling) entry(env *cli.Env, desc oci.Descriptor, w operands.Wanted) (oci.Descriptor, error) {
	// In a list, or with --map, the full name is settled: --map and "as" have been applied.
	if w.As != "" {
		return desc.WithFullName(w.As), nil
	}

	tag := w.Ref.Tag
	if tag == "" && w.Ref.Digest.IsZero() {
		tag = "latest"
	}

	full := ""
	if tag != "" {
		full = w.Ref.Repository() + ":" + tag
	}

	entry := desc.WithAnnotation(oci.AnnotationImageName, full)

	// A tag that the user chose replaces whatever had it.
	if p.target.Tag != "" {
		return entry.WithAnnotation(oci.AnnotationRefName, p.target.Tag), nil
	}

	if tag == "" || p.l == nil {
		return entry.WithAnnotation(oci.AnnotationRefName, tag), nil
	}

	if err := p.readTags(); err != nil {
		return entry, err
	}

	// The old entry keeps the tag only if it is known to be of another repository. Otherwise the
	// tag has moved in the registry, and moves here.
	if was, ok := p.tags[tag]; ok && was.Digest != desc.Digest {
		other := was.Annotations.Get(oci.AnnotationImageName)
		if other != "" && oci.SplitName(other).Repo != w.Ref.Repository() {
			env.Notice("ocikit: the layout has the tag %q for %s: the image is called %s", tag, other, full)
			tag = full
		}
	}

	return entry.WithAnnotation(oci.AnnotationRefName, tag), nil
}

// readTags reads what the layout has under each tag. index.json may be large, so it is read once, and again
// after names were added.
func (p *pulling) readTags() error {
	if p.tags != nil {
		return nil
	}

	x, err := p.l.Index()
	if err != nil {
		return err
	}

	p.tags = map[string]oci.Descriptor{}
	for _, e := range slices.Backward(x.Manifests) { // the first of a tag counts
		p.tags[e.Annotations.Get(oci.AnnotationRefName)] = e
	}
	return nil
}
