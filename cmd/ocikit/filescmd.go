package main

import (
	"context"
	"flag"
	"fmt"

	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func filesCommand() Command {
	return Command{
		Name: "files", Args: "IMAGE [PATH]", Group: groupLayout, Progress: true,
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
		Bind: func(fs *flag.FlagSet) Action {
			platform := fs.String("platform", "", "take the manifest for this `platform` of an index")
			layer := fs.Int("layer", -1, "list what comes from layer `n` alone")
			all := fs.Bool("all", false, "list what later layers deleted or replaced as well")
			wasted := fs.Bool("wasted", false, "sum up by layer what the image does not show")
			asJSON := fs.Bool("json", false, "print JSON lines")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) < 1 || len(args) > 2 {
					return usagef("%d operands, want IMAGE and at most one PATH", len(args))
				}
				if *wasted && (len(args) > 1 || *all || *layer >= 0) {
					return usagef("--wasted is about whole layers: it takes no PATH, --all or --layer")
				}
				l, desc, err := openManifest(args[0], *platform)
				if err != nil {
					return err
				}
				defer l.Close()
				env.watch(l)
				list, err := image.ListFiles(ctx, l, desc)
				if err != nil {
					return incompleteHint(l, err)
				}
				if *layer >= len(list.Layers) {
					return fmt.Errorf("layer %d: %q has %d layers: %w", *layer, args[0], len(list.Layers), layout.ErrNotFound)
				}
				if *wasted {
					return printWaste(env, list.Layers, *asJSON)
				}
				name := ""
				if len(args) > 1 {
					name = args[1]
				}
				found, err := list.Walk(name, *all, func(f image.File) error {
					if *layer >= 0 && f.Layer != *layer {
						return nil
					}
					return printFile(env, f, *all, *asJSON)
				})
				if err == nil && !found && name != "" {
					err = fmt.Errorf("path %q in %q: %w", name, args[0], layout.ErrNotFound)
				}
				return err
			}
		},
	}
}

func printFile(env *Env, f image.File, all, asJSON bool) error {
	if asJSON {
		return writeJSON(env.Stdout, f)
	}
	line := fmt.Sprintf("%s %04o %d:%d %d %d ", f.Type, f.Mode, f.UID, f.GID, f.Size, f.Layer)
	switch {
	case all && f.Fate != "":
		line += fmt.Sprintf("%s:%d ", f.Fate, f.FateBy)
	case all:
		line += "- "
	}
	name := f.Path
	if name == "" {
		name = "."
	}
	line += printable(name)
	if f.Type == "l" || f.Type == "h" {
		line += " -> " + printable(f.Link)
	}
	_, err := fmt.Fprintln(env.Stdout, line)
	return err
}

func printWaste(env *Env, layers []image.LayerUse, asJSON bool) error {
	for _, u := range layers {
		if asJSON {
			if err := writeJSON(env.Stdout, u); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(env.Stdout, "%d %d %d %s\n", u.Layer, u.Wasted, u.Bytes, u.Digest); err != nil {
			return err
		}
	}
	return nil
}
