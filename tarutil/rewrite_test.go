package tarutil

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// layer makes a tar from lines as tree has them, in their order.
func layer(t testing.TB, lines ...string) []byte {
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

func matcher(t testing.TB, patterns string) *Matcher {
	t.Helper()
	if patterns == "" {
		return nil
	}
	m, err := NewMatcher(strings.Fields(patterns))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// keep copies owners and times.
var keep = RewriteOptions{Owner: Owner{Keep: true}, MTime: KeepMTime()}

func rewrite(t testing.TB, r io.Reader, opts RewriteOptions) ([]byte, error) {
	t.Helper()
	opts.TempDir = t.TempDir()
	var buf bytes.Buffer
	err := Rewrite(context.Background(), &buf, r, opts)
	if whole := check(&Checker{}, buf.Bytes(), 4096); (whole == nil) != (err == nil) {
		t.Errorf("Rewrite: %v, but the output: %v", err, whole)
	}
	return buf.Bytes(), err
}

func TestRewrite(t *testing.T) {
	release := []string{"./", "./tool-1.0/", "./tool-1.0/bin/", "./tool-1.0/bin/tool ELF", "./tool-1.0/bin/t = ./tool-1.0/bin/tool",
		"./tool-1.0/README text", "./tool-1.0/latest -> bin/tool"}
	tests := []struct {
		name  string
		in    []string
		opts  RewriteOptions
		only  string
		not   string
		want  []string
		pipes bool // works from a pipe, too
	}{
		{"one binary into usr/local/bin", release, RewriteOptions{Prefix: "usr/local/bin", StripComponents: 2}, "*/bin/tool", "",
			[]string{"usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/tool ELF"}, true},
		{"whole tarball under usr/local", release, RewriteOptions{Prefix: "/usr/local/"}, "", "",
			[]string{"usr/", "usr/local/", "usr/local/tool-1.0/", "usr/local/tool-1.0/bin/", "usr/local/tool-1.0/bin/tool ELF",
				"usr/local/tool-1.0/bin/t = usr/local/tool-1.0/bin/tool", "usr/local/tool-1.0/README text", "usr/local/tool-1.0/latest -> bin/tool"}, true},
		{"unchanged", release, RewriteOptions{}, "", "",
			[]string{"./", "tool-1.0/", "tool-1.0/bin/", "tool-1.0/bin/tool ELF", "tool-1.0/bin/t = tool-1.0/bin/tool",
				"tool-1.0/README text", "tool-1.0/latest -> bin/tool"}, true},
		{"strip all", release, RewriteOptions{StripComponents: 9}, "", "", nil, true},
		{"parents of what is selected", release, RewriteOptions{}, "**/tool", "", []string{"tool-1.0/", "tool-1.0/bin/", "tool-1.0/bin/tool ELF"}, true},
		{"exclude", release, RewriteOptions{StripComponents: 1}, "", "*/bin !*/bin/tool */latest",
			[]string{"bin/", "bin/tool ELF", "README text"}, true},
		{"link without its target", release, RewriteOptions{StripComponents: 2}, "*/bin/t", "", []string{"t ELF"}, false},
		{"links without their target", []string{"a x", "b = a", "c = b", "d = c", "e y"}, RewriteOptions{Prefix: "p"}, "c d", "",
			[]string{"p/", "p/c x", "p/d = p/c"}, false},
		{"link through one that is left out", []string{"a x", "b = a", "c = b"}, RewriteOptions{}, "", "b", []string{"a x", "c = a"}, false},
		{"absolute names and targets", []string{"/a x", "/b = /a"}, RewriteOptions{}, "", "", []string{"a x", "b = a"}, true},
		{"whiteouts", []string{"d/.wh.x", "d/.wh..wh..opq"}, RewriteOptions{Prefix: "p"}, "", "", []string{"p/", "p/d/.wh.x", "p/d/.wh..wh..opq"}, true},
		{"sort", []string{"b/", "b/z 1", "b/.wh.y", "b/a = b/z", "a.x 2", "b/.wh..wh..opq", "a/", "a/c 3", "a/"}, RewriteOptions{Sort: true}, "", "",
			[]string{"a/", "a/c 3", "a.x 2", "b/", "b/.wh..wh..opq", "b/.wh.y", "b/a 1", "b/z = b/a"}, true},
		{"sort the root", []string{"b 1", "./", "a 2"}, RewriteOptions{Sort: true}, "", "", []string{"./", "a 2", "b 1"}, true},
		{"the same path twice", []string{"a 1", "a 2"}, RewriteOptions{}, "", "", []string{"a 1", "a 2"}, true},
		{"empty", nil, RewriteOptions{Prefix: "p"}, "", "", nil, true},
	}
	for _, tt := range tests {
		tt.opts.Only, tt.opts.Exclude = matcher(t, tt.only), matcher(t, tt.not)
		data := layer(t, tt.in...)
		for _, in := range [][]byte{data, gzipped(t, data)} {
			got, err := rewrite(t, bytes.NewReader(in), tt.opts)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			wantList(t, tt.name, got, tt.want...)
			piped, err := rewrite(t, iotest.OneByteReader(bytes.NewReader(in)), tt.opts)
			if (err == nil) != tt.pipes || err == nil && !bytes.Equal(got, piped) {
				t.Errorf("%s: through a pipe: %v", tt.name, err)
			}
			again := keep
			if again.Sort = tt.opts.Sort; tt.pipes {
				if second, err := rewrite(t, bytes.NewReader(got), again); err != nil || !bytes.Equal(got, second) {
					t.Errorf("%s: a second pass changes it: %v", tt.name, err)
				}
			}
		}
	}
}

func TestRewriteMetadata(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	tw.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "0123"}})
	tw.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o4711, Uid: 5, Gid: 6, Uname: "u", Gname: "g",
		ModTime: time.Unix(-2, 5e8), AccessTime: time.Unix(9, 0), Format: tar.FormatPAX, PAXRecords: map[string]string{
			"SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.selinux": "x"}})
	tw.Close()
	for _, tt := range []struct {
		opts RewriteOptions
		want tar.Header
	}{
		{keep, tar.Header{Mode: 0o4711, Uid: 5, Gid: 6, Uname: "u", Gname: "g", ModTime: time.Unix(-2, 5e8)}},
		{RewriteOptions{Mode: ModeNormalize, MTime: ClampMTime(time.Unix(100, 0))}, tar.Header{Mode: 0o755, ModTime: time.Unix(-2, 0)}},
		{RewriteOptions{Owner: Owner{UID: 1, GID: 2}}, tar.Header{Mode: 0o4711, Uid: 1, Gid: 2, ModTime: time.Unix(0, 0)}},
	} {
		out, err := rewrite(t, bytes.NewReader(buf.Bytes()), tt.opts)
		if err != nil {
			t.Fatal(err)
		}
		tr := tar.NewReader(bytes.NewReader(out))
		hdr, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		w := tt.want
		if hdr.Name != "f" || hdr.Mode != w.Mode || hdr.Uid != w.Uid || hdr.Gid != w.Gid || hdr.Uname != w.Uname ||
			hdr.Gname != w.Gname || !hdr.ModTime.Equal(w.ModTime) {
			t.Errorf("got %+v\nwant %+v", hdr, w)
		}
		if got := xattrsOf(hdr); !maps.Equal(got, map[string]string{"SCHILY.xattr.user.a": "1"}) {
			t.Errorf("xattrs %q", got)
		}
		if _, err := tr.Next(); err != io.EOF {
			t.Errorf("more than one entry: %v", err)
		}
	}
}

// sparseTar is a tar with one sparse file that claims the given size, and has no data.
func sparseTar(size uint64) []byte {
	b := make([]byte, 3*blockSize)
	copy(b, "sparse")
	copy(b[atMode:], "0000644\x00")
	copy(b[atSize:], "00000000000\x00")
	b[atType] = tar.TypeGNUSparse
	copy(b[atMagic:], "ustar  \x00")
	copy(b[386:], fmt.Sprintf("%011o\x00%011o\x00", 0, 0)) // one fragment of no bytes
	b[483] = 0x80
	binary.BigEndian.PutUint64(b[487:], size)
	return patch(b, 0, 0, "sparse")
}

func TestRewriteRefuses(t *testing.T) {
	data := layer(t, "a 1", "b 2")
	flip := bytes.Clone(data)
	flip[1024+3] ^= 1
	gz := gzipped(t, data)
	gz[len(gz)-5] ^= 1
	var global bytes.Buffer
	tw := tar.NewWriter(&global)
	tw.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "x"}})
	tw.Close()
	noEnd := data[:len(data)-1024]
	tests := []struct {
		name string
		data []byte
		opts RewriteOptions
		want error // nil: any
	}{
		{"empty", nil, RewriteOptions{}, ErrEmpty},
		{"random text", bytes.Repeat([]byte("text "), 1000), RewriteOptions{}, ErrMalformed},
		{"climbing name", layer(t, "../../tmp/x 1"), RewriteOptions{}, ErrBadPath},
		{"climbing inside", layer(t, "a/../b 1"), RewriteOptions{}, ErrBadPath},
		{"hard link that climbs", layer(t, "a 1", "b = ../a"), RewriteOptions{}, ErrBadPath},
		{"hard link to the root", layer(t, "b = ."), RewriteOptions{}, ErrBadPath},
		{"symbolic link in place of the root", layer(t, ". -> /tmp"), RewriteOptions{}, ErrBadPath},
		{"second header has a wrong checksum", flip, RewriteOptions{}, ErrMalformed},
		{"wrong checksum of gzip", gz, RewriteOptions{}, nil},
		{"no end marker", noEnd, RewriteOptions{}, ErrTruncated},
		{"cut within an entry", data[:512], RewriteOptions{AllowNoEnd: true}, ErrTruncated},
		{"type flag Z", patch(data, 0, atType, "Z"), RewriteOptions{}, ErrMalformed},
		{"size of 2^62", patch(data, 0, atSize, "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00"), RewriteOptions{}, ErrTruncated},
		{"uid of 33 bits", patch(data, 0, atUID, "\x80\x00\x00\x01\x00\x00\x00\x00"), keep, nil},
		{"sparse file of 1 EiB", sparseTar(1 << 60), RewriteOptions{}, ErrMalformed},
		{"global path", global.Bytes(), RewriteOptions{}, ErrMalformed},
		{"nothing selected", data, RewriteOptions{Only: matcher(t, "c")}, ErrNothing},
		{"prefix that climbs", data, RewriteOptions{Prefix: ".."}, ErrBadPath},
		{"sort with a path twice", layer(t, "a 1", "a 2"), RewriteOptions{Sort: true}, ErrDuplicate},
		{"sort with a link to nothing", layer(t, "a = b"), RewriteOptions{Sort: true}, ErrMalformed},
		{"sort with links in a circle", layer(t, "a = b", "b = a"), RewriteOptions{Sort: true}, ErrMalformed},
		{"sort with a link to a directory", layer(t, "d/", "a = d"), RewriteOptions{Sort: true}, ErrMalformed},
		{"link before its target, which is left out", layer(t, "b = a", "a 1"), RewriteOptions{Only: matcher(t, "b")}, ErrMalformed},
		{"link to a directory that is left out", layer(t, "d/", "b = d"), RewriteOptions{Only: matcher(t, "b")}, ErrMalformed},
		{"links in a circle", layer(t, "a = b", "b = a", "c = a"), RewriteOptions{Only: matcher(t, "c")}, ErrMalformed},
		{"link to nothing that is left out", layer(t, "c = a"), RewriteOptions{Only: matcher(t, "c")}, ErrMalformed},
	}
	for _, tt := range tests {
		_, err := rewrite(t, bytes.NewReader(tt.data), tt.opts)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	out, err := rewrite(t, bytes.NewReader(noEnd), RewriteOptions{AllowNoEnd: true})
	if err != nil {
		t.Errorf("no end marker allowed: %v", err)
	}
	wantList(t, "no end marker allowed", out, "a 1", "b 2")
	out, err = rewrite(t, bytes.NewReader(sparseTar(5000)), RewriteOptions{})
	if err != nil {
		t.Errorf("small sparse file: %v", err)
	}
	wantList(t, "small sparse file", out, "sparse "+strings.Repeat("\x00", 5000))
}

// TestRewriteCuts cuts a tar at every edge: the output never looks whole.
func TestRewriteCuts(t *testing.T) {
	data, _ := sampleTar(t)
	for cut := 0; cut < len(data); cut += 256 {
		if _, err := rewrite(t, bytes.NewReader(data[:cut]), keep); err == nil {
			t.Errorf("cut at %d of %d: no error", cut, len(data))
		}
	}
	for k := 1; ; k++ {
		w := &faultWriter{at: k}
		err := Rewrite(context.Background(), w, bytes.NewReader(data), keep)
		if err == nil {
			break
		}
		if !errors.Is(err, errFault) {
			t.Fatalf("call %d broken: %v", k, err)
		}
	}
	_, err := rewrite(t, io.MultiReader(bytes.NewReader(data[:1000]), iotest.ErrReader(errFault)), keep)
	if !errors.Is(err, errFault) {
		t.Errorf("broken reader: %v", err)
	}
}

// FuzzRewrite holds the law that what comes out is whole and goes through a second pass
// unchanged, and that what Checker refuses is refused.
func FuzzRewrite(f *testing.F) {
	data, _ := sampleTar(f)
	f.Add(data, false)
	f.Add(sparseTar(5000), true)
	for _, data := range goSamples(f) {
		f.Add(data, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, sort bool) {
		opts := keep
		opts.Sort, opts.MaxSparse = sort, 1<<20
		var buf bytes.Buffer
		if err := Rewrite(context.Background(), &buf, bytes.NewReader(data), opts); err != nil {
			return
		}
		if err := check(&Checker{}, buf.Bytes(), 512); err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if err := Rewrite(context.Background(), &again, bytes.NewReader(buf.Bytes()), opts); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf.Bytes(), again.Bytes()) {
			t.Error("a second pass changes it")
		}
		if Sniff(data) == FormatTar {
			if err := check(&Checker{}, data, 512); err != nil {
				t.Errorf("rewritten, although %v", err)
			}
		}
	})
}

// endless gives one entry of the given size, made of zeros, and the end marker.
func endless(size int64) io.Reader {
	head, err := appendHeader(nil, &tar.Header{Name: "f", Size: size})
	if err != nil {
		panic(err)
	}
	return io.MultiReader(bytes.NewReader(head), io.LimitReader(zeroReader{}, size+int64(padding(size))+2*blockSize))
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func BenchmarkRewrite(b *testing.B) {
	for _, size := range []int64{1 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if err := Rewrite(context.Background(), io.Discard, endless(size), keep); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestRewriteMany(t *testing.T) {
	n := reps(120_000, 12_000)
	r, w := io.Pipe()
	go func() {
		tw := NewWriter(w)
		for i := range n {
			tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/%d", i*7919%n)})
		}
		w.CloseWithError(tw.Close())
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := &Checker{}
	opts := RewriteOptions{Sort: true, TempDir: t.TempDir()}
	if err := Rewrite(context.Background(), c, r, opts); err != nil || c.Close() != nil || c.Entries() != int64(n) {
		t.Errorf("%v, %v, %d entries", err, c.Close(), c.Entries())
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 128<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
