package pack

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
)

// DirTree returns the directory path, or the one that the symbolic link path leads to, as
// a [tarutil.Tree] with owners, permissions and times as they are. It opens nothing before Walk. Hard
// links are seen within the directory. Sockets are left out; names that begin with ".wh." are errors
// wrapping [tarutil.ErrWhiteoutName], and files that change while they are read are errors wrapping
// [tarutil.ErrChanged].
func DirTree(path string) tarutil.Reopener { return &dirTree{path: path} }

// LeaveOut makes a tree of [DirTree] leave out the files in output, which are being written. Its Walk
// tells notice their paths, unless that is nil. LeaveOut does nothing to other trees.
func LeaveOut(t tarutil.Tree, output []fs.FileInfo, notice func(path string)) {
	if d, ok := t.(*dirTree); ok {
		d.opts.Output, d.opts.OutputNotice = output, notice
	}
}

// A dirTree is a directory as a [tarutil.Reopener].
type dirTree struct {
	path string
	opts Options // what is left out
	mu   sync.Mutex
	root *os.Root // kept for Open, until Reset
}

// Walk implements [tarutil.Tree].
func (d *dirTree) Walk(ctx context.Context, fn func(tarutil.TreeEntry) error) error {
	h, err := handle.Open(d.path)
	if err != nil {
		return fmt.Errorf("open %q: %w", d.path, err)
	}

	root := &treeDir{dir: handle.Share(h), path: d.path}
	defer root.dir.Release()

	// Trees are compared by what files are like, so nothing is set.
	opts := &Options{
		Owner: tarutil.Owner{Keep: true}, MTime: tarutil.KeepMTime(), Xattrs: handle.TreeXattrs,
		Output: d.opts.Output, OutputNotice: d.opts.OutputNotice,
	}

	names := make(map[handle.ID]string)
	w := &walker{opts: opts}
	w.send = func(it item) error {
		defer it.release()
		if it.hdr != nil {
			return fn(tarutil.TreeEntry{Header: it.hdr})
		}
		if it.tell != nil {
			it.tell(it.path())
			return nil
		}
		return it.fail(d.file(&it, opts, names, fn))
	}

	return w.walk(ctx, nil, []*treeDir{root}, "")
}

// file calls fn for what is not a directory.
func (d *dirTree) file(it *item, opts *Options, names map[handle.ID]string, fn func(tarutil.TreeEntry) error) error {
	f, info, attrs, err := it.open(opts.Xattrs)
	if err != nil {
		return err
	}
	entry := tarutil.TreeEntry{Header: &tar.Header{}}
	if f != nil {
		defer f.Close()
		entry.Content = &steadyFile{f, info, info.Size}
	}

	if opts.isOutput(info.ID) {
		if opts.OutputNotice != nil {
			opts.OutputNotice(it.path())
		}
		return nil
	}

	opts.fill(entry.Header, it.name, &info, attrs)
	entry.Dev, entry.Ino = info.ID.Dev, info.ID.Ino

	// A further name of a file is a hard link to the first.
	if info.Links > 1 && info.ID != (handle.ID{}) {
		if first, ok := names[info.ID]; ok {
			entry.Header = tarutil.HardLink(*entry.Header, first)
		} else {
			names[info.ID] = it.name
		}
	}

	return fn(entry)
}

// Open implements [tarutil.Reopener].
func (d *dirTree) Open(hdr *tar.Header, dev, ino uint64) (io.ReadCloser, error) {
	f, err := d.open(hdr, handle.ID{Dev: dev, Ino: ino})
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", filepath.Join(d.path, hdr.Name), err)
	}
	return f, nil
}

// open opens the file that Walk gave hdr and id for. Its path is looked up as a whole, and may lead
// elsewhere by now, so what was opened is compared.
func (d *dirTree) open(hdr *tar.Header, id handle.ID) (io.ReadCloser, error) {
	root, err := d.openRoot()
	if err != nil {
		return nil, handle.Cause(err)
	}

	f, err := root.OpenFile(filepath.FromSlash(hdr.Name), os.O_RDONLY|handle.NonblockFlags, 0)
	if err != nil {
		return nil, vanished(handle.Cause(err))
	}

	file := handle.FileOf(f)
	info, err := file.Info()
	if err == nil && (info.Flag != tar.TypeReg || info.ID != id || info.Size != hdr.Size || !info.ModTime().Equal(hdr.ModTime)) {
		err = tarutil.ErrChanged
	}
	if err != nil {
		f.Close()
		return nil, err
	}

	return &steadyFile{file, info, info.Size}, nil
}

// openRoot returns the root, which is opened once for all files.
func (d *dirTree) openRoot() (root *os.Root, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root == nil {
		d.root, err = os.OpenRoot(d.path)
	}
	return d.root, err
}

// Reset implements [tarutil.Reopener].
func (d *dirTree) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root != nil {
		d.root.Close() // it was only read
		d.root = nil
	}
}

// A steadyFile ends with an error if the file changed since info was taken.
type steadyFile struct {
	handle.File
	before handle.Info
	left   int64
}

func (s *steadyFile) Read(p []byte) (int, error) {
	if s.left == 0 {
		if err := unchanged(s.File, &s.before); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	n, err := s.File.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		err = fmt.Errorf("%w: it shrank", tarutil.ErrChanged)
	}
	return n, err
}
