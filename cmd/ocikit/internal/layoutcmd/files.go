package layoutcmd

import (
	"cmp"
	"context"
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

func filesCommand() cli.Command {
	return cli.Command{
		Name: "files", Args: "IMAGE [PATH]", Group: cli.GroupLayout, Progress: true,
		Short: "list the files of an image, each with the layer it comes from",
		Long: `Files lists what a container of the image would see, all of it or PATH and what is below, a
line for each: "TYPE MODE UID:GID BYTES LAYER PATH", and behind a link "-> TARGET". Types are those of
find(1), and h for a hard link. The lowest layer is 0.

With --all it lists what later layers deleted or replaced, too; a field behind LAYER then says "-", or
deleted:N or replaced:N with the layer that did it. --wasted prints a line for each layer instead: "LAYER
WASTED BYTES DIGEST", the bytes of its files that the image does not show, those of all its files, and
the digest of its blob. With --json each line is an object.`,
		Example: "ocikit files app\nocikit files app /bin --all\nocikit files app --wasted",
		Status:  "4 if there is no such path",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(filesFlags)
			f.platform = commonflags.BindPlatform(fs)
			f.layer = commonflags.BindLayerNumber(fs)
			f.all = fs.Bool("hidden", false, "list what later layers deleted or replaced as well")
			cli.Alias(fs, "hidden", "all")
			f.wasted = fs.Bool("wasted", false, "sum up by layer what the image does not show")
			f.asJSON = cli.BindJSON(fs)
			f.places = operands.BindPlaces(fs)
			return f.run
		},
	}
}

// filesFlags are the flags of files.
type filesFlags struct {
	platform *string
	layer    *int
	all      *bool
	wasted   *bool
	asJSON   *bool
	places   *operands.Places
}

// run lists the files of an image, or the waste in its layers.
func (f *filesFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	if *f.wasted && (len(args) > 1 || *f.all || *f.layer >= 0) {
		return cli.Usagef("--wasted is about whole layers: it takes no PATH, --all or --layer")
	}

	l, desc, err := f.places.Manifest(ctx, env, args[0], *f.platform)
	if err != nil {
		return err
	}
	defer l.Close()

	env.Watch(l)

	// An artifact has no root file system: its blobs are listed by their titles.
	if done, err := listArtifact(env, l, desc, *f.asJSON); done || err != nil {
		return operands.IncompleteHint(l, err)
	}

	list, err := image.ListFiles(ctx, l, desc)
	if err != nil {
		return operands.IncompleteHint(l, err)
	}

	if *f.layer >= len(list.Layers) {
		return fmt.Errorf("layer %d: %q has %s: %w", *f.layer, args[0], show.Count(len(list.Layers), "layer"), layout.ErrNotFound)
	}

	if *f.wasted {
		return printWaste(env, list.Layers, *f.asJSON)
	}

	name := ""
	if len(args) > 1 {
		name = args[1]
	}
	return f.print(env, list, args[0], name)
}

// print prints the files at and below name, or all.
func (f *filesFlags) print(env *cli.Env, list *image.FileList, operand, name string) error {
	found := false
	for file := range list.Walk(name, *f.all) {
		found = true
		if *f.layer >= 0 && file.Layer != *f.layer {
			continue
		}
		if err := printFile(env, file, *f.all, *f.asJSON); err != nil {
			return err
		}
	}

	if !found && name != "" {
		return fmt.Errorf("path %q in %q: %w", name, operand, layout.ErrNotFound)
	}

	return nil
}

// listArtifact lists the blobs of an artifact as files, by their titles. It reports whether the
// manifest was that of an artifact; of an image nothing is printed.
func listArtifact(env *cli.Env, l source.Source, desc oci.Descriptor, asJSON bool) (bool, error) {
	m, err := graph.Manifest(l, desc)
	if err != nil || m.IsImage() {
		return false, err
	}

	files, err := image.ArtifactFiles(m)
	if err != nil {
		return true, err
	}

	env.Notice("ocikit files: %s is an artifact, not an image: its blobs by their titles", desc.Digest)
	for _, f := range files {
		file := image.File{Type: "f", Mode: 0o644, Size: f.Desc.Size, Path: f.Path, Layer: f.Layer}
		if err := printFile(env, file, false, asJSON); err != nil {
			return true, err
		}
	}

	return true, nil
}

// A fileJSON is a file with the members that all commands use for its kind and permissions, beside
// the older type and mode.
type fileJSON struct {
	image.File
	Kind        string `json:"kind,omitempty"`
	Permissions string `json:"permissions"` // octal
}

// fileKind returns the word of all commands for the letter of a type.
func fileKind(letter string) string {
	return map[string]string{
		"f": "file", "d": "directory", "l": "symlink", "h": "hardlink", "c": "device", "b": "device", "p": "fifo",
	}[letter]
}

func printFile(env *cli.Env, f image.File, all, asJSON bool) error {
	if asJSON {
		return show.WriteJSON(env.Stdout, fileJSON{f, fileKind(f.Type), fmt.Sprintf("%04o", f.Mode)})
	}

	line := fmt.Sprintf("%s %04o %d:%d %d %d ", f.Type, f.Mode, f.UID, f.GID, f.Size, f.Layer)
	switch {
	case all && f.Fate != "":
		line += fmt.Sprintf("%s:%d ", f.Fate, f.FateBy)
	case all:
		line += "- "
	}

	line += cmp.Or(f.Path, ".")
	if f.Type == "l" || f.Type == "h" {
		line += " -> " + f.Link
	}
	return show.WriteLines(env.Stdout, []string{line})
}

func printWaste(env *cli.Env, layers []image.LayerUse, asJSON bool) error {
	for _, u := range layers {
		if err := show.WriteRecord(env.Stdout, asJSON, u, fmt.Sprintf("%d %d %d %s", u.Layer, u.Wasted, u.Bytes, u.Digest)); err != nil {
			return err
		}
	}
	return nil
}
