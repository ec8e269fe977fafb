package image

import (
	"errors"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
)

// ErrNoLayer means that an image has no such layer, no such step of history, or no such file.
var ErrNoLayer = errors.New("not in the image")

// notThere is an error about what an image lacks: it matches [ErrNoLayer], and [oci.ErrAbsent], so
// that an edit of several images goes on with those that have it.
type notThere string

func (e notThere) Error() string        { return string(e) }
func (e notThere) Is(target error) bool { return target == ErrNoLayer || target == oci.ErrAbsent }

// notInImage returns an error that matches [ErrNoLayer].
func notInImage(format string, args ...any) error { return notThere(fmt.Sprintf(format, args...)) }

// LayerAt returns the present place of the layer that had number n when the image was opened. The
// lowest layer had number 0. A number that no layer had, or whose layer was removed, gives
// [ErrNoLayer].
func (im *Image) LayerAt(n int) (int, error) {
	i := slices.IndexFunc(im.layers, func(l layer) bool { return l.number == n+1 })
	if n < 0 || i < 0 {
		return 0, notInImage("no layer %d: the image has %d, and the lowest is 0", n, len(im.m.Layers))
	}
	return i, nil
}

// steps returns the history, and for each layer the place of its entry in it. A history that tells
// of fewer layers than there are gets empty entries for the rest. An image without any history gets
// one for each layer if all is set; else its history stays empty, and the places are -1.
func (im *Image) steps(all bool) (history []oci.HistoryEntry, at []int, err error) {
	if history, err = im.history(); err != nil {
		return nil, nil, err
	}

	for i, h := range history {
		if !h.EmptyLayer {
			at = append(at, i)
		}
	}

	for len(at) < len(im.layers) {
		if len(history) == 0 && !all {
			return nil, slices.Repeat([]int{-1}, len(im.layers)), nil
		}
		at = append(at, len(history))
		history = append(history, oci.NewHistoryEntry(oci.History{}))
	}

	return history, at, nil
}

// InsertLayer puts a layer, which carries its diff ID, below the one that had number n when the
// image was opened, and its history with it. If n is the number of layers, the new one goes on top.
// Otherwise InsertLayer does what [Image.Append] does.
func (im *Image) InsertLayer(n int, desc oci.Descriptor, h oci.History) error {
	if n == len(im.m.Layers) {
		return im.insert(len(im.layers), desc, h)
	}
	i, err := im.LayerAt(n)
	if err != nil {
		return err
	}
	return im.insert(i, desc, h)
}

// insert puts a layer at a place.
func (im *Image) insert(i int, desc oci.Descriptor, h oci.History) error {
	history, at, err := im.steps(true)
	if err != nil {
		return err
	}

	added, err := newLayer(desc, im.family())
	if err != nil {
		return err
	}

	// The step of the layer above makes room for the new one; without such a layer it comes last.
	step := len(history)
	if i < len(im.layers) {
		step = at[i]
	}

	history = slices.Insert(history, step, oci.NewHistoryEntry(h))
	im.added = append(im.added, Step{Action: "layer", Descriptor: added.desc})
	return im.relayer(slices.Insert(slices.Clone(im.layers), i, added), history)
}

// RemoveLayer takes out the layer that had a number when the image was opened, and its entry of
// the history.
func (im *Image) RemoveLayer(n int) error {
	i, err := im.LayerAt(n)
	if err != nil {
		return err
	}
	return im.remove(i)
}

// RemoveDigest takes out each layer that has d as its digest or as its diff ID.
func (im *Image) RemoveDigest(d digest.Digest) error {
	found := false

	// From the top down, removing one leaves the places of the others right.
	for i := len(im.layers) - 1; i >= 0; i-- {
		desc := im.layers[i].desc
		if id, _ := desc.DiffID(); desc.Digest != d && id != d {
			continue
		}
		if err := im.remove(i); err != nil {
			return err
		}
		found = true
	}

	if !found {
		return notInImage("no layer has the digest or the diff ID %s", d)
	}

	return nil
}

func (im *Image) remove(i int) error {
	history, at, err := im.steps(false)
	if err != nil {
		return err
	}
	if at[i] >= 0 {
		history = slices.Delete(history, at[i], at[i]+1)
	}
	return im.relayer(slices.Delete(slices.Clone(im.layers), i, i+1), history)
}

// MoveLayer moves the layer that had number from when the image was opened to the place of the one
// that had number to, which makes room for it. Its entry of the history goes with it.
func (im *Image) MoveLayer(from, to int) error {
	i, err := im.LayerAt(from)
	if err != nil {
		return err
	}

	j, err := im.LayerAt(to)
	if err != nil {
		return err
	}

	history, at, err := im.steps(false)
	if err != nil {
		return err
	}

	// Once the step is taken out, inserting it at the old place of the other one puts it at that
	// very place, from whichever side it comes. The same goes for the layer.
	if at[i] >= 0 {
		step := history[at[i]]
		history = slices.Insert(slices.Delete(history, at[i], at[i]+1), at[j], step)
	}

	layers, moved := slices.Clone(im.layers), im.layers[i]
	return im.relayer(slices.Insert(slices.Delete(layers, i, i+1), j, moved), history)
}

// ReplaceLayer puts another layer, which carries its diff ID, in the place of the one that had a
// number when the image was opened. The history stays.
func (im *Image) ReplaceLayer(n int, desc oci.Descriptor) error {
	i, err := im.LayerAt(n)
	if err != nil {
		return err
	}

	history, _, err := im.steps(false)
	if err != nil {
		return err
	}

	made, err := newLayer(desc, im.family())
	if err != nil {
		return err
	}

	made.number = im.layers[i].number
	im.added = append(im.added, Step{Action: "layer", Descriptor: made.desc, Replaces: im.layers[i].desc.Digest})
	layers := slices.Clone(im.layers)
	layers[i] = made
	return im.relayer(layers, history)
}

// relayer is setLayers for an edit that may touch what the image is built on. With another lowest
// layer it is built on no base any more, and the annotations that name one go.
func (im *Image) relayer(layers []layer, history []oci.HistoryEntry) error {
	if err := im.setLayers(layers, history); err != nil {
		return err
	}
	if len(layers) > 0 && layers[0].diffID() == im.lowest {
		return nil
	}
	return im.SetBase("", digest.Digest{})
}

// AnnotateLayer sets an annotation of the layer that had a number when the image was opened, in its
// descriptor.
func (im *Image) AnnotateLayer(n int, key, value string) error {
	i, err := im.LayerAt(n)
	if err != nil {
		return err
	}
	l := &im.layers[i]
	var failed error
	if l.raw, err = editDescriptor(l.raw, func(o oci.Object) { failed = setAnnotation(o, key, value) }); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return im.encodeLayers()
}

// SetStep sets a text of an entry of the history, as "created_by"; "" removes it. The first entry
// is 0; one that is not there gives [ErrNoLayer].
func (im *Image) SetStep(n int, member, value string) error {
	history, err := im.history()
	if err != nil {
		return err
	}

	if n < 0 || n >= len(history) {
		return notInImage("no step %d in the history: it has %d, and the first is 0", n, len(history))
	}

	if history[n], err = history[n].With(member, value); err != nil {
		return err
	}

	im.Config.SetHistoryEntries(history)
	return nil
}

// DropHistory removes the history; [oci.ErrAbsent] if there is none, and was none when the image was opened.
func (im *Image) DropHistory() error {
	history, err := im.history()
	if err != nil {
		return err
	}

	// Layers that were taken out may have taken the last entry with them.
	if len(history) == 0 {
		was, err := oci.ParseConfig(im.before)
		if err != nil {
			return err
		}
		if history, err = was.HistoryEntries(); err != nil {
			return err
		}
	}

	if len(history) == 0 {
		return oci.Absent("the image has no history")
	}
	im.Config.SetHistoryEntries(nil)
	return nil
}
