package image

import (
	"context"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// FlattenOptions say what to merge.
type FlattenOptions struct {
	From    int // how many of the lowest layers stay as they are
	Layer   LayerOptions
	History oci.History // of the new layer
	Dry     bool        // find out what the layer would be, and store nothing
}

// Flatten returns the change that merges the layers of an image from a number on into one,
// which does to the layers below what they did together: whiteouts stay where something below
// is to be hidden. History keeps its entries, those of merged layers as steps without one.
func Flatten(ctx context.Context, l *layout.Layout, o FlattenOptions) Change {
	return func(im *Image) error {
		if err := im.needConfig(); err != nil {
			return err
		}
		if o.From < 0 || o.From >= len(im.layers) {
			return fmt.Errorf("nothing to merge: the image has %d layers, and %d are to stay", len(im.layers), o.From)
		}
		merged, err := mergeLayers(ctx, l, im.Layers(), o)
		if err != nil {
			return err
		}
		added, err := newLayer(merged, im.Family())
		if err != nil {
			return err
		}
		history, err := im.Config.HistoryEntries()
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
		if len(history) == 0 {
			for range o.From {
				history = append(history, oci.NewHistoryEntry(oci.History{}))
			}
		}
		if o.From == 0 { // no layer of the base is left
			if err := im.SetBase("", digest.Digest{}); err != nil {
				return err
			}
		}
		im.added = append(im.added, added.desc)
		return im.setLayers(append(im.layers[:o.From:o.From], added), append(history, oci.NewHistoryEntry(o.History)))
	}
}

// mergeLayers stores the layer that does what all layers from o.From on do.
func mergeLayers(ctx context.Context, l *layout.Layout, descs []oci.Descriptor, o FlattenOptions) (oci.Descriptor, error) {
	stack, err := applyLayers(ctx, l, descs, tarutil.ApplyOptions{Base: o.From})
	if err != nil {
		return oci.Descriptor{}, err
	}
	to := l
	if o.Dry {
		to = nil
	}
	w, err := NewLayerWriter(to, o.Layer)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer w.Abort()
	if err := stack.WriteTar(ctx, w); err != nil {
		return oci.Descriptor{}, err
	}
	return w.Commit()
}
