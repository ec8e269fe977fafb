package image

import (
	"context"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil/stack"
)

// FlattenOptions say what to merge.
type FlattenOptions struct {
	From    int // how many of the lowest layers stay as they are
	Layer   LayerOptions
	History oci.History // of the new layer
	Dry     bool        // find out what the layer would be, and store nothing
}

// Flatten returns the change that merges the layers of an image into one, except for the lowest
// o.From of them. The new layer does to those below what the merged layers did together, so
// whiteouts stay where something below has to be hidden. The history keeps its entries: those of
// merged layers become steps without a layer, and one for the new layer follows them.
func Flatten(ctx context.Context, l *layout.Layout, o FlattenOptions) Change {
	return func(im *Image) error {
		history, err := im.history()
		if err != nil {
			return err
		}

		if o.From < 0 || o.From >= len(im.layers) {
			return fmt.Errorf("nothing to merge: the image has %d layers, and %d are to stay", len(im.layers), o.From)
		}

		merged, err := mergeLayers(ctx, l, im.Layers(), o)
		if err != nil {
			return err
		}

		added, err := newLayer(merged, im.family())
		if err != nil {
			return err
		}

		layers := 0
		for i, h := range history {
			if h.EmptyLayer {
				continue
			}
			if layers++; layers > o.From {
				history[i] = h.AsEmpty()
			}
		}

		// Layers that stay and that the history does not tell of get empty entries, so that the new
		// one belongs to the new layer.
		for ; layers < o.From; layers++ {
			history = append(history, oci.NewHistoryEntry(oci.History{}))
		}

		if o.From == 0 { // no layer of the base is left
			if err := im.SetBase("", digest.Digest{}); err != nil {
				return err
			}
		}

		im.added = append(im.added, Step{Action: "layer", Descriptor: added.desc})
		return im.setLayers(append(im.layers[:o.From:o.From], added), append(history, oci.NewHistoryEntry(o.History)))
	}
}

// mergeLayers stores the layer that does what all layers from o.From on do.
func mergeLayers(ctx context.Context, l *layout.Layout, descs []oci.Descriptor, o FlattenOptions) (oci.Descriptor, error) {
	to := l
	if o.Dry {
		to = nil
	}

	// A new layer can be dropped, so it is tried first whether one reading is enough.
	desc, done, err := mergeOnce(ctx, l, to, descs, o)
	if done || err != nil {
		return desc, err
	}

	merged, err := applyLayers(ctx, l, descs, stack.Options{Base: o.From})
	if err != nil {
		return oci.Descriptor{}, err
	}

	w, err := NewLayerWriter(to, o.Layer)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer w.Abort()

	if err := merged.WriteTar(ctx, w); err != nil {
		return oci.Descriptor{}, err
	}

	return w.Commit()
}

// mergeOnce does so in one reading of the layers, and reports whether that was possible.
func mergeOnce(ctx context.Context, l, to *layout.Layout, descs []oci.Descriptor, o FlattenOptions) (oci.Descriptor, bool, error) {
	if len(descs) != 1 {
		return oci.Descriptor{}, false, nil
	}

	w, err := NewLayerWriter(to, o.Layer)
	if err != nil {
		return oci.Descriptor{}, false, err
	}
	defer w.Abort()

	if done, err := stack.WriteOnce(ctx, w, stackLayer(l, descs[0])); !done || err != nil {
		return oci.Descriptor{}, false, err
	}

	desc, err := w.Commit()
	return desc, true, err
}
