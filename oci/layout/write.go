package layout

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
)

const tempPrefix = ".ocikit-tmp-"

func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// A Writer stores one blob. Bytes are hashed as they are written; [Writer.Commit] gives the
// blob its name. Not safe for concurrent use.
type Writer struct {
	hashedFile
	tmp string
	err error
}

// A hashedFile is a file that is hashed while it is written.
type hashedFile struct {
	l *Layout
	f *os.File
	h *digest.Hasher

	started int64 // bytes that the system was asked to write to the disk
}

// writebackStep is how many bytes gather before the system is asked to write them to the
// disk. Done along the way, it leaves the sync at the end little to wait for.
const writebackStep = 8 << 20

// write adds bytes at the end. After an error as many are there as it returns.
func (w *hashedFile) write(p []byte) (int, error) {
	n, err := w.l.sys.write(w.f, p)
	w.h.Write(p[:n])
	if size := w.h.Size(); size-w.started >= writebackStep {
		disk.StartWriteback(w.f, w.started, size-w.started)
		w.started = size
	}
	return n, err
}

// Size returns the number of bytes that are there.
func (w *hashedFile) Size() int64 { return w.h.Size() }

// NewWriter starts a blob with a sha256 digest. The caller ends it with Commit or Abort.
func (l *Layout) NewWriter() (*Writer, error) { return l.NewWriterFor(digest.SHA256) }

// NewWriterFor starts a blob with a digest of an available algorithm.
func (l *Layout) NewWriterFor(alg digest.Algorithm) (*Writer, error) {
	f, tmp, err := l.temp()
	if err != nil {
		return nil, err
	}
	return &Writer{hashedFile: hashedFile{l: l, f: f, h: digest.NewHasher(alg)}, tmp: tmp}, nil
}

// Write implements io.Writer. After an error every call returns it.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.write(p)
	if err != nil {
		w.err = fmt.Errorf("layout %q: write blob: %w", w.l.dir, cause(err))
	}
	return n, w.err
}

// Commit makes the blob durable under its digest and returns digest and size. If want is not
// zero, other bytes than those it names are an error that wraps [digest.ErrMismatch], and
// nothing is stored. A blob that is there already is replaced, since it may be damaged.
// The Writer is finished either way.
func (w *Writer) Commit(want digest.Digest) (digest.Digest, int64, error) {
	got := w.h.Digest()
	err := w.err
	if err == nil && !want.IsZero() && got != want {
		err = &digest.MismatchError{Got: got, Want: want}
	}
	if err != nil {
		w.Abort()
		return digest.Digest{}, 0, err
	}

	name := blobPath(got)
	if err := w.l.mkdirs(path.Dir(name)); err != nil {
		w.Abort()
		return digest.Digest{}, 0, err
	}

	err = w.l.publish(w.f, w.tmp, name)
	if errors.Is(err, fs.ErrPermission) && w.l.isWhole(oci.Descriptor{Digest: got, Size: w.h.Size()}) {
		err = nil // where an open file cannot be replaced, as by Windows, one that is right may stay
	}

	if err != nil {
		return digest.Digest{}, 0, err
	}

	w.err = errors.New("blob is committed already")
	return got, w.h.Size(), nil
}

// isWhole reads a blob, and reports whether it is there and right.
func (l *Layout) isWhole(desc oci.Descriptor) bool {
	r, err := l.Blob(desc)
	if err != nil {
		return false
	}
	defer r.Close()
	_, err = oci.Copy(io.Discard, r)
	return err == nil
}

// Abort removes what was written. It does nothing after Commit, so it may be deferred.
func (w *Writer) Abort() {
	if w.f.Close() == nil {
		w.l.sys.remove(w.l.root, w.tmp)
	}
}

// Put stores the bytes of r as a blob and returns its digest and size. Put is atomic and
// idempotent: on error the layout is as before. It does not touch index.json; see
// [Layout.Tag]. If want is not zero the bytes must have that digest.
func (l *Layout) Put(r io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	alg := digest.SHA256
	if want.Verifiable() {
		alg = want.Algorithm()
	}
	w, err := l.NewWriterFor(alg)
	if err != nil {
		return digest.Digest{}, 0, err
	}
	defer w.Abort()
	if _, err := oci.Copy(w, r); err != nil {
		return digest.Digest{}, 0, err
	}
	return w.Commit(want)
}

// PutDocument stores a document, as [Layout.Put] does, and returns its descriptor. Over
// [oci.MaxDocument] bytes are refused.
func (l *Layout) PutDocument(mediaType string, data []byte) (oci.Descriptor, error) {
	return l.PutDocumentWith(digest.SHA256, mediaType, data)
}

// PutDocumentWith is [Layout.PutDocument] with a digest of another algorithm.
func (l *Layout) PutDocumentWith(alg digest.Algorithm, mediaType string, data []byte) (oci.Descriptor, error) {
	desc := oci.DescribeWith(alg, mediaType, data)
	if len(data) > oci.MaxDocument {
		return desc, fmt.Errorf("document of %d bytes, the limit is %d: %w", len(data), oci.MaxDocument, oci.ErrMalformed)
	}
	_, _, err := l.Put(strings.NewReader(string(data)), desc.Digest)
	return desc, err
}

// temp creates a temporary file in the layout's directory and locks it.
func (l *Layout) temp() (*os.File, string, error) {
	l.sweep.Do(l.removeLeftovers)
	for try := 0; ; try++ {
		var b [8]byte
		rand.Read(b[:])
		name := tempPrefix + hex.EncodeToString(b[:])
		f, err := l.sys.create(l.root, name)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("layout %q: create file: %w", l.dir, cause(err))
		}

		// A sweeper may have come between creation and lock, and removed the file.
		// Where files cannot be locked at all, nobody sweeps either.
		if disk.TryLock(f) || try >= 10 {
			if _, err := l.root.Lstat(name); err == nil {
				return f, name, nil
			}
		}

		f.Close()
		l.sys.remove(l.root, name)
	}
}

// removeLeftovers removes temporary files that no living process holds.
func (l *Layout) removeLeftovers() {
	names, err := fs.ReadDir(l.root.FS(), ".")
	if err != nil {
		return
	}

	for _, n := range names {
		if !isTemp(n.Name()) || !n.Type().IsRegular() {
			continue
		}
		f, _, err := l.open(n.Name())
		if err != nil {
			continue
		}
		if disk.TryLock(f) {
			l.sys.remove(l.root, n.Name())
		}
		f.Close()
	}
}

// publish syncs and closes the temporary file f and gives it its name, durably. On error the
// temporary file is removed.
func (l *Layout) publish(f *os.File, tmp, name string) error {
	// The lock ends with the file, so it is closed when it has its name: until then no sweeper
	// may take it. The directory is synced last, or the name could be lost with the power.
	err := l.sys.sync(f)
	if err == nil {
		err = l.sys.rename(l.root, tmp, name)
	}

	err = errors.Join(err, l.sys.close(f))
	if err == nil {
		err = l.syncDir(path.Dir(name))
	} else {
		l.sys.remove(l.root, tmp)
	}

	if err != nil {
		return fmt.Errorf("layout %q: write %s: %w", l.dir, name, cause(err))
	}
	return nil
}

// writeFile gives a file the content that write writes, whole or not at all.
func (l *Layout) writeFile(name string, write func(io.Writer) error) error {
	f, tmp, err := l.temp()
	if err != nil {
		return err
	}
	if err := write(systemFile{l, f}); err != nil {
		f.Close()
		l.sys.remove(l.root, tmp)
		return fmt.Errorf("layout %q: write %s: %w", l.dir, name, cause(err))
	}
	return l.publish(f, tmp, name)
}

func (l *Layout) writeBytes(name string, data []byte) error {
	return l.writeFile(name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// A systemFile is a file that is written by the layout's system.
type systemFile struct {
	l *Layout
	f *os.File
}

func (s systemFile) Write(p []byte) (int, error) { return s.l.sys.write(s.f, p) }

var errOutside = fmt.Errorf("%s is a link out of the layout: nothing is written there", blobsDir)

// mkdirs creates a directory and its parents, durably.
func (l *Layout) mkdirs(name string) error {
	if root, _ := l.within(name); root != l.root {
		return fmt.Errorf("layout %q: %w", l.dir, errOutside)
	}

	if info, err := l.root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	err := l.sys.mkdirAll(l.root, name)
	for dir := path.Dir(name); err == nil; dir = path.Dir(dir) {
		if err = l.syncDir(dir); dir == "." {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("layout %q: make directory %s: %w", l.dir, name, cause(err))
	}
	return nil
}

// syncDir makes the names in a directory last.
func (l *Layout) syncDir(name string) error {
	if !disk.SyncsDirectories {
		return nil
	}

	d, err := l.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return l.sys.sync(d)
}
