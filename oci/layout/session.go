package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
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
// The caller closes it. Its errors are those of [Open]. In messages the layout has the name,
// without that of root.
func OpenBelow(root *os.Root, name string) (*Layout, error) {
	l, err := openBelow(root, name)
	if err != nil {
		return nil, err
	}
	return l.checked(l.checkVersion())
}

// InitBelow is [Init] for the directory name below root. The directory may hold others,
// which may be layouts too, and files that begin with [UploadPrefix]; any other file is an
// error that wraps [ErrNotLayout]. A layout that is made has the annotations in its index.json.
func InitBelow(root *os.Root, name string, annotations map[string]string) (*Layout, error) {
	if l, err := OpenBelow(root, name); err == nil {
		return l, nil
	}

	if err := at(root, ".").mkdirs(name); err != nil {
		return nil, err
	}

	l, err := openBelow(root, name)
	if err != nil {
		return nil, err
	}

	shared := func(e fs.DirEntry) bool { return e.IsDir() || strings.HasPrefix(e.Name(), UploadPrefix) }
	return l.checked(l.init(shared, annotations))
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

// LinkBlob gives the layout to the blob d that the layout from has, by a hard link. Both are
// the names of directories below root. The layout to must exist; a blob that it has already is
// left as it is. An absent blob gives [ErrNotFound]; that the file system cannot link is
// another error, and then nothing has changed.
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

// Lock takes the lock of index.json, as [Layout.Update] does, for a program that keeps the
// names in memory. Until unlock is called nobody else gives or takes names, or removes blobs.
// Waiting ends with ctx.
func (l *Layout) Lock(ctx context.Context) (unlock func(), err error) {
	if unlock, err = l.lock(ctx); err != nil {
		return nil, fmt.Errorf("layout %q: lock: %w", l.dir, err)
	}
	return unlock, nil
}

// ReplaceIndex replaces index.json by the text in parts, durably. It does not check that they
// make an index. The caller holds the lock, see [Layout.Lock].
func (l *Layout) ReplaceIndex(parts ...[]byte) error {
	return l.writeFile(indexFile, func(w io.Writer) error {
		w = &limited{w: w, dir: l.dir}
		for _, part := range parts {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
}

// OpenIndex opens index.json as it is now; the caller closes it. While the file is open, the system
// cannot reuse its number for a later index.json. So os.SameFile tells whether it was replaced.
func (l *Layout) OpenIndex() (*os.File, error) {
	f, _, err := l.open(indexFile)
	return f, err
}
