package imagecmd

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/layercmd"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil"
	"ocikit/tarutil/pack"
)

func appendCommand() cli.Command {
	return cli.Command{
		Name: "append", Args: "IMAGE", Group: cli.GroupImage, Progress: true, Surplus: "--layer names each tar or directory",
		Short: "put layers on top of an image",
		Long: `Append makes an image of IMAGE and further layers, in the order in which they are given, and
prints its descriptor. A layer is a directory, packed as "ocikit layer" does with the same flags, a
tar, plain or compressed, or descriptors of blobs that are in the layout. Without --layer it is what
comes on standard input. The layers of IMAGE are not copied. Of an index every image gets the layers,
unless --platform names one: the others stay.

A notice says what a new layer does to those of IMAGE that is rarely meant: that it makes a directory
of a symbolic link, as /bin is one in most distributions, or sets the permissions of a directory in
which it touches nothing, or has no entry for one that is not 0755 of 0:0, which Docker and podman then
make so. For that the layers of IMAGE are read if they have 8 MiB at most, or if a new layer has
something at a name where distributions have links or directories of their own kind, as /bin, /lib,
/root and /tmp; with -q they never are. "ocikit verify --deep" looks at all names of any image.

The new layers follow the media types of IMAGE, Docker's or those of OCI. What they are built on is
recorded in the annotations org.opencontainers.image.base.digest and, if IMAGE has a full name,
base.name. IMAGE itself stays as it is.`,
		Example: "ocikit tar --whiteout bin/hello | ocikit append app --layer - --layer ./rootfs -t v2",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(appendFlags)
			f.edit = bindEditFlags(fs)
			f.history = bindHistoryFlags(fs, "ocikit append")
			f.inputs = commonflags.BindLayers(fs)
			f.pack = commonflags.BindPack(fs)
			f.compression = commonflags.BindCompression(fs, "gzip", "zstd", "estargz", "none", "keep (as they come)")
			return f.run
		},
	}
}

// appendFlags are the flags of append.
type appendFlags struct {
	edit        *editFlags
	history     *historyFlags
	inputs      *[]string
	pack        func(*cli.Env) (pack.Options, error)
	compression func() (image.LayerOptions, error)
}

// run makes the layers, and puts them on the image.
func (f *appendFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	o, err := f.compression()
	if err != nil {
		return err
	}

	if len(*f.inputs) == 0 {
		if *f.inputs = []string{"-"}; env.InTTY {
			return cli.Usagef("no --layer, and nothing on standard input")
		}
	}

	packing, err := f.pack(env)
	if err != nil {
		return err
	}

	entry, created, err := f.history.history(env)
	if err != nil {
		return err
	}

	l, desc, opts, err := f.edit.open(args)
	if err != nil {
		return err
	}
	defer l.Close()

	env.Watch(l)

	// An edit without changes finds out before layers are stored whether there is such an image.
	if _, err := image.Edit(l, desc, opts); err != nil {
		return editHint(err)
	}

	a := &appending{l: l, o: o, pack: packing, dry: *f.edit.dryRun, warned: map[string]bool{}}
	for _, in := range *f.inputs {
		if err := a.input(ctx, env, in); err != nil {
			return err
		}
	}

	opts.Changes = []image.Change{a.change(ctx, env, entry, image.ReferenceOf(desc)), created}
	return f.edit.run(ctx, env, l, desc, opts)
}

// An appending collects the layers to append.
type appending struct {
	l      *layout.Layout
	o      image.LayerOptions
	pack   pack.Options
	dry    bool // store nothing
	layers []oci.Descriptor
	warned map[string]bool // notices that were given, for another platform too
}

// change puts the layers on top of an image, each with that entry of the history, and records what the
// image was called. Only inside the edit it is known what lies below the new layers, and for which
// platform. So the notices come from there.
func (a *appending) change(ctx context.Context, env *cli.Env, entry oci.History, base string) image.Change {
	return func(im *image.Image) error {
		for _, d := range a.layers {
			if err := im.Append(d, entry); err != nil {
				return err
			}
		}

		p, err := im.Platform()
		isWindows := err == nil && p.OS == "windows"
		if isWindows {
			a.warnWindows(ctx, env)
		}

		// Windows finds a file below by a link in other letters, as upper case, too.
		if err := a.warn(ctx, env, im.Layers()); err != nil && !isWindows {
			return err
		}

		return im.SetBase(base, im.Descriptor().Digest)
	}
}

// maxWarnings is how many of its notices append gives for one image.
const maxWarnings = 5

// warn gives notices about new layers, the last ones of layers, that do what is rarely meant, and
// refuses those that nothing can put on the layers below. What cannot be found out, as where layers
// are absent, is left to other checks.
func (a *appending) warn(ctx context.Context, env *cli.Env, layers []oci.Descriptor) error {
	if a.dry {
		return nil
	}

	found, err := image.Surprises(ctx, a.l, layers, len(a.layers))
	if errors.Is(err, image.ErrMisfit) {
		return err
	}
	if err != nil {
		found = nil
	}

	for i, s := range found {
		if i == maxWarnings {
			env.Notice("ocikit: %d more of these: `ocikit verify --deep` lists them", len(found)-i)
			break
		}
		if text := s.String(); !a.warned[text] {
			a.warned[text] = true
			env.Notice("ocikit: new layer: %s", text)
		}
	}

	return nil
}

// warnWindows gives a notice if a new layer of a Windows image has files where Windows does not
// look.
func (a *appending) warnWindows(ctx context.Context, env *cli.Env) {
	if env.Quiet || a.dry {
		return
	}
	for _, d := range a.layers {
		path, err := image.OutsideWindows(ctx, a.l, d)
		if err != nil || path == "" {
			continue
		}
		text := fmt.Sprintf("new layer: %q is not below \"Files\", where Windows looks for files: --prefix Files puts it there", path)
		if !a.warned[text] {
			a.warned[text] = true
			env.Notice("ocikit: %s", text)
		}
	}
}

// input adds what one --layer names: literal descriptors, a directory, or a file of descriptors or
// of a tar.
func (a *appending) input(ctx context.Context, env *cli.Env, input string) error {
	if strings.HasPrefix(input, "{") {
		return a.descriptors(ctx, strings.NewReader(input), input)
	}

	// Nothing is stored without a layout.
	to := a.l
	if a.dry {
		to = nil
	}

	if layercmd.IsTree(input) {
		d, err := layercmd.AddTree(ctx, env, to, input, layercmd.Packing{Tree: a.pack, Layer: a.o})
		a.layers = append(a.layers, d)
		return err
	}

	return a.file(ctx, env, to, input)
}

// file adds the layer in a tar, or those that a file describes.
func (a *appending) file(ctx context.Context, env *cli.Env, to *layout.Layout, input string) error {
	const filesHint = "a layer is a tar or a directory: `ocikit tar FILE:DEST | ocikit append IMAGE -t TAG` adds files"
	f, err := env.Data(input)
	if errors.Is(err, fs.ErrNotExist) {
		err = cli.WithHint(err, filesHint)
	}
	if err != nil {
		return err
	}
	defer f.Close()

	// As for every INPUT, what begins like JSON is descriptors.
	in := bufio.NewReaderSize(f, 64<<10)
	if head, err := in.Peek(1); err == nil && head[0] == '{' {
		return a.descriptors(ctx, in, cli.InputName(input))
	}

	// In a pipe the missing end of a tar may mean that its writer has died.
	o := a.o
	o.AllowNoEnd = input != "-"
	o.Notice = func(text string) { env.Notice("ocikit: %s: %s", cli.InputName(input), text) }
	d, err := image.AddLayer(ctx, to, in, o)
	if errors.Is(err, tarutil.ErrMalformed) && input != "-" {
		err = cli.WithHint(err, filesHint)
	}
	if err != nil {
		return commonflags.TarHint(fmt.Errorf("%s: %w", cli.InputName(input), err))
	}

	a.layers = append(a.layers, d)
	return nil
}

// descriptors adds layers that are in the layout. A layer without a diff ID in its descriptor is
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
		if err := graph.Check(a.l, d, graph.Rules{}); err != nil {
			return operands.IncompleteHint(a.l, err)
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
