package diff

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"
	"unsafe"

	"ocikit/tarutil"
)

// hashBuffer is the size of the pieces in which contents are hashed.
const hashBuffer = 256 << 10

// A snapshot is what is remembered of a Tree: all but the contents. Both trees that are compared have
// their paths in one table.
type snapshot struct {
	*tables
	tree     tarutil.Reopener // nil if contents cannot be opened later, and so are hashed as they pass
	contents bool             // they count
	before   *snapshot        // what it will be compared with, or nil

	files  tarutil.Slab[inode]
	at     tarutil.Slab[uint32]        // the files, by the numbers of paths
	hidden map[tarutil.PathID]uint32   // files that do not count, but may have other names that do
	links  map[uint32][]tarutil.PathID // names of files that hard links lead to, in tree order in the end
	emit   map[uint32]bool             // files that go into the layer

	hash hash.Hash
	buf  []byte
}

// A number of a file in a snapshot counts in its own files or, with this bit, in those of the snapshot
// before. Most trees that are compared are alike in nearly all of their files, which take no memory
// twice so.
const inBefore = 1 << 31

// An inode is a file with all its names. It is kept small, and without pointers: there is one for each
// entry.
type inode struct {
	sum     [sha256.Size]byte // if known, else see diskID
	sec     int64
	size    int64 // of a link the number of its target, of a device both numbers
	nano    int32
	attrs   uint32         // see tables.attributes
	origin  tarutil.PathID // the name that came with the content
	flag    byte
	implied bool // a directory that is there only because something is in it
	known   bool // sum is
}

// A diskID tells whether two names are one file on disk. Its zero value says that it is unknown.
type diskID struct{ dev, ino uint64 }

// diskID returns which file on disk a regular file is, as long as its sum is not known.
func (f *inode) diskID() diskID {
	if f.known {
		return diskID{}
	}
	return diskID{binary.LittleEndian.Uint64(f.sum[:]), binary.LittleEndian.Uint64(f.sum[8:])}
}

func (f *inode) setDiskID(dev, ino uint64) {
	binary.LittleEndian.PutUint64(f.sum[:], dev)
	binary.LittleEndian.PutUint64(f.sum[8:], ino)
}

// sameOnDisk reports whether two regular files are known to be one file on disk.
func sameOnDisk(a, b *inode) bool {
	id := a.diskID()
	return id == b.diskID() && id != diskID{}
}

// fileMemory is about how many bytes one file of a tree needs besides its path: an inode, and its place
// in at.
const fileMemory = int(unsafe.Sizeof(inode{})) + 4

// takeSnapshot walks a tree. Contents that cannot be opened later are hashed at once, and
// so are those that will be compared with before, if that is not nil. None is read if they are ignored.
func takeSnapshot(ctx context.Context, t *tables, tree tarutil.Tree, opts *Options, before *snapshot) (*snapshot, error) {
	s := &snapshot{
		tables:   t,
		contents: opts.Ignore&Content == 0,
		before:   before,
		hidden:   make(map[tarutil.PathID]uint32),
		links:    make(map[uint32][]tarutil.PathID),
		emit:     make(map[uint32]bool),
		hash:     sha256.New(),
		buf:      make([]byte, hashBuffer),
	}
	s.tree, _ = tree.(tarutil.Reopener)
	s.files.New() // the number 0 is no file

	// An excluded file is remembered all the same, apart from the others: a path that counts may
	// be a hard link to it.
	err := tree.Walk(ctx, func(e tarutil.TreeEntry) error {
		if e.Header.Name == "" {
			return nil
		}
		hide := opts.Exclude.Match(e.Header.Name)
		if hide && e.Header.Typeflag == tar.TypeDir {
			return nil
		}
		if err := s.add(e, hide); err != nil {
			return fmt.Errorf("entry %q: %w", e.Header.Name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	if err := s.implyAll(); err != nil {
		return nil, err
	}

	// The first of the names of a file stands for the file.
	for _, names := range s.links {
		slices.SortFunc(names, func(a, b tarutil.PathID) int {
			return tarutil.ComparePaths(s.paths.Path(a), s.paths.Path(b))
		})
	}
	return s, nil
}

// number returns the number of the file that has a path, 0 if none that counts has it.
func (s *snapshot) number(id tarutil.PathID) uint32 {
	if int(id) >= s.at.Len() {
		return 0
	}
	return *s.at.At(uint32(id))
}

// file returns the file of a number, nil for 0.
func (s *snapshot) file(n uint32) *inode {
	switch {
	case n == 0:
		return nil
	case n&inBefore != 0:
		return s.before.files.At(n &^ inBefore)
	}
	return s.files.At(n)
}

// find returns the file that has a path, nil if none that counts has it.
func (s *snapshot) find(id tarutil.PathID) *inode { return s.file(s.number(id)) }

// names returns the names of a file in tree order.
func (s *snapshot) names(n uint32) []tarutil.PathID {
	if names := s.links[n]; names != nil {
		return names
	}
	return []tarutil.PathID{s.file(n).origin}
}

// first returns the first name of a file in tree order.
func (s *snapshot) first(n uint32) tarutil.PathID {
	if names := s.links[n]; names != nil {
		return names[0]
	}
	return s.file(n).origin
}

// header returns the header of a file under its first name.
func (s *snapshot) header(n uint32) *tar.Header { return s.headerAs(s.file(n), s.first(n)) }

// put gives a path the file of a number.
func (s *snapshot) put(id tarutil.PathID, n uint32, hide bool) {
	if hide {
		s.hidden[id] = n
		return
	}
	for s.at.Len() <= int(id) {
		s.at.New()
	}
	*s.at.At(uint32(id)) = n
}

// add takes one entry. One that is hidden does not count.
func (s *snapshot) add(e tarutil.TreeEntry, hide bool) error {
	hdr := e.Header
	id, err := s.pathID(hdr.Name)
	if err != nil {
		return err
	}

	// A path may come twice only as a directory, where the last entry counts.
	n := s.number(id)
	if hide {
		n = s.hidden[id]
	}
	if n != 0 && (s.file(n).flag != tar.TypeDir || hdr.Typeflag != tar.TypeDir) {
		return tarutil.ErrDuplicate
	}

	if hdr.Typeflag == tar.TypeLink {
		return s.link(id, hdr.Linkname, hide)
	}

	f, err := s.newInode(e, id)
	if err != nil {
		return err
	}
	if f.flag == tar.TypeReg && s.contents && (s.tree == nil || s.willCompare(f)) {
		if err := s.sum(f, e.Content); err != nil {
			return err
		}
	}

	switch {
	case !hide && s.sameBefore(f):
		n = s.before.number(id) | inBefore
	case n == 0 || n&inBefore != 0:
		if n, err = s.keep(f); err != nil {
			return err
		}
	default:
		*s.files.At(n) = *f
	}
	s.put(id, n, hide)
	return nil
}

// keep gives a file a number.
func (s *snapshot) keep(f *inode) (uint32, error) {
	if err := s.paths.Budget.Take(fileMemory); err != nil {
		return 0, err
	}
	n, kept := s.files.New()
	*kept = *f
	return n, nil
}

// link gives the file of a path one more name. Both sides of the exclusion are searched.
func (s *snapshot) link(id tarutil.PathID, target string, hide bool) error {
	to, _ := s.paths.Lookup(target)
	n := s.number(to)
	visible := n != 0
	if !visible {
		n = s.hidden[to]
	}
	if n == 0 || s.file(n).flag == tar.TypeDir {
		return fmt.Errorf("%w: hard link to %q, which is not a file before it", tarutil.ErrMalformed, target)
	}

	s.put(id, n, hide)
	names := s.links[n]
	if names == nil && visible {
		names = append(names, s.file(n).origin)
	}
	if !hide {
		names = append(names, id)
	}
	if names != nil {
		s.links[n] = names
	}
	return s.paths.Budget.Take(linkMemory)
}

// linkMemory is about how many bytes a hard link needs besides its path.
const linkMemory = 64

// sameBefore reports whether the file before, of the same path, is remembered by the very same values. Of
// contents it must be known that they are alike, if they count.
func (s *snapshot) sameBefore(f *inode) bool {
	if s.before == nil {
		return false
	}
	old := s.before.find(f.origin)
	if old == nil || *old != *f {
		return false
	}
	return f.flag != tar.TypeReg || !s.contents || f.known || sameOnDisk(old, f)
}

// willCompare reports whether the content of f will be compared with one of the same size that is not
// the same file on disk. Then it is hashed as it passes, which saves opening it again.
func (s *snapshot) willCompare(f *inode) bool {
	if s.before == nil {
		return false
	}
	old := s.before.find(f.origin)
	return old != nil && old.flag == tar.TypeReg && old.size == f.size && !sameOnDisk(old, f)
}

// implyAll adds the directories that files lie in and that the tree has no entries for.
func (s *snapshot) implyAll() error {
	for i := range s.at.Len() {
		if *s.at.At(uint32(i)) == 0 {
			continue
		}
		if err := s.imply(tarutil.PathID(i)); err != nil {
			return err
		}
	}
	return nil
}

// imply adds the directories that a path lies in and that the tree has no entries for.
func (s *snapshot) imply(id tarutil.PathID) error {
	for dir := s.paths.Dir(id); dir != 0; id, dir = dir, s.paths.Dir(dir) {
		switch f := s.find(dir); {
		case f == nil:
			n, err := s.keep(&inode{flag: tar.TypeDir, implied: true, origin: dir})
			if err != nil {
				return err
			}
			s.put(dir, n, false)
		case f.flag != tar.TypeDir:
			return fmt.Errorf("entry %q: %w: %q is not a directory", s.paths.Path(id), tarutil.ErrMalformed, s.paths.Path(dir))
		// The directories above this one are added in a turn of its own.
		default:
			return nil
		}
	}
	return nil
}

// isDir says whether a path is that of a directory; the root always is.
func (s *snapshot) isDir(id tarutil.PathID) bool {
	f := s.find(id)
	return id == 0 || f != nil && f.flag == tar.TypeDir
}

// sum sets f.sum to the hash of content.
func (s *snapshot) sum(f *inode, content io.Reader) error {
	s.hash.Reset()

	// The structs hide WriteTo and ReadFrom, which would not use the buffer.
	if _, err := io.CopyBuffer(struct{ io.Writer }{s.hash}, struct{ io.Reader }{content}, s.buf); err != nil {
		return err
	}
	s.hash.Sum(f.sum[:0])
	f.known = true
	return nil
}

// know makes sure that the sum of a file is known, and opens the content again if need be.
func (s *snapshot) know(f *inode) error {
	if f.known {
		return nil
	}
	id := f.diskID()
	content, err := s.tree.Open(s.headerAs(f, f.origin), id.dev, id.ino)
	if err != nil {
		return err
	}
	defer content.Close() // it was only read
	return s.sum(f, content)
}

// sameContent compares the contents of two regular files.
func sameContent(olds, news *snapshot, a, b *inode) (bool, error) {
	if a.size != b.size {
		return false, nil
	}
	if a == b || sameOnDisk(a, b) {
		return true, nil
	}
	if err := cmp.Or(olds.know(a), news.know(b)); err != nil {
		return false, err
	}
	return a.sum == b.sum, nil
}
