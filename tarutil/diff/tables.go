package diff

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"ocikit/tarutil"
)

// tables hold what the files of both trees have in common, so that a file knows it by number.
type tables struct {
	paths      *tarutil.PathTable
	order      tarutil.PathChildren // of paths, once both trees were walked
	attributes interner[attributes]
	targets    interner[string]    // of symbolic links
	records    interner[string]    // by recordsKey
	values     []map[string]string // of records, by their numbers

	lastDir string // the directory of the entry before,
	lastID  tarutil.PathID
}

// attributes are those that many files share.
type attributes struct {
	mode     int32
	uid, gid uint32
	records  uint32
}

func newTables() *tables {
	t := &tables{paths: tarutil.NewPathTable(tarutil.NewBudget(0))}
	t.records.number("")
	t.values = []map[string]string{nil}
	t.attributes.number(attributes{}) // of directories without an entry
	return t
}

// An interner gives equal values one number.
type interner[T comparable] struct {
	list    []T
	numbers map[T]uint32
}

// number returns the number of a value, and whether it is a new one.
func (i *interner[T]) number(v T) (n uint32, isNew bool) {
	if n, ok := i.numbers[v]; ok {
		return n, false
	}
	if i.numbers == nil {
		i.numbers = make(map[T]uint32)
	}
	n = uint32(len(i.list))
	i.list, i.numbers[v] = append(i.list, v), n
	return n, true
}

// internMemory is about how many bytes a value of an interner takes besides its text.
const internMemory = 100

// pathID returns the number of a path. Trees give what is in a directory one after the other.
func (t *tables) pathID(name string) (tarutil.PathID, error) {
	dir, base := tarutil.SplitPath(name)
	if dir != t.lastDir {
		id, err := t.paths.AddPath(dir)
		if err != nil {
			return 0, err
		}
		t.lastDir, t.lastID = strings.Clone(dir), id
	}
	return t.paths.Add(t.lastID, base)
}

// newInode takes over what counts of a header, but for the content. Fields that do not hold its numbers
// are an error, so that two different numbers never look equal.
func (t *tables) newInode(e tarutil.TreeEntry, id tarutil.PathID) (*inode, error) {
	hdr := e.Header
	f := &inode{flag: hdr.Typeflag, origin: id}
	if !hdr.ModTime.IsZero() {
		f.sec, f.nano = hdr.ModTime.Unix(), int32(hdr.ModTime.Nanosecond())
	}

	// All kinds of regular files are alike in an image.
	switch f.flag {
	case tar.TypeReg, 0, tar.TypeCont, tar.TypeGNUSparse:
		f.flag, f.size = tar.TypeReg, hdr.Size
		f.setDiskID(e.Dev, e.Ino)
	case tar.TypeSymlink:
		n, isNew := t.targets.number(strings.Clone(hdr.Linkname))
		if f.size = int64(n); isNew {
			if err := t.paths.Budget.Take(internMemory + len(hdr.Linkname)); err != nil {
				return nil, err
			}
		}
	case tar.TypeChar, tar.TypeBlock:
		major, minor := int32(hdr.Devmajor), int32(hdr.Devminor)
		if int64(major) != hdr.Devmajor || int64(minor) != hdr.Devminor {
			return nil, fmt.Errorf("%w: device number %d:%d", tarutil.ErrMalformed, hdr.Devmajor, hdr.Devminor)
		}
		f.size = int64(major)<<32 | int64(uint32(minor))
	}

	var err error
	f.attrs, err = t.attributesOf(hdr)
	return f, err
}

// attributesOf returns the number of the attributes in a header.
func (t *tables) attributesOf(hdr *tar.Header) (uint32, error) {
	a := attributes{mode: int32(hdr.Mode & 0o7777), uid: uint32(hdr.Uid), gid: uint32(hdr.Gid)}
	if int(a.uid) != hdr.Uid || int(a.gid) != hdr.Gid {
		return 0, fmt.Errorf("%w: owner %d:%d", tarutil.ErrMalformed, hdr.Uid, hdr.Gid)
	}

	if records := tarutil.ImageRecords(hdr.PAXRecords); records != nil {
		n, isNew := t.records.number(recordsKey(records))
		if a.records = n; isNew {
			t.values = append(t.values, records)
			if err := t.paths.Budget.Take(internMemory + 2*tarutil.RecordsMemory(records)); err != nil {
				return 0, err
			}
		}
	}

	n, isNew := t.attributes.number(a)
	if isNew {
		return n, t.paths.Budget.Take(internMemory)
	}
	return n, nil
}

// headerAs returns the header of f under one of its names.
func (t *tables) headerAs(f *inode, name tarutil.PathID) *tar.Header {
	a := t.attributes.list[f.attrs]
	hdr := &tar.Header{
		Typeflag: f.flag,
		Name:     t.paths.Path(name),
		Mode:     int64(a.mode),
		Uid:      int(a.uid), Gid: int(a.gid),
		ModTime:    time.Unix(f.sec, int64(f.nano)),
		PAXRecords: maps.Clone(t.values[a.records]),
	}

	switch f.flag {
	case tar.TypeReg:
		hdr.Size = f.size
	case tar.TypeSymlink:
		hdr.Linkname = t.targets.list[f.size]
	case tar.TypeChar, tar.TypeBlock:
		hdr.Devmajor, hdr.Devminor = f.size>>32, int64(int32(f.size))
	}

	return hdr
}

// inOrder yields all paths in tree order.
func (t *tables) inOrder() iter.Seq[tarutil.PathID] {
	var below func(dir tarutil.PathID, yield func(tarutil.PathID) bool) bool
	below = func(dir tarutil.PathID, yield func(tarutil.PathID) bool) bool {
		for _, id := range t.order.Of(dir) {
			if !yield(id) || !below(id, yield) {
				return false
			}
		}
		return true
	}
	return func(yield func(tarutil.PathID) bool) { below(0, yield) }
}

// recordsKey returns a text that is the same for the same records alone.
func recordsKey(records map[string]string) string {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(records)) {
		for _, s := range []string{name, records[name]} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return string(b)
}
