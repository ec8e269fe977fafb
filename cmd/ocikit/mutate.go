package main

import (
	"context"
	"flag"
	"maps"
	"slices"

	"ocikit/oci"
	"ocikit/oci/image"
)

func mutateCommand() Command {
	return Command{
		Name: "mutate", Args: "IMAGE", Group: groupImage,
		Short: "change the config and annotations of an image",
		Long: `Mutate makes an image of IMAGE with another config, or other annotations, and prints its
descriptor. What no flag names stays as it is, known to ocikit or not: no field follows from another,
and the time of making changes with --created alone. '' removes a text or a list, '[]' is a list
that is empty; --merge-patch can set or remove anything. Removing what no image has is an error.

Of an index every image is changed, unless --platform names one. With --created-by or --comment
the history gets an entry without a layer.`,
		Example: "ocikit mutate app --env LANG=C.UTF-8 --cmd '[\"-v\"]' --user '' -t v2",
		Bind: func(fs *flag.FlagSet) Action {
			flags := bindConfigFlags(fs)
			for name, usage := range map[string]string{
				"os": "operating `system`", "arch": "`CPU`; \"local\" is this one's",
				"created": "`time` of making (RFC 3339)", "created-by": "`text` in a new entry of the history",
				"comment": "`text` in a new entry of the history",
			} {
				fs.Lookup(name).Usage = usage
			}
			e := bindEditFlags(fs)
			annotations := list(fs, "annotation", "a", "set the annotation `key=value` of the manifest (repeatable)")
			unset := list(fs, "unset-annotation", "", "remove the annotation `key` of the manifest (repeatable)")
			onIndex := list(fs, "index-annotation", "", "set the annotation `key=value` of the index itself (repeatable)")
			return func(ctx context.Context, env *Env, args []string) error {
				changes, err := mutations(ctx, env, flags)
				if err != nil {
					return err
				}
				for _, key := range *unset {
					changes = append(changes, func(im *image.Image) error { return im.UnsetAnnotation(key) })
				}
				set, err := annotationChanges("annotation", *annotations)
				if err != nil {
					return err
				}
				index, err := annotationChanges("index-annotation", *onIndex)
				if err != nil {
					return err
				}
				changes = append(changes, set...)
				if len(changes)+len(index) == 0 {
					return usagef("nothing to change")
				}
				l, desc, o, err := e.open(args)
				if err != nil {
					return err
				}
				defer l.Close()
				o.Changes, o.Index = changes, index
				return e.run(ctx, env, l, nil, desc, o)
			}
		},
	}
}

// mutations returns what the flags of the config ask for.
func mutations(ctx context.Context, env *Env, flags *configFlags) ([]image.Change, error) {
	edits, err := flags.edits(ctx, env)
	if err != nil {
		return nil, err
	}
	created, _, err := flags.createdTime(env)
	if err != nil {
		return nil, err
	}
	if *flags.createdBy != "" || *flags.comment != "" {
		h := oci.History{Created: created, CreatedBy: *flags.createdBy, Comment: *flags.comment, Author: flags.author.value, EmptyLayer: true}
		edits = append([]edit{func(c *oci.Config) error { return c.AddHistory(h) }}, edits...)
	}
	if flags.created.given {
		edits = append([]edit{func(c *oci.Config) error { c.Set("created", created); return nil }}, edits...)
	}
	changes := make([]image.Change, len(edits))
	for i, e := range edits {
		changes[i] = onConfig(e)
	}
	return changes, nil
}

// annotationChanges returns what sets the annotations that a flag names.
func annotationChanges(flagName string, pairs []string) ([]image.Change, error) {
	m, err := keyValues(flagName, pairs)
	if err != nil {
		return nil, err
	}
	var changes []image.Change
	for _, k := range slices.Sorted(maps.Keys(m)) {
		changes = append(changes, func(im *image.Image) error { return im.SetAnnotation(k, m[k]) })
	}
	return changes, nil
}
