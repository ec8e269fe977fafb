package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func copyCommand() Command {
	return Command{
		Name: "copy", Args: "IMAGE IMAGE", Group: groupLayout, Progress: true,
		Short: "copy an image from one layout to another",
		Long: `Copy brings an image, or a whole index, from the first layout to the second, which is made if
need be, names it there, and prints its descriptor. Without a tag in the second operand it keeps its
name, and is called "latest" if it had none. --all copies every entry of the first layout under its own
name. With one --platform the image for it is copied, alone; with several, joined by commas, an index of
those, with their attestations: it has a digest of its own. --referrers brings what refers to the images,
too: signatures, SBOMs.

A blob becomes a hard link where the file system allows that, else it shares its blocks, else its bytes
are copied and verified. A link is the same file, so its bytes are not read unless --verify is given;
its size is checked, and manifests are verified in any case. --no-link shares nothing.

A blob that the target has already is verified, and replaced if it is damaged. What the first layout
lacks may be in the second: so a sparse layout completes one that has the rest. Names are set last, all
at once; a copy that fails, or is killed, leaves the target as it was, but for blobs that nothing names.
One that a failed copy has made goes again.`,
		Example: "ocikit copy app:latest carried\nocikit copy app:latest app:again\nocikit verify carried",
		Status:  "1 if a blob is damaged, or in neither layout; 4 if there is no such image or platform",
		Bind: func(fs *flag.FlagSet) Action {
			platform := fs.String("platform", "", "copy the manifest for this `platform` of an index alone, or an index of these, joined by commas")
			all := fs.Bool("all", false, "copy all entries of the first layout")
			var o layout.CopyOptions
			fs.BoolVar(&o.Referrers, "referrers", false, "copy what refers to the images as well")
			require := bindRequireReferrers(fs)
			fs.BoolVar(&o.Verify, "verify", false, "read and verify what is linked, too")
			fs.BoolVar(&o.NoLink, "no-link", false, "copy bytes, share no file with the first layout")
			fs.BoolVar(&o.DryRun, "dry-run", false, "print what would be done as JSON lines, do nothing")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 2 {
					return usagef("%d operands, want two images", len(args))
				}
				if *all && *platform != "" {
					return usagef("--all and --platform exclude each other")
				}
				to, err := copyTarget(args[1], *all)
				if err != nil {
					return err
				}
				from, err := openCopySource(args[0], *platform, *all)
				if err != nil {
					return err
				}
				defer from.Close()
				if o.Referrers = o.Referrers || *require; o.Referrers {
					if err := countReferrers(env, from.Layout, from.images, *require); err != nil {
						return err
					}
				}
				for i := range from.images {
					from.images[i] = renamed(from.images[i], to.Tag, *all)
				}
				if !to.Digest.IsZero() && from.images[0].Digest != to.Digest {
					return usagef("the image is %s, the second operand says %s", from.images[0].Digest, to.Digest)
				}
				return runCopy(ctx, env, from, to.Dir, o)
			}
		},
	}
}

func copyTarget(operand string, all bool) (oci.ImageName, error) {
	n, err := parseImage(operand)
	if err != nil {
		return n, err
	}
	if isAddress(n) {
		return n, &usageError{msg: fmt.Sprintf("%q: want an image in a layout", operand), hint: "`ocikit push IMAGE REF` sends images to a registry, `ocikit pull REF LAYOUT` brings them from there"}
	}
	if n.Tag != "" {
		if err := oci.CheckTag(n.Tag); err != nil {
			return n, usagef("%v", err)
		}
	}
	if all && (n.Tag != "" || !n.Digest.IsZero()) {
		return n, usagef("%q names an image: with --all name the layout alone", operand)
	}
	return n, nil
}

// isAddress reports whether an image name looks like a reference to a registry: host:5000/x,
// docker://x.
func isAddress(n oci.ImageName) bool {
	port, _, ok := strings.Cut(n.Tag, "/")
	return ok && strings.Trim(port, "0123456789") == ""
}

// A copySource is what is to be copied.
type copySource struct {
	*layout.Layout
	images []oci.Descriptor
	index  []byte // the one image is an index of these bytes, which is in no layout yet; nil: it is
}

// openCopySource opens the first layout and finds what to copy.
func openCopySource(operand, platform string, all bool) (copySource, error) {
	wishes, err := parsePlatforms(platform)
	switch {
	case err != nil:
		return copySource{}, err
	case all:
		return allEntries(operand)
	case len(wishes) > 1:
		return somePlatforms(operand, wishes)
	}
	l, desc, err := openMaybe(operand, platform)
	return copySource{l, []oci.Descriptor{desc}, nil}, err
}

func allEntries(operand string) (copySource, error) {
	l, err := openLayout(operand)
	if err != nil {
		return copySource{}, err
	}
	x, err := l.Index()
	if err == nil && len(x.Manifests) == 0 {
		err = fmt.Errorf("layout %q: it holds no image: %w", operand, layout.ErrNotFound)
	}
	if err != nil {
		l.Close()
		return copySource{}, err
	}
	return copySource{l, x.Manifests, nil}, nil
}

// somePlatforms finds an index, and takes the images for other platforms out of it.
func somePlatforms(operand string, wishes []oci.Platform) (copySource, error) {
	l, desc, err := openImage(operand)
	if err != nil {
		return copySource{}, err
	}
	some, index, err := image.ForPlatforms(l, desc, wishes)
	if err != nil {
		l.Close()
		if errors.Is(err, oci.ErrPlatform) {
			err = &notThere{err}
		}
		return copySource{}, fmt.Errorf("%q: %w", operand, err)
	}
	if some.Digest == desc.Digest {
		index = nil
	}
	return copySource{l, []oci.Descriptor{some}, index}, nil
}

// renamed gives an entry the name that it gets in the target.
func renamed(desc oci.Descriptor, tag string, all bool) oci.Descriptor {
	switch {
	case all:
		return desc
	case tag != "":
		// A full name of the old entry would be a second, wrong name.
		desc = desc.WithAnnotation(oci.AnnotationImageName, "")
	case desc.Annotations[oci.AnnotationRefName] == "":
		tag = "latest"
	default:
		return desc
	}
	return desc.WithAnnotation(oci.AnnotationRefName, tag)
}

func runCopy(ctx context.Context, env *Env, from copySource, dir string, o layout.CopyOptions) error {
	undo := func() {}
	var to *layout.Layout
	var err error
	if o.DryRun {
		to, err = layout.Open(dir)
	} else {
		to, undo, err = initLayout(dir)
	}
	switch {
	case err == nil:
		defer to.Close()
	case !o.DryRun || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	images := slices.Clone(from.images)
	switch {
	case from.index == nil:
	case o.DryRun:
		images[0].Data = from.index // so that it can be read
	default:
		if _, err := to.PutDocument(images[0].MediaType, from.index); err != nil {
			undo()
			return err
		}
	}
	env.watch(from.Layout)
	count := map[layout.How]int{}
	bytes := map[layout.How]int64{}
	o.Report = func(desc oci.Descriptor, how layout.How) error {
		if from.index != nil && desc.Digest == images[0].Digest {
			how = layout.HowCopied
		}
		count[how]++
		bytes[how] += desc.Size
		if !o.DryRun {
			return nil
		}
		return writeJSON(env.Stdout, copyStep{Action: string(how), Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size})
	}
	if err := to.Copy(ctx, from.Layout, images, o); err != nil {
		undo()
		if errors.Is(err, image.ErrPlatform) || errors.Is(err, layout.ErrIncomplete) {
			err = withHint(err, "`ocikit verify %s` lists what is missing", from.Dir())
		}
		return err
	}
	for _, how := range []layout.How{layout.HowLinked, layout.HowCloned, layout.HowCopied, layout.HowRepaired, layout.HowKept, layout.HowAbsent} {
		if count[how] > 0 {
			env.detail("%s: %d blobs, %d bytes", how, count[how], bytes[how])
		}
	}
	for _, desc := range images {
		if !o.DryRun {
			if err := oci.WriteDescriptors(env.Stdout, unnamed(desc)); err != nil {
				return err
			}
			continue
		}
		if err := writeJSON(env.Stdout, copyStep{Action: "tag", Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size, Name: desc.Annotations[oci.AnnotationRefName]}); err != nil {
			return err
		}
	}
	return nil
}

// copyStep is a line of a plan.
type copyStep struct {
	Action    string        `json:"action"` // keep, link, copy, repair or absent; or tag
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Name      string        `json:"name,omitempty"`
	Size      int64         `json:"size"`
}
