package image

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil"
	"ocikit/tarutil/estargz"
	"ocikit/tarutil/gzip"
)

// Compression says what is done to the bytes of a layer.
type Compression string

// The ways to store a layer.
const (
	Gzip Compression = "gzip" // compress a plain tar
	None Compression = "none" // store a plain tar as it is
	Keep Compression = "keep" // store whatever comes as it is

	// Estargz makes a gzip layer of which single files can be fetched. It adds two files
	// to the tar, so the diff ID is another one than that of the input.
	Estargz Compression = "estargz"
)

// LayerOptions say how a layer is stored.
type LayerOptions struct {
	Compression Compression
	Level       int // of gzip and eStargz, 0 to 9
	Workers     int // of the same; 0: one for each processor
	Annotations map[string]string
}

// AddLayer stores the layer that r holds as a blob and returns its descriptor, which carries
// the diff ID. It is one pass: the tar is checked and hashed, compressed, hashed again and
// stored while it is read. A tar that is compressed already is kept byte for byte, unless it
// is to become eStargz.
//
// A tar that ends early or is damaged is an error, and nothing is stored. Without a layout
// nothing is stored either way.
func AddLayer(ctx context.Context, l *layout.Layout, r io.Reader, o LayerOptions) (oci.Descriptor, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	format, err := sniff(in)
	if err != nil {
		return oci.Descriptor{}, err
	}
	var tar io.Reader = in
	switch {
	case format == tarutil.FormatTar, format == tarutil.FormatUnknown:
	case o.Compression == Estargz:
		if tar, _, err = tarutil.Decompress(in); err != nil {
			return oci.Descriptor{}, err
		}
	default:
		return addCompressed(ctx, l, in, format, o)
	}
	w, err := NewLayerWriter(l, o)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer w.Abort()
	if err := copyAll(ctx, w, tar); err != nil {
		return oci.Descriptor{}, err
	}
	return w.Commit()
}

// sniff looks at the first bytes of in without taking them.
func sniff(in *bufio.Reader) (tarutil.Format, error) {
	head, err := in.Peek(tarutil.SniffLen)
	if err != nil && err != io.EOF {
		return tarutil.FormatUnknown, err
	}
	if len(head) == 0 {
		return tarutil.FormatUnknown, tarutil.ErrEmpty
	}
	return tarutil.Sniff(head), nil
}

// addCompressed stores the bytes of in as they are while it looks inside them.
func addCompressed(ctx context.Context, l *layout.Layout, in io.Reader, format tarutil.Format, o LayerOptions) (oci.Descriptor, error) {
	if o.Compression == None {
		return oci.Descriptor{}, fmt.Errorf("the input is %s: decompress it first, or keep it as it is", format)
	}
	w, err := newBlobWriter(l)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer w.Abort()
	desc, err := describeCompressed(ctx, io.TeeReader(in, w), format)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if desc.Digest, desc.Size, err = w.Commit(digest.Digest{}); err != nil {
		return oci.Descriptor{}, err
	}
	return annotate(desc, o.Annotations), nil
}

// describeCompressed reads a compressed tar to its end and returns its media type and diff
// ID, without digest and size.
func describeCompressed(ctx context.Context, r io.Reader, format tarutil.Format) (oci.Descriptor, error) {
	mediaType := map[tarutil.Format]string{tarutil.FormatGzip: oci.MediaTypeLayerGzip, tarutil.FormatZstd: oci.MediaTypeLayerZstd}[format]
	if mediaType == "" {
		return oci.Descriptor{}, fmt.Errorf("the input is %s, which layers cannot be: decompress it first", format)
	}
	id, err := DiffID(ctx, r)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return oci.Descriptor{MediaType: mediaType}.WithAnnotation(oci.AnnotationDiffID, id.String()), nil
}

// DiffID reads a tar, plain or compressed, to its end and returns the digest of its
// uncompressed bytes. A tar that ends inside an entry is an error; the end marks may be
// absent, as in old Docker layers.
func DiffID(ctx context.Context, r io.Reader) (digest.Digest, error) {
	tar, _, err := tarutil.Decompress(r)
	if err != nil {
		return digest.Digest{}, err
	}
	check := tarutil.Checker{AllowNoEnd: true}
	h := digest.NewHasher(digest.SHA256)
	if err := copyAll(ctx, io.MultiWriter(&check, h), tar); err != nil {
		return digest.Digest{}, err
	}
	if err := check.Close(); err != nil {
		return digest.Digest{}, err
	}
	// What follows the compressed data belongs to the blob as well.
	if err := copyAll(ctx, io.Discard, r); err != nil {
		return digest.Digest{}, err
	}
	return h.Digest(), nil
}

// DescribeLayer reads a layer's bytes to their end and returns the descriptor that AddLayer
// would return if it kept them as they are. Nothing is stored.
func DescribeLayer(ctx context.Context, r io.Reader) (oci.Descriptor, error) {
	h := digest.NewHasher(digest.SHA256)
	in := bufio.NewReaderSize(r, 256<<10)
	format, err := sniff(in)
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc := oci.Descriptor{MediaType: oci.MediaTypeLayer}
	if format == tarutil.FormatTar || format == tarutil.FormatUnknown {
		id, err := DiffID(ctx, io.TeeReader(in, h))
		if err != nil {
			return desc, err
		}
		desc = desc.WithAnnotation(oci.AnnotationDiffID, id.String())
	} else if desc, err = describeCompressed(ctx, io.TeeReader(in, h), format); err != nil {
		return desc, err
	}
	desc.Digest, desc.Size = h.Digest(), h.Size()
	return desc, nil
}

// A LayerWriter stores one layer from the bytes of a plain tar that are written to it. Not
// safe for concurrent use.
type LayerWriter struct {
	o     LayerOptions
	blob  blobWriter
	z     *gzip.Writer    // for Gzip
	star  *estargz.Writer // for Estargz
	diff  *digest.Hasher  // for Gzip
	check tarutil.Checker
}

// NewLayerWriter starts a layer. The caller ends it with Commit or Abort. Without a layout the
// layer is described, and stored nowhere.
func NewLayerWriter(l *layout.Layout, o LayerOptions) (*LayerWriter, error) {
	blob, err := newBlobWriter(l)
	if err != nil {
		return nil, err
	}
	w := &LayerWriter{o: o, blob: blob}
	switch o.Compression {
	case Gzip:
		w.diff = digest.NewHasher(digest.SHA256)
		w.z, err = gzip.NewWriter(blob, o.Level, o.Workers)
	case Estargz:
		w.star, err = estargz.NewWriter(blob, o.Level, o.Workers)
	}
	if err != nil {
		blob.Abort()
		return nil, err
	}
	return w, nil
}

// Write implements io.Writer.
func (w *LayerWriter) Write(p []byte) (int, error) {
	if _, err := w.check.Write(p); err != nil {
		return 0, err
	}
	switch {
	case w.star != nil:
		return w.star.Write(p)
	case w.z != nil:
		w.diff.Write(p)
		return w.z.Write(p)
	}
	return w.blob.Write(p) // the digest of the blob is the diff ID: bytes are hashed once
}

// Commit stores the layer, if the tar is whole, and returns its descriptor.
func (w *LayerWriter) Commit() (oci.Descriptor, error) {
	defer w.Abort()
	if err := w.check.Close(); err != nil {
		return oci.Descriptor{}, err
	}
	desc := oci.Descriptor{MediaType: oci.MediaTypeLayer}
	if w.z != nil || w.star != nil {
		desc.MediaType = oci.MediaTypeLayerGzip
	}
	var err error
	var info estargz.Info
	switch {
	case w.z != nil:
		err = w.z.Close()
	case w.star != nil:
		info, err = w.star.Close()
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	if desc.Digest, desc.Size, err = w.blob.Commit(digest.Digest{}); err != nil {
		return oci.Descriptor{}, err
	}
	id := desc.Digest
	switch {
	case w.diff != nil:
		id = w.diff.Digest()
	case w.star != nil:
		id = info.DiffID
		desc = desc.WithAnnotation(estargz.TOCDigestAnnotation, info.TOCDigest.String()).
			WithAnnotation(estargz.UncompressedSizeAnnotation, strconv.FormatInt(info.UncompressedSize, 10))
	}
	return annotate(desc.WithAnnotation(oci.AnnotationDiffID, id.String()), w.o.Annotations), nil
}

// Abort drops what was written. It does nothing after Commit, so it may be deferred.
func (w *LayerWriter) Abort() {
	if w.star != nil {
		w.star.Abort()
	}
	w.blob.Abort()
}

func annotate(d oci.Descriptor, annotations map[string]string) oci.Descriptor {
	if len(annotations) > 0 {
		all := maps.Clone(d.Annotations)
		maps.Copy(all, annotations)
		d.Annotations = all
	}
	return d
}

// copyAll copies r to w until its end or that of ctx.
func copyAll(ctx context.Context, w io.Writer, r io.Reader) error {
	buf := make([]byte, 256<<10)
	for ctx.Err() == nil {
		n, err := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
