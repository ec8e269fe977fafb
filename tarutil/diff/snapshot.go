package diff

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"time"

	"ocikit/tarutil"
)

// hashBuffer is the size of the pieces in which contents are hashed.
const hashBuffer = 256 << 10

// A snapshot is what is remembered of a Tree: all but the contents.
type snapshot struct {
	tree     tarutil.Reopener // nil if contents cannot be opened later, and so are hashed as they pass
	contents bool             // they count
	files    map[string]*inode
	before   *snapshot         // what it will be compared with, or nil
	hidden   map[string]*inode // files that do not count, but may have other names that do
	names    []string          // of files, in tree order
	hash     hash.Hash
	buf      []byte
	budget   *tarutil.Budget
}

// An inode is a file with all its names. It is kept small: there is one for each entry.
type inode struct {
	flag         byte
	implied      bool // a directory that is there only because something is in it
	emit         bool // it goes into the layer
	mode         int32
	nano         int32
	uid, gid     uint32
	sec, size    int64
	major, minor int32
	link         string
	records      map[string]string
	id           diskID
	sum          *[sha256.Size]byte // nil if not known yet
	origin       string             // the name that came with the content
	first        string             // the first of its names in tree order
	more         []string           // the others
}

// A diskID tells whether two names are one file on disk. Its zero value says that it is
// unknown.
type diskID struct{ dev, ino uint64 }

// header returns the header of f under its first name.
func (f *inode) header() *tar.Header {
	return &tar.Header{
		Typeflag: f.flag,
		Name:     f.first, Linkname: f.link,
		Size: f.size, Mode: int64(f.mode),
		Uid: int(f.uid), Gid: int(f.gid),
		ModTime:  time.Unix(f.sec, int64(f.nano)),
		Devmajor: int64(f.major), Devminor: int64(f.minor),
		PAXRecords: f.records,
	}
}

// newInode takes over what counts of a header. Fields that do not hold its numbers are an error, so that
// two different numbers never look equal.
func newInode(e tarutil.TreeEntry) (*inode, error) {
	hdr := e.Header
	f := &inode{
		flag: hdr.Typeflag,
		mode: int32(hdr.Mode & 0o7777),
		uid:  uint32(hdr.Uid), gid: uint32(hdr.Gid),
		size: hdr.Size, link: hdr.Linkname,
		records: tarutil.ImageRecords(hdr.PAXRecords),
		id:      diskID{e.Dev, e.Ino},
		origin:  hdr.Name,
	}

	// All kinds of regular files are alike in an image.
	switch f.flag {
	case 0, tar.TypeCont, tar.TypeGNUSparse:
		f.flag = tar.TypeReg
	case tar.TypeChar, tar.TypeBlock:
		f.major, f.minor = int32(hdr.Devmajor), int32(hdr.Devminor)
		if int64(f.major) != hdr.Devmajor || int64(f.minor) != hdr.Devminor {
			return nil, fmt.Errorf("%w: device number %d:%d", tarutil.ErrMalformed, hdr.Devmajor, hdr.Devminor)
		}
	}

	if !hdr.ModTime.IsZero() {
		f.sec, f.nano = hdr.ModTime.Unix(), int32(hdr.ModTime.Nanosecond())
	}

	if f.flag != tar.TypeReg {
		f.size = 0
	}

	if int(f.uid) != hdr.Uid || int(f.gid) != hdr.Gid {
		return nil, fmt.Errorf("%w: owner %d:%d", tarutil.ErrMalformed, hdr.Uid, hdr.Gid)
	}

	return f, nil
}

// inodeMemory is about how many bytes one file of a tree needs, with its place in the maps.
const inodeMemory = 290

// takeSnapshot walks a tree. Contents that cannot be opened later are hashed at once, and
// so are those that will be compared with before, if that is not nil. None is read if they are ignored.
func takeSnapshot(ctx context.Context, tree tarutil.Tree, opts *Options, before *snapshot) (*snapshot, error) {
	s := &snapshot{
		contents: opts.Ignore&Content == 0,
		before:   before,
		budget:   tarutil.NewBudget(0),
		files:    make(map[string]*inode),
		hidden:   make(map[string]*inode),
		hash:     sha256.New(),
		buf:      make([]byte, hashBuffer),
	}

	s.tree, _ = tree.(tarutil.Reopener)
	if before != nil {
		s.budget = before.budget // one for both trees
	}

	// An excluded file is remembered all the same, apart from the others: a path that counts may
	// be a hard link to it.
	err := tree.Walk(ctx, func(e tarutil.TreeEntry) error {
		if e.Header.Name == "" {
			return nil
		}
		to := s.files
		if opts.Exclude.Match(e.Header.Name) {
			if e.Header.Typeflag == tar.TypeDir {
				return nil
			}
			to = s.hidden
		}
		if err := s.add(e, to); err != nil {
			return fmt.Errorf("entry %q: %w", e.Header.Name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	// Directories without an entry count as soon as something is in them.
	for _, name := range slices.Collect(maps.Keys(s.files)) {
		if err := s.imply(name); err != nil {
			return nil, err
		}
	}

	// The names are in order now, so the first of a file comes first, and stands for the file.
	s.names = slices.AppendSeq(make([]string, 0, len(s.files)), maps.Keys(s.files))
	slices.SortFunc(s.names, tarutil.ComparePaths)
	for _, name := range s.names {
		if f := s.files[name]; f.first == "" {
			f.first = name
		} else {
			f.more = append(f.more, name)
		}
	}

	return s, nil
}

// add takes one entry into the map to.
func (s *snapshot) add(e tarutil.TreeEntry, to map[string]*inode) (err error) {
	hdr := e.Header
	if err := s.budget.Take(inodeMemory + 2*len(hdr.Name) + len(hdr.Linkname) + tarutil.RecordsMemory(hdr.PAXRecords)); err != nil {
		return err
	}

	// A path may come twice only as a directory, where the last entry counts.
	if before := to[hdr.Name]; before != nil && (before.flag != tar.TypeDir || hdr.Typeflag != tar.TypeDir) {
		return tarutil.ErrDuplicate
	}

	// A hard link is one more name of an inode. Both sides of the exclusion are searched.
	if hdr.Typeflag == tar.TypeLink {
		f := s.files[hdr.Linkname]
		if f == nil {
			f = s.hidden[hdr.Linkname]
		}
		if f == nil || f.flag == tar.TypeDir {
			return fmt.Errorf("%w: hard link to %q, which is not a file before it", tarutil.ErrMalformed, hdr.Linkname)
		}
		to[hdr.Name] = f
		return nil
	}

	f, err := newInode(e)
	if err != nil {
		return err
	}

	if f.flag == tar.TypeReg && s.contents && (s.tree == nil || s.willCompare(f)) {
		err = s.sum(f, e.Content)
	}

	to[hdr.Name] = f
	return err
}

// willCompare reports whether the content of f will be compared with one of the same size that is not
// the same file on disk. Then it is hashed as it passes, which saves opening it again.
func (s *snapshot) willCompare(f *inode) bool {
	if s.before == nil {
		return false
	}
	old := s.before.files[f.origin]
	return old != nil && old.flag == tar.TypeReg && old.size == f.size && (old.id != f.id || f.id == diskID{})
}

// imply adds the directories that name lies in and that the tree has no entries for.
func (s *snapshot) imply(name string) error {
	for {
		dir, _ := tarutil.SplitPath(name)
		if dir == "" {
			return nil
		}
		switch f := s.files[dir]; {
		case f == nil:
			if err := s.budget.Take(inodeMemory + 2*len(dir)); err != nil {
				return err
			}
			s.files[dir] = &inode{flag: tar.TypeDir, implied: true}
		case f.flag != tar.TypeDir:
			return fmt.Errorf("entry %q: %w: %q is not a directory", name, tarutil.ErrMalformed, dir)
		// The directories above this one are added in a turn of its own.
		default:
			return nil
		}
		name = dir
	}
}

// isDir says whether path is a directory; the root always is.
func (s *snapshot) isDir(path string) bool {
	f := s.files[path]
	return path == "" || f != nil && f.flag == tar.TypeDir
}

// sum sets f.sum to the hash of content.
func (s *snapshot) sum(f *inode, content io.Reader) error {
	s.hash.Reset()

	// The structs hide WriteTo and ReadFrom, which would not use the buffer.
	if _, err := io.CopyBuffer(struct{ io.Writer }{s.hash}, struct{ io.Reader }{content}, s.buf); err != nil {
		return err
	}
	f.sum = new([sha256.Size]byte)
	s.hash.Sum(f.sum[:0])
	return nil
}

// know makes sure that f.sum is set, and opens the content again if need be.
func (s *snapshot) know(f *inode) error {
	if f.sum != nil {
		return nil
	}
	hdr := f.header()
	hdr.Name = f.origin
	content, err := s.tree.Open(hdr, f.id.dev, f.id.ino)
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
	if a.id == b.id && a.id != (diskID{}) {
		return true, nil
	}
	if err := cmp.Or(olds.know(a), news.know(b)); err != nil {
		return false, err
	}
	return *a.sum == *b.sum, nil
}
