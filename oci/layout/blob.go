package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
	"ocikit/oci/source"
)

func blobPath(d digest.Digest) string {
	return path.Join(blobsDir, string(d.Algorithm()), d.Encoded())
}

// blobDir returns the directory of the blobs of an algorithm, or nil if it cannot be opened. It stays
// open: a path of one name costs a third of the system calls that the whole one does.
func (l *Layout) blobDir(alg digest.Algorithm) *os.Root {
	l.dirs.Lock()
	defer l.dirs.Unlock()
	if dir := l.dirs.open[alg]; dir != nil {
		return dir
	}

	root, below := l.within(path.Join(blobsDir, string(alg)))
	dir, err := disk.OpenRootIn(root, below)
	if err != nil {
		return nil
	}
	if l.dirs.open == nil {
		l.dirs.open = map[digest.Algorithm]*os.Root{}
	}
	l.dirs.open[alg] = dir
	return dir
}

// OpenBlob opens the file of a blob, which the caller closes. Its bytes are not verified:
// whoever reads them checks the digest. An absent blob gives [ErrNotFound].
func (l *Layout) OpenBlob(d digest.Digest) (*os.File, error) {
	f, _, err := l.openBlob(d)
	return f, err
}

func (l *Layout) openBlob(d digest.Digest) (*os.File, int64, error) {
	if d.IsZero() {
		return nil, 0, fmt.Errorf("blob without a digest: %w", ErrNotFound)
	}
	f, size, err := l.openFile(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("blob %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", d, err)
	}
	return f, size, nil
}

// openFile opens the file of a blob. Where that fails the whole path is tried: its error is the one to
// show, and the directory may have been made anew since it was opened.
func (l *Layout) openFile(d digest.Digest) (*os.File, int64, error) {
	if dir := l.blobDir(d.Algorithm()); dir != nil {
		if f, size, err := openIn(dir, d.Encoded()); err == nil {
			return f, size, nil
		}
	}
	return l.open(blobPath(d))
}

// lstat looks at the file of a blob, as openFile opens it.
func (l *Layout) lstat(d digest.Digest) (fs.FileInfo, error) {
	if dir := l.blobDir(d.Algorithm()); dir != nil {
		if info, err := dir.Lstat(d.Encoded()); err == nil {
			return info, nil
		}
	}
	root, name := l.within(blobPath(d))
	return root.Lstat(name)
}

// BlobAt opens a blob for reading at any offset; the caller closes it. Its size is checked, its
// digest is not. A blob that is absent but embedded in desc is read from there.
func (l *Layout) BlobAt(desc oci.Descriptor) (source.BlobAt, error) {
	f, err := l.sized(desc)
	if errors.Is(err, ErrNotFound) && desc.Data != nil {
		return source.Embedded(desc), desc.CheckData()
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// sized opens the file of a blob that has the size of its descriptor.
func (l *Layout) sized(desc oci.Descriptor) (*os.File, error) {
	f, size, err := l.openBlob(desc.Digest)
	if err != nil {
		return nil, err
	}
	if size != desc.Size {
		f.Close()
		return nil, fmt.Errorf("blob %s: got %d bytes, want %d: %w", desc.Digest, size, desc.Size, digest.ErrMismatch)
	}
	return f, nil
}

// Stat returns the size of a blob's file, whose bytes are not read, or [ErrNotFound]. Anything
// but a regular file gives an error that wraps [oci.ErrMalformed].
func (l *Layout) Stat(d digest.Digest) (int64, error) {
	info, err := l.lstat(d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("blob %s: %w", d, ErrNotFound)
	case err != nil:
		return 0, fmt.Errorf("blob %s: %w", d, cause(err))
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("blob %s: it is a %s, not a regular file: %w", d, kind(info.Mode()), oci.ErrMalformed)
	}
	return info.Size(), nil
}

// Blob opens a blob for reading. Its size is checked at once, its digest while it is read:
// a mismatch comes from Read in place of io.EOF and wraps [digest.ErrMismatch]. A blob that
// is absent but embedded in desc is read from there. The caller closes it.
func (l *Layout) Blob(desc oci.Descriptor) (io.ReadCloser, error) {
	r, err := l.blob(desc)
	if err != nil {
		return nil, err
	}
	return progress.Blob(r, l.report, progress.Event{Digest: desc.Digest, Size: desc.Size}), nil
}

func (l *Layout) blob(desc oci.Descriptor) (io.ReadCloser, error) {
	if err := desc.CheckData(); err != nil {
		return nil, err
	}
	f, err := l.sized(desc)
	if errors.Is(err, ErrNotFound) && desc.Data != nil {
		return source.Embedded(desc), nil
	}
	if err != nil {
		return nil, err
	}
	return oci.ReadCloser(digest.NewReader(f, desc.Digest, desc.Size), f), nil
}

// Document returns the bytes of a manifest, index or config, verified. Over
// [oci.MaxDocument] bytes are refused before they are read.
func (l *Layout) Document(desc oci.Descriptor) ([]byte, error) {
	return source.ReadDocument(desc, l.blob)
}

// Resolve returns the descriptor that a name means, see [graph.Resolve]; n.Dir is not looked at.
func (l *Layout) Resolve(n oci.ImageName) (oci.Descriptor, error) {
	x, err := l.Index()
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc, err := graph.Resolve(l, x, n)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("layout %q: %w", l.dir, err)
	}
	return desc, nil
}
