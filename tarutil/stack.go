package tarutil

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// A Stack is the file system that layers make up; [Apply] returns it. It is a [Tree]. It is
// not safe for concurrent use.
type Stack struct {
	layers []Layer
	opts   ApplyOptions
	tree   *stackTree
	names  [][]*node // those left of each layer, in the order of its entries
	walks  int32
}

// Files returns the number of names in the stack; the root is not counted.
func (s *Stack) Files() int { return len(s.tree.names) }

// index sorts all names by the layer and entry that they come with: the first name of a
// file, or the only one, with the file itself, the others with the hard links that they are.
func (s *Stack) index() {
	s.names = make([][]*node, len(s.layers))
	if len(s.layers) == 0 {
		return
	}
	s.tree.root.visit(func(n *node) {
		f := n.file
		f.many = f.first != nil
		if f.first == nil || n.before(f.first) {
			f.first = n
		}
	})
	s.tree.root.visit(func(n *node) {
		layer := n.layer
		if n.isFirst() {
			layer = n.file.layer
		}
		s.names[layer] = append(s.names[layer], n)
	})
	for _, names := range s.names {
		// Several may come with one entry: the directories that were made for it.
		slices.SortStableFunc(names, func(a, b *node) int { return cmp.Compare(a.place(), b.place()) })
	}
}

// visit calls fn for n and all below it, in tree order.
func (n *node) visit(fn func(*node)) {
	fn(n)
	if n.file.flag == typeDir {
		for _, c := range n.children() {
			c.visit(fn)
		}
	}
}

func (n *node) isFirst() bool { return n.file.first == n }

// before says whether n was put there before the name m.
func (n *node) before(m *node) bool {
	return cmp.Or(cmp.Compare(n.layer, m.layer), cmp.Compare(n.entry, m.entry)) < 0
}

// place returns the entry, of its layer, that the name comes with.
func (n *node) place() int32 {
	if n.isFirst() {
		return n.file.entry
	}
	return n.entry
}

func sortNodes(list []*node) {
	slices.SortFunc(list, func(a, b *node) int { return compareNames(a.name, b.name) })
}

// Walk calls fn for each file: in the order of the layers and of their entries, but for
// directories, which come before what is in them. The order depends on the layers alone, and
// for a single one is its own. The root comes only if a layer has an entry for it; its Name is
// empty.
//
// If the stack is one layer above [ApplyOptions].Base others, whiteouts for what it removes
// come first, and files come that differ from what these have: a file with all its names,
// since a hard link to a file of another layer would make a copy.
func (s *Stack) Walk(ctx context.Context, fn func(TreeEntry) error) error {
	s.walks++
	w := &stackWalk{s: s, fn: fn, upper: make(map[*stackFile]bool)}
	for _, names := range s.names {
		for _, n := range names {
			if n.file.flag != typeDir && n.file.layer < s.tree.base && n.layer >= s.tree.base {
				w.upper[n.file] = true
			}
		}
	}
	if err := w.whiteouts(); err != nil {
		return err
	}
	for i := range s.layers {
		if err := w.layer(ctx, i); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// A stackWalk is one run of Walk.
type stackWalk struct {
	s     *Stack
	fn    func(TreeEntry) error
	upper map[*stackFile]bool // files of the layers below the result with names that are not

	xattrs int // size of the extended attributes of files with several names
}

// layer emits what comes with a layer. It opens it only if contents are wanted of it.
func (w *stackWalk) layer(ctx context.Context, i int) error {
	var in *layerEntries
	for _, n := range w.s.names[i] {
		if !w.wanted(n) {
			continue
		}
		if err := w.above(n); err != nil {
			return err
		}
		f := n.file
		if f.flag != typeReg || !n.isFirst() {
			if err := w.plain(n); err != nil {
				return err
			}
			continue
		}
		if in == nil {
			var err error
			if in, err = openEntries(ctx, w.s.layers[i], w.s.opts.MaxSparse); err != nil {
				return layerError(w.s.layers[i], err)
			}
			defer in.Close()
		}
		attrs, size, err := in.seek(f)
		if err != nil {
			return layerError(w.s.layers[i], err)
		}
		if f.many {
			f.attrs = attrs // for its further names
			if w.xattrs += recordsSize(attrs.records); w.xattrs > maxXattrs {
				return layerError(w.s.layers[i], in.check.entryError(errXattrs))
			}
		}
		hdr := attrs.header(typeReg, n.path(), "", size)
		if err := w.fn(TreeEntry{Header: hdr, Content: in}); err != nil {
			return err
		}
	}
	if in == nil {
		return nil
	}
	if err := in.drain(); err != nil {
		return layerError(w.s.layers[i], err)
	}
	return nil
}

// plain emits what needs no content.
func (w *stackWalk) plain(n *node) error {
	f := n.file
	switch {
	case f.flag == typeDir:
		if f.walk == w.s.walks {
			return nil
		}
		f.walk = w.s.walks
	case !n.isFirst():
		return w.fn(TreeEntry{Header: asLink(*f.attrs.header(f.flag, n.path(), "", 0), f.first.path())})
	}
	return w.fn(TreeEntry{Header: f.attrs.header(f.flag, n.path(), f.target, 0)})
}

// seek goes on to the entry of the regular file f, and returns its attributes and its size.
func (in *layerEntries) seek(f *stackFile) (*attributes, int64, error) {
	for {
		hdr, err := in.next()
		if err == io.EOF {
			return nil, 0, fmt.Errorf("%w: it has fewer entries than before", ErrChanged)
		}
		if err != nil {
			return nil, 0, err
		}
		if in.index < f.entry {
			continue
		}
		if !isRegular(hdr.Typeflag) {
			return nil, 0, in.check.entryError(ErrChanged)
		}
		attrs, err := newAttributes(hdr)
		if err != nil {
			return nil, 0, in.check.entryError(err)
		}
		return attrs, hdr.Size, nil
	}
}

// drain reads the rest, so that the layer is verified.
func (in *layerEntries) drain() error {
	for {
		if _, err := in.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func isRegular(flag byte) bool {
	return flag == typeReg || flag == 0 || flag == tar.TypeCont || flag == tar.TypeGNUSparse
}

// wanted says whether n is in the result, and is not only there to lead to others.
func (w *stackWalk) wanted(n *node) bool {
	if n.dir == nil && n.file.implied {
		return false
	}
	return w.s.tree.base == 0 || n.file.layer >= w.s.tree.base || w.upper[n.file]
}

// above emits the directories that n is in, as far as they were not yet.
func (w *stackWalk) above(n *node) error {
	dir := n.dir
	if dir == nil || dir.file.walk == w.s.walks {
		return nil
	}
	if err := w.above(dir); err != nil {
		return err
	}
	dir.file.walk = w.s.walks
	if dir.dir == nil && (dir.file.implied || dir.file.layer < w.s.tree.base) {
		return nil // the root is there without an entry
	}
	return w.fn(TreeEntry{Header: dir.file.attrs.header(typeDir, dir.path(), "", 0)})
}

// whiteouts emits those for what the layers below have, and the result does not.
func (w *stackWalk) whiteouts() error {
	t := w.s.tree
	var names []string
	dirs := make(map[string]*node) // that they are in
	opaque := make(map[*node]bool)
	for key, wasDir := range t.lost {
		if n := t.names[key]; n != nil && wasDir && n.file.flag == typeDir {
			opaque[n] = true
			names = append(names, joinPath(n.path(), opaqueName))
			dirs[names[len(names)-1]] = n
		}
	}
	for key := range t.lost {
		if t.names[key] == nil && !key.dir.removed && key.dir.file.flag == typeDir && !opaque[key.dir] {
			names = append(names, joinPath(key.dir.path(), whiteoutPrefix+key.name))
			dirs[names[len(names)-1]] = key.dir
		}
	}
	slices.SortFunc(names, comparePaths)
	for _, name := range names {
		dir := dirs[name]
		if err := w.above(&node{dir: dir}); err != nil {
			return err
		}
		if err := w.fn(TreeEntry{Header: &tar.Header{Typeflag: typeReg, Name: name, Mode: 0o644}, Content: strings.NewReader("")}); err != nil {
			return err
		}
	}
	return nil
}

// WriteTar writes the stack to w as a tar, in the order of [Stack.Walk]: a second run over
// the layers gives the same bytes. Contents stream through. Of owners the numbers are
// written, of extended attributes those that [XattrsAll] keeps.
func (s *Stack) WriteTar(ctx context.Context, w io.Writer) error {
	tw := NewWriter(w)
	err := s.Walk(ctx, func(e TreeEntry) error {
		if e.Header.Name == "" {
			e.Header.Name = "./"
		}
		if err := tw.WriteHeader(e.Header); err != nil {
			return err
		}
		if e.Header.Typeflag != typeReg {
			return nil
		}
		if _, err := tw.ReadFrom(e.Content); err != nil {
			return fmt.Errorf("entry %q: %w", e.Header.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

// Resolve returns the real path of what a name means in the image: all links are followed
// as in a chroot, the last one too. An error wraps fs.ErrNotExist if there is nothing.
func (s *Stack) Resolve(name string) (string, error) {
	n, err := s.resolve(name)
	if err != nil {
		return "", err
	}
	return n.path(), nil
}

func (s *Stack) resolve(name string) (*node, error) {
	t := s.tree
	rest := name
	for range maxLinkHops {
		dirPath, base := splitPath(strings.TrimRight(rest, "/"))
		if base == "." || base == ".." {
			dirPath, base = rest, ""
		}
		dir, err := t.walk(dirPath, false)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		n := dir
		if dir != nil && base != "" {
			n = t.names[childKey{dir, base}]
		}
		if n == nil {
			return nil, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
		}
		if n.file.flag != typeSymlink {
			return n, nil
		}
		rest = n.file.target
		if rest[0] != '/' {
			rest = dir.path() + "/" + rest
		}
	}
	return nil, fmt.Errorf("%q: %w: too many symbolic links", name, ErrBadPath)
}
