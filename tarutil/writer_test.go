package tarutil

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ocikit/tarutil/internal/tartest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// wide returns an owner's number that fits into 33 bits, also where an int has 32; there the tests
// compile, and those of such owners fail.
func wide(n int64) int { return int(n) }

// goldenHeaders is one header for each part of the rule of the format.
func goldenHeaders() []tar.Header {
	at := time.Unix(1700000000, 0)
	name100 := strings.Repeat("n", 100)
	file := func(h tar.Header) tar.Header {
		h.Typeflag, h.Mode = tar.TypeReg, 0o644
		if h.ModTime.IsZero() {
			h.ModTime = at
		}
		return h
	}
	return []tar.Header{
		{Typeflag: tar.TypeDir, Name: "dir", Mode: 0o1777},
		file(tar.Header{Name: "file", Size: 3, Uid: 1000, Gid: 100, Uname: "user", Gname: "users"}),
		{Typeflag: tar.TypeReg, Name: "setuid", Mode: 0o104755},
		{Typeflag: tar.TypeSymlink, Name: "symlink", Linkname: "/absolute", Mode: 0o777},
		{Typeflag: tar.TypeLink, Name: "link", Linkname: "file", Mode: 0o644},
		{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeBlock, Name: "block", Devmajor: 4095, Devminor: 1048575},
		{Typeflag: tar.TypeFifo, Name: "fifo", Devmajor: 9},
		{Typeflag: tar.TypeCont, Name: "contiguous"},
		file(tar.Header{Name: name100}),
		file(tar.Header{Name: name100 + "1"}),
		file(tar.Header{Name: strings.Repeat("p", 155) + "/" + name100}),
		file(tar.Header{Name: strings.Repeat("p", 156) + "/" + name100}),
		file(tar.Header{Name: "p/" + strings.Repeat("q", 90) + "/" + strings.Repeat("r", 60)}),
		file(tar.Header{Name: strings.Repeat("n", 99) + "/behind the cut a slash would mean a directory"}),
		{Typeflag: tar.TypeDir, Name: strings.Repeat("d", 100)},
		{Typeflag: tar.TypeDir, Name: strings.Repeat("deep/", 800)},
		{Typeflag: tar.TypeSymlink, Name: "longlink", Linkname: strings.Repeat("t", 101)},
		{Typeflag: tar.TypeLink, Name: "longhardlink", Linkname: strings.Repeat("p", 155) + "/" + name100},
		file(tar.Header{Name: "ümlaut"}),
		file(tar.Header{Name: "u\u0308mlaut"}),
		file(tar.Header{Name: "latin1-\xfc\xff\xfe"}),
		{Typeflag: tar.TypeSymlink, Name: "to-latin1", Linkname: "\xfc"},
		file(tar.Header{Name: "new\nline\tand\x1b[31m"}),
		file(tar.Header{Name: `..\..\x`}),
		file(tar.Header{Name: "uid-max", Uid: 1<<21 - 1, Gid: 1<<21 - 1}),
		file(tar.Header{Name: "uid-over", Uid: 1 << 21, Gid: wide(1<<32 - 2)}),
		file(tar.Header{Name: "owner", Uname: strings.Repeat("u", 32), Gname: "gröup"}),
		file(tar.Header{Name: "time-negative", ModTime: time.Unix(-1, 0)}),
		file(tar.Header{Name: "time-fraction", ModTime: time.Unix(1, 5e8)}),
		file(tar.Header{Name: "time-negative-fraction", ModTime: time.Unix(-2, 25e7)}),
		file(tar.Header{Name: "time-max", ModTime: time.Unix(1<<33-1, 0)}),
		file(tar.Header{Name: "time-over", ModTime: time.Unix(1<<33, 1)}),
		file(tar.Header{Name: "time-2^40", ModTime: time.Unix(1<<40, 0)}),
		file(tar.Header{Name: "xattrs", PAXRecords: map[string]string{
			"SCHILY.xattr.user.b": "with\x00nul\n", "SCHILY.xattr.user.a": "1",
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00",
			"path":                             "ignored", "SCHILY.dev": "ignored", "VENDOR.x": "ignored"}}),
		file(tar.Header{Name: "windows", PAXRecords: map[string]string{"MSWINDOWS.fileattr": "32"}}),
	}
}

// goldenTar writes each header as an entry. Contents are zeros.
func goldenTar(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := NewWriter(&buf)
	for _, hdr := range goldenHeaders() {
		if err := tw.WriteHeader(&hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(make([]byte, hdr.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestWriterGolden(t *testing.T) {
	data := goldenTar(t)
	golden := filepath.Join("testdata", "writer.tar")
	if *update {
		if err := os.WriteFile(golden, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("got sha256 %x, the golden file has %x", sha256.Sum256(data), sha256.Sum256(want))
	}
	if err := tartest.Check(&Checker{}, want, 512); err != nil {
		t.Error(err)
	}
}

// TestWriterLarge freezes what a golden file would be too large for.
func TestWriterLarge(t *testing.T) {
	const want = "7e2ebeacb40a33be829279d54319fddcf295ea75c6e0422c98ac6aba75cc83fe"
	var head []byte
	for _, size := range []int64{1<<33 - 1, 1 << 33, 1 << 40} {
		var err error
		if head, err = AppendHeader(head, &tar.Header{Name: "large", Size: size}); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(head)); got != want {
		t.Errorf("headers of large files: sha256 %s, want %s", got, want)
	}
	hdr, err := tar.NewReader(bytes.NewReader(head[512:])).Next()
	if err != nil || hdr.Size != 1<<33 {
		t.Errorf("archive/tar reads %v, %v", hdr, err)
	}
}

func TestWriterReadBack(t *testing.T) {
	tr := tar.NewReader(bytes.NewReader(goldenTar(t)))
	for _, want := range goldenHeaders() {
		got, err := tr.Next()
		if err != nil {
			t.Fatalf("before %q: %v", want.Name, err)
		}
		if want.Typeflag == tar.TypeDir && !strings.HasSuffix(want.Name, "/") {
			want.Name += "/"
		}
		if want.Typeflag == tar.TypeCont {
			want.Typeflag = tar.TypeReg
		}
		if want.Typeflag == tar.TypeFifo {
			want.Devmajor = 0
		}
		if want.ModTime.IsZero() {
			want.ModTime = time.Unix(0, 0)
		}
		if got.Name != want.Name || got.Typeflag != want.Typeflag || got.Linkname != want.Linkname ||
			got.Size != want.Size || got.Mode != want.Mode&0o7777 || !got.ModTime.Equal(want.ModTime) ||
			got.Uid != want.Uid || got.Gid != want.Gid || got.Uname != want.Uname || got.Gname != want.Gname ||
			got.Devmajor != want.Devmajor || got.Devminor != want.Devminor {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		if a, b := tartest.Xattrs(got), tartest.Xattrs(&want); !maps.Equal(a, b) {
			t.Errorf("%q: xattrs %q, want %q", want.Name, a, b)
		}
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Error(err)
	}
}

// TestWriterForeign has GNU tar and Python list the golden file.
func TestWriterForeign(t *testing.T) {
	golden := filepath.Join("testdata", "writer.tar")
	n := len(goldenHeaders())
	py := `import sys, tarfile
for m in tarfile.open(sys.argv[1]): print(m.name.encode("utf8", "surrogateescape"))`
	for _, args := range [][]string{
		{"tar", "--quoting-style=escape", "-tvf", golden},
		{"python3", "-c", py, golden},
	} {
		t.Run(args[0], func(t *testing.T) {
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip(err)
			}
			out, err := exec.Command(args[0], args[1:]...).Output()
			if lines := strings.Count(string(out), "\n"); err != nil || lines != n {
				t.Errorf("%v: %d lines, want %d\n%s", err, lines, n, out)
			}
			for _, want := range []string{strings.Repeat("p", 156) + "/n", "time-2^40", `latin1-\`} {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in its list", want)
				}
			}
		})
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, hdr := range map[string]tar.Header{
		"empty name":            {},
		"NUL in name":           {Name: "a\x00b"},
		"NUL in link":           {Name: "a", Typeflag: tar.TypeSymlink, Linkname: "\x00"},
		"empty link":            {Name: "a", Typeflag: tar.TypeLink},
		"slash behind a file":   {Name: "a/"},
		"unknown type":          {Name: "a", Typeflag: 'Z'},
		"extended header":       {Name: "a", Typeflag: tar.TypeXHeader},
		"negative size":         {Name: "a", Size: -1},
		"size beyond all":       {Name: "a", Size: 1<<63 - 1},
		"content in a link":     {Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b", Size: 1},
		"negative uid":          {Name: "a", Uid: -1},
		"uid of 33 bits":        {Name: "a", Gid: wide(1 << 32)},
		"device number too big": {Name: "a", Typeflag: tar.TypeChar, Devminor: 1 << 21},
		"negative device":       {Name: "a", Typeflag: tar.TypeBlock, Devmajor: -1},
		"negative device minor": {Name: "a", Typeflag: tar.TypeBlock, Devminor: -1},
		"device type too big":   {Name: "a", Typeflag: tar.TypeBlock, Devmajor: 1 << 21},
		"key with =":            {Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.a=b": "c"}},
	} {
		var buf bytes.Buffer
		tw := NewWriter(&buf)
		err := tw.WriteHeader(&hdr)
		if err == nil || buf.Len() > 0 {
			t.Errorf("%s: WriteHeader = %v, and wrote %d bytes", name, err, buf.Len())
		}
		if err := tw.Close(); err == nil || buf.Len() > 0 {
			t.Errorf("%s: Close = %v, and wrote %d bytes", name, err, buf.Len())
		}
	}
}

func TestWriterContentSize(t *testing.T) {
	three := tar.Header{Name: "three", Size: 3}
	for name, use := range map[string]func(tw *Writer) error{
		"short, then Close": func(tw *Writer) error { tw.Write([]byte("ab")); return tw.Close() },
		"short, then next":  func(tw *Writer) error { tw.Write([]byte("ab")); return tw.WriteHeader(&three) },
		"long":              func(tw *Writer) error { _, err := tw.Write([]byte("abcd")); return err },
		"long in pieces": func(tw *Writer) error {
			_, err := tw.ReadFrom(iotest.OneByteReader(strings.NewReader("abcd")))
			return err
		},
		"after an error": func(tw *Writer) error { tw.Write([]byte("abcd")); return tw.Close() },
	} {
		var buf bytes.Buffer
		tw := NewWriter(&buf)
		if err := tw.WriteHeader(&three); err != nil {
			t.Fatal(err)
		}
		if err := use(tw); !errors.Is(err, errContentSize) || !strings.Contains(err.Error(), `"three"`) {
			t.Errorf("%s: %v, want errContentSize with the name", name, err)
		}
		if tartest.Check(&Checker{}, buf.Bytes(), 512) == nil {
			t.Errorf("%s: the output looks whole", name)
		}
	}
	tw := NewWriter(io.Discard)
	if err := tw.Close(); err != nil {
		t.Error(err)
	}
	if err := tw.WriteHeader(&three); err == nil {
		t.Error("WriteHeader after Close: no error")
	}
}

func TestWriterFaults(t *testing.T) {
	data := goldenTar(t)
	for k := 1; ; k++ {
		w := &tartest.FaultWriter{At: k}
		tw := NewWriter(w)
		var err error
		for _, hdr := range goldenHeaders() {
			tw.WriteHeader(&hdr)
			tw.Write(make([]byte, hdr.Size))
		}
		if err = tw.Close(); err == nil {
			if !bytes.Equal(w.Buf.Bytes(), data) {
				t.Fatalf("call %d broken: success with other bytes", k)
			}
			break
		}
		if !errors.Is(err, tartest.ErrFault) || w.Calls != k {
			t.Fatalf("call %d broken: %v after %d calls", k, err, w.Calls)
		}
	}
}
