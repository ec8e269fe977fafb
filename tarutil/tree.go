package tarutil

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A Tree is a file system to be compared: a directory, a tar, or what a stack of layers
// makes up.
type Tree interface {
	// Walk calls fn for each entry, and ends with fn's error if it returns one. No path comes
	// twice, unless as a directory both times. Walk may be called again, and then gives the
	// same entries, unless the tree has changed.
	Walk(ctx context.Context, fn func(TreeEntry) error) error
}

// A Reopener is a Tree that can open the content of an entry again, so that only contents
// that have to be compared are read. Open gets the entry's header, and Dev and Ino, as Walk
// gave them, and returns an error wrapping [ErrChanged] if the file is no longer that one.
type Reopener interface {
	Tree
	Open(hdr *tar.Header, dev, ino uint64) (io.ReadCloser, error)
}

// A TreeEntry is one file of a Tree. It is valid until the function that got it returns.
type TreeEntry struct {
	// Header has a clean path as Name: no leading, trailing or double slashes, no "." or
	// "..". The root has no entry, or one with an empty Name, which is ignored. A hard link has
	// the clean path of an entry that came before it as Linkname.
	Header *tar.Header
	// Content is that of a regular file. It is read at most once.
	Content io.Reader
	// Dev and Ino, if not zero, are the same for files that are the same, in this tree and in
	// others.
	Dev, Ino uint64
}

// DirTree returns the directory path, or the one that the symbolic link path leads to, as
// a Tree. Hard links are seen within it. Sockets are left out; names that begin with
// ".wh." are errors wrapping [ErrWhiteoutName].
func DirTree(path string) Tree { return &dirTree{path: path} }

type dirTree struct {
	path string
	mu   sync.Mutex
	root *os.Root // kept for Open, until reset
}

func (d *dirTree) Walk(ctx context.Context, fn func(TreeEntry) error) error {
	h, err := openTree(d.path)
	if err != nil {
		return fmt.Errorf("open %q: %w", d.path, err)
	}
	root := &treeDir{dir: newSharedDir(h), path: d.path}
	defer root.dir.release()
	opts := &PackOptions{Owner: Owner{Keep: true}, MTime: KeepMTime(), Xattrs: treeXattrs}
	names := make(map[fileID]string)
	w := &walker{opts: opts}
	w.send = func(it item) error {
		defer it.release()
		if it.hdr != nil {
			return fn(TreeEntry{Header: it.hdr})
		}
		return it.fail(d.file(&it, opts, names, fn))
	}
	return w.walk(ctx, nil, []*treeDir{root}, "")
}

// file calls fn for what is no directory.
func (d *dirTree) file(it *item, opts *PackOptions, names map[fileID]string, fn func(TreeEntry) error) error {
	var info fileInfo
	var attrs map[string]string
	entry := TreeEntry{Header: &tar.Header{}}
	if it.flag == typeReg {
		f, err := it.in.dir.openFile(it.base)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err = f.info(); err != nil {
			return err
		}
		if attrs, err = f.xattrs(opts.Xattrs); err != nil {
			return err
		}
		entry.Content = &steadyFile{f, info, info.size}
	} else {
		var err error
		if info, attrs, err = it.in.dir.lstat(it.base, opts.Xattrs); err != nil {
			return err
		}
	}
	if info.flag != it.flag {
		return ErrChanged
	}
	opts.fill(entry.Header, it.name, &info, attrs)
	entry.Dev, entry.Ino = info.id.dev, info.id.ino
	if info.links > 1 && info.id != (fileID{}) {
		if first, ok := names[info.id]; ok {
			entry.Header = asLink(*entry.Header, first)
		} else {
			names[info.id] = it.name
		}
	}
	return fn(entry)
}

// Open implements [Reopener].
func (d *dirTree) Open(hdr *tar.Header, dev, ino uint64) (io.ReadCloser, error) {
	f, err := d.open(hdr, fileID{dev, ino})
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", filepath.Join(d.path, hdr.Name), err)
	}
	return f, nil
}

func (d *dirTree) open(hdr *tar.Header, id fileID) (io.ReadCloser, error) {
	root, err := d.openRoot()
	if err != nil {
		return nil, cause(err)
	}
	f, err := root.OpenFile(filepath.FromSlash(hdr.Name), os.O_RDONLY|nonblockFlags, 0)
	if err != nil {
		return nil, cause(err)
	}
	file := rootFile{f}
	info, err := file.info()
	if err == nil && (info.flag != typeReg || info.id != id || info.size != hdr.Size || !info.mtime().Equal(hdr.ModTime)) {
		err = ErrChanged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &steadyFile{file, info, info.size}, nil
}

func (d *dirTree) openRoot() (root *os.Root, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root == nil {
		d.root, err = os.OpenRoot(d.path)
	}
	return d.root, err
}

// reset closes what Open has kept open. Open may be called again.
func (d *dirTree) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root != nil {
		d.root.Close() // it was only read
		d.root = nil
	}
}

// A steadyFile ends with an error if the file changed since info was taken.
type steadyFile struct {
	fileHandle
	before fileInfo
	left   int64
}

func (s *steadyFile) Read(p []byte) (int, error) {
	if s.left == 0 {
		if err := unchanged(s.fileHandle, &s.before); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	n, err := s.fileHandle.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		err = fmt.Errorf("%w: it shrank", ErrChanged)
	}
	return n, err
}

// TarTree returns the tar that r holds as a Tree: it may be compressed as [Decompress] knows.
// If r cannot seek, the first Walk copies it to a temporary file in tempDir ("" is the
// system's default), which [TarFile.Close] removes. A whiteout in it is an error wrapping
// [ErrWhiteoutName], for a tar with whiteouts is no tree without the layers below it.
func TarTree(r io.Reader, tempDir string) *TarFile {
	return &TarFile{r: r, tempDir: tempDir}
}

// A TarFile is a tar as a [Tree]. It is not safe for concurrent use.
type TarFile struct {
	// AllowNoEnd accepts a tar without the two zero blocks at its end; MaxSparse is as in
	// [RewriteOptions].
	AllowNoEnd bool
	MaxSparse  int64

	r       io.Reader
	tempDir string
	seeker  io.ReadSeeker // r, or copy
	start   int64
	copy    *os.File
}

// Walk implements [Tree].
func (t *TarFile) Walk(ctx context.Context, fn func(TreeEntry) error) error {
	if err := t.rewind(ctx); err != nil {
		return err
	}
	in, err := newEntryReader(ctx, t.seeker, t.AllowNoEnd, t.MaxSparse)
	if err != nil {
		return err
	}
	for {
		hdr, err := in.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, base := splitPath(hdr.Name); strings.HasPrefix(base, whiteoutPrefix) {
			return in.check.entryError(ErrWhiteoutName)
		}
		if err := fn(TreeEntry{Header: hdr, Content: in}); err != nil {
			return err
		}
	}
}

// rewind brings the stream to its start.
func (t *TarFile) rewind(ctx context.Context) error {
	if t.seeker != nil {
		_, err := t.seeker.Seek(t.start, io.SeekStart)
		return err
	}
	if s, ok := t.r.(io.ReadSeeker); ok {
		if start, err := s.Seek(0, io.SeekCurrent); err == nil {
			t.seeker, t.start = s, start
			return nil
		}
	}
	f, err := os.CreateTemp(t.tempDir, "ocikit-tar-*")
	if err != nil {
		return err
	}
	t.copy = f
	if _, err := io.Copy(f, &contextReader{ctx, t.r}); err != nil {
		return err
	}
	t.seeker = f
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// Close removes the temporary file, if there is one. It does not close the reader that
// [TarTree] got.
func (t *TarFile) Close() error {
	if t.copy == nil {
		return nil
	}
	f := t.copy
	t.copy, t.seeker = nil, nil
	err := f.Close()
	if rerr := os.Remove(f.Name()); err == nil {
		err = rerr
	}
	return err
}
