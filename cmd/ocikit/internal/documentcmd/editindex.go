package documentcmd

import (
	"errors"
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

// indexEdit are the flags of index about an index that is there, and images of the layout.
type indexEdit struct {
	from        *string
	add, remove *[]string
	edit        image.IndexEdit

	replaces digest.Digest // of the index that it was
	rules    graph.Rules   // for what the new one names
}

func bindIndexEdit(fs *flag.FlagSet) *indexEdit {
	return &indexEdit{
		from:   commonflags.BindFrom(fs),
		add:    cli.List(fs, "add", "", "add the image `IMAGE` of the same layout; an index brings its entries (repeatable)"),
		remove: cli.List(fs, "remove", "", "take out what is for `PLATFORM`, or has that digest (repeatable)"),
	}
}

// given reports whether the flags say where manifests come from.
func (e *indexEdit) given() bool { return *e.from != "" || len(*e.add) > 0 }

// parse checks the flags before anything is read.
func (e *indexEdit) parse(hasLayout bool) error {
	switch {
	case !hasLayout && e.given():
		return cli.Usagef("--from and --add want LAYOUT")
	case *e.from == "" && len(*e.remove) > 0:
		return cli.Usagef("--remove goes with --from")
	}

	for _, s := range *e.remove {
		if d, err := digest.Parse(s); err == nil {
			e.edit.RemoveDigests = append(e.edit.RemoveDigests, d)
			continue
		}
		p, err := oci.ParsePlatform(s)
		if err != nil {
			return cli.Usagef("flag --remove: %v", err)
		}
		e.edit.RemovePlatforms = append(e.edit.RemovePlatforms, p)
	}

	return nil
}

// apply returns the new index and its media type: entries and what --add brings, with --from added
// to the index that it names. It notes which index is replaced, and the rules for checking the new
// one.
func (e *indexEdit) apply(env *cli.Env, l *layout.Layout, entries []oci.Descriptor, annotations map[string]string) ([]byte, string, error) {
	for _, name := range *e.add {
		added, err := imageEntries(l, name)
		if err != nil {
			return nil, "", fmt.Errorf("--add: %w", err)
		}
		entries = append(entries, added...)
	}

	if *e.from == "" {
		entries, err := image.OneForEach(entries)
		if err != nil {
			return nil, "", err
		}
		data, err := oci.Encode(image.NewIndex(entries, annotations))
		return data, oci.MediaTypeIndex, err
	}

	from, desc, err := operands.OpenImage(*e.from)
	if err != nil {
		return nil, "", fmt.Errorf("--from: %w", err)
	}
	defer from.Close()

	if !oci.IsIndex(desc.MediaType) {
		return nil, "", fmt.Errorf("--from: %s is of type %q, want an index", desc.Digest, desc.MediaType)
	}

	// Entries that are new must be whole. The rules below excuse only what the old index lacked.
	for _, d := range entries {
		if err := graph.Check(l, d, graph.Rules{}); err != nil {
			return nil, "", operands.IncompleteHint(l, err)
		}
	}

	// Images that were absent from the old index in this layout may stay absent.
	e.rules.Sparse = from.Name() == l.Name()
	e.replaces = desc.Digest
	e.edit.Add, e.edit.Annotations = entries, annotations
	data, notices, err := image.EditIndex(from, desc, e.edit)
	if errors.Is(err, image.ErrNoLayer) {
		err = cli.WithHint(cli.NotThere(err), "`ocikit inspect` shows the platforms")
	}

	env.Say(notices...)

	return data, desc.MediaType, err
}

// report gives notices about what goes on naming the index that was edited.
func (e *indexEdit) report(env *cli.Env, l *layout.Layout, desc oci.Descriptor) error {
	if e.replaces.IsZero() || e.replaces == desc.Digest {
		return nil
	}
	plan := &image.Plan{Steps: []image.Step{{Action: "index", Descriptor: desc, Replaces: e.replaces}}}
	return operands.ReportReplaced(env, l, plan, "")
}

// imageEntries returns the entries that an image brings to an index: itself with its platform, or
// the entries of an index.
func imageEntries(l *layout.Layout, name string) ([]oci.Descriptor, error) {
	from, desc, err := operands.OpenImage(name)
	if err != nil {
		return nil, err
	}
	defer from.Close()

	if !oci.IsIndex(desc.MediaType) {
		p, err := graph.PlatformOf(l, desc)
		if err != nil {
			return nil, operands.IncompleteHint(l, err)
		}
		desc = operands.Unnamed(desc)
		desc.Platform = p
		return []oci.Descriptor{desc}, nil
	}

	x, err := graph.Index(from, desc)
	return x.Manifests, err
}
