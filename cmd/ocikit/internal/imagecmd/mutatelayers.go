package imagecmd

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// layerEdits are the flags of mutate that change the layers and what the history says of them.
type layerEdits struct {
	annotations, steps, removals, insertions, moves, replacements, drop *[]string
	dropHistory                                                         *bool

	// What parse makes of them, by numbers of layers as the image has them.
	insert, replace []layerInput
	numbers         []int          // layers that must be there
	insertAt        []int          // layers that must be there, or the top
	first           []image.Change // before layers change
	then            []image.Change // once they are inserted and replaced
	last            []image.Change // to what is left

	entry oci.History // of the history, for new layers
	dry   bool        // nothing is stored
}

// A layerInput is N:INPUT.
type layerInput struct {
	n     int
	input string
}

func bindLayerEdits(fs *flag.FlagSet) *layerEdits {
	return &layerEdits{
		annotations:  cli.List(fs, "layer-annotation", "", "set an annotation of layer N, `N:KEY=VALUE` (repeatable)"),
		removals:     cli.List(fs, "remove-layer", "", "take out layer `N`, or those of a digest or diff ID (repeatable)"),
		insertions:   cli.List(fs, "insert-layer", "", "put the tar, directory or descriptors of INPUT below layer N, `N:INPUT`; the number of layers is the top (repeatable)"),
		moves:        cli.List(fs, "move-layer", "", "let layer FROM stand where layer TO is, `FROM:TO` (repeatable)"),
		replacements: cli.List(fs, "replace-layer", "", "put the layer of INPUT in the place of layer N, `N:INPUT` (repeatable)"),
		drop:         cli.List(fs, "drop", "", "take the files that match `PATTERN`, as in .dockerignore, out of the layers that bring them (repeatable)"),
		steps:        cli.List(fs, "history", "", "set created, created_by, author or comment in entry N of the history, `N:FIELD=VALUE`; the first is 0 (repeatable)"),
		dropHistory:  fs.Bool("drop-history", false, "remove the history"),
	}
}

// given reports whether there is something to do.
func (e *layerEdits) given() bool {
	return len(e.insert)+len(e.replace)+len(e.first)+len(e.then)+len(e.last)+len(*e.drop) > 0
}

// parse checks the flags before anything is read, and turns them into changes by what they are
// applied to: see the fields of e.
func (e *layerEdits) parse() error {
	for _, step := range []func() error{e.parseSteps, e.parseInputs, e.parseMoves, e.parseRemovals, e.parseAnnotations} {
		if err := step(); err != nil {
			return err
		}
	}

	// changes parses the patterns again. Here a wrong one costs no work.
	if _, err := tarutil.NewMatcher(*e.drop); err != nil {
		return cli.Usagef("flag --drop: %v", err)
	}

	if *e.dropHistory {
		e.last = append(e.last, (*image.Image).DropHistory)
	}

	return nil
}

// parseSteps reads what is set in the history.
func (e *layerEdits) parseSteps() error {
	for _, s := range *e.steps {
		n, member, value, err := numberedPair("history", s)
		if err != nil {
			return err
		}

		// The flag is called --created-by, the member created_by: both are taken.
		member = strings.ReplaceAll(member, "-", "_")
		switch member {
		case "created":
			if _, err := oci.ParseTime(value); value != "" && err != nil {
				return cli.Usagef("flag --history: %v", err)
			}
		case "created_by", "author", "comment":
		default:
			return cli.Usagef("flag --history: %q: want created, created_by, author or comment", member)
		}
		e.first = append(e.first, func(im *image.Image) error { return im.SetStep(n, member, value) })
	}
	return nil
}

// parseInputs reads which layers are replaced and inserted.
func (e *layerEdits) parseInputs() (err error) {
	if e.replace, err = numberedInputs("replace-layer", *e.replacements); err != nil {
		return err
	}

	if e.insert, err = numberedInputs("insert-layer", *e.insertions); err != nil {
		return err
	}

	for _, r := range e.replace {
		e.numbers = append(e.numbers, r.n)
	}

	for _, i := range e.insert {
		e.insertAt = append(e.insertAt, i.n)
	}

	return nil
}

func (e *layerEdits) parseMoves() error {
	for _, s := range *e.moves {
		a, b, ok := strings.Cut(s, ":")
		from, errA := layerNumber(a)
		to, errB := layerNumber(b)
		if !ok || errA != nil || errB != nil {
			return cli.Usagef("flag --move-layer: %q: want FROM:TO, two numbers", s)
		}
		e.numbers = append(e.numbers, from, to)
		e.then = append(e.then, func(im *image.Image) error { return im.MoveLayer(from, to) })
	}
	return nil
}

func (e *layerEdits) parseRemovals() error {
	for _, s := range *e.removals {
		if d, err := digest.Parse(s); err == nil {
			e.then = append(e.then, func(im *image.Image) error { return im.RemoveDigest(d) })
			continue
		}
		n, err := layerNumber(s)
		if err != nil {
			return cli.Usagef("flag --remove-layer: %q: want the number of a layer, or a digest", s)
		}
		e.numbers = append(e.numbers, n)
		e.then = append(e.then, func(im *image.Image) error { return im.RemoveLayer(n) })
	}
	return nil
}

func (e *layerEdits) parseAnnotations() error {
	for _, s := range *e.annotations {
		n, key, value, err := numberedPair("layer-annotation", s)
		if err != nil {
			return err
		}
		e.numbers = append(e.numbers, n)
		e.last = append(e.last, func(im *image.Image) error { return im.AnnotateLayer(n, key, value) })
	}
	return nil
}

// layerNumber reads a number that counts from 0.
func layerNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err
}

// numberedPair reads N:KEY=VALUE.
func numberedPair(flagName, s string) (n int, key, value string, err error) {
	number, pair, _ := strings.Cut(s, ":")
	key, value, ok := strings.Cut(pair, "=")
	n, err = layerNumber(number)
	if err != nil || !ok || key == "" {
		return 0, "", "", cli.Usagef("flag --%s: %q: want a number, a colon and NAME=VALUE", flagName, s)
	}
	return n, key, value, nil
}

// numberedInputs reads N:INPUT.
func numberedInputs(flagName string, values []string) ([]layerInput, error) {
	var all []layerInput
	for _, s := range values {
		number, input, _ := strings.Cut(s, ":")
		n, err := layerNumber(number)
		if err != nil || input == "" {
			return nil, cli.Usagef("flag --%s: %q: want the number of a layer, a colon and an INPUT", flagName, s)
		}
		all = append(all, layerInput{n, input})
	}
	return all, nil
}

// changes stores the layers that the flags bring, and returns what they do, in an order that does
// not depend on that of the flags: steps of the history, replace, insert, move, remove, drop files,
// annotate. Numbers that no image has are an error before anything is stored.
func (e *layerEdits) changes(ctx context.Context, env *cli.Env, l *layout.Layout, desc oci.Descriptor, o image.EditOptions) ([]image.Change, error) {
	if !e.given() {
		return nil, nil
	}

	// Below, layers are stored one after the other.
	if err := e.tryNumbers(l, desc, o); err != nil {
		return nil, err
	}

	changes := e.first
	for _, r := range e.replace {
		layers, err := layersOf(ctx, env, l, r.input, e.dry)
		if err != nil {
			return nil, err
		}
		if len(layers) != 1 {
			return nil, fmt.Errorf("--replace-layer %d: %d layers in the place of one", r.n, len(layers))
		}
		changes = append(changes, func(im *image.Image) error { return im.ReplaceLayer(r.n, layers[0]) })
	}

	for _, i := range e.insert {
		layers, err := layersOf(ctx, env, l, i.input, e.dry)
		if err != nil {
			return nil, err
		}
		for _, d := range layers {
			changes = append(changes, func(im *image.Image) error { return im.InsertLayer(i.n, d, e.entry) })
		}
	}

	changes = append(changes, e.then...)

	if len(*e.drop) > 0 {
		d, err := image.NewDropper(l, *e.drop, e.dry)
		if err != nil {
			return nil, err
		}
		changes = append(changes, d.Changes(ctx)...)
	}

	return append(append(changes, e.last...), checkFit(ctx, l)), nil
}

// checkFit returns the change that refuses layers which nothing can put on those below. The edit may be
// tried before it is made, which need not read layers again.
func checkFit(ctx context.Context, l *layout.Layout) image.Change {
	fits := map[digest.Digest]bool{}
	return func(im *image.Image) error {
		d := im.Descriptor().Digest
		if fits[d] {
			return nil
		}
		err := im.CheckFit(ctx, l)
		fits[d] = err == nil
		return err
	}
}

// tryNumbers finds numbers of layers that no image has, by a trial of the edit with changes that only
// look.
func (e *layerEdits) tryNumbers(l *layout.Layout, desc oci.Descriptor, o image.EditOptions) error {
	for _, n := range e.numbers {
		o.Changes = append(o.Changes, func(im *image.Image) error { _, err := im.LayerAt(n); return err })
	}

	for _, n := range e.insertAt {
		o.Changes = append(o.Changes, func(im *image.Image) error {
			// The number of layers is the top: something may be inserted there, but no layer has
			// it.
			if n == len(im.Layers()) {
				return nil
			}
			_, err := im.LayerAt(n)
			return err
		})
	}

	_, err := image.Edit(l, desc, o)
	return editHint(err)
}

// layersOf stores the layers of an INPUT, packed and compressed as append does without flags, and
// returns their descriptors.
func layersOf(ctx context.Context, env *cli.Env, l *layout.Layout, input string, dry bool) ([]oci.Descriptor, error) {
	// Flags bound to a set that parses nothing have the defaults of append.
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	packing, err := commonflags.BindPack(fs)(env)
	if err != nil {
		return nil, err
	}
	o, err := commonflags.BindCompression(fs, "gzip")()
	if err != nil {
		return nil, err
	}
	a := &appending{l: l, o: o, pack: packing, dry: dry}
	err = a.input(ctx, env, input)
	return a.layers, err
}
