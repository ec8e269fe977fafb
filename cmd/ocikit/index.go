package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func indexCommand() Command {
	return Command{
		Name: "index", Args: "[LAYOUT]", Group: groupDocument,
		Short: "make an image index of manifests, one for each platform",
		Long: `Index joins manifests to one image for several platforms. They come as descriptors on
standard input, or from --manifest. With LAYOUT the platform of each is read from its config, the
index is stored and its descriptor printed. Without LAYOUT the JSON is printed, and platforms come
from the descriptors or from --platform, given once for each manifest in the same order.`,
		Example: "ocikit mutate app:latest --arch arm64 -t arm64\nocikit resolve app:latest > images\nocikit resolve app:arm64 >> images\nocikit index app < images | ocikit tag app:multi",
		Bind: func(fs *flag.FlagSet) Action {
			manifests := list(fs, "manifest", "", "a manifest or its descriptor, `input` (repeatable)")
			platforms := list(fs, "platform", "", "the `platform` of the manifest in the same place (repeatable)")
			annotations := list(fs, "annotation", "a", "set the annotation `key=value` (repeatable)")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) > 1 {
					return &usageError{
						msg:  fmt.Sprintf("%d operands, want LAYOUT alone", len(args)),
						hint: "`ocikit resolve IMAGE` prints the descriptors of images, to pipe in here",
					}
				}
				if len(args) == 1 && *out != "" {
					return usagef("-o goes without LAYOUT")
				}
				pairs, err := keyValues("annotation", *annotations)
				if err != nil {
					return err
				}
				wishes := make([]*oci.Platform, len(*platforms))
				for i, p := range *platforms {
					if wishes[i], err = parsePlatformFlag(p); err != nil {
						return err
					}
				}
				var l *layout.Layout
				if len(args) == 1 {
					if l, err = openLayout(args[0]); err != nil {
						return err
					}
					defer l.Close()
				}
				entries, err := indexInputs(ctx, env, *manifests)
				if err != nil {
					return err
				}
				if err := setPlatforms(l, entries, wishes); err != nil {
					return err
				}
				data, err := oci.Encode(image.NewIndex(entries, pairs))
				if err != nil {
					return err
				}
				if l == nil {
					return env.toOutput(*out, false, func(w io.Writer) error { return writeAll(w, data) })
				}
				desc := oci.Describe(oci.MediaTypeIndex, data)
				if err := l.CheckRefs(desc, data); err != nil {
					return incompleteHint(l, err)
				}
				if desc, err = l.PutDocument(desc.MediaType, data); err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}

func indexInputs(ctx context.Context, env *Env, inputs []string) ([]oci.Descriptor, error) {
	var entries []oci.Descriptor
	if len(inputs) == 0 {
		var err error
		if entries, err = readStream(env); err != nil {
			return nil, err
		}
	}
	for _, in := range inputs {
		descs, _, err := readInput(ctx, env, in, documentInput)
		if err != nil {
			return nil, err
		}
		entries = append(entries, descs...)
	}
	for _, d := range entries {
		if !oci.IsManifest(d.MediaType) && !oci.IsIndex(d.MediaType) {
			return nil, fmt.Errorf("%s is of type %q, want a manifest or an index", d.Digest, d.MediaType)
		}
	}
	return entries, nil
}

// setPlatforms gives each manifest the platform that was asked for, or that its config
// says.
func setPlatforms(l *layout.Layout, entries []oci.Descriptor, wishes []*oci.Platform) error {
	if len(wishes) > 0 && len(wishes) != len(entries) {
		return usagef("%d times --platform for %d manifests", len(wishes), len(entries))
	}
	for i, d := range entries {
		switch {
		case len(wishes) > 0:
			entries[i].Platform = wishes[i]
		case l != nil && oci.IsManifest(d.MediaType):
			p, err := image.PlatformOf(l, d)
			if err != nil {
				return incompleteHint(l, err)
			}
			entries[i].Platform = p
		}
	}
	return nil
}

// incompleteHint says how blobs get into a layout.
func incompleteHint(l *layout.Layout, err error) error {
	if errors.Is(err, layout.ErrNotFound) {
		err = fmt.Errorf("%w: %v", layout.ErrIncomplete, err)
	}
	if errors.Is(err, layout.ErrIncomplete) {
		return withHint(err, "`ocikit verify %s` lists what is missing, --repair-from fetches it, `ocikit put` stores a blob", l.Dir())
	}
	return err
}
