package layoutcmd

import (
	"context"
	"errors"
	"io"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/pushcmd"
)

// toLayout copies into a layout, which is made if need be.
func (c *copying) toLayout(ctx context.Context, env *cli.Env, dir string) error {
	to, undo, err := operands.TargetLayout(dir, c.o.DryRun)
	if err != nil {
		return err
	}

	// A dry run makes no layout. If there is no layout yet, to stays nil, which Copy allows then.
	if to != nil {
		defer to.Close()
	}

	count := map[layout.How]int{}
	bytes := map[layout.How]int64{}
	c.o.Progress = env.Report()
	c.o.Report = func(desc oci.Descriptor, how layout.How) error {
		count[how]++
		bytes[how] += desc.Size
		if !c.o.DryRun {
			return nil
		}
		return show.WriteJSON(env.Stdout, show.StepOf(string(how), desc))
	}

	done, err := c.intoLayout(ctx, env, to)

	// A layout that this copy made, and that names nothing, is removed.
	if len(done) == 0 {
		undo()
		return err
	}

	for _, how := range []layout.How{layout.HowLinked, layout.HowCloned, layout.HowCopied, layout.HowRepaired, layout.HowKept, layout.HowAbsent} {
		if count[how] > 0 {
			env.Detail("%s: %d blobs, %d bytes", how, count[how], bytes[how])
		}
	}

	return errors.Join(err, c.report(env, done))
}

// intoLayout copies the images. Those of one source are copied at once, so that none is named
// unless all are whole. If that fails, or the sources differ, they are copied one after the other.
func (c *copying) intoLayout(ctx context.Context, env *cli.Env, to *layout.Layout) (done []*oci.Descriptor, err error) {
	images := c.descs()
	if len(images) == len(c.images) && !slices.ContainsFunc(c.images, func(m operands.Member) bool { return m.Src != c.images[0].Src }) {
		err := to.Copy(ctx, c.images[0].Src, images, c.o)
		if err == nil {
			return images, nil
		}

		// A lone image would fail again in the same way.
		if len(images) == 1 || ctx.Err() != nil || c.set.FailFast {
			return nil, err
		}
	}

	err = operands.Each(ctx, env, c.images, c.set.FailFast, func(i int, m operands.Member) error {
		desc := &c.images[i].Desc
		err := to.Copy(ctx, m.Src, []*oci.Descriptor{desc}, c.o)
		if err == nil {
			done = append(done, desc)
		}
		return err
	})

	return done, err
}

// report prints the descriptors of what was copied, or the names that it would get.
func (c *copying) report(env *cli.Env, images []*oci.Descriptor) error {
	for _, desc := range images {
		if !c.o.DryRun {
			if err := oci.WriteDescriptors(env.Stdout, operands.Unnamed(*desc)); err != nil {
				return err
			}
			continue
		}
		step := show.StepOf("tag", *desc)
		step.Name = desc.Annotations.Get(oci.AnnotationRefName)
		if err := show.WriteJSON(env.Stdout, step); err != nil {
			return err
		}
	}
	return nil
}

// toArchive writes an archive of what can be copied, in the place of one that is there. On standard
// output the archive is the result, so no descriptors are printed.
func (c *copying) toArchive(ctx context.Context, env *cli.Env, file string) error {
	var members []operands.Archived
	for _, m := range c.images {
		members = append(members, operands.Archived{Member: m, Image: archive.ImageOf(m.Src, m.Desc)})
	}

	plan, failed, err := operands.PlanSet(ctx, env, members, c.set.FailFast, c.plan, func(im archive.Image) error {
		_, err := c.plan([]archive.Image{im})
		return err
	})
	if err != nil {
		return err
	}

	env.Say(plan.Notices...)

	if c.o.DryRun {
		if err := cli.CheckOutput(file); err != nil {
			return err
		}
		return errors.Join(show.WriteEachJSON(env.Stdout, plan.Members), failed)
	}

	env.Planned(plan.Bytes())
	if file == "-" {
		file = ""
	}

	if err := operands.WriteTar(env, file, func(w io.Writer) error { return plan.Save(ctx, w) }); err != nil || file == "" {
		return errors.Join(err, failed)
	}

	return errors.Join(failed, c.report(env, c.planned))
}

// plan works out an archive of images, and of what refers to them if that is wanted. It notes in
// c.planned what was asked for last.
func (c *copying) plan(images []archive.Image) (*archive.Plan, error) {
	// A second plan is made, of fewer images, where the first one fails.
	c.planned = nil
	for _, im := range images {
		c.planned = append(c.planned, &im.Desc)
	}

	all := slices.Clone(images)
	if c.o.Referrers {
		found, _, err := archive.Referrers(images, *c.require)
		if err != nil {
			return nil, err
		}
		for i, im := range images {
			for _, r := range found[i] {
				all = append(all, archive.ImageOf(im.Source, r.Desc.Beside(im.Desc)))
			}
		}
	}

	return archive.NewPlan(all, archive.Both, c.o.Rules)
}

// toRegistry pushes to a registry.
func (c *copying) toRegistry(ctx context.Context, env *cli.Env, ref registry.Reference) (err error) {
	client, err := c.clients.Of(env, ref)
	if err != nil {
		return err
	}

	o := pushcmd.Options{
		Referrers: c.o.Referrers, Rules: c.o.Rules, DryRun: c.o.DryRun, FailFast: c.set.FailFast,
		Progress: env.Report(), Notice: env.Tell,
	}

	images, err := c.destinations(ref)
	if err != nil {
		return err
	}

	var reports []pushcmd.Report
	if c.many() {
		reports, err = pushcmd.PushAll(ctx, client, images, o)
	} else {
		o.MountFrom = images[0].MountFrom
		reports = make([]pushcmd.Report, 1)
		reports[0], err = pushcmd.Push(ctx, client, images[0].Source, images[0].Desc, ref, o)
	}

	for i, r := range reports {
		switch {
		case r.Error != "":
			env.Notice("ocikit: %s: %s", r.Reference, r.Error)
		case c.o.DryRun:
			err = errors.Join(err, show.WriteEachJSON(env.Stdout, r.Steps))
		case err == nil || c.many():
			err = errors.Join(err, oci.WriteDescriptors(env.Stdout, images[i].Desc))
		}
	}

	return err
}

// destinations says where each image goes. One alone goes to just the name in the operand. Of many, each
// gets a name of its own below it.
func (c *copying) destinations(ref registry.Reference) ([]pushcmd.Image, error) {
	if !c.many() {
		return []pushcmd.Image{operands.Destination(c.images[0], ref)}, nil
	}

	rewrites := c.set.Rewrites
	if len(c.sources) == 0 {
		rewrites = nil // those of a list have their names already
	}
	return operands.Destinations(c.images, ref, rewrites)
}
