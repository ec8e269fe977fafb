package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// An Item is one blob of an inventory.
type Item struct {
	Digest digest.Digest
	Size   int64
	DiffID digest.Digest // of a layer of which it is known; zero otherwise
}

// An Inventory is what one side has: what a bundle for it may leave out.
type Inventory struct {
	Items   []Item   // sorted by digest
	Notices []string // what is there and not listed, since it is damaged

	have map[digest.Digest]int // index in Items
}

func newInventory(items map[digest.Digest]Item) *Inventory {
	inv := &Inventory{have: map[digest.Digest]int{}}
	for _, it := range items {
		inv.Items = append(inv.Items, it)
	}
	slices.SortFunc(inv.Items, func(a, b Item) int { return digest.Compare(a.Digest, b.Digest) })
	for i, it := range inv.Items {
		inv.have[it.Digest] = i
	}
	return inv
}

// Has reports whether d is listed.
func (inv *Inventory) Has(d digest.Digest) bool {
	_, ok := inv.have[d]
	return ok
}

// Merge returns what several inventories list together.
func Merge(list ...*Inventory) *Inventory {
	items := map[digest.Digest]Item{}
	for _, inv := range list {
		for _, it := range inv.Items {
			if was, ok := items[it.Digest]; ok && it.DiffID.IsZero() {
				it.DiffID = was.DiffID
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
	x, err := l.Index()
	if err != nil {
		return nil, err
	}
	sizes := map[digest.Digest]int64{}
	damaged := map[digest.Digest]bool{}
	err = l.Scan(x.Manifests, func(desc oci.Descriptor, doc []byte, err error) error {
		sizes[desc.Digest] = desc.Size
		damaged[desc.Digest] = errors.Is(err, digest.ErrMismatch)
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	items := map[digest.Digest]Item{}
	var notices []string
	for _, b := range blobs {
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
		items[b.Digest] = Item{Digest: b.Digest, Size: b.Size}
	}
	addDiffIDs(l, x.Manifests, items)
	inv := newInventory(items)
	slices.Sort(notices)
	inv.Notices = notices
	return inv, nil
}

// ImageInventory lists the blobs of one image that are there.
func ImageInventory(ctx context.Context, l *layout.Layout, desc oci.Descriptor, verify bool) (*Inventory, error) {
	all, err := LayoutInventory(ctx, l, verify)
	if err != nil {
		return nil, err
	}
	items := map[digest.Digest]Item{}
	err = l.Scan([]oci.Descriptor{desc}, func(d oci.Descriptor, doc []byte, err error) error {
		if i, ok := all.have[d.Digest]; ok && !errors.Is(err, digest.ErrMismatch) {
			items[d.Digest] = all.Items[i]
		}
		return nil
	})
	inv := newInventory(items)
	inv.Notices = all.Notices
	return inv, err
}

func isEmpty(d digest.Digest) bool {
	return d == digest.NewHasher(d.Algorithm()).Digest()
}

// isDamaged hashes a blob.
func isDamaged(ctx context.Context, l *layout.Layout, desc oci.Descriptor) (bool, error) {
	r, err := l.Blob(desc)
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, &contextReader{ctx, r}, make([]byte, 256<<10))
		r.Close()
	}
	if errors.Is(err, digest.ErrMismatch) {
		return true, nil
	}
	return false, err
}

// addDiffIDs notes the diff IDs of layers of images in a layout, as far as they can be read.
func addDiffIDs(l *layout.Layout, roots []oci.Descriptor, items map[digest.Digest]Item) {
	l.Scan(roots, func(desc oci.Descriptor, doc []byte, err error) error {
		if err != nil || !oci.IsManifest(desc.MediaType) {
			return nil
		}
		layers, err := image.Layers(l, desc)
		if err != nil {
			return nil
		}
		for _, d := range layers {
			if it, ok := items[d.Digest]; ok {
				if id, ok := d.DiffID(); ok {
					it.DiffID = id
					items[d.Digest] = it
				}
			}
		}
		return nil
	})
}

// ArchiveInventory lists the blobs in the tar of a layout, a bundle too, verified while it is
// read to its end.
func ArchiveInventory(ctx context.Context, r io.Reader) (*Inventory, error) {
	items := map[digest.Digest]Item{}
	a := &members{
		blob: func(d digest.Digest, size int64, r io.Reader) error {
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, digest.NewReader(r, d, size), make([]byte, 256<<10)); err != nil {
				return err
			}
			items[d] = Item{Digest: d, Size: size}
			return nil
		},
	}
	if err := a.read(ctx, r); err != nil {
		return nil, err
	}
	if a.control[layoutFile] == nil {
		return nil, fmt.Errorf("%w: it has no %s", ErrNoImage, layoutFile)
	}
	return newInventory(items), nil
}

// ReadInventory reads an inventory: the lines that [Inventory.Write] wrote, compressed or not,
// or the tar of a layout.
func ReadInventory(ctx context.Context, r io.Reader) (*Inventory, error) {
	plain, _, err := tarutil.Decompress(r)
	if errors.Is(err, tarutil.ErrEmpty) {
		return newInventory(nil), nil // who has nothing says nothing
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
	return readLines(in)
}

// maxItems bounds an inventory in memory.
const maxItems = 2_000_000

func readLines(r io.Reader) (*Inventory, error) {
	items := map[digest.Digest]Item{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 64<<10)
	for n := 1; s.Scan(); n++ {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 {
			continue
		}
		it, err := readItem(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: want DIGEST [SIZE [DIFFID]]: %w", n, err)
		}
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
			return it, fmt.Errorf("%q is no size", fields[1])
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
	}
	return out.Flush()
}

// InventoryOf makes an inventory of descriptors, as those of what a registry has.
func InventoryOf(descs []oci.Descriptor) *Inventory {
	items := map[digest.Digest]Item{}
	for _, d := range descs {
		items[d.Digest] = Item{Digest: d.Digest, Size: d.Size}
		if id, ok := d.DiffID(); ok {
			items[d.Digest] = Item{Digest: d.Digest, Size: d.Size, DiffID: id}
		}
	}
	return newInventory(items)
}
