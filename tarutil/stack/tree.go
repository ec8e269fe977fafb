package stack

import (
	"archive/tar"
	"fmt"
	"strings"
	"time"

	"ocikit/tarutil"
)

// The limits of Linux for the links in one name.
const (
	maxLinkHops  = 40   // links in one name
	maxLinkSteps = 2048 // components looked at, from the first link on
)

// A stackTree is the file system that layers make up, keyed by real path: no name in it
// leads through a link.
type stackTree struct {
	root   *node
	names  map[childKey]*node
	layer  int32 // the one that is being applied
	entry  int32 // its entry that is being applied
	limit  int
	base   int32             // layers below the result
	lost   map[childKey]bool // names of these that were removed; true if of a directory
	watch  Observer          // may be nil
	budget *tarutil.Budget

	staged   stagedFile       // what is known of the file that is being applied
	discard  func(*stackFile) // is called for regular files without a name; may be nil
	surprise *surpriser       // may be nil
	lastDir  string           // the directory of the entry before,
	last     *node            // and what it led to; nil if that may have changed

	placedLast *node // the name that got the file of an entry last
	disturbed  bool  // a name lost its file, or a directory that a walk has met its attributes
}

type childKey struct {
	dir  *node
	name string
}

// A node is one name of a file.
type node struct {
	name         string
	dir          *node // nil for the root
	child        *node // of a directory: one in it, the others follow it
	next, prev   *node
	file         *stackFile
	layer, entry int32 // that put the name there
	pathLen      int32
	removed      bool
	hidden       int32 // one more than the layer that hid what lower ones have in it
	touched      int32 // one more than the layer that touched what lower ones have in it
}

// A stackFile is a file, with whatever names it has.
type stackFile struct {
	flag    byte
	implied bool  // a directory that no entry is for
	layer   int32 // of its entry, or the entry that it was made for
	entry   int32 // its number in the layer
	walk    int32 // the walk that it was last met in
	many    bool  // it has several names; set by Stack.index
	names   int32 // that it has while layers are applied
	first   *node // the first of its names to be put there; set by Stack.index
	target  string
	lacks   lack        // of a regular file on a stage
	attrs   *attributes // nil for regular files, until a walk comes to one of many names; see stagedFile
}

// A stagedFile is what a stage says of a regular file that it holds.
type stagedFile struct {
	later *attributes // kept as those of the file, if it gets some of them with its name
	lacks lack
}

// attributes is what headers of all types say about a file.
type attributes struct {
	mode         int32
	nano         int32
	uid, gid     uint32
	sec          int64
	major, minor int32
	records      map[string]string
}

// newAttributes returns the attributes in hdr, which an [tarutil.EntryReader] gave: its owner and its
// device number fit.
func newAttributes(hdr *tar.Header) *attributes {
	a := &attributes{
		mode: int32(hdr.Mode & 0o7777),
		uid:  uint32(hdr.Uid), gid: uint32(hdr.Gid),
		records: tarutil.ImageRecords(hdr.PAXRecords),
	}

	if !hdr.ModTime.IsZero() {
		a.sec, a.nano = hdr.ModTime.Unix(), int32(hdr.ModTime.Nanosecond())
	}

	// The mode in the header of a link means nothing.
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		a.mode = 0o777
	case tar.TypeChar, tar.TypeBlock:
		a.major, a.minor = int32(hdr.Devmajor), int32(hdr.Devminor)
	}

	return a
}

// header returns a header with these attributes.
func (a *attributes) header(flag byte, name, target string, size int64) *tar.Header {
	return &tar.Header{
		Typeflag: flag, Name: name, Linkname: target, Size: size,
		Mode: int64(a.mode), Uid: int(a.uid), Gid: int(a.gid),
		ModTime:  time.Unix(a.sec, int64(a.nano)),
		Devmajor: int64(a.major), Devminor: int64(a.minor),
		PAXRecords: a.records,
	}
}

// impliedAttrs is what directories have that no entry is for.
func impliedAttrs() *attributes { return &attributes{mode: 0o755} }

func newStackTree(limit, base int, watch Observer) *stackTree {
	t := &stackTree{budget: tarutil.NewBudget(0), limit: limit, base: int32(base), names: make(map[childKey]*node), lost: make(map[childKey]bool), watch: watch}
	t.root = &node{file: t.impliedDir()}
	return t
}

func (t *stackTree) impliedDir() *stackFile {
	return &stackFile{flag: tar.TypeDir, implied: true, layer: t.layer, entry: t.entry, attrs: impliedAttrs()}
}

// apply applies one entry. Its header is from an [tarutil.EntryReader], which has cleaned its names.
func (t *stackTree) apply(hdr *tar.Header, entry int32) error {
	t.entry = entry
	dir, base := tarutil.SplitPath(hdr.Name)

	// Files in a directory that AUFS keeps for itself are ignored.
	switch ignore, err := tarutil.CheckWhiteoutDir(dir); {
	case err != nil || ignore:
		return err
	case strings.HasPrefix(base, tarutil.WhiteoutPrefix):
		return t.whiteout(dir, base)
	case hdr.Typeflag == tar.TypeLink:
		return t.link(hdr, dir, base)
	}

	file, err := t.newFile(hdr)
	if err != nil {
		return err
	}

	// The root is always there and has no name: an entry for it brings attributes only.
	n := t.root
	if hdr.Name == "" {
		t.gone(n, false)
		t.give(n, file)
	} else if n, err = t.put(dir, base, file); err != nil {
		return err
	}

	t.surprise.places(n)
	return t.placed(n, hdr)
}

// What is held of a name and of a file, in bytes, with the maps that lead to it.
const (
	nodeMemory = 200
	fileMemory = 140
)

// memory returns what f takes of the budget. That of directories that no entry is for is in their names'.
func (f *stackFile) memory() int {
	if f.implied {
		return 0
	}
	size := fileMemory + len(f.target)
	if f.attrs != nil {
		size += tarutil.RecordsMemory(f.attrs.records)
	}
	return size
}

// give makes f the file that n is a name of, in place of the one before.
func (t *stackTree) give(n *node, f *stackFile) {
	f.names++
	t.drop(n.file)
	n.file = f
}

// drop takes a name away from f. With the last one its memory is given back.
func (t *stackTree) drop(f *stackFile) {
	if f.names--; f.names > 0 {
		return
	}
	t.budget.Give(f.memory())
	if t.discard != nil && f.flag == tar.TypeReg {
		t.discard(f)
	}
}

// newFile returns the file that an entry holds. Its memory is taken from the budget.
func (t *stackTree) newFile(hdr *tar.Header) (*stackFile, error) {
	// The attributes of regular files are read again with their contents, or on the stage already.
	f := &stackFile{flag: hdr.Typeflag, layer: t.layer, entry: t.entry}
	switch f.flag {
	case 0, tar.TypeCont, tar.TypeGNUSparse, tar.TypeReg:
		f.flag, f.attrs, f.lacks = tar.TypeReg, t.staged.later, t.staged.lacks
		return f, t.budget.Take(f.memory())
	case tar.TypeSymlink:
		f.target = strings.Clone(hdr.Linkname)
	case tar.TypeDir, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return nil, fmt.Errorf("%w: unknown type flag %q", tarutil.ErrMalformed, f.flag)
	}

	f.attrs = newAttributes(hdr)
	return f, t.budget.Take(f.memory())
}

// put gives file the name base in dir.
func (t *stackTree) put(dirPath, base string, file *stackFile) (*node, error) {
	dir, err := t.walk(dirPath, true)
	if err != nil {
		return nil, err
	}

	t.surprise.into(dir)
	n := t.names[childKey{dir, base}]
	if n == nil {
		return t.add(dir, base, file)
	}

	// A directory over a directory keeps what is in it; all else takes the place of what was there
	// (layer.md, "Applying Changesets").
	t.surprise.meets(n, file)
	if n.file.flag == tar.TypeDir && file.flag == tar.TypeDir {
		t.gone(n, false)
	} else {
		t.replace(n)
	}

	t.give(n, file)
	return n, nil
}

// replace makes n a name of the current layer, for another file than before.
func (t *stackTree) replace(n *node) {
	t.last = nil
	t.note(n)
	t.gone(n, false)
	if n.file.flag == tar.TypeDir {
		t.clear(n)
	}
	n.layer, n.entry = t.layer, t.entry
}

// link gives a file one more name. The target is looked up before a directory is made for the new
// name, which may take the place of the target.
func (t *stackTree) link(hdr *tar.Header, dirPath, base string) error {
	targetDir, targetBase := tarutil.SplitPath(hdr.Linkname)
	dir, err := t.walk(targetDir, false)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}

	target := t.names[childKey{dir, targetBase}]
	switch {
	case dir == nil || target == nil:
		return fmt.Errorf("%w: hard link to %q, which is not there", tarutil.ErrMalformed, hdr.Linkname)
	case target.file.flag == tar.TypeDir:
		return fmt.Errorf("%w: hard link to %q, which is a directory", tarutil.ErrMalformed, hdr.Linkname)
	}

	t.surprise.links(hdr.Name, target)
	file := target.file
	file.names++ // it stays, even if its name is now replaced
	defer t.drop(file)
	if dir, err = t.walk(dirPath, true); err != nil {
		return err
	}

	n := t.names[childKey{dir, base}]
	t.surprise.linksOver(n, target)
	if n != nil && n.file == file { // the same file by two names already, or a link to itself
		t.surprise.meets(n, file)
		t.note(n)
		t.gone(n, false)
		n.layer, n.entry = t.layer, t.entry
	} else if n, err = t.put(dirPath, base, file); err != nil {
		return err
	}

	return t.placed(n, hdr)
}

// whiteout hides what lower layers have: one name, or with the opaque whiteout all in a directory.
func (t *stackTree) whiteout(dirPath, base string) error {
	name := base[len(tarutil.WhiteoutPrefix):]
	if base != tarutil.OpaqueName && strings.HasPrefix(base, tarutil.AufsPrefix) {
		return nil
	}

	dir, err := t.walk(dirPath, false)
	if err != nil {
		return err
	}

	if base == tarutil.OpaqueName {
		name = ""
	}

	// Nothing may be there to hide: that is not an error.
	t.surprise.hides(tarutil.JoinPath(dirPath, base), dir, name)
	if dir == nil {
		return nil
	}

	if name != "" {
		if n := t.names[childKey{dir, name}]; n != nil {
			t.hide(n)
		}
		return nil
	}

	t.hideIn(dir)
	return nil
}

// hideIn hides what is in a directory. The second time in a layer there is nothing to do.
func (t *stackTree) hideIn(dir *node) {
	if dir.hidden == t.layer+1 {
		return
	}
	dir.hidden = t.layer + 1
	for n := dir.child; n != nil; {
		next := n.next
		t.hide(n)
		n = next
	}
}

// hide removes n, as far as it is of lower layers.
func (t *stackTree) hide(n *node) {
	if n.file.flag != tar.TypeDir {
		if n.layer < t.layer {
			t.remove(n, true)
		}
		return
	}

	t.hideIn(n)
	switch {
	case n.file.layer == t.layer: // an entry of this layer, or there for one
	case n.child == nil:
		t.remove(n, true)
	default: // something of this layer is left in it, so that a directory has to stay
		t.note(n)
		t.gone(n, true)
		t.give(n, t.impliedDir())
		n.layer, n.entry = t.layer, t.entry
	}
}

// clear removes all that is in n.
func (t *stackTree) clear(n *node) {
	for c := n.child; c != nil; {
		next := c.next
		if c.file.flag == tar.TypeDir {
			t.clear(c)
		}
		t.remove(c, false)
		c = next
	}
}

// remove removes n, which is not a directory or holds nothing.
func (t *stackTree) remove(n *node, whiteout bool) {
	t.last = nil
	t.note(n)
	t.gone(n, whiteout)
	delete(t.names, childKey{n.dir, n.name})

	if n.prev != nil {
		n.prev.next = n.next
	} else {
		n.dir.child = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	}

	n.removed = true // for maps that n is still a key of
	t.drop(n.file)
	t.budget.Give(nodeMemory + len(n.name))
}

// note takes down that the layers below the result have n, if so, and that the result has not: it
// needs a whiteout.
func (t *stackTree) note(n *node) {
	if n.layer < t.base && t.layer >= t.base {
		t.lost[childKey{n.dir, n.name}] = n.file.flag == tar.TypeDir
	}
}

// add makes a new name.
func (t *stackTree) add(dir *node, name string, file *stackFile) (*node, error) {
	length := dir.pathLen + int32(len(name)) + 1
	switch {
	case len(name) > tarutil.MaxComponent:
		return nil, fmt.Errorf("%w: a component of %d bytes, over the limit of %d", tarutil.ErrBadPath, len(name), tarutil.MaxComponent)
	case length > tarutil.MaxPathLen:
		return nil, fmt.Errorf("%w: a path of %d bytes, over the limit of %d", tarutil.ErrBadPath, length, tarutil.MaxPathLen)
	case len(t.names) >= t.limit:
		return nil, fmt.Errorf("%w: the limit is %d", tarutil.ErrTooMany, t.limit)
	}

	if err := t.budget.Take(nodeMemory + len(name)); err != nil {
		return nil, err
	}

	// The name is a part of a header's, which need not be kept for it.
	n := &node{name: strings.Clone(name), dir: dir, file: file, layer: t.layer, entry: t.entry, pathLen: length, next: dir.child}
	if n.next != nil {
		n.next.prev = n
	}

	file.names++
	dir.child = n
	key := childKey{dir, n.name}
	t.names[key] = n
	t.surprise.makes(key, n)
	return n, nil
}

// walk returns the directory that path leads to, following links as in a chroot. Directories
// that are missing are made if create is set; else the result is nil if path leads to no
// directory.
func (t *stackTree) walk(path string, create bool) (*node, error) {
	if t.last != nil && path == t.lastDir {
		return t.last, nil
	}

	at, hops, steps := t.root, 0, 0
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")

		// Each target may have thousands of components, so these are counted as well as the links.
		if hops > 0 {
			steps++
		}

		switch name {
		case "", ".":
			continue
		case "..":
			if at.dir != nil {
				at = at.dir
			}
			continue
		}

		n := t.names[childKey{at, name}]
		switch {
		case n == nil && !create:
			return nil, nil
		case n == nil:
			var err error
			if n, err = t.add(at, name, t.impliedDir()); err != nil {
				return nil, err
			}
			t.surprise.makesWithin(n, rest)
		case n.file.flag == tar.TypeSymlink:
			if hops++; hops > maxLinkHops || steps > maxLinkSteps {
				return nil, fmt.Errorf("%w: too many symbolic links at %q", tarutil.ErrBadPath, n.path())
			}
			t.surprise.follows(n)

			// The search goes on with the target, from the directory of the link or from the root.
			if n.file.target[0] == '/' {
				at = t.root
			}
			rest = n.file.target + "/" + rest
			continue
		case n.file.flag == tar.TypeDir:
		case !create:
			return nil, nil
		case hops > 0 || n.layer == t.layer: // a file that a link leads to, or of the same layer, stays
			return nil, fmt.Errorf("%w: %q is not a directory", tarutil.ErrMalformed, n.path())
		default:
			t.replace(n)
			t.give(n, t.impliedDir())
		}

		at = n
	}

	// Tars are written directory by directory, so the next entry often has the same one.
	t.lastDir, t.last = path, at
	return at, nil
}

// path returns the path of n.
func (n *node) path() string {
	size := int(n.pathLen) - 1
	if size <= 0 {
		return ""
	}
	buf := make([]byte, size)
	for ; n.dir != nil; n = n.dir {
		size -= len(n.name)
		copy(buf[size:], n.name)
		if size > 0 {
			size--
			buf[size] = '/'
		}
	}
	return string(buf)
}

// children returns the names in n, in tree order.
func (n *node) children() []*node {
	var list []*node
	for c := n.child; c != nil; c = c.next {
		list = append(list, c)
	}
	sortNodes(list)
	return list
}
