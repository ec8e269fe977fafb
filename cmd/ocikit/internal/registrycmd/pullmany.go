package registrycmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/registry/pull"
	"ocikit/oci/source"
)

// all pulls every tag of a repository.
func (p *pulling) all(ctx context.Context, env *cli.Env, operand string) error {
	repo, err := commonflags.ParseRef(registry.ParseRepository, operand)
	if err != nil {
		return err
	}

	images, err := p.clients.Tags(ctx, env, repo, p.set.Filter)
	if err == nil && len(images) == 0 {
		err = cli.NotThere(fmt.Errorf("%s: the repository has no tags, or none that fits", repo.Repository()))
	}
	if err != nil {
		return err
	}

	// In notices the tag is enough: the repository is the same for all.
	for i := range images {
		images[i].Name = fmt.Sprintf("tag %q", images[i].Ref.Tag)
	}

	// --map rewrites full names, so all images are called by theirs then.
	if len(p.set.Rewrites) > 0 {
		for i, w := range images {
			images[i].As = w.Ref.Repository() + ":" + w.Ref.Tag
		}
		images = operands.Distinct(images, p.set.Rewrites)
	}

	return p.many(ctx, env, images, nil)
}

// list pulls what --from-file lists.
func (p *pulling) list(ctx context.Context, env *cli.Env) error {
	lock, err := operands.ReadLock(env, *p.lockFile)
	if err != nil {
		return err
	}
	images, err := p.clients.Listed(ctx, env, p.set)
	if err != nil {
		return err
	}
	return p.many(ctx, env, images, lock)
}

// many pulls images one after the other. One that fails is named and does not keep the others.
func (p *pulling) many(ctx context.Context, env *cli.Env, images []operands.Wanted, lock *operands.Lock) (err error) {
	if err := p.local(); err != nil {
		return err // which is about none of the images
	}

	// failed counts all images, hosts those of each registry: a registry that is down must not cost
	// its time-out for each of its images.
	failed := source.Failures{Total: len(images), Fast: p.set.FailFast, Began: env.Now()}
	hosts := map[string]*source.Failures{}
	for _, w := range images {
		if w.Err == nil {
			hosts[w.Ref.Host] = new(source.Failures)
		}
	}

	// Blobs that several images share are read and checked once.
	p.o.Verified = new(pull.Verified)
	defer func() { err = errors.Join(err, lock.Write(env)) }()

	// The images that came get their names whatever ends the loop. Then the tags that entry has
	// read are out of date.
	p.group = &naming{}
	p.o.Name = p.group.add
	name := func() error {
		p.tags = nil
		return p.group.name(ctx, p.l, func(image string, err error) {
			failed.Add(show.Printable(image), err)
			env.Notice("ocikit: %s: %v", image, err)
		})
	}

	defer func() {
		if nameErr := name(); nameErr != nil {
			err = errors.Join(err, nameErr)
		} else if err == nil {
			err = failed.Err()
		}
	}()

	for i, w := range images {
		host := hosts[w.Ref.Host]
		err := p.try(ctx, env, w, host, lock)
		if nameErr := p.group.due(env.Now(), name); nameErr != nil {
			return nameErr
		}

		// An interruption is not a failure of this image, which may have come whole.
		if ctx.Err() != nil {
			return cmp.Or(err, context.Cause(ctx))
		}

		failed.Add(show.Printable(w.Name), err)
		if err := p.tell(env, w, err); err != nil {
			return err
		}

		if p.o.Progress == nil {
			operands.SaySoFar(env, &failed, i+1)
		}

		isDown := w.Err == nil && len(hosts) == 1 && host.Hopeless()

		// The remaining images would fail as well: the first failure was to end the list, the only
		// registry is down, or the disk is full.
		if failed.Fast && failed.Hopeless() || isDown || errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("given up behind image %d: %w", i+1, failed.Err())
		}
	}

	return nil // the deferred functions name what is left and add the failures
}

// try pulls one of many images. host counts the failures of its registry.
func (p *pulling) try(ctx context.Context, env *cli.Env, w operands.Wanted, host *source.Failures, lock *operands.Lock) error {
	switch {
	case w.Err != nil:
		return w.Err
	case host.Hopeless():
		return fmt.Errorf("not tried, as %s did not answer: %w", w.Ref.Host, host.Errs[len(host.Errs)-1])
	}
	p.group.begin(w.Name)
	err := p.locked(ctx, env, w, lock)
	host.Add(w.Name, err)
	return err
}

// tell says why an image did not come, if it did not.
func (p *pulling) tell(env *cli.Env, w operands.Wanted, failure error) error {
	if failure == nil {
		return nil
	}
	env.Notice("ocikit: %s: %v", w.Name, failure)
	if !*p.asJSON {
		return nil
	}
	return show.WriteJSON(env.Stdout, pull.Report{Reference: w.Name, Steps: []pull.Step{}, Error: failure.Error()})
}

// A naming holds images that are in the layout and have no names yet. Setting one name writes the
// whole index.json, so many images get theirs at once. What is printed of an image waits until it
// has its name.
type naming struct {
	since   time.Time // the oldest of them
	image   string    // that is pulled now
	waiting []unnamed
}

// An unnamed image has its blobs in the layout, but no entry in index.json.
type unnamed struct {
	image   string
	entries []oci.Descriptor
	rules   graph.Rules
	then    func() error
}

// These bound how many images wait for their names, and how long: after a crash they are fetched as
// far as their blobs go, but without names.
const (
	maxUnnamed  = 200
	maxNameless = 5 * time.Second
)

func (g *naming) begin(image string) { g.image = image }

// add takes the entries of an image that is there.
func (g *naming) add(_ context.Context, entries []oci.Descriptor, rules graph.Rules) error {
	g.waiting = append(g.waiting, unnamed{image: g.image, entries: entries, rules: rules})
	return nil
}

// then calls do once the image that was added last has its names. A nil naming keeps nothing back,
// so do is called at once.
func (g *naming) then(do func() error) error {
	if g == nil {
		return do()
	}
	g.waiting[len(g.waiting)-1].then = do
	return nil
}

// due calls name if enough images wait, or one has waited for long.
func (g *naming) due(now time.Time, name func() error) error {
	if len(g.waiting) == 0 || g.since.IsZero() {
		g.since = now
	}
	if len(g.waiting) < maxUnnamed && now.Sub(g.since) < maxNameless {
		return nil
	}
	g.since = now
	return name()
}

// name names all images that wait. It tells bad of those that cannot be named.
func (g *naming) name(ctx context.Context, l *layout.Layout, bad func(image string, err error)) error {
	waiting := g.waiting
	g.waiting = nil
	if len(waiting) == 0 {
		return nil
	}

	var all []oci.Descriptor
	for _, u := range waiting {
		all = append(all, u.entries...)
	}

	// Names are set all or none. If one image spoils that, each is tried by itself, so that the
	// others get theirs.
	together := l.AddEntries(ctx, all, waiting[0].rules)
	for _, u := range waiting {
		err := together
		if err != nil {
			err = l.AddEntries(ctx, u.entries, u.rules)
		}
		if err != nil {
			bad(u.image, err)
			continue
		}
		if err := u.then(); err != nil {
			return err
		}
	}

	return nil
}

// locked pulls an image by the digest that its name is locked to, or locks it.
func (p *pulling) locked(ctx context.Context, env *cli.Env, w operands.Wanted, lock *operands.Lock) error {
	now, isLocked := lock.Pin(w)
	named, err := p.run(ctx, env, now)
	switch {
	case err == nil && !*p.dryRun:
		lock.Add(w, named)
	case isLocked && errors.Is(err, registry.ErrNotFound):
		return p.moved(ctx, env, now, err)
	}
	return err
}

// moved adds to the error about a locked digest that is gone what the name means now.
func (p *pulling) moved(ctx context.Context, env *cli.Env, w operands.Wanted, err error) error {
	c, clientErr := p.clients.Of(env, w.Ref)
	if clientErr != nil {
		return err
	}
	now, headErr := c.HeadManifest(ctx, w.Ref.Repo, w.Ref.Tag)
	if headErr != nil || now.Digest == w.Ref.Digest {
		return err
	}
	return fmt.Errorf("locked to %s, moved to %s: %w", w.Ref.Digest, now.Digest, err)
}
