package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/tarutil"
)

const (
	maxMembers = 200_000
	maxLinks   = 16 // that lead to one another

	// A tar may have a megabyte in each path, and they are kept.
	maxPath  = 4096     // bytes of one, as in file systems
	maxPaths = 32 << 20 // of all
)

// A tarEntry is an entry of a tar as it passes.
type tarEntry struct {
	name   string // its clean path
	hdr    *tar.Header
	r      io.Reader // its contents, until the next file comes
	offset int64     // of its contents in the tar
}

// scanStream reads an archive, compressed or not, to its end, and hands each entry to take.
func scanStream(ctx context.Context, r io.Reader, take func(tarEntry) error) error {
	plain, format, err := tarutil.Decompress(tarutil.ContextReader(ctx, r))
	if err != nil {
		return err
	}

	if format == tarutil.FormatUnknown {
		return fmt.Errorf("%w: it is not a tar", ErrNoImage)
	}

	in := &checkedReader{r: bufio.NewReaderSize(plain, 256<<10)}
	if err := scan(in, take); err != nil {
		return err
	}

	// The compressed stream goes on behind the end mark of the tar, and its checksum is at its
	// end.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return tarError(err)
	}

	return tarError(in.check.Close())
}

// scanFile reads the headers of a plain tar, and seeks over what take leaves of the contents.
func scanFile(ctx context.Context, at io.ReaderAt, size int64, take func(tarEntry) error) error {
	section := io.NewSectionReader(at, 0, size)
	in := &checkedReader{r: tarutil.ContextReader(ctx, section), seek: section}
	if err := scan(in, take); err != nil {
		return err
	}
	return tarError(in.check.Close())
}

// scan hands each entry of a tar to take. It refuses what is not a whole tar, what has too many
// members, names that lead out, and sparse files, which may have an exabyte in a few bytes.
func scan(in *checkedReader, take func(tarEntry) error) error {
	tr := tar.NewReader(in)
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}

		if err != nil {
			return tarError(err)
		}

		if n == maxMembers {
			return fmt.Errorf("over %d members: %w", maxMembers, oci.ErrMalformed)
		}

		// A global header, such as git archive writes, is not a member.
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}

		name, err := cleanName(hdr.Name)
		if err != nil {
			return fmt.Errorf("member %w", err)
		}

		if tarutil.IsSparse(hdr) {
			return fmt.Errorf("member %q: it is sparse: %w", hdr.Name, oci.ErrMalformed)
		}

		if err := take(tarEntry{name, hdr, tr, in.offset}); err != nil {
			return tarError(fmt.Errorf("member %q: %w", hdr.Name, err))
		}
	}
}

// A checkedReader follows the tar that is read through it, and counts its bytes. It can seek
// forward over contents if what is below it can.
type checkedReader struct {
	r      io.Reader
	seek   io.Seeker // nil if it cannot
	check  tarutil.Checker
	offset int64
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.offset += int64(n)
	if _, checkErr := c.check.Write(p[:n]); checkErr != nil {
		return n, checkErr
	}
	return n, err
}

// Seek goes forward from where it is, which is all that package archive/tar asks for.
func (c *checkedReader) Seek(n int64, whence int) (int64, error) {
	if c.seek == nil || whence != io.SeekCurrent || n < 0 || n > math.MaxInt64-c.offset {
		return 0, errors.ErrUnsupported
	}
	if n == 0 {
		return c.offset, nil
	}
	if err := c.check.Skip(n); err != nil {
		return 0, err
	}
	if _, err := c.seek.Seek(n, io.SeekCurrent); err != nil {
		return 0, err
	}
	c.offset += n
	return c.offset, nil
}

// tarError names what package archive/tar calls an unexpected end.
func tarError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", tarutil.ErrTruncated, err)
	}
	return err
}

// cleanName returns the path of a member, and refuses what would lead out of the archive.
func cleanName(name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("%q… of %d bytes, the limit is %d: %w", name[:64], len(name), maxPath, oci.ErrMalformed)
	}
	clean := path.Clean(name)
	switch {
	case path.IsAbs(name), clean == "..", strings.HasPrefix(clean, "../"), slices.Contains(strings.Split(name, "/"), ".."):
		return "", fmt.Errorf("%q, which leads out of the archive: %w", name, oci.ErrMalformed)
	case strings.ContainsRune(name, 0), name == "":
		return "", fmt.Errorf("%q, which is not a name: %w", name, oci.ErrMalformed)
	}
	return clean, nil
}
