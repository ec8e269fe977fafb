package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/tarutil"
)

// A contents is what one pass over a tar finds, with its members in any order. Two members of
// one name that differ are refused, since readers do not agree which of them counts, and so are
// links that lead out of the archive.
type contents struct {
	// keep takes a file that may be a blob, and says what is known of it. want is the digest that
	// its name promises, zero if it promises none.
	keep func(f tarEntry, want digest.Digest) (member, error)
	// same reports whether two members, which keep returned for one name, are the same bytes.
	same func(a, b member) (bool, error)
	// verify checks the bytes of a file that says what is in the archive before they are read: no
	// digest names them. It is nil if nothing else does.
	verify func(offset, size int64) error
	// onlyLayout passes over what does not belong to a layout, as Docker's half of an archive.
	onlyLayout bool

	members map[string]member // files that may be blobs, by clean path
	links   map[string]string // links, and what they lead to
	control map[string][]byte // the files that say what is in the archive
	paths   int               // bytes of the paths in members and links

	foreign      int    // files that were passed over: no document can name them
	firstForeign string // the first one

	inner   string          // a directory that holds what an archive has at its top
	systems map[string]bool // directories at the top that a root file system has
}

// A member is a file that may be a blob.
type member struct {
	digest digest.Digest // zero if it is not known yet
	size   int64
	format tarutil.Format // of its first bytes; unknown if they were not looked at
	diffID digest.Digest  // of a layer, if it is known
	offset int64          // of its bytes, in a tar that is read in place
}

// newContents returns contents of a stream, in which members of one name are the same if all that
// is known of them is.
func newContents(keep func(tarEntry, digest.Digest) (member, error)) *contents {
	return &contents{
		keep:    keep,
		same:    func(a, b member) (bool, error) { return a == b, nil },
		members: map[string]member{}, links: map[string]string{}, control: map[string][]byte{},
	}
}

// take takes one entry of the tar.
func (c *contents) take(f tarEntry) error {
	c.recognize(f.name)
	err := c.takeEntry(f)
	// A tar that has the directories of a system, and no document so far, is more likely a root
	// file system than a damaged archive.
	if err != nil && len(c.control) == 0 && len(c.systems) > 1 {
		return fmt.Errorf("%w: %w", &OtherTarError{RootFS: true}, err)
	}
	return err
}

func (c *contents) takeEntry(f tarEntry) error {
	if _, ok := c.links[f.name]; ok {
		return fmt.Errorf("it occurs twice, once as a link: %w", oci.ErrMalformed)
	}

	// If the layout alone counts, Docker's half may be of any shape: no document of the layout
	// names it.
	encoded, isBlob := strings.CutPrefix(f.name, blobsDir+"/")
	foreign := c.onlyLayout && !isBlob && !isControl(f.name)

	switch f.hdr.Typeflag {
	case tar.TypeDir:
		if isControl(f.name) {
			return fmt.Errorf("it is a directory, want a file: %w", oci.ErrMalformed)
		}
		return nil
	case tar.TypeReg:
	case tar.TypeSymlink, tar.TypeLink:
		if foreign {
			return nil
		}
		return c.link(f)
	default:
		if foreign {
			return nil
		}
		return fmt.Errorf("it is neither a file nor a directory nor a link: %w", oci.ErrMalformed)
	}

	switch base := path.Base(f.name); {
	case isControl(f.name):
		return c.controlFile(f)
	case isBlob:
		return c.blob(f, encoded)
	case foreign, base == "VERSION", base == "json": // Docker's of old, which nothing names
		return nil
	case isSystemFile(base):
		c.passOver(f)
		return nil
	}

	return c.put(f, digest.Digest{})
}

// recognize notes what the tar may be, if it is not an archive of images.
func (c *contents) recognize(name string) {
	if dir, base := path.Split(name); dir != "" && c.inner == "" && (base == indexFile || base == manifestFile) {
		c.inner = path.Clean(dir)
	}
	switch top, _, _ := strings.Cut(name, "/"); top {
	case "bin", "dev", "etc", "lib", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var":
		if c.systems == nil {
			c.systems = map[string]bool{}
		}
		c.systems[top] = true
	}
}

// An OtherTarError says what a tar is, if it is not an archive of images. It wraps [ErrNoImage].
type OtherTarError struct {
	Inner  string // the directory that holds what an archive has at its top, if there is one
	RootFS bool   // the tar holds the files of a system, so it may become a layer
}

func (e *OtherTarError) Error() string {
	switch {
	case e.Inner != "":
		return fmt.Sprintf("%v: it has its %s or %s in %q", ErrNoImage, indexFile, manifestFile, e.Inner)
	case e.RootFS:
		return fmt.Sprintf("%v: it holds the files of a system", ErrNoImage)
	}
	return fmt.Sprintf("%v: it has neither %s nor %s", ErrNoImage, indexFile, manifestFile)
}

func (e *OtherTarError) Unwrap() error { return ErrNoImage }

// noImage says that the tar, read to its end, names no image.
func (c *contents) noImage() error {
	return &OtherTarError{Inner: c.inner, RootFS: len(c.systems) > 1}
}

// isControl reports whether a member says what is in the archive.
func isControl(name string) bool {
	switch name {
	case layoutFile, indexFile, manifestFile, repositoriesFile, bundleFile:
		return true
	}
	return false
}

// isSystemFile reports whether a file is one that a Mac puts beside others.
func isSystemFile(base string) bool { return base == ".DS_Store" || strings.HasPrefix(base, "._") }

// passOver counts a file that no document can name (moby/moby#47517): it does no harm in the
// directory of a layout, so it does none here.
func (c *contents) passOver(f tarEntry) {
	if c.foreign == 0 {
		c.firstForeign = f.name
	}
	c.foreign++
}

// notices says what was passed over.
func (c *contents) notices(notice func(format string, args ...any)) {
	switch c.foreign {
	case 0:
	case 1:
		notice("passed over %q, which is not a part of an image", c.firstForeign)
	default:
		notice("passed over %q and %d more files, which are not part of an image", c.firstForeign, c.foreign-1)
	}
}

// link notes a link to another member.
func (c *contents) link(f tarEntry) error {
	target := f.hdr.Linkname
	if len(target) > maxPath {
		return fmt.Errorf("it is a link to a path of %d bytes, the limit is %d: %w", len(target), maxPath, oci.ErrMalformed)
	}

	// A symbolic link begins at its own directory, a hard link at the top of the archive.
	if f.hdr.Typeflag == tar.TypeSymlink && !path.IsAbs(target) {
		target = path.Join(path.Dir(f.name), target)
	}

	if path.IsAbs(f.hdr.Linkname) || target == ".." || strings.HasPrefix(target, "../") {
		return fmt.Errorf("it is a link to %q, outside of the archive: %w", f.hdr.Linkname, oci.ErrMalformed)
	}

	target, err := cleanName(target)
	if err != nil {
		return fmt.Errorf("it is a link to %w", err)
	}

	// If a name is both a file and a link, or index.json a link, readers do not agree on what
	// the archive holds.
	if _, ok := c.members[f.name]; ok || c.control[f.name] != nil {
		return fmt.Errorf("it occurs twice, once as a link: %w", oci.ErrMalformed)
	}

	if isControl(f.name) {
		return fmt.Errorf("it is a link to %q, want a file: %w", f.hdr.Linkname, oci.ErrMalformed)
	}

	c.links[f.name] = target
	return c.keepPaths(f.name, target)
}

func (c *contents) controlFile(f tarEntry) error {
	if c.verify != nil {
		if err := c.verify(f.offset, f.hdr.Size); err != nil {
			return err
		}
	}
	data, err := readAll(f.r, f.name)
	if err != nil {
		return err
	}
	if was, ok := c.control[f.name]; ok && !bytes.Equal(was, data) {
		return fmt.Errorf("it occurs twice, and readers disagree which one counts: %w", oci.ErrMalformed)
	}
	c.control[f.name] = append([]byte{}, data...)
	return nil
}

// blob takes a file whose name, behind "blobs/", says what digest its bytes must have. A file
// without a digest for its name, or with one that cannot be verified, is passed over: no
// document can name it.
func (c *contents) blob(f tarEntry, encoded string) error {
	alg, encoded, _ := strings.Cut(encoded, "/")
	d, err := digest.Parse(alg + ":" + encoded)
	if err != nil || !d.Verifiable() {
		c.passOver(f)
		return nil
	}
	return c.put(f, d)
}

func (c *contents) put(f tarEntry, want digest.Digest) error {
	m, err := c.keep(f, want)
	if err != nil {
		return err
	}

	if was, ok := c.members[f.name]; ok {
		same, err := c.same(was, m)
		if err == nil && !same {
			err = fmt.Errorf("it occurs twice, and differs: %w", oci.ErrMalformed)
		}
		if err != nil {
			return err
		}
	}

	c.members[f.name] = m
	return c.keepPaths(f.name)
}

// keepPaths counts the bytes of paths that are kept.
func (c *contents) keepPaths(paths ...string) error {
	for _, p := range paths {
		c.paths += len(p)
	}
	if c.paths > maxPaths {
		return fmt.Errorf("the paths of members have over %d bytes: %w", maxPaths, oci.ErrMalformed)
	}
	return nil
}

// lookup finds a member by the name that manifest.json has for it, and the path where it is. Some
// programs write links to files at the top as if links began there (containerd/containerd#12890): where
// a link leads to nothing, such a file counts.
func (c *contents) lookup(name string) (m member, at string, err error) {
	if at, err = cleanName(name); err != nil {
		return m, at, fmt.Errorf("%s names %w", manifestFile, err)
	}

	for n := range maxLinks {
		if m, ok := c.members[at]; ok {
			return m, at, nil
		}
		target, ok := c.links[at]
		if !ok && n > 0 {
			target = path.Base(at)
			_, ok = c.members[target]
		}
		if !ok {
			return m, at, fmt.Errorf("%s names %q, which is not in the archive: %w", manifestFile, name, graph.ErrIncomplete)
		}
		at = target
	}

	return m, at, fmt.Errorf("%q: its links lead in a circle: %w", name, oci.ErrMalformed)
}

// index returns index.json, and whether there is one.
func (c *contents) index() (x oci.Index, ok bool, err error) {
	data, ok := c.control[indexFile]
	if !ok {
		return x, false, nil
	}
	if err := c.checkVersion(); err != nil {
		return x, true, err
	}
	x, err = oci.ReadList(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		err = fmt.Errorf("%s: %w", indexFile, err)
	}
	return x, true, err
}

func (c *contents) checkVersion() error {
	data, ok := c.control[layoutFile]
	if !ok {
		return fmt.Errorf("%w: it has %s and no %s", ErrNoImage, indexFile, layoutFile)
	}
	if err := oci.CheckLayoutVersion(data); err != nil {
		return fmt.Errorf("%s: %w", layoutFile, err)
	}
	return nil
}

// readAll reads a document of at most the size that one may have.
func readAll(r io.Reader, name string) ([]byte, error) {
	limit := limitOf(name)
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: over %d bytes: %w", name, limit, oci.ErrMalformed)
	}
	return data, err
}

// maxList is the largest index.json of an archive, over a hundred thousand names. It is below
// [oci.MaxList] since it is held in memory.
const maxList = 32 << 20

// limitOf returns how many bytes a document may have.
func limitOf(name string) int64 {
	if name == indexFile {
		return maxList
	}
	return oci.MaxDocument
}
