// Package tartest makes trees, tars and faults for tests of what reads and writes tars.
//
// [Tree] and [Layer] make a directory and a tar from the same short lines, and [List] turns a tar
// into such lines again. [Tar] writes whole headers. [Patch] damages a header, and a [FaultWriter] is
// a disk that fills up. The package does not import tarutil, so that the tests of that can use it.
package tartest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/digest/digesttest"
)

// Reps returns how often a test repeats what it does: short times under -short, else full times.
func Reps(full, short int) int { return digesttest.Reps(full, short) }

// GOROOT returns where the Go tree is, or "" if the go command does not say.
var GOROOT = sync.OnceValue(func() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
})

// Tree makes a directory from lines: "name/" is a directory, "name -> target" a symbolic
// link, "name = other" a hard link, "name content" a file.
func Tree(t testing.TB, lines ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, line := range lines {
		var err error
		name, rest, _ := strings.Cut(line, " ")
		path := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case strings.HasPrefix(rest, "-> "):
			err = os.Symlink(rest[3:], path)
		case strings.HasPrefix(rest, "= "):
			err = os.Link(filepath.Join(root, rest[2:]), path)
		default:
			err = os.WriteFile(path, []byte(rest), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	return root
}

// List describes the entries of a tar: name, then the target of a link, or the content.
func List(t testing.TB, data []byte) []string {
	t.Helper()
	var lines []string
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}

		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}

		line := hdr.Name
		switch hdr.Typeflag {
		case tar.TypeSymlink:
			line += " -> " + hdr.Linkname
		case tar.TypeLink:
			line += " = " + hdr.Linkname
		case tar.TypeReg:
			if len(content) > 0 {
				line += " " + string(content)
			}
		case tar.TypeDir:
		default:
			line += fmt.Sprintf(" type %c %d:%d", hdr.Typeflag, hdr.Devmajor, hdr.Devminor)
		}

		lines = append(lines, line)
	}
}

// WantList fails the test unless the tar in data has the entries want, as [List] describes them.
func WantList(t *testing.T, what string, data []byte, want ...string) {
	t.Helper()
	if got := List(t, data); !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}

// Check writes data to a checker in pieces of n bytes and closes it. It returns the first error.
func Check(c io.WriteCloser, data []byte, n int) error {
	for len(data) > 0 {
		k := min(n, len(data))
		if _, err := c.Write(data[:k]); err != nil {
			return err
		}
		data = data[k:]
	}
	return c.Close()
}

// Layer makes a tar from lines as [Tree] has them, in their order. Its entries are of 5:6.
func Layer(t testing.TB, lines ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, line := range lines {
		name, rest, _ := strings.Cut(line, " ")
		hdr := &tar.Header{Name: name, Mode: 0o644, Uid: 5, Gid: 6, Uname: "u", ModTime: time.Unix(77, 0)}
		var content string
		switch {
		case strings.HasPrefix(rest, "-> "):
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, rest[3:]
		case strings.HasPrefix(rest, "= "):
			hdr.Typeflag, hdr.Linkname = tar.TypeLink, rest[2:]
		case strings.HasSuffix(name, "/"):
			hdr.Typeflag = tar.TypeDir
		default:
			hdr.Typeflag, content = tar.TypeReg, rest
			hdr.Size = int64(len(content))
		}
		if err := tw.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		io.WriteString(tw, content)
	}

	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}

	return buf.Bytes()
}

// Gzipped returns data compressed with gzip.
func Gzipped(_ testing.TB, data []byte) []byte { return digesttest.Gzipped(data) }

// GoSamples returns the tars that archive/tar is tested with, by their names. There are none without
// the sources of Go.
func GoSamples(t testing.TB) map[string][]byte {
	samples := make(map[string][]byte)
	files, _ := filepath.Glob(filepath.Join(GOROOT(), "src/archive/tar/testdata/*.tar"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		samples[filepath.Base(f)] = data
	}
	return samples
}

// Patch returns a copy of data with s at offset at, and the checksum of the header at
// block made right.
func Patch(data []byte, block, at int, s string) []byte {
	data = bytes.Clone(data)
	copy(data[block+at:], s)
	b := data[block : block+512]
	copy(b[AtSum:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[AtSum:], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

// Xattrs returns the records of hdr that are extended attributes.
func Xattrs(hdr *tar.Header) map[string]string {
	attrs := make(map[string]string)
	for key, value := range hdr.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			attrs[key] = value
		}
	}
	return attrs
}

// A FaultWriter fails with [ErrFault] from its At-th call on, which counts from 1. What was written
// before is in Buf. With Short, the At-th call takes half of what it gets, and no error says so.
type FaultWriter struct {
	Calls, At int
	Short     bool
	Buf       bytes.Buffer
}

// ErrFault is the error of a [FaultWriter].
var ErrFault = errors.New("disk full")

func (f *FaultWriter) Write(p []byte) (int, error) {
	switch f.Calls++; {
	case f.Calls < f.At:
		return f.Buf.Write(p)
	case f.Short && f.Calls == f.At:
		return f.Buf.Write(p[:len(p)/2])
	}
	return 0, ErrFault
}

// Compress writes data to z, in pieces of the sizes that cut returns, and closes it.
func Compress(t testing.TB, z io.WriteCloser, data []byte, cut func() int) {
	t.Helper()
	for p := data; len(p) > 0; {
		k := min(cut(), len(p))
		if n, err := z.Write(p[:k]); n != k || err != nil {
			t.Fatalf("Write(%d bytes) = %d, %v", k, n, err)
		}
		p = p[k:]
	}
	if err := z.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// Golden compares got with testdata/golden.txt line by line, after rewriting that if update is set.
func Golden(t *testing.T, got string, update bool) {
	t.Helper()
	file := filepath.Join("testdata", "golden.txt")
	if update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("line %d: got %s, want %s", i+1, a[i], b[i])
		}
	}
	if len(a) != len(b) {
		t.Errorf("got %d lines, want %d", len(a), len(b))
	}
}

// Where fields stand in a header.
const (
	AtMode  = 100
	AtUID   = 108
	AtSize  = 124
	AtSum   = 148
	AtType  = 156
	AtMagic = 257
)

// An Entry is a header, and perhaps content.
type Entry struct {
	tar.Header
	Content string
}

// Sample returns entries of all kinds.
func Sample() []Entry {
	return []Entry{
		{tar.Header{Typeflag: tar.TypeDir, Name: "bin", Mode: 0o755}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: "bin/hello", Mode: 0o755, Size: 5}, "hello"},
		{tar.Header{Typeflag: tar.TypeReg, Name: "even", Mode: 0o644, Size: 512}, strings.Repeat("e", 512)},
		{tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("long/", 60) + "name", Size: 1}, "x"},
		{tar.Header{Typeflag: tar.TypeLink, Name: "hi", Linkname: "bin/hello"}, ""},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "ümlaut", Linkname: "bin"}, ""},
		{tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}, ""},
	}
}

// Tar writes entries as they are, good or bad.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	return TarIn(t, tar.FormatPAX, entries...)
}

// TarIn is [Tar] in another format.
func TarIn(t testing.TB, format tar.Format, entries ...Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := e.Header
		hdr.Format = format
		if hdr.Typeflag == tar.TypeReg {
			hdr.Size = int64(len(e.Content))
		}
		if err := tw.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		io.WriteString(tw, e.Content)
	}

	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}

	return buf.Bytes()
}
