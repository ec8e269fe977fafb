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

// sorted has produce write a tar to a temporary file in dir, and writes its entries to w
// in tree order. Of several entries for one directory the last counts; of files with
// several names the first in order has the content.
func sorted(ctx context.Context, w io.Writer, dir string, produce func(*Writer) error) (err error) {
	f, err := os.CreateTemp(dir, "ocikit-sort-*")
	if err != nil {
		return err
	}
	defer func() {
		err = cmp.Or(err, f.Close(), os.Remove(f.Name()))
	}()
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

// index finds all entries.
func (s *sorter) index() error {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	end, tr := int64(0), tar.NewReader(s.f)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		e := sortEntry{name: strings.TrimSuffix(hdr.Name, "/"), flag: hdr.Typeflag, start: end}
		if e.name == "." {
			e.name = ""
		}
		if e.flag == typeLink {
			e.target = hdr.Linkname
		}
		at, err := s.f.Seek(0, io.SeekCurrent) // the content begins where the header ends
		if err != nil {
			return err
		}
		end = at + hdr.Size + int64(padding(hdr.Size))
		e.end = end
		s.entries = append(s.entries, e)
	}
}

// order sorts the entries and groups hard links.
func (s *sorter) order() error {
	slices.SortStableFunc(s.entries, func(a, b sortEntry) int { return comparePaths(a.name, b.name) })
	kept := s.entries[:0]
	for _, e := range s.entries {
		if n := len(kept); n > 0 && kept[n-1].name == e.name {
			if e.flag != typeDir || kept[n-1].flag != typeDir {
				return fmt.Errorf("entry %q: %w", e.name, ErrDuplicate)
			}
			kept = kept[:n-1]
		}
		kept = append(kept, e)
	}
	s.entries = kept
	s.files = make(map[string]*linkedFile)
	for _, e := range s.entries {
		if e.flag != typeLink {
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
		if comparePaths(e.name, file.first) < 0 {
			file.first = e.name
		}
	}
	return nil
}

// origin follows a hard link to the entry that has the content.
func (s *sorter) origin(e sortEntry) (sortEntry, error) {
	link := e.name
	for range len(s.entries) {
		if e.flag != typeLink {
			break
		}
		i, found := slices.BinarySearchFunc(s.entries, e.target, func(e sortEntry, name string) int {
			return comparePaths(e.name, name)
		})
		if !found {
			return e, fmt.Errorf("entry %q: %w: hard link to %q, which is not there", link, ErrMalformed, e.target)
		}
		e = s.entries[i]
	}
	if e.flag == typeLink || e.flag == typeDir {
		return e, fmt.Errorf("entry %q: %w: hard link that leads to no file", link, ErrMalformed)
	}
	return e, nil
}

// write writes one entry in its place.
func (s *sorter) write(e *sortEntry) error {
	file := s.files[e.name]
	if file == nil {
		for at := e.start; at < e.end; {
			n, err := s.f.ReadAt(s.buf[:min(e.end-at, int64(len(s.buf)))], at)
			if err != nil && n == 0 {
				return err
			}
			if err := s.tw.writeRaw(s.buf[:n]); err != nil {
				return err
			}
			at += int64(n)
		}
		return nil
	}
	tr := tar.NewReader(io.NewSectionReader(s.f, file.content.start, file.content.end-file.content.start))
	hdr, err := tr.Next()
	if err != nil {
		return err
	}
	hdr.Name = e.name
	if e.name != file.first {
		return s.tw.WriteHeader(asLink(*hdr, file.first))
	}
	if err := s.tw.WriteHeader(hdr); err != nil {
		return err
	}
	_, err = s.tw.ReadFrom(tr)
	return err
}
