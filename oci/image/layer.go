package image

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil"
	"ocikit/tarutil/estargz"
	"ocikit/tarutil/gzip"
	"ocikit/tarutil/zstd"
)

// Compression says what is done to the bytes of a layer.
type Compression string

// The ways to store a layer.
const (
	Gzip Compression = "gzip" // compress a plain tar
	Zstd Compression = "zstd" // compress a tar that is not in zstd
	None Compression = "none" // store a plain tar as it is
	Keep Compression = "keep" // store whatever comes as it is

	// Estargz makes a gzip layer of which single files can be fetched. It adds two files
	// to the tar, so the diff ID is another one than that of the input.
	Estargz Compression = "estargz"
)

// LayerOptions say how a layer is stored.
type LayerOptions struct {
	Compression Compression
	Level       int // of gzip and eStargz 0 to 9, of zstd 1 to 9
	Workers     int // of the same; 0: one for each processor
	Annotations map[string]string
	// AllowNoEnd takes a plain tar without the two zero blocks at its end. It is for files: of a
	// pipe nobody could tell whether the writer has died.
	AllowNoEnd bool

	// Algorithm is that of the blob's digest; "" is sha256. The diff ID is sha256 in any case:
	// engines know no other.
	Algorithm digest.Algorithm

	// Notice is told what the user should know of a tar that is taken; nil for nobody.
	Notice func(text string)
}

// noticeGate says what is odd about a tar that a gate let pass.
func (o LayerOptions) noticeGate(gate *tarutil.Gate) {
	if n := gate.Ignored(); n > 0 && o.Notice != nil {
		o.Notice(fmt.Sprintf("the layer has no entries, and %d bytes behind its end: is it a tar?", n))
	}
}

// AddLayer stores the layer that r holds as a blob and returns its descriptor, which carries
// the diff ID. It is one pass: the tar is checked and hashed, compressed, hashed again and
// stored while it is read. A tar that is compressed already is kept byte for byte, unless it
// is to become eStargz, or zstd from something else.
//
// A tar that ends early, is damaged, or can be no layer by the rules of [tarutil.Gate] is an error,
// and nothing is stored. Without a layout nothing is stored either way.
func AddLayer(ctx context.Context, l *layout.Layout, r io.Reader, o LayerOptions) (oci.Descriptor, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	format, err := sniff(in)
	if err != nil {
		return oci.Descriptor{}, err
	}

	var tar io.Reader = in
	switch {
	case format == tarutil.FormatTar, format == tarutil.FormatUnknown:
	case o.Compression == Estargz, o.Compression == Zstd && format != tarutil.FormatZstd:
		if tar, _, err = tarutil.Decompress(in); err != nil {
			return oci.Descriptor{}, err
		}
		o.AllowNoEnd = true // see newGate
	default:
		return addCompressed(ctx, l, in, format, o)
	}

	w, err := NewLayerWriter(l, o)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer w.Abort()

	if _, err := oci.CopyUntil(ctx, w, tar); err != nil {
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

	w, err := newBlobWriter(l, o.Algorithm)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer w.Abort()

	desc, err := describeCompressed(ctx, io.TeeReader(in, w), format, o)
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
func describeCompressed(ctx context.Context, r io.Reader, format tarutil.Format, o LayerOptions) (oci.Descriptor, error) {
	mediaType := map[tarutil.Format]string{tarutil.FormatGzip: oci.MediaTypeLayerGzip, tarutil.FormatZstd: oci.MediaTypeLayerZstd}[format]
	if mediaType == "" {
		return oci.Descriptor{}, fmt.Errorf("the input is %s, which layers cannot be: decompress it first", format)
	}

	gate := newGate(format, true)
	defer gate.Close()
	id, err := diffID(ctx, r, gate)
	if err != nil {
		return oci.Descriptor{}, err
	}

	o.noticeGate(gate)
	return oci.Descriptor{MediaType: mediaType}.WithAnnotation(oci.AnnotationDiffID, id.String()), nil
}

// DiffID reads a tar, plain or compressed, to its end and returns the digest of its
// uncompressed bytes. A tar that ends inside an entry is an error; the end marks may be
// absent, as in old Docker layers.
func DiffID(ctx context.Context, r io.Reader) (digest.Digest, error) {
	return diffID(ctx, r, &tarutil.Checker{AllowNoEnd: true})
}

// IncomingDiffID is DiffID for a tar that may become a layer: it refuses what [tarutil.Gate]
// does. AllowNoEnd is as in [LayerOptions].
func IncomingDiffID(ctx context.Context, r io.Reader, allowNoEnd bool) (digest.Digest, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	format, err := sniff(in)
	if err != nil {
		return digest.Digest{}, err
	}
	gate := newGate(format, allowNoEnd)
	defer gate.Close()
	return diffID(ctx, in, gate)
}

// newGate returns a gate for a tar in a format. A compressed one has an end besides that of the
// tar, so nothing is lost without the latter. [AddLayer] has the same rule.
func newGate(format tarutil.Format, allowNoEnd bool) *tarutil.Gate {
	plain := format == tarutil.FormatTar || format == tarutil.FormatUnknown
	return tarutil.NewGate(allowNoEnd || !plain)
}

// diffID does so under the eyes of a checker.
func diffID(ctx context.Context, r io.Reader, check io.WriteCloser) (digest.Digest, error) {
	tar, _, err := tarutil.Decompress(r)
	if err != nil {
		return digest.Digest{}, err
	}

	h := digest.NewHasher(digest.SHA256)
	if _, err := oci.CopyUntil(ctx, io.MultiWriter(check, h), tar); err != nil {
		return digest.Digest{}, err
	}

	if err := check.Close(); err != nil {
		return digest.Digest{}, err
	}

	// Bytes behind the compressed data belong to the blob as well.
	if _, err := oci.CopyUntil(ctx, io.Discard, r); err != nil {
		return digest.Digest{}, err
	}

	return h.Digest(), nil
}

// DescribeLayer reads a layer's bytes to their end and returns the descriptor that AddLayer
// would return if it kept them as they are. Nothing is stored. AllowNoEnd is as in
// [LayerOptions].
func DescribeLayer(ctx context.Context, r io.Reader, allowNoEnd bool) (oci.Descriptor, error) {
	h := digest.NewHasher(digest.SHA256)
	in := bufio.NewReaderSize(r, 256<<10)
	format, err := sniff(in)
	if err != nil {
		return oci.Descriptor{}, err
	}

	desc := oci.Descriptor{MediaType: oci.MediaTypeLayer}
	if format == tarutil.FormatTar || format == tarutil.FormatUnknown {
		gate := newGate(format, allowNoEnd)
		defer gate.Close()
		id, err := diffID(ctx, io.TeeReader(in, h), gate)
		if err != nil {
			return desc, err
		}
		desc = desc.WithAnnotation(oci.AnnotationDiffID, id.String())
	} else if desc, err = describeCompressed(ctx, io.TeeReader(in, h), format, LayerOptions{}); err != nil {
		return desc, err
	}

	desc.Digest, desc.Size = h.Digest(), h.Size()
	return desc, nil
}

// A LayerWriter stores one layer from the bytes of a plain tar that are written to it. Not
// safe for concurrent use.
type LayerWriter struct {
	o    LayerOptions
	blob blobWriter
	z    io.WriteCloser  // for Gzip and Zstd
	star *estargz.Writer // for Estargz
	diff *digest.Hasher  // for Gzip and Zstd
	gate *tarutil.Gate
	size int64 // of the tar so far, for Estargz
}

// NewLayerWriter starts a layer. The caller ends it with Commit or Abort. Without a layout the
// layer is described, and stored nowhere.
func NewLayerWriter(l *layout.Layout, o LayerOptions) (*LayerWriter, error) {
	blob, err := newBlobWriter(l, o.Algorithm)
	if err != nil {
		return nil, err
	}
	return newLayerWriter(blob, o)
}

// NewLayerEncoder is [NewLayerWriter] for a layer whose blob is written to w.
func NewLayerEncoder(w io.Writer, o LayerOptions) (*LayerWriter, error) {
	blob, err := newBlobWriter(nil, o.Algorithm)
	if err != nil {
		return nil, err
	}
	return newLayerWriter(teeWriter{blob, io.MultiWriter(blob, w)}, o)
}

func newLayerWriter(blob blobWriter, o LayerOptions) (w *LayerWriter, err error) {
	w = &LayerWriter{o: o, blob: blob, gate: tarutil.NewGate(o.AllowNoEnd)}

	// A diff ID is sha256. Where the blob is the tar itself and hashed in that way, one hash does
	// for both.
	if o.Algorithm != "" && o.Algorithm != digest.SHA256 {
		w.diff = digest.NewHasher(digest.SHA256)
	}

	switch o.Compression {
	case Gzip:
		w.diff = digest.NewHasher(digest.SHA256)
		w.z, err = gzip.NewWriter(blob, o.Level, o.Workers)
	case Zstd:
		w.diff = digest.NewHasher(digest.SHA256)
		w.z, err = zstd.NewWriter(blob, o.Level, o.Workers)
	case Estargz:
		w.star, err = estargz.NewWriter(blob, o.Level, o.Workers)
	}

	if err != nil {
		w.Abort()
		return nil, err
	}

	return w, nil
}

// Write implements io.Writer.
func (w *LayerWriter) Write(p []byte) (int, error) {
	if _, err := w.gate.Write(p); err != nil {
		return 0, err
	}
	if w.star != nil {
		w.size += int64(len(p))
		return w.star.Write(p)
	}
	if w.diff != nil {
		w.diff.Write(p)
	}
	if w.z != nil {
		return w.z.Write(p)
	}
	return w.blob.Write(p) // without diff the digest of the blob is the diff ID: bytes are hashed once
}

// Commit stores the layer, if the tar is whole, and returns its descriptor.
func (w *LayerWriter) Commit() (oci.Descriptor, error) {
	defer w.Abort()

	// Only a whole tar gets a valid end of its compression: readers could not tell a torn one from
	// it.
	if err := w.gate.Close(); err != nil {
		return oci.Descriptor{}, err
	}

	w.o.noticeGate(w.gate)

	desc := oci.Descriptor{MediaType: oci.MediaTypeLayer}
	switch w.o.Compression {
	case Gzip, Estargz:
		desc.MediaType = oci.MediaTypeLayerGzip
	case Zstd:
		desc.MediaType = oci.MediaTypeLayerZstd
	}

	var err error
	var info estargz.Info
	switch {
	case w.z != nil:
		err = w.z.Close()
	case w.star != nil:
		info, err = w.closeStar()
	}

	if err != nil {
		return oci.Descriptor{}, err
	}

	if desc.Digest, desc.Size, err = w.blob.Commit(digest.Digest{}); err != nil {
		return oci.Descriptor{}, err
	}

	// Without compression the blob is the tar, and its digest the diff ID.
	id := desc.Digest
	switch {
	case w.star != nil:
		id = info.DiffID
		desc = desc.WithAnnotation(estargz.TOCDigestAnnotation, info.TOCDigest.String()).
			WithAnnotation(estargz.UncompressedSizeAnnotation, strconv.FormatInt(info.UncompressedSize, 10))
	case w.diff != nil:
		id = w.diff.Digest()
	}

	return annotate(desc.WithAnnotation(oci.AnnotationDiffID, id.String()), w.o.Annotations), nil
}

// closeStar ends an eStargz blob. Its end is written anew in any case, behind the table of contents. So a
// tar that the gate takes without one gets what is missing; behind an end zeros mean nothing.
func (w *LayerWriter) closeStar() (estargz.Info, error) {
	if w.o.AllowNoEnd {
		const block = 512
		if _, err := w.star.Write(make([]byte, -w.size&(block-1)+2*block)); err != nil {
			return estargz.Info{}, err
		}
	}
	return w.star.Close()
}

// Abort drops what was written. It does nothing after Commit, so it may be deferred.
func (w *LayerWriter) Abort() {
	if w.star != nil {
		w.star.Abort()
	}
	w.gate.Close() // its goroutine ends
	w.blob.Abort()
}

func annotate(d oci.Descriptor, annotations map[string]string) oci.Descriptor {
	if len(annotations) > 0 {
		d.Annotations = d.Annotations.Merge(annotations)
	}
	return d
}

// A blobWriter takes one blob: a [layout.Writer], or something that only hashes.
type blobWriter interface {
	io.Writer
	Commit(want digest.Digest) (digest.Digest, int64, error)
	Abort()
}

func newBlobWriter(l *layout.Layout, alg digest.Algorithm) (blobWriter, error) {
	alg = cmp.Or(alg, digest.SHA256)
	if l == nil {
		return dryWriter{digest.NewHasher(alg)}, nil
	}
	return l.NewWriterFor(alg)
}

// A dryWriter finds out what a blob would be called.
type dryWriter struct{ *digest.Hasher }

func (w dryWriter) Commit(digest.Digest) (digest.Digest, int64, error) {
	return w.Digest(), w.Size(), nil
}

func (w dryWriter) Abort() {}

// A teeWriter writes its blob elsewhere as well.
type teeWriter struct {
	blobWriter
	both io.Writer
}

func (w teeWriter) Write(p []byte) (int, error) { return w.both.Write(p) }
