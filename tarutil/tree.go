package tarutil

import (
	"archive/tar"
	"bufio"
	"context"
	"io"
	"strings"
)

// A Tree is a file system to be compared: a directory, a tar, or what a stack of layers makes up.
// Walks of one Tree must not overlap.
type Tree interface {
	// Walk calls fn for each entry, and ends with fn's error if it returns one. No path comes twice,
	// unless as a directory both times; the last counts then. Walk may be called again, and gives the
	// same entries unless the tree has changed.
	Walk(ctx context.Context, fn func(TreeEntry) error) error
}

// A Reopener is a Tree that can open the content of an entry again, so that only contents that have to be
// compared are read.
type Reopener interface {
	Tree
	// Open opens the content of an entry, whose header, Dev and Ino are as Walk gave them. It returns an
	// error wrapping [ErrChanged] if the file is no longer that one. The caller closes the content.
	Open(hdr *tar.Header, dev, ino uint64) (io.ReadCloser, error)
	// Reset closes what Open keeps open for later calls. Open may be called again.
	Reset()
}

// A Sharer is a Tree that has to keep all its paths in memory before it hands out the first of them. With
// many files it matters that nobody else keeps them once more.
type Sharer interface {
	Tree
	// Share makes the tree keep paths in a table, where others may be already, and take all memory that
	// grows with its files from the budget of the table. It is called before the first Walk.
	Share(paths *PathTable)
	// Forget drops what the walks so far have left in memory, but for the paths. A further Walk reads
	// all of the tree again.
	Forget()
}

// A TreeEntry is one entry of a Tree. It is valid until the function that got it returns.
type TreeEntry struct {
	// Header has a clean path as Name: no leading, trailing or double slashes, no "." or
	// "..". The root has no entry, or one with an empty Name, which is ignored. A hard link has
	// the clean path of an entry that came before it as Linkname.
	Header *tar.Header
	// Content is that of a regular file. It is read at most once.
	Content io.Reader
	// Dev and Ino, if not both zero, are equal exactly for names of one file on disk, in this tree and in
	// others.
	Dev, Ino uint64
}

// TarTree returns the tar that r holds as a Tree. It may be compressed as [Decompress] knows. If r
// cannot seek, the first Walk copies it to a temporary file in tempDir ("" is the system's
// default), which [TarFile.Close] removes; if the copy fails, so does each later Walk. Walk refuses
// what a [Gate] refuses. A whiteout is an error wrapping [ErrWhiteoutName], since a tar with
// whiteouts is not a tree without the layers below it.
func TarTree(r io.Reader, tempDir string) *TarFile {
	return &TarFile{r: r, tempDir: tempDir}
}

// A TarFile is a tar as a [Tree]. It is not safe for concurrent use.
type TarFile struct {
	// AllowNoEnd and MaxSparse are as in [ReadOptions]. They may be set before the first Walk.
	AllowNoEnd bool
	MaxSparse  int64

	r       io.Reader
	tempDir string
	seeker  io.ReadSeeker // r, or copy
	start   int64
	copy    func() error // closes and removes the temporary copy, nil for none
	err     error        // of making copy, which cannot be tried again
}

// Walk implements [Tree].
func (t *TarFile) Walk(ctx context.Context, fn func(TreeEntry) error) error {
	if err := t.rewind(ctx); err != nil {
		return err
	}

	in, err := NewEntryReader(ctx, t.seeker, ReadOptions{AllowNoEnd: t.AllowNoEnd, MaxSparse: t.MaxSparse})
	if err != nil {
		return err
	}

	// A tar is a tree only if each path has one meaning, which are the rules for a layer too.
	rules := NewLayerRules()
	for hdr, err := range in.All() {
		if err != nil {
			return err
		}

		if err := rules.Entry(hdr); err != nil {
			return in.EntryError(err)
		}
		if _, base := SplitPath(hdr.Name); strings.HasPrefix(base, WhiteoutPrefix) {
			return in.EntryError(ErrWhiteoutName)
		}

		if err := fn(TreeEntry{Header: hdr, Content: in}); err != nil {
			return err
		}
	}
	return nil
}

// rewind brings the stream to its start, and makes one that can seek on the first call.
func (t *TarFile) rewind(ctx context.Context) error {
	if t.seeker != nil {
		_, err := t.seeker.Seek(t.start, io.SeekStart)
		return err
	}

	if s, ok := t.r.(io.ReadSeeker); ok {
		if start, err := s.Seek(0, io.SeekCurrent); err == nil {
			t.seeker, t.start = s, start
			return nil
		}
	}

	// A pipe can be read once only: after a failure its beginning is lost.
	if t.err != nil {
		return t.err
	}

	f, remove, err := createTemp(t.tempDir, "ocikit-tar-*")
	if err != nil {
		return err
	}

	// A tar that is none, or has no end, is not copied for ever. One that is compressed shows that only
	// when it is read.
	t.copy = remove
	in := bufio.NewReaderSize(ContextReader(ctx, t.r), copySize)
	var to io.Writer = f
	if head, _ := in.Peek(SniffLen); Sniff(head) == FormatTar {
		to = io.MultiWriter(&Checker{AllowNoEnd: t.AllowNoEnd}, f)
	}
	if _, t.err = io.Copy(to, in); t.err != nil {
		return t.err
	}

	t.seeker = f
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// Close removes the temporary file, if there is one. It does not close the reader that
// [TarTree] got.
func (t *TarFile) Close() error {
	if t.copy == nil {
		return nil
	}
	remove := t.copy
	t.copy, t.seeker = nil, nil
	return remove()
}
