package stack

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

	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
	"ocikit/tarutil/rewrite"
)

// TestExtractOpensThroughRoot reads the source of what extracts: files are made, opened and
// changed by os.Root, or by a call that takes the handle of a file or a directory.
func TestExtractOpensThroughRoot(t *testing.T) {
	allowed := map[string][]string{
		"os": {"Root", "File", "LinkError", "PathSeparator", "O_WRONLY", "O_CREATE", "O_EXCL",
			"Remove"}, // on Windows, of the stage, which has a name that nobody could know and must be empty
		"syscall": {
			"Fchown", "Fchownat", "Fchmod", "Write", "Seek", "Ftruncate", "Close", "Syscall6", "SYS_UTIMENSAT", "SYS_FSETXATTR",
			"Mkdirat", "Mknodat", "Openat", "Unlinkat", "Syscall", "SYS_SYMLINKAT", // of one name in a handle, which oneName checks
			"Chmod", // of /proc/self/fd/N only
			"BytePtrFromString", "NsecToTimespec", "Timespec", "O_CLOEXEC", "O_NOFOLLOW", "O_RDONLY", "O_DIRECTORY", "O_WRONLY", "O_CREAT", "O_EXCL", "S_IFIFO", "S_IFCHR", "S_IFBLK",
			"EINVAL", "ENOSYS", "EOVERFLOW", "ENOTSUP", "EPERM", "EACCES", "ERANGE", "E2BIG",
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
	tw := tarutil.NewWriter(&buf)
	for i := range n {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/file%d", i%7, i), Mode: 0o644}); err != nil {
			panic(err)
		}
	}
	tw.Close()
	return buf.Bytes()
}

// TestManyFiles applies layers of many files: what is kept of a file is small. What 120,000 take,
// scripts/real/extract shows.
func TestManyFiles(t *testing.T) {
	n := tartest.Reps(30_000, 12_000)
	layer := manyFiles(n)
	deleted := layerTar(t, entries(".wh.d3", "d4/.wh..wh..opq", "d5/new x"))
	layers := []Layer{bytesLayer("0", layer), bytesLayer("1", layer), bytesLayer("2", deleted)}
	start := time.Now()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, err := Apply(t.Context(), layers, Options{})
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
	if perFile > 500 {
		t.Errorf("%d bytes a file", perFile)
	}
	runtime.KeepAlive(s)
}

// TestHostileWork has layers that make a careless reader work for each entry what is there
// already.
func TestHostileWork(t *testing.T) {
	n := tartest.Reps(5_000, 1_000)
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
		_, err := Apply(t.Context(), layersOf(t, lines, []string{".wh.a"}, lines), Options{})
		t.Logf("%s: %v, %v", name, time.Since(start), err)
	}
}

// TestSparseTogether refuses sparse files that are large only together.
func TestSparseTogether(t *testing.T) {
	record := func(key, value string) string { // all of them are short: the length has two digits
		return fmt.Sprintf("%d %s=%s\n", len(key)+len(value)+len("nn =\n"), key, value)
	}
	sparse := func(name string) []byte {
		body := "1\n0\n0\n" + strings.Repeat("\x00", 512-6)
		pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
			record("GNU.sparse.name", name) + record("GNU.sparse.realsize", "5000000000")
		extended, err := tarutil.AppendHeader(nil, &tar.Header{Typeflag: tar.TypeReg, Name: "pax", Size: int64(len(pax))})
		if err != nil {
			t.Fatal(err)
		}
		extended = tartest.Patch(extended, 0, tartest.AtType, string(tar.TypeXHeader))
		head, err := tarutil.AppendHeader(nil, &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(body))})
		if err != nil {
			t.Fatal(err)
		}
		return slices.Concat(extended, []byte(pax), make([]byte, 512-len(pax)), head, []byte(body))
	}
	one := append(sparse("a"), make([]byte, 1024)...)
	if s, err := Apply(t.Context(), []Layer{bytesLayer("0", one)}, Options{}); err != nil || s.Files() != 1 {
		t.Errorf("one sparse file of 5 GB: %v", err)
	}
	two := slices.Concat(sparse("a"), sparse("b"), make([]byte, 1024))
	if _, err := Apply(t.Context(), []Layer{bytesLayer("0", two)}, Options{}); err == nil {
		t.Error("two sparse files of 5 GB: no error")
	}
	if err := rewrite.Tar(t.Context(), io.Discard, bytes.NewReader(two), rewrite.Options{MaxSparse: 1 << 20}); !errors.Is(err, tarutil.ErrMalformed) {
		t.Errorf("Rewrite: %v, want %v", err, tarutil.ErrMalformed)
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
		s, err := Apply(t.Context(), layers, Options{MaxEntries: 10_000, MaxSparse: 1 << 20})
		if err != nil {
			return
		}
		var buf bytes.Buffer
		if err := s.WriteTar(t.Context(), &buf); err != nil {
			return // what our Writer does not write, as device numbers over 2^21
		}
		again, err := Apply(t.Context(), []Layer{bytesLayer("flat", buf.Bytes())}, Options{})
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
		dir, check := canary(t)
		defer check()
		root, err := os.OpenRoot(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		Extract(t.Context(), root, []Layer{bytesLayer("0", layer)}, Options{MaxEntries: 1000, MaxSparse: 1 << 20}, ExtractOptions{})
	})
}

// bigXattrs is an entry with n extended attributes of size bytes.
func bigXattrs(t testing.TB, flag byte, name string, n, size int) []byte {
	t.Helper()
	hdr := &tar.Header{Typeflag: flag, Name: name, Mode: 0o755, PAXRecords: map[string]string{}}
	value := strings.Repeat("v", size)
	for i := range n {
		hdr.PAXRecords[fmt.Sprintf("SCHILY.xattr.user.a%d", i)] = value
	}
	head, err := tarutil.AppendHeader(nil, hdr)
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
	attrs = attrs[:len(attrs)-512] // the header itself is behind them
	var parts []io.Reader
	for i := from; i < to; i++ {
		head, err := tarutil.AppendHeader(nil, &tar.Header{Typeflag: flag, Name: fmt.Sprintf("f%d", i), Mode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, bytes.NewReader(attrs), bytes.NewReader(head))
	}
	return io.MultiReader(append(parts, bytes.NewReader(make([]byte, 1024)))...)
}

// TestXattrsTogether refuses extended attributes that no system can hold, and those that are
// small one by one and fill the memory together: of one layer, or over many.
func TestXattrsTogether(t *testing.T) {
	layer := func(flag byte, from, to int) Layer {
		return Layer{Name: "l", Open: func() (io.ReadCloser, error) { return io.NopCloser(xattrTar(t, flag, from, to)), nil }}
	}
	one := append(bigXattrs(t, tar.TypeReg, "a", 1, 64<<10+1), make([]byte, 1024)...)
	for name, stack := range map[string][]Layer{
		"one value of 64 KiB and a byte": {bytesLayer("l", one)},
		"directories of one layer":       {layer(tar.TypeDir, 0, 40)},
		"directories of two layers":      {layer(tar.TypeDir, 0, 20), layer(tar.TypeDir, 20, 40)},
	} {
		if _, err := Apply(t.Context(), stack, Options{}); !errors.Is(err, tarutil.ErrMalformed) {
			t.Errorf("%s: %v, want %v", name, err, tarutil.ErrMalformed)
		}
	}
	// Those of regular files are not kept, so what counts is one layer.
	files := []Layer{layer(tar.TypeReg, 0, 20), layer(tar.TypeReg, 20, 40)}
	if _, err := Apply(t.Context(), files, Options{}); err != nil {
		t.Errorf("files of two layers: %v", err)
	}
	if err := rewrite.Tar(t.Context(), io.Discard, xattrTar(t, tar.TypeReg, 0, 40), rewrite.Options{}); !errors.Is(err, tarutil.ErrMalformed) {
		t.Errorf("Rewrite: %v, want %v", err, tarutil.ErrMalformed)
	}
}
