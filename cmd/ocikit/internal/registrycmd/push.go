package registrycmd

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
	"ocikit/oci/source"
	"ocikit/pushcmd"
)

func pushCommand() cli.Command {
	return cli.Command{
		Name: "push", Args: "IMAGE... REF", Group: cli.GroupRegistry, Progress: true,
		Short: "send an image to a registry",
		Long: `Push sends everything that IMAGE needs and the registry lacks, then names it by the tag of REF,
and prints HOST/REPO@DIGEST. Blobs go before the manifests that need them, the tag comes last. Bytes
are checked while they are sent. A broken upload resumes at the offset that the registry reports; with --state DIR
the next process can do that too. A second push sends nothing.

A push believes that a manifest which is there has its blobs. --check asks for every one of them, and
sends what the registry has lost.

REF tells the registry, or else Docker Hub is meant. That is refused where a layout or an archive has the
name: "docker://" in front says that it is meant.

Several images go each to a repository and tag of its own below REF, which is HOST or HOST/PREFIX: those
of its full name, as "ocikit help names" says. Where all images are of one repository, HOST/PREFIX is
that repository. With --all IMAGE is a place, and every image in it is meant, of a repository every tag;
--from-file pushes those that a list names. What one image has in common with another is sent once and
mounted. One that cannot be pushed is named and does not keep the others, but for --fail-fast.

--dry-run prints what would be done, a JSON line for each step.

--script prints a shell script that does the same with nothing but curl, to be run where the layout
is carried to: "sh push.sh [LAYOUT]". It can be run again after a failure and goes on. Nothing is
asked of the registry now, and the script holds no credentials; what it takes from its environment
stands in its first lines.`,
		Example: "ocikit push app:latest localhost:5000/hello:latest\nocikit push --all app localhost:5000/mirror\nocikit push app:latest registry.example.com/hello:v1 --script -o push.sh",
		Status:  "1 if the image is incomplete or damaged, or the registry refuses it",
		Bind: func(fs *flag.FlagSet) cli.Action {
			return bindPushing(fs).run
		},
	}
}

// A pushing is a run of push: its flags, and whether one image is meant or a set.
type pushing struct {
	registry *commonflags.Registry
	how      *pushFlags
	set      *commonflags.Set
	platform *string
	asJSON   *bool
	script   scriptFlags
	many     bool
}

func bindPushing(fs *flag.FlagSet) *pushing {
	p := &pushing{registry: commonflags.BindRegistry(fs), how: bindPushFlags(fs)}
	p.set = commonflags.BindSet(fs)
	p.platform = commonflags.BindPlatform(fs)
	p.asJSON = cli.BindJSON(fs)
	p.script = bindScriptFlags(fs)
	return p
}

// run pushes the images that the operands name, or writes the script that does.
func (p *pushing) run(ctx context.Context, env *cli.Env, args []string) error {
	from, to := args[:len(args)-1], args[len(args)-1]
	p.many = p.set.Many() || len(from) > 1
	parse := registry.ParseReference
	if p.many {
		parse = registry.ParsePrefix
	}

	ref, err := operands.ParseDestination(parse, to)
	if err != nil {
		return err
	}

	opts, err := p.options(env, from)
	if err != nil {
		return err
	}

	// The script asks the registry when it is run. Nothing is asked now, so there is no client.
	if *p.script.wanted {
		return p.writeScript(env, from[0], ref, opts)
	}

	client, err := p.registry.Client(env, ref, p.set.FromFile == "-")
	if err != nil {
		return err
	}

	// Of many images some may be in the registry although others failed, so reports are printed after
	// an error as well.
	r := pushRun{env: env, client: client, o: opts, require: *p.how.require}
	reports, err := p.send(ctx, r, from, ref)
	return errors.Join(err, printReports(env, reports, err, *p.asJSON, opts.DryRun))
}

// options returns what the flags say, once all of them are checked.
func (p *pushing) options(env *cli.Env, from []string) (pushcmd.Options, error) {
	opts, err := p.how.options(env)
	if err != nil {
		return opts, err
	}

	if err := p.set.Parse(p.many, len(from)); err != nil {
		return opts, err
	}

	if err := p.script.check(); err != nil {
		return opts, err
	}

	opts.FailFast = p.set.FailFast
	switch {
	case *p.script.wanted && len(from) > 1:
		err = cli.Usagef("--script goes with one layout: --all or --from-file name its images")
	case p.many && len(opts.Tags) > 0:
		err = cli.Usagef("--tag goes with one image: those of a set have their own names")
	}
	return opts, err
}

// send opens the places of the images and pushes them.
func (p *pushing) send(ctx context.Context, r pushRun, from []string, ref registry.Reference) ([]pushcmd.Report, error) {
	places := operands.NewPlaces(p.registry)
	if !p.many {
		// Another registry is asked for the image first. That time is enough to connect to this one.
		if at, err := operands.PlaceOf(from[0]); err == nil && at == operands.AtRegistry {
			r.client.Connect(ctx, 1)
		}
		return r.one(ctx, pushedImage{places, from[0], *p.platform}, ref)
	}

	choice, err := places.Many(ctx, r.env, from, operands.Selection{Set: p.set, Platforms: *p.platform})
	if err != nil {
		return nil, err
	}
	defer choice.Close()
	return r.many(ctx, choice.Members, ref, p.set.Rewrites)
}

// pushFlags are the flags that say how to push.
type pushFlags struct {
	o         pushcmd.Options
	mode      *string
	chunkSize cli.Size
	mountFrom *[]string
	tags      *[]string
	require   *bool // fail if there are no referrers
}

func bindPushFlags(fs *flag.FlagSet) *pushFlags {
	p := new(pushFlags)
	commonflags.Sparse(fs, &p.o.Rules)
	p.mode = cli.Choice(fs, "mode", "auto", "send blobs by `HOW`", "auto", "stream (one PATCH)", "put (one PUT)", "chunk")
	fs.Var(&p.chunkSize, "chunk-size", "send at most `SIZE` bytes a request")
	commonflags.JobsVar(fs, &p.o.Jobs)
	p.tags = cli.List(fs, "tag", "t", "name the image by `TAG` too (repeatable)")
	p.mountFrom = cli.List(fs, "mount-from", "", "take blobs over from the repository `REPO` if it has them (repeatable)")
	fs.StringVar(&p.o.State, "state", "", "keep the state of broken uploads in `DIR` for the next process")
	commonflags.ReferrersVar(fs, &p.o.Referrers)
	fs.BoolVar(&p.o.Check, "check", false, "ask for every blob, and send those that the registry has lost")
	p.require = commonflags.BindRequireReferrers(fs)
	commonflags.DryRunVar(fs, &p.o.DryRun)
	return p
}

// options checks the values of the flags and returns what they say.
func (p *pushFlags) options(env *cli.Env) (pushcmd.Options, error) {
	o := p.o
	o.Mode, o.ChunkSize, o.MountFrom, o.Tags = pushcmd.Mode(*p.mode), int64(p.chunkSize), *p.mountFrom, *p.tags
	o.Referrers = o.Referrers || *p.require
	if o.Jobs < 0 {
		return o, cli.Usagef("flag -j: it cannot be negative")
	}

	for _, repo := range o.MountFrom {
		if err := registry.CheckRepository(repo); err != nil {
			return o, cli.Usagef("flag --mount-from: %v", err)
		}
	}

	for _, tag := range o.Tags {
		if err := registry.CheckTag(tag); err != nil {
			return o, cli.Usagef("flag --tag: %v", err)
		}
	}

	o.Notice = env.Tell
	o.Progress = env.Report()
	return o, nil
}

// A pushRun is what the flags of a push say.
type pushRun struct {
	env     *cli.Env
	client  *registry.Client
	o       pushcmd.Options
	require bool // fail if there are no referrers
}

// one pushes an image.
func (p pushRun) one(ctx context.Context, from pushedImage, ref registry.Reference) ([]pushcmd.Report, error) {
	l, desc, err := from.open(ctx, p.env, p.o.Rules)
	if err != nil {
		return nil, err
	}
	defer l.Close()

	if p.o.Referrers {
		if err := operands.CountReferrers(p.env, []operands.Member{{Src: l, Desc: desc}}, p.require); err != nil {
			return nil, err
		}
	}

	report, err := pushcmd.Push(ctx, p.client, l, operands.Unnamed(desc), ref, p.o)
	return []pushcmd.Report{report}, err
}

// many pushes the images of a set.
func (p pushRun) many(ctx context.Context, members []operands.Member, ref registry.Reference, rewrites oci.Rewrites) ([]pushcmd.Report, error) {
	if p.o.Referrers {
		if err := operands.CountReferrers(p.env, members, p.require); err != nil {
			return nil, err
		}
	}

	images, err := operands.Destinations(members, ref, rewrites)
	if err != nil {
		return nil, err
	}

	return pushcmd.PushAll(ctx, p.client, images, p.o)
}

// A pushedImage is what the first operand of push names.
type pushedImage struct {
	places             *operands.Places
	operand, platforms string
}

// open opens the place of the image. A local image must be complete: to find that out before a long
// push costs no request.
func (p pushedImage) open(ctx context.Context, env *cli.Env, rules graph.Rules) (source.Source, oci.Descriptor, error) {
	src, desc, err := p.places.Some(ctx, env, p.operand, p.platforms)
	if err == nil && !source.Remote(src) {
		err = complete(src, desc, p.operand, rules)
	}
	return src, desc, err
}

// complete closes src and returns an error if an image in it lacks something.
func complete(src source.Source, desc oci.Descriptor, operand string, rules graph.Rules) error {
	err := graph.Check(src, desc, rules)
	if err == nil {
		return nil
	}
	src.Close()
	return operands.IncompleteHint(src, fmt.Errorf("%q: %w", operand, err))
}

// printReports prints the names of what was pushed, or the plan.
func printReports(env *cli.Env, reports []pushcmd.Report, pushErr error, asJSON, dryRun bool) error {
	for _, r := range reports {
		switch {
		case dryRun:
			if err := show.WriteEachJSON(env.Stdout, r.Steps); err != nil {
				return err
			}
		case asJSON:
			if err := show.WriteJSON(env.Stdout, r); err != nil {
				return err
			}
		// After an error the lone image has no name to print; of many those that arrived have one.
		case r.Error == "" && (pushErr == nil || len(reports) > 1):
			ref, err := registry.ParseReference(r.Reference)
			if err != nil {
				return err
			}
			ref.Tag, ref.Digest = "", r.Descriptor.Digest
			if err := show.WriteLines(env.Stdout, []string{ref.String()}); err != nil {
				return err
			}
		}

		if r.Error != "" {
			env.Notice("ocikit: %s: %s", r.Reference, r.Error)
			continue
		}

		env.Summary(pushErr, "ocikit: %s: %s; %d bytes sent, %d needed, %s, %.1f s",
			r.Reference, countActions(r), r.BytesSent, r.BytesNeeded, show.Count(int(r.Requests), "request"), r.Seconds)
	}

	return nil
}

// countActions says what became of blobs: "12 uploaded, 1 exists".
func countActions(r pushcmd.Report) string {
	var parts []string
	for _, action := range []string{"upload", "uploaded", "resumed", "mount", "mounted", "exists", "skip"} {
		n := 0
		for _, s := range r.Steps {
			if s.Action == action {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing to send")
}
