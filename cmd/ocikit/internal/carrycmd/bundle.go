package carrycmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

func bundleCommand() cli.Command {
	return cli.Command{
		Name: "bundle", Args: "IMAGE...", Group: cli.GroupCarry, Progress: true,
		Short: "write images as a tar without the layers that the other side has",
		Long: `Bundle writes the tar of a layout that lists the images, on standard output: with all their
manifests, indexes and configs, and the layers that no --have names. --have takes what "ocikit
inventory" printed on the other side, a layout, or the tar of one, and may be given many times;
without it the bundle is whole. The same input gives the same bytes. "ocikit unbundle" applies it, and
so does every program that reads the tar of a layout, if it has the rest. Blobs that are left out need
not be here.

Through a network no file is needed: the far side says what it has, and gets the rest, as in
"ssh HOST ocikit inventory store | ocikit bundle app:v2 --have - | ssh HOST ocikit unbundle store".

--want takes the list that "ocikit unbundle" prints when something is missing, and carries just that;
the operands then say in which layouts to look. --referrers brings signatures and SBOMs, whether they
are known by their subject or by a tag.

--all carries every image of the places that the operands name, --from-file those that a list names,
whether they were pulled by it or not. Images keep their full names: "ocikit help names" says which. One
that cannot be carried is named, and the bundle holds the others, but with --fail-fast.

--delta carries, of a layer that the other side lacks, only what is different from the layers that it
has, wherever in them that is: one updated package of a large layer is a small bundle. What comes out
there is the very same blob, with its digest and its signatures, whatever program compressed it. The
layers to compare with must be here, in the layouts of the operands or of --base; if none is, those of
which --have says what they consist of ("ocikit inventory --chunks") do, with a larger delta. A layer
travels whole if its delta would be no smaller, and if another program than ocikit compressed it with
zstd; --dry-run says which. Layers are unpacked into temporary files in TMPDIR to compare them: here
all that are compared with (64 layers and 16 GiB of blobs at most), the layer to carry, and its delta
and recipe, neither larger than the layer as it is stored; deltas stay until the bundle is
written. On the other side it is the layers that one delta copies from.

--same-content does this only for a layer whose contents the other side has, compressed in another
way, for which nothing has to be here; "ocikit inventory --diff-ids" helps it to know more.

--sparse carries an index without those of its images that are absent; on the other side "ocikit
unbundle --sparse" names it.`,
		Example: "ocikit init carried\nocikit inventory carried > have.txt\nocikit bundle app:latest --have have.txt -o update.tar\nocikit unbundle carried update.tar",
		Status:  "1 if a layer to carry is absent or damaged, or referrers that are required are",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := &bundleFlags{places: operands.BindPlaces(fs)}
			f.have = cli.List(fs, "have", "", "leave out what is in `FILE`: an inventory, a layout, an image, or the tar of a layout (repeatable)")
			fs.StringVar(&f.want, "want", "", "carry what the list in `FILE` says is missing, and nothing else")
			f.platform = commonflags.BindPlatform(fs)
			f.set = commonflags.BindSet(fs)
			fs.BoolVar(&f.o.SameContent, "same-content", false, "leave out layers whose contents the other side has")
			fs.BoolVar(&f.o.Delta, "delta", false, "carry only what is different from layers that the other side has")
			f.base = cli.List(fs, "base", "", "with --delta: look for layers that the other side has in this `LAYOUT` or archive too (repeatable)")
			commonflags.Sparse(fs, &f.o.Rules)
			commonflags.ReferrersVar(fs, &f.o.Referrers)
			f.require = commonflags.BindRequireReferrers(fs)
			f.dryRun = commonflags.BindDryRun(fs)
			f.out = operands.BindTarOutput(fs)
			return f.run
		},
	}
}

// bundleFlags are one run of bundle: its flags, then what it carries.
type bundleFlags struct {
	places   *operands.Places
	set      *commonflags.Set
	o        archive.BundleOptions
	have     *[]string
	base     *[]string
	want     string
	platform *string
	require  *bool
	dryRun   *bool
	out      *string

	layouts []source.Source
	images  []archive.Image // those that the operands name
	members []operands.Archived
	failed  error // about the images of a set that the bundle does not hold
}

// run plans the bundle, and writes it or prints what it would hold.
func (f *bundleFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	f.o.Require = *f.require
	plan, closeAll, err := f.plan(ctx, env, args)
	defer closeAll() // places may be open after an error, too
	if err != nil {
		return err
	}
	defer plan.Close()

	env.Say(plan.Notices...)

	if f.o.Referrers || f.o.Require {
		commonflags.ReportReferrers(env, plan.Referrers)
	}

	if *f.dryRun {
		if err := cli.CheckOutput(*f.out); err != nil {
			return err
		}
		return errors.Join(printBundle(env, plan), f.failed)
	}

	n, size := plan.Bytes()
	env.Detail("ocikit: %s, %d bytes; %s left out", show.Count(n, "blob"), size, show.Count(len(plan.Omitted), "blob"))
	env.Planned(n, size)
	return errors.Join(operands.WriteTar(env, *f.out, func(w io.Writer) error { return plan.Save(ctx, w) }), f.failed)
}

// check refuses flags that exclude each other.
func (f *bundleFlags) check(args []string) error {
	if err := f.set.Parse(f.set.Many(), len(args)); err != nil {
		return err
	}
	switch {
	case f.want != "" && (f.set.Many() || *f.platform != ""):
		return cli.Usagef("--want goes without --all, --from-file and --platform")
	case len(*f.base) > 0 && !f.o.Delta:
		return cli.Usagef("--base goes with --delta")
	}
	return nil
}

// plan works out the bundle; of a set it takes the images that can be carried, and notes the others
// in f.failed. The caller closes the plan if there is one, and calls closeAll in any case.
func (f *bundleFlags) plan(ctx context.Context, env *cli.Env, args []string) (plan *archive.BundlePlan, closeAll func(), err error) {
	closeAll = func() {
		for _, src := range slices.Concat(f.layouts, f.o.Bases) {
			src.Close()
		}
	}

	if err := f.check(args); err != nil {
		return nil, closeAll, err
	}

	if err := f.readLists(ctx, env); err != nil {
		return nil, closeAll, err
	}

	for _, operand := range args {
		if err := f.open(ctx, env, operand); err != nil {
			return nil, closeAll, err
		}
	}

	if f.want != "" {
		if f.images, err = findWanted(f.layouts, f.o.Want); err != nil {
			return nil, closeAll, err
		}
	}

	for _, name := range *f.base {
		base, err := openBase(ctx, env, name)
		if err != nil {
			return nil, closeAll, err
		}
		f.o.Bases = append(f.o.Bases, base)
	}

	env.Watch(f.layouts...)

	f.nameMembers()

	// A set is planned as a whole first. If that fails, canHold finds the images that are the
	// cause, and the rest is planned again.
	whole := func(images []archive.Image) (*archive.BundlePlan, error) { return archive.NewBundle(ctx, images, f.o) }

	if f.set.Many() {
		plan, f.failed, err = operands.PlanSet(ctx, env, f.members, f.set.FailFast, whole, f.canHold(ctx))
	} else {
		distinctTags(f.images)
		plan, err = whole(f.images)
	}

	if errors.Is(err, layout.ErrIncomplete) {
		err = cli.WithHint(err, "`ocikit verify %s` lists what is missing; --have names what need not be carried", operands.OperandOf(f.layouts[0]))
	}

	return plan, closeAll, err
}

// nameMembers settles what the images of a set are called before it is known which of them can be
// carried: what is left of a set has the names that it has in the whole.
func (f *bundleFlags) nameMembers() {
	var images []archive.Image
	var at []int
	for i, m := range f.members {
		if m.Src != nil {
			images, at = append(images, m.Image), append(at, i)
		}
	}

	distinctTags(images)
	for i, im := range images {
		f.members[at[i]].Image = im
	}
}

// readLists reads what the other side has, merged into one inventory, and what it wants.
func (f *bundleFlags) readLists(ctx context.Context, env *cli.Env) (err error) {
	var have []*archive.Inventory
	for _, name := range *f.have {
		inv, err := readHave(ctx, env, name)
		if err != nil {
			return err
		}
		have = append(have, inv)
	}
	f.o.Have = archive.Merge(have...)
	if f.want != "" {
		f.o.Want, err = readWant(env, f.want)
	}
	return err
}

// open opens the place of an operand and finds the images there. With --want the list names the
// images, and the operands are places to look in.
func (f *bundleFlags) open(ctx context.Context, env *cli.Env, operand string) error {
	if !f.set.Many() && f.want == "" {
		src, desc, err := f.places.Some(ctx, env, operand, *f.platform)
		if err != nil {
			return err
		}
		f.layouts = append(f.layouts, src)
		f.images = append(f.images, bundleImage(operand, src, operands.Called(src, desc)))
		return nil
	}

	src, n, err := f.places.Open(ctx, env, operand)
	if err != nil {
		return err
	}

	f.layouts = append(f.layouts, src)
	if f.want != "" {
		return nil
	}

	found, err := operands.SetIn(env, f.set, src, n, *f.platform)
	for _, m := range found {
		f.members = append(f.members, operands.Archived{Member: m, Image: bundleImage(operand, m.Src, m.Desc)})
	}

	return err
}

// canHold returns a function that reports why a bundle cannot hold an image, or nil if it can.
func (f *bundleFlags) canHold(ctx context.Context) func(archive.Image) error {
	// Deltas cost much work and do not decide whether an image can be carried.
	alone := f.o
	alone.Delta, alone.SameContent = false, false
	return func(im archive.Image) error {
		plan, err := archive.NewBundle(ctx, []archive.Image{im}, alone)
		if err == nil {
			plan.Close()
		}
		return err
	}
}

// openBase opens a layout or an archive with layers that the other side has.
func openBase(ctx context.Context, env *cli.Env, name string) (source.Source, error) {
	if is, err := archive.IsArchive(name); err == nil && is {
		return archive.Open(ctx, name, archive.OpenOptions{Notice: env.Tell})
	}
	return operands.OpenLayout(name)
}

// bundleImage returns an image under the name that the layout has for it, or else the operand.
func bundleImage(operand string, l source.Source, desc oci.Descriptor) archive.Image {
	im := archive.ImageOf(l, desc)
	if n, err := oci.ParseImageName(operand); err == nil && im.Tag == "" && n.Tag != "" && !source.Remote(l) {
		im.Tag = n.Tag // the name is that of an index, and one of its images is carried
	}
	return im
}

// distinctTags gives images of different places that share a tag their full names: one tag could
// name only one of them on the other side.
func distinctTags(images []archive.Image) {
	byTag := map[string][]archive.Image{}
	for _, im := range images {
		byTag[im.Tag] = append(byTag[im.Tag], im)
	}

	for i, a := range images {
		clash := a.Tag != "" && slices.ContainsFunc(byTag[a.Tag], func(b archive.Image) bool {
			return a.Desc.Digest != b.Desc.Digest && a.Source.Name() != b.Source.Name()
		})
		if !clash {
			continue
		}
		if _, full := savedName(images[i].Source.Name()+":"+images[i].Tag, images[i].Desc, new(cli.Optional)); full != "" {
			images[i].Tag, images[i].Name = full, full
		}
	}
}

// readWant reads the list that unbundle printed on the other side.
func readWant(env *cli.Env, name string) ([]archive.Wanted, error) {
	in, err := env.Input(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	want, err := archive.ReadWanted(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cli.InputName(name), err)
	}
	return want, nil
}

// findWanted finds for each image of a list a place that has its document.
func findWanted(layouts []source.Source, want []archive.Wanted) ([]archive.Image, error) {
	var images []archive.Image
	for _, w := range want {
		i := slices.IndexFunc(layouts, func(l source.Source) bool {
			_, err := l.Document(w.Root)
			return err == nil
		})
		if i < 0 {
			return nil, fmt.Errorf("image %s: it is in none of the layouts: %w", w.Root.Digest, layout.ErrNotFound)
		}
		images = append(images, archive.ImageOf(layouts[i], w.Root))
	}

	return images, nil
}

// bundleStep is a line of the plan of a bundle, on either side.
type bundleStep struct {
	Action    string          `json:"action"` // see [printBundle] and [unbundleSteps]
	Blobs     int             `json:"blobs,omitempty"`
	Delta     digest.Digest   `json:"delta,omitzero"`
	DeltaSize int64           `json:"deltaSize,omitempty"`
	Digest    digest.Digest   `json:"digest,omitzero"`
	Encoder   string          `json:"encoder,omitempty"`
	From      []digest.Digest `json:"from,omitempty"`
	MediaType string          `json:"mediaType,omitempty"`
	Name      string          `json:"name,omitempty"`
	Size      int64           `json:"size"`
}

// made tells of a step how a layer is made of a delta.
func (s bundleStep) made(d layout.Delta) bundleStep {
	s.Action, s.Delta, s.DeltaSize, s.Encoder = "delta", d.Delta, d.DeltaSize, d.Encoder
	for _, base := range d.Bases {
		s.From = append(s.From, base.Digest)
	}
	return s
}

// printBundle prints the plan of a bundle: a JSON line for each blob that it would carry, leave out
// (omit) or let the other side make of a delta, and one for the total.
func printBundle(env *cli.Env, plan *archive.BundlePlan) error {
	var steps []bundleStep
	for _, m := range plan.Members {
		if !m.Digest.IsZero() {
			steps = append(steps, bundleStep{Action: "carry", Digest: m.Digest, MediaType: m.MediaType(), Size: m.Size})
		}
	}

	// A layer that travels as a delta is among those left out: the other side makes it.
	for _, o := range plan.Omitted {
		step := bundleStep{Action: "omit", Digest: o.Digest, MediaType: o.MediaType, Size: o.Size}
		for _, d := range plan.Deltas {
			if d.Digest == o.Digest {
				step = step.made(d)
			}
		}
		steps = append(steps, step)
	}

	total := bundleStep{Action: "total"}
	total.Blobs, total.Size = plan.Bytes()
	return show.WriteEachJSON(env.Stdout, append(steps, total))
}
