package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/tarutil"
)

// read stores the members of the archive.
func (ld *loader) read(ctx context.Context, r io.Reader) error {
	return eachMember(ctx, r, ld.member)
}

// eachMember reads an archive, compressed or not, to its end, and hands each member to take
// with its clean path. It refuses what is no whole tar, what has too many members, names that
// lead out, and sparse files, which may have an exabyte in a few bytes.
func eachMember(ctx context.Context, r io.Reader, take func(name string, hdr *tar.Header, r io.Reader) error) error {
	plain, format, err := tarutil.Decompress(&contextReader{ctx, r})
	if err != nil {
		return err
	}
	if format == tarutil.FormatUnknown {
		return fmt.Errorf("%w: it is not a tar", ErrNoImage)
	}
	var check tarutil.Checker
	in := io.TeeReader(bufio.NewReaderSize(plain, 256<<10), &check)
	tr := tar.NewReader(in)
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return tarError(err)
		}
		if n == maxMembers {
			return fmt.Errorf("over %d members: %w", maxMembers, oci.ErrMalformed)
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, err := cleanName(hdr.Name)
		if err != nil {
			return fmt.Errorf("member %w", err)
		}
		if isSparse(hdr) {
			return fmt.Errorf("member %q: it is sparse: %w", hdr.Name, oci.ErrMalformed)
		}
		if err := take(name, hdr, tr); err != nil {
			return tarError(fmt.Errorf("member %q: %w", hdr.Name, err))
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return tarError(err)
	}
	return tarError(check.Close())
}

func isSparse(hdr *tar.Header) bool {
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return hdr.Typeflag == tar.TypeGNUSparse
}

// tarError names what package archive/tar calls an unexpected end.
func tarError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", tarutil.ErrTruncated, err)
	}
	return err
}

// member takes one entry of the tar.
func (ld *loader) member(name string, hdr *tar.Header, r io.Reader) error {
	if _, ok := ld.links[name]; ok {
		return fmt.Errorf("it occurs twice, once as a link: %w", oci.ErrMalformed)
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		if isControl(name) {
			return fmt.Errorf("it is a directory, want a file: %w", oci.ErrMalformed)
		}
		return nil
	case tar.TypeSymlink, tar.TypeLink:
		return ld.link(name, hdr)
	case tar.TypeReg:
	default:
		return fmt.Errorf("it is neither a file nor a directory nor a link: %w", oci.ErrMalformed)
	}
	switch base := path.Base(name); {
	case isControl(name):
		return ld.controlFile(name, r)
	case strings.HasPrefix(name, blobsDir+"/"):
		return ld.blob(name, r)
	case base == "VERSION", base == "json":
		_, err := io.Copy(io.Discard, r) // Docker's of old, which nothing names
		return err
	}
	return ld.put(name, r, digest.Digest{})
}

// isControl reports whether a member says what is in the archive.
func isControl(name string) bool {
	return name == layoutFile || name == indexFile || name == manifestFile || name == repositoriesFile
}

// link notes a link to another member.
func (ld *loader) link(name string, hdr *tar.Header) error {
	target := hdr.Linkname
	if len(target) > maxPath {
		return fmt.Errorf("it is a link to a path of %d bytes, the limit is %d: %w", len(target), maxPath, oci.ErrMalformed)
	}
	if hdr.Typeflag == tar.TypeSymlink && !path.IsAbs(target) {
		target = path.Join(path.Dir(name), target)
	}
	if path.IsAbs(hdr.Linkname) || target == ".." || strings.HasPrefix(target, "../") {
		return fmt.Errorf("it is a link to %q, outside of the archive: %w", hdr.Linkname, oci.ErrMalformed)
	}
	target, err := cleanName(target)
	if err != nil {
		return fmt.Errorf("it is a link to %w", err)
	}
	if _, ok := ld.members[name]; ok || ld.control[name] != nil {
		return fmt.Errorf("it occurs twice, once as a link: %w", oci.ErrMalformed)
	}
	if isControl(name) {
		return fmt.Errorf("it is a link to %q, want a file: %w", hdr.Linkname, oci.ErrMalformed)
	}
	ld.links[name] = target
	return ld.keepPaths(name, target)
}

func (ld *loader) controlFile(name string, r io.Reader) error {
	data, err := readAll(r, name)
	if err != nil {
		return err
	}
	if was, ok := ld.control[name]; ok && !bytes.Equal(was, data) {
		return fmt.Errorf("it occurs twice, and readers disagree which one counts: %w", oci.ErrMalformed)
	}
	ld.control[name] = append([]byte{}, data...)
	return nil
}

// blob stores a member whose name says what digest its bytes must have.
func (ld *loader) blob(name string, r io.Reader) error {
	alg, encoded, ok := strings.Cut(strings.TrimPrefix(name, blobsDir+"/"), "/")
	if !ok {
		return fmt.Errorf("it is no digest: %w", oci.ErrMalformed)
	}
	d, err := digest.Parse(alg + ":" + encoded)
	if err == nil && !d.Verifiable() {
		err = fmt.Errorf("%s: %w", d, digest.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	return ld.put(name, r, d)
}

func (ld *loader) put(name string, r io.Reader, want digest.Digest) error {
	h := &headReader{r: r}
	d, size, err := ld.store.put(h, want)
	if err != nil {
		return err
	}
	m := member{d, size, tarutil.Sniff(h.head)}
	if was, ok := ld.members[name]; ok && was != m {
		return fmt.Errorf("it occurs twice, and differs: %w", oci.ErrMalformed)
	}
	ld.members[name] = m
	return ld.keepPaths(name)
}

// A tar may have a megabyte in each path, and they are kept.
const (
	maxPath  = 4096     // bytes of one, as in file systems
	maxPaths = 32 << 20 // of all
)

// keepPaths counts the bytes of paths that are kept.
func (ld *loader) keepPaths(paths ...string) error {
	for _, p := range paths {
		ld.paths += len(p)
	}
	if ld.paths > maxPaths {
		return fmt.Errorf("the paths of members have over %d bytes: %w", maxPaths, oci.ErrMalformed)
	}
	return nil
}

// cleanName returns the path of a member, and refuses what would lead out of the archive.
func cleanName(name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("%q… of %d bytes, the limit is %d: %w", name[:64], len(name), maxPath, oci.ErrMalformed)
	}
	clean := path.Clean(name)
	switch {
	case path.IsAbs(name), clean == "..", strings.HasPrefix(clean, "../"), hasParent(name):
		return "", fmt.Errorf("%q, which leads out of the archive: %w", name, oci.ErrMalformed)
	case strings.ContainsRune(name, 0), name == "":
		return "", fmt.Errorf("%q, which is no name: %w", name, oci.ErrMalformed)
	}
	return clean, nil
}

func hasParent(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
