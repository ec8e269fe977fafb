package split

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/oci/progress"
)

// A Set is a directory with parts and their index.
type Set struct {
	Index    Index
	Progress func(progress.Event) // is told how far parts are read; nil for nobody

	root *os.Root
	dir  string
}

// A Problem says what is wrong with a part.
type Problem struct {
	Name string `json:"name"`
	What string `json:"problem"`       // "missing" or "bad"
	Got  string `json:"got,omitempty"` // the digest of its bytes, or what else it is
	Want string `json:"want"`          // the digest in the index
}

// Open reads the index in dir. Parts of its name that it does not list, or a second index, give
// [ErrStale]; files of other programs do not. The caller closes the Set.
func Open(dir string) (*Set, error) {
	root, err := disk.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}
	s := &Set{root: root, dir: dir}
	if err := s.open(); err != nil {
		root.Close()
		return nil, fmt.Errorf("%q: %w", dir, err)
	}
	return s, nil
}

// Close releases the directory.
func (s *Set) Close() error { return s.root.Close() }

func (s *Set) open() error {
	files, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return oci.Pathless(err)
	}

	// A file that only ends as an index does is passed over, unless there is no other: then it
	// may be the index, damaged, and reading it says what is wrong.
	names := indexesIn(s.root, files)
	if len(names) == 0 {
		for _, f := range files {
			if IsIndex(f.Name()) {
				names = append(names, strings.TrimSuffix(f.Name(), indexSuffix))
				break
			}
		}
	}

	switch len(names) {
	case 0:
		return fmt.Errorf("no file NAME%s, which lists the parts: %w", indexSuffix, fs.ErrNotExist)
	case 1:
	default:
		return fmt.Errorf("%w: %q and %q", ErrStale, names[0]+indexSuffix, names[1]+indexSuffix)
	}

	index := names[0] + indexSuffix
	if err := s.readIndex(index); err != nil {
		return fmt.Errorf("%q: %w", index, err)
	}

	// A part of this name that is not listed is of another run, and of no use among these.
	for _, f := range files {
		if partOf(f.Name()) == s.Index.Name && !slices.ContainsFunc(s.Index.Parts, func(p Part) bool { return p.Name == f.Name() }) {
			return fmt.Errorf("%w: %q is not in %q", ErrStale, f.Name(), index)
		}
	}

	return nil
}

// readIndex reads and checks the index: names that lead nowhere else, sizes that add up.
func (s *Set) readIndex(name string) error {
	data, err := s.readFile(name)
	if err != nil {
		return oci.Pathless(err)
	}

	x := &s.Index
	if err := oci.Decode(data, x); err != nil {
		return err
	}

	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", oci.ErrMalformed, fmt.Errorf(format, args...))
	}

	switch {
	case x.MediaType != indexType || x.SchemaVersion != 1:
		return bad("mediaType %q, schemaVersion %d", x.MediaType, x.SchemaVersion)
	case CheckName(x.Name) != nil || x.Name+indexSuffix != name:
		return bad("it is the index of %q", x.Name)
	case len(x.Parts) == 0 || len(x.Parts) > maxParts:
		return bad("%d parts", len(x.Parts))
	case !x.Digest.Verifiable():
		return bad("digest %s", x.Digest)
	}

	// All parts but the last are of one size: an offset in the stream leads to its part by
	// division.
	var total int64
	for i, p := range x.Parts {
		last := i == len(x.Parts)-1
		if p.Name != partName(x.Name, i) || !p.Digest.Verifiable() || p.Size <= 0 || p.Size > x.PartSize || !last && p.Size != x.PartSize {
			return bad("part %d: %q of %d bytes", i+1, p.Name, p.Size)
		}
		if total += p.Size; total < 0 {
			return bad("the sizes overflow")
		}
	}

	if total != x.Size {
		return bad("the parts have %d bytes, the whole %d", total, x.Size)
	}

	return nil
}

// readFile reads a regular file of the size of a document; of a larger one only the beginning.
func (s *Set) readFile(name string) ([]byte, error) {
	f, err := s.openFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return oci.ReadDocument(f)
}

// openFile opens a regular file, and nothing else.
func (s *Set) openFile(name string) (*os.File, error) {
	info, err := s.root.Lstat(name)
	if err != nil {
		return nil, err
	}

	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a regular file: %w", oci.ErrMalformed)
	}

	f, err := s.root.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}

	if now, err := f.Stat(); err != nil || !os.SameFile(info, now) {
		f.Close()
		return nil, fmt.Errorf("it was replaced while it was opened: %w", oci.ErrMalformed)
	}

	return f, nil
}

// Check reads all parts and says what is wrong with them. If all are right, and together have
// another digest than the index says, the error wraps [ErrBad].
func (s *Set) Check(ctx context.Context) ([]Problem, error) {
	whole := digest.NewHasher(digest.SHA256)
	found, err := s.check(ctx, s.Index.Parts, whole)
	if err == nil && len(found) == 0 {
		err = s.checkWhole(whole)
	}
	return found, err
}

// checkWhole compares the digest of all parts together with that of the index.
func (s *Set) checkWhole(whole *digest.Hasher) error {
	if got := whole.Digest(); got != s.Index.Digest {
		return fmt.Errorf("%q: %w: all parts are right, but together they are %s, want %s", s.dir, ErrBad, got, s.Index.Digest)
	}
	return nil
}

// check reads some parts, and writes to also what is in them.
func (s *Set) check(ctx context.Context, parts []Part, also io.Writer) ([]Problem, error) {
	var found []Problem
	for _, p := range parts {
		err := s.read(ctx, io.Discard, p, also, func() error { return nil })
		var bad *partError
		switch {
		case errors.As(err, &bad):
			found = append(found, bad.Problem)
		case err != nil:
			return found, err
		}
	}
	return found, nil
}

// partError is a Problem on its way up.
type partError struct{ Problem }

func (e *partError) Error() string {
	if e.What == "missing" {
		return fmt.Sprintf("%q is missing", e.Name)
	}
	return fmt.Sprintf("%q is bad: got %s, want %s", e.Name, e.Got, e.Want)
}

// describe says in one line what problems there are.
func describe(problems []Problem) string {
	var list []string
	for _, p := range problems {
		list = append(list, (&partError{p}).Error())
	}
	return strings.Join(list, "; ")
}

// Join writes the stream to w. Before it writes anything it checks that all parts are there
// with their sizes, and before the last bytes of each part its digest. The error for parts that
// are bad or missing wraps [ErrBad] and names all of them, since Join looks at the others as
// well.
func (s *Set) Join(ctx context.Context, w io.Writer) error {
	// A part that is missing or of another size is found without reading. Then nothing is
	// written, and the other parts are read only to name all that is bad at once.
	var problems []Problem
	for _, p := range s.Index.Parts {
		f, err := s.openPart(p)
		if bad, ok := errors.AsType[*partError](err); ok {
			problems = append(problems, bad.Problem)
			continue
		}
		if err != nil {
			return err
		}
		f.Close()
	}

	others := slices.DeleteFunc(slices.Clone(s.Index.Parts), func(p Part) bool {
		return slices.ContainsFunc(problems, func(q Problem) bool { return q.Name == p.Name })
	})
	if len(problems) == 0 {
		bad, rest, err := s.write(ctx, w)
		if err != nil || bad == nil {
			return err
		}
		problems, others = append(problems, bad.Problem), rest
	}

	// One trip is to bring all that has to be replaced.
	more, err := s.check(ctx, others, io.Discard)
	if err != nil {
		return err
	}

	problems = append(problems, more...)
	slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Name, b.Name) })
	return fmt.Errorf("%q: %w: %s", s.dir, ErrBad, describe(problems))
}

// write writes the parts one after the other, up to one that is bad, and returns that and those behind
// it.
func (s *Set) write(ctx context.Context, w io.Writer) (bad *partError, rest []Part, err error) {
	whole := digest.NewHasher(digest.SHA256)
	last := len(s.Index.Parts) - 1
	for i, p := range s.Index.Parts {
		end := func() error { return nil }
		if i == last {
			end = func() error { return s.checkWhole(whole) }
		}

		err := s.read(ctx, w, p, whole, end)
		if bad, ok := errors.AsType[*partError](err); ok {
			return bad, s.Index.Parts[i+1:], nil
		}
		if err != nil {
			return nil, nil, err
		}
	}

	return nil, nil, nil
}

// openPart opens a part and looks at its size.
func (s *Set) openPart(p Part) (*os.File, error) {
	f, err := s.openFile(p.Name)
	bad := func(got string) error {
		return &partError{Problem{Name: p.Name, What: "bad", Got: got, Want: p.Digest.String()}}
	}

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &partError{Problem{Name: p.Name, What: "missing", Want: p.Digest.String()}}
	case errors.Is(err, oci.ErrMalformed):
		return nil, bad("no regular file")
	case err != nil:
		return nil, fmt.Errorf("%q: %w", p.Name, oci.Pathless(err))
	}

	info, err := f.Stat()
	if err == nil && info.Size() != p.Size {
		err = bad(fmt.Sprintf("%d bytes", info.Size()))
	}
	if err != nil {
		f.Close()
		return nil, err
	}

	return f, nil
}

// read writes a part to w, a piece when the next one is there: the last one when the digest is
// known to be right, and end has nothing against it. Also gets all bytes before that.
func (s *Set) read(ctx context.Context, w io.Writer, p Part, also io.Writer, end func() error) error {
	f, err := s.openPart(p)
	if err != nil {
		return err
	}
	defer f.Close()

	task := progress.NewTask(s.Progress, progress.Event{Name: p.Name, Size: p.Size})
	defer task.Stop()
	h := digest.NewHasher(p.Digest.Algorithm())
	src := io.TeeReader(io.LimitReader(f, p.Size), io.MultiWriter(h, also))
	size := min(p.Size, 256<<10) // there may be thousands of parts
	piece, next := make([]byte, 0, size), make([]byte, size)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}

		n, readErr := io.ReadFull(src, next)
		task.Add(n)
		if readErr != nil && readErr != io.EOF && readErr != io.ErrUnexpectedEOF {
			// A medium that cannot be read is a bad part, too.
			return &partError{Problem{Name: p.Name, What: "bad", Got: "unreadable (" + oci.Pathless(readErr).Error() + ")", Want: p.Digest.String()}}
		}

		// At its end the part has been hashed, and its last piece is still held back.
		if readErr != nil {
			if got := h.Digest(); got != p.Digest {
				return &partError{Problem{Name: p.Name, What: "bad", Got: got.String(), Want: p.Digest.String()}}
			}
			if err := end(); err != nil {
				return err
			}
		}

		if _, err := w.Write(piece); err != nil {
			return err
		}

		piece, next = next[:n], piece[:cap(piece)]
		if readErr != nil {
			task.Done()
			_, err := w.Write(piece)
			return err
		}
	}
}
