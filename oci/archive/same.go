package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil"
	"ocikit/tarutil/gzip"
)

// Uncompressed is the level of a [layout.Rebuild] whose result is a plain tar.
const Uncompressed = -1

// levels are the levels of package gzip that give different bytes.
func levels() []int { return []int{6, 1, 9, 0} }

// findSame finds layers to carry that the other side has under another digest, and leaves out
// those that compressing its contents again gives, bit for bit.
func (b *BundlePlan) findSame(ctx context.Context) error {
	from := b.contents()
	for _, at := range b.candidates {
		if !oci.IsLayer(at.desc.MediaType) {
			continue
		}
		id, err := b.diffID(ctx, at)
		if err != nil {
			return err
		}
		source, ok := from[id]
		if !ok || source == at.desc.Digest {
			continue
		}
		level, ok, err := exactLevel(ctx, at, id)
		if err != nil {
			return err
		}
		if !ok {
			b.notice("carrying %s: the other side has its contents as %s, but these bytes cannot be made of them", at.desc.Digest, source)
			continue
		}
		b.Rebuild = append(b.Rebuild, layout.Rebuild{
			DiffID: id, Digest: at.desc.Digest, From: source, Level: level, MediaType: at.desc.MediaType, Size: at.desc.Size,
		})
		b.Omitted = append(b.Omitted, Blob{at.desc.Digest, at.desc.MediaType, at.desc.Size})
		b.Plan.layers = slices.DeleteFunc(b.Plan.layers, func(m Member) bool { return m.Digest == at.desc.Digest })
	}
	return nil
}

// contents returns what the other side has by diff ID: as its inventory says, and as images in
// the layouts here do. A plain tar is its own diff ID.
func (b *BundlePlan) contents() map[digest.Digest]digest.Digest {
	items := map[digest.Digest]Item{}
	for _, it := range b.o.Have.Items {
		items[it.Digest] = it
	}
	var done []*layout.Layout
	for _, at := range b.candidates {
		if slices.Contains(done, at.l) {
			continue
		}
		done = append(done, at.l)
		if x, err := at.l.Index(); err == nil {
			addDiffIDs(at.l, x.Manifests, items)
		}
	}
	from := map[digest.Digest]digest.Digest{}
	for _, it := range items {
		ids := []digest.Digest{it.Digest}
		if !it.DiffID.IsZero() {
			ids = append(ids, it.DiffID)
		}
		for _, id := range ids {
			if was, ok := from[id]; !ok || digest.Compare(it.Digest, was) < 0 {
				from[id] = it.Digest
			}
		}
	}
	return from
}

// diffID hashes the contents of a layer; what a config says of it need not be true.
func (b *BundlePlan) diffID(ctx context.Context, at layerAt) (digest.Digest, error) {
	h := digest.NewHasher(digest.SHA256)
	if err := decompressTo(ctx, h, at.l, at.desc); err != nil {
		if errors.Is(err, tarutil.ErrUnsupported) {
			return digest.Digest{}, nil
		}
		return digest.Digest{}, err
	}
	return h.Digest(), nil
}

// exactLevel finds how to compress the contents of a layer so that the layer comes out.
func exactLevel(ctx context.Context, at layerAt, id digest.Digest) (int, bool, error) {
	if at.desc.Digest == id {
		return Uncompressed, true, nil
	}
	if !strings.HasSuffix(at.desc.MediaType, "gzip") {
		return 0, false, nil
	}
	for _, level := range levels() {
		ok, err := isLevel(ctx, at, level)
		if ok || err != nil {
			return level, ok, err
		}
	}
	return 0, false, nil
}

var errDiffers = errors.New("the bytes differ")

func isLevel(ctx context.Context, at layerAt, level int) (bool, error) {
	want, err := at.l.Blob(at.desc)
	if err != nil {
		return false, err
	}
	defer want.Close()
	same := &sameWriter{want: want, buf: make([]byte, 64<<10)}
	z, err := gzip.NewWriter(same, level, 0)
	if err != nil {
		return false, err
	}
	err = decompressTo(ctx, z, at.l, at.desc)
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = same.end()
	}
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}

// A sameWriter compares what is written with what a reader holds, and fails with the first
// byte that differs.
type sameWriter struct {
	want io.Reader
	buf  []byte
}

func (s *sameWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		part := s.buf[:min(len(s.buf), len(p)-n)]
		if _, err := io.ReadFull(s.want, part); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = errDiffers
			}
			return n, err
		}
		if string(part) != string(p[n:n+len(part)]) {
			return n, errDiffers
		}
		n += len(part)
	}
	return len(p), nil
}

func (s *sameWriter) end() error {
	n, err := io.ReadFull(s.want, s.buf[:1])
	if n > 0 {
		return errDiffers
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// decompressTo writes the contents of a layer.
func decompressTo(ctx context.Context, w io.Writer, l *layout.Layout, desc oci.Descriptor) error {
	r, err := l.Blob(desc)
	if err != nil {
		return err
	}
	defer r.Close()
	in := &contextReader{ctx, r}
	plain, _, err := tarutil.Decompress(in)
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{plain}, make([]byte, 256<<10))
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in) // verified to its end
	}
	return err
}

// rebuild makes a layer of the contents of another one. It reports false if that one is not
// here, or damaged, or does not give the layer.
func rebuild(ctx context.Context, l *layout.Layout, rb layout.Rebuild) (bool, error) {
	size, err := l.Stat(rb.From)
	if errors.Is(err, layout.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	w, err := l.NewWriterFor(rb.Digest.Algorithm())
	if err != nil {
		return false, err
	}
	defer w.Abort()
	// No more is written than the layer has.
	out := &capped{w: w, left: rb.Size}
	var into io.Writer = out
	var z *gzip.Writer
	if rb.Level != Uncompressed {
		if z, err = gzip.NewWriter(out, rb.Level, 0); err != nil {
			return false, fmt.Errorf("rebuild %s: %w", rb.Digest, err)
		}
		into = z
	}
	err = decompressTo(ctx, into, l, oci.Descriptor{Digest: rb.From, Size: size})
	if err == nil && z != nil {
		err = z.Close()
	}
	switch {
	case out.err != nil:
		return false, out.err
	case context.Cause(ctx) != nil:
		return false, context.Cause(ctx)
	case err != nil:
		return false, nil // the other layer is damaged, or not what the bundle says
	}
	_, _, err = w.Commit(rb.Digest)
	if errors.Is(err, digest.ErrMismatch) {
		return false, nil
	}
	return err == nil, err
}

var errTooLong = errors.New("more bytes than the layer has")

// A capped writer takes no more than it should, and keeps the error of the one below.
type capped struct {
	w    io.Writer
	left int64
	err  error
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		return 0, errTooLong
	}
	n, err := c.w.Write(p)
	if err != nil {
		c.err = err
	}
	return n, err
}
