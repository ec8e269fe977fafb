package image

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// layerFacts is what the bytes of a layer say.
type layerFacts struct {
	algorithms map[digest.Algorithm]bool // of the diff IDs that are wanted
	format     tarutil.Format
	ids        map[digest.Algorithm]digest.Digest
	err        error
	done       bool
	noEnd      bool // the tar lacks its end marker
}

// read reads a layer to the end of its tar.
func (f *layerFacts) read(r io.Reader) {
	in := bufio.NewReaderSize(r, 256<<10)
	f.done = true
	if f.format, f.err = sniff(in); f.err != nil {
		return
	}
	var tar io.Reader
	if tar, _, f.err = tarutil.Decompress(in); f.err != nil {
		return
	}
	check := &tarutil.Checker{AllowNoEnd: true}
	sinks := []io.Writer{check}
	hashers := map[digest.Algorithm]*digest.Hasher{}
	for alg := range f.algorithms {
		hashers[alg] = digest.NewHasher(alg)
		sinks = append(sinks, hashers[alg])
	}
	if _, f.err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(sinks...)}, struct{ io.Reader }{tar}, make([]byte, 256<<10)); f.err != nil {
		return
	}
	if f.err = check.Close(); f.err != nil {
		return
	}
	f.noEnd = !check.Ended()
	f.ids = map[digest.Algorithm]digest.Digest{}
	for alg, h := range hashers {
		f.ids[alg] = h.Digest()
	}
}

// apply applies the layers of each image that has nothing wrong with them one by one: what
// one layer says may make sense only, or no sense, above others.
func (d *deep) apply(ctx context.Context) error {
	done := map[string]bool{} // lists of layers
	for _, img := range d.images {
		key := fmt.Sprint(img.manifest.Layers)
		if img.config == nil || len(img.config.RootFS.DiffIDs) != len(img.manifest.Layers) || done[key] || !d.readable(img.manifest.Layers) {
			continue
		}
		done[key] = true
		if _, err := applyLayers(ctx, d.l, img.manifest.Layers, tarutil.ApplyOptions{}); ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			d.add(layout.CodeLayerApply, img.desc.Digest, err.Error(), "")
		}
	}
	return nil
}

// readable says whether all layers were read without an error.
func (d *deep) readable(layers []oci.Descriptor) bool {
	for _, desc := range layers {
		if facts := d.layers[desc.Digest]; facts == nil || !facts.done || facts.err != nil || d.bad[desc.Digest.String()] {
			return false
		}
	}
	return true
}
