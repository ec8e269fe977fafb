// Package split cuts a stream into parts of the size of a medium and joins them again.
//
// [Split] writes the parts, NAME.0001 and so on, and last the index NAME.parts.json with the digest
// of each part and of the whole. The parts are plain pieces: "cat NAME.0*" gives the stream as
// well. [Open] reads the index, [Set.Check] says what is wrong with the parts, and [Set.Join]
// writes the stream. The last bytes of a part come out only when its digest is right, so that a
// reader behind a pipe never takes for whole what is not.
package split

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/tarutil"
)

var (
	// ErrStale means that a directory holds parts that do not belong to the set.
	ErrStale = errors.New("parts of another run are here")
	// ErrBad means that parts are missing or damaged.
	ErrBad = errors.New("the set is not whole")
)

const (
	indexSuffix = ".parts.json"
	indexType   = "application/vnd.ocikit.parts.v1+json"
	tempPrefix  = ".ocikit-part-"
	maxParts    = 9999
)

// An Index lists the parts of a stream.
type Index struct {
	Digest        digest.Digest `json:"digest"` // of the stream
	MediaType     string        `json:"mediaType"`
	Name          string        `json:"name"`     // that those of the files begin with
	PartSize      int64         `json:"partSize"` // of each part but the last
	Parts         []Part        `json:"parts"`
	SchemaVersion int           `json:"schemaVersion"`
	Size          int64         `json:"size"` // of the stream
}

// A Part is one file.
type Part struct {
	Digest digest.Digest `json:"digest"`
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
}

var (
	nameGrammar = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,199}$`) })
	partGrammar = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(.+)\.([0-9]{4})$`) })
)

// CheckName returns an error if name cannot begin the names of parts.
func CheckName(name string) error {
	if !nameGrammar().MatchString(name) {
		return fmt.Errorf("name %q: want letters, digits and . _ + -", name)
	}
	return nil
}

func partName(name string, i int) string { return fmt.Sprintf("%s.%04d", name, i+1) }

// partOf returns NAME if file is called as a part of it, NAME.0001, and "" for any other file.
func partOf(file string) string {
	if m := partGrammar().FindStringSubmatch(file); m != nil {
		return m[1]
	}
	return ""
}

// indexesIn returns the names of sets whose index is among files: those that say themselves that
// they are one. Any program may call a file NAME.parts.json.
func indexesIn(root *os.Root, files []fs.DirEntry) []string {
	s := &Set{root: root}
	var names []string
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), indexSuffix)
		if !ok || CheckName(name) != nil {
			continue
		}
		var x struct {
			MediaType string `json:"mediaType"`
		}
		if data, err := s.readFile(f.Name()); err == nil && json.Unmarshal(data, &x) == nil && x.MediaType == indexType {
			names = append(names, name)
		}
	}
	return names
}

// Options say how to split.
type Options struct {
	Name  string // that those of the parts begin with
	Size  int64  // of each part but the last
	Force bool   // remove parts that are there already: of Name, and of each set whose index is there
	// Input is the file that is read, nil if it is none. If it looks like a part that Force
	// would remove, nothing is removed: should the run fail, its bytes would be gone.
	Input fs.FileInfo
	// Pipe says that the stream comes from another program, which may fail: then a tar must
	// be whole.
	Pipe bool
}

// Split writes the bytes of r into files of o.Size bytes each in dir, which is made if need be;
// its parent must be there. A directory that has parts already gives [ErrStale], unless Force
// is set. A file counts as a part if it has the name of this set, or of one whose index is there:
// what merely ends as a part does, such as report.2024, is never touched. After an error nothing
// that this run wrote is left.
func Split(ctx context.Context, r io.Reader, dir string, o Options) (x Index, err error) {
	if err := CheckName(o.Name); err != nil {
		return x, err
	}

	if o.Size <= 0 {
		return x, fmt.Errorf("parts of %d bytes", o.Size)
	}

	made, err := makeDir(dir)
	if err != nil {
		return x, err
	}

	root, err := disk.OpenRoot(dir)
	if err != nil {
		return x, fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}
	defer root.Close()

	s := &splitter{root: root, dir: dir, x: Index{MediaType: indexType, Name: o.Name, PartSize: o.Size, SchemaVersion: 1}}
	if err := s.clear(o); err != nil {
		return x, err
	}

	// Parts without an index are of no use, and would stand in the way of the next run.
	if err = s.run(ctx, r, o.Pipe); err != nil {
		for _, f := range s.written {
			root.Remove(f)
		}
		if made {
			os.Remove(dir)
		}
		return x, err
	}

	return s.x, nil
}

func makeDir(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}
	return true, nil
}

type splitter struct {
	root    *os.Root
	dir     string
	x       Index
	written []string
}

// clear makes sure that no parts are here.
func (s *splitter) clear(o Options) error {
	files, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("%q: %w", s.dir, oci.Pathless(err))
	}

	// Of a killed run only the parts are there, so the name to be written counts without an index.
	names := append(indexesIn(s.root, files), o.Name)
	files = slices.DeleteFunc(files, func(f fs.DirEntry) bool {
		name, ok := strings.CutSuffix(f.Name(), indexSuffix)
		if !ok {
			name = partOf(f.Name())
		}
		return !strings.HasPrefix(f.Name(), tempPrefix) && (name == "" || !slices.Contains(names, name))
	})

	if len(files) > 0 && !o.Force {
		return fmt.Errorf("%q: %w: %q", s.dir, ErrStale, files[0].Name())
	}

	for _, f := range files {
		if info, err := f.Info(); err == nil && o.Input != nil && os.SameFile(info, o.Input) {
			return fmt.Errorf("%q: %q would be removed, and is the file to cut: name another directory", s.dir, f.Name())
		}
	}

	for _, f := range files {
		if err := s.root.Remove(f.Name()); err != nil {
			return fmt.Errorf("%q: %w", f.Name(), oci.Pathless(err))
		}
	}

	return nil
}

func (s *splitter) run(ctx context.Context, r io.Reader, pipe bool) error {
	in := bufio.NewReaderSize(r, 256<<10)
	head, err := in.Peek(tarutil.SniffLen)
	if err != nil && err != io.EOF {
		return err
	}

	if len(head) == 0 {
		return tarutil.ErrEmpty
	}

	// A program that fails leaves a pipe that merely ends. A tar without its end must not
	// become a set that looks whole.
	whole := digest.NewHasher(digest.SHA256)
	sink := io.Writer(whole)
	check := &tarutil.Checker{AllowUnknownTypes: true}
	isTar := pipe && tarutil.Sniff(head) == tarutil.FormatTar
	if isTar {
		sink = io.MultiWriter(whole, check)
	}

	if err := s.parts(ctx, in, sink); err != nil {
		return err
	}

	if isTar {
		if err := check.Close(); err != nil {
			return err
		}
	}

	s.x.Digest, s.x.Size = whole.Digest(), whole.Size()
	data, err := oci.Encode(s.x)
	if err != nil {
		return err
	}

	// The index is last: without it there is no set.
	return s.file(s.x.Name+indexSuffix, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}

// parts writes the parts, and to sink all that goes into them.
func (s *splitter) parts(ctx context.Context, in *bufio.Reader, sink io.Writer) error {
	src := io.TeeReader(in, sink)
	for {
		if _, err := in.Peek(1); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if len(s.x.Parts) == maxParts {
			return fmt.Errorf("over %d parts: they must be larger than %d bytes", maxParts, s.x.PartSize)
		}
		if err := s.part(ctx, src); err != nil {
			return err
		}
	}
}

// part writes the next part.
func (s *splitter) part(ctx context.Context, r io.Reader) error {
	h := digest.NewHasher(digest.SHA256)
	name := partName(s.x.Name, len(s.x.Parts))
	err := s.file(name, func(w io.Writer) error {
		_, err := oci.CopyUntil(ctx, io.MultiWriter(w, h), io.LimitReader(r, s.x.PartSize))
		return err
	})
	s.x.Parts = append(s.x.Parts, Part{h.Digest(), name, h.Size()})
	return err
}

// file writes a file under a temporary name, syncs and renames it.
func (s *splitter) file(name string, write func(io.Writer) error) error {
	tmp := tempPrefix + name
	f, err := s.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}

	s.written = append(s.written, tmp, name)
	out := &writer{f: f, name: name}
	if err := write(out); err != nil {
		f.Close()
		return err
	}

	err = errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = s.root.Rename(tmp, name)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}

	if d, err := s.root.Open("."); err == nil {
		d.Sync() // media need not be able to
		d.Close()
	}

	return nil
}

// writer names the file in errors.
type writer struct {
	f    *os.File
	name string
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = fmt.Errorf("%q: %w", w.name, oci.Pathless(err))
	}
	return n, err
}
