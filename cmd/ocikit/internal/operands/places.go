package operands

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/oci/source"
)

// Places opens the IMAGE of a command wherever it is: in a layout, in an archive, which is read in
// place, or in a registry. The sources that it returns are closed by the caller.
type Places struct {
	Documents bool           // only documents are read: what is compressed needs no temporary file
	Here      *layout.Layout // manifests that are here are not asked of a registry; nil is none

	remote *commonflags.Registry
}

// BindPlaces declares the flags of a command that reads images: those of registries.
func BindPlaces(fs *flag.FlagSet) *Places {
	return &Places{remote: commonflags.BindRegistry(fs)}
}

// NewPlaces is [BindPlaces] for a command that has the flags of registries for another reason.
func NewPlaces(remote *commonflags.Registry) *Places { return &Places{remote: remote} }

// cutArchivePrefix takes off the word that says that an operand is an archive.
func cutArchivePrefix(operand string) (rest string, ok bool) {
	for _, prefix := range []string{"oci-archive:", "docker-archive:"} {
		if rest, ok := strings.CutPrefix(operand, prefix); ok {
			return rest, true
		}
	}
	return operand, false
}

// isArchiveName reports whether a name can only be that of an archive, by its end.
func isArchiveName(name string) bool {
	return slices.ContainsFunc([]string{".tar", ".tar.gz", ".tgz", ".tar.zst"}, func(end string) bool { return strings.HasSuffix(name, end) })
}

// Open opens the place of an IMAGE, which need not be in it, and returns its name there.
func (p *Places) Open(ctx context.Context, env *cli.Env, operand string) (source.Source, oci.ImageName, error) {
	k, n, err := kindOf(operand)
	if err != nil {
		return nil, n, err
	}
	return k.open(p, ctx, env, operand, n)
}

// openLayout opens a layout on the disk.
func (p *Places) openLayout(_ context.Context, _ *cli.Env, _ string, n oci.ImageName) (source.Source, oci.ImageName, error) {
	l, err := OpenDir(n.Dir)
	if err != nil {
		return nil, n, err
	}
	return l, n, nil
}

// openArchive opens an archive in a file, in the parts of one, or on standard input.
func (p *Places) openArchive(ctx context.Context, env *cli.Env, _ string, n oci.ImageName) (source.Source, oci.ImageName, error) {
	o := archive.OpenOptions{
		Notice:    env.Tell,
		TempDir:   env.Getenv("TMPDIR"),
		Documents: p.Documents,
	}

	var a *archive.Archive
	var err error
	if n.Dir == "-" {
		if env.InTTY {
			return nil, n, cli.Usagef("standard input is a terminal: pipe an archive in")
		}
		in, err := env.TakeStdin()
		if err != nil {
			return nil, n, err
		}
		if a, err = archive.OpenStream(ctx, in, "standard input", o); err != nil {
			return nil, n, ArchiveHint(n.Dir, fmt.Errorf("standard input: %w", err))
		}
	} else {
		a, err = archive.Open(ctx, n.Dir, o)
	}

	if err != nil {
		return nil, n, ArchiveHint(n.Dir, err)
	}
	return a, n, nil
}

// openRemote opens a repository of a registry.
func (p *Places) openRemote(ctx context.Context, env *cli.Env, operand string, _ oci.ImageName) (source.Source, oci.ImageName, error) {
	c, ref, err := p.remote.Dial(env, registry.ParseReference, operand, false)
	if err != nil {
		return nil, oci.ImageName{}, err
	}

	var here graph.Store
	if p.Here != nil {
		here = p.Here
	}

	r := &repository{registry.NewRepository(ctx, c, ref, here), ref, c.Close}
	return r, oci.ImageName{Dir: r.Name(), Tag: ref.Tag, Digest: ref.Digest}, nil
}

// A repository closes its client.
type repository struct {
	*registry.Repository
	ref  registry.Reference
	done func()
}

func (r *repository) Close() error {
	r.done()
	return nil
}

// Called returns the descriptor of an image with the names that it has where it is. The entries of an
// index.json carry theirs; an image of a registry is called by its reference, as pull has it.
func Called(src source.Source, desc oci.Descriptor) oci.Descriptor {
	r, ok := source.Unwrap(src).(*repository)
	if !ok || r.ref.Tag == "" && !r.ref.Digest.IsZero() {
		return desc
	}
	return calledIn(desc, r.ref)
}

// calledIn gives an image the names that a reference says, its tag and its full name.
func calledIn(desc oci.Descriptor, ref registry.Reference) oci.Descriptor {
	tag := cmp.Or(ref.Tag, "latest")
	full := ref.Repository() + ":" + tag
	return desc.WithAnnotation(oci.AnnotationRefName, tag).WithAnnotation(oci.AnnotationImageName, full)
}

// repositoryOf returns the repository and the host of a source, if it is one of a registry.
func repositoryOf(src source.Source) (repo, host string, ok bool) {
	r, ok := source.Unwrap(src).(*repository)
	if !ok {
		return "", "", false
	}
	return r.ref.Repo, r.ref.Host, true
}

// ParseDestination reads the REF that images are pushed to, with a parser. One that tells no registry
// means Docker Hub. But if a layout or an archive has that name here, or the name can only be that of an
// archive, the registry was forgotten, and it is a usage error: nothing is to go to the internet that
// was not meant for it.
func ParseDestination(parse func(string) (registry.Reference, error), operand string) (registry.Reference, error) {
	n, err := oci.ParseImageName(operand)
	if err != nil || NamesRegistry(operand) || !holdsPlace(n.Dir) {
		return commonflags.ParseRef(parse, operand)
	}
	err = cli.Usagef("%q names no registry, and %q is here: want HOST/REPO", operand, n.Dir)
	return registry.Reference{}, cli.WithHint(err, "`ocikit copy IMAGE %s` stays here, docker://%[1]s is on Docker Hub", operand)
}

// holdsPlace reports whether a layout or an archive is called so, or may be.
func holdsPlace(name string) bool {
	if isArchiveName(name) || cli.Exists(filepath.Join(name, "oci-layout")) {
		return true
	}
	ok, err := archive.IsArchive(name)
	return ok && err == nil
}

// checkReplaceable returns an error if a file is there that is neither called an archive nor is one. Such
// a file was hardly meant: a layout of that name was.
func checkReplaceable(file string) error {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 || isArchiveName(file) {
		return nil
	}
	if ok, err := archive.IsArchive(file); ok || err != nil {
		return err
	}
	return cli.WithHint(fmt.Errorf("%q: a file that is not an archive is there", file), "oci-archive:%s replaces it", file)
}

// Image opens the place of an IMAGE and finds it there.
func (p *Places) Image(ctx context.Context, env *cli.Env, operand string) (source.Source, oci.Descriptor, error) {
	src, n, err := p.Open(ctx, env, operand)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	desc, err := resolve(src, n)
	if err != nil {
		src.Close()
		return nil, desc, err
	}
	return src, desc, nil
}

// resolve finds an image in its place.
func resolve(src source.Source, n oci.ImageName) (oci.Descriptor, error) {
	desc, err := src.Resolve(n)
	if _, isRemote := src.(*repository); errors.Is(err, graph.ErrNotFound) && !isRemote {
		err = cli.WithHint(err, "`ocikit ls %s` lists the names", n.Dir)
	}
	return desc, err
}

// Manifest opens an IMAGE as [Places.Image] does, and chooses the one image in it, or the one for
// the platform. It is an error if there are several and none is named; a platform that is not there
// has status 4.
func (p *Places) Manifest(ctx context.Context, env *cli.Env, operand, platform string) (source.Source, oci.Descriptor, error) {
	wish, err := ParsePlatformFlag(platform)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}

	src, desc, err := p.Image(ctx, env, operand)
	if err != nil {
		return nil, desc, err
	}

	if desc, err = choose(env, src, operand, desc, wish); err != nil {
		src.Close()
		return nil, desc, err
	}

	return src, desc, nil
}

// choose returns the one image in what was found, or the one for a platform.
func choose(env *cli.Env, src source.Source, operand string, desc oci.Descriptor, wish *oci.Platform) (oci.Descriptor, error) {
	choice, err := graph.Choose(src, desc, wish)
	if err != nil {
		if errors.Is(err, graph.ErrPlatform) {
			err = cli.WithHint(cli.NotThere(err), "name one with --platform OS/ARCH")
		}
		return desc, fmt.Errorf("%q: %w", operand, err)
	}

	// The choice may be the only one because others are not here, so they are named.
	if len(choice.Absent) > 0 {
		env.Notice("ocikit: %s: the index names images that are not here: %s", operand, strings.Join(choice.Absent, ", "))
	}

	if choice.Near != nil {
		env.Notice("ocikit: %s: %s", operand, choice.Near)
	}

	return choice.Desc, nil
}

// KeepLayers returns a source whose layers may be read twice. Those of a registry are kept in
// temporary files until it is closed.
func KeepLayers(env *cli.Env, src source.Source) source.Source {
	if !source.Remote(src) {
		return src
	}
	env.Detail("ocikit: %s: layers are kept in temporary files while they are read", src.Name())
	return source.Keep(src, env.Getenv("TMPDIR"))
}

// Find finds an IMAGE as [Places.Maybe] does, in its place, which is open.
func Find(env *cli.Env, src source.Source, n oci.ImageName, operand, platform string) (oci.Descriptor, error) {
	wish, err := ParsePlatformFlag(platform)
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc, err := resolve(src, n)
	if err != nil || wish == nil {
		return desc, err
	}
	return choose(env, src, operand, desc, wish)
}

// Some is [Places.Maybe] for several platforms, joined by commas: then it returns an index of those,
// which has a digest of its own and is in the source that it returns.
func (p *Places) Some(ctx context.Context, env *cli.Env, operand, platforms string) (source.Source, oci.Descriptor, error) {
	wishes, err := ParsePlatforms(platforms)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}

	if len(wishes) < 2 {
		return p.Maybe(ctx, env, operand, platforms)
	}

	src, desc, err := p.Image(ctx, env, operand)
	if err != nil {
		return nil, desc, err
	}

	m := Member{Name: operand, Src: src, Desc: desc}
	if m.narrow(env, wishes, false); m.Err != nil {
		src.Close()
		return nil, desc, fmt.Errorf("%q: %w", operand, m.Err)
	}

	return m.Src, m.Desc, nil
}

// narrow leaves of m what is for some platforms, in a source that has it. The names of m stay.
func (m *Member) narrow(env *cli.Env, wishes []oci.Platform, isMember bool) {
	entry := m.Desc
	var left graph.Narrowed
	if left, m.Err = graph.Narrow(m.Src, m.Desc, wishes, isMember); errors.Is(m.Err, graph.ErrPlatform) {
		m.Err = cli.NotThere(m.Err)
	}

	for _, near := range left.Near {
		env.Notice("ocikit: %s: %s", m.Name, near)
	}

	if left.Doc != nil {
		m.Src = source.With(m.Src, left.Desc, left.Doc)
	}

	m.Desc = withNames(left.Desc, entry)
}

// Maybe is [Places.Image], or [Places.Manifest] if a platform is named.
func (p *Places) Maybe(ctx context.Context, env *cli.Env, operand, platform string) (source.Source, oci.Descriptor, error) {
	if platform == "" {
		return p.Image(ctx, env, operand)
	}
	return p.Manifest(ctx, env, operand, platform)
}
