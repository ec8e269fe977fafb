package tarutil

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"
	"time"
)

// What Linux does in one name.
const (
	maxLinkHops  = 40   // links in one name
	maxLinkSteps = 2048 // components looked at once a link was followed
)

// A stackTree is the file system that layers make up, keyed by real path: no name in it
// leads through a link.
type stackTree struct {
	root    *node
	names   map[childKey]*node
	layer   int32 // the one that is being applied
	entry   int32 // its entry that is being applied
	limit   int
	base    int32             // layers below the result
	lost    map[childKey]bool // names of these that were removed; true if of a directory
	watch   Watcher           // may be nil
	lastDir string            // the directory of the entry before,
	last    *node             // and what it led to; nil if that may have changed
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
}

// A stackFile is a file, with whatever names it has.
type stackFile struct {
	flag    byte
	implied bool  // a directory that no entry is for
	layer   int32 // of its entry, or the entry that it was made for
	entry   int32 // its number in the layer
	walk    int32 // the walk that it was last met in
	many    bool  // it has several names; set by Stack.index
	first   *node // the first of its names to be put there; set by Stack.index
	target  string
	attrs   *attributes // nil for regular files, until a walk comes to one of many names
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

// newAttributes checks and returns the attributes in hdr.
func newAttributes(hdr *tar.Header) (*attributes, error) {
	a := &attributes{
		mode: int32(hdr.Mode & 0o7777),
		uid:  uint32(hdr.Uid), gid: uint32(hdr.Gid),
		records: imageRecords(hdr.PAXRecords),
	}
	// The last number means "leave the owner as it is" to the system.
	if int64(a.uid) != int64(hdr.Uid) || int64(a.gid) != int64(hdr.Gid) || a.uid == math.MaxUint32 || a.gid == math.MaxUint32 {
		return nil, fmt.Errorf("%w: owner %d:%d", ErrMalformed, hdr.Uid, hdr.Gid)
	}
	if !hdr.ModTime.IsZero() {
		a.sec, a.nano = hdr.ModTime.Unix(), int32(hdr.ModTime.Nanosecond())
	}
	switch hdr.Typeflag {
	case typeSymlink:
		a.mode = 0o777
	case typeChar, typeBlock:
		a.major, a.minor = int32(hdr.Devmajor), int32(hdr.Devminor)
		if int64(a.major) != hdr.Devmajor || int64(a.minor) != hdr.Devminor || a.major < 0 || a.minor < 0 {
			return nil, fmt.Errorf("%w: device number %d:%d", ErrMalformed, hdr.Devmajor, hdr.Devminor)
		}
	}
	return a, nil
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

func newStackTree(limit, base int, watch Watcher) *stackTree {
	t := &stackTree{limit: limit, base: int32(base), names: make(map[childKey]*node), lost: make(map[childKey]bool), watch: watch}
	t.root = &node{file: t.impliedDir()}
	return t
}

func (t *stackTree) impliedDir() *stackFile {
	return &stackFile{flag: typeDir, implied: true, layer: t.layer, entry: t.entry, attrs: impliedAttrs()}
}

// apply applies one entry, whose header is clean.
func (t *stackTree) apply(hdr *tar.Header, entry int32) error {
	t.entry = entry
	dir, base := splitPath(hdr.Name)
	switch ignore, err := checkWhiteoutDir(dir); {
	case err != nil || ignore:
		return err
	case strings.HasPrefix(base, whiteoutPrefix):
		return t.whiteout(dir, base)
	case hdr.Typeflag == typeLink:
		return t.link(hdr, dir, base)
	}
	file, err := t.newFile(hdr)
	if err != nil {
		return err
	}
	n := t.root
	if hdr.Name == "" {
		t.gone(n, false)
		n.file = file
	} else if n, err = t.put(dir, base, file); err != nil {
		return err
	}
	return t.placed(n, hdr)
}

// checkWhiteoutDir refuses directories with the name of a whiteout, but ignores those in
// which AUFS kept what belongs to itself.
func checkWhiteoutDir(dir string) (ignore bool, err error) {
	if !strings.Contains(dir, whiteoutPrefix) {
		return false, nil
	}
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, aufsPrefix) {
			return true, nil
		}
	}
	return false, refuseWhiteout(dir)
}

const aufsPrefix = whiteoutPrefix + whiteoutPrefix

// newFile returns the file that an entry holds.
func (t *stackTree) newFile(hdr *tar.Header) (*stackFile, error) {
	f := &stackFile{flag: hdr.Typeflag, layer: t.layer, entry: t.entry}
	attrs, err := newAttributes(hdr)
	if err != nil {
		return nil, err
	}
	switch f.flag {
	case 0, tar.TypeCont, tar.TypeGNUSparse, typeReg:
		f.flag = typeReg
		return f, nil
	case typeSymlink:
		f.target = strings.Clone(hdr.Linkname)
		if f.target == "" || len(f.target) > maxPathLen || strings.Contains(f.target, "\x00") {
			return nil, fmt.Errorf("%w: symbolic link to a path of %d bytes", ErrBadPath, len(f.target))
		}
	case typeDir, typeChar, typeBlock, typeFifo:
	default:
		return nil, fmt.Errorf("%w: unknown type flag %q", ErrMalformed, f.flag)
	}
	f.attrs = attrs
	return f, nil
}

// put gives file the name base in dir.
func (t *stackTree) put(dirPath, base string, file *stackFile) (*node, error) {
	dir, err := t.walk(dirPath, true)
	if err != nil {
		return nil, err
	}
	n := t.names[childKey{dir, base}]
	if n == nil {
		return t.add(dir, base, file)
	}
	if n.file.flag == typeDir && file.flag == typeDir {
		t.gone(n, false)
	} else {
		t.replace(n)
	}
	n.file = file
	return n, nil
}

// replace makes n a name of the current layer, for another file than before.
func (t *stackTree) replace(n *node) {
	t.last = nil
	t.note(n)
	t.gone(n, false)
	if n.file.flag == typeDir {
		t.clear(n)
	}
	n.layer, n.entry = t.layer, t.entry
}

// link gives a file one more name.
func (t *stackTree) link(hdr *tar.Header, dirPath, base string) error {
	targetDir, targetBase := splitPath(hdr.Linkname)
	dir, err := t.walk(targetDir, false)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}
	target := t.names[childKey{dir, targetBase}]
	switch {
	case dir == nil || target == nil:
		return fmt.Errorf("%w: hard link to %q, which is not there", ErrMalformed, hdr.Linkname)
	case target.file.flag == typeDir:
		return fmt.Errorf("%w: hard link to %q, which is a directory", ErrMalformed, hdr.Linkname)
	}
	file := target.file // it stays, even if its name is now replaced
	if dir, err = t.walk(dirPath, true); err != nil {
		return err
	}
	n := t.names[childKey{dir, base}]
	if n != nil && n.file == file { // the same file by two names already, or a link to itself
		t.note(n)
		t.gone(n, false)
		n.layer, n.entry = t.layer, t.entry
	} else if n, err = t.put(dirPath, base, file); err != nil {
		return err
	}
	return t.placed(n, hdr)
}

// whiteout hides what lower layers have.
func (t *stackTree) whiteout(dirPath, base string) error {
	name := base[len(whiteoutPrefix):]
	switch {
	case base == opaqueName:
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%w: whiteout of %q", ErrBadPath, name)
	case strings.HasPrefix(base, aufsPrefix):
		return nil
	}
	dir, err := t.walk(dirPath, false)
	if err != nil || dir == nil {
		return err
	}
	if base != opaqueName {
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
	if n.file.flag != typeDir {
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
	default:
		t.note(n)
		t.gone(n, true)
		n.file, n.layer, n.entry = t.impliedDir(), t.layer, t.entry
	}
}

// clear removes all that is in n.
func (t *stackTree) clear(n *node) {
	for c := n.child; c != nil; {
		next := c.next
		if c.file.flag == typeDir {
			t.clear(c)
		}
		t.remove(c, false)
		c = next
	}
}

// remove removes n, which is no directory or holds nothing.
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
	n.removed = true
}

// note remembers that what n was for the layers below the result is no more.
func (t *stackTree) note(n *node) {
	if n.layer < t.base && t.layer >= t.base {
		t.lost[childKey{n.dir, n.name}] = n.file.flag == typeDir
	}
}

// add makes a new name.
func (t *stackTree) add(dir *node, name string, file *stackFile) (*node, error) {
	length := dir.pathLen + int32(len(name)) + 1
	switch {
	case len(name) > maxComponent:
		return nil, fmt.Errorf("%w: a component of %d bytes, over the limit of %d", ErrBadPath, len(name), maxComponent)
	case length > maxPathLen:
		return nil, fmt.Errorf("%w: a path of %d bytes, over the limit of %d", ErrBadPath, length, maxPathLen)
	case len(t.names) >= t.limit:
		return nil, fmt.Errorf("%w: the limit is %d", ErrTooMany, t.limit)
	}
	n := &node{name: strings.Clone(name), dir: dir, file: file, layer: t.layer, entry: t.entry, pathLen: length, next: dir.child}
	if n.next != nil {
		n.next.prev = n
	}
	dir.child = n
	t.names[childKey{dir, n.name}] = n
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
		case n.file.flag == typeSymlink:
			if hops++; hops > maxLinkHops || steps > maxLinkSteps {
				return nil, fmt.Errorf("%w: too many symbolic links at %q", ErrBadPath, n.path())
			}
			if n.file.target[0] == '/' {
				at = t.root
			}
			rest = n.file.target + "/" + rest
			continue
		case n.file.flag == typeDir:
		case !create:
			return nil, nil
		case hops > 0 || n.layer == t.layer:
			return nil, fmt.Errorf("%w: %q is no directory", ErrMalformed, n.path())
		default:
			t.replace(n)
			n.file = t.impliedDir()
		}
		at = n
	}
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
