package operands

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/set"
	"ocikit/oci/source"
	"ocikit/pushcmd"
)

// A Member is one image of a set.
type Member struct {
	Name string // for messages
	Src  source.Source
	Desc oci.Descriptor // with the names of its entry
	Err  error          // why there is no such image
}

// SetOf returns the images of a place that are meant: those that a list names, or all that --tags
// and --exclude leave. Of each image they have the platforms that are wanted.
//
// A list that a pull has read names the images of its store, too: an image that the list calls
// OTHER is found under that name, or under its own.
func SetOf(env *cli.Env, flags *commonflags.Set, src source.Source, platforms string) ([]Member, error) {
	wishes, err := ParsePlatforms(platforms)
	if err != nil {
		return nil, err
	}

	all, err := entriesOf(env, flags, src)
	if err != nil {
		return nil, err
	}

	if len(all) == 0 {
		return nil, fmt.Errorf("%q: it holds no image that fits --tags and --exclude: %w", src.Name(), graph.ErrNotFound)
	}

	// An image without the platform is one that fails, and does not end the set.
	for i := range all {
		if m := &all[i]; m.Err == nil {
			m.Src = src
			m.narrow(env, wishes, true)
		}
	}

	return all, nil
}

// entriesOf returns the images of a place that are meant, whole.
func entriesOf(env *cli.Env, flags *commonflags.Set, src source.Source) ([]Member, error) {
	// A registry has no index.json. It lists tags, and each is asked for.
	if r, ok := source.Unwrap(src).(*repository); ok && flags.FromFile == "" {
		return r.tagged(flags.Filter)
	}

	// A layout may have a hundred thousand names, which are then here and nowhere else.
	if l, ok := src.(*layout.Layout); ok && flags.FromFile == "" {
		return membersOf(src, flags.Filter, l.Entries)
	}

	x, err := src.Index()
	if errors.Is(err, errors.ErrUnsupported) {
		err = cli.WithHint(err, "--from-file names images of registries where the target stands alone")
	}
	if err != nil {
		return nil, err
	}

	if flags.FromFile != "" && len(x.Manifests) > 0 {
		return listed(env, flags, src, x)
	}

	return membersOf(src, flags.Filter, func(take func(oci.Descriptor)) error {
		for _, desc := range x.Manifests {
			take(desc)
		}
		return nil
	})
}

// membersOf returns the entries of a place that a filter takes.
func membersOf(src source.Source, f set.Filter, entries func(take func(oci.Descriptor)) error) ([]Member, error) {
	var all []Member
	empty := true
	err := entries(func(desc oci.Descriptor) {
		empty = false
		if takes(f, desc) {
			all = append(all, Member{Name: NameOf(desc), Desc: desc})
		}
	})
	if err == nil && empty {
		err = fmt.Errorf("layout %q: it holds no image: %w", src.Name(), graph.ErrNotFound)
	}
	return distinct(all), err
}

// tagged returns the images of a repository that have tags which a filter takes. One that the registry
// lists and does not have, or whose name is none, is a member with an error.
func (r *repository) tagged(filter set.Filter) ([]Member, error) {
	images, err := wantedTags(r.Tags(), r.ref, filter)
	if err != nil {
		return nil, err
	}

	var all []Member
	for _, w := range images {
		m := Member{Name: w.Name, Err: w.Err}
		if m.Err == nil {
			m.Desc, m.Err = r.Resolve(oci.ImageName{Tag: w.Ref.Tag})
			m.Desc = calledIn(m.Desc, w.Ref)
		}
		all = append(all, m)
	}

	return all, nil
}

// Members finds images in their registries, each by the digest that its name is locked to, or as its
// name says now, and locks it then.
func (c *Clients) Members(ctx context.Context, env *cli.Env, images []Wanted, platforms string, lock *Lock) ([]Member, error) {
	wishes, err := ParsePlatforms(platforms)
	if err != nil {
		return nil, err
	}

	var all []Member
	for _, w := range images {
		m := Member{Name: w.Name, Err: w.Err}
		if m.Err == nil {
			m, m.Err = c.member(ctx, env, w, wishes, lock)
		}
		if ctx.Err() != nil {
			return nil, cmp.Or(m.Err, context.Cause(ctx))
		}
		all = append(all, m)
	}

	return all, nil
}

func (c *Clients) member(ctx context.Context, env *cli.Env, w Wanted, wishes []oci.Platform, lock *Lock) (Member, error) {
	m := Member{Name: w.Name}
	client, err := c.Of(env, w.Ref)
	if err != nil {
		return m, err
	}

	pinned, _ := lock.Pin(w)
	m.Src = &repository{registry.NewRepository(ctx, client, w.Ref, nil), w.Ref, func() {}}
	n := oci.ImageName{Tag: pinned.Ref.Tag, Digest: pinned.Ref.Digest}
	if !n.Digest.IsZero() {
		n.Tag = "" // which may mean another image now
	}

	if m.Desc, err = m.Src.Resolve(n); err != nil {
		return m, err
	}

	lock.Add(w, m.Desc.Digest)
	m.narrow(env, wishes, true)
	m.Desc = m.Desc.WithFullName(w.As)
	return m, m.Err
}

// SaySoFar says now and then how far work on many images is, for those who are shown no progress.
func SaySoFar(env *cli.Env, failed *source.Failures, done int) {
	if text := failed.SoFar(env.Now(), done); text != "" {
		env.Tell(text)
	}
}

// Each works on one image after the other. An image with an error, or one for which do fails, is
// named on standard error and does not keep the others, unless failFast says so or hope is lost
// ([source.Failures.Hopeless]). The error tells how many failed. When ctx is done Each ends with an
// error, also if nothing has failed until then.
func Each(ctx context.Context, env *cli.Env, members []Member, failFast bool, do func(i int, m Member) error) error {
	failed := source.Failures{Total: len(members), Fast: failFast, Began: env.Now()}
	for i, m := range members {
		err := m.Err
		if err == nil {
			err = do(i, m)
		}

		// The image may have come whole all the same, but those behind it have not.
		if ctx.Err() != nil {
			return cmp.Or(err, context.Cause(ctx))
		}

		if failed.Add(show.Printable(m.Name), err); err != nil {
			env.Notice("ocikit: %s: %v", m.Name, err)
		}

		if env.Report() == nil {
			SaySoFar(env, &failed, i+1)
		}
		if failed.Hopeless() {
			return failed.Err()
		}
	}

	return failed.Err()
}

// Destinations says where the members of a set go below HOST[/PREFIX].
func Destinations(members []Member, to registry.Reference, rewrites oci.Rewrites) ([]pushcmd.Image, error) {
	var images []pushcmd.Image
	for _, m := range members {
		im := pushcmd.Image{Name: m.Name, Source: m.Src, Desc: m.Desc, Err: m.Err}
		if m.Err == nil {
			im.MountFrom = mountFrom(m.Src, to)
		}
		images = append(images, im)
	}

	placed, err := pushcmd.Destinations(images, to, rewrites)
	for i, im := range placed {
		placed[i].Desc = Unnamed(im.Desc)
	}

	return placed, err
}

// Destination says that one image goes to a reference.
func Destination(m Member, to registry.Reference) pushcmd.Image {
	return pushcmd.Image{Source: m.Src, Desc: Unnamed(m.Desc), To: to, MountFrom: mountFrom(m.Src, to)}
}

// mountFrom returns the repository of a source, if it is one of the registry that images go to.
func mountFrom(src source.Source, to registry.Reference) []string {
	if repo, host, ok := repositoryOf(src); ok && host == to.Host {
		return []string{repo}
	}
	return nil
}

// CountReferrers says how much refers to images. An image without any is an error if they are required.
func CountReferrers(env *cli.Env, members []Member, require bool) error {
	var images []archive.Image
	for _, m := range members {
		if m.Err == nil {
			images = append(images, archive.Image{Source: m.Src, Desc: m.Desc})
		}
	}
	_, n, err := archive.Referrers(images, require)
	if err == nil {
		commonflags.ReportReferrers(env, n)
	}
	return err
}

// takes reports whether a filter leaves an entry. An entry that refers to an image and has no name
// of its own goes with the image.
func takes(f set.Filter, desc oci.Descriptor) bool {
	n, ok := oci.NameOfEntry(desc)
	if !ok {
		n.Tag = desc.Annotations.Get(oci.AnnotationRefName)
	}
	if n == (oci.Name{}) {
		return len(f.Tags)+len(f.Exclude) == 0
	}
	return f.Takes(n)
}

// withNames gives what was chosen from an image the names of its entry.
func withNames(desc, entry oci.Descriptor) oci.Descriptor {
	for _, key := range []string{oci.AnnotationRefName, oci.AnnotationImageName} {
		desc = desc.WithAnnotation(key, entry.Annotations.Get(key))
	}
	return desc
}

// listed finds the images that --from-file lists. Two lines for one image are one member; two images
// cannot have one name.
func listed(env *cli.Env, flags *commonflags.Set, src source.Source, x oci.Index) ([]Member, error) {
	lines, err := flags.Lines(env)
	if err != nil {
		return nil, err
	}

	var all []Member
	entries := newNamedEntries(src, x)
	taken := map[string]digest.Digest{}
	for _, line := range lines {
		m := entries.member(line)
		if m.Err == nil && !takes(flags.Filter, m.Desc) {
			continue
		}

		// A list that was put together may name an image twice, which does no harm.
		name := NameOf(m.Desc)
		other, twice := taken[name]
		switch {
		case m.Err != nil:
		case twice && other == m.Desc.Digest:
			continue
		case twice:
			m.Err = fmt.Errorf("line %d: %w: %s and %s would be %q", line.Number, graph.ErrAmbiguous, other, m.Desc.Digest, name)
		default:
			taken[name] = m.Desc.Digest
		}

		all = append(all, m)
	}

	return all, nil
}

// namedEntries are the entries of an index.json by their full names, and by the tags as they stand in it.
type namedEntries struct {
	src    source.Source
	index  oci.Index
	byName map[string]oci.Descriptor
}

func newNamedEntries(src source.Source, x oci.Index) *namedEntries {
	e := &namedEntries{src, x, map[string]oci.Descriptor{}}
	for _, desc := range x.Manifests {
		if n, ok := oci.NameOfEntry(desc); ok {
			e.byName[n.String()] = desc
		}
		e.byName[desc.Annotations.Get(oci.AnnotationRefName)] = desc
	}
	return e
}

// member returns the image that a line of a list means, called as the line says.
func (e *namedEntries) member(line set.Line) Member {
	m := Member{Name: line.Name, Err: line.Err}
	if m.Err == nil {
		if m.Desc, m.Err = e.find(cmp.Or(line.As, line.Name)); m.Err != nil && line.As != "" {
			m.Desc, m.Err = e.find(line.Name)
		}
	}

	switch {
	case m.Err != nil:
		m.Err = fmt.Errorf("line %d: %w", line.Number, m.Err)
	case line.As != "":
		n := oci.SplitName(line.As)
		if own, ok := oci.NameOfEntry(m.Desc); ok && n.Tag == "" && n.Digest.IsZero() {
			n.Tag, n.Digest = own.Tag, own.Digest
		}
		m.Desc = m.Desc.WithFullName(n.String())
	}

	return m
}

// find returns the entry that a name in a list means.
func (e *namedEntries) find(name string) (oci.Descriptor, error) {
	// Names in a list are written as on a command line: alpine is docker.io/library/alpine:latest.
	full := name
	if ref, err := registry.ParseReference(name); err == nil {
		n := oci.Name{Repo: ref.Repository(), Tag: ref.Tag, Digest: ref.Digest}
		if n.Digest.IsZero() {
			n.Tag = cmp.Or(n.Tag, "latest")
		}
		full = n.String()
	}

	for _, key := range []string{name, full} {
		if desc, ok := e.byName[key]; ok && key != "" {
			return desc, nil
		}
	}

	// A name that no entry has may still mean one: tags at the end of full names count, too.
	n := oci.SplitName(name)
	return graph.Resolve(e.src, e.index, oci.ImageName{Tag: oci.Name{Repo: n.Repo, Tag: n.Tag}.String(), Digest: n.Digest})
}
