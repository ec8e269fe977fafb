package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"ocikit/digest"
)

// UploadPrefix begins the names of files in a layout's directory that hold blobs on their
// way in. They outlive the process that writes them, unlike temporary files, so the sweep of
// leftovers spares them: who makes them removes them. Readers of layouts do not see them.
const UploadPrefix = ".ocikit-upload-"

// OpenBelow opens the layout in the directory name below root; no link leads it out of root.
// Its errors are those of [Open]. In messages the layout has the name, without that of root.
func OpenBelow(root *os.Root, name string) (*Layout, error) {
	sub, err := root.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("layout %q: %w", name, cause(err))
	}
	l := at(sub, name)
	if err := l.checkVersion(); err != nil {
		sub.Close()
		return nil, fmt.Errorf("layout %q: %w", name, err)
	}
	return l, nil
}

// InitBelow is [Init] for the directory name below root. The directory may hold others,
// which may be layouts too, and files that begin with [UploadPrefix]; any other file is an
// error that wraps [ErrNotLayout].
func InitBelow(root *os.Root, name string) (*Layout, error) {
	if l, err := OpenBelow(root, name); err == nil {
		return l, nil
	}
	if err := at(root, ".").mkdirs(name); err != nil {
		return nil, err
	}
	sub, err := root.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("layout %q: %w", name, cause(err))
	}
	l := at(sub, name)
	shared := func(e fs.DirEntry) bool { return e.IsDir() || strings.HasPrefix(e.Name(), UploadPrefix) }
	if err := l.init(shared); err != nil {
		sub.Close()
		return nil, fmt.Errorf("layout %q: %w", name, err)
	}
	return l, nil
}

// Adopt makes the file name of the layout's directory the blob d, durably and without
// copying; a blob that is there already is replaced. The caller has hashed the bytes, f is
// the open file. Adopt closes it. On error the file is gone and the layout is as before.
func (l *Layout) Adopt(f *os.File, name string, d digest.Digest) error {
	if err := l.mkdirs(path.Dir(blobPath(d))); err != nil {
		f.Close()
		l.sys.remove(l.root, name)
		return err
	}
	return l.publish(f, name, blobPath(d))
}

// LinkBlob gives the layout to the blob d of the layout from, both named as directories
// below root, by a hard link. The layout to must exist; a blob that it has already is left as
// it is. An absent blob gives [ErrNotFound]; that the file system cannot link is another
// error, and then nothing has changed.
func LinkBlob(root *os.Root, from, to string, d digest.Digest) error {
	blob := blobPath(d)
	l := at(root, to)
	info, err := root.Lstat(path.Join(from, blob))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("layout %q: blob %s: %w", from, d, ErrNotFound)
	}
	if err == nil {
		err = l.mkdirs(path.Join(to, path.Dir(blob)))
	}
	if err == nil {
		err = l.sys.linkBelow(root, path.Join(from, blob), path.Join(to, blob))
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = l.syncDir(path.Join(to, path.Dir(blob)))
	}
	if err != nil {
		return fmt.Errorf("layout %q: link blob %s of %q: %w", to, d, from, cause(err))
	}
	return nil
}

// RemoveBlob removes a blob, durably. It does not ask whether an image needs it. An absent
// blob gives [ErrNotFound].
func (l *Layout) RemoveBlob(d digest.Digest) error {
	err := l.sys.remove(l.root, blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", d, ErrNotFound)
	}
	if err == nil {
		err = l.syncDir(path.Dir(blobPath(d)))
	}
	if err != nil {
		return fmt.Errorf("layout %q: remove blob %s: %w", l.dir, d, cause(err))
	}
	return nil
}

// TryLock takes an exclusive lock on an open file, as writers of layouts do, if nobody else
// has one. It ends when the file is closed, also by the death of the process.
func TryLock(f *os.File) bool { return tryLock(f) }
