package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// NewStack applies the layers of an image, and verifies all of them while it does: their
// digests, and their diff IDs against the config. An absent layer gives
// [layout.ErrIncomplete]; a manifest that is not that of an image wraps [oci.ErrMalformed].
func NewStack(ctx context.Context, l *layout.Layout, desc oci.Descriptor, opts tarutil.ApplyOptions) (*tarutil.Stack, error) {
	m, err := ReadManifest(l, desc)
	if err != nil {
		return nil, err
	}
	if !oci.IsConfig(m.Config.MediaType) {
		return nil, fmt.Errorf("manifest %s: its config is %q, so it is no image with a file system: %w", desc.Digest, m.Config.MediaType, oci.ErrMalformed)
	}
	descs, err := Layers(l, desc)
	if err != nil {
		return nil, err
	}
	return applyLayers(ctx, l, descs, opts)
}

// applyLayers applies layers that carry their diff IDs.
func applyLayers(ctx context.Context, l *layout.Layout, descs []oci.Descriptor, opts tarutil.ApplyOptions) (*tarutil.Stack, error) {
	layers := make([]tarutil.Layer, len(descs))
	for i, d := range descs {
		layers[i] = stackLayer(l, d)
	}
	opts.Workers = stackWorkers(l, descs, opts.Workers)
	return tarutil.Apply(ctx, layers, opts)
}

// stackWorkers returns how many of the layers are read at once if n are asked for: one after
// the other if a layer is of zstd, for each may take a window of 128 MiB.
func stackWorkers(l *layout.Layout, descs []oci.Descriptor, n int) int {
	if slices.ContainsFunc(descs, func(d oci.Descriptor) bool { return isZstd(l, d) }) {
		return 1
	}
	return n
}

// isZstd says whether a blob is that by its first bytes, whatever its type. Errors are left for
// those who read all of it.
func isZstd(l *layout.Layout, desc oci.Descriptor) bool {
	f, err := l.OpenBlob(desc.Digest)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, tarutil.SniffLen)
	n, _ := io.ReadFull(f, head)
	return tarutil.Sniff(head[:n]) == tarutil.FormatZstd
}

// stackLayer returns a layer of a layout as [tarutil.Apply] takes it. Its digest is verified
// each time it is read, and its diff ID, if the descriptor carries one, until that was found
// right once.
func stackLayer(l *layout.Layout, desc oci.Descriptor) tarutil.Layer {
	id, ok := desc.DiffID()
	known := new(atomic.Bool)
	return tarutil.Layer{
		Name: desc.Digest.String(),
		Open: func() (io.ReadCloser, error) {
			return openLayer(l, desc, func(plain io.Reader, _ tarutil.Format) io.Reader {
				if !ok || known.Load() {
					return plain
				}
				return &diffReader{digest.NewReader(plain, id, -1), known}
			})
		},
	}
}

// A layerReader reads the uncompressed tar of a layer, and then what is left of its blob, so
// that the digest counts.
type layerReader struct {
	plain io.Reader
	blob  io.ReadCloser
}

func openLayer(l *layout.Layout, desc oci.Descriptor, check func(io.Reader, tarutil.Format) io.Reader) (io.ReadCloser, error) {
	// Some programs write types of their own, as Docker's with zstd at its end.
	if !oci.IsLayer(desc.MediaType) && !strings.HasPrefix(desc.MediaType, oci.MediaTypeDockerLayer) {
		return nil, fmt.Errorf("media type %q is not that of a layer: %w", desc.MediaType, oci.ErrMalformed)
	}
	blob, err := l.Blob(desc)
	if errors.Is(err, layout.ErrNotFound) {
		return nil, fmt.Errorf("%w: %v", layout.ErrIncomplete, err)
	}
	if err != nil {
		return nil, err
	}
	plain, format, err := tarutil.Decompress(blob)
	if err != nil {
		// A digest that is wrong explains everything else.
		if _, drained := io.Copy(io.Discard, blob); drained != nil {
			err = drained
		}
		blob.Close()
		return nil, err
	}
	return &layerReader{check(plain, format), blob}, nil
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err == nil {
		return n, nil
	}
	if _, drained := io.Copy(io.Discard, r.blob); drained != nil {
		err = drained
	}
	return n, err
}

func (r *layerReader) Close() error { return r.blob.Close() }

// A diffReader remembers that a diff ID was right.
type diffReader struct {
	r     *digest.Reader
	known *atomic.Bool
}

func (d *diffReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err == io.EOF {
		d.known.Store(true)
	} else if errors.Is(err, digest.ErrMismatch) || errors.Is(err, digest.ErrUnsupported) {
		err = fmt.Errorf("diff ID of its content: %w", err)
	}
	return n, err
}
