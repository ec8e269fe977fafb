package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/layout"
)

func bundleCommand() Command {
	return Command{
		Name: "bundle", Args: "IMAGE...", Group: groupCarry, Progress: true,
		Short: "write images as a tar without the layers that the other side has",
		Long: `Bundle writes the tar of a layout that lists the images, on standard output: with all their
manifests, indexes and configs, and the layers that no --have names. --have takes what "ocikit
inventory" printed on the other side, a layout, or the tar of one, and may be given many times;
without it the bundle is whole. The same input gives the same bytes. "ocikit unbundle" applies it, and
so does every program that reads the tar of a layout, if it has the rest. Blobs that are left out need
not be here.

--want takes the list that "ocikit unbundle" prints when something is missing, and carries just that;
the operands then say in which layouts to look. --referrers brings signatures and SBOMs, whether they
are known by their subject or by a tag.

--same-content leaves out a layer if the other side has its contents compressed in another way, and
compressing them again gives it bit for bit; "ocikit inventory --diff-ids" helps it to know more.`,
		Example: "ocikit init carried\nocikit inventory carried > have.txt\nocikit bundle app:latest --have have.txt -o update.tar\nocikit unbundle carried update.tar",
		Status:  "1 if a layer to carry is absent or damaged, or referrers that are required are",
		Bind: func(fs *flag.FlagSet) Action {
			f := new(bundleFlags)
			f.have = list(fs, "have", "", "leave out what is in `file`: an inventory, a layout, an image, or the tar of a layout (repeatable)")
			fs.StringVar(&f.want, "want", "", "carry what the list in `file` says is missing, and nothing else")
			fs.StringVar(&f.platform, "platform", "", "carry the image for this `platform` of an index alone")
			fs.BoolVar(&f.all, "all", false, "carry every image of the layouts that the operands name")
			fs.BoolVar(&f.o.SameContent, "same-content", false, "leave out layers that the other side can make of others")
			fs.BoolVar(&f.o.Referrers, "referrers", false, "carry what refers to the images too: signatures, SBOMs")
			require := bindRequireReferrers(fs)
			dryRun := fs.Bool("dry-run", false, "print what would be carried and left out, a JSON line for each blob and one for the sum")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				f.o.Require = *require
				plan, closeAll, err := f.plan(ctx, env, args)
				defer closeAll()
				if err != nil {
					return err
				}
				for _, text := range plan.Notices {
					env.notice("ocikit: %s", text)
				}
				if f.o.Referrers || f.o.Require {
					reportReferrers(env, plan.Referrers)
				}
				if *dryRun {
					return printBundle(env, plan)
				}
				n, size := plan.Bytes()
				env.detail("ocikit: %d blobs, %d bytes; %d blobs left out", n, size, len(plan.Omitted))
				env.planned(n, size)
				return env.toOutput(*out, true, func(w io.Writer) error { return plan.Save(ctx, w) })
			}
		},
	}
}

type bundleFlags struct {
	o              archive.BundleOptions
	have           *[]string
	want, platform string
	all            bool
}

func (f *bundleFlags) plan(ctx context.Context, env *Env, args []string) (plan *archive.BundlePlan, closeAll func(), err error) {
	var layouts []*layout.Layout
	closeAll = func() {
		for _, l := range layouts {
			l.Close()
		}
	}
	switch {
	case len(args) == 0:
		return nil, closeAll, usagef("no IMAGE")
	case f.all && f.platform != "", f.want != "" && (f.all || f.platform != ""):
		return nil, closeAll, usagef("--all, --platform and --want exclude each other")
	}
	var have []*archive.Inventory
	for _, name := range *f.have {
		inv, err := readHave(ctx, env, name)
		if err != nil {
			return nil, closeAll, err
		}
		have = append(have, inv)
	}
	f.o.Have = archive.Merge(have...)
	if f.want != "" {
		if f.o.Want, err = readWant(env, f.want); err != nil {
			return nil, closeAll, err
		}
	}
	var images []archive.Image
	for _, operand := range args {
		switch {
		case f.want != "":
			l, _, err := openName(operand)
			if err != nil {
				return nil, closeAll, err
			}
			layouts = append(layouts, l)
		case f.all:
			l, err := openLayout(operand)
			if err != nil {
				return nil, closeAll, err
			}
			layouts = append(layouts, l)
			x, err := l.Index()
			if err != nil {
				return nil, closeAll, err
			}
			for _, desc := range x.Manifests {
				images = append(images, bundleImage(operand, l, desc))
			}
		default:
			l, desc, err := openMaybe(operand, f.platform)
			if err != nil {
				return nil, closeAll, err
			}
			layouts = append(layouts, l)
			images = append(images, bundleImage(operand, l, desc))
		}
	}
	if f.want != "" {
		if images, err = findWanted(layouts, f.o.Want); err != nil {
			return nil, closeAll, err
		}
	}
	env.watch(layouts...)
	if len(images) == 0 {
		return nil, closeAll, fmt.Errorf("layout %q: it holds no image: %w", args[0], layout.ErrNotFound)
	}
	distinctTags(args, images)
	plan, err = archive.NewBundle(ctx, images, f.o)
	if errors.Is(err, layout.ErrIncomplete) {
		err = withHint(err, "`ocikit verify %s` lists what is missing; --have names what need not be carried", layouts[0].Dir())
	}
	return plan, closeAll, err
}

// bundleImage calls an image as the layout does, or as the operand did.
func bundleImage(operand string, l *layout.Layout, desc oci.Descriptor) archive.Image {
	im := archive.Image{Layout: l, Desc: desc, Tag: desc.Annotations[oci.AnnotationRefName], Name: desc.Annotations[oci.AnnotationImageName]}
	if n, err := oci.ParseImageName(operand); err == nil && im.Tag == "" && n.Tag != "" {
		im.Tag = n.Tag // of an index, whose manifest for one platform is carried
	}
	return im
}

// distinctTags gives images of several layouts that have one tag their full names.
func distinctTags(operands []string, images []archive.Image) {
	byTag := map[string][]archive.Image{}
	for _, im := range images {
		byTag[im.Tag] = append(byTag[im.Tag], im)
	}
	for i, a := range images {
		clash := a.Tag != "" && slices.ContainsFunc(byTag[a.Tag], func(b archive.Image) bool {
			return a.Desc.Digest != b.Desc.Digest && a.Layout.Dir() != b.Layout.Dir()
		})
		if !clash {
			continue
		}
		if _, full := savedName(images[i].Layout.Dir()+":"+images[i].Tag, images[i].Desc, new(optional)); full != "" {
			images[i].Tag, images[i].Name = full, full
		}
	}
}

func readWant(env *Env, name string) ([]archive.Wanted, error) {
	in, err := env.input(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	want, err := archive.ReadWanted(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", inputName(name), err)
	}
	return want, nil
}

// findWanted finds the layouts that know the images of a list.
func findWanted(layouts []*layout.Layout, want []archive.Wanted) ([]archive.Image, error) {
	var images []archive.Image
	for _, w := range want {
		i := slices.IndexFunc(layouts, func(l *layout.Layout) bool {
			_, err := l.Document(w.Root)
			return err == nil
		})
		if i < 0 {
			return nil, fmt.Errorf("image %s: it is in none of the layouts: %w", w.Root.Digest, layout.ErrNotFound)
		}
		images = append(images, archive.Image{
			Layout: layouts[i], Desc: w.Root,
			Tag: w.Root.Annotations[oci.AnnotationRefName], Name: w.Root.Annotations[oci.AnnotationImageName],
		})
	}
	return images, nil
}

// bundleStep is a line of the plan of a bundle.
type bundleStep struct {
	Action    string        `json:"action"` // carry, omit or rebuild; or total
	Blobs     int           `json:"blobs,omitempty"`
	Digest    digest.Digest `json:"digest,omitzero"`
	From      digest.Digest `json:"from,omitzero"`
	MediaType string        `json:"mediaType,omitempty"`
	Size      int64         `json:"size"`
}

func printBundle(env *Env, plan *archive.BundlePlan) error {
	var steps []bundleStep
	for _, m := range plan.Members {
		if !m.Digest.IsZero() {
			steps = append(steps, bundleStep{Action: "carry", Digest: m.Digest, MediaType: m.MediaType(), Size: m.Size})
		}
	}
	for _, o := range plan.Omitted {
		step := bundleStep{Action: "omit", Digest: o.Digest, MediaType: o.MediaType, Size: o.Size}
		for _, rb := range plan.Rebuild {
			if rb.Digest == o.Digest {
				step.Action, step.From = "rebuild", rb.From
			}
		}
		steps = append(steps, step)
	}
	total := bundleStep{Action: "total"}
	total.Blobs, total.Size = plan.Bytes()
	for _, s := range append(steps, total) {
		if err := writeJSON(env.Stdout, s); err != nil {
			return err
		}
	}
	return nil
}
