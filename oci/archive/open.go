package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive/split"
	"ocikit/oci/disk"
	"ocikit/oci/graph"
	"ocikit/tarutil"
)

// OpenOptions say how to open an archive.
type OpenOptions struct {
	Notice  func(text string) // is told what the user should know; nil for nobody
	TempDir string            // where a temporary file goes; "" is the system's default

	// Documents says that only documents will be read. Then a stream, and a compressed archive,
	// needs no temporary file: its documents are kept in memory, and other blobs give an error
	// that wraps [errors.ErrUnsupported].
	Documents bool

	// InPlace says that an archive which would need a temporary file is not opened: it gives an
	// error that wraps [errors.ErrUnsupported].
	InPlace bool
}

// IsArchive reports whether name is an archive to open, by its first bytes: a tar, compressed or
// not, or a directory of the parts of one (package split).
func IsArchive(name string) (bool, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return false, fmt.Errorf("%q: %w", name, oci.Pathless(err))
	case info.IsDir():
		return split.IsSet(name), nil
	case !info.Mode().IsRegular():
		return false, nil
	}

	f, err := os.Open(name)
	if err != nil {
		return false, fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}
	defer f.Close()

	plain, _, err := tarutil.Decompress(f)
	if err != nil {
		return false, nil // whoever reads it finds out why
	}

	head := make([]byte, tarutil.SniffLen)
	n, _ := io.ReadFull(plain, head)
	return tarutil.Sniff(head[:n]) == tarutil.FormatTar, nil
}

// Open opens an archive, or a directory with the parts of one, for reading in place. A plain tar is
// gone through once, from header to header; what is between them is read when it is asked for, and
// verified then. A compressed one is decompressed, with a notice, into a temporary file, which
// Close removes. A tar that is not an archive of images gives [ErrNoImage].
//
// The file must not change until the archive is closed.
func Open(ctx context.Context, name string, o OpenOptions) (*Archive, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}

	if info.IsDir() {
		return openParts(ctx, name, o)
	}

	f, err := disk.Open(ctx, name, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}

	a, err := OpenStream(ctx, f, name, o)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%q: %w", name, err)
	}

	a.CloseToo(f.Close)
	return a, nil
}

// openParts opens a directory with the parts of an archive.
func openParts(ctx context.Context, dir string, o OpenOptions) (*Archive, error) {
	set, err := split.Open(dir)
	if err != nil {
		return nil, err
	}
	parts := set.ReaderAt()
	a, err := openAt(ctx, dir, parts, set.Index.Size, o)
	if err != nil {
		parts.Close()
		set.Close()
		return nil, fmt.Errorf("%q: %w", dir, err)
	}
	a.CloseToo(parts.Close)
	a.CloseToo(set.Close)
	return a, nil
}

// OpenStream opens the archive that r holds, such as standard input. name is what [Archive.Name]
// returns; errors do not say it. A regular file is read in place, from its current position, if it
// is not compressed. Anything else goes into a temporary file.
func OpenStream(ctx context.Context, r io.Reader, name string, o OpenOptions) (*Archive, error) {
	f, ok := r.(interface {
		io.ReaderAt
		io.Seeker
		Stat() (fs.FileInfo, error)
	})

	if ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			start, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, oci.Pathless(err)
			}
			size := max(0, info.Size()-start)
			return openAt(ctx, name, io.NewSectionReader(f, start, size), size, o)
		}
	}

	return openStream(ctx, name, r, o)
}

// openAt opens an archive that can be read at any offset.
func openAt(ctx context.Context, name string, at io.ReaderAt, size int64, o OpenOptions) (*Archive, error) {
	head := make([]byte, min(size, tarutil.SniffLen))
	if _, err := at.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, oci.Pathless(err)
	}

	parts, inParts := at.(*split.Parts)
	switch format := tarutil.Sniff(head); {
	case format == tarutil.FormatTar:
	case format == tarutil.FormatUnknown && size > 0:
		return nil, fmt.Errorf("%w: it is not a tar", ErrNoImage)
	default:
		// A damaged part is named as such here; later it would be a compressed stream that breaks.
		if inParts {
			if err := parts.Verify(ctx, 0, size); err != nil {
				return nil, err
			}
		}
		return openStream(ctx, name, io.NewSectionReader(at, 0, size), o)
	}

	hold := sections{at}
	a := newArchive(name, hold, o.Notice)
	a.c.same = hold.same

	// Blobs have digests, index.json has none: the parts that hold it are hashed before it is read.
	if inParts {
		a.c.verify = func(offset, size int64) error { return parts.Verify(ctx, offset, size) }
	}

	if err := scanFile(ctx, at, size, a.c.take); err != nil {
		return nil, err
	}

	return a, a.open(ctx)
}

// openStream opens an archive that can be read only once, or has to be decompressed.
func openStream(ctx context.Context, name string, r io.Reader, o OpenOptions) (*Archive, error) {
	if o.Documents {
		a := newArchive(name, newDocuments(ctx), o.Notice)
		if err := scanStream(ctx, r, a.c.take); err != nil {
			return nil, err
		}
		return a, a.open(ctx)
	}

	if o.InPlace {
		return nil, fmt.Errorf("it is compressed or a stream, and cannot be read in place: %w", errors.ErrUnsupported)
	}

	if o.Notice != nil {
		o.Notice(fmt.Sprintf("reading %q into a temporary file: it is compressed, or no file", name))
	}

	f, err := spool(ctx, r, o.TempDir)
	if err != nil {
		return nil, err
	}

	info, err := f.Stat()
	var a *Archive
	if err == nil {
		a, err = openAt(ctx, name, f, info.Size(), o)
	}
	if err != nil {
		f.Close()
		return nil, err
	}

	a.CloseToo(f.Close)
	return a, nil
}

// open finds the images of an archive that was gone through.
func (a *Archive) open(ctx context.Context) error {
	a.c.notices(a.notice)
	entries, err := a.images(ctx)
	if err != nil {
		return err
	}

	// An archive may lack layers that manifest.json names. Whoever reads one of those images
	// finds out; the others can be used.
	if err := a.checkAgreement(ctx, entries); err != nil && !errors.Is(err, graph.ErrIncomplete) {
		return err
	}

	if entries, err = nameEntries(entries, oci.Index{}); err != nil {
		return err
	}

	// As in a layout, an image without a name is listed once.
	a.list = oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex}
	listed := map[digest.Digest]bool{}
	for _, e := range entries {
		if e.Annotations.Get(oci.AnnotationRefName) != "" || !listed[e.Digest] {
			a.list.Manifests = append(a.list.Manifests, e)
		}
		listed[e.Digest] = true
	}

	return nil
}

// CloseToo makes Close call f as well, after the functions that it calls already. Close returns the
// errors of all of them.
func (a *Archive) CloseToo(f func() error) {
	before := a.close
	a.close = func() error { return errors.Join(before(), f()) }
}

// spool writes a tar, decompressed, to a temporary file. It ends at the end of the tar, or where
// something is wrong with it.
func spool(ctx context.Context, r io.Reader, dir string) (_ *disk.TempFile, err error) {
	plain, format, err := tarutil.Decompress(tarutil.ContextReader(ctx, r))
	if err == nil && format == tarutil.FormatUnknown {
		err = fmt.Errorf("%w: it is not a tar", ErrNoImage)
	}
	if err != nil {
		return nil, err
	}

	f, err := disk.CreateTemp(dir, "ocikit-archive-*")
	if err != nil {
		return nil, fmt.Errorf("temporary file: %w", oci.Pathless(err))
	}

	check := &tarutil.Checker{}
	buf := make([]byte, 256<<10)
	for err == nil {
		var n int
		n, err = plain.Read(buf)
		isTail := check.Ended()
		if _, checkErr := check.Write(buf[:n]); checkErr != nil {
			err = checkErr
			continue
		}

		// No reader looks behind the end mark, so what stands there takes no room.
		if isTail {
			continue
		}
		if _, writeErr := f.Write(buf[:n]); writeErr != nil {
			err = fmt.Errorf("temporary file: %w", oci.Pathless(writeErr))
		}
	}

	if err == io.EOF {
		err = check.Close()
	}

	if err != nil {
		f.Close()
		return nil, err
	}

	return f, nil
}
