package imagecmd

import (
	"cmp"
	"context"
	"flag"
	"maps"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci"
	"ocikit/oci/image"
)

func mutateCommand() cli.Command {
	return cli.Command{
		Name: "mutate", Args: "IMAGE", Group: cli.GroupImage, Progress: true,
		Short: "change the config, layers and annotations of an image",
		Long: `Mutate makes an image of IMAGE with another config, or other annotations, and prints its
descriptor. What no flag names stays as it is, known to ocikit or not: no field follows from another,
and the time of making changes with --created alone. '' removes a text or a list, '[]' is a list
that is empty; --merge-patch can set or remove anything. Removing what no image has is an error.

Of an index every image is changed, unless --platform names one. With --created-by or --comment
the history gets an entry without a layer.

Layers are counted as IMAGE has them, the lowest is 0, however many flags move them; diff IDs, history
and attestations follow. What --insert-layer and --replace-layer name is as for "ocikit append"; other
compression is made by "ocikit layer", whose output is piped in. --drop writes the layers that hold a
file again, in their compression, and leaves the others as they are. Layers that nothing can put on
what is left below them are refused, if those from the lowest change on have 8 MiB at most. --subject
and --artifact-type are of what IMAGE names, an index or a manifest. --json-patch comes last.

On standard error stand the old and the new digest of each image, and what goes on naming the old one,
as for "ocikit convert".`,
		Example: `ocikit mutate app --env LANG=C.UTF-8 --cmd '["-v"]' --user '' -t v2
ocikit append app --layer ./rootfs -t child
ocikit mutate app:child --remove-layer 0 --history 0:comment=alone -t child
echo '[{"op":"remove","path":"/history"}]' > patch.json
ocikit mutate app:child --json-patch patch.json --layer-annotation 0:about=files -t child`,
		Status: "4 if no layer has the number or digest, or no layer brings what --drop names",
		Bind: func(fs *flag.FlagSet) cli.Action {
			m := &mutating{config: commonflags.BindConfig(fs), edit: bindEditFlags(fs), annotations: commonflags.BindAnnotations(fs)}

			// The flags of config tell how a config is made. Here they change one.
			for name, usage := range map[string]string{
				"os": "set the operating system to `SYSTEM`", "arch": "set the architecture to `CPU`; \"local\" is this one's",
				"created": "set the creation time to `TIME` (RFC 3339)", "created-by": "write `TEXT` into a new entry of the history, or those of new layers",
				"comment": "write `TEXT` into a new entry of the history, or those of new layers",
			} {
				fs.Lookup(name).Usage = usage
			}

			m.unset = cli.List(fs, "unset-annotation", "", "remove the annotation `KEY` of the manifest (repeatable)")
			m.onIndex = cli.List(fs, "index-annotation", "", "set the annotation `KEY=VALUE` of the index itself (repeatable)")
			m.layers = bindLayerEdits(fs)
			m.documents = bindDocumentEdits(fs)
			return m.run
		},
	}
}

// A mutating is a run of mutate: its flags.
type mutating struct {
	config                      *commonflags.Config
	edit                        *editFlags
	annotations, unset, onIndex *[]string
	layers                      *layerEdits
	documents                   *documentEdits
}

// run makes an image with what the flags change.
func (m *mutating) run(ctx context.Context, env *cli.Env, args []string) error {
	if err := m.layers.parse(); err != nil {
		return err
	}

	patches, err := m.documents.parse(env)
	if err != nil {
		return err
	}

	var changes []image.Change
	m.layers.dry = *m.edit.dryRun
	m.layers.entry, changes, err = mutations(ctx, env, m.config, len(m.layers.insert) > 0)
	if err != nil {
		return err
	}

	set, index, err := m.annotationChanges()
	if err != nil {
		return err
	}

	changes = append(changes, set...)
	if len(changes)+len(index) == 0 && !m.layers.given() && !m.documents.given() {
		return cli.Usagef("nothing to change")
	}

	l, desc, o, err := m.edit.open(args)
	if err != nil {
		return err
	}
	defer l.Close()

	env.Watch(l)

	// Layers are changed first, then config and annotations; patches come last and see the rest. The
	// order of flags does not matter.
	below, err := m.layers.changes(ctx, env, l, desc, o)
	if err != nil {
		return err
	}

	o.Changes = slices.Concat(below, changes, patches.config, patches.manifest)
	o.Index = slices.Concat(index, patches.index)
	if o.Top, m.edit.attach, err = m.documents.top(); err != nil {
		return err
	}

	if err := m.edit.reportDigests(env, l, desc, o); err != nil {
		return err
	}

	return m.edit.run(ctx, env, l, desc, o)
}

// annotationChanges returns the changes of annotations, of the images and of the index.
func (m *mutating) annotationChanges() (changes, index []image.Change, err error) {
	for _, key := range *m.unset {
		changes = append(changes, func(im *image.Image) error { return im.UnsetAnnotation(key) })
	}

	set, err := annotationChanges("annotation", *m.annotations)
	if err != nil {
		return nil, nil, err
	}

	index, err = annotationChanges("index-annotation", *m.onIndex)
	return append(changes, set...), index, err
}

// mutations returns the changes that the flags of the config ask for, and the history entry for new
// layers. If no layer is new and the flags give the entry a text, one of the changes adds it, as a
// step that made no layer.
func mutations(ctx context.Context, env *cli.Env, flags *commonflags.Config, layers bool) (oci.History, []image.Change, error) {
	edits, err := flags.Edits(ctx, env)
	if err != nil {
		return oci.History{}, nil, err
	}

	created, _, err := flags.CreatedTime(env)
	if err != nil {
		return oci.History{}, nil, err
	}

	entry := oci.History{Created: created, CreatedBy: *flags.CreatedBy, Comment: *flags.Comment, Author: flags.Author.Value}
	if !layers && entry.CreatedBy+entry.Comment != "" {
		h := entry
		h.EmptyLayer = true
		edits = append([]commonflags.Edit{func(c *oci.Config) error { return c.AddHistory(h) }}, edits...)
	}

	if flags.Created.Given {
		edits = append([]commonflags.Edit{func(c *oci.Config) error { c.Set("created", created); return nil }}, edits...)
	}

	changes := make([]image.Change, len(edits))
	for i, e := range edits {
		changes[i] = onConfig(e)
	}

	entry.CreatedBy = cmp.Or(entry.CreatedBy, "ocikit mutate")

	return entry, changes, nil
}

// annotationChanges returns the changes that set the annotations of a flag, in the order of their
// keys.
func annotationChanges(flagName string, pairs []string) ([]image.Change, error) {
	m, err := cli.KeyValues(flagName, pairs)
	if err != nil {
		return nil, err
	}
	var changes []image.Change
	for _, k := range slices.Sorted(maps.Keys(m)) {
		changes = append(changes, func(im *image.Image) error { return im.SetAnnotation(k, m[k]) })
	}
	return changes, nil
}
