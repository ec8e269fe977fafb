package stack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ocikit/tarutil"
	"ocikit/tarutil/diff"
	"ocikit/tarutil/internal/tartest"
	"ocikit/tarutil/pack"
)

// An overlay unpacks layers into directories, as the overlay snapshotter of containerd does, and
// has the kernel join them. It is the judge of what whiteouts mean.
type overlay struct {
	t      *testing.T
	dir    string
	layers []string // directories, the lowest first
	views  int
}

// newOverlay skips the test where overlay file systems cannot be mounted.
func newOverlay(t *testing.T) *overlay {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT JUDGED BY AN OVERLAY FILE SYSTEM: that takes root")
	}
	dir := t.TempDir()
	// The directory may be of an overlay itself, which keeps the marks of another one from it.
	if err := syscall.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("NOT JUDGED BY AN OVERLAY FILE SYSTEM: mount tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	o := &overlay{t: t, dir: dir}
	o.reset()
	if _, err := o.tryView(); err != nil {
		t.Skipf("NOT JUDGED BY AN OVERLAY FILE SYSTEM: mount overlay: %v", err)
	}
	return o
}

// reset forgets all layers, but for two empty ones at the bottom, without which the kernel does
// not mount.
func (o *overlay) reset() {
	o.t.Helper()
	for i := range o.views {
		syscall.Unmount(filepath.Join(o.dir, fmt.Sprint("view", i)), syscall.MNT_DETACH)
	}
	list, err := os.ReadDir(o.dir)
	o.must(err)
	for _, e := range list {
		o.must(os.RemoveAll(filepath.Join(o.dir, e.Name())))
	}
	o.layers, o.views = nil, 0
	o.push(nil)
	o.push(nil)
}

func (o *overlay) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// view mounts all layers, and returns the directory in which they are one.
func (o *overlay) view() string {
	o.t.Helper()
	dir, err := o.tryView()
	o.must(err)
	return dir
}

func (o *overlay) tryView() (string, error) {
	dir := filepath.Join(o.dir, fmt.Sprint("view", o.views))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	o.views++
	lower := slices.Clone(o.layers)
	slices.Reverse(lower)
	return dir, syscall.Mount("overlay", dir, "overlay", syscall.MS_RDONLY, "lowerdir="+strings.Join(lower, ":"))
}

// push unpacks one more layer, and says whether a snapshotter would.
func (o *overlay) push(data []byte) error {
	o.t.Helper()
	upper := filepath.Join(o.dir, fmt.Sprint("layer", len(o.layers)))
	o.must(os.Mkdir(upper, 0o755))
	below := o.layers
	o.layers = append(o.layers, upper)
	if data == nil {
		return nil
	}
	u := &unpacking{upper: upper, below: below, made: map[string]bool{}}
	if err := u.unpack(data); err != nil {
		return err
	}
	return u.inherit()
}

// An unpacking is that of one layer.
type unpacking struct {
	upper string
	below []string
	made  map[string]bool // directories that no entry is for
}

var errEscape = errors.New("too many links")

// place returns where a name lies: links are followed, but for the last component, and only in
// this layer, since the directory holds nothing else.
func (u *unpacking) place(name string) (string, error) {
	dir, base := tarutil.SplitPath(strings.Trim(name, "/"))
	at, links, todo := "", 0, strings.Split(dir, "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at, _ = tarutil.SplitPath(at)
			continue
		}
		next := tarutil.JoinPath(at, part)
		target, err := os.Readlink(filepath.Join(u.upper, next))
		if err != nil {
			at = next
			continue
		}
		if links++; links > 40 {
			return "", errEscape
		}
		if strings.HasPrefix(target, "/") {
			at = ""
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return tarutil.JoinPath(at, base), nil
}

// parents makes the directories that a path lies in.
func (u *unpacking) parents(path string) error {
	dir, _ := tarutil.SplitPath(path)
	if dir == "" {
		return nil
	}
	if info, err := os.Lstat(filepath.Join(u.upper, dir)); err == nil {
		if !info.IsDir() {
			return syscall.ENOTDIR
		}
		return nil
	}
	if err := u.parents(dir); err != nil {
		return err
	}
	u.made[dir] = true
	return os.Mkdir(filepath.Join(u.upper, dir), 0o755)
}

func (u *unpacking) unpack(data []byte) error {
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := u.place(hdr.Name)
		if err != nil {
			return err
		}
		if err := u.parents(name); err != nil {
			return err
		}
		if err := u.entry(hdr, name, tr); err != nil {
			return fmt.Errorf("%s: %w", hdr.Name, err)
		}
	}
}

func (u *unpacking) entry(hdr *tar.Header, name string, content io.Reader) error {
	path := filepath.Join(u.upper, name)
	dir, base := filepath.Split(path)
	if base == tarutil.OpaqueName {
		return syscall.Setxattr(dir, "trusted.overlay.opaque", []byte("y"), 0)
	}
	if hidden, ok := strings.CutPrefix(base, tarutil.WhiteoutPrefix); ok {
		return syscall.Mknod(filepath.Join(dir, hidden), syscall.S_IFCHR, 0)
	}
	info, err := os.Lstat(path)
	if err == nil && !(info.IsDir() && hdr.Typeflag == tar.TypeDir) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		for made := range u.made {
			if made == name || strings.HasPrefix(made, name+"/") {
				delete(u.made, made)
			}
		}
		info = nil
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		delete(u.made, name)
		if info == nil || err != nil {
			if err := os.Mkdir(path, 0o755); err != nil {
				return err
			}
		}
	case tar.TypeSymlink:
		return errors.Join(os.Symlink(hdr.Linkname, path), os.Lchown(path, hdr.Uid, hdr.Gid))
	case tar.TypeLink:
		target, err := u.place(hdr.Linkname)
		if err != nil {
			return err
		}
		return os.Link(filepath.Join(u.upper, target), path)
	case tar.TypeFifo:
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			return err
		}
	default:
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}

	// As Docker, podman and containerd do, when they run as root.
	for key, value := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(key, tarutil.XattrPrefix); ok {
			if err := syscall.Setxattr(path, name, []byte(value), 0); err != nil {
				return err
			}
		}
	}

	return errors.Join(os.Lchown(path, hdr.Uid, hdr.Gid), syscall.Chmod(path, uint32(hdr.Mode)))
}

// inherit gives directories that no entry is for what the layers below say of them, unless
// these are hidden.
func (u *unpacking) inherit() error {
	for dir := range u.made {
		if u.opaqueAbove(dir) {
			continue
		}
		for _, layer := range slices.Backward(u.below) {
			info, err := os.Lstat(filepath.Join(layer, dir))
			if errors.Is(err, fs.ErrNotExist) && !covered(layer, dir) {
				continue
			}
			if err == nil && info.IsDir() {
				stat := info.Sys().(*syscall.Stat_t)
				path := filepath.Join(u.upper, dir)
				if err := errors.Join(os.Chown(path, int(stat.Uid), int(stat.Gid)), syscall.Chmod(path, stat.Mode&0o7777)); err != nil {
					return err
				}
			}
			break
		}
	}
	return nil
}

func (u *unpacking) opaqueAbove(dir string) bool {
	for dir, _ = tarutil.SplitPath(dir); dir != ""; dir, _ = tarutil.SplitPath(dir) {
		if opaque(filepath.Join(u.upper, dir)) {
			return true
		}
	}
	return false
}

// covered says whether a layer hides what lower ones have at a path.
func covered(layer, path string) bool {
	for path, _ = tarutil.SplitPath(path); path != ""; path, _ = tarutil.SplitPath(path) {
		info, err := os.Lstat(filepath.Join(layer, path))
		if err == nil && (!info.IsDir() || opaque(filepath.Join(layer, path))) {
			return true
		}
	}
	return false
}

func opaque(dir string) bool {
	n, err := syscall.Getxattr(dir, "trusted.overlay.opaque", make([]byte, 8))
	return err == nil && n > 0
}

// differences compares a stack with what the kernel shows. Times are not what whiteouts are about.
func (o *overlay) differences(s tarutil.Tree) []string {
	o.t.Helper()
	list, err := diff.Trees(o.t.Context(), s, pack.DirTree(o.view()), diff.Options{Ignore: diff.Times})
	if err != nil { // as of files that are listed, and not there
		return []string{err.Error()}
	}
	var lines []string
	for c := range list.All() {
		lines = append(lines, fmt.Sprintf("%c %s %s", c.Kind[0], c.Path, c.Aspects))
	}
	return lines
}

// overlayStacks is how many random stacks are judged: OCIKIT_OVERLAY_STACKS, or a few.
func overlayStacks() int {
	n, err := strconv.Atoi(os.Getenv("OCIKIT_OVERLAY_STACKS"))
	if err != nil {
		return tartest.Reps(60, 12)
	}
	return n
}

// sameToAll says whether what a surprise is about is the same on an overlay as containerd makes it.
func sameToAll(s Surprise) bool {
	return s.Kind == typeChanged || s.Kind == modeChanged || s.Kind == parentMissing
}

// TestOverlayStacks lets the kernel judge what Apply makes of random layers. Where an overlay
// shows something else, or a snapshotter refuses, a surprise must have been told.
func TestOverlayStacks(t *testing.T) {
	o := newOverlay(t)
	plain, told, disagreed := 0, 0, 0
	for seed := uint64(0); plain < overlayStacks(); seed++ {
		layers := stackLayers(t, randomStack(seed))
		var surprises []Surprise
		s, err := Apply(t.Context(), layers, Options{Surprise: func(s Surprise) {
			if !sameToAll(s) {
				surprises = append(surprises, s)
			}
		}})
		if err != nil {
			continue
		}
		wrong, unpacked := o.stack(layers), ""
		if wrong == nil {
			unpacked = strings.Join(o.differences(s), "; ")
		} else {
			unpacked = wrong.Error()
		}
		switch {
		case len(surprises) == 0 && unpacked != "":
			t.Fatalf("seed %d: the overlay differs, and nothing was said: %s", seed, unpacked)
		case len(surprises) == 0:
			plain++
		case unpacked != "":
			disagreed++
			fallthrough
		default:
			told++
		}
	}
	t.Logf("%d stacks are the same on an overlay; of %d more, with surprises, %d are not", plain, told, disagreed)
	if disagreed == 0 {
		t.Error("no overlay disagreed where a surprise was told: the judge does not judge")
	}
}

// TestOverlayMarks has the marks of overlays in layers, as a program writes them that packs the upper
// directory of one. The kernel heeds those that it has made itself.
func TestOverlayMarks(t *testing.T) {
	o := newOverlay(t)
	below := layersOf(t, []string{"d/", "d/file x", "e x"})[0]
	for name, value := range map[string]string{"trusted.overlay.opaque": "y", "trusted.overlay.redirect": "/e", "user.overlay.opaque": "y"} {
		hdr := tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755, PAXRecords: map[string]string{tarutil.XattrPrefix + name: value}}
		layers := []Layer{below, bytesLayer("1", layerTar(t, []tartest.Entry{{Header: hdr}}))}

		var got []Surprise
		s, err := Apply(t.Context(), layers, Options{Surprise: func(s Surprise) { got = append(got, s) }})
		if err != nil {
			t.Fatal(err)
		}
		if want := (Surprise{Layer: 1, Kind: isMarked, Path: "d", Is: name}); len(got) != 1 || got[0] != want {
			t.Errorf("%s: surprises %+v, want %+v", name, got, want)
		}
		if err := o.stack(layers); err != nil {
			t.Fatal(err)
		}
		if differs := len(o.differences(s)) > 0; strings.HasPrefix(name, "trusted") && !differs {
			t.Errorf("%s: the overlay shows what Apply does: the judge does not judge", name)
		}
	}
}

// stack unpacks layers from nothing.
func (o *overlay) stack(layers []Layer) error {
	o.t.Helper()
	o.reset()
	for _, l := range layers {
		if err := o.push(layerData(o.t, l)); err != nil {
			return err
		}
	}
	return nil
}

// plainStack makes layers of what overlays and Apply agree on.
func plainStack(t *testing.T, seed uint64) (*Stack, []Layer) {
	for ; ; seed += 1 << 32 {
		layers := stackLayers(t, randomStack(seed))
		told := false
		s, err := Apply(t.Context(), layers, Options{Surprise: func(s Surprise) {
			told = told || !sameToAll(s)
		}})
		if err == nil && !told {
			return s, layers
		}
	}
}

// TestOverlayDiff lets the kernel judge the layers that WriteLayer writes between random stacks, as
// stacks, tars and directories, and those that a stack above a base writes.
func TestOverlayDiff(t *testing.T) {
	o := newOverlay(t)
	for seed := range uint64(overlayStacks()) {
		old, layers := plainStack(t, 2*seed)
		now, _ := plainStack(t, 2*seed+1)
		o.must(o.stack(layers))
		was := o.view()
		for i, trees := range [][2]tarutil.Tree{{old, now}, {pack.DirTree(was), now}, {old, tarutil.TarTree(bytes.NewReader(stackTar(t, now)), t.TempDir())}} {
			var buf bytes.Buffer
			_, err := diff.WriteLayer(t.Context(), &buf, trees[0], trees[1], diff.Options{TempDir: t.TempDir()})
			o.must(err)
			if slices.Contains(tartest.List(t, buf.Bytes()), tarutil.OpaqueName) {
				t.Fatalf("seed %d: an opaque whiteout at the root", seed)
			}
			o.must(o.push(buf.Bytes()))
			if wrong := o.differences(now); len(wrong) > 0 {
				t.Fatalf("seed %d, pair %d: %q gives %q", seed, i, tartest.List(t, buf.Bytes()), wrong)
			}
			o.layers = o.layers[:len(o.layers)-1]
			o.must(os.RemoveAll(filepath.Join(o.dir, fmt.Sprint("layer", len(o.layers)))))
		}
		// What is above each layer, flattened.
		for base := range layers {
			o.must(o.stack(layers[:base]))
			o.must(o.push(layerBytes(t, layers, base)))
			if wrong := o.differences(old); len(wrong) > 0 {
				t.Fatalf("seed %d, above %d layers: %q", seed, base, wrong)
			}
		}
	}
}

func stackTar(t testing.TB, s *Stack) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.WriteTar(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestOverlayPack lets the kernel judge whiteouts that were asked for, beside files.
func TestOverlayPack(t *testing.T) {
	o := newOverlay(t)
	for seed := range uint64(overlayStacks()) {
		_, layers := plainStack(t, seed)
		rnd := rand.New(rand.NewPCG(seed, 7))
		pick := func() string {
			return strings.Join([]string{"a", "b", "c", "d"}[rnd.IntN(4):][:1], "") + []string{"", "/a", "/b", "/a/c"}[rnd.IntN(4)]
		}
		src := tartest.Tree(t, "b/a new", "c/a/c new", "a/")
		opts := pack.Options{Whiteouts: []string{pick(), pick()}, Opaques: []string{pick()}, Mode: tarutil.ModeNormalize}
		var buf bytes.Buffer
		err := pack.Tar(t.Context(), &buf, []pack.Source{{Path: src}}, opts)
		if errors.Is(err, tarutil.ErrDuplicate) {
			continue
		}
		o.must(err)
		told := false
		layers = append(layers, bytesLayer("packed", buf.Bytes()))
		s, err := Apply(t.Context(), layers, Options{Surprise: func(s Surprise) {
			told = told || !sameToAll(s)
		}})
		if err != nil || told {
			continue // links lead elsewhere, or whiteouts nowhere
		}
		o.must(o.stack(layers))
		if wrong := o.differences(s); len(wrong) > 0 {
			t.Fatalf("seed %d: %q gives %q", seed, tartest.List(t, buf.Bytes()), wrong)
		}
	}
}
