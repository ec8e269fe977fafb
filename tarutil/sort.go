package tarutil

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// WriteSorted lets produce write a tar to a temporary file, and then writes its entries to w in tree
// order, with the end marker. It closes the Writer that produce gets. The file is in dir, or the
// system's default if that is "", and is removed in any case. If anything fails before all entries are
// in the file, nothing is written to w.
//
// Of several entries for one path the last counts. They are an error wrapping [ErrDuplicate] if only some
// of them are directories, or a hard link leads to one of them. A file with several names has its content
// under the first in tree order, and the others become hard links to that.
func WriteSorted(ctx context.Context, w io.Writer, dir string, produce func(*Writer) error) (err error) {
	f, remove, err := createTemp(dir, "ocikit-sort-*")
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, remove()) }()

	buf := bufio.NewWriterSize(f, copySize)
	tw := NewWriter(buf)
	if err := produce(tw); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}

	// The order, and which name of a file comes first, are known once all is in the file.
	s := &sorter{f: f, tw: NewWriter(w), buf: make([]byte, copySize)}
	if err := s.index(); err != nil {
		return err
	}
	if err := s.order(); err != nil {
		return err
	}

	for i := range s.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.write(&s.entries[i]); err != nil {
			return err
		}
	}

	return s.tw.Close()
}

// createTemp makes a temporary file, and a function that closes and removes it. Where the system lets an
// open file give up its name, it has none: then it is gone with the process, also if a pipe that nobody
// reads any more ends that.
func createTemp(dir, pattern string) (*os.File, func() error, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, nil, err
	}
	named := os.Remove(f.Name()) != nil
	return f, func() error {
		err := f.Close()
		if named {
			err = cmp.Or(err, os.Remove(f.Name()))
		}
		return err
	}, nil
}

// A sorter holds an index of a tar that Writer wrote.
type sorter struct {
	f       *os.File
	tw      *Writer
	buf     []byte
	entries []sortEntry
	files   map[string]*linkedFile // by each of the names of a file with several
}

type sortEntry struct {
	name       string
	flag       byte
	target     string // of a hard link
	start, end int64  // with all headers, content and padding
}

// A linkedFile is a file with several names.
type linkedFile struct {
	content sortEntry // where its content is
	first   string    // the first of its names in order
}

// index finds all entries in the file.
func (s *sorter) index() error {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return err
	}

	// Where an entry begins is where the one before ended. archive/tar does not tell, but it
	// takes exactly the header blocks from the file, so the position behind a header is known.
	end, tr, budget := int64(0), tar.NewReader(s.f), NewBudget(0)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}

		if err := budget.Take(entryMemory + len(hdr.Name) + len(hdr.Linkname)); err != nil {
			return err
		}

		e := sortEntry{name: strings.TrimSuffix(hdr.Name, "/"), flag: hdr.Typeflag, start: end}
		if e.name == "." {
			e.name = ""
		}

		if e.flag == tar.TypeLink {
			e.target = hdr.Linkname
		}

		at, err := s.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}

		end = at + hdr.Size + int64(Padding(hdr.Size))
		e.end = end
		s.entries = append(s.entries, e)
	}
}

// order sorts the entries, drops those that a later one replaces, and groups the names of each file.
func (s *sorter) order() error {
	slices.SortStableFunc(s.entries, func(a, b sortEntry) int { return ComparePaths(a.name, b.name) })

	// If a hard link leads to a path with several entries, it is not known which of them is meant.
	targets := make(map[string]bool)
	for _, e := range s.entries {
		if e.flag == tar.TypeLink {
			targets[e.target] = true
		}
	}

	// Entries for one path are neighbours now, in the order in which they came.
	kept := s.entries[:0]
	for _, e := range s.entries {
		if n := len(kept); n > 0 && kept[n-1].name == e.name {
			if (e.flag == tar.TypeDir) != (kept[n-1].flag == tar.TypeDir) || targets[e.name] {
				return fmt.Errorf("entry %q: %w", e.name, ErrDuplicate)
			}
			kept = kept[:n-1]
		}

		if n := len(kept); n > 0 && kept[n-1].flag != tar.TypeDir && kept[n-1].flag != tar.TypeSymlink && strings.HasPrefix(e.name, kept[n-1].name+"/") {
			return fmt.Errorf("entry %q: %w: %q is not a directory", e.name, ErrMalformed, kept[n-1].name)
		}
		kept = append(kept, e)
	}

	s.entries = kept

	// Names that are one file are gathered. Its content goes to the first of them, wherever it
	// stood before.
	s.files = make(map[string]*linkedFile)
	for _, e := range s.entries {
		if e.flag != tar.TypeLink {
			continue
		}

		origin, err := s.origin(e)
		if err != nil {
			return err
		}

		file := s.files[origin.name]
		if file == nil {
			file = &linkedFile{content: origin, first: origin.name}
			s.files[origin.name] = file
		}

		s.files[e.name] = file
		if ComparePaths(e.name, file.first) < 0 {
			file.first = e.name
		}
	}

	return nil
}

// origin follows a hard link to the entry that has the content.
func (s *sorter) origin(e sortEntry) (sortEntry, error) {
	// Links may lead to links, but no longer than there are entries: then they run in a circle.
	link := e.name
	for range len(s.entries) {
		if e.flag != tar.TypeLink {
			break
		}
		i, found := slices.BinarySearchFunc(s.entries, e.target, func(e sortEntry, name string) int {
			return ComparePaths(e.name, name)
		})
		if !found {
			return e, fmt.Errorf("entry %q: %w: hard link to %q, which is not there", link, ErrMalformed, e.target)
		}
		e = s.entries[i]
	}

	if e.flag == tar.TypeLink || e.flag == tar.TypeDir {
		return e, fmt.Errorf("entry %q: %w: hard link that leads to no file", link, ErrMalformed)
	}

	return e, nil
}

// write writes one entry in its place.
func (s *sorter) write(e *sortEntry) error {
	file := s.files[e.name]
	if file == nil {
		// The entry is whole in the file, and is copied as it is.
		for at := e.start; at < e.end; {
			n, err := s.f.ReadAt(s.buf[:min(e.end-at, int64(len(s.buf)))], at)
			if err != nil && n == 0 {
				return err
			}
			if err := s.tw.WriteRaw(s.buf[:n]); err != nil {
				return err
			}
			at += int64(n)
		}
		return nil
	}

	// The file has several names. Its header is that of the entry with the content, under each of
	// the names.
	tr := tar.NewReader(io.NewSectionReader(s.f, file.content.start, file.content.end-file.content.start))
	hdr, err := tr.Next()
	if err != nil {
		return err
	}

	hdr.Name = e.name
	if e.name != file.first {
		return s.tw.WriteHeader(HardLink(*hdr, file.first))
	}

	if err := s.tw.WriteHeader(hdr); err != nil {
		return err
	}

	_, err = s.tw.ReadFrom(tr)
	return err
}
