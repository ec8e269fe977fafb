package stack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
)

// A model is the file system that layers make up, in the plainest way: a map from real paths.
// It is what Apply is compared with.
type model struct {
	files   map[string]*modelFile // the root is ""
	touched map[string]bool       // paths of the layer that is being applied
}

type modelFile struct {
	hdr     tar.Header
	content string
}

var errModel = errors.New("no")

func newModel() *model {
	return &model{files: map[string]*modelFile{"": impliedModelDir()}}
}

func impliedModelDir() *modelFile {
	return &modelFile{hdr: tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}}
}

func (m *model) apply(layer []entry) error {
	m.touched = map[string]bool{}
	for _, e := range layer {
		if err := m.entry(e); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) entry(e entry) error {
	dir, base := tarutil.SplitPath(strings.Trim(e.Name, "/"))
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		at, err := m.resolve(dir, false)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case base == ".wh..wh..opq":
			for _, p := range m.below(at) {
				m.hide(p)
			}
		default:
			m.hide(tarutil.JoinPath(at, hidden))
		}
		return nil
	}
	var file *modelFile
	if e.Typeflag == tar.TypeLink {
		if strings.Trim(e.Linkname, "/") == strings.Trim(e.Name, "/") {
			return errModel // whatever is there, it is not a link to itself
		}
		targetDir, targetBase := tarutil.SplitPath(strings.Trim(e.Linkname, "/"))
		at, err := m.resolve(targetDir, false)
		if err != nil {
			return err
		}
		if file = m.files[tarutil.JoinPath(at, targetBase)]; file == nil || file.hdr.Typeflag == tar.TypeDir {
			return errModel
		}
	} else {
		file = &modelFile{e.Header, e.Content}
	}
	at, err := m.resolve(dir, true)
	if err != nil {
		return err
	}
	p := tarutil.JoinPath(at, base)
	old := m.files[p]
	if old != nil && old != file && (old.hdr.Typeflag != tar.TypeDir || file.hdr.Typeflag != tar.TypeDir) {
		m.remove(p)
	}
	m.files[p], m.touched[p] = file, true
	return nil
}

// below returns the paths below dir, the longest first.
func (m *model) below(dir string) []string {
	var list []string
	for p := range m.files {
		if p != "" && (dir == "" || strings.HasPrefix(p, dir+"/")) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	return list
}

func (m *model) remove(p string) {
	for _, q := range append(m.below(p), p) {
		delete(m.files, q)
		delete(m.touched, q)
	}
}

// hide removes what lower layers have at p and below. Directories that paths of this layer
// are in stay, as if made for these.
func (m *model) hide(p string) {
	for _, q := range append(m.below(p), p) {
		switch {
		case m.files[q] == nil || m.touched[q]:
		case len(m.below(q)) > 0:
			m.files[q], m.touched[q] = impliedModelDir(), true
		default:
			delete(m.files, q)
		}
	}
}

// resolve returns the real path of a directory.
func (m *model) resolve(dir string, create bool) (string, error) {
	at, links, todo := "", 0, strings.Split(dir, "/")
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at, _ = tarutil.SplitPath(at)
			continue
		}
		p := tarutil.JoinPath(at, name)
		f := m.files[p]
		switch {
		case f == nil && !create:
			return "", os.ErrNotExist
		case f == nil:
			m.files[p], m.touched[p] = impliedModelDir(), true
		case f.hdr.Typeflag == tar.TypeSymlink:
			if links++; links > 40 {
				return "", errModel
			}
			if strings.HasPrefix(f.hdr.Linkname, "/") {
				at = ""
			}
			todo = append(strings.Split(f.hdr.Linkname, "/"), todo...)
			continue
		case f.hdr.Typeflag == tar.TypeDir:
		case links == 0 && m.touched[p]: // a layer has nothing below its own files, not even a whiteout
			return "", errModel
		case !create:
			return "", os.ErrNotExist
		case links > 0:
			return "", errModel
		default:
			m.remove(p)
			m.files[p], m.touched[p] = impliedModelDir(), true
		}
		at = p
	}
	return at, nil
}

// describe is what describeTree says of a stack.
func (m *model) describe() []string {
	names := map[*modelFile][]string{}
	for _, p := range slices.Sorted(maps.Keys(m.files)) {
		names[m.files[p]] = append(names[m.files[p]], p)
	}
	var lines []string
	for f, all := range names {
		if all[0] == "" {
			continue
		}
		h := f.hdr
		if h.Typeflag == tar.TypeSymlink {
			h.Mode = 0o777
		}
		line := fmt.Sprintf("%s %c %o %d:%d %d.%09d", strings.Join(all, "="), h.Typeflag, h.Mode&0o7777, h.Uid, h.Gid, h.ModTime.Unix(), h.ModTime.Nanosecond())
		switch h.Typeflag {
		case tar.TypeReg:
			line += fmt.Sprintf(" %q", f.content)
		case tar.TypeSymlink:
			line += " -> " + h.Linkname
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// randomStack makes layers of a few names, so that they meet.
func randomStack(seed uint64) [][]entry {
	rnd := rand.New(rand.NewPCG(seed, 1))
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	path := func() string {
		p := pick("a", "b", "c", "d")
		for rnd.IntN(2) == 0 && len(p) < 7 {
			p += "/" + pick("a", "b", "c")
		}
		return p
	}
	var stack [][]entry
	var known []string
	for range 1 + rnd.IntN(5) {
		var layer []entry
		for range rnd.IntN(9) {
			name := path()
			e := entry{Header: tar.Header{
				Name: name, Uid: rnd.IntN(3), Gid: rnd.IntN(3),
				Mode:    []int64{0o644, 0o755, 0o600, 0o4711, 0o000, 0o1777}[rnd.IntN(6)],
				ModTime: time.Unix(int64(rnd.IntN(1_000_000)), int64(rnd.IntN(2)*1000)),
			}}
			dir, base := tarutil.SplitPath(name)
			switch k := rnd.IntN(20); {
			case k < 7:
				e.Typeflag, e.Content = tar.TypeReg, fmt.Sprint("content ", rnd.IntN(1000))
			case k < 11:
				e.Typeflag, e.Name = tar.TypeDir, name+"/"
			case k < 13:
				e.Typeflag, e.Linkname = tar.TypeSymlink, pick("a", "../b", "/c", "/a/b", "b/../../d", ".", "/", "nowhere", "../../../../c/a")
			case k < 15 && len(known) > 0:
				e.Typeflag, e.Linkname, e.Mode, e.Uid, e.Gid, e.ModTime = tar.TypeLink, known[rnd.IntN(len(known))], 0o644, 0, 0, time.Unix(0, 0)
			case k < 18:
				e.Typeflag, e.Name = tar.TypeReg, tarutil.JoinPath(dir, ".wh."+base)
			case k < 19:
				e.Typeflag, e.Name = tar.TypeReg, tarutil.JoinPath(dir, ".wh..wh..opq")
			default:
				e.Typeflag = tar.TypeFifo
			}
			if e.Typeflag == tar.TypeReg && e.Content != "" {
				known = append(known, name)
			}
			layer = append(layer, e)
		}
		stack = append(stack, layer)
	}
	return stack
}

func stackLayers(t testing.TB, stack [][]entry) []Layer {
	var layers []Layer
	for i, list := range stack {
		layers = append(layers, bytesLayer(fmt.Sprint(i), layerTar(t, list)))
	}
	return layers
}

// TestRandomStacks compares Apply with the model, a tar of each stack with the stack, and what
// is above each layer, flattened, with all of it; and some with what is extracted.
func TestRandomStacks(t *testing.T) {
	seeds, good := uint64(tartest.Reps(500, 40)), 0
	for seed := range seeds {
		stack := randomStack(seed)
		m := newModel()
		var want error
		for _, layer := range stack {
			if want = m.apply(layer); want != nil {
				break
			}
		}
		layers := stackLayers(t, stack)
		s, err := Apply(t.Context(), layers, Options{})
		if (err == nil) != (want == nil) {
			t.Fatalf("seed %d: got %v, the model says %v", seed, err, want)
		}
		if err != nil {
			continue
		}
		good++
		if got := describeTree(t, s); !slices.Equal(got, m.describe()) {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, strings.Join(got, "\n"), strings.Join(m.describe(), "\n"))
		}
		for base := range layers {
			flat := layerBytes(t, layers, base)
			sameStack(t, layers, append(slices.Clone(layers[:base]), bytesLayer("flat", flat)))
		}
		if seed%8 == 0 {
			if _, err := short(t, layers); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d of %d stacks are good", good, seeds)
}

// TestBudget makes sure that a stack holds just the memory of what is left of its layers, and of the
// names that it ever had.
func TestBudget(t *testing.T) {
	const all = 1 << 30
	check := func(what string, layers []Layer) {
		t.Helper()
		b := tarutil.NewBudget(all)
		s, err := Apply(t.Context(), layers, Options{Paths: tarutil.NewPathTable(b)})
		if err != nil {
			return
		}

		held, files := 0, map[*stackFile]bool{}
		tree := s.tree
		tree.visit(tree.root, func(n *node) {
			if n != tree.root {
				held += fileMemory
			}
			if f := tree.file(n); !files[f] {
				held += tree.memory(f)
				files[f] = true
			}
		})
		for id := 1; id < tree.paths.Len(); id++ {
			held += tarutil.PathMemory + nodeMemory + len(tree.paths.Name(tarutil.PathID(id)))
		}

		// What is left can be taken, and nothing more.
		if err := b.Take(all - held); err != nil {
			t.Errorf("%s: more is held than the %d bytes of what is left", what, held)
		} else if b.Take(1) == nil {
			t.Errorf("%s: less is held than the %d bytes of what is left", what, held)
		}
	}

	for seed := range uint64(tartest.Reps(500, 100)) {
		check(fmt.Sprintf("seed %d", seed), stackLayers(t, randomStack(seed)))
	}

	// Some entries have attributes, and names that come and go.
	attrs := entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "d", PAXRecords: map[string]string{"SCHILY.xattr.user.note": "x", "comment": "y"}}}
	list := append([]entry{attrs}, entries("d/f x", "d/f y", "l -> f", "d/g = d/f", "h = d/f", "d/f = h", "p |", "./")...)
	layers := stackLayers(t, [][]entry{list, entries(".wh.p", "d = d/g", "l/x x", "h = l/x", "i/j/ "), append(entries("i/.wh..wh..opq", "i/k x", ".wh.i"), attrs, attrs)})
	for i := range layers {
		check(fmt.Sprintf("%d layers", i+1), layers[:i+1])
	}
}

// layerBytes returns what the layers from base on do together.
func layerBytes(t testing.TB, layers []Layer, base int) []byte {
	t.Helper()
	s, err := Apply(t.Context(), layers, Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	var buf strings.Builder
	if err := s.WriteTar(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	return []byte(buf.String())
}

// TestWriteStacks writes random stacks as files, for the comparison with another program: see
// scripts/real/extract.
func TestWriteStacks(t *testing.T) {
	dir := os.Getenv("OCIKIT_STACKS")
	if dir == "" {
		t.Skip("OCIKIT_STACKS names no directory")
	}
	written := 0
	for seed := uint64(0); written < 60; seed++ {
		stack := randomStack(seed)
		for i := range stack {
			stack[i] = withoutDoubles(stack[i])
		}
		layers := stackLayers(t, stack)
		if _, err := Apply(t.Context(), layers, Options{}); err != nil || len(stack) < 2 || !allPass(t, layers) {
			continue
		}
		written++
		for i, layer := range layers {
			name := filepath.Join(dir, fmt.Sprintf("%04d", seed), fmt.Sprintf("%d.tar", i))
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, layerData(t, layer), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// withoutDoubles drops entries of paths that the layer has already: no layer may give one twice.
func withoutDoubles(layer []entry) []entry {
	seen := map[string]bool{}
	return slices.DeleteFunc(layer, func(e entry) bool {
		path := strings.TrimSuffix(e.Name, "/")
		double := seen[path]
		seen[path] = true
		return double
	})
}

// allPass reports whether the gate takes all layers.
func allPass(t testing.TB, layers []Layer) bool {
	for _, layer := range layers {
		if tartest.Check(tarutil.NewGate(false), layerData(t, layer), 4096) != nil {
			return false
		}
	}
	return true
}

func layerData(t testing.TB, l Layer) []byte {
	t.Helper()
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
