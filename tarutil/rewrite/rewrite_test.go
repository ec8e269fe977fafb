package rewrite

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

	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
)

func matcher(t testing.TB, patterns string) *tarutil.Matcher {
	t.Helper()
	if patterns == "" {
		return nil
	}
	m, err := tarutil.NewMatcher(strings.Fields(patterns))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// keep copies owners and times.
var keep = Options{Owner: tarutil.Owner{Keep: true}, MTime: tarutil.KeepMTime()}

func rewrite(t testing.TB, r io.Reader, opts Options) ([]byte, error) {
	t.Helper()
	opts.TempDir = t.TempDir()
	var buf bytes.Buffer
	err := Tar(context.Background(), &buf, r, opts)
	if whole := tartest.Check(&tarutil.Checker{}, buf.Bytes(), 4096); (whole == nil) != (err == nil) {
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
		opts  Options
		only  string
		not   string
		want  []string
		pipes bool // works from a pipe, too
	}{
		{"one binary into usr/local/bin", release, Options{Prefix: "usr/local/bin", StripComponents: 2}, "*/bin/tool", "",
			[]string{"usr/local/bin/tool ELF"}, true},
		{"with the parents", release, Options{Prefix: "usr/local/bin", StripComponents: 2, Parents: true}, "*/bin/tool", "",
			[]string{"usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/tool ELF"}, true},
		{"whole tarball under usr/local", release, Options{Prefix: "/usr/local/"}, "", "",
			[]string{"usr/local/tool-1.0/", "usr/local/tool-1.0/bin/", "usr/local/tool-1.0/bin/tool ELF",
				"usr/local/tool-1.0/bin/t = usr/local/tool-1.0/bin/tool", "usr/local/tool-1.0/README text", "usr/local/tool-1.0/latest -> bin/tool"}, true},
		{"unchanged", release, Options{}, "", "",
			[]string{"./", "tool-1.0/", "tool-1.0/bin/", "tool-1.0/bin/tool ELF", "tool-1.0/bin/t = tool-1.0/bin/tool",
				"tool-1.0/README text", "tool-1.0/latest -> bin/tool"}, true},
		{"strip all", release, Options{StripComponents: 9}, "", "", nil, true},
		{"parents of what is selected", release, Options{}, "**/tool", "", []string{"tool-1.0/", "tool-1.0/bin/", "tool-1.0/bin/tool ELF"}, true},
		{"parents that do not stand in front", []string{"a/", "b/", "b/x 1", "a/y 2", "a/z 3"}, Options{}, "a/y a/z", "", []string{"a/", "a/y 2", "a/z 3"}, true},
		{"no directory of another branch", []string{"a/", "a/b/", "c/", "c/d x"}, Options{}, "c/d", "", []string{"c/", "c/d x"}, true},
		{"exclude", release, Options{StripComponents: 1}, "", "*/bin !*/bin/tool */latest",
			[]string{"bin/", "bin/tool ELF", "README text"}, true},
		{"link without its target", release, Options{StripComponents: 2}, "*/bin/t", "", []string{"t ELF"}, false},
		{"links without their target", []string{"a x", "b = a", "c = b", "d = c", "e y"}, Options{Prefix: "p"}, "c d", "",
			[]string{"p/c x", "p/d = p/c"}, false},
		{"two links to one file", []string{"a x", "b = a", "c = a"}, Options{}, "b c", "", []string{"b x", "c = b"}, false},
		{"link to a file whose directory is left out", []string{"d/", "d/e/", "d/e/a x", "l = d/e/a"}, Options{}, "", "d", []string{"l x"}, false},
		{"link in the directory of a file below one that is left out", []string{"d/", "d/e/", "d/e/a x", "d/l = d/e/a"}, Options{}, "", "d/* !d/l", []string{"d/", "d/l x"}, false},
		{"link in another directory", []string{"d/", "d/a x", "e/", "e/l = d/a"}, Options{}, "e/l", "", []string{"e/l x", "e/"}, false},
		{"link through one that is left out", []string{"a x", "b = a", "c = b"}, Options{}, "", "b", []string{"a x", "c = a"}, false},
		{"absolute names and targets", []string{"/a x", "/b = /a"}, Options{}, "", "", []string{"a x", "b = a"}, true},
		{"whiteouts", []string{"d/.wh.x", "d/.wh..wh..opq"}, Options{Prefix: "p"}, "", "", []string{"p/d/.wh.x", "p/d/.wh..wh..opq"}, true},
		{"a whiteout that is left out", []string{"d/", "d/.wh.x", "d/f 1"}, Options{}, "", "d/.wh.x", []string{"d/", "d/f 1"}, true},
		{"whiteouts are kept", []string{"d/", "d/.wh.x", "d/f 1"}, Options{KeepWhiteouts: true}, "", "d/.wh.x d/f", []string{"d/", "d/.wh.x"}, true},
		{"whiteouts of a directory that is left out", []string{"d/", "d/.wh.x", "d/f 1"}, Options{KeepWhiteouts: true}, "", "d", nil, true},
		{"whiteouts of a directory that is left out in part", []string{"d/", "d/.wh.x", "d/f 1", "d/g 2"}, Options{KeepWhiteouts: true}, "", "d !d/f",
			[]string{"d/", "d/.wh.x", "d/f 1"}, true},
		{"sort", []string{"b/", "b/z 1", "b/.wh.y", "b/a = b/z", "a.x 2", "b/.wh..wh..opq", "a/", "a/c 3", "a/"}, Options{Sort: true}, "", "",
			[]string{"a/", "a/c 3", "a.x 2", "b/", "b/.wh..wh..opq", "b/.wh.y", "b/a 1", "b/z = b/a"}, true},
		{"sort the root", []string{"b 1", "./", "a 2"}, Options{Sort: true}, "", "", []string{"./", "a 2", "b 1"}, true},
		{"the same path twice, sorted", []string{"a 1", "b 3", "a 2"}, Options{Sort: true}, "", "", []string{"a 2", "b 3"}, true},
		{"a name that climbs inside", []string{"a/../b 1", "c = a/../b"}, Options{}, "", "", []string{"b 1", "c = b"}, true},
		{"empty", nil, Options{Prefix: "p"}, "", "", nil, true},
	}
	for _, tt := range tests {
		tt.opts.Only, tt.opts.Exclude = matcher(t, tt.only), matcher(t, tt.not)
		data := tartest.Layer(t, tt.in...)
		for _, in := range [][]byte{data, tartest.Gzipped(t, data)} {
			got, err := rewrite(t, bytes.NewReader(in), tt.opts)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			tartest.WantList(t, tt.name, got, tt.want...)
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

// Only directories that still wait count against the budget: a tar in tree order may have any number of them.
func TestHeldDirectories(t *testing.T) {
	rw := &rewriter{opts: &Options{}, tw: tarutil.NewWriter(io.Discard), rules: tarutil.NewLayerRules(),
		held: map[string]*tar.Header{}, budget: tarutil.NewBudget(3 * heldMemory)}
	dir := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
	for i := range 100 {
		name := fmt.Sprint(i)
		for _, name := range []string{name, name, name + "/d"} {
			if err := rw.hold(dir(name)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := rw.writeHeld(name+"/d/file", nil); err != nil {
			t.Fatal(err)
		}
	}
	if used := rw.budget.Used(); used != 0 {
		t.Errorf("%d bytes are taken for nothing", used)
	}

	for i := range 4 {
		if err := rw.hold(dir(fmt.Sprint("w", i))); errors.Is(err, tarutil.ErrTooMany) != (i > 1) {
			t.Errorf("waiting directory %d: %v", i, err)
		}
	}
}

// The directories that are made for a prefix belong to whom everything belongs.
func TestRewriteParentsOwner(t *testing.T) {
	opts := Options{Prefix: "p/q", Parents: true, Owner: tarutil.Owner{UID: 1, GID: 2}}
	out, err := rewrite(t, bytes.NewReader(tartest.Layer(t, "a 1")), opts)
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(bytes.NewReader(out))
	for _, name := range []string{"p/", "p/q/", "p/q/a"} {
		hdr, err := tr.Next()
		if err != nil || hdr.Name != name || hdr.Uid != 1 || hdr.Gid != 2 {
			t.Errorf("%s: got %+v, %v", name, hdr, err)
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
		opts Options
		want tar.Header
	}{
		{keep, tar.Header{Mode: 0o4711, Uid: 5, Gid: 6, Uname: "u", Gname: "g", ModTime: time.Unix(-2, 5e8)}},
		{Options{Mode: tarutil.ModeNormalize, MTime: tarutil.ClampMTime(time.Unix(100, 0))}, tar.Header{Mode: 0o755, ModTime: time.Unix(-2, 0)}},
		{Options{Owner: tarutil.Owner{UID: 1, GID: 2}}, tar.Header{Mode: 0o4711, Uid: 1, Gid: 2, ModTime: time.Unix(0, 0)}},
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
		if got := tartest.Xattrs(hdr); !maps.Equal(got, map[string]string{"SCHILY.xattr.user.a": "1"}) {
			t.Errorf("xattrs %q", got)
		}
		if _, err := tr.Next(); err != io.EOF {
			t.Errorf("more than one entry: %v", err)
		}
	}
}

// sparseTar is a tar with one sparse file that claims the given size, and has no data.
func sparseTar(size uint64) []byte {
	b := make([]byte, 3*512)
	copy(b, "sparse")
	copy(b[tartest.AtMode:], "0000644\x00")
	copy(b[tartest.AtSize:], "00000000000\x00")
	b[tartest.AtType] = tar.TypeGNUSparse
	copy(b[tartest.AtMagic:], "ustar  \x00")
	copy(b[386:], fmt.Sprintf("%011o\x00%011o\x00", 0, 0)) // one fragment of no bytes
	b[483] = 0x80
	binary.BigEndian.PutUint64(b[487:], size)
	return tartest.Patch(b, 0, 0, "sparse")
}

func TestRewriteRefuses(t *testing.T) {
	data := tartest.Layer(t, "a 1", "b 2")
	flip := bytes.Clone(data)
	flip[1024+3] ^= 1
	gz := tartest.Gzipped(t, data)
	gz[len(gz)-5] ^= 1
	var global bytes.Buffer
	tw := tar.NewWriter(&global)
	tw.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "x"}})
	tw.Close()
	noEnd := data[:len(data)-1024]
	tests := []struct {
		name string
		data []byte
		opts Options
		want error // nil: any
	}{
		{"empty", nil, Options{}, tarutil.ErrEmpty},
		{"random text", bytes.Repeat([]byte("text "), 1000), Options{}, tarutil.ErrMalformed},
		{"climbing name", tartest.Layer(t, "../../tmp/x 1"), Options{}, tarutil.ErrBadPath},
		{"climbing from inside", tartest.Layer(t, "a/../../b 1"), Options{}, tarutil.ErrBadPath},
		{"the same path twice", tartest.Layer(t, "a 1", "a 2"), Options{}, tarutil.ErrDuplicate},
		{"a directory and a file of one path, to be sorted", tartest.Layer(t, "a 1", "a/"), Options{Sort: true}, tarutil.ErrDuplicate},
		{"two files of one path and a link, to be sorted", tartest.Layer(t, "a 1", "b = a", "a 2"), Options{Sort: true}, tarutil.ErrDuplicate},
		{"hard link that climbs", tartest.Layer(t, "a 1", "b = ../a"), Options{}, tarutil.ErrBadPath},
		{"opaque whiteout at the root", tartest.Layer(t, ".wh..wh..opq"), Options{}, tarutil.ErrOpaqueRoot},
		{"opaque whiteout that comes to the root", tartest.Layer(t, "d/.wh..wh..opq"), Options{StripComponents: 1}, tarutil.ErrOpaqueRoot},
		{"hard link to the root", tartest.Layer(t, "b = ."), Options{}, tarutil.ErrBadPath},
		{"symbolic link in place of the root", tartest.Layer(t, ". -> /tmp"), Options{}, tarutil.ErrBadPath},
		{"second header has a wrong checksum", flip, Options{}, tarutil.ErrMalformed},
		{"wrong checksum of gzip", gz, Options{}, nil},
		{"no end marker", noEnd, Options{}, tarutil.ErrTruncated},
		{"no end marker, read twice", noEnd, Options{Exclude: matcher(t, "a")}, tarutil.ErrTruncated},
		{"cut within an entry", data[:512], Options{AllowNoEnd: true}, tarutil.ErrTruncated},
		{"type flag Z", tartest.Patch(data, 0, tartest.AtType, "Z"), Options{}, tarutil.ErrMalformed},
		{"size of 2^62", tartest.Patch(data, 0, tartest.AtSize, "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00"), Options{}, tarutil.ErrTruncated},
		{"uid of 33 bits", tartest.Patch(data, 0, tartest.AtUID, "\x80\x00\x00\x01\x00\x00\x00\x00"), keep, nil},
		{"sparse file of 1 EiB", sparseTar(1 << 60), Options{}, tarutil.ErrMalformed},
		{"global path", global.Bytes(), Options{}, tarutil.ErrMalformed},
		{"nothing selected", data, Options{Only: matcher(t, "c")}, tarutil.ErrNothing},
		{"prefix that climbs", data, Options{Prefix: ".."}, tarutil.ErrBadPath},
		{"prefix in a whiteout", data, Options{Prefix: "a/.wh.b"}, tarutil.ErrWhiteoutName},
		{"a file below a file, to be sorted", tartest.Layer(t, "a 1", "a/b 1"), Options{Sort: true}, tarutil.ErrMalformed},
		{"sort with a link to nothing", tartest.Layer(t, "a = b"), Options{Sort: true}, tarutil.ErrMalformed},
		{"sort with links in a circle", tartest.Layer(t, "a = b", "b = a"), Options{Sort: true}, tarutil.ErrMalformed},
		{"sort with a link to a directory", tartest.Layer(t, "d/", "a = d"), Options{Sort: true}, tarutil.ErrMalformed},
		{"link before its target, which is left out", tartest.Layer(t, "b = a", "a 1"), Options{Only: matcher(t, "b")}, tarutil.ErrMalformed},
		{"link to a directory that is left out", tartest.Layer(t, "d/", "b = d"), Options{Only: matcher(t, "b")}, tarutil.ErrMalformed},
		{"links in a circle", tartest.Layer(t, "a = b", "b = a", "c = a"), Options{Only: matcher(t, "c")}, tarutil.ErrMalformed},
		{"link to nothing that is left out", tartest.Layer(t, "c = a"), Options{Only: matcher(t, "c")}, tarutil.ErrMalformed},
	}
	for _, tt := range tests {
		_, err := rewrite(t, bytes.NewReader(tt.data), tt.opts)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}

	// Where the file is read twice, what is wrong with its begin is said by the first time.
	gz = tartest.Gzipped(t, data)
	gz[2]++
	if _, err := rewrite(t, bytes.NewReader(gz), Options{Exclude: matcher(t, "a")}); err == nil || errors.Is(err, tarutil.ErrEmpty) {
		t.Errorf("gzip with another method, read twice: %v", err)
	}

	out, err := rewrite(t, bytes.NewReader(noEnd), Options{AllowNoEnd: true})
	if err != nil {
		t.Errorf("no end marker allowed: %v", err)
	}
	tartest.WantList(t, "no end marker allowed", out, "a 1", "b 2")
	out, err = rewrite(t, bytes.NewReader(tartest.Patch(data, 0, tartest.AtType, "7")), Options{})
	if err != nil {
		t.Errorf("contiguous file: %v", err)
	}
	tartest.WantList(t, "contiguous file", out, "a 1", "b 2")
	out, err = rewrite(t, bytes.NewReader(sparseTar(5000)), Options{})
	if err != nil {
		t.Errorf("small sparse file: %v", err)
	}
	tartest.WantList(t, "small sparse file", out, "sparse "+strings.Repeat("\x00", 5000))
}

// A badSeeker tells where it is, and cannot go there again.
type badSeeker struct{ *bytes.Reader }

func (badSeeker) Seek(_ int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		return 0, nil
	}
	return 0, tartest.ErrFault
}

func TestRewriteSeekFails(t *testing.T) {
	in := badSeeker{bytes.NewReader(tartest.Layer(t, "a 1", "b 2"))}
	if _, err := rewrite(t, in, Options{Exclude: matcher(t, "a")}); !errors.Is(err, tartest.ErrFault) {
		t.Errorf("a file that cannot be read again: %v, want %v", err, tartest.ErrFault)
	}
}

// TestRewriteCuts cuts a tar at every edge: the output never looks whole.
func TestRewriteCuts(t *testing.T) {
	data := tartest.Tar(t, tartest.Sample()...)
	for cut := 0; cut < len(data); cut += 256 {
		if _, err := rewrite(t, bytes.NewReader(data[:cut]), keep); err == nil {
			t.Errorf("cut at %d of %d: no error", cut, len(data))
		}
	}
	for k := 1; ; k++ {
		w := &tartest.FaultWriter{At: k}
		err := Tar(context.Background(), w, bytes.NewReader(data), keep)
		if err == nil {
			break
		}
		if !errors.Is(err, tartest.ErrFault) {
			t.Fatalf("call %d broken: %v", k, err)
		}
	}
	_, err := rewrite(t, io.MultiReader(bytes.NewReader(data[:1000]), iotest.ErrReader(tartest.ErrFault)), keep)
	if !errors.Is(err, tartest.ErrFault) {
		t.Errorf("broken reader: %v", err)
	}
}

// FuzzRewrite holds the law that what comes out is whole and goes through a second pass
// unchanged, and that what Checker refuses is refused.
func FuzzRewrite(f *testing.F) {
	data := tartest.Tar(f, tartest.Sample()...)
	f.Add(data, false)
	f.Add(sparseTar(5000), true)
	for _, data := range tartest.GoSamples(f) {
		f.Add(data, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, sort bool) {
		opts := keep
		opts.Sort, opts.MaxSparse = sort, 1<<20
		var buf bytes.Buffer
		if err := Tar(context.Background(), &buf, bytes.NewReader(data), opts); err != nil {
			return
		}
		if err := tartest.Check(&tarutil.Checker{}, buf.Bytes(), 512); err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if err := Tar(context.Background(), &again, bytes.NewReader(buf.Bytes()), opts); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf.Bytes(), again.Bytes()) {
			t.Error("a second pass changes it")
		}
		if tarutil.Sniff(data) == tarutil.FormatTar {
			if err := tartest.Check(&tarutil.Checker{}, data, 512); err != nil {
				t.Errorf("rewritten, although %v", err)
			}
		}
	})
}

// endless gives one entry of the given size, made of zeros, and the end marker.
func endless(size int64) io.Reader {
	head, err := tarutil.AppendHeader(nil, &tar.Header{Name: "f", Size: size})
	if err != nil {
		panic(err)
	}
	return io.MultiReader(bytes.NewReader(head), io.LimitReader(zeroReader{}, size+-size&511+2*512))
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func BenchmarkRewrite(b *testing.B) {
	for _, size := range []int64{1 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if err := Tar(context.Background(), io.Discard, endless(size), keep); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestRewriteMany(t *testing.T) {
	n := tartest.Reps(120_000, 12_000)
	r, w := io.Pipe()
	go func() {
		tw := tarutil.NewWriter(w)
		for i := range n {
			tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/%d", i*7919%n)})
		}
		w.CloseWithError(tw.Close())
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := &tarutil.Checker{}
	opts := Options{Sort: true, TempDir: t.TempDir()}
	if err := Tar(context.Background(), c, r, opts); err != nil || c.Close() != nil || c.Entries() != int64(n) {
		t.Errorf("%v, %v, %d entries", err, c.Close(), c.Entries())
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 128<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// TestDeepPath refuses a path that no system can hold where a tree is compared, too: each of
// its directories has a name of its own, and all of them together are the square of it.
func TestDeepPath(t *testing.T) {
	data := tartest.Layer(t, strings.Repeat("d/", 50_000)+"f x")
	if err := Tar(t.Context(), io.Discard, bytes.NewReader(data), Options{}); !errors.Is(err, tarutil.ErrBadPath) {
		t.Errorf("Rewrite: %v, want %v", err, tarutil.ErrBadPath)
	}
}
