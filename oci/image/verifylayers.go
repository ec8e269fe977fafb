package image

import (
	"bufio"
	"context"
	"io"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/tarutil"
	"ocikit/tarutil/stack"
)

// layerFacts is what the bytes of a layer say.
type layerFacts struct {
	algorithms map[digest.Algorithm]bool // of the diff IDs that are wanted
	format     tarutil.Format
	ids        map[digest.Algorithm]digest.Digest
	err        error
	done       bool // the tar was read to its end, or to err
	noEnd      bool // the tar lacks its end marker
	verified   bool // the blob was read to its end, and has its digest
}

// read reads a layer to the end of its tar. It holds the lock window if that is of zstd.
func (f *layerFacts) read(r io.Reader, window sync.Locker) {
	in := bufio.NewReaderSize(r, 256<<10)
	f.done = true
	if f.format, f.err = sniff(in); f.err != nil {
		return
	}
	if f.format == tarutil.FormatZstd {
		window.Lock()
		defer window.Unlock()
	}

	var plain io.Reader
	if plain, _, f.err = tarutil.Decompress(in); f.err != nil {
		return
	}
	_, f.err = oci.Copy(io.Discard, f.follow(plain))
}

// follow returns a reader of the uncompressed tar that takes down what it says.
func (f *layerFacts) follow(plain io.Reader) io.Reader {
	r := &factsReader{plain: plain, f: f, check: tarutil.Checker{AllowNoEnd: true}, hashers: map[digest.Algorithm]*digest.Hasher{}}
	for alg := range f.algorithms {
		r.hashers[alg] = digest.NewHasher(alg)
	}
	return r
}

// A factsReader follows the tar of a layer.
type factsReader struct {
	plain   io.Reader
	f       *layerFacts
	check   tarutil.Checker
	hashers map[digest.Algorithm]*digest.Hasher
}

func (r *factsReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	for _, h := range r.hashers {
		h.Write(p[:n])
	}

	if _, malformed := r.check.Write(p[:n]); malformed != nil {
		return n, malformed
	}

	if err != io.EOF {
		return n, err
	}

	if err := r.check.Close(); err != nil {
		return n, err
	}

	r.f.noEnd = !r.check.Ended()
	r.f.ids = map[digest.Algorithm]digest.Digest{}
	for alg, h := range r.hashers {
		r.f.ids[alg] = h.Digest()
	}

	r.f.done = true
	return n, io.EOF
}

// apply applies the layers of each image whose config counts them, since a layer may make sense
// above some layers and none above others. The facts of layers are found on the way. Those whose
// digests are right are returned, so that they need not be read again.
func (d *deep) apply(ctx context.Context) (map[digest.Digest]bool, error) {
	for i := range d.images {
		// The same layers apply in the same way, so they are read once. What is wrong with them is
		// wrong with each image that has them.
		list := d.images[i].layers
		if list.applied || !d.images[i].fits() {
			continue
		}
		list.applied = true

		opts := stack.Options{
			Workers:  stackWorkers(d.src, list.descs, d.workers),
			Surprise: func(s stack.Surprise) { list.surprises = append(list.surprises, s) },
		}
		if _, list.err = stack.Apply(ctx, d.stack(list.descs), opts); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}

	verified := map[digest.Digest]bool{}
	for blob, facts := range d.layers {
		if facts.verified {
			verified[blob] = true
		}
	}

	return verified, nil
}

// stack returns the layers of an image for [stack.Apply]. Facts are taken of each that has
// none yet, where it comes first.
func (d *deep) stack(descs []oci.Descriptor) []stack.Layer {
	layers := make([]stack.Layer, len(descs))
	taken := map[digest.Digest]bool{}
	for i, desc := range descs {
		layers[i] = stackLayer(d.src, desc)
		facts := d.layers[desc.Digest]
		if facts == nil || facts.verified || taken[desc.Digest] {
			continue
		}
		taken[desc.Digest] = true
		layers[i].Open = func() (io.ReadCloser, error) {
			r, err := openLayer(d.src, desc, func(plain io.Reader, format tarutil.Format) io.Reader {
				facts.format = format
				return facts.follow(plain)
			})
			if err != nil {
				return nil, err
			}
			return &endReader{r, &facts.verified}, nil
		}
	}

	return layers
}

// An endReader notes that its reader came to the end.
type endReader struct {
	io.ReadCloser
	ended *bool
}

func (r *endReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == io.EOF {
		*r.ended = true
	}
	return n, err
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
