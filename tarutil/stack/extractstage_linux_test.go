package stack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ocikit/tarutil"
)

// stageLayers are layers with all that a stage treats differently: small and large files, files that
// upper layers replace and remove, links, whiteouts and privileges.
func stageLayers(t testing.TB) []Layer {
	t.Helper()
	file := func(name string, mode int64, size int) entry {
		return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Uid: os.Geteuid(), Gid: os.Getegid()}, Content: strings.Repeat("x", size)}
	}
	lower := []entry{file("d/old", 0o644, 700), file("d/gone", 0o600, 3), file("large", 0o644, smallFile+1), file("su", 0o4755, 10)}
	lower = append(lower, entries("twice a", "twice b", "h = d/old", "s -> large")...)
	upper := []entry{file("d/old", 0o640, 90), file("d/.wh.gone", 0o644, 0), file("d/new", 0o755, 4)}
	return []Layer{bytesLayer("0", layerTar(t, lower)), bytesLayer("1", layerTar(t, upper))}
}

// visible lists all below dir, but for stages and what is in them. It fails the test if somebody else
// may enter a stage, or if a file in it has the bits of setuid or setgid. Files may come and go
// meanwhile.
func visible(t testing.TB, dir string) (names []string, staged int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path == dir || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if !strings.HasPrefix(name, StagePrefix) {
			names = append(names, name)
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() && info.Mode().Perm() != 0o700 || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			t.Errorf("%s: %v", name, info.Mode())
		}
		staged++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return names, staged
}

// A turningReader calls do once n bytes were read.
type turningReader struct {
	r  io.Reader
	n  int
	do func() error
}

func (r *turningReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		if err := r.do(); err != nil {
			return 0, err
		}
		return r.r.Read(p)
	}
	n, err := r.r.Read(p[:min(len(p), r.n)])
	r.n -= n
	return n, err
}

// turning returns layers of which the last one calls do behind its byte at.
func turning(layers []Layer, at int, do func() error) []Layer {
	layers = slices.Clone(layers)
	last := layers[len(layers)-1]
	layers[len(layers)-1].Open = func() (io.ReadCloser, error) {
		r, err := last.Open()
		return io.NopCloser(&turningReader{r, at, do}), err
	}
	return layers
}

// TestExtractNothingUnverified fails at each block of a layer, and at its end, where a digest that is
// wrong does. Until then no name of a layer is there, and afterwards nothing at all.
func TestExtractNothingUnverified(t *testing.T) {
	layers := stageLayers(t)
	last := layers[len(layers)-1]
	size := len(layerData(t, last))
	wrong := errors.New("wrong digest")
	for at := 0; at <= size; at += 512 {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}

		looked := false
		failing := turning(layers, at, func() error {
			names, staged := visible(t, dir)
			if looked = true; len(names) > 0 || staged == 0 {
				t.Errorf("at byte %d: %q are there, and %d names of a stage", at, names, staged)
			}
			return wrong
		})

		if _, _, err := Extract(t.Context(), root, failing, Options{}, ExtractOptions{Owners: os.Geteuid() == 0}); !errors.Is(err, wrong) || !looked {
			t.Errorf("at byte %d: %v", at, err)
		}
		if names, staged := visible(t, dir); len(names)+staged > 0 {
			t.Errorf("at byte %d: %q and %d of a stage are left", at, names, staged)
		}
		root.Close()
	}
}

// TestExtractKilled kills the process at each block of a layer: no name of a layer is there.
func TestExtractKilled(t *testing.T) {
	layers := stageLayers(t)
	if dir := os.Getenv("OCIKIT_TEST_KILLED"); dir != "" {
		at, _ := strconv.Atoi(os.Getenv("OCIKIT_TEST_AT"))
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		kill := func() error {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // it dies in any case
		}
		_, _, err = Extract(t.Context(), root, turning(layers, at, kill), Options{}, ExtractOptions{})
		t.Fatalf("it lives: %v", err)
	}

	size := len(layerData(t, layers[len(layers)-1]))
	for at := 0; at <= size; at += 1024 {
		dir := t.TempDir()
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestExtractKilled$")
		cmd.Env = append(os.Environ(), "OCIKIT_TEST_KILLED="+dir, fmt.Sprint("OCIKIT_TEST_AT=", at))
		out, err := cmd.CombinedOutput()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || !status.Signaled() {
			t.Fatalf("at byte %d: %v\n%s", at, err, out)
		}
		if names, staged := visible(t, dir); len(names) > 0 || staged == 0 {
			t.Errorf("at byte %d: %q are there, and %d names of a stage", at, names, staged)
		}
	}
}

// TestStageHoldsWhatIsLeft has a layer that replaces one file a thousand times: only the last one is
// kept until the end.
func TestStageHoldsWhatIsLeft(t *testing.T) {
	const n = 1000
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprint("f ", i)
	}

	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	// The layer above may run ahead, and does not end before all of this one were applied.
	applied := make(chan struct{})
	lower, upper := layersOf(t, lines)[0], layersOf(t, []string{"g x"})[0]
	watch := &placedObserver{n: n, done: applied}
	layers := turning([]Layer{lower, upper}, len(layerData(t, upper)), func() error {
		<-applied
		if _, staged := visible(t, dir); staged > 4 { // the directory, the last file, and g
			t.Errorf("%d names of a stage", staged)
		}
		return io.EOF
	})

	if _, done, err := Extract(t.Context(), root, layers, Options{Observer: watch, Workers: 2}, ExtractOptions{}); err != nil || done.Files != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	if data, err := root.ReadFile("f"); err != nil || string(data) != fmt.Sprint(n-1) {
		t.Errorf("f is %q, %v", data, err)
	}
}

// A placedObserver closes done when n entries were placed and what they replaced is gone.
type placedObserver struct {
	n    int
	done chan struct{}
}

func (o *placedObserver) Placed(EntryID, EntryID, tarutil.PathID, *tar.Header) error {
	if o.n--; o.n == 0 {
		close(o.done)
	}
	return nil
}

func (o *placedObserver) Gone(EntryID, int, bool) {}

// Two processes may extract into one directory at a time.
func TestStagesAreApart(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for range 2 {
		st, err := newStage(t.Context(), root, ExtractOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			st.wait()
			if err := st.remove(); err != nil {
				t.Error(err)
			}
		}()
	}
}

// TestMoveByPath is for file systems that cannot tell by rename that something is there.
func TestMoveByPath(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	st, err := newStage(t.Context(), root, ExtractOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st.wait()
	for _, name := range []string{"0.0", "0.1"} {
		if err := root.WriteFile(st.name+"/"+name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if err := st.moveByPath("0.0", "f"); err != nil {
		t.Error(err)
	}
	if err := st.moveByPath("0.1", "f"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if data, err := root.ReadFile("f"); err != nil || !bytes.Equal(data, []byte("0.0")) {
		t.Errorf("f is %q, %v", data, err)
	}

	if err := st.remove(); err != nil {
		t.Error(err)
	}
	if names, err := fs.ReadDir(root.FS(), "."); err != nil || len(names) != 1 {
		t.Errorf("left are %v, %v", names, err)
	}
}
