package split

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"ocikit/digest/digesttest"
)

func join(t *testing.T, dir string) ([]byte, error) {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var b bytes.Buffer
	err = s.Join(t.Context(), &b)
	return b.Bytes(), err
}

func split(t *testing.T, data []byte, size int64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "parts")
	if _, err := Split(t.Context(), iotest.HalfReader(bytes.NewReader(data)), dir, Options{Name: "x.tar", Size: size, Pipe: true}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPartsHaveTheirSize(t *testing.T) {
	for _, size := range []int{1, 999, 1000, 1001, 2000, 300_000} {
		data := digesttest.Noise(size, 1)
		dir := split(t, data, 1000)
		for i := range (size + 999) / 1000 {
			info, err := os.Stat(filepath.Join(dir, fmt.Sprintf("x.tar.%04d", i+1)))
			if want := min(1000, size-1000*i); err != nil || info.Size() != int64(want) {
				t.Fatalf("%d bytes: part %d: %v, %v, want %d bytes", size, i+1, info, err, want)
			}
		}
		if got, err := join(t, dir); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: join: %d bytes, %v", size, len(got), err)
		}
	}
}

// What is bad or missing is named, all of it, and what comes out of a damaged set is never
// whole.
func TestJoinNamesWhatIsWrong(t *testing.T) {
	data := digesttest.Noise(700_000, 1)
	file := func(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("x.tar.%04d", i)) }
	spoil := func(name string, f func([]byte) []byte) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	tests := []struct {
		name  string
		spoil func(dir string)
		want  []string
		err   error
	}{
		{"a bit", func(dir string) { spoil(file(dir, 2), flip) }, []string{"x.tar.0002"}, ErrBad},
		{"the first bit of the last", func(dir string) { spoil(file(dir, 7), func(b []byte) []byte { b[0] ^= 1; return b }) }, []string{"x.tar.0007"}, ErrBad},
		{"missing, and a bit", func(dir string) { os.Remove(file(dir, 1)); spoil(file(dir, 5), flip) }, []string{"x.tar.0001", "x.tar.0005"}, ErrBad},
		{"two bits", func(dir string) { spoil(file(dir, 3), flip); spoil(file(dir, 6), flip) }, []string{"x.tar.0003", "x.tar.0006"}, ErrBad},
		{"short", func(dir string) { spoil(file(dir, 4), func(b []byte) []byte { return b[1:] }) }, []string{"x.tar.0004"}, ErrBad},
		{"long", func(dir string) { spoil(file(dir, 4), func(b []byte) []byte { return append(b, 0) }) }, []string{"x.tar.0004"}, ErrBad},
		{"a directory", func(dir string) { os.Remove(file(dir, 4)); os.Mkdir(file(dir, 4), 0o755) }, []string{"x.tar.0004"}, ErrBad},
		{"swapped", func(dir string) {
			os.Rename(file(dir, 1), file(dir, 9))
			os.Rename(file(dir, 2), file(dir, 1))
			os.Rename(file(dir, 9), file(dir, 2))
		}, []string{"x.tar.0001", "x.tar.0002"}, ErrBad},
		{"one too many", func(dir string) { os.WriteFile(file(dir, 8), []byte("x"), 0o644) }, []string{"x.tar.0008"}, ErrStale},
		{"two indexes", func(dir string) {
			spoilCopy(t, filepath.Join(dir, "x.tar.parts.json"), filepath.Join(dir, "y.parts.json"))
		}, []string{"y.parts.json"}, ErrStale},
		{"no index", func(dir string) { os.Remove(filepath.Join(dir, "x.tar.parts.json")) }, []string{"parts.json"}, os.ErrNotExist},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := split(t, data, 100_000)
			test.spoil(dir)
			got, err := join(t, dir)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if len(got) >= len(data) {
				t.Errorf("%d bytes came out", len(got))
			}
			for i := range 9 {
				name := fmt.Sprintf("x.tar.%04d", i+1)
				if want := strings.Contains(strings.Join(test.want, " "), name); test.err == ErrBad && strings.Contains(err.Error(), name) != want {
					t.Errorf("error %v; names %s: want %t", err, name, want)
				}
			}
			for _, name := range test.want {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("error %v, want it to name %s", err, name)
				}
			}
			if test.err == ErrBad { // the bad part is sent again
				again := split(t, data, 100_000)
				for _, name := range test.want {
					os.RemoveAll(filepath.Join(dir, name))
					spoilCopy(t, filepath.Join(again, name), filepath.Join(dir, name))
				}
				if got, err := join(t, dir); err != nil || !bytes.Equal(got, data) {
					t.Errorf("after it was sent again: %v", err)
				}
			}
		})
	}
}

func spoilCopy(t *testing.T, from, to string) {
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestIndexIsNotTrusted(t *testing.T) {
	dir := split(t, digesttest.Noise(2500, 1), 1000)
	file := filepath.Join(dir, "x.tar.parts.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`"x.tar.0002"`, `"../secret"`}, {`"x.tar.0002"`, `"x.tar.0001"`}, {`"size":1000`, `"size":-1000`}, {`"size":500`, `"size":5000`},
		{`"size":2500`, `"size":2501`}, {`"schemaVersion":1`, `"schemaVersion":2`}, {`"name":"x.tar"`, `"name":"y"`}, {`{`, `[`}, {`"sha256:`, `"md5:`},
		{`"partSize":1000`, `"partSize":9223372036854775807`},
	} {
		if !bytes.Contains(good, []byte(change[0])) {
			t.Fatalf("the index does not hold %q: %s", change[0], good)
		}
		os.WriteFile(file, bytes.ReplaceAll(good, []byte(change[0]), []byte(change[1])), 0o644)
		if got, err := join(t, dir); err == nil {
			t.Errorf("%q: no error, %d bytes", change, len(got))
		}
	}
}

// Parts that are right one by one may together be something else than the index promises.
func TestCheckComparesTheWhole(t *testing.T) {
	dir := split(t, digesttest.Noise(2500, 1), 1000)
	set, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if problems, err := set.Check(t.Context()); len(problems) > 0 || err != nil {
		t.Fatalf("Check of good parts = %v, %v", problems, err)
	}

	set.Index.Digest = set.Index.Parts[0].Digest
	if problems, err := set.Check(t.Context()); len(problems) > 0 || !errors.Is(err, ErrBad) {
		t.Errorf("Check with the digest of something else = %v, %v, want %v", problems, err, ErrBad)
	}
}

func TestSplitRefusesStaleParts(t *testing.T) {
	dir := split(t, digesttest.Noise(2500, 1), 1000)
	again := func(force bool) error {
		_, err := Split(t.Context(), bytes.NewReader(digesttest.Noise(1500, 1)), dir, Options{Name: "z", Size: 1000, Force: force})
		return err
	}
	if err := again(false); !errors.Is(err, ErrStale) {
		t.Fatalf("error %v, want %v", err, ErrStale)
	}
	if got, err := join(t, dir); err != nil || len(got) != 2500 {
		t.Fatalf("the old set is gone: %v", err)
	}
	if err := again(true); err != nil {
		t.Fatal(err)
	}
	if got, err := join(t, dir); err != nil || len(got) != 1500 {
		t.Fatalf("join: %d bytes, %v", len(got), err)
	}
}

// A name that ends as that of a part or of an index, but has none of ours, once was removed with
// --force, and refused without.
func TestSplitLeavesFilesOfOthers(t *testing.T) {
	dir := split(t, digesttest.Noise(2500, 1), 1000)
	foreign := []string{"report.2024", "y.tar.0001", "notes.parts.json", "list.parts.json", "list.0001", "plain"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"mediaType":"text/plain"}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	// An index of the empty name is nobody's, nor are the files that no part's name ends.
	spoilCopy(t, filepath.Join(dir, "x.tar.parts.json"), filepath.Join(dir, ".parts.json"))
	if got, err := join(t, dir); err != nil || len(got) != 2500 {
		t.Errorf("join among them: %d bytes, %v", len(got), err)
	}

	again := func(o Options) error {
		o.Size = 1000
		_, err := Split(t.Context(), bytes.NewReader(digesttest.Noise(1500, 1)), dir, o)
		return err
	}
	if err := again(Options{Name: "z", Force: true}); err != nil {
		t.Fatal(err)
	}
	if got, err := join(t, dir); err != nil || len(got) != 1500 {
		t.Errorf("join: %d bytes, %v", len(got), err)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}

	// Nor do they stand in the way of a first set.
	for _, name := range []string{"z.0001", "z.0002", "z.parts.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := again(Options{Name: "w"}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"report", "list"} { // what would be replaced is refused
		if err := again(Options{Name: name}); !errors.Is(err, ErrStale) {
			t.Errorf("set %q: error %v, want %v", name, err, ErrStale)
		}
	}
}

// What --force removes is never the file that is read, which a failed run could not bring back.
func TestSplitKeepsItsInput(t *testing.T) {
	dir := t.TempDir()
	name, other := filepath.Join(dir, "x.0001"), filepath.Join(dir, "w.0001")
	for _, n := range []string{name, other} {
		if err := os.WriteFile(n, digesttest.Noise(2500, 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Split(t.Context(), bytes.NewReader(digesttest.Noise(2500, 1)), dir, Options{Name: "x", Size: 1000, Force: true, Input: info}); err == nil {
		t.Error("no error")
	}
	for _, n := range []string{name, other} {
		if got, err := os.ReadFile(n); err != nil || !bytes.Equal(got, digesttest.Noise(2500, 1)) {
			t.Errorf("%s: %d bytes, %v", n, len(got), err)
		}
	}
}

// A tar that a failed program wrote into the pipe does not become a set, and nothing is left.
func TestSplitRefusesHalfATar(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Size: 5000})
	w.Write(digesttest.Noise(5000, 1))
	w.Close()
	for _, cut := range []int{512, 3000, 6000} {
		dir := filepath.Join(t.TempDir(), "parts")
		if _, err := Split(t.Context(), bytes.NewReader(b.Bytes()[:cut]), dir, Options{Name: "x", Size: 1000, Pipe: true}); err == nil {
			t.Errorf("cut at %d: no error", cut)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("cut at %d: the directory is left", cut)
		}
	}
	dir := t.TempDir()
	if _, err := Split(t.Context(), iotest.ErrReader(errors.New("broken")), dir, Options{Name: "x", Size: 1000}); err == nil {
		t.Error("no error from a reader that fails")
	}
	if _, err := Split(t.Context(), strings.NewReader(""), dir, Options{Name: "x", Size: 1000}); err == nil {
		t.Error("no error from an empty stream")
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("left: %v", files)
	}
}
