package image

import (
	"archive/tar"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

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

	budget  *tarutil.Budget
	root    fileNode
	entries map[stack.EntryID]*entry
	lastDir string
	last    *fileNode // of that path
}

// ListFiles applies the layers of the image that desc describes, as [stack.Apply] does, and
// lists all entries, also those that the image does not show. No contents are kept. Layers are
// verified, with their diff IDs if the config is that of an image.
func ListFiles(ctx context.Context, src source.Source, desc oci.Descriptor) (*FileList, error) {
	layers, err := Layers(src, desc)
	if err != nil {
		return nil, err
	}
	list := &FileList{budget: tarutil.NewBudget(0), entries: map[stack.EntryID]*entry{}}
	for i, layer := range layers {
		list.Layers = append(list.Layers, LayerUse{Layer: i, Digest: layer.Digest, Size: layer.Size})
	}
	if _, err := applyLayers(ctx, src, layers, stack.Options{Observer: list, Budget: list.budget}); err != nil {
		return nil, err
	}
	return list, nil
}

// A fileNode is a name that something in the image has or had.
type fileNode struct {
	name     string
	parent   *fileNode
	children map[string]*fileNode
	entries  []*entry // in the order of the layers
}

// An entry is what a layer holds under a name.
type entry struct {
	hdr    File
	target *entry // of a hard link: who has the bytes
	names  int    // that lead to the bytes
	gone   bool
}

// listMemory is about what an entry of a list needs, in bytes.
const listMemory = 650

// Placed implements [stack.Observer].
func (f *FileList) Placed(id, file stack.EntryID, name string, hdr *tar.Header) error {
	if len(f.entries) == tarutil.DefaultMaxEntries {
		return fmt.Errorf("%w: over %d in all layers", tarutil.ErrTooMany, tarutil.DefaultMaxEntries)
	}

	if err := f.budget.Take(listMemory + 2*len(name) + len(hdr.Linkname)); err != nil {
		return err
	}

	e := &entry{hdr: fileOf(id.Layer, hdr), names: 1}

	// A hard link has no bytes of its own: they are wasted when the last name is gone.
	if file != id {
		e.target = f.entries[file]
		e.target.names++
	}

	f.entries[id] = e
	use := &f.Layers[id.Layer]
	use.Files++
	use.Bytes += e.hdr.Size

	n := f.node(name)
	n.entries = append(n.entries, e)
	return nil
}

// Gone implements [stack.Observer]. Bytes are wasted once no name leads to them.
func (f *FileList) Gone(id stack.EntryID, layer int, whiteout bool) {
	e := f.entries[id]
	e.gone, e.hdr.Fate, e.hdr.FateBy = true, Replaced, layer
	if whiteout {
		e.hdr.Fate = Deleted
	}
	if e.target != nil {
		e = e.target
	}
	if e.names--; e.names == 0 {
		f.Layers[e.hdr.Layer].Wasted += e.hdr.Size
	}
}

func fileOf(i int, hdr *tar.Header) File {
	file := File{Type: "f", Mode: hdr.Mode & 0o7777, UID: hdr.Uid, GID: hdr.Gid, Link: hdr.Linkname, Layer: i}
	switch hdr.Typeflag {
	case tar.TypeDir:
		file.Type = "d"
	case tar.TypeSymlink:
		file.Type = "l"
	case tar.TypeLink:
		file.Type = "h"
	case tar.TypeChar:
		file.Type = "c"
	case tar.TypeBlock:
		file.Type = "b"
	case tar.TypeFifo:
		file.Type = "p"
	default:
		file.Size = hdr.Size
	}

	return file
}

// node returns the node of a real path.
func (f *FileList) node(name string) *fileNode {
	dirName, base := path.Split(name)

	// Tars go from directory to directory, so the last one is remembered.
	if f.last == nil || dirName != f.lastDir {
		f.last, f.lastDir = &f.root, dirName
		for part := range strings.SplitSeq(dirName, "/") {
			f.last = f.last.child(part)
		}
	}
	return f.last.child(base)
}

// child returns the node of a name in n, or n itself if that is empty.
func (n *fileNode) child(name string) *fileNode {
	if name == "" {
		return n
	}
	c := n.children[name]
	if c == nil {
		c = &fileNode{name: strings.Clone(name), parent: n}
		if n.children == nil {
			n.children = map[string]*fileNode{}
		}
		n.children[c.name] = c
	}
	return c
}

// Walk calls fn for each entry that the image shows at name and below, or with all also for
// those that it does not show, in the order of their names; the root is "". It reports
// whether there was anything.
func (f *FileList) Walk(name string, all bool, fn func(File) error) (found bool, err error) {
	n := &f.root
	for part := range strings.SplitSeq(path.Clean("/" + name)[1:], "/") {
		if part != "" && n != nil {
			n = n.children[part]
		}
	}
	if n == nil {
		return false, nil
	}
	err = n.walk(n.path(), all, func(file File) error { found = true; return fn(file) })
	return found, err
}

// path returns the path of n, without a slash in front.
func (n *fileNode) path() string {
	var parts []string
	for ; n.parent != nil; n = n.parent {
		parts = append(parts, n.name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

func (n *fileNode) walk(at string, all bool, fn func(File) error) error {
	for _, e := range n.entries {
		if e.gone && !all {
			continue
		}
		file := e.hdr
		file.Path = at
		if err := fn(file); err != nil {
			return err
		}
	}

	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		if err := n.children[name].walk(path.Join(at, name), all, fn); err != nil {
			return err
		}
	}

	return nil
}
