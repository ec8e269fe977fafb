package image

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil"
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

	root  *fileNode
	count int
}

// ListFiles reads the layers of the image that desc describes, the lowest first, and finds
// out which entries the image shows, by the rules of "Applying Changesets" in layer.md: names
// are resolved in the image, whiteouts act on lower layers only, of several entries for
// one path the last counts. No contents are kept. Layers are verified.
func ListFiles(ctx context.Context, l *layout.Layout, desc oci.Descriptor) (*FileList, error) {
	m, err := ReadManifest(l, desc)
	if err != nil {
		return nil, err
	}
	list := &FileList{root: &fileNode{dir: true}}
	for i, layer := range m.Layers {
		list.Layers = append(list.Layers, LayerUse{Layer: i, Digest: layer.Digest, Size: layer.Size})
		if !oci.IsLayer(layer.MediaType) {
			return nil, fmt.Errorf("layer %d, %s: it is of type %q, not a file system layer: %w", i, layer.Digest, layer.MediaType, oci.ErrMalformed)
		}
		if err := list.addLayer(ctx, l, i, layer); err != nil {
			return nil, fmt.Errorf("layer %d, %s: %w", i, layer.Digest, err)
		}
	}
	return list, nil
}

func (f *FileList) addLayer(ctx context.Context, l *layout.Layout, i int, desc oci.Descriptor) error {
	blob, err := l.Blob(desc)
	if err != nil {
		return err
	}
	defer blob.Close()
	plain, _, err := tarutil.Decompress(blob)
	if err != nil {
		return err
	}
	check := &tarutil.Checker{AllowNoEnd: true}
	tee := io.TeeReader(plain, check)
	in := tar.NewReader(tee)
	for {
		hdr, err := in.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = f.add(i, hdr)
		}
		if err != nil {
			return err
		}
	}
	// The rest counts too: padding for the tar, the end of the blob for its digest.
	if err := copyAll(ctx, io.Discard, tee); err != nil {
		return err
	}
	if err := check.Close(); err != nil {
		return err
	}
	return copyAll(ctx, io.Discard, blob)
}

// A fileNode is a name in the tree of the image.
type fileNode struct {
	name     string
	parent   *fileNode
	children map[string]*fileNode
	dir      bool   // also a directory that no entry made
	now      *entry // what the image shows
	past     []*entry
}

// An entry is what a layer holds under a name.
type entry struct {
	hdr    File
	target *entry // of a hard link: who has the bytes
	names  int    // that lead to the bytes
	fate   Fate
	by     int
}

// Limits of names, as of Linux.
const (
	maxLinks = 40
	maxPath  = 4096
)

// add takes one entry of layer i.
func (f *FileList) add(i int, hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if f.count++; f.count > tarutil.DefaultMaxEntries {
		return fmt.Errorf("%w: over %d in all layers", tarutil.ErrTooMany, tarutil.DefaultMaxEntries)
	}
	name := path.Clean("/" + hdr.Name)[1:]
	if len(name) >= maxPath {
		return fmt.Errorf("entry %.80q…: a name of %d bytes: %w", name, len(name), tarutil.ErrBadPath)
	}
	if slices.Contains(strings.Split(hdr.Name, "/"), "..") {
		return fmt.Errorf("entry %q: %w", hdr.Name, tarutil.ErrBadPath)
	}
	dirName, base := path.Split(name)
	dir, err := f.directory(i, dirName, 0)
	if err != nil {
		return fmt.Errorf("entry %q: %w", hdr.Name, err)
	}
	if rest, ok := strings.CutPrefix(base, ".wh."); ok {
		return f.whiteout(i, dir, rest)
	}
	e := &entry{hdr: fileOf(i, hdr), names: 1}
	use := &f.Layers[i]
	use.Files++
	use.Bytes += e.hdr.Size
	if name == "" {
		f.root.replace(f, e)
		return nil
	}
	if hdr.Typeflag == tar.TypeLink {
		link := path.Clean("/" + hdr.Linkname)[1:]
		target, err := f.lookup(i, link)
		if err != nil || target == nil || target.dir || target.now == nil {
			return fmt.Errorf("entry %q: hard link to %q, which is no file before it: %w", hdr.Name, hdr.Linkname, tarutil.ErrMalformed)
		}
		e.target = target.now.bytes()
		e.target.names++
	}
	dir.child(base).replace(f, e)
	return nil
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

// directory returns the directory that a name leads to, and makes what is missing of it.
// Links are followed as in a process whose root is that of the image.
func (f *FileList) directory(i int, name string, links int) (*fileNode, error) {
	at := f.root
	parts := strings.Split(name, "/")
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		next := at.child(part)
		switch {
		case next.now != nil && next.now.hdr.Type == "l":
			if links++; links > maxLinks {
				return nil, fmt.Errorf("over %d symbolic links: %w", maxLinks, tarutil.ErrBadPath)
			}
			if strings.HasPrefix(next.now.hdr.Link, "/") {
				at = f.root
			}
			parts = append(strings.Split(next.now.hdr.Link, "/"), parts...)
		case next.now != nil && !next.dir: // a file gives way to what is in it
			next.now.end(f, Replaced, i)
			next.past, next.now, next.dir = append(next.past, next.now), nil, true
			at = next
		default:
			next.dir = true
			at = next
		}
	}
	return at, nil
}

// lookup returns the node of a name, or nil if there is none.
func (f *FileList) lookup(i int, name string) (*fileNode, error) {
	dirName, base := path.Split(name)
	dir, err := f.directory(i, dirName, 0)
	if err != nil {
		return nil, err
	}
	return dir.children[base], nil
}

func (n *fileNode) child(name string) *fileNode {
	c := n.children[name]
	if c == nil {
		c = &fileNode{name: name, parent: n}
		if n.children == nil {
			n.children = map[string]*fileNode{}
		}
		n.children[name] = c
	}
	return c
}

// replace puts e in the place of what is there.
func (n *fileNode) replace(f *FileList, e *entry) {
	if n.now != nil {
		n.now.end(f, Replaced, e.hdr.Layer)
		n.past = append(n.past, n.now)
	}
	n.now = e
	isDir := e.hdr.Type == "d"
	if n.dir && !isDir {
		for _, c := range n.children {
			c.remove(f, Replaced, e.hdr.Layer, e.hdr.Layer+1)
		}
	}
	n.dir = isDir
}

// remove ends what is there and below, as far as it comes from layers under the given one.
func (n *fileNode) remove(f *FileList, fate Fate, by, under int) {
	keep := false
	for _, c := range n.children {
		c.remove(f, fate, by, under)
		keep = keep || c.dir || c.now != nil
	}
	if n.now != nil && n.now.hdr.Layer < under {
		n.now.end(f, fate, by)
		n.past, n.now = append(n.past, n.now), nil
	}
	n.dir = n.dir && (n.now != nil || keep)
}

// whiteout hides what lower layers have.
func (f *FileList) whiteout(i int, dir *fileNode, rest string) error {
	switch {
	case rest == ".wh..opq":
		for _, c := range dir.children {
			c.remove(f, Deleted, i, i)
		}
	case strings.HasPrefix(rest, ".wh."): // AUFS had more of them; they mean nothing
	case rest == "", rest == ".", rest == "..":
		return fmt.Errorf("entry %q: a whiteout of nothing: %w", ".wh."+rest, tarutil.ErrMalformed)
	default:
		if c := dir.children[rest]; c != nil {
			c.remove(f, Deleted, i, i)
		}
	}
	return nil
}

// bytes returns the entry that has the bytes.
func (e *entry) bytes() *entry {
	if e.target != nil {
		return e.target
	}
	return e
}

// end notes the fate of an entry. Its bytes are wasted once no name leads to them.
func (e *entry) end(f *FileList, fate Fate, by int) {
	e.fate, e.by = fate, by
	b := e.bytes()
	if b.names--; b.names == 0 {
		f.Layers[b.hdr.Layer].Wasted += b.hdr.Size
	}
}

// Walk calls fn for each entry that the image shows at name and below, or with all also for
// those that it does not show, in the order of their names; the root is "". It reports
// whether there was anything.
func (f *FileList) Walk(name string, all bool, fn func(File) error) (found bool, err error) {
	n := f.root
	for part := range strings.SplitSeq(path.Clean("/" + name)[1:], "/") {
		if part != "" && n != nil {
			n = n.children[part]
		}
	}
	if n == nil {
		return false, nil
	}
	at := ""
	for p := n; p.parent != nil; p = p.parent {
		at = path.Join(p.name, at)
	}
	err = n.walk(at, all, func(file File) error { found = true; return fn(file) })
	return found, err
}

func (n *fileNode) walk(at string, all bool, fn func(File) error) error {
	show := func(e *entry) error {
		file := e.hdr
		file.Path, file.Fate, file.FateBy = at, e.fate, e.by
		return fn(file)
	}
	if all {
		for _, e := range n.past {
			if err := show(e); err != nil {
				return err
			}
		}
	}
	if n.now != nil {
		if err := show(n.now); err != nil {
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
