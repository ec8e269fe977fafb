// Package layout is the OCI image layout on disk (image-layout.md of the image-spec): a
// directory with the files oci-layout and index.json, and blobs named by their digests.
//
// Blobs go in through a [Writer], or [Layout.Put], and come out through [Layout.Blob],
// verified. Names live in index.json, which only [Layout.Update] changes, under a lock that
// other processes respect. [Layout.Resolve] finds what a name means, [Layout.Walk] what an
// image is made of, [Layout.Verify] what is wrong.
//
// # Design
//
// Every file is opened below an [os.Root], so no link in a layout leads out of it, and only
// regular files are read: a pipe named index.json must not hang the reader. A file appears
// under its name whole or not at all: it is written under a temporary name, synced, renamed,
// and its directory is synced. A temporary file is held with a lock while it is written, so
// that whatever a killed process left behind is told from a neighbour's work in progress,
// and removed by the next one that writes.
//
// The lock of index.json is one on the directory itself, so that a layout holds no file that
// the specification does not know, and readers need no write access.
package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
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
	ErrNotFound = errors.New("not found")
	// ErrNotLayout means that a directory is not an OCI image layout.
	ErrNotLayout = errors.New("not an OCI image layout")
	// ErrIncomplete means that an image names a blob that is absent.
	ErrIncomplete = errors.New("image is incomplete")
	// ErrConflict means that a tag does not have the digest that the caller expected.
	ErrConflict = errors.New("tag was changed")
	// ErrAmbiguous means that a name fits several images.
	ErrAmbiguous = errors.New("name is ambiguous")
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
}

// at returns the layout in root, without a look at it.
func at(root *os.Root, dir string) *Layout {
	return &Layout{root: root, dir: dir, sys: realSystem{}}
}

// Open opens an existing layout. The caller closes it. A directory that is absent gives an
// error that wraps fs.ErrNotExist, one that is no layout [ErrNotLayout].
func Open(dir string) (*Layout, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("layout %q: %w", dir, cause(err))
	}
	l := at(root, dir)
	l.path, _ = filepath.Abs(dir)
	if err := l.checkVersion(); err != nil {
		root.Close()
		return nil, fmt.Errorf("layout %q: %w", dir, err)
	}
	return l, nil
}

// Watch has report told of the blobs that are read from the layout, by [Layout.Blob],
// [Layout.Verify] and [Layout.Copy], but not of documents alone. It is called before anything
// else. Blobs may be read at the same time, so report must be safe for concurrent use.
func (l *Layout) Watch(report func(progress.Event)) { l.report = report }

// plan tells whoever watches how much is to come.
func (l *Layout) plan(count int, size int64) {
	if l.report != nil {
		l.report(progress.Event{Kind: progress.Plan, Count: count, Size: size})
	}
}

// Init makes dir an empty layout and opens it. The directory is created if need be; a
// layout that is there already is left as it is, a directory that holds anything else is
// an error.
func Init(dir string) (*Layout, error) {
	if l, err := Open(dir); err == nil {
		return l, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("layout %q: %w", dir, cause(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("layout %q: %w", dir, cause(err))
	}
	l := at(root, dir)
	l.path, _ = filepath.Abs(dir)
	leftover := func(e fs.DirEntry) bool { return e.Name() == blobsDir } // by an init that was cut short
	if err := l.init(leftover); err != nil {
		root.Close()
		return nil, fmt.Errorf("layout %q: %w", dir, err)
	}
	return l, nil
}

// init writes the files of an empty layout, oci-layout last: it makes the directory one. What
// else the directory may hold, besides files that layouts have anyway, is for allowed to say.
func (l *Layout) init(allowed func(fs.DirEntry) bool) error {
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
		case name == indexFile, name == lockFile, isTemp(name), allowed(e):
		default:
			return fmt.Errorf("%w: the directory holds %q", ErrNotLayout, name)
		}
	}
	if err := l.mkdirs(path.Join(blobsDir, string(digest.SHA256))); err != nil {
		return err
	}
	if _, err := l.root.Lstat(indexFile); errors.Is(err, fs.ErrNotExist) {
		empty := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
		if err := l.writeIndex(empty); err != nil {
			return err
		}
	}
	return l.writeFile(layoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

// Close releases the directory. Blobs that are open stay so.
func (l *Layout) Close() error { return l.root.Close() }

// Dir returns the directory as it was named when it was opened.
func (l *Layout) Dir() string { return l.dir }

func (l *Layout) checkVersion() error {
	data, err := l.readFile(layoutFile, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no file %s", ErrNotLayout, layoutFile)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotLayout, err)
	}
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := oci.Decode(data, &v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotLayout, layoutFile, err)
	}
	if v.Version != "1.0.0" {
		return fmt.Errorf("%w: imageLayoutVersion %q, want \"1.0.0\"", ErrNotLayout, v.Version)
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
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, cause(err))
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: over %d bytes: %w", name, limit, oci.ErrMalformed)
	}
	return data, nil
}

// open opens a regular file for reading and returns its size. A link, even one that stays
// inside, and anything that is not a file is refused without being opened.
func (l *Layout) open(name string) (*os.File, int64, error) {
	before, err := l.root.Lstat(name)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name, cause(err))
	}
	if !before.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: it is a %s, not a regular file: %w", name, kind(before.Mode()), oci.ErrMalformed)
	}
	f, err := l.root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name, cause(err))
	}
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
	info, err := l.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("it is a %s, not a directory: %w", kindOf(fs.FileInfoToDirEntry(info)), oci.ErrMalformed)
	}
	return fs.ReadDir(l.root.FS(), name)
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

// cause strips the operation and the path that package os puts around an error: the
// layers above say them in their own words.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}
