package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

// ErrNotBase means that an image is not built on the base that it should lose.
var ErrNotBase = errors.New("it is not built on the old base")

// ConfigRule says what "config" of an image becomes when it is rebased.
type ConfigRule string

// The rules.
const (
	configKeep  ConfigRule = "keep"     // as in the image
	configBase  ConfigRule = "new-base" // as in the new base
	configMerge ConfigRule = "merge"    // what the image took over from the old base follows the new one
)

// RebaseOptions say how to rebase.
type RebaseOptions struct {
	Layout           *layout.Layout // of the image
	OldBase, NewBase Base           // zero: as the image's annotations say, in its layout
	NewName          string         // of the new base, for the annotation; "" if it has none
	Config           ConfigRule     // "" is configKeep

	// Explain has the plan name the layers that go, stay and come, and the files whose ground is
	// lost: those of the old base that layers of the image delete or replace, and that the new base
	// does not have. All layers are read for that; if one is absent, a notice says so.
	Explain bool
}

// A Base is an image, or one for several platforms, that others are built on.
type Base struct {
	Source source.Source
	Desc   oci.Descriptor
}

// forPlatform opens the image of a base that is for a platform.
func (s Base) forPlatform(p oci.Platform, what string) (*Image, error) {
	desc := s.Desc
	if oci.IsIndex(desc.MediaType) {
		p.OSVersion = release(p.OSVersion)
		var err error
		if desc, err = chooseVery(s.Source, desc, p); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}

	im, err := open(s.Source, desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}

	if err := im.needConfig(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}

	is, err := im.Platform()
	if err == nil && (is.OS != p.OS || is.Architecture != p.Architecture) {
		err = fmt.Errorf("%s %s: it is for %s, the image for %s: %w", what, desc.Digest, is, p, graph.ErrPlatform)
	}

	return im, err
}

// release returns a version of Windows without its revision, the fourth number: each update of a base has
// another one.
func release(version string) string {
	numbers := strings.Split(version, ".")
	return strings.Join(numbers[:min(3, len(numbers))], ".")
}

// Rebase returns the change that puts an image on another base: in place of the layers and history
// of the old base, which must be its lowest ones, come those of the new base. The image takes on
// the new base's family of media types and the version of its operating system. Layers count as the
// same if their digests or their diff IDs are. An image that begins with other layers gives
// [ErrNotBase], and one whose layers cannot be put on the new base [ErrMisfit]; see [Image.CheckFit].
//
// A base that the options do not name is looked for by the image's annotations: the old one by
// its digest, the new one by its name. The blobs of a base in another layout must be copied;
// see [Plan.CopyLayers].
func Rebase(ctx context.Context, o RebaseOptions) Change {
	return func(im *Image) error { return o.rebase(ctx, im) }
}

// rebase puts an image on its new base. o is a copy, since each image looks for the bases that its own
// annotations name.
func (o RebaseOptions) rebase(ctx context.Context, im *Image) error {
	if err := im.needConfig(); err != nil {
		return err
	}

	if err := o.findBases(im); err != nil {
		return err
	}

	p, err := im.Platform()
	if err != nil {
		return err
	}

	old, err := o.OldBase.forPlatform(p, "old base")
	if err != nil {
		return err
	}

	base, err := o.NewBase.forPlatform(p, "new base")
	if err != nil {
		return err
	}

	if err := checkPrefix(old.layers, im.layers); err != nil {
		return err
	}

	if o.Explain {
		if err := o.explain(ctx, im, old, base); err != nil {
			return err
		}
	}

	history, err := spliceHistory(im, old, base)
	if err != nil {
		return err
	}

	// Layers of the base are taken as they are, so the image follows its family.
	if err := im.convert(base.family()); err != nil {
		return err
	}

	layers := append(slices.Clone(base.layers), im.layers[len(old.layers):]...)
	if err := im.setLayers(layers, history); err != nil {
		return err
	}
	if err := im.checkFit(ctx, o.NewBase.Source, o.Layout, len(base.layers)); err != nil {
		return err
	}

	if err := o.mergeConfig(im, old, base); err != nil {
		return err
	}

	return im.SetBase(o.NewName, base.desc.Digest)
}

// mergeConfig gives the config of an image what it has of its new base.
func (o RebaseOptions) mergeConfig(im, old, base *Image) error {
	// Windows compares the version of an image with its own, and that is the one of the base.
	is, err := base.Platform()
	if err != nil {
		return err
	}
	if is.OSVersion != "" {
		im.Config.Set("os.version", is.OSVersion)
	}

	switch o.Config {
	case configBase:
		im.Config.SetExecObject(base.Config.Exec())
	case configMerge:
		im.Config.SetExecObject(mergeExec(im.Config.Exec(), old.Config.Exec(), base.Config.Exec()))
	}

	return nil
}

// checkPrefix reports the first layer of the old base that the image does not have.
func checkPrefix(base, layers []layer) error {
	for i, want := range base {
		if i == len(layers) {
			return fmt.Errorf("%w: that has %d layers, the image %d", ErrNotBase, len(base), len(layers))
		}
		if got := layers[i]; !got.same(want) {
			return fmt.Errorf("%w: layer %d is %s, diff ID %s; that of the old base is %s, diff ID %s", ErrNotBase, i, got.desc.Digest, got.diffID(), want.desc.Digest, want.diffID())
		}
	}
	return nil
}

// same reports whether two layers are the same, by their digests or their diff IDs.
func (l layer) same(other layer) bool {
	return l.desc.Digest == other.desc.Digest || l.diffID() == other.diffID()
}

func (l layer) diffID() digest.Digest {
	id, _ := l.desc.DiffID()
	return id
}

// spliceHistory returns the history of the new base, then what the image's has beyond that of
// the old one. Histories that do not begin alike are cut behind the entry of the old base's
// last layer.
func spliceHistory(im, old, base *Image) ([]oci.HistoryEntry, error) {
	own, err := im.Config.HistoryEntries()
	if err != nil {
		return nil, err
	}

	was, err := old.Config.HistoryEntries()
	if err != nil {
		return nil, err
	}

	rest, err := base.Config.HistoryEntries()
	if err != nil {
		return nil, err
	}

	// A builder may have written the history anew, or that of the old base may tell of fewer layers than
	// there are. Then the entries that made its layers are counted.
	cut, left := 0, len(old.layers)
	if len(was) <= len(own) && slices.EqualFunc(was, own[:len(was)], oci.HistoryEntry.Same) {
		cut, left = len(was), left-oci.MadeLayers(was)
	}
	for ; left > 0 && cut < len(own); cut++ {
		if !own[cut].EmptyLayer {
			left--
		}
	}

	// Without these entries the steps of the image would seem to have made the layers of the base.
	if cut < len(own) {
		for range len(base.layers) - oci.MadeLayers(rest) {
			rest = append(rest, oci.NewHistoryEntry(oci.History{}))
		}
	}

	// Likewise, those of the base must not seem to have made the layers of the image.
	if len(own) == 0 && len(rest) > 0 {
		for range im.layers[len(old.layers):] {
			rest = append(rest, oci.NewHistoryEntry(oci.History{}))
		}
		return rest, nil
	}

	return append(rest, own[cut:]...), nil
}

// mergeExec returns own in which each member that is as the old base has it, or lacks it, is as the
// new base has it.
func mergeExec(own, old, base oci.Object) oci.Object {
	for name, value := range base {
		if string(own[name]) == string(old[name]) {
			own[name] = value
		}
	}
	for name, value := range old {
		if _, ok := base[name]; !ok && string(own[name]) == string(value) {
			delete(own, name)
		}
	}
	return own
}

// findBases fills in the bases that the options do not name.
func (o *RebaseOptions) findBases(im *Image) error {
	name, d := im.base()
	find := func(s *Base, what string, n oci.ImageName) (err error) {
		if s.Source != nil {
			return nil
		}
		if n.Tag == "" && n.Digest.IsZero() {
			return fmt.Errorf("%s: the image's annotations do not name it: %w", what, ErrNotBase)
		}
		s.Source = o.Layout
		if s.Desc, err = o.Layout.Resolve(n); err != nil {
			err = fmt.Errorf("%s, by the image's annotations: %w", what, err)
		}
		return err
	}

	// The digest in the annotations says what the image was built on, the name what it is today.
	if err := find(&o.OldBase, "old base", oci.ImageName{Digest: d}); err != nil {
		return err
	}

	if o.NewBase.Source == nil {
		o.NewName = name
	}

	return find(&o.NewBase, "new base", oci.ImageName{Tag: name})
}

// ReferenceOf returns the full name of an image, which begins with host and repository, if an entry
// of index.json holds one. Otherwise it returns "", since a tag alone does not say what image it
// is.
func ReferenceOf(entry oci.Descriptor) string {
	for _, key := range []string{oci.AnnotationImageName, oci.AnnotationRefName} {
		name := entry.Annotations.Get(key)
		host, path, ok := strings.Cut(name, "/")
		if ok && path != "" && (strings.ContainsAny(host, ".:") || host == "localhost") {
			return name
		}
	}
	return ""
}

// The actions of the steps that explain a rebase.
const (
	layerGoes   = "layer-goes"
	layerStays  = "layer-stays"
	layerComes  = "layer-comes"
	groundLost  = "ground-lost" // with the path and the fate of a file of the old base
	maxLostPath = 10_000        // files that are named
)

// explain notes what a rebase does to the layers of an image and to its files.
func (o RebaseOptions) explain(ctx context.Context, im, old, base *Image) error {
	tell := func(action string, l layer) {
		im.told = append(im.told, Step{Action: action, Descriptor: l.desc})
	}

	for _, l := range im.layers[:len(old.layers)] {
		if !slices.ContainsFunc(base.layers, l.same) {
			tell(layerGoes, l)
		}
	}

	for _, l := range base.layers {
		action := layerComes
		if slices.ContainsFunc(old.layers, l.same) {
			action = layerStays
		}
		tell(action, l)
	}

	for _, l := range im.layers[len(old.layers):] {
		tell(layerStays, l)
	}

	// If a layer is absent the files cannot be compared, and the rebase is possible all the same.
	err := o.lostGround(ctx, im, base, len(old.layers))
	if err = graph.Incomplete(err); errors.Is(err, graph.ErrIncomplete) {
		im.notices = append(im.notices, fmt.Sprintf("files were not compared: %v", err))
		return nil
	}

	return err
}

// lostGround notes the files of the lowest n layers of an image that the others delete or replace,
// and that the new base does not show.
func (o RebaseOptions) lostGround(ctx context.Context, im, base *Image, n int) error {
	touched, err := touchedFiles(ctx, o.Layout, im, n)
	if err != nil || len(touched) == 0 {
		return err
	}

	shown, err := ListFiles(ctx, o.NewBase.Source, base.desc)
	if err != nil {
		return err
	}

	// If a directory is deleted, its whole tree is, so its name is enough.
	deleted, more := "", 0
	for _, f := range touched {
		if deleted != "" && strings.HasPrefix(f.Path, deleted) {
			continue
		}

		// A path that the new base shows keeps its ground.
		isShown := false
		for range shown.Walk(f.Path, false) {
			isShown = true
			break
		}
		if isShown {
			continue
		}

		if f.Fate == Deleted {
			deleted = f.Path + "/"
		}

		if len(im.told) > maxLostPath {
			more++
			continue
		}
		im.told = append(im.told, Step{Action: groundLost, Descriptor: im.layers[f.FateBy].desc, Path: f.Path, Fate: f.Fate})
	}

	if more > 0 {
		im.notices = append(im.notices, fmt.Sprintf("%d more files lose their ground", more))
	}

	return nil
}

// touchedFiles returns what the lowest n layers of an image show and the others delete or replace,
// each once, in the order of paths.
func touchedFiles(ctx context.Context, l *layout.Layout, im *Image, n int) ([]File, error) {
	all, err := ListFiles(ctx, l, im.desc)
	if err != nil {
		return nil, err
	}
	var touched []File
	for f := range all.Walk("", true) {
		if f.Layer < n && f.FateBy >= n {
			touched = append(touched, f)
		}
	}
	return touched, nil
}
