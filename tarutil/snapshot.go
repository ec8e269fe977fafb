package tarutil

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
)

// A snapshot is what is remembered of a Tree: all but the contents.
type snapshot struct {
	tree   Reopener // nil if contents are hashed as they pass
	files  map[string]*inode
	before *snapshot         // what it will be compared with, or nil
	hidden map[string]*inode // files that do not count, but may have other names that do
	names  []string          // of files, in tree order
	hash   hash.Hash
	buf    []byte
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
	id           fileID
	sum          *[sha256.Size]byte // nil if not known yet
	origin       string             // the name that came with the content
	first        string             // the first of its names in tree order
	more         []string           // the others
}

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

// newInode takes over what counts of a header.
func newInode(e TreeEntry) (*inode, error) {
	hdr := e.Header
	f := &inode{
		flag: hdr.Typeflag,
		mode: int32(hdr.Mode & 0o7777),
		uid:  uint32(hdr.Uid), gid: uint32(hdr.Gid),
		size: hdr.Size, link: hdr.Linkname,
		records: imageRecords(hdr.PAXRecords),
		id:      fileID{e.Dev, e.Ino},
		origin:  hdr.Name,
	}
	switch f.flag {
	case 0, tar.TypeCont, tar.TypeGNUSparse:
		f.flag = typeReg
	case typeChar, typeBlock:
		f.major, f.minor = int32(hdr.Devmajor), int32(hdr.Devminor)
		if int64(f.major) != hdr.Devmajor || int64(f.minor) != hdr.Devminor {
			return nil, fmt.Errorf("%w: device number %d:%d", ErrMalformed, hdr.Devmajor, hdr.Devminor)
		}
	}
	if !hdr.ModTime.IsZero() {
		f.sec, f.nano = hdr.ModTime.Unix(), int32(hdr.ModTime.Nanosecond())
	}
	if f.flag != typeReg {
		f.size = 0
	}
	if int(f.uid) != hdr.Uid || int(f.gid) != hdr.Gid {
		return nil, fmt.Errorf("%w: owner %d:%d", ErrMalformed, hdr.Uid, hdr.Gid)
	}
	return f, nil
}

// takeSnapshot walks a tree. Contents that cannot be opened later are hashed at once, and
// so are those that will be compared with before, if that is not nil.
func takeSnapshot(ctx context.Context, tree Tree, opts *DiffOptions, before *snapshot) (*snapshot, error) {
	s := &snapshot{
		files:  make(map[string]*inode),
		hidden: make(map[string]*inode),
		hash:   sha256.New(),
		buf:    make([]byte, copySize),
	}
	s.tree, _ = tree.(Reopener)
	if opts.Ignore&WhatContent == 0 {
		s.before = before
	}
	err := tree.Walk(ctx, func(e TreeEntry) error {
		if e.Header.Name == "" {
			return nil
		}
		to := s.files
		if opts.Exclude.Match(e.Header.Name) {
			if e.Header.Typeflag == typeDir {
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
	for _, name := range slices.Collect(maps.Keys(s.files)) {
		if err := s.imply(name); err != nil {
			return nil, err
		}
	}
	s.names = slices.AppendSeq(make([]string, 0, len(s.files)), maps.Keys(s.files))
	slices.SortFunc(s.names, comparePaths)
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
func (s *snapshot) add(e TreeEntry, to map[string]*inode) (err error) {
	hdr := e.Header
	if before := to[hdr.Name]; before != nil && (before.flag != typeDir || hdr.Typeflag != typeDir) {
		return ErrDuplicate
	}
	if hdr.Typeflag == typeLink {
		f := s.files[hdr.Linkname]
		if f == nil {
			f = s.hidden[hdr.Linkname]
		}
		if f == nil || f.flag == typeDir {
			return fmt.Errorf("%w: hard link to %q, which is no file before it", ErrMalformed, hdr.Linkname)
		}
		to[hdr.Name] = f
		return nil
	}
	f, err := newInode(e)
	if err != nil {
		return err
	}
	if f.flag == typeReg && (s.tree == nil || s.willCompare(f)) {
		err = s.sum(f, e.Content)
	}
	to[hdr.Name] = f
	return err
}

// willCompare says whether the content of f will have to be known.
func (s *snapshot) willCompare(f *inode) bool {
	if s.before == nil {
		return false
	}
	old := s.before.files[f.origin]
	return old != nil && old.flag == typeReg && old.size == f.size && (old.id != f.id || f.id == fileID{})
}

// imply adds the directories that name lies in, where the tree has no entries for them.
func (s *snapshot) imply(name string) error {
	for {
		dir, _ := splitPath(name)
		if dir == "" {
			return nil
		}
		switch f := s.files[dir]; {
		case f == nil:
			s.files[dir] = &inode{flag: typeDir, implied: true}
		case f.flag != typeDir:
			return fmt.Errorf("entry %q: %w: %q is no directory", name, ErrMalformed, dir)
		default:
			return nil
		}
		name = dir
	}
}

// isDir says whether path is a directory; the root always is.
func (s *snapshot) isDir(path string) bool {
	f := s.files[path]
	return path == "" || f != nil && f.flag == typeDir
}

// sum hashes content.
func (s *snapshot) sum(f *inode, content io.Reader) error {
	s.hash.Reset()
	if _, err := io.CopyBuffer(struct{ io.Writer }{s.hash}, struct{ io.Reader }{content}, s.buf); err != nil {
		return err
	}
	f.sum = new([sha256.Size]byte)
	s.hash.Sum(f.sum[:0])
	return nil
}

// know hashes the content of f if that was not done yet.
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
	if a.id == b.id && a.id != (fileID{}) {
		return true, nil
	}
	if err := cmp.Or(olds.know(a), news.know(b)); err != nil {
		return false, err
	}
	return *a.sum == *b.sum, nil
}
