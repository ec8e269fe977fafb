package layoutcmd

import (
	"context"
	"errors"
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

func copyCommand() cli.Command {
	return cli.Command{
		Name: "copy", Args: "[IMAGE...] IMAGE", Group: cli.GroupLayout, Progress: true,
		Short: "copy an image from one place to another",
		Long: `Copy brings an image, or a whole index, from any place to any other: a layout, an archive, a
registry. A layout is made if need be, an archive is written anew, "-" as the second operand writes one
to standard output. The image is named there, and its descriptor printed. Without a tag in the second
operand it keeps its name, and is called "latest" if it had none. With one --platform the image for it is copied, alone; with several, joined by
commas, an index of those, with their attestations: it has a digest of its own. --referrers brings what
refers to the images, too: signatures, SBOMs.

Several images go to the place that the last operand names, each under its own name: those of one place
under the names that they have there, those of several under full names, as "ocikit help names" says.
--all copies every entry of the places under its own name, of a repository every tag. --from-file copies those that a list
names: of the first place, or, if the target stands alone, of the registries in their names, as
"pull --from-file" does. A registry as the target is docker://HOST or docker://HOST/PREFIX then, as with
"push --all". One image that cannot be copied is named and does not keep the others.

From layout to layout a blob becomes a hard link where the file system allows that, else it shares its
blocks, else its bytes are copied and verified. A link is the same file, so its bytes are not read unless
--verify is given; its size is checked, and manifests are verified in any case. --no-link shares nothing.
From registry to registry blobs are streamed: nothing is kept on disk.

A blob that the target has already is verified, and replaced if it is damaged. What the first place
lacks may be in the second: so a sparse layout completes one that has the rest. Names are set last, all
at once; a copy that fails, or is killed, leaves the target as it was, but for blobs that nothing names.
One that a failed copy has made goes again.`,
		Example: "ocikit copy app:latest carried\nocikit copy app:latest app.tar\nocikit copy app.tar docker://localhost:5000/hello:copied\nocikit copy docker://localhost:5000/hello:copied back\nocikit verify back",
		Status:  "1 if a blob is damaged, or in neither place; 4 if there is no such image or platform",
		Bind: func(fs *flag.FlagSet) cli.Action {
			remote := commonflags.BindRegistry(fs)
			c := &copying{places: operands.NewPlaces(remote), clients: operands.NewClients(remote), platform: commonflags.BindPlatform(fs)}
			c.set, c.lockFile = commonflags.BindSet(fs), commonflags.BindLock(fs)
			commonflags.Sparse(fs, &c.o.Rules)
			commonflags.ReferrersVar(fs, &c.o.Referrers)
			c.require = commonflags.BindRequireReferrers(fs)
			fs.BoolVar(&c.o.Verify, "verify", false, "read and verify what is linked, too")
			fs.BoolVar(&c.o.NoLink, "no-link", false, "copy bytes, share no file with the first layout")
			commonflags.DryRunVar(fs, &c.o.DryRun)
			return c.run
		},
	}
}

// A copying is one run of copy: its flags, then what it copies.
type copying struct {
	places   *operands.Places
	clients  *operands.Clients
	platform *string
	set      *commonflags.Set
	lockFile *string
	require  *bool
	o        layout.CopyOptions

	several bool            // operands that name images, and not one alone
	sources []source.Source // the places of the images that operands name
	images  []operands.Member
	planned []*oci.Descriptor // the images that an archive will hold
	lock    *operands.Lock
}

// many reports whether a set is copied.
func (c *copying) many() bool { return c.set.Many() || c.several }

func (c *copying) run(ctx context.Context, env *cli.Env, args []string) (err error) {
	fromList := len(args) == 1 && c.set.FromFile != ""
	c.several = len(args) > 2
	to, err := c.parse(args, fromList)
	if err != nil {
		return err
	}

	defer c.close()
	if err := c.connect(ctx, env, args, to); err != nil {
		return err
	}

	if fromList {
		err = c.openListed(ctx, env)
	} else {
		err = c.open(ctx, env, args[:len(args)-1], to)
	}
	if err != nil {
		return err
	}

	// The meanings of names were found out even if the copy fails, so the lock is written in any
	// case.
	defer func() { err = errors.Join(err, c.lock.Write(env)) }()

	// To count those of registries costs a request for each image, so it is done only if it decides.
	if c.o.Referrers = c.o.Referrers || *c.require; c.o.Referrers && (!fromList || *c.require) {
		if err := operands.CountReferrers(env, c.images, *c.require); err != nil {
			return err
		}
	}

	// A digest in the second operand asserts what is copied.
	if !c.many() {
		c.images[0].Desc = renamed(c.images[0].Desc, to.Name.Tag)
		if d := to.Name.Digest; !d.IsZero() && c.images[0].Desc.Digest != d {
			return cli.Usagef("the image is %s, the second operand says %s", c.images[0].Desc.Digest, d)
		}
	}

	for _, m := range c.images {
		if m.Err == nil {
			env.Watch(m.Src)
		}
	}

	err = c.send(ctx, env, to)
	if errors.Is(err, graph.ErrIncomplete) && len(c.sources) == 1 && !source.Remote(c.sources[0]) {
		err = cli.WithHint(err, "`ocikit verify %s` lists what is missing", operands.OperandOf(c.sources[0]))
	}

	return err
}

// parse checks flags and operands, and returns where to copy to.
func (c *copying) parse(args []string, fromList bool) (to operands.Target, err error) {
	switch {
	case len(args) < 2 && !fromList:
		return to, cli.Usagef("%s, want two images", show.Count(len(args), "operand"))
	case *c.lockFile != "" && !fromList:
		return to, cli.Usagef("--lock goes with --from-file, and a target alone")
	}

	if err := c.set.Parse(c.many(), len(args)-1); err != nil {
		return to, err
	}

	target := args[len(args)-1]
	if to, err = operands.ParseTarget(target, c.many()); err != nil {
		return to, err
	}

	if c.many() && (to.Name.Tag != "" || !to.Name.Digest.IsZero()) {
		return to, cli.Usagef("%q names an image: for many images give the place without a tag or digest", target)
	}

	return to, nil
}

// connect connects to the registry that one image goes to while another registry is asked for it.
func (c *copying) connect(ctx context.Context, env *cli.Env, args []string, to operands.Target) error {
	if c.many() || to.Place != operands.AtRegistry {
		return nil
	}

	// A wrong operand is told when it is opened.
	if from, err := operands.PlaceOf(args[0]); err != nil || from != operands.AtRegistry {
		return nil
	}

	client, err := c.clients.Of(env, to.Ref)
	if err == nil {
		client.Connect(ctx, 1)
	}
	return err
}

// send copies the images to a place of any kind.
func (c *copying) send(ctx context.Context, env *cli.Env, to operands.Target) error {
	switch to.Place {
	case operands.AtArchive:
		return c.toArchive(ctx, env, to.Name.Dir)
	case operands.AtRegistry:
		return c.toRegistry(ctx, env, to.Ref)
	}
	return c.toLayout(ctx, env, to.Name.Dir)
}

// descs returns the images that were found.
func (c *copying) descs() []*oci.Descriptor {
	all := make([]*oci.Descriptor, 0, len(c.images))
	for i, m := range c.images {
		if m.Err == nil {
			all = append(all, &c.images[i].Desc)
		}
	}
	return all
}

func (c *copying) close() {
	if c.places.Here != nil {
		c.places.Here.Close()
	}
	for _, src := range c.sources {
		src.Close()
	}
}

// open opens the places of the operands and finds what to copy.
func (c *copying) open(ctx context.Context, env *cli.Env, from []string, to operands.Target) error {
	if !c.many() {
		// A registry is not asked for a manifest that the target has. Whether a layout can be made
		// there, and why not, is told when it is opened for the copy.
		if to.Place == operands.AtLayout {
			c.places.Here, _ = layout.Open(to.Name.Dir)
		}

		src, desc, err := c.places.Some(ctx, env, from[0], *c.platform)
		if err != nil {
			return err
		}
		c.sources, c.images = []source.Source{src}, []operands.Member{{Src: src, Desc: operands.Called(src, desc)}}
		return nil
	}

	// A registry's names are worked out by the push, --map among them.
	s := operands.Selection{Set: c.set, Platforms: *c.platform, Rename: to.Place != operands.AtRegistry}
	choice, err := c.places.Many(ctx, env, from, s)
	if err != nil {
		return err
	}
	c.sources, c.images = choice.Sources, choice.Members
	return nil
}

// openListed finds what to copy in the registries of a list.
func (c *copying) openListed(ctx context.Context, env *cli.Env) (err error) {
	c.clients.StdinIsList = c.set.FromFile == "-"
	if c.lock, err = operands.ReadLock(env, *c.lockFile); err != nil {
		return err
	}
	images, err := c.clients.Listed(ctx, env, c.set)
	if err != nil {
		return err
	}
	c.images, err = c.clients.Members(ctx, env, images, *c.platform, c.lock)
	return err
}

// renamed gives an entry the name that it gets in the target: tag, or else its own, or else
// "latest".
func renamed(desc oci.Descriptor, tag string) oci.Descriptor {
	switch {
	case tag != "":
		// The full name of the old entry would be a second name, and a wrong one.
		desc = desc.WithAnnotation(oci.AnnotationImageName, "")
	case desc.Annotations.Get(oci.AnnotationRefName) == "":
		tag = "latest"
	default:
		return desc
	}
	return desc.WithAnnotation(oci.AnnotationRefName, tag)
}
