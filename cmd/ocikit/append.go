package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

func appendCommand() Command {
	return Command{
		Name: "append", Args: "IMAGE", Group: groupImage, Progress: true,
		Short: "put layers on top of an image",
		Long: `Append makes an image of IMAGE and further layers, in the order in which they are given, and
prints its descriptor. A layer is a directory, packed as "ocikit layer" does with the same flags, a
tar, plain or compressed, or descriptors of blobs that are in the layout. Without --layer it is what
comes on standard input. The layers of IMAGE are not read and not copied. Of an index every image
gets the layers, unless --platform names one.

The new layers follow the media types of IMAGE, Docker's or those of OCI. What they are built on is
recorded in the annotations org.opencontainers.image.base.digest and, if IMAGE has a full name,
base.name. IMAGE itself stays as it is.`,
		Example: "ocikit tar --whiteout bin/hello | ocikit append app --layer - --layer ./rootfs -t v2",
		Bind: func(fs *flag.FlagSet) Action {
			e := bindEditFlags(fs)
			h := bindHistoryFlags(fs, "ocikit append")
			inputs := list(fs, "layer", "", "a tar, a directory, or descriptors: `input` (repeatable)")
			pack := packFlags(fs)
			compress := fs.String("compress", "gzip", "store layers as `how`: gzip, none, estargz, or keep what comes")
			level := levelFlag(fs)
			workers := workersFlag(fs)
			return func(ctx context.Context, env *Env, args []string) error {
				o := image.LayerOptions{Compression: image.Compression(*compress), Level: *level, Workers: *workers}
				if !slices.Contains([]image.Compression{image.Gzip, image.None, image.Estargz, image.Keep}, o.Compression) {
					return usagef("flag --compress: %q: want gzip, none, estargz or keep", *compress)
				}
				if err := checkLevel(*level); err != nil {
					return err
				}
				if len(args) > 1 {
					return &usageError{msg: fmt.Sprintf("%d operands, want IMAGE", len(args)), hint: "--layer names each tar or directory"}
				}
				if len(*inputs) == 0 {
					if *inputs = []string{"-"}; env.InTTY {
						return usagef("no --layer, and nothing on standard input")
					}
				}
				packing, err := pack(env)
				if err != nil {
					return err
				}
				entry, created, err := h.history(env)
				if err != nil {
					return err
				}
				l, desc, opts, err := e.open(args)
				if err != nil {
					return err
				}
				defer l.Close()
				env.watch(l)
				if _, err := image.Edit(l, desc, opts); err != nil { // before layers are stored
					return editHint(err)
				}
				a := &appending{l: l, o: o, pack: packing, dry: *e.dryRun}
				for _, in := range *inputs {
					if err := a.input(ctx, env, in); err != nil {
						return err
					}
				}
				base := image.ReferenceOf(desc)
				opts.Changes = []image.Change{func(im *image.Image) error {
					for _, d := range a.layers {
						if err := im.Append(d, entry); err != nil {
							return err
						}
					}
					return im.SetBase(base, im.Descriptor().Digest)
				}, created}
				return e.run(ctx, env, l, nil, desc, opts)
			}
		},
	}
}

// An appending collects the layers to append.
type appending struct {
	l      *layout.Layout
	o      image.LayerOptions
	pack   tarutil.PackOptions
	dry    bool // store nothing
	layers []oci.Descriptor
}

// input adds what one --layer names.
func (a *appending) input(ctx context.Context, env *Env, input string) error {
	if strings.HasPrefix(input, "{") {
		return a.descriptors(ctx, strings.NewReader(input), input)
	}
	to := a.l
	if a.dry {
		to = nil
	}
	if info, err := os.Stat(input); err == nil && info.IsDir() && input != "-" {
		d, err := addLayer(ctx, env, to, []string{input}, a.pack, a.o)
		a.layers = append(a.layers, d)
		return err
	}
	const filesHint = "a layer is a tar or a directory: `ocikit tar FILE:DEST | ocikit append IMAGE -t TAG` adds files"
	f, err := env.data(input)
	if errors.Is(err, fs.ErrNotExist) {
		err = withHint(err, filesHint)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	if head, err := in.Peek(1); err == nil && head[0] == '{' {
		return a.descriptors(ctx, in, inputName(input))
	}
	d, err := image.AddLayer(ctx, to, in, a.o)
	if errors.Is(err, tarutil.ErrMalformed) && input != "-" {
		err = withHint(err, filesHint)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", inputName(input), err)
	}
	a.layers = append(a.layers, d)
	return nil
}

// descriptors adds layers that are in the layout. One that does not carry its diff ID is
// read to find it.
func (a *appending) descriptors(ctx context.Context, in io.Reader, name string) error {
	descs, err := oci.ReadDescriptors(in)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, d := range descs {
		if !oci.IsLayer(d.MediaType) {
			return fmt.Errorf("%s: %s is of type %q, want a layer", name, d.Digest, d.MediaType)
		}
		if err := a.l.CheckComplete(d); err != nil {
			return incompleteHint(a.l, err)
		}
		if _, ok := d.DiffID(); !ok {
			if d, err = a.withDiffID(ctx, d); err != nil {
				return err
			}
		}
		a.layers = append(a.layers, d)
	}
	return nil
}

func (a *appending) withDiffID(ctx context.Context, d oci.Descriptor) (oci.Descriptor, error) {
	r, err := a.l.Blob(d)
	if err != nil {
		return d, err
	}
	defer r.Close()
	id, err := image.DiffID(ctx, r)
	if err != nil {
		return d, fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	return d.WithAnnotation(oci.AnnotationDiffID, id.String()), nil
}
