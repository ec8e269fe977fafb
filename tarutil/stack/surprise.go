package stack

import (
	"archive/tar"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Surprise is what a layer does to those below it that its maker rarely means, or that the
// programs that run images do not agree on. It is not an error: layer.md allows each.
type Surprise struct {
	Layer int // its number, from the lowest
	Kind  SurpriseKind
	Path  string // the real path that it is about
	Was   string // what the layers below have there, if that says more
	Is    string // what the layer makes of it, likewise
}

// A SurpriseKind says what is surprising.
type SurpriseKind int

const (
	// typeChanged: a directory or symbolic link gives way to a file of another type, with
	// all that was behind it.
	typeChanged SurpriseKind = iota
	// modeChanged: a directory gets other permissions from a layer that touches nothing of
	// what the layers below have in it, as one does that only passes through.
	modeChanged
	// parentMissing: the layer puts something into a directory of a layer below without an entry
	// for it, and that is not 0755 of 0:0. Docker's overlay2 and podman make it so, containerd
	// does not.
	parentMissing
	// throughLink: an entry lies behind a symbolic link of a layer below. Where layers are
	// directories that an overlay file system joins, as with Docker, containerd and podman, a
	// directory takes the place of the link.
	throughLink
	// throughNothing: an entry lies behind a symbolic link that leads through a directory that is
	// not there, and out of it again. It is made here, and nowhere else.
	throughNothing
	// linkBelow: a hard link leads to a file of a layer below. Such overlays refuse it.
	linkBelow
	// linkInside: a hard link takes the place of a directory that its target is in. Such
	// overlays, and umoci, refuse it.
	linkInside
	// opaqueRoot: an opaque whiteout at the root. Such overlays ignore it.
	opaqueRoot
	// Twice: a path comes more than once in the layer, which layer.md forbids. Docker and
	// podman refuse it, others keep the last.
	Twice
	// hidesItself: a path is both removed and there. Such overlays refuse it if the whiteout
	// comes last; if not, a directory shows what layers below have in it.
	hidesItself
	// hidesNowhere: a whiteout lies in a directory in which the layers below have nothing, or
	// nothing left. Such overlays make the directory, and list a file there that cannot be opened.
	hidesNowhere
	// looksRemoved: a character device 0:0, which such overlays take for a whiteout.
	looksRemoved
	// isMarked: a file has an extended attribute by which overlays mark what a directory hides, or
	// where it was. Such overlays find their mark in what they unpack, and heed it.
	isMarked
)

// Alone reports whether such a surprise does not depend on what lies below the layer.
func (k SurpriseKind) Alone() bool {
	switch k {
	case opaqueRoot, Twice, hidesItself, looksRemoved, isMarked:
		return true
	}
	return false
}

// String returns one line for people.
func (s Surprise) String() string {
	const overlays = "on overlay file systems, as of Docker, containerd and podman"
	switch s.Kind {
	case typeChanged:
		return fmt.Sprintf("%q becomes a %s: it is a %s below", s.Path, s.Is, s.Was)
	case modeChanged:
		return fmt.Sprintf("directory %q gets the permissions %s: they are %s below, and nothing that it holds there is touched", s.Path, s.Is, s.Was)
	case parentMissing:
		return fmt.Sprintf("directory %q has no entry, and is %s below: Docker and podman make it 0755 of 0:0", s.Path, s.Was)
	case throughLink:
		return fmt.Sprintf("entries lie behind %q, a symbolic link to %q below: %s, a directory takes its place", s.Path, s.Was, overlays)
	case throughNothing:
		return fmt.Sprintf("entries lie behind a symbolic link through %q, which is not there", s.Path)
	case linkBelow:
		return fmt.Sprintf("%q is a hard link to a file of a layer below: %s, it is refused", s.Path, overlays)
	case linkInside:
		return fmt.Sprintf("%q is a hard link to a file of the directory that it replaces: %s, it is refused", s.Path, overlays)
	case opaqueRoot:
		return fmt.Sprintf("an opaque whiteout is at the root: %s, it removes nothing", overlays)
	case Twice:
		return fmt.Sprintf("%q comes more than once: Docker and podman refuse that", s.Path)
	case hidesItself:
		return fmt.Sprintf("%q is removed and there: %s, it is refused, or shows what is below", s.Path, overlays)
	case hidesNowhere:
		return fmt.Sprintf("whiteout %q is where the layers below have no directory: %s, it is a file that cannot be opened", s.Path, overlays)
	case looksRemoved:
		return fmt.Sprintf("%q is a device 0:0: %s, it removes what is below", s.Path, overlays)
	case isMarked:
		return fmt.Sprintf("%q has the attribute %q: %s, it changes what is there of the layers below", s.Path, s.Is, overlays)
	}

	return fmt.Sprintf("%q", s.Path)
}

// How many surprises of one kind are told of one layer, how many are looked at once it ends, and how
// many names are remembered to find them.
const (
	maxSurprises  = 5
	maxPending    = 1000
	maxRemembered = 1 << 17
)

// A surpriser looks for surprises while layers are applied. All of its methods do nothing if it is
// nil, and none changes the tree.
type surpriser struct {
	t       *stackTree
	tell    func(Surprise)
	told    map[SurpriseKind]int // of this layer
	seen    map[Surprise]bool    // of this layer
	pending []modeChange         // of this layer
	erased  map[childKey]bool    // what it has a whiteout of; true if of a directory below
	holes   map[*node]string     // directories that it has whiteouts in, with one of these
	parents map[*node]struct{}   // directories of layers below that it puts something into
	opaque  map[*node]string     // directories that it has an opaque whiteout in, with its path
}

type childKey struct {
	dir  *node
	name string
}

// A modeChange is a directory of a layer below that got other permissions, and those that it had.
type modeChange struct {
	n   *node
	was int32
}

func (s *surpriser) start() {
	if s == nil {
		return
	}
	s.told, s.pending = make(map[SurpriseKind]int), s.pending[:0]
	s.seen, s.erased, s.holes = make(map[Surprise]bool), make(map[childKey]bool), make(map[*node]string)
	s.opaque, s.parents = make(map[*node]string), make(map[*node]struct{})
}

// full reports whether no more names are remembered of this layer. A layer may have any number of
// whiteouts, and of names that it replaces itself: neither are among the files that are counted.
func (s *surpriser) full() bool {
	return len(s.erased)+len(s.holes)+len(s.parents)+len(s.opaque) >= maxRemembered
}

func (s *surpriser) add(kind SurpriseKind, path, was, is string) {
	found := Surprise{Layer: int(s.t.layer), Kind: kind, Path: path, Was: was, Is: is}
	if s.told[kind] == maxSurprises || s.seen[found] {
		return
	}
	s.seen[found] = true
	s.told[kind]++
	s.tell(found)
}

// below says whether the name n is there because of a lower layer.
func (s *surpriser) below(n *node) bool { return n.layer < s.t.layer }

// meets is told that n, which is there, gets the file f.
func (s *surpriser) meets(n *node, f *stackFile) {
	if s == nil {
		return
	}

	// For a directory, the file tells whether this layer has put it there, since its name stays that
	// of a lower layer.
	was := s.t.file(n)
	if was.flag == tar.TypeDir && was.layer == s.t.layer && !was.implied || was.flag != tar.TypeDir && !s.below(n) {
		s.add(Twice, s.t.path(n), "", "")
	}

	if !s.below(n) {
		return
	}

	// Other permissions are judged at the end, when it is known whether the layer only passed through.
	s.t.dir(n).touched = s.t.layer + 1
	switch {
	case was.flag != f.flag && (was.flag == tar.TypeDir || was.flag == tar.TypeSymlink):
		s.add(typeChanged, s.t.path(n), flagName(was.flag), flagName(f.flag))
	case was.flag == tar.TypeDir && f.flag == tar.TypeDir && was.layer < s.t.layer && !was.implied && !f.implied &&
		s.mode(was) != s.mode(f) && len(s.pending) < maxPending:
		s.pending = append(s.pending, modeChange{n, s.mode(was)})
	}
}

// mode returns the permissions of a directory.
func (s *surpriser) mode(f *stackFile) int32 { return s.t.attributes(f).mode }

// into is told that something, a whiteout too, comes into dir.
func (s *surpriser) into(dir *node) {
	if s == nil {
		return
	}
	for ; dir != nil && dir != s.t.root; dir = s.t.dir(dir) {
		if _, known := s.parents[dir]; known || s.full() {
			return
		}
		s.parents[dir] = struct{}{}
	}
}

// follows is told that a name leads through the symbolic link n.
func (s *surpriser) follows(n *node) {
	if s != nil && s.below(n) {
		s.add(throughLink, s.t.path(n), s.t.attributes(s.t.file(n)).rare.target, "")
	}
}

// makesWithin is told that the missing directory n was made, and that a name goes on from it to
// rest.
func (s *surpriser) makesWithin(n *node, rest string) {
	if s != nil && (rest == ".." || strings.HasPrefix(rest, "../")) {
		s.add(throughNothing, s.t.path(n), "", "")
	}
}

// links is told that an entry is a hard link to target.
func (s *surpriser) links(name string, target *node) {
	if s != nil && s.below(target) {
		s.add(linkBelow, name, "", "")
	}
}

// linksOver is told that the hard link to target takes the place of n, unless that is nil.
func (s *surpriser) linksOver(n, target *node) {
	if s == nil || n == nil || !s.t.isDir(n) {
		return
	}
	for dir := s.t.dir(target); dir != nil; dir = s.t.dir(dir) {
		if dir == n {
			s.add(linkInside, s.t.path(n), "", "")
		}
	}
}

// makes is told that a file gets the name n in dir, which nothing had.
func (s *surpriser) makes(dir, n *node) {
	if s == nil || !s.t.isDir(n) {
		return
	}
	if wasDir, ok := s.erased[childKey{dir, s.t.name(n)}]; ok && (wasDir || s.t.file(n).implied) {
		s.add(hidesItself, s.t.path(n), "", "")
	}
}

// hides is told of a whiteout of the name base in dir, before it is heeded; of an opaque one
// if base is empty. Dir is nil if there is none.
func (s *surpriser) hides(path string, dir *node, base string) {
	if s == nil {
		return
	}

	s.into(dir)
	if dir == nil {
		s.add(hidesNowhere, path, "", "")
		return
	}

	dir.touched = s.t.layer + 1
	if s.full() {
		return
	}

	if base == "" {
		if dir == s.t.root {
			s.add(opaqueRoot, path, "", "")
		} else {
			s.opaque[dir] = path
		}
		return
	}

	if dir != s.t.root && s.holes[dir] == "" { // the root is the same to all layers
		s.holes[dir] = path
	}

	key := childKey{dir, base}
	if _, again := s.erased[key]; again {
		s.add(Twice, path, "", "")
		return
	}

	// Something of this layer may be there already; if it comes later, makes will find it in erased.
	n := s.t.find(dir, base)
	s.erased[key] = n != nil && s.t.isDir(n)
	if n == nil {
		return
	}
	if !s.below(n) || s.t.file(n).layer == s.t.layer || s.holds(n) {
		s.add(hidesItself, s.t.path(n), "", "")
	}
}

// holds says whether the layer has put something below the directory n of a lower one.
func (s *surpriser) holds(n *node) bool {
	if !s.t.isDir(n) {
		return false
	}
	for c := range s.t.in(n) {
		if !s.below(c) || s.t.file(c).layer == s.t.layer || s.holds(c) {
			return true
		}
	}
	return false
}

// marked is told that the entry of a name has an attribute of overlays. It belongs to no image, so the
// file does not have it here.
func (s *surpriser) marked(name, attribute string) {
	if s != nil {
		s.add(isMarked, name, "", attribute)
	}
}

// places is told of each file that an entry holds.
func (s *surpriser) places(n *node) {
	if s == nil || s.t.file(n).flag != tar.TypeChar {
		return
	}
	if rare := s.t.attributes(s.t.file(n)).more(); rare.major == 0 && rare.minor == 0 {
		s.add(looksRemoved, s.t.path(n), "", "")
	}
}

// end is told that the layer ends.
func (s *surpriser) end() {
	if s == nil {
		return
	}

	s.endModes()

	// A directory that has whiteouts may have been removed since, or made by this layer alone.
	var nowhere []string
	for dir, path := range s.holes {
		if dir.file == 0 || !s.below(dir) || dir.hidden == s.t.layer+1 {
			nowhere = append(nowhere, path)
		}
	}

	for dir, path := range s.opaque {
		if dir.file == 0 {
			nowhere = append(nowhere, path)
		}
	}

	slices.Sort(nowhere)
	for _, path := range nowhere {
		s.add(hidesNowhere, path, "", "")
	}
}

// endModes tells of the directories that got other permissions while the layer only passed through,
// and of those that it put something into without an entry for them.
func (s *surpriser) endModes() {
	for _, c := range s.pending {
		if c.n.file == 0 || c.n.touched == s.t.layer+1 || !s.t.isDir(c.n) {
			continue
		}
		if mode := s.mode(s.t.file(c.n)); mode != c.was {
			s.add(modeChanged, s.t.path(c.n), fmt.Sprintf("%04o", c.was), fmt.Sprintf("%04o", mode))
		}
	}

	// 0755 of 0:0 is what programs make that know nothing of the directory: then nothing is lost.
	lost := make(map[string]string)
	for n := range s.parents {
		f := s.t.file(n)
		if n.file == 0 || f.flag != tar.TypeDir || f.layer == s.t.layer || f.implied {
			continue
		}
		if a := s.t.attributes(f); a.mode != 0o755 || a.uid != 0 || a.gid != 0 {
			lost[s.t.path(n)] = fmt.Sprintf("%04o of %d:%d", a.mode, a.uid, a.gid)
		}
	}

	for _, path := range slices.Sorted(maps.Keys(lost)) {
		s.add(parentMissing, path, lost[path], "")
	}
}

// flagName returns the word for a type of file.
func flagName(flag byte) string {
	switch flag {
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "symbolic link"
	case tar.TypeChar, tar.TypeBlock:
		return "device"
	case tar.TypeFifo:
		return "fifo"
	}
	return "file"
}
