package tarutil

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestExtractOpensThroughRoot reads the source of what extracts: files are made, opened and
// changed by os.Root, or by a call that takes the handle of a file or a directory.
func TestExtractOpensThroughRoot(t *testing.T) {
	allowed := map[string][]string{
		"os": {"Root", "File", "LinkError", "PathSeparator", "O_WRONLY", "O_CREATE", "O_EXCL"},
		"syscall": {
			"Fchown", "Fchownat", "Fchmod", "Mknodat", "Close", "Syscall6", "SYS_UTIMENSAT", "SYS_FSETXATTR",
			"Chmod", // of /proc/self/fd/N only
			"BytePtrFromString", "NsecToTimespec", "Timespec", "O_CLOEXEC", "O_NOFOLLOW", "S_IFIFO", "S_IFCHR", "S_IFBLK",
			"EINVAL", "EOVERFLOW", "ENOTSUP", "EPERM", "EACCES", "ERANGE", "E2BIG",
		},
	}
	files, err := filepath.Glob("extract*.go")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := gotoken.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if names, known := allowed[fmt.Sprint(pkg)]; ok && known && !slices.Contains(names, sel.Sel.Name) {
				t.Errorf("%s: %s.%s goes round os.Root", fset.Position(n.Pos()), pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

// manyFiles is a layer of n files in a few directories.
func manyFiles(n int) []byte {
	var buf bytes.Buffer
	tw := NewWriter(&buf)
	for i := range n {
		if err := tw.WriteHeader(&tar.Header{Typeflag: typeReg, Name: fmt.Sprintf("d%d/file%d", i%7, i), Mode: 0o644}); err != nil {
			panic(err)
		}
	}
	tw.Close()
	return buf.Bytes()
}

// TestManyFiles applies layers of 120,000 files: the time is linear, and what is kept of a
// file is small.
func TestManyFiles(t *testing.T) {
	n := reps(120_000, 12_000)
	layer := manyFiles(n)
	deleted := layerTar(t, entries(".wh.d3", "d4/.wh..wh..opq", "d5/new x"))
	layers := []Layer{bytesLayer("0", layer), bytesLayer("1", layer), bytesLayer("2", deleted)}
	start := time.Now()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, err := Apply(t.Context(), layers, ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err := s.WriteTar(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	perFile := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / int64(n)
	t.Logf("%d files, %d bytes a file, %v", s.Files(), perFile, time.Since(start))
	if perFile > 500 || time.Since(start) > 30*time.Second {
		t.Errorf("%d bytes a file, %v", perFile, time.Since(start))
	}
	runtime.KeepAlive(s)
}

// TestHostileWork has layers that make a careless reader work for each entry what is there
// already.
func TestHostileWork(t *testing.T) {
	n := reps(5_000, 1_000)
	var opaque, links, twice, alternate, hard []string
	for i := range n {
		opaque = append(opaque, fmt.Sprintf("d/f%d x", i), "d/.wh..wh..opq", ".wh.d")
		twice = append(twice, "a x")
		alternate = append(alternate, "a/b/c x", ".wh.zzz")
		hard = append(hard, fmt.Sprintf("h%d = a", i))
	}
	deep := strings.Repeat("d/", 1000)
	links = append(links, deep+"f x", "l0 -> "+deep)
	for i := range 30 {
		links = append(links, fmt.Sprintf("l%d -> l%d/../%s", i+1, i, strings.Repeat("./", 1000)))
	}
	for i := range n * 2 / 5 {
		links = append(links, fmt.Sprintf("l3/f%d x", i))
	}
	for name, lines := range map[string][]string{"opaque": opaque, "links": links, "twice": twice, "alternate": alternate, "hard": append([]string{"a x"}, hard...)} {
		start := time.Now()
		_, err := Apply(t.Context(), layersOf(t, lines, []string{".wh.a"}, lines), ApplyOptions{})
		t.Logf("%s: %v, %v", name, time.Since(start), err)
		if time.Since(start) > 10*time.Second {
			t.Errorf("%s: %v", name, time.Since(start))
		}
	}
}

// TestSparseTogether refuses sparse files that are large only together.
func TestSparseTogether(t *testing.T) {
	sparse := func(name string) []byte {
		var buf bytes.Buffer
		body := "1\n0\n0\n" + strings.Repeat("\x00", blockSize-6)
		pax := []byte{}
		for _, kv := range [][2]string{{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.name", name}, {"GNU.sparse.realsize", "5000000000"}} {
			pax = appendRecord(pax, kv[0], kv[1])
		}
		x := encoder{}
		copy(x.block[atName:], paxName)
		for _, at := range []int{atMode, atUID, atGID, atDevmajor, atDevminor} {
			x.number(at, 7, 0, "")
		}
		x.number(atSize, 11, int64(len(pax)), "")
		x.number(atMTime, 11, 0, "")
		x.block[atType] = tar.TypeXHeader
		x.seal()
		buf.Write(x.block[:])
		buf.Write(pax)
		buf.Write(zeros[:padding(int64(len(pax)))])
		head, err := appendHeader(nil, &tar.Header{Typeflag: typeReg, Name: name, Size: int64(len(body))})
		if err != nil {
			t.Fatal(err)
		}
		buf.Write(head)
		buf.WriteString(body)
		return buf.Bytes()
	}
	one := append(sparse("a"), zeros[:]...)
	if s, err := Apply(t.Context(), []Layer{bytesLayer("0", one)}, ApplyOptions{}); err != nil || s.Files() != 1 {
		t.Errorf("one sparse file of 5 GB: %v", err)
	}
	two := append(append(sparse("a"), sparse("b")...), zeros[:]...)
	if _, err := Apply(t.Context(), []Layer{bytesLayer("0", two)}, ApplyOptions{}); err == nil {
		t.Error("two sparse files of 5 GB: no error")
	}
	if err := Rewrite(t.Context(), io.Discard, bytes.NewReader(two), RewriteOptions{MaxSparse: 1 << 20}); !errors.Is(err, ErrMalformed) {
		t.Errorf("Rewrite: %v, want %v", err, ErrMalformed)
	}
}

// FuzzApply checks that a stack that is accepted is the same when it is flattened and read
// again.
func FuzzApply(f *testing.F) {
	for seed := range uint64(20) {
		for _, list := range randomStack(seed) {
			f.Add(layerTar(f, list), layerTar(f, entries("a x", "b/", "b/c y", "d -> b")))
		}
	}
	f.Add(layerTar(f, entries("a = b", "b x", "..wh. x", ".wh..wh.a x")), []byte{})
	f.Fuzz(func(t *testing.T, upper, lower []byte) {
		layers := []Layer{bytesLayer("0", lower), bytesLayer("1", upper)}
		if len(lower) == 0 {
			layers = layers[1:]
		}
		s, err := Apply(t.Context(), layers, ApplyOptions{MaxEntries: 10_000, MaxSparse: 1 << 20})
		if err != nil {
			return
		}
		var buf bytes.Buffer
		if err := s.WriteTar(t.Context(), &buf); err != nil {
			return // what our Writer does not write, as device numbers over 2^21
		}
		again, err := Apply(t.Context(), []Layer{bytesLayer("flat", buf.Bytes())}, ApplyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := describeTree(t, again), describeTree(t, s); !slices.Equal(got, want) {
			t.Fatalf("flattened:\n%s\nwas\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// FuzzExtract checks that nothing outside of the target is touched.
func FuzzExtract(f *testing.F) {
	for seed := range uint64(20) {
		for _, list := range randomStack(seed) {
			f.Add(layerTar(f, list))
		}
	}
	f.Add(layerTar(f, entries("d -> ../canary", "d/victim x", "v -> ../canary/victim", "v x", "h = v", "d/.wh.victim")))
	f.Fuzz(func(t *testing.T, layer []byte) {
		s, err := Apply(t.Context(), []Layer{bytesLayer("0", layer)}, ApplyOptions{MaxEntries: 1000, MaxSparse: 1 << 20})
		if err != nil {
			return
		}
		dir, check := canary(t)
		defer check()
		root, err := os.OpenRoot(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		s.Extract(t.Context(), root, ExtractOptions{})
	})
}

// bigXattrs is an entry with n extended attributes of size bytes.
func bigXattrs(t testing.TB, flag byte, name string, n, size int) []byte {
	t.Helper()
	hdr := &tar.Header{Typeflag: flag, Name: name, Mode: 0o755, PAXRecords: map[string]string{}}
	value := strings.Repeat("v", size)
	for i := range n {
		hdr.PAXRecords[fmt.Sprintf("%suser.a%d", xattrPrefix, i)] = value
	}
	head, err := appendHeader(nil, hdr)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// xattrTar has entries f0, f1 ... with 900 KiB of extended attributes each. They are the same ones,
// which are held in memory once.
func xattrTar(t testing.TB, flag byte, from, to int) io.Reader {
	t.Helper()
	attrs := bigXattrs(t, flag, "f", 15, 60<<10)
	attrs = attrs[:len(attrs)-blockSize] // the header itself is behind them
	var parts []io.Reader
	for i := from; i < to; i++ {
		head, err := appendHeader(nil, &tar.Header{Typeflag: flag, Name: fmt.Sprintf("f%d", i), Mode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, bytes.NewReader(attrs), bytes.NewReader(head))
	}
	return io.MultiReader(append(parts, bytes.NewReader(zeros[:2*blockSize]))...)
}

// TestXattrsTogether refuses extended attributes that no system can hold, and those that are
// small one by one and fill the memory together: of one layer, or over many.
func TestXattrsTogether(t *testing.T) {
	layer := func(flag byte, from, to int) Layer {
		return Layer{Name: "l", Open: func() (io.ReadCloser, error) { return io.NopCloser(xattrTar(t, flag, from, to)), nil }}
	}
	one := append(bigXattrs(t, typeReg, "a", 1, maxXattrValue+1), zeros[:2*blockSize]...)
	for name, stack := range map[string][]Layer{
		"one value of 64 KiB and a byte": {bytesLayer("l", one)},
		"directories of one layer":       {layer(typeDir, 0, 40)},
		"directories of two layers":      {layer(typeDir, 0, 20), layer(typeDir, 20, 40)},
	} {
		if _, err := Apply(t.Context(), stack, ApplyOptions{}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want %v", name, err, ErrMalformed)
		}
	}
	// Those of regular files are not kept, so what counts is one layer.
	files := []Layer{layer(typeReg, 0, 20), layer(typeReg, 20, 40)}
	if _, err := Apply(t.Context(), files, ApplyOptions{}); err != nil {
		t.Errorf("files of two layers: %v", err)
	}
	if err := Rewrite(t.Context(), io.Discard, xattrTar(t, typeReg, 0, 40), RewriteOptions{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("Rewrite: %v, want %v", err, ErrMalformed)
	}
}

// TestRecordsStayBehind looks at what a header keeps of a large extended header: nothing
// that lives in its memory.
func TestRecordsStayBehind(t *testing.T) {
	hdr := &tar.Header{Typeflag: typeDir, Name: "d", PAXRecords: map[string]string{
		xattrPrefix + "user.a": "v", "VENDOR.comment": strings.Repeat("c", 1000),
	}}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := errors.Join(tw.WriteHeader(hdr), tw.Close()); err != nil {
		t.Fatal(err)
	}
	in, err := newEntryReader(t.Context(), &buf, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := in.next()
	if err != nil || len(got.PAXRecords) != 1 || got.Xattrs != nil {
		t.Errorf("records %q, attributes %q, %v: want one record", got.PAXRecords, got.Xattrs, err)
	}
}

// TestDeepPath refuses a path that no system can hold where a tree is compared, too: each of
// its directories has a name of its own, and all of them together are the square of it.
func TestDeepPath(t *testing.T) {
	data := layerTar(t, entries(strings.Repeat("d/", 50_000)+"f x"))
	if err := Rewrite(t.Context(), io.Discard, bytes.NewReader(data), RewriteOptions{}); !errors.Is(err, ErrBadPath) {
		t.Errorf("Rewrite: %v, want %v", err, ErrBadPath)
	}
}
