package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/source"
	"ocikit/tarutil"
	"ocikit/tarutil/delta"
)

// An Item is one blob of an inventory.
type Item struct {
	Digest digest.Digest
	Size   int64         // -1 if it is not known
	DiffID digest.Digest // of a layer of which it is known; zero otherwise
	Chunks []delta.Chunk // of a layer uncompressed, if they were asked for
}

// An Inventory is what one side has: what a bundle for it may leave out.
type Inventory struct {
	Items   []Item   // sorted by digest
	Notices []string // what is there and not listed, since it is damaged
}

func newInventory(items map[digest.Digest]Item) *Inventory {
	return sorted(slices.Collect(maps.Values(items)))
}

// sorted makes an inventory of a list, in which no digest occurs twice.
func sorted(list []Item) *Inventory {
	slices.SortFunc(list, func(a, b Item) int { return digest.Compare(a.Digest, b.Digest) })
	return &Inventory{Items: list}
}

// has reports whether d is listed.
func (inv *Inventory) has(d digest.Digest) bool {
	_, ok := inv.find(d)
	return ok
}

// find returns the place of d in the list.
func (inv *Inventory) find(d digest.Digest) (int, bool) {
	return slices.BinarySearchFunc(inv.Items, d, func(it Item, d digest.Digest) int { return digest.Compare(it.Digest, d) })
}

// Merge returns what several inventories list together.
func Merge(list ...*Inventory) *Inventory {
	if len(list) == 1 {
		return &Inventory{Items: list[0].Items}
	}

	items := map[digest.Digest]Item{}
	for _, inv := range list {
		for _, it := range inv.Items {
			if was, ok := items[it.Digest]; ok {
				if it.DiffID.IsZero() {
					it.DiffID = was.DiffID
				}
				if it.Chunks == nil {
					it.Chunks = was.Chunks
				}
			}
			items[it.Digest] = it
		}
	}

	return newInventory(items)
}

// LayoutInventory lists the blobs of a layout. A blob whose file cannot be right is left out
// with a notice: one of another size than a document says, one without bytes. With verify
// every blob is hashed; otherwise documents are.
func LayoutInventory(ctx context.Context, l *layout.Layout, verify bool) (*Inventory, error) {
	blobs, err := l.Blobs()
	if err != nil {
		return nil, err
	}

	roots, err := l.Roots(nil)
	if err != nil {
		return nil, err
	}

	// The images tell which size a file should have, and which diff ID a layer.
	sizes := map[digest.Digest]int64{}
	damaged := map[digest.Digest]bool{}
	ids := diffIDs{}
	err = l.Scan(ctx, roots, func(n graph.Node) error {
		sizes[n.Desc.Digest] = n.Desc.Size
		if errors.Is(n.Err, digest.ErrMismatch) {
			damaged[n.Desc.Digest] = true
		}
		ids.note(l, n)
		return nil
	})
	if err != nil {
		return nil, err
	}

	items := make([]Item, 0, len(blobs))
	var notices []string
	for _, b := range blobs {
		// Three signs of damage need no hashing: a document that did not verify, another size
		// than its descriptor's, an empty file under the digest of something else.
		size, named := sizes[b.Digest]
		wrong := damaged[b.Digest] || named && size != b.Size || b.Size == 0 && b.Digest.Verifiable() && !isEmpty(b.Digest)
		if !wrong && verify && b.Digest.Verifiable() {
			if wrong, err = isDamaged(ctx, l, oci.Descriptor{Digest: b.Digest, Size: b.Size}); err != nil {
				return nil, err
			}
		}
		if wrong {
			notices = append(notices, fmt.Sprintf("left out %s: its file is damaged", b.Digest))
			continue
		}
		items = append(items, Item{Digest: b.Digest, Size: b.Size, DiffID: ids[b.Digest]})
	}

	inv := sorted(items)
	slices.Sort(notices)
	inv.Notices = notices
	return inv, nil
}

// ImageInventory is [LayoutInventory] for the blobs of one image alone. Its notices are about
// the whole layout.
func ImageInventory(ctx context.Context, l *layout.Layout, desc oci.Descriptor, verify bool) (*Inventory, error) {
	all, err := LayoutInventory(ctx, l, verify)
	if err != nil {
		return nil, err
	}
	items := map[digest.Digest]Item{}
	err = graph.Scan(l, []oci.Descriptor{desc}, func(n graph.Node) error {
		if i, ok := all.find(n.Desc.Digest); ok && !errors.Is(n.Err, digest.ErrMismatch) {
			items[n.Desc.Digest] = all.Items[i]
		}
		return nil
	})
	inv := newInventory(items)
	inv.Notices = all.Notices
	return inv, err
}

// SourceInventory lists the blobs of one image, in any source, that are there with the right
// size. No layer is read.
func SourceInventory(ctx context.Context, src source.Source, desc oci.Descriptor) (*Inventory, error) {
	items := map[digest.Digest]Item{}
	err := graph.Scan(src, []oci.Descriptor{desc}, func(n graph.Node) error {
		size, err := src.Stat(n.Desc.Digest)
		if n.Err == nil && err == nil && graph.Fits(size, n.Desc) {
			items[n.Desc.Digest] = Item{Digest: n.Desc.Digest, Size: n.Desc.Size}
		}
		return context.Cause(ctx)
	})
	addDiffIDs(src, []oci.Descriptor{desc}, items)
	return newInventory(items), err
}

func isEmpty(d digest.Digest) bool {
	return d == digest.NewHasher(d.Algorithm()).Digest()
}

// isDamaged hashes a blob.
func isDamaged(ctx context.Context, l *layout.Layout, desc oci.Descriptor) (bool, error) {
	r, err := l.Blob(desc)
	if err == nil {
		_, err = oci.Copy(io.Discard, tarutil.ContextReader(ctx, r))
		r.Close()
	}
	if errors.Is(err, digest.ErrMismatch) {
		return true, nil
	}
	return false, err
}

// addDiffIDs notes the diff IDs of layers of images in a layout, as far as they can be read.
func addDiffIDs(l source.Source, roots []oci.Descriptor, items map[digest.Digest]Item) {
	ids := diffIDs{}
	ids.find(l, roots)
	ids.addTo(items)
}

// diffIDs are those of layers.
type diffIDs map[digest.Digest]digest.Digest

// find notes what images say.
func (ids diffIDs) find(l source.Source, roots []oci.Descriptor) {
	graph.Documents(l, roots, func(n graph.Node) error {
		ids.note(l, n)
		return nil
	})
}

func (ids diffIDs) addTo(items map[digest.Digest]Item) {
	for d, id := range ids {
		if it, ok := items[d]; ok {
			it.DiffID = id
			items[d] = it
		}
	}
}

// note notes the diff IDs of the layers of an image, unless all of them are known: to read the
// config costs more, and many images of a layout share their layers.
func (ids diffIDs) note(s graph.Store, n graph.Node) {
	known := func(d oci.Descriptor) bool { _, ok := ids[d.Digest]; return ok }
	if n.Err != nil || !oci.IsManifest(n.Desc.MediaType) || len(n.Refs) == 0 {
		return
	}

	unknown := slices.IndexFunc(n.Refs[1:], func(d oci.Descriptor) bool { return !known(d) }) // behind the config
	if unknown < 0 {
		return
	}

	layers, err := image.Layers(s, n.Desc)
	if err != nil {
		return
	}

	for _, d := range layers {
		if id, ok := d.DiffID(); ok {
			ids[d.Digest] = id
		}
	}
}

// ArchiveInventory lists the blobs in the tar of a layout, a bundle too, verified while it is
// read to its end.
func ArchiveInventory(ctx context.Context, r io.Reader) (*Inventory, error) {
	items := map[digest.Digest]Item{}
	c := newContents(func(f tarEntry, d digest.Digest) (member, error) {
		if _, err := oci.Copy(io.Discard, digest.NewReader(f.r, d, f.hdr.Size)); err != nil {
			return member{}, err
		}
		items[d] = Item{Digest: d, Size: f.hdr.Size}
		return member{digest: d, size: f.hdr.Size}, nil
	})

	c.onlyLayout = true
	if err := scanStream(ctx, r, c.take); err != nil {
		return nil, err
	}

	if c.control[layoutFile] == nil {
		return nil, fmt.Errorf("%w: it has no %s", ErrNoImage, layoutFile)
	}

	return newInventory(items), nil
}

// ReadInventory reads an inventory: the lines that [Inventory.Write] wrote, compressed or not,
// or the tar of a layout.
func ReadInventory(ctx context.Context, r io.Reader) (*Inventory, error) {
	plain, _, err := tarutil.Decompress(r)
	if errors.Is(err, tarutil.ErrEmpty) {
		return newInventory(nil), nil // the inventory of a side that has nothing
	}

	if err != nil {
		return nil, err
	}

	in := bufio.NewReaderSize(plain, 64<<10)
	head, err := in.Peek(tarutil.SniffLen)
	if err != nil && err != io.EOF {
		return nil, err
	}

	if tarutil.Sniff(head) == tarutil.FormatTar {
		return ArchiveInventory(ctx, in)
	}

	return readLines(in, maxChunks)
}

// maxItems bounds an inventory in memory.
const maxItems = 2_000_000

// readLines reads lines of the form DIGEST [SIZE [DIFFID]], each with any number of lines of
// chunks behind it. More than limit chunks in all give [errChunks].
func readLines(r io.Reader, limit int) (*Inventory, error) {
	items := map[digest.Digest]Item{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 64<<10)
	var last digest.Digest
	for n := 1; s.Scan(); n++ {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 {
			continue
		}
		if fields[0] == chunkMark {
			added, err := addChunks(items, last, fields, limit)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			limit -= added
			continue
		}
		it, err := readItem(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: want DIGEST [SIZE [DIFFID]]: %w", n, err)
		}
		last = it.Digest
		limit += len(items[last].Chunks) // a second line for a digest counts in place of the first
		if items[it.Digest] = it; len(items) > maxItems {
			return nil, fmt.Errorf("over %d digests", maxItems)
		}
	}

	return newInventory(items), s.Err()
}

func readItem(fields []string) (it Item, err error) {
	it.Size = -1
	if it.Digest, err = digest.Parse(fields[0]); err != nil {
		return it, err
	}

	if len(fields) > 1 {
		if it.Size, err = strconv.ParseInt(fields[1], 10, 64); err != nil || it.Size < 0 {
			return it, fmt.Errorf("%q is not a size", fields[1])
		}
	}

	if len(fields) > 2 {
		if it.DiffID, err = digest.Parse(fields[2]); err != nil {
			return it, err
		}
	}

	if len(fields) > 3 {
		return it, fmt.Errorf("%d fields", len(fields))
	}

	return it, nil
}

// Write writes the inventory, a line for each blob: its digest, with sizes its size, and with
// diffIDs its size and its diff ID if that is known.
func (inv *Inventory) Write(w io.Writer, sizes, diffIDs bool) error {
	out := bufio.NewWriter(w)
	for _, it := range inv.Items {
		out.WriteString(it.Digest.String())
		if (sizes || diffIDs) && it.Size >= 0 {
			fmt.Fprintf(out, " %d", it.Size)
			if diffIDs && !it.DiffID.IsZero() {
				fmt.Fprintf(out, " %s", it.DiffID)
			}
		}
		out.WriteByte('\n')
		writeChunks(out, it.Chunks)
	}
	return out.Flush()
}

// InventoryOf makes an inventory of descriptors, such as those of the blobs that a registry
// has.
func InventoryOf(descs []oci.Descriptor) *Inventory {
	items := map[digest.Digest]Item{}
	for _, d := range descs {
		id, _ := d.DiffID()
		items[d.Digest] = Item{Digest: d.Digest, Size: d.Size, DiffID: id}
	}
	return newInventory(items)
}
