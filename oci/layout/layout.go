// Package layout is the OCI image layout on disk (image-layout.md of the image-spec): a
// directory with the files oci-layout and index.json, and blobs named by their digests.
//
// Blobs go in through a [Writer], or [Layout.Put], and come out through [Layout.Blob],
// verified. Names live in index.json, which only [Layout.Update] changes, under a lock that
// other processes respect. [Layout.Resolve] finds what a name means, [Layout.Verify] what is wrong.
// A layout is a [graph.Store]: package graph says what an image in it is made of.
//
// # Design
//
// Every file is opened below an [os.Root], so no link in a layout leads out of it, and only regular
// files are read: a pipe named index.json must not hang the reader. A file appears under its name
// whole or not at all: it is written under a temporary name, synced, renamed, and its directory is
// synced. A temporary file is locked while it is written. So the next process that writes can tell
// what a killed process left behind from a neighbour's work in progress, and removes it.
//
// The lock of index.json is one on the directory itself, so that a layout holds no file that
// the specification does not know, and readers need no write access.
package layout

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
)

// Names of a layout's files.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	blobsDir   = "blobs"
)

var (
	// ErrNotFound means that a name or a blob is not in the layout.
	ErrNotFound = graph.ErrNotFound
	// ErrNotLayout means that a directory is not an OCI image layout.
	ErrNotLayout = errors.New("not an OCI image layout")
	// ErrIncomplete means that an image names a blob that is absent.
	ErrIncomplete = graph.ErrIncomplete
	// ErrConflict means that a tag does not have the digest that the caller expected.
	ErrConflict = errors.New("tag was changed")
	// ErrAmbiguous means that a name fits several images.
	ErrAmbiguous = graph.ErrAmbiguous
)

// A Layout is an open layout directory. Its methods may be used concurrently, and by several
// processes on one directory.
type Layout struct {
	root *os.Root
	dir  string // as the user named it, for messages
	path string // absolute; "" if the layout was opened below a root
	sys  system

	report func(progress.Event) // see Watch

	sweep sync.Once // of what killed writers left behind

	list struct { // index.json as it was read last
		sync.Mutex
		file fs.FileInfo
		x    oci.Index
	}

	outside struct { // where blobs leads if it is a link out of the layout, else nil; see within
		sync.Once
		root *os.Root
	}

	dirs struct { // of blobs, by algorithm, as they were opened first
		sync.Mutex
		open map[digest.Algorithm]*os.Root
	}
}

// openDir returns the layout in a directory that open opens. Whether it is one is not checked.
func openDir(dir string, open func(string) (*os.Root, error)) (*Layout, error) {
	root, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("layout %q: %w", dir, cause(err))
	}
	return at(root, dir), nil
}

// openBelow is openDir for a directory below root.
func openBelow(root *os.Root, name string) (*Layout, error) {
	return openDir(name, func(name string) (*os.Root, error) { return disk.OpenRootIn(root, name) })
}

// checked returns the layout, or closes it if there is an error about it.
func (l *Layout) checked(err error) (*Layout, error) {
	if err != nil {
		l.root.Close()
		return nil, fmt.Errorf("layout %q: %w", l.dir, err)
	}
	return l, nil
}

// at returns the layout in root. Whether it is one is not checked.
func at(root *os.Root, dir string) *Layout {
	return &Layout{root: root, dir: dir, sys: realSystem{}}
}

// Open opens an existing layout. The caller closes it. A directory that is absent gives an
// error that wraps fs.ErrNotExist, one that is not a layout [ErrNotLayout].
func Open(dir string) (*Layout, error) {
	l, err := openDir(dir, disk.OpenRoot)
	if err != nil {
		return nil, err
	}
	l.path, _ = filepath.Abs(dir)
	return l.checked(l.checkVersion())
}

// Watch makes the layout call report while blobs are read by [Layout.Blob], [Layout.Verify] and
// [Layout.Copy], but not for documents alone. It is called before any other method. Blobs may be
// read at the same time, so report must be safe for concurrent use.
func (l *Layout) Watch(report func(progress.Event)) { l.report = report }

// plan tells the function given to [Layout.Watch] how much is to come.
func (l *Layout) plan(count int, size int64) {
	if l.report != nil {
		l.report(progress.Event{Kind: progress.Plan, Count: count, Size: size})
	}
}

// Init makes dir an empty layout and opens it; the caller closes it. The directory is created
// if need be; a layout that is there already is left as it is, a directory that holds anything
// else is an error.
func Init(dir string) (*Layout, error) {
	if l, err := Open(dir); err == nil {
		return l, nil
	}

	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("layout %q: %w", dir, cause(err))
	}

	l, err := openDir(dir, disk.OpenRoot)
	if err != nil {
		return nil, err
	}

	l.path, _ = filepath.Abs(dir)
	leftover := func(e fs.DirEntry) bool { return e.Name() == blobsDir } // by an init that was cut short
	return l.checked(l.init(leftover, nil))
}

// makeDir makes a directory, and those that it is in, durably where the system can.
func makeDir(dir string) error {
	var missing []string
	for at := filepath.Clean(dir); at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Lstat(at); err == nil {
			break
		}
		missing = append(missing, at)
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}

	for _, made := range missing {
		if parent, err := os.Open(filepath.Dir(made)); err == nil {
			parent.Sync()
			parent.Close()
		}
	}

	return nil
}

// init writes the files of an empty layout, oci-layout last: with that file the directory is a
// layout. Besides files that layouts have anyway the directory may hold what allowed accepts.
func (l *Layout) init(allowed func(fs.DirEntry) bool, annotations map[string]string) error {
	unlock, err := l.lock(nil)
	if err != nil {
		return err
	}
	defer unlock()

	names, err := fs.ReadDir(l.root.FS(), ".")
	if err != nil {
		return err
	}

	for _, e := range names {
		switch name := e.Name(); {
		case name == layoutFile:
			return l.checkVersion() // another process was first
		case name == indexFile, name == disk.LockFile, isTemp(name), allowed(e):
		default:
			return fmt.Errorf("%w: the directory holds %q", ErrNotLayout, name)
		}
	}

	if err := l.mkdirs(path.Join(blobsDir, string(digest.SHA256))); err != nil {
		return err
	}

	if _, err := l.root.Lstat(indexFile); errors.Is(err, fs.ErrNotExist) {
		empty := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Annotations: oci.AnnotationsOf(annotations)}
		if err := l.writeIndex(empty, nil); err != nil {
			return err
		}
	}

	return l.writeBytes(layoutFile, []byte(`{"imageLayoutVersion":"`+oci.LayoutVersion+`"}`))
}

// Close releases the directory. Blobs that are open stay so.
func (l *Layout) Close() error {
	l.dirs.Lock()
	defer l.dirs.Unlock()
	for _, dir := range l.dirs.open {
		dir.Close()
	}
	l.dirs.open = nil
	if out := l.outsideRoot(); out != nil {
		out.Close()
	}
	return l.root.Close()
}

// Name returns the directory as it was named when it was opened.
func (l *Layout) Name() string { return l.dir }

func (l *Layout) checkVersion() error {
	data, err := l.readFile(layoutFile, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no file %s", ErrNotLayout, layoutFile)
	}

	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotLayout, err)
	}

	if err := oci.CheckLayoutVersion(data); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotLayout, layoutFile, err)
	}
	return nil
}

// readFile reads a regular file of at most limit bytes.
func (l *Layout) readFile(name string, limit int64) ([]byte, error) {
	f, size, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	if size > limit {
		return nil, fmt.Errorf("%s: %d bytes, the limit is %d: %w", name, size, limit, oci.ErrMalformed)
	}

	// The buffer gets its whole size at once, since index.json may be long.
	var b bytes.Buffer
	b.Grow(int(size) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, cause(err))
	}

	data := b.Bytes()
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: over %d bytes: %w", name, limit, oci.ErrMalformed)
	}

	return data, nil
}

// open opens a regular file for reading and returns its size. A link, even one that stays
// inside, and anything that is not a file is refused without being opened.
func (l *Layout) open(name string) (*os.File, int64, error) { return openIn(l.within(name)) }

// within returns the directory in which a file is looked for, and its name there. The layout's own
// root follows no link that leads out of it. The user may have made one of blobs, to share them
// among layouts: this one is followed to read, and nothing is written or removed behind it.
func (l *Layout) within(name string) (*os.Root, string) {
	rest, ok := strings.CutPrefix(name, blobsDir)
	if !ok || rest != "" && rest[0] != '/' {
		return l.root, name
	}
	if out := l.outsideRoot(); out != nil {
		return out, cmp.Or(strings.TrimPrefix(rest, "/"), ".")
	}
	return l.root, name
}

// outsideRoot returns the directory that blobs leads to, or nil if it is in the layout.
func (l *Layout) outsideRoot() *os.Root {
	l.outside.Do(func() {
		info, err := l.root.Lstat(blobsDir)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 || l.path == "" {
			return
		}
		if _, err := l.root.Stat(blobsDir); err == nil {
			return
		}

		l.outside.root, _ = disk.OpenRoot(filepath.Join(l.path, blobsDir))
	})
	return l.outside.root
}

func openIn(root *os.Root, name string) (*os.File, int64, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name, cause(err))
	}

	if !before.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: it is a %s, not a regular file: %w", name, kind(before.Mode()), oci.ErrMalformed)
	}

	f, err := root.OpenFile(name, os.O_RDONLY|disk.OpenFlags, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name, cause(err))
	}

	// The file may have been replaced since it was looked at: what was opened counts.
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) && !after.Mode().IsRegular() {
		err = fmt.Errorf("it became a %s: %w", kind(after.Mode()), oci.ErrMalformed)
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("%s: %w", name, cause(err))
	}

	return f, after.Size(), nil
}

// readDir lists a directory, sorted by name. Something else of that name, as a pipe, is not
// opened: that could wait for ever.
func (l *Layout) readDir(name string) ([]fs.DirEntry, error) {
	root, below := l.within(name)
	info, err := root.Stat(below)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("it is a %s, not a directory: %w", kindOf(fs.FileInfoToDirEntry(info)), oci.ErrMalformed)
	}
	return fs.ReadDir(root.FS(), below)
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m.IsDir():
		return "directory"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

// cause strips the operation and the path that package os puts around an error.
func cause(err error) error { return oci.Pathless(err) }
