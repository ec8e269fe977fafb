package image

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/source"
	"ocikit/tarutil"
	"ocikit/tarutil/stack"
	"ocikit/tarutil/zstd"
)

// NewStack applies the layers of an image, and verifies all of them while it does: their
// digests, and their diff IDs against the config. An absent layer gives
// [graph.ErrIncomplete]; a manifest that is not that of an image wraps [oci.ErrMalformed].
func NewStack(ctx context.Context, src source.Source, desc oci.Descriptor, opts stack.Options) (*stack.Stack, error) {
	layers, err := imageLayers(src, desc)
	if err != nil {
		return nil, err
	}
	return applyLayers(ctx, src, layers, opts)
}

// Extract writes the files of an image below root, which must be empty. Layers are read once, and
// verified as by [NewStack] before a file of them gets its name.
func Extract(ctx context.Context, src source.Source, desc oci.Descriptor, root *os.Root, how stack.ExtractOptions) (*stack.Stack, stack.Extracted, error) {
	layers, err := imageLayers(src, desc)
	if err != nil {
		return nil, stack.Extracted{}, err
	}
	return extractLayers(ctx, src, layers, root, how)
}

// MayWriteOnce reports whether [WriteOnce] is worth a try: for images of a single layer it is, if the
// blob of that has no more bytes than most.
func MayWriteOnce(src source.Source, desc oci.Descriptor, most int64) bool {
	layers, err := imageLayers(src, desc)
	return err == nil && len(layers) == 1 && layers[0].Size <= most
}

// WriteOnce writes the files of an image to w as a tar, as [NewStack] and [stack.Stack.WriteTar] do, if
// one reading of its layers is enough for that; see [stack.WriteOnce]. If the result is false it was not,
// and what was written is to be thrown away.
func WriteOnce(ctx context.Context, src source.Source, desc oci.Descriptor, w io.Writer) (bool, error) {
	layers, err := imageLayers(src, desc)
	if err != nil || len(layers) != 1 {
		return false, err
	}
	return stack.WriteOnce(ctx, w, stackLayer(src, layers[0]))
}

// imageLayers returns the layers of an image with their diff IDs.
func imageLayers(src source.Source, desc oci.Descriptor) ([]oci.Descriptor, error) {
	m, layers, err := manifestLayers(src, desc)
	if err == nil && !m.IsImage() {
		err = fmt.Errorf("manifest %s: %w", desc.Digest, ErrArtifact)
	}
	return layers, err
}

// applyLayers applies layers that carry their diff IDs.
func applyLayers(ctx context.Context, src source.Source, descs []oci.Descriptor, opts stack.Options) (*stack.Stack, error) {
	opts.Workers = stackWorkers(src, descs, opts.Workers)
	return stack.Apply(ctx, stackLayers(src, descs), opts)
}

// extractLayers writes the files of layers that carry their diff IDs.
func extractLayers(ctx context.Context, src source.Source, descs []oci.Descriptor, root *os.Root, how stack.ExtractOptions) (*stack.Stack, stack.Extracted, error) {
	opts := stack.Options{Workers: stackWorkers(src, descs, 0)}
	return stack.Extract(ctx, root, stackLayers(src, descs), opts, how)
}

func stackLayers(src source.Source, descs []oci.Descriptor) []stack.Layer {
	layers := make([]stack.Layer, len(descs))
	for i, d := range descs {
		layers[i] = stackLayer(src, d)
	}
	return layers
}

// stackWorkers returns how many of the layers are read at once if n are asked for, 0 for one a processor.
// All windows of zstd that are held together have the bound of a single one.
func stackWorkers(src source.Source, descs []oci.Descriptor, n int) int {
	window := 0
	for _, d := range descs {
		window = max(window, zstdWindow(src, d))
	}
	if window == 0 {
		return n
	}
	return min(cmp.Or(n, runtime.GOMAXPROCS(0)), max(1, zstd.MaxWindow/2/window))
}

// zstdWindow returns how much memory it takes to read a layer of zstd, 0 for another. What the layer is
// its first bytes say, whatever its type; where they cost a request, its type. Errors are left for those
// who read all of it.
func zstdWindow(src source.Source, desc oci.Descriptor) int {
	if source.Remote(src) {
		t, _ := oci.ParseLayerType(desc.MediaType)
		if t.Compression == oci.Zstd {
			return zstd.MaxWindow
		}
		return 0
	}

	f, err := src.BlobAt(desc)
	if err != nil {
		return 0
	}
	defer f.Close()

	head := make([]byte, tarutil.SniffLen)
	n, _ := f.ReadAt(head, 0)
	if tarutil.Sniff(head[:n]) != tarutil.FormatZstd {
		return 0
	}
	return max(1, zstd.LargestWindow(f, desc.Size))
}

// stackLayer returns a layer of a source as [stack.Apply] takes it. Its digest is verified
// each time it is read, and its diff ID, if the descriptor carries one, until that was found
// right once.
func stackLayer(src source.Source, desc oci.Descriptor) stack.Layer {
	id, ok := desc.DiffID()
	known := new(atomic.Bool)
	return stack.Layer{
		Name: desc.Digest.String(),
		Open: func() (io.ReadCloser, error) { return openLayer(src, desc, nil) },
		Check: func() io.WriteCloser {
			if !ok || known.Load() {
				return nil
			}
			return &diffCheck{digest.NewVerifier(id, -1), known}
		},
	}
}

// A layerReader reads the uncompressed tar of a layer, and then what is left of its blob, so
// that the digest counts.
type layerReader struct {
	plain io.Reader
	blob  io.ReadCloser
}

// checkClear refuses a layer that is encrypted: without the key its content looks damaged.
func checkClear(desc oci.Descriptor) error {
	if strings.HasSuffix(desc.MediaType, "+encrypted") {
		return fmt.Errorf("it is encrypted: %q", desc.MediaType)
	}
	return nil
}

// ErrNotDistributed means that a layer is absent and need not be there: its descriptor names addresses
// instead, as those of Windows do (layer.md, "Non-Distributable Layers").
var ErrNotDistributed = errors.New("it is not distributed with its image")

// openLayer opens a layer. What is read of its tar goes through check, which may be nil.
func openLayer(src source.Source, desc oci.Descriptor, check func(io.Reader, tarutil.Format) io.Reader) (io.ReadCloser, error) {
	if !oci.IsLayer(desc.MediaType) {
		return nil, fmt.Errorf("media type %q is not that of a layer: %w", desc.MediaType, oci.ErrMalformed)
	}

	if err := checkClear(desc); err != nil {
		return nil, err
	}

	blob, err := src.Blob(desc)
	if err != nil {
		err = graph.Incomplete(err)
		if oci.IsForeignLayer(desc.MediaType) && errors.Is(err, graph.ErrIncomplete) {
			err = fmt.Errorf("%w: %w", ErrNotDistributed, err)
		}
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

	if check != nil {
		plain = check(plain, format)
	}

	return &layerReader{plain, blob}, nil
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err == nil {
		return n, nil
	}

	// If the digest of the blob is wrong, that explains the error.
	if _, drained := io.Copy(io.Discard, r.blob); drained != nil {
		err = drained
	}
	return n, err
}

func (r *layerReader) Close() error { return r.blob.Close() }

// A diffCheck verifies a diff ID, and remembers that it was right.
type diffCheck struct {
	*digest.Verifier
	known *atomic.Bool
}

func (d *diffCheck) Write(p []byte) (int, error) {
	n, err := d.Verifier.Write(p)
	return n, diffError(err)
}

func (d *diffCheck) Close() error {
	err := d.Verifier.Close()
	if err == nil {
		d.known.Store(true)
	}
	return diffError(err)
}

func diffError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("diff ID of its content: %w", err)
}

// smallBelow is the size of all layers below new ones up to which they are read in any case.
const smallBelow = 8 << 20

// Surprises returns what the new layers do to the layers below that is rarely meant. The uppermost
// added layers are the new ones. All layers carry their diff IDs.
//
// Reading the layers below may take longer than everything else that is done with new layers. So
// they are read only if they are small, if a new layer has an entry at or below a path where most
// distributions have a link, or a directory of unusual permissions, or if it has a hard link to what
// it does not hold itself. Otherwise Surprises returns what the new layers show by themselves.
//
// The error wraps [ErrMisfit] if the new layers cannot be put on those below: no reader could apply
// them. Any other one, as of a layer below that is absent, says nothing about the new layers.
func Surprises(ctx context.Context, l *layout.Layout, layers []oci.Descriptor, added int) ([]stack.Surprise, error) {
	first := len(layers) - added
	all := oci.TotalSize(layers[:first]) <= smallBelow
	for i := first; i < len(layers) && !all; i++ {
		rules := tarutil.NewLayerRules()
		name, err := findEntry(ctx, l, layers[i], func(hdr *tar.Header) bool {
			rules.Entry(hdr) // the layer was checked when it was stored
			return comesToUsual(hdr.Name)
		})
		if err != nil {
			return nil, err
		}
		all = name != "" || rules.LinksBelow()
	}

	var found []stack.Surprise
	if all {
		_, err := applyLayers(ctx, l, layers, stack.Options{Surprise: func(s stack.Surprise) {
			if s.Layer >= first {
				found = append(found, s)
			}
		}})
		return found, misfit(err, first)
	}

	// An error here is, say, a hard link to a file that lies below. What was found so far is true.
	applyLayers(ctx, l, layers[first:], stack.Options{Surprise: func(s stack.Surprise) {
		if s.Kind.Alone() {
			s.Layer += first
			found = append(found, s)
		}
	}})
	return found, ctx.Err()
}

// ErrMisfit means that a layer cannot be put on the layers below it.
var ErrMisfit = errors.New("a layer does not fit on those below")

// misfit returns an error of applying layers, as [ErrMisfit] if it is about an entry of those from first
// on: they can be read, and not be put on those below.
func misfit(err error, first int) error {
	var entry *stack.EntryError
	if errors.As(err, &entry) && entry.Layer >= first {
		return fmt.Errorf("%w: %w", ErrMisfit, err)
	}
	return err
}

// CheckFit returns an error that wraps [ErrMisfit] if layers of the image, from the lowest one that the
// edit has changed on, cannot be put on what lies below them now. As after [Rebase], all are read if they
// are small. Otherwise those layers are if they are small, and the rest if they have a hard link to what
// their layer does not hold. What cannot be read says nothing, nor do layers for Windows.
func (im *Image) CheckFit(ctx context.Context, l *layout.Layout) error {
	first := 0
	for first < min(len(im.layers), len(im.m.Layers)) && im.layers[first].desc.Digest == im.m.Layers[first].Digest {
		first++
	}
	return im.checkFit(ctx, l, l, first)
}

// checkFit is CheckFit of the layers from first on. They are in the layout, the others in below.
func (im *Image) checkFit(ctx context.Context, below source.Source, l *layout.Layout, first int) error {
	// Windows finds a file below by a link in other letters, as upper case, too.
	if p, _ := im.Platform(); p.OS == "windows" {
		return nil
	}

	layers := im.Layers()
	moved := layers[first:]
	if oci.TotalSize(moved) > smallBelow {
		return nil
	}

	if all := oci.TotalSize(layers) <= smallBelow; !all && !linkBelow(ctx, l, moved) {
		return ctx.Err()
	}

	workers := min(stackWorkers(below, layers[:first], 0), stackWorkers(l, moved, 0))
	stacked := append(stackLayers(below, layers[:first]), stackLayers(l, moved)...)
	_, err := stack.Apply(ctx, stacked, stack.Options{Workers: workers})
	if err = misfit(err, first); errors.Is(err, ErrMisfit) {
		return err
	}
	return ctx.Err()
}

// linkBelow reports whether one of the layers has a hard link to what it does not hold itself. A layer
// that cannot be read has none.
func linkBelow(ctx context.Context, l *layout.Layout, layers []oci.Descriptor) bool {
	for _, d := range layers {
		rules := tarutil.NewLayerRules()
		_, err := findEntry(ctx, l, d, func(hdr *tar.Header) bool {
			rules.Entry(hdr) // what else is wrong with it is no matter of those below
			return false
		})
		if err == nil && rules.LinksBelow() {
			return true
		}
	}
	return false
}

// comesToUsual reports whether a path is, or lies below, one that most distributions have as a link,
// or as a directory that is not 0755 of 0:0.
func comesToUsual(path string) bool {
	for path != "" {
		switch path {
		case "bin", "sbin", "lib", "lib32", "lib64", "libx32", "root", "tmp", "var/lock", "var/run", "var/tmp":
			return true
		}
		path, _ = tarutil.SplitPath(path)
	}
	return false
}

// OutsideWindows returns the first path of a layer that Windows does not take: there the files of an
// image are below "Files", and its registry below "Hives" (layer.md, "Windows"). It is "" if there
// is none.
func OutsideWindows(ctx context.Context, l *layout.Layout, layer oci.Descriptor) (string, error) {
	return findEntry(ctx, l, layer, func(hdr *tar.Header) bool {
		switch top, _, _ := strings.Cut(hdr.Name, "/"); top {
		case "", "Files", "Hives", "UtilityVM":
			return false
		}
		return true
	})
}

// findEntry returns the path of the first entry of a layer that is wanted, or "". It reads no
// further.
func findEntry(ctx context.Context, l *layout.Layout, layer oci.Descriptor, wanted func(hdr *tar.Header) bool) (string, error) {
	r, err := l.Blob(layer)
	if err != nil {
		return "", err
	}
	defer r.Close()

	entries, err := tarutil.NewEntryReader(ctx, r, tarutil.ReadOptions{AllowNoEnd: true})
	if err != nil {
		return "", err
	}

	for hdr, err := range entries.All() {
		if err != nil {
			return "", err
		}
		if wanted(hdr) {
			return hdr.Name, nil
		}
	}
	return "", nil
}
