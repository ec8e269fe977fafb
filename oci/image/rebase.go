package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/layout"
)

// ErrNotBase means that an image is not built on the base that it should lose.
var ErrNotBase = errors.New("it is not built on the old base")

// ConfigRule says what "config" of an image becomes when it is rebased.
type ConfigRule string

// The rules.
const (
	ConfigKeep  ConfigRule = "keep"     // as in the image
	ConfigBase  ConfigRule = "new-base" // as in the new base
	ConfigMerge ConfigRule = "merge"    // what the image took over from the old base follows the new one
)

// RebaseOptions say how to rebase.
type RebaseOptions struct {
	Layout           *layout.Layout // of the image
	OldBase, NewBase Source         // zero: as the image's annotations say, in its layout
	NewName          string         // of the new base, for the annotation; "" if it has none
	Config           ConfigRule     // "" is ConfigKeep
}

// A Source is an image, or one for several platforms, in a layout.
type Source struct {
	Layout *layout.Layout
	Desc   oci.Descriptor
}

// forPlatform opens the image of a source that is for a platform.
func (s Source) forPlatform(p oci.Platform, what string) (*Image, error) {
	desc := s.Desc
	if oci.IsIndex(desc.MediaType) {
		var err error
		if desc, err = Select(s.Layout, desc, &p); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	im, err := Open(s.Layout, desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := im.needConfig(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	is, err := im.Platform()
	if err == nil && (is.OS != p.OS || is.Architecture != p.Architecture) {
		err = fmt.Errorf("%s %s: it is for %s, the image for %s: %w", what, desc.Digest, is, p, ErrPlatform)
	}
	return im, err
}

// Rebase returns the change that puts an image on another base: in place of the layers and
// history of the old base, which must be its lowest ones, come those of the new base. The image
// takes on the new base's family of media types. Layers count as the same if their digests or
// their diff IDs are. An image that begins with others gives [ErrNotBase].
//
// A base that the options do not name is looked for by the image's annotations: the old one by
// its digest, the new one by its name. The blobs of a base in another layout must be copied;
// see [Plan.CopyLayers].
func Rebase(o RebaseOptions) Change {
	return func(im *Image) error {
		if err := im.needConfig(); err != nil {
			return err
		}
		o := o
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
		history, err := spliceHistory(im, old, base)
		if err != nil {
			return err
		}
		if err := im.convert(base.Family()); err != nil {
			return err
		}
		layers := append(slices.Clone(base.layers), im.layers[len(old.layers):]...)
		if err := im.setLayers(layers, history); err != nil {
			return err
		}
		switch o.Config {
		case ConfigBase:
			im.Config.SetExecObject(base.Config.Exec())
		case ConfigMerge:
			im.Config.SetExecObject(mergeExec(im.Config.Exec(), old.Config.Exec(), base.Config.Exec()))
		}
		return im.SetBase(o.NewName, base.desc.Digest)
	}
}

// checkPrefix reports the first layer of the old base that the image does not have.
func checkPrefix(base, layers []layer) error {
	for i, want := range base {
		if i == len(layers) {
			return fmt.Errorf("%w: that has %d layers, the image %d", ErrNotBase, len(base), len(layers))
		}
		got := layers[i].desc
		id, _ := got.DiffID()
		wantID, _ := want.desc.DiffID()
		if got.Digest != want.desc.Digest && id != wantID {
			return fmt.Errorf("%w: layer %d is %s, diff ID %s; that of the old base is %s, diff ID %s", ErrNotBase, i, got.Digest, id, want.desc.Digest, wantID)
		}
	}
	return nil
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
	cut := len(was)
	if len(was) > len(own) || !slices.EqualFunc(was, own[:len(was)], oci.HistoryEntry.Same) {
		cut = 0
		for left := len(old.layers); left > 0 && cut < len(own); cut++ {
			if !own[cut].EmptyLayer {
				left--
			}
		}
	}
	if len(rest) == 0 && cut < len(own) {
		for range base.layers {
			rest = append(rest, oci.NewHistoryEntry(oci.History{}))
		}
	}
	if len(own) == 0 && len(rest) > 0 {
		for range im.layers[len(old.layers):] {
			rest = append(rest, oci.NewHistoryEntry(oci.History{}))
		}
		return rest, nil
	}
	return append(rest, own[cut:]...), nil
}

// mergeExec gives members that the image has as the old base has them the value of the new
// base.
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
	name, d := im.Base()
	find := func(s *Source, what string, n oci.ImageName) (err error) {
		if s.Layout != nil {
			return nil
		}
		if n.Tag == "" && n.Digest.IsZero() {
			return fmt.Errorf("%s: the image's annotations do not name it: %w", what, ErrNotBase)
		}
		s.Layout = o.Layout
		if s.Desc, err = o.Layout.Resolve(n); err != nil {
			err = fmt.Errorf("%s, by the image's annotations: %w", what, err)
		}
		return err
	}
	if err := find(&o.OldBase, "old base", oci.ImageName{Digest: d}); err != nil {
		return err
	}
	if o.NewBase.Layout == nil {
		o.NewName = name
	}
	return find(&o.NewBase, "new base", oci.ImageName{Tag: name})
}

// ReferenceOf returns the full name of an image, host and repository in front, if an entry of
// index.json holds one, and "" otherwise: a tag alone does not say what image it is.
func ReferenceOf(entry oci.Descriptor) string {
	for _, key := range []string{oci.AnnotationImageName, oci.AnnotationRefName} {
		name := entry.Annotations[key]
		host, path, ok := strings.Cut(name, "/")
		if ok && path != "" && (strings.ContainsAny(host, ".:") || host == "localhost") {
			return name
		}
	}
	return ""
}
