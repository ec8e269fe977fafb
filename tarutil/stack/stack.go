// Package stack finds out what file system a stack of layers makes up.
//
// Each layer is a tar of changes to the layers below it. [Apply] reads the headers of all layers
// and keeps one tree of names in memory, each with the number of the layer and the entry that its
// content comes from. The [Stack] that it returns reads the layers a second time for the contents
// that are left: [Stack.Walk] hands them out, and [Stack.WriteTar] writes them as one tar.
// [Stack.Select] keeps some paths only. [Extract] applies layers and writes their files in one
// reading. An [Observer] is told what becomes of each entry.
//
// # Design
//
// No name of a layer ever reaches the system as a path. The tree is keyed by real paths: links
// are followed in it, as in a chroot, and what is extracted is made by one name in the
// handle of its directory.
package stack

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"ocikit/tarutil"
)

// A Stack is the file system that layers make up; [Apply] returns it. It is a [tarutil.Tree]. It is
// not safe for concurrent use.
type Stack struct {
	layers []Layer
	opts   Options
	tree   *stackTree
	names  [][]tarutil.PathID // those left of each layer, in the order of its entries
	walks  int32
}

// Files returns the number of names in the stack; the root is not counted.
func (s *Stack) Files() int { return s.tree.count }

// index lists the names that come with the entries of each layer. The first name of a file comes
// with the file's own entry, each further one with the hard link that made it.
func (s *Stack) index() {
	s.names = make([][]tarutil.PathID, len(s.layers))
	if len(s.layers) == 0 {
		return
	}

	// The name that was put there first is the one that the content is written under.
	t := s.tree
	t.visit(t.root, func(n *node) {
		if f := t.file(n); f.first == 0 || n.before(t.nodes.At(uint32(f.first))) {
			f.first = n.id
		}
	})

	t.visit(t.root, func(n *node) {
		// The entry with the content may be of a lower layer than its first name: the name that it
		// had itself may be gone.
		layer := n.layer
		if t.isFirst(n) {
			layer = t.file(n).layer
		}
		s.names[layer] = append(s.names[layer], n.id)
	})

	for _, names := range s.names {
		// Several may come with one entry: the directories that were made for it.
		slices.SortStableFunc(names, func(a, b tarutil.PathID) int { return cmp.Compare(t.place(a), t.place(b)) })
	}
}

// visit calls fn for n and all below it, in tree order.
func (t *stackTree) visit(n *node, fn func(*node)) {
	fn(n)
	if t.isDir(n) {
		for _, c := range t.children(n) {
			t.visit(c, fn)
		}
	}
}

func (t *stackTree) isFirst(n *node) bool { return t.file(n).first == n.id }

// before says whether n was put there before the name m.
func (n *node) before(m *node) bool {
	return cmp.Or(cmp.Compare(n.layer, m.layer), cmp.Compare(n.entry, m.entry)) < 0
}

// place returns the entry, of its layer, that a name comes with.
func (t *stackTree) place(id tarutil.PathID) int32 {
	n := t.nodes.At(uint32(id))
	if t.isFirst(n) {
		return t.file(n).entry
	}
	return n.entry
}

// Walk calls fn for each file: in the order of the layers and of their entries, but for
// directories, which come before what is in them. The order depends on the layers alone; that of
// a single layer is kept. The root comes only if a layer has an entry for it; its Name is empty.
// Content may be read until fn returns. An error of fn ends Walk, which returns it.
//
// If the stack is one layer above the [Options].Base lowest ones, Walk hands out that layer: first
// whiteouts for what it removes, then the files that differ from those below. Such a file comes
// with all its names, since a hard link to a file of another layer would make a copy.
func (s *Stack) Walk(ctx context.Context, fn func(tarutil.TreeEntry) error) error {
	s.walks++
	w := &stackWalk{s: s, fn: fn, upper: make(map[*stackFile]bool)}
	t := s.tree

	// A file of the layers below that has a new name is written whole, with all its names: a
	// hard link to a file of another layer would make a copy.
	for _, names := range s.names {
		for _, id := range names {
			n := t.nodes.At(uint32(id))
			if f := t.file(n); f.flag != tar.TypeDir && f.layer < t.base && n.layer >= t.base {
				w.upper[f] = true
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
	fn    func(tarutil.TreeEntry) error
	upper map[*stackFile]bool // files of the layers below the result with names that are not

	records tarutil.RecordsBudget // of files with several names
}

// layer emits what comes with layer i.
func (w *stackWalk) layer(ctx context.Context, i int) error {
	var in *layerEntries
	t := w.s.tree
	for _, id := range w.s.names[i] {
		n := t.nodes.At(uint32(id))
		if !w.wanted(n) {
			continue
		}

		if err := w.above(n); err != nil {
			return err
		}

		f := t.file(n)

		// Only the first name of a regular file needs the layer; for all else the tree knows enough.
		if f.flag != tar.TypeReg || !t.isFirst(n) {
			if err := w.plain(n); err != nil {
				return err
			}
			continue
		}

		// Layers of which nothing is left are never opened a second time.
		if in == nil {
			var err error
			if in, err = openEntries(ctx, w.s.layers[i], w.s.opts.MaxSparse); err != nil {
				return layerError(w.s.layers[i], err)
			}
			defer in.Close()
		}

		hdr, err := w.regular(in, n)
		if err != nil {
			return layerError(w.s.layers[i], err)
		}
		if err := w.fn(tarutil.TreeEntry{Header: hdr, Content: in}); err != nil {
			return err
		}
	}

	if in == nil {
		return nil
	}

	// Only at the end of the layer is it known whether its digest was right.
	if err := in.drain(); err != nil {
		return layerError(w.s.layers[i], err)
	}

	return nil
}

// regular seeks the first name of a regular file, and returns its header.
func (w *stackWalk) regular(in *layerEntries, n *node) (*tar.Header, error) {
	t := w.s.tree
	f := t.file(n)
	attrs, size, err := in.seek(f)
	if err != nil {
		return nil, err
	}

	// The tree holds no attributes of regular files, so that it stays small. Those of a file
	// with more names are kept for them from here on; some may come with later layers.
	if f.names > 1 {
		t.setAttributes(f, attrs)
		if err := w.records.Take(attrs.more().records); err != nil {
			return nil, in.EntryError(err)
		}
	}
	return attrs.header(tar.TypeReg, t.path(n), size), nil
}

// plain emits a name that needs no content: all but the first names of regular files. A directory
// may have been emitted for what is in it.
func (w *stackWalk) plain(n *node) error {
	t := w.s.tree
	f := t.file(n)
	switch {
	case f.flag == tar.TypeDir:
		if f.walk == w.s.walks {
			return nil
		}
		f.walk = w.s.walks
	case !t.isFirst(n):
		return w.fn(tarutil.TreeEntry{Header: tarutil.HardLink(*t.attributes(f).header(f.flag, t.path(n), 0), t.paths.Path(f.first))})
	}
	return w.fn(tarutil.TreeEntry{Header: t.attributes(f).header(f.flag, t.path(n), 0)})
}

// seek goes on to the entry of the regular file f, and returns its attributes and its size. The
// layer is read for the second time: that it holds something else now is an error.
func (in *layerEntries) seek(f *stackFile) (*attributes, int64, error) {
	for {
		hdr, err := in.next()
		if err == io.EOF {
			return nil, 0, fmt.Errorf("%w: it has fewer entries than before", tarutil.ErrChanged)
		}
		if err != nil {
			return nil, 0, err
		}
		if in.index < f.entry {
			continue
		}
		if !isRegular(hdr.Typeflag) {
			return nil, 0, in.EntryError(tarutil.ErrChanged)
		}
		return newAttributes(hdr), hdr.Size, nil
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
	return flag == tar.TypeReg || flag == 0 || flag == tar.TypeCont || flag == tar.TypeGNUSparse
}

// wanted says whether n is in the result, and is not only there to lead to others.
func (w *stackWalk) wanted(n *node) bool {
	t := w.s.tree
	f := t.file(n)
	if n == t.root && f.implied {
		return false
	}
	return t.base == 0 || f.layer >= t.base || w.upper[f]
}

// above emits the directories that n is in, as far as they were not yet.
func (w *stackWalk) above(n *node) error {
	if n == w.s.tree.root {
		return nil
	}
	return w.enter(w.s.tree.dir(n))
}

// enter emits a directory, and those that it is in, as far as they were not yet.
func (w *stackWalk) enter(dir *node) error {
	t := w.s.tree
	f := t.file(dir)
	if f.walk == w.s.walks {
		return nil
	}
	if err := w.above(dir); err != nil {
		return err
	}
	f.walk = w.s.walks
	if dir == t.root && (f.implied || f.layer < t.base) {
		return nil // the root is there without an entry
	}
	return w.fn(tarutil.TreeEntry{Header: t.attributes(f).header(tar.TypeDir, t.path(dir), 0)})
}

// whiteouts emits those for what the layers below have, and the result does not.
func (w *stackWalk) whiteouts() error {
	t := w.s.tree
	var names []string
	dirs := make(map[string]*node) // that the names are in
	opaque := make(map[*node]bool)

	// Of a directory that was removed, and is there again, nothing is left that could be hidden.
	maps.DeleteFunc(t.lost, func(id tarutil.PathID, l loss) bool { return t.dir(t.nodes.At(uint32(id))).removals != l.in })

	// A directory that took the place of a directory shows nothing of what that one held.
	for id, l := range t.lost {
		if n := t.nodes.At(uint32(id)); n.file != 0 && l.wasDir && t.isDir(n) {
			opaque[n] = true
			names = append(names, tarutil.JoinPath(t.path(n), tarutil.OpaqueName))
			dirs[names[len(names)-1]] = n
		}
	}

	// All other names that are lost get a whiteout each, unless a whiteout of their directory,
	// or its opaque mark, says it already.
	for id := range t.lost {
		n := t.nodes.At(uint32(id))
		if dir := t.dir(n); n.file == 0 && dir.file != 0 && t.isDir(dir) && !opaque[dir] {
			names = append(names, tarutil.JoinPath(t.path(dir), tarutil.WhiteoutPrefix+t.name(n)))
			dirs[names[len(names)-1]] = dir
		}
	}

	// The maps gave them in no order.
	slices.SortFunc(names, tarutil.ComparePaths)
	for _, name := range names {
		if err := w.enter(dirs[name]); err != nil {
			return err
		}
		if err := w.fn(tarutil.TreeEntry{Header: &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, Content: strings.NewReader("")}); err != nil {
			return err
		}
	}

	return nil
}

// WriteTar writes the stack to w as a tar, in the order of [Stack.Walk]: a second run over
// the layers gives the same bytes. Contents stream through. Of owners the numbers are
// written, of extended attributes those that [tarutil.XattrsAll] keeps. The end marker is written
// on success only, and w is not closed.
func (s *Stack) WriteTar(ctx context.Context, w io.Writer) error {
	tw := tarutil.NewWriter(w)
	if err := s.Walk(ctx, tarEntries(tw)); err != nil {
		return err
	}

	return tw.Close()
}

// tarEntries returns a function that writes each entry to tw.
func tarEntries(tw *tarutil.Writer) func(tarutil.TreeEntry) error {
	return func(e tarutil.TreeEntry) error {
		if e.Header.Name == "" { // the root, as tars spell it
			e.Header.Name = "./"
		}
		if err := tw.WriteHeader(e.Header); err != nil {
			return err
		}
		if e.Header.Typeflag != tar.TypeReg {
			return nil
		}
		if _, err := tw.ReadFrom(e.Content); err != nil {
			return fmt.Errorf("entry %q: %w", e.Header.Name, err)
		}
		return nil
	}
}

// Resolve returns the real path of what a name means in the image: all links are followed
// as in a chroot, the last one too. An error wraps fs.ErrNotExist if there is nothing, and
// [tarutil.ErrBadPath] if the links lead in circles.
func (s *Stack) Resolve(name string) (string, error) {
	n, err := s.resolve(name)
	if err != nil {
		return "", err
	}
	return s.tree.path(n), nil
}

func (s *Stack) resolve(name string) (*node, error) {
	t := s.tree
	rest := name
	for range maxLinkHops {
		// The directory is resolved with its links. The last name may be a link too; then the
		// search begins again with its target.
		dirPath, base := tarutil.SplitPath(strings.TrimRight(rest, "/"))

		// With "." or ".." at its end there is no last name, and all of it leads to a directory.
		if base == "." || base == ".." {
			dirPath, base = rest, ""
		}

		dir, err := t.walk(dirPath, false)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}

		n := dir
		if dir != nil && base != "" {
			n = t.find(dir, base)
		}
		if n == nil {
			return nil, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
		}

		f := t.file(n)
		if f.flag != tar.TypeSymlink {
			return n, nil
		}

		// A relative target begins at the directory of the link.
		rest = t.attributes(f).rare.target
		if rest[0] != '/' {
			rest = t.path(dir) + "/" + rest
		}
	}

	return nil, fmt.Errorf("%q: %w: too many symbolic links", name, tarutil.ErrBadPath)
}
