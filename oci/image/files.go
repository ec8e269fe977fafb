package image

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"iter"
	"path"
	"slices"
	"sort"
	"strings"
	"unsafe"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/source"
	"ocikit/tarutil"
	"ocikit/tarutil/stack"
)

// A File is an entry of one layer of an image, and what became of it.
type File struct {
	Type   string `json:"type"` // f, d, l, h (hard link), c, b or p
	Mode   int64  `json:"mode"` // permissions and the bits above them
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Size   int64  `json:"size"` // of a regular file
	Path   string `json:"path"` // without a slash in front
	Link   string `json:"link,omitempty"`
	Layer  int    `json:"layer"`            // that it comes from, the lowest is 0
	Fate   Fate   `json:"fate,omitempty"`   // "" if the image shows it
	FateBy int    `json:"fateBy,omitempty"` // the layer that did it
}

// A Fate says why an image does not show a file that a layer of it holds.
type Fate string

// The fates.
const (
	Deleted  Fate = "deleted"  // by a whiteout, or with its directory
	Replaced Fate = "replaced" // by another entry of that path
)

// A LayerUse says what a layer brings and how much of that the image does not show.
type LayerUse struct {
	Layer  int           `json:"layer"`
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`   // of the blob
	Files  int           `json:"files"`  // entries, whiteouts aside
	Bytes  int64         `json:"bytes"`  // of the contents of regular files
	Wasted int64         `json:"wasted"` // of those, bytes that later entries removed
}

// A FileList holds the entries of all layers of one image.
type FileList struct {
	Layers []LayerUse

	paths    *tarutil.PathTable // of the stack as well
	entries  tarutil.Slab[entry]
	links    map[uint32]string    // what links lead to, by the number of their entry
	last     tarutil.Slab[uint32] // by path: one more than the number of its last entry
	children tarutil.PathChildren
}

// newFileList returns a list for the entries of layers.
func newFileList(layers []oci.Descriptor) *FileList {
	f := &FileList{paths: tarutil.NewPathTable(tarutil.NewBudget(0)), links: map[uint32]string{}}
	for i, layer := range layers {
		f.Layers = append(f.Layers, LayerUse{Layer: i, Digest: layer.Digest, Size: layer.Size})
	}
	return f
}

// ListFiles applies the layers of the image that desc describes, as [stack.Apply] does, and
// lists all entries, also those that the image does not show. No contents are kept. Layers are
// verified, with their diff IDs if the config is that of an image.
func ListFiles(ctx context.Context, src source.Source, desc oci.Descriptor) (*FileList, error) {
	layers, err := Layers(src, desc)
	if err != nil {
		return nil, err
	}
	list := newFileList(layers)
	return list, list.apply(ctx, src, layers, list)
}

// apply applies the layers. The observer hands what it is told on to the list.
func (f *FileList) apply(ctx context.Context, src source.Source, layers []oci.Descriptor, watch stack.Observer) error {
	_, err := applyLayers(ctx, src, layers, stack.Options{Observer: watch, Paths: f.paths})
	f.children = f.paths.Children()
	return err
}

// An entry is what a layer holds under a name. There may be a million, so it is kept small.
type entry struct {
	size         int64
	uid, gid     uint32
	layer, index int32  // in which it is, and its number there
	fateBy       int32  // the layer that did it
	names        int32  // that lead to its bytes
	target       uint32 // of a hard link: the number of the entry with the bytes; else its own
	before       uint32 // one more than the number of the entry that had its path before, if any
	mode         uint16
	kind         byte
	fate         byte // an index of fates
}

// fates are what the entries say of theirs.
var fates = [...]Fate{"", Deleted, Replaced}

// file returns what is known of an entry.
func (f *FileList) file(i uint32) File {
	e := f.entries.At(i)
	return File{
		Type: string(e.kind), Mode: int64(e.mode), UID: int(e.uid), GID: int(e.gid), Size: e.size,
		Link: f.links[i], Layer: int(e.layer), Fate: fates[e.fate], FateBy: int(e.fateBy),
	}
}

// listMemory is what an entry of a list needs, linkMemory what a link needs besides, in bytes.
const (
	listMemory = int(unsafe.Sizeof(entry{}) + unsafe.Sizeof(uint32(0)))
	linkMemory = 60
)

// Placed implements [stack.Observer].
func (f *FileList) Placed(id, file stack.EntryID, path tarutil.PathID, hdr *tar.Header) error {
	if f.entries.Len() == tarutil.DefaultMaxEntries {
		return fmt.Errorf("%w: over %d in all layers", tarutil.ErrTooMany, tarutil.DefaultMaxEntries)
	}

	needs := listMemory
	if hdr.Linkname != "" {
		needs += linkMemory + len(hdr.Linkname)
	}
	if err := f.paths.Budget.Take(needs); err != nil {
		return err
	}

	i, e := f.entries.New()
	*e = entry{
		layer: int32(id.Layer), index: int32(id.Entry), names: 1, target: i,
		mode: uint16(hdr.Mode & 0o7777), uid: uint32(hdr.Uid), gid: uint32(hdr.Gid), kind: kindOf(hdr.Typeflag),
	}
	if e.kind == 'f' {
		e.size = hdr.Size
	}
	if hdr.Linkname != "" {
		f.links[i] = strings.Clone(hdr.Linkname)
	}

	// A hard link has no bytes of its own: they are wasted when the last name is gone.
	if file != id {
		e.target = f.number(file)
		f.entries.At(e.target).names++
	}

	use := &f.Layers[id.Layer]
	use.Files++
	use.Bytes += e.size

	for f.last.Len() <= int(path) {
		f.last.New()
	}
	last := f.last.At(uint32(path))
	e.before, *last = *last, i+1
	return nil
}

// Gone implements [stack.Observer]. Bytes are wasted once no name leads to them.
func (f *FileList) Gone(id stack.EntryID, layer int, whiteout bool) {
	e := f.entries.At(f.number(id))
	e.fate, e.fateBy = 2, int32(layer)
	if whiteout {
		e.fate = 1
	}
	e = f.entries.At(e.target)
	if e.names--; e.names == 0 {
		f.Layers[e.layer].Wasted += e.size
	}
}

// number returns the number of an entry. They were placed in order.
func (f *FileList) number(id stack.EntryID) uint32 {
	return uint32(sort.Search(f.entries.Len(), func(i int) bool {
		e := f.entries.At(uint32(i))
		return cmp.Or(cmp.Compare(int(e.layer), id.Layer), cmp.Compare(int(e.index), id.Entry)) >= 0
	}))
}

func kindOf(flag byte) byte {
	switch flag {
	case tar.TypeDir:
		return 'd'
	case tar.TypeSymlink:
		return 'l'
	case tar.TypeLink:
		return 'h'
	case tar.TypeChar:
		return 'c'
	case tar.TypeBlock:
		return 'b'
	case tar.TypeFifo:
		return 'p'
	}
	return 'f'
}

// Walk returns the entries that the image shows at name and below, or with all also those that it does
// not show, in the order of their names; the root is "".
func (f *FileList) Walk(name string, all bool) iter.Seq[File] {
	return func(yield func(File) bool) {
		if id, ok := f.paths.Lookup(path.Clean("/" + name)[1:]); ok {
			f.walk(id, all, yield)
		}
	}
}

// walk does so for a path and what is below it, and reports whether to go on.
func (f *FileList) walk(id tarutil.PathID, all bool, yield func(File) bool) bool {
	for _, i := range f.entriesOf(id) {
		if f.entries.At(i).fate != 0 && !all {
			continue
		}
		file := f.file(i)
		file.Path = f.paths.Path(id)
		if !yield(file) {
			return false
		}
	}
	return !slices.ContainsFunc(f.children.Of(id), func(c tarutil.PathID) bool { return !f.walk(c, all, yield) })
}

// entriesOf returns the numbers of the entries of a path, in the order of the layers.
func (f *FileList) entriesOf(id tarutil.PathID) (list []uint32) {
	if int(id) >= f.last.Len() {
		return nil
	}
	for next := *f.last.At(uint32(id)); next != 0; next = f.entries.At(next - 1).before {
		list = append(list, next-1)
	}
	slices.Reverse(list)
	return list
}
