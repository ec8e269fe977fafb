package stack

import (
	"archive/tar"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unsafe"

	"ocikit/tarutil"
)

// The limits of Linux for the links in one name.
const (
	maxLinkHops  = 40   // links in one name
	maxLinkSteps = 2048 // components looked at, from the first link on
)

// A stackTree is the file system that layers make up, keyed by real path: no name in it
// leads through a link.
//
// A million names have to fit, so they are values in slabs that know each other by number: some 110
// bytes for a regular file, besides its name.
type stackTree struct {
	root   *node
	paths  *tarutil.PathTable
	nodes  tarutil.Slab[node] // by the number of the path
	files  tarutil.Slab[stackFile]
	attrs  tarutil.Slab[attributes]
	count  int   // names that something has
	layer  int32 // the one that is being applied
	entry  int32 // its entry that is being applied
	limit  int
	base   int32                   // layers below the result
	lost   map[tarutil.PathID]loss // names of these that were removed
	watch  Observer                // may be nil
	budget *tarutil.Budget

	staged   stagedFile       // what is known of the file that is being applied
	discard  func(*stackFile) // is called for regular files without a name; may be nil
	surprise *surpriser       // may be nil
	lastDir  string           // the directory of the entry before,
	last     *node            // and what it led to; nil if that may have changed

	placedLast *node // the name that got the file of an entry last
	disturbed  bool  // a name lost its file, or a directory that a walk has met its attributes
}

// A node is one name of a file. It stays when the file is removed, and may get another.
type node struct {
	id                tarutil.PathID
	child, next, prev tarutil.PathID // one in this directory, and its neighbours; 0 is none
	file              uint32         // 0 if nothing has the name
	layer, entry      int32          // that put the name there
	removals          int32          // how often it was removed as a directory
	hidden            int32          // one more than the layer that hid what lower ones have in it
	touched           int32          // one more than the layer that touched what lower ones have in it
}

// A loss is a name that the result has not, or not of the layers below it.
type loss struct {
	wasDir bool
	in     int32 // how often its directory had been removed: then the directory is another one
}

// A stackFile is a file, with whatever names it has.
type stackFile struct {
	id      uint32
	layer   int32          // of its entry, or the entry that it was made for
	entry   int32          // its number in the layer
	walk    int32          // the walk that it was last met in, if it is a directory
	names   int32          // that it has
	first   tarutil.PathID // the first of its names to be put there; set by Stack.index
	attrs   uint32         // 0 for regular files, until a walk comes to one of many names; see stagedFile
	lacks   lack           // of a regular file on a stage
	flag    byte
	implied bool // a directory that no entry is for
}

// A stagedFile is what a stage says of a regular file that it holds.
type stagedFile struct {
	later *attributes // kept as those of the file, if it gets some of them with its name
	lacks lack
}

// attributes is what headers of all types say about a file.
type attributes struct {
	sec      int64
	nano     int32
	uid, gid uint32
	mode     int32
	rare     *rareAttributes // nil if it has none
}

// rareAttributes are those of links and devices, and the records of a file.
type rareAttributes struct {
	target       string
	major, minor int32
	records      map[string]string
}

// newAttributes returns the attributes in hdr, which an [tarutil.EntryReader] gave: its owner and its
// device number fit.
func newAttributes(hdr *tar.Header) *attributes {
	a := &attributes{mode: int32(hdr.Mode & 0o7777), uid: uint32(hdr.Uid), gid: uint32(hdr.Gid)}
	if !hdr.ModTime.IsZero() {
		a.sec, a.nano = hdr.ModTime.Unix(), int32(hdr.ModTime.Nanosecond())
	}

	// The mode in the header of a link means nothing.
	rare := rareAttributes{records: tarutil.ImageRecords(hdr.PAXRecords)}
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		a.mode, rare.target = 0o777, strings.Clone(hdr.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		rare.major, rare.minor = int32(hdr.Devmajor), int32(hdr.Devminor)
	}
	if rare.target != "" || rare.major != 0 || rare.minor != 0 || rare.records != nil {
		a.rare = &rare
	}

	return a
}

// more returns the rare attributes, which may all be zero.
func (a *attributes) more() rareAttributes {
	if a.rare == nil {
		return rareAttributes{}
	}
	return *a.rare
}

// header returns a header with these attributes.
func (a *attributes) header(flag byte, name string, size int64) *tar.Header {
	rare := a.more()
	return &tar.Header{
		Typeflag: flag, Name: name, Linkname: rare.target, Size: size,
		Mode: int64(a.mode), Uid: int(a.uid), Gid: int(a.gid),
		ModTime:  time.Unix(a.sec, int64(a.nano)),
		Devmajor: int64(rare.major), Devminor: int64(rare.minor),
		PAXRecords: rare.records,
	}
}

// newStackTree returns a tree of names in paths, which has none yet.
func newStackTree(paths *tarutil.PathTable, limit, base int, watch Observer) *stackTree {
	t := &stackTree{paths: paths, budget: paths.Budget, limit: limit, base: int32(base), lost: make(map[tarutil.PathID]loss), watch: watch}

	// Number 0 stands for no file and for no attributes. Number 1 is what all directories have that no
	// entry is for.
	t.files.New()
	t.attrs.New()
	_, implied := t.attrs.New()
	implied.mode = 0o755

	_, t.root = t.nodes.New()
	t.root.file = t.impliedDir().id
	return t
}

const impliedAttrs = 1

// newFile returns a file of the entry that is being applied.
func (t *stackTree) newFile(flag byte) *stackFile {
	id, f := t.files.New()
	*f = stackFile{id: id, flag: flag, layer: t.layer, entry: t.entry}
	return f
}

// file returns the file that has the name n.
func (t *stackTree) file(n *node) *stackFile { return t.files.At(n.file) }

// isDir reports whether n is a directory.
func (t *stackTree) isDir(n *node) bool { return t.file(n).flag == tar.TypeDir }

// attributes returns those of f, or nil if they are not known.
func (t *stackTree) attributes(f *stackFile) *attributes {
	if f.attrs == 0 {
		return nil
	}
	return t.attrs.At(f.attrs)
}

// setAttributes gives f attributes in place of those that it has.
func (t *stackTree) setAttributes(f *stackFile, a *attributes) {
	if f.attrs == 0 {
		f.attrs, _ = t.attrs.New()
	}
	*t.attrs.At(f.attrs) = *a
}

// dir returns the directory that n is in, nil for the root.
func (t *stackTree) dir(n *node) *node {
	if n == t.root {
		return nil
	}
	return t.nodes.At(uint32(t.paths.Dir(n.id)))
}

func (t *stackTree) name(n *node) string { return t.paths.Name(n.id) }
func (t *stackTree) path(n *node) string { return t.paths.Path(n.id) }

// find returns the name in dir, nil if nothing has it.
func (t *stackTree) find(dir *node, name string) *node {
	id := t.paths.Find(dir.id, name)
	if id == 0 || int(id) >= t.nodes.Len() || t.nodes.At(uint32(id)).file == 0 {
		return nil
	}
	return t.nodes.At(uint32(id))
}

// in yields the names in dir, in no order. The last one that it gave may be removed.
func (t *stackTree) in(dir *node) iter.Seq[*node] {
	return func(yield func(*node) bool) {
		for id := dir.child; id != 0; {
			n := t.nodes.At(uint32(id))
			id = n.next
			if !yield(n) {
				return
			}
		}
	}
}

func (t *stackTree) impliedDir() *stackFile {
	f := t.newFile(tar.TypeDir)
	f.implied, f.attrs = true, impliedAttrs
	return f
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

	file, err := t.fileOf(hdr)
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

// What is held of a name, of the file that it may have, and of attributes, in bytes.
const (
	nodeMemory  = int(unsafe.Sizeof(node{}))
	fileMemory  = int(unsafe.Sizeof(stackFile{}))
	attrsMemory = int(unsafe.Sizeof(attributes{}))
	rareMemory  = int(unsafe.Sizeof(rareAttributes{}))
)

// memory returns what the attributes of f take of the budget. The file itself is paid by its names.
func (t *stackTree) memory(f *stackFile) int {
	if f.attrs == 0 || f.implied {
		return 0
	}
	size := attrsMemory
	if rare := t.attributes(f).rare; rare != nil {
		size += rareMemory + len(rare.target) + tarutil.RecordsMemory(rare.records)
	}
	return size
}

// give makes f the file that n is a name of, in place of the one before.
func (t *stackTree) give(n *node, f *stackFile) {
	f.names++
	t.drop(t.file(n))
	n.file = f.id
}

// drop takes a name away from f. With the last one its memory is given back.
func (t *stackTree) drop(f *stackFile) {
	if f.names--; f.names > 0 {
		return
	}
	if t.discard != nil && f.flag == tar.TypeReg {
		t.discard(f)
	}

	t.budget.Give(t.memory(f))
	if f.attrs != 0 && !f.implied {
		t.attrs.Free(f.attrs)
	}
	t.files.Free(f.id)
}

// fileOf returns the file that an entry holds. The memory of its attributes is taken from the budget.
func (t *stackTree) fileOf(hdr *tar.Header) (*stackFile, error) {
	switch hdr.Typeflag {
	case 0, tar.TypeCont, tar.TypeGNUSparse, tar.TypeReg:
		// The attributes of regular files are read again with their contents, or on the stage already.
		f := t.newFile(tar.TypeReg)
		f.lacks = t.staged.lacks
		if t.staged.later != nil {
			t.setAttributes(f, t.staged.later)
		}
		return f, t.budget.Take(t.memory(f))
	case tar.TypeSymlink, tar.TypeDir, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		f := t.newFile(hdr.Typeflag)
		t.setAttributes(f, newAttributes(hdr))
		return f, t.budget.Take(t.memory(f))
	}
	return nil, fmt.Errorf("%w: unknown type flag %q", tarutil.ErrMalformed, hdr.Typeflag)
}

// put gives file the name base in dir.
func (t *stackTree) put(dirPath, base string, file *stackFile) (*node, error) {
	dir, err := t.walk(dirPath, true)
	if err != nil {
		return nil, err
	}

	t.surprise.into(dir)
	n, err := t.node(dir, base)
	if err != nil {
		return nil, err
	}
	if n.file == 0 {
		return n, t.add(n, dir, file)
	}

	// A directory over a directory keeps what is in it; all else takes the place of what was there
	// (layer.md, "Applying Changesets").
	t.surprise.meets(n, file)
	if t.isDir(n) && file.flag == tar.TypeDir {
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
	if t.isDir(n) {
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

	var target *node
	if dir != nil {
		target = t.find(dir, targetBase)
	}
	switch {
	case target == nil:
		return fmt.Errorf("%w: hard link to %q, which is not there", tarutil.ErrMalformed, hdr.Linkname)
	case t.isDir(target):
		return fmt.Errorf("%w: hard link to %q, which is a directory", tarutil.ErrMalformed, hdr.Linkname)
	}

	t.surprise.links(hdr.Name, target)
	file := t.file(target)
	file.names++ // it stays, even if its name is now replaced
	defer t.drop(file)
	if dir, err = t.walk(dirPath, true); err != nil {
		return err
	}

	n := t.find(dir, base)
	t.surprise.linksOver(n, target)
	if n != nil && n.file == file.id { // the same file by two names already, or a link to itself
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

	// Nothing may be there to hide: that is not an error. Below a file of its own layer a whiteout is one
	// on which engines part: umoci passes over it, and podman on vfs refuses the layer. So do writers
	// here, see [tarutil.LayerRules].
	t.surprise.hides(tarutil.JoinPath(dirPath, base), dir, name)
	if dir == nil {
		return t.checkBelow(dirPath)
	}

	if name != "" {
		if n := t.find(dir, name); n != nil {
			t.hide(n)
		}
		return nil
	}

	t.hideIn(dir)
	return nil
}

// checkBelow returns an error if path leads through a file that this layer has placed. Links are not
// followed.
func (t *stackTree) checkBelow(path string) error {
	n := t.root
	for name := range strings.SplitSeq(path, "/") {
		if n = t.find(n, name); n == nil || !t.isDir(n) {
			break
		}
	}
	if n != nil && !t.isDir(n) && n.layer == t.layer && t.file(n).flag != tar.TypeSymlink {
		return fmt.Errorf("%w: %q is not a directory", tarutil.ErrMalformed, t.path(n))
	}
	return nil
}

// hideIn hides what is in a directory. The second time in a layer there is nothing to do.
func (t *stackTree) hideIn(dir *node) {
	if dir.hidden == t.layer+1 {
		return
	}
	dir.hidden = t.layer + 1
	for n := range t.in(dir) {
		t.hide(n)
	}
}

// hide removes n, as far as it is of lower layers.
func (t *stackTree) hide(n *node) {
	if !t.isDir(n) {
		if n.layer < t.layer {
			t.remove(n, true)
		}
		return
	}

	t.hideIn(n)
	switch {
	case t.file(n).layer == t.layer: // an entry of this layer, or there for one
	case n.child == 0:
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
	for c := range t.in(n) {
		if t.isDir(c) {
			t.clear(c)
		}
		t.remove(c, false)
	}
}

// remove removes n, which is not a directory or holds nothing.
func (t *stackTree) remove(n *node, whiteout bool) {
	t.last = nil
	t.note(n)
	t.gone(n, whiteout)

	if n.prev != 0 {
		t.nodes.At(uint32(n.prev)).next = n.next
	} else {
		t.dir(n).child = n.next
	}
	if n.next != 0 {
		t.nodes.At(uint32(n.next)).prev = n.prev
	}

	f := t.file(n)
	if f.flag == tar.TypeDir {
		n.removals++
	}
	n.file = 0
	t.drop(f)
	t.count--
	t.budget.Give(fileMemory)
}

// note takes down that the layers below the result have n, if so, and that the result has not: it
// needs a whiteout.
func (t *stackTree) note(n *node) {
	if n.layer < t.base && t.layer >= t.base {
		t.lost[n.id] = loss{t.isDir(n), t.dir(n).removals}
	}
}

// node returns what stands for a name in dir, whether something has the name or not.
func (t *stackTree) node(dir *node, name string) (*node, error) {
	length := t.paths.Length(dir.id) + len(name) + 1
	switch {
	case len(name) > tarutil.MaxComponent:
		return nil, fmt.Errorf("%w: a component of %d bytes, over the limit of %d", tarutil.ErrBadPath, len(name), tarutil.MaxComponent)
	case length > tarutil.MaxPathLen:
		return nil, fmt.Errorf("%w: a path of %d bytes, over the limit of %d", tarutil.ErrBadPath, length, tarutil.MaxPathLen)
	}

	id, err := t.paths.Add(dir.id, name)
	if err != nil {
		return nil, err
	}

	for t.nodes.Len() <= int(id) {
		if err := t.budget.Take(nodeMemory); err != nil {
			return nil, err
		}
		i, n := t.nodes.New()
		n.id = tarutil.PathID(i)
	}
	return t.nodes.At(uint32(id)), nil
}

// add puts a file under the name n in dir, which nothing has.
func (t *stackTree) add(n, dir *node, file *stackFile) error {
	if t.count >= t.limit {
		return fmt.Errorf("%w: the limit is %d", tarutil.ErrTooMany, t.limit)
	}
	if err := t.budget.Take(fileMemory); err != nil {
		return err
	}

	t.count++
	file.names++
	n.file, n.layer, n.entry, n.hidden, n.touched = file.id, t.layer, t.entry, 0, 0
	n.child, n.prev, n.next = 0, 0, dir.child
	if n.next != 0 {
		t.nodes.At(uint32(n.next)).prev = n.id
	}
	dir.child = n.id
	t.surprise.makes(dir, n)
	return nil
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
			if at != t.root {
				at = t.dir(at)
			}
			continue
		}

		n := t.find(at, name)
		switch {
		case n == nil && !create:
			return nil, nil
		case n == nil:
			var err error
			if n, err = t.node(at, name); err == nil {
				err = t.add(n, at, t.impliedDir())
			}
			if err != nil {
				return nil, err
			}
			t.surprise.makesWithin(n, rest)
		case t.file(n).flag == tar.TypeSymlink:
			if hops++; hops > maxLinkHops || steps > maxLinkSteps {
				return nil, fmt.Errorf("%w: too many symbolic links at %q", tarutil.ErrBadPath, t.path(n))
			}
			t.surprise.follows(n)

			// The search goes on with the target, from the directory of the link or from the root.
			target := t.attributes(t.file(n)).rare.target
			if target[0] == '/' {
				at = t.root
			}
			rest = target + "/" + rest
			continue
		case t.isDir(n):
		case !create:
			return nil, nil
		case hops > 0 || n.layer == t.layer: // a file that a link leads to, or of the same layer, stays
			return nil, fmt.Errorf("%w: %q is not a directory", tarutil.ErrMalformed, t.path(n))
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

// children returns the names in n, in tree order.
func (t *stackTree) children(n *node) []*node {
	return slices.SortedFunc(t.in(n), func(a, b *node) int { return tarutil.CompareNames(t.name(a), t.name(b)) })
}
