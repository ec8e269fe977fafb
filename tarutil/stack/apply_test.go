package stack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
	"ocikit/tarutil/pack"
)

// An entry of a layer under test.
type entry = tartest.Entry

// layerTar writes entries as they are, good or bad.
func layerTar(t testing.TB, list []entry) []byte { return tartest.Tar(t, list...) }

// entries makes entries from lines: "name/" is a directory, "name -> target" a symbolic link,
// "name = other" a hard link, "name |" a fifo, "name content" a file.
func entries(lines ...string) []entry {
	var list []entry
	for _, line := range lines {
		name, rest, _ := strings.Cut(line, " ")
		e := entry{Header: tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(1000, 0)}}
		switch {
		case strings.HasSuffix(name, "/"):
			e.Typeflag, e.Mode = tar.TypeDir, 0o755
		case strings.HasPrefix(rest, "-> "):
			e.Typeflag, e.Linkname, e.Mode = tar.TypeSymlink, rest[3:], 0o777
		case strings.HasPrefix(rest, "= "):
			e.Typeflag, e.Linkname = tar.TypeLink, rest[2:]
		case rest == "|":
			e.Typeflag = tar.TypeFifo
		default:
			e.Typeflag, e.Content, e.Size = tar.TypeReg, rest, int64(len(rest))
		}
		list = append(list, e)
	}
	return list
}

func bytesLayer(name string, data []byte) Layer {
	return Layer{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

func layersOf(t testing.TB, stack ...[]string) []Layer {
	t.Helper()
	var layers []Layer
	for i, lines := range stack {
		layers = append(layers, bytesLayer(fmt.Sprint(i), layerTar(t, entries(lines...))))
	}
	return layers
}

// canary makes a directory with a tree in it that nobody may touch, and an empty directory
// "root" beside it. The function that it returns fails the test if the tree was touched.
func canary(t testing.TB) (dir string, check func()) {
	t.Helper()
	dir = t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "canary/d"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "canary/victim"), []byte("untouched"), 0o640))
	must(os.WriteFile(filepath.Join(dir, "canary/d/victim"), []byte("untouched"), 0o640))
	must(os.Symlink("victim", filepath.Join(dir, "canary/link")))
	for _, name := range []string{"victim", "d/victim", "d", "."} {
		must(os.Chtimes(filepath.Join(dir, "canary", name), time.Unix(5, 0), time.Unix(5, 0)))
	}
	state := func() string {
		var b strings.Builder
		must(filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if path == filepath.Join(dir, "root") {
				return fs.SkipDir
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			data, _ := os.ReadFile(path)
			if path == dir {
				fmt.Fprintln(&b, "top", info.Mode()) // its time changes with root
			} else {
				fmt.Fprintln(&b, path, info.Mode(), info.ModTime(), string(data))
			}
			return nil
		}))
		return b.String()
	}
	must(os.Mkdir(filepath.Join(dir, "root"), 0o755))
	before := state()
	return dir, func() {
		t.Helper()
		if after := state(); after != before {
			t.Errorf("outside of the target:\n%s\nwas\n%s", after, before)
		}
	}
}

// extract extracts to a directory beside a canary, and describes what is there then.
func extract(t testing.TB, layers []Layer) ([]string, error) {
	t.Helper()
	dir, check := canary(t)
	defer check()
	return extractTo(t, layers, filepath.Join(dir, "root"))
}

func extractTo(t testing.TB, layers []Layer, dir string) ([]string, error) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, _, err := Extract(t.Context(), root, layers, Options{}, ExtractOptions{Owners: os.Geteuid() == 0}); err != nil {
		return nil, err
	}
	return describeTree(t, pack.DirTree(dir)), nil
}

// describeTree lists a tree, sorted.
func describeTree(t testing.TB, tree tarutil.Tree) []string {
	t.Helper()
	var lines []string
	links := map[string][]string{} // all names, by the first
	err := tree.Walk(t.Context(), func(e tarutil.TreeEntry) error {
		hdr := e.Header
		if hdr.Name == "" {
			return nil
		}
		line := fmt.Sprintf("%s %c %o %d:%d %d.%09d", hdr.Name, hdr.Typeflag, hdr.Mode&0o7777, hdr.Uid, hdr.Gid, hdr.ModTime.Unix(), hdr.ModTime.Nanosecond())
		switch hdr.Typeflag {
		case tar.TypeReg:
			content, err := io.ReadAll(e.Content)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", content)
		case tar.TypeSymlink:
			line += " -> " + hdr.Linkname
		case tar.TypeLink:
			links[hdr.Linkname] = append(links[hdr.Linkname], hdr.Name)
			return nil
		case tar.TypeChar, tar.TypeBlock:
			line += fmt.Sprintf(" %d,%d", hdr.Devmajor, hdr.Devminor)
		}
		for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
			if !strings.HasPrefix(key, "SCHILY.xattr.") {
				continue
			}
			line += fmt.Sprintf(" %s=%q", key, hdr.PAXRecords[key])
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Which of its names a file comes under is not the same for all trees.
	for first, more := range links {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, first+" ") })
		_, rest, _ := strings.Cut(lines[i], " ")
		names := append(more, first)
		slices.Sort(names)
		lines[i] = strings.Join(names, "=") + " " + rest
	}
	slices.Sort(lines)
	return lines
}

// short describes a stack without attributes, and makes sure that a tar of it, and what is
// extracted of it, say the same.
func short(t testing.TB, layers []Layer) ([]string, error) {
	t.Helper()
	stack, err := Apply(t.Context(), layers, Options{})
	if err != nil {
		return nil, err
	}
	full := describeTree(t, stack)
	var buf, again bytes.Buffer
	if err := stack.WriteTar(t.Context(), &buf); err != nil {
		return nil, err
	}
	if err := stack.WriteTar(t.Context(), &again); err != nil || !bytes.Equal(buf.Bytes(), again.Bytes()) {
		t.Errorf("a second tar differs, %v", err)
	}
	if err := tartest.Check(&tarutil.Checker{}, buf.Bytes(), 4096); err != nil {
		t.Error(err)
	}
	if got := describeTree(t, tarutil.TarTree(bytes.NewReader(buf.Bytes()), "")); !slices.Equal(got, full) {
		t.Errorf("the tar has\n%s\nthe stack\n%s", strings.Join(got, "\n"), strings.Join(full, "\n"))
	}
	if runtime.GOOS == "linux" {
		got, err := extract(t, layers)
		if err != nil {
			return nil, err
		}
		if os.Geteuid() != 0 {
			got, full = withoutOwners(got), withoutOwners(full)
		}
		if !slices.Equal(got, full) {
			t.Errorf("extracted was\n%s\nthe stack has\n%s", strings.Join(got, "\n"), strings.Join(full, "\n"))
		}
	}
	return slices.Sorted(slices.Values(tartest.List(t, buf.Bytes()))), nil
}

// withoutOwners drops the fourth field of each line.
func withoutOwners(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		f := strings.SplitN(line, " ", 5)
		out[i] = strings.Join(append(f[:3:3], f[4:]...), " ")
	}
	return out
}

func TestApply(t *testing.T) {
	type layers = [][]string
	for _, test := range []struct {
		name   string
		layers layers
		want   string // joined by "; ", or "error: " and what it says
	}{
		{"one layer", layers{{"a/", "a/b x", "c -> a/b"}}, "a/; a/b x; c -> a/b"},
		{"no entries", layers{{}}, ""},
		{"replaced file", layers{{"a x"}, {"a y"}}, "a y"},
		{"directories above are made", layers{{"a/b/c x"}}, "a/; a/b/; a/b/c x"},
		{"names are cleaned", layers{{"./", "./a/", "./a//b x", "/c y"}}, "./; a/; a/b x; c y"},

		// Whiteouts.
		{"plain whiteout of a lower file", layers{{"a x", "b y"}, {".wh.a"}}, "b y"},
		{"whiteout of a directory", layers{{"a/", "a/b/", "a/b/c x"}, {".wh.a"}}, ""},
		{"whiteout after the file in the same layer keeps the file", layers{{"a x"}, {"a y", ".wh.a"}}, "a y"},
		{"whiteout before the file", layers{{"a x"}, {".wh.a", "a y"}}, "a y"},
		{"whiteout then a file in place of a directory", layers{{"x/", "x/y z"}, {".wh.x", "x w"}}, "x w"},
		{"whiteout after a file in the directory", layers{{"x/", "x/y z"}, {"x/n w", ".wh.x"}}, "x/; x/n w"},
		{"whiteout of nothing, nowhere", layers{{"a x"}, {"n/m/.wh.b"}}, "a x"},
		{"whiteout below a file", layers{{"a x"}, {"a/.wh.b"}}, "a x"},
		{"whiteout below a file of its layer", layers{{"a x", "a/.wh.b"}}, `error: "a" is not a directory`},
		{"opaque marker below a file of its layer", layers{{"a/b x"}, {"a/b y", "a/b/c/.wh..wh..opq"}}, `error: "a/b" is not a directory`},
		{"whiteout below a file that comes later", layers{{"a/.wh.b", "a x"}}, "a x"},
		{"whiteout in the lowest layer", layers{{".wh.a", "b x"}}, "b x"},
		{"opaque marker first", layers{{"d/", "d/a x", "d/s/", "d/s/b x"}, {"d/", "d/.wh..wh..opq", "d/n y"}}, "d/; d/n y"},
		{"opaque marker last", layers{{"d/", "d/a x", "d/s/", "d/s/b x"}, {"d/", "d/n y", "d/s/m z", "d/.wh..wh..opq"}}, "d/; d/n y; d/s/; d/s/m z"},
		{"opaque at the root, files before and after", layers{{"a x", "b/", "b/c x"}, {"n y", ".wh..wh..opq", "m z"}}, "m z; n y"},
		{"opaque in a directory that is not there", layers{{"a x"}, {"d/.wh..wh..opq"}}, "a x"},
		{"opaque keeps what the layer has, twice over", layers{{"d/a x"}, {"d/b y", "d/.wh..wh..opq", "d/.wh..wh..opq", "d/c z"}, {"d/.wh.b"}}, "d/; d/c z"},
		{"whiteout through a link", layers{{"e/", "e/x 1", "e/y 2", "d -> e"}, {"d/.wh.x"}}, "d -> e; e/; e/y 2"},
		// stereoscope#694: an opaque whiteout deleted what a link of the lower layer led to.
		{"opaque in a directory that replaces a link", layers{{"e/", "e/x 1", "d -> e"}, {"d/", "d/.wh..wh..opq", "d/n 2"}}, "d/; d/n 2; e/; e/x 1"},
		{"AUFS", layers{{".wh..wh.aufs", ".wh..wh.plnk/", ".wh..wh.plnk/1.2 x", "a x"}}, "a x"},
		{"whiteout without a name", layers{{"a/.wh."}}, `error: entry "a/.wh." at offset 0: path is not usable in an image: whiteout of ""`},
		{"whiteout of .", layers{{".wh.."}}, `error: whiteout of "."`},
		{"whiteout of ..", layers{{".wh..."}}, `error: whiteout of ".."`},
		{"file in a whiteout", layers{{".wh.a/b x"}}, `error: names that begin with ".wh." are whiteouts`},

		// ggcr#2002: a hard link had the content of the file that replaced the other name.
		{"replaced name of a hard link", layers{{"a x", "b = a"}, {"a y"}}, "a y; b x"},
		{"hard link to a lower file, whose name is then replaced", layers{{"a x"}, {"b = a"}, {"a y"}}, "a y; b x"},
		{"hard link, first name deleted", layers{{"a x", "b = a", "c = a"}, {".wh.a"}}, "b x; c = b"},
		{"hard link, all names deleted but one of another layer", layers{{"a x", "b = a"}, {"c = b"}, {".wh.a", ".wh.b"}}, "c x"},
		{"hard link over a file", layers{{"a x", "b y"}, {"b = a"}}, "a x; b = a"},
		{"hard link to itself", layers{{"a x"}, {"a = a"}}, "error: hard link to itself"},
		{"hard link twice", layers{{"a x", "b = a", "b = a"}}, "a x; b = a"},
		{"hard link of a hard link", layers{{"a x", "b = a", "c = b"}}, "a x; b = a; c = a"},
		{"hard link to a symbolic link", layers{{"l -> a", "m = l"}}, "l -> a; m = l"},
		{"hard link to a fifo", layers{{"p |", "q = p"}}, "p type 6 0:0; q = p"},
		{"hard link through a link", layers{{"d/", "d/a x", "e -> d", "b = e/a"}}, "b = d/a; d/; d/a x; e -> d"},
		// charliecloud#1280: targets of hard links that begin with a slash.
		{"hard link to an absolute path inside", layers{{"a x", "b = /a"}}, "a x; b = a"},
		{"hard link to a directory", layers{{"d/", "b = d"}}, `error: hard link to "d", which is a directory`},
		{"hard link to nothing", layers{{"b = a"}}, `error: hard link to "a", which is not there`},
		{"hard link to what comes later", layers{{"b = a", "a x"}}, "error: not there"},
		{"hard link that climbs", layers{{"b = ../a"}}, "error: climbs"},
		{"hard link to what was deleted", layers{{"a x"}, {".wh.a", "b = a"}}, "error: not there"},

		// Changes of type.
		{"directory by a file", layers{{"a/", "a/b x"}, {"a y"}}, "a y"},
		{"file by a directory", layers{{"a x"}, {"a/", "a/b y"}}, "a/; a/b y"},
		{"file by a directory without an entry", layers{{"a x"}, {"a/b y"}}, "a/; a/b y"},
		{"file and directory in one layer", layers{{"a x", "a/b y"}}, `error: "a" is not a directory`},
		{"symbolic link by a directory", layers{{"usr/lib/", "usr/lib/a x", "lib -> usr/lib"}, {"lib/", "lib/new y"}}, "lib/; lib/new y; usr/; usr/lib/; usr/lib/a x"},
		{"directory by a symbolic link", layers{{"lib/", "lib/a x"}, {"usr/lib/", "lib -> usr/lib"}}, "lib -> usr/lib; usr/; usr/lib/"},
		{"fifo by a file", layers{{"p |"}, {"p x"}}, "p x"},
		{"directory by a directory keeps what it holds", layers{{"a/", "a/b x"}, {"a/"}}, "a/; a/b x"},
		{"the same path twice: the last counts", layers{{"a x", "a y"}}, "a y"},
		{"directory and then file of a name: the last counts", layers{{"a/", "a/b x", "a y"}}, "a y"},

		// Links on the way.
		{"absolute link, as in every distribution", layers{{"run/", "var/", "var/run -> /run"}, {"var/run/pid 1"}}, "run/; run/pid 1; var/; var/run -> /run"},
		{"link that climbs stays at the root", layers{{"l -> ../../../../run/x"}, {"l/a y"}}, "l -> ../../../../run/x; run/; run/x/; run/x/a y"},
		{"link in one layer", layers{{"d -> e", "d/a x"}}, "d -> e; e/; e/a x"},
		{"link to a file on the way", layers{{"f x", "d -> f"}, {"d/a y"}}, `error: "f" is not a directory`},
		{"links in a circle", layers{{"a -> b", "b -> a", "a/x y"}}, "error: too many symbolic links"},
		{"link to itself", layers{{"a -> a"}, {"a/x y"}}, "error: too many symbolic links"},
		{"link replaced by a file", layers{{"v -> canary/victim", "v x"}}, "v x"},
		{"dangling link is kept", layers{{"l -> /nowhere/at/all"}}, "l -> /nowhere/at/all"}, // ggcr#2238
		{"lib is a link to a link", layers{{"usr/lib64/", "usr/lib -> lib64", "lib -> usr/lib"}, {"lib/a x"}}, "lib -> usr/lib; usr/; usr/lib -> lib64; usr/lib64/; usr/lib64/a x"},

		// Names.
		{"name that climbs", layers{{"../../x y"}}, "error: climbs"},
		{"name that climbs inside", layers{{"a/../b y"}}, "b y"},
		{"name that climbs from inside", layers{{"a/../../b y"}}, "error: climbs"},
		{"symbolic link named .", layers{{". -> x"}}, "error: the root can only be a directory"},
		{"file named /", layers{{"/ -> x"}}, "./"}, // by its slash it is a directory
		{"Windows specials", layers{{`..\..\x y`, "c: z"}}, `..\..\x y; c: z`},
		{"twins in case and normal form", layers{{"A 1", "a 2", "\u00e9 3", "e\u0301 4"}}, "A 1; a 2; e\u0301 4; \u00e9 3"},
		{"bytes that are not UTF-8", layers{{"\xff\xfe x"}}, "\xff\xfe x"},
		{"component of 255 bytes", layers{{strings.Repeat("n", 255) + " x"}}, strings.Repeat("n", 255) + " x"},
		{"component of 256 bytes", layers{{strings.Repeat("n", 256) + " x"}}, "error: a component of 256 bytes"},
		{"path of 5,000 bytes", layers{{strings.Repeat("n/", 2500) + "a x"}}, "error: over the limit of 4095"},
		{"link to 5,000 bytes", layers{{"l -> " + strings.Repeat("n", 5000)}}, "error: symbolic link to a path of 5000 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := short(t, layersOf(t, test.layers...))
			if text, ok := strings.CutPrefix(test.want, "error: "); ok {
				if err == nil || !strings.Contains(err.Error(), text) || !strings.HasPrefix(err.Error(), "layer ") {
					t.Errorf("got %q, %v; want an error with %q", got, err, text)
				}
				return
			}
			if err != nil || strings.Join(got, "; ") != test.want {
				t.Errorf("got %q, %v; want %q", strings.Join(got, "; "), err, test.want)
			}
		})
	}
}

// TestLongPath has a path that no single call of the system could take with the target in
// front of it.
func TestLongPath(t *testing.T) {
	for _, name := range []string{strings.Repeat("d/", 1999) + "ff", strings.Repeat(strings.Repeat("n", 99)+"/", 40)[:3999]} {
		dir, check := canary(t)
		root, err := os.OpenRoot(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Extract(t.Context(), root, layersOf(t, []string{name + " x"}), Options{}, ExtractOptions{}); err != nil {
			t.Error(err)
		}
		data, err := root.ReadFile(name)
		if err != nil || string(data) != "x" {
			t.Errorf("file at %d bytes: %q, %v", len(name), data, err)
		}
		check()
		if err := root.RemoveAll(strings.SplitN(name, "/", 2)[0]); err != nil {
			t.Error(err)
		}
		root.Close()
	}
}

// TestHostileLinks tries to get at a canary by its absolute and its relative path.
func TestHostileLinks(t *testing.T) {
	for _, test := range []struct {
		name   string
		layers func(abs string) [][]string
	}{
		{"absolute name", func(abs string) [][]string { return [][]string{{abs + "/pwned x"}} }},
		{"absolute link, then a file in it", func(abs string) [][]string { return [][]string{{"d -> " + abs, "d/pwned x", "d/victim x"}} }},
		{"relative link, then a file in it", func(string) [][]string { return [][]string{{"d -> ../canary", "d/pwned x", "d/victim x"}} }},
		{"over two layers", func(abs string) [][]string { return [][]string{{"d -> " + abs}, {"d/pwned x", "d/d/victim x"}} }},
		{"chain of links", func(abs string) [][]string {
			return [][]string{{"a -> b", "b -> c/d", "c/", "c/d -> " + abs}, {"a/victim x"}}
		}},
		{"link over a file, then the file", func(abs string) [][]string { return [][]string{{"v -> " + abs + "/victim", "v x"}} }},
		{"link, then a directory in its place", func(abs string) [][]string { return [][]string{{"d -> " + abs}, {"d/", "d/victim x"}} }},
		{"directory, then a link in its place, then a file", func(abs string) [][]string {
			return [][]string{{"d/", "d/victim x", "d -> " + abs, "d/victim y"}}
		}},
		{"whiteout through a link", func(abs string) [][]string { return [][]string{{"d -> " + abs}, {"d/.wh.victim", "d/.wh.d"}} }},
		{"opaque through a link", func(abs string) [][]string { return [][]string{{"d -> " + abs}, {"d/.wh..wh..opq"}} }},
		{"hard link to a link outside, then a file over it", func(abs string) [][]string {
			return [][]string{{"l -> " + abs + "/victim", "h = l"}, {"h x"}}
		}},
		{"hard link through a link", func(abs string) [][]string { return [][]string{{"d -> " + abs, "h = d/victim"}} }},
		{"hard link to an absolute path", func(abs string) [][]string { return [][]string{{"h = " + abs + "/victim"}} }},
		{"hard link that climbs", func(string) [][]string { return [][]string{{"h = ../canary/victim"}} }},
		{"link with a slash at its end", func(abs string) [][]string { return [][]string{{"d -> " + abs + "/", "d/ x"}, {"d/", "d/victim x"}} }},
		{"directory with the mode of nobody, over a link", func(abs string) [][]string { return [][]string{{"d -> " + abs}, {"d/d/"}} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, check := canary(t)
			layers := layersOf(t, test.layers(filepath.Join(dir, "canary"))...)
			got, err := extractTo(t, layers, filepath.Join(dir, "root"))
			t.Logf("%q, %v", got, err)
			check()
			if err != nil && !errors.Is(err, tarutil.ErrMalformed) && !errors.Is(err, tarutil.ErrBadPath) {
				t.Errorf("an error of the system: %v", err)
			}
		})
	}
}

// TestExtractAttributes has owners, modes, times, devices and extended attributes.
func TestExtractAttributes(t *testing.T) {
	mode := func(name string, flag byte, mode int64, more func(*tar.Header)) entry {
		e := entry{Header: tar.Header{Name: name, Typeflag: flag, Mode: mode, ModTime: time.Unix(1000, 0)}}
		if more != nil {
			more(&e.Header)
		}
		return e
	}
	at := func(sec, nano int64) func(*tar.Header) {
		return func(h *tar.Header) { h.ModTime = time.Unix(sec, nano) }
	}
	records := func(kv ...string) func(*tar.Header) {
		return func(h *tar.Header) {
			h.PAXRecords = map[string]string{}
			for i := 0; i < len(kv); i += 2 {
				h.PAXRecords["SCHILY.xattr."+kv[i]] = kv[i+1]
			}
		}
	}
	lower := []entry{
		mode("d0555/", tar.TypeDir, 0o555, at(7, 5)), mode("d0555/f", tar.TypeReg, 0o000, nil),
		mode("d0000/", tar.TypeDir, 0o000, nil), mode("d0000/f", tar.TypeReg, 0o7777, nil), mode("d0000/s/", tar.TypeDir, 0o1777, nil), mode("d0000/s/f", tar.TypeReg, 0o400, nil),
		mode("early", tar.TypeReg, 0o600, at(-1<<31+1, 0)), mode("fraction", tar.TypeReg, 0o600, at(-2, 500_000_001)),
		mode("overlay/", tar.TypeDir, 0o755, records("trusted.overlay.opaque", "y", "trusted.overlay.redirect", "/", "security.selinux", "x", "user.overlay.opaque", "y")),
		mode("link", tar.TypeSymlink, 0o777, func(h *tar.Header) { h.Linkname = "early"; h.ModTime = time.Unix(77, 3) }),
		mode("fifo", tar.TypeFifo, 0o622, at(88, 0)),
	}
	upper := []entry{mode("d0555/g", tar.TypeReg, 0o644, nil)} // its directory's time stays
	if os.Geteuid() == 0 {
		lower = append(lower,
			mode("owned", tar.TypeReg, 0o6755, func(h *tar.Header) { h.Uid, h.Gid = 65534, 2097152 }),
			mode("owned.link", tar.TypeSymlink, 0o777, func(h *tar.Header) { h.Uid, h.Gid, h.Linkname = 12, 34, "x" }))
	}
	if runtime.GOOS != "linux" {
		t.Skip("attributes are those of Linux")
	}
	layers := []Layer{bytesLayer("0", layerTar(t, lower)), bytesLayer("1", layerTar(t, upper))}
	stack, err := Apply(t.Context(), layers, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := describeTree(t, stack)
	dir, check := canary(t)
	old := tartest.Umask(0o077)
	got, err := extractTo(t, layers, filepath.Join(dir, "root"))
	tartest.Umask(old)
	check()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		got, want = withoutOwners(got), withoutOwners(want)
		want = strings.Split(strings.ReplaceAll(strings.Join(want, "\n"), " 7777 ", " 1777 "), "\n")
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	os.Chmod(filepath.Join(dir, "root/d0555"), 0o755) // so that it can be removed
	os.Chmod(filepath.Join(dir, "root/d0000"), 0o755)
}

// TestExtractStrangeTimes only has to succeed: file systems differ in what they can hold.
func TestExtractStrangeTimes(t *testing.T) {
	var list []entry
	for i, sec := range []int64{-1 << 40, 1 << 40, 1e18, -1, math.MinInt32, 1 << 34} {
		list = append(list, entry{Header: tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg, ModTime: time.Unix(sec, 999_999_999)}})
		list = append(list, entry{Header: tar.Header{Name: fmt.Sprint(i, "d/"), Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(sec, 1)}})
	}
	if _, err := extract(t, []Layer{bytesLayer("0", layerTar(t, list))}); err != nil {
		t.Error(err)
	}
}

// TestExtractDevices has no effect but a count where the user may not make them.
func TestExtractDevices(t *testing.T) {
	layer := layerTar(t, []entry{
		{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{Header: tar.Header{Name: "again", Typeflag: tar.TypeLink, Linkname: "null"}},
		{Header: tar.Header{Name: "setuid", Typeflag: tar.TypeReg, Mode: 0o6755}},
	})
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	_, done, err := Extract(t.Context(), root, []Layer{bytesLayer("0", layer)}, Options{}, ExtractOptions{})
	if want := (Extracted{Files: 1, Devices: 2, SetID: 1}); err != nil || done != want {
		t.Errorf("Extract = %+v, %v, want %+v", done, err, want)
	}
	if info, err := os.Stat(filepath.Join(dir, "setuid")); err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		t.Errorf("setuid: %v, %v", info.Mode(), err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("made %v", names)
	}
}

// TestApplyRefuses has layers that are damaged as tars, and headers out of range.
func TestApplyRefuses(t *testing.T) {
	good := layerTar(t, entries("a/", "a/b hello"))
	owner := func(uid, gid int64) []byte {
		return layerTar(t, []entry{{Header: tar.Header{Name: "a", Typeflag: tar.TypeReg, Uid: int(uid), Gid: int(gid)}}})
	}
	unknown := tartest.Patch(good, 0, tartest.AtType, "Z")
	huge := tartest.Patch(layerTar(t, entries("a x")), 0, tartest.AtSize, "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00") // 2^62
	badSum := bytes.Clone(good)
	badSum[512+tartest.AtSum]++
	for _, test := range []struct {
		name string
		data []byte
		want error
	}{
		{"cut in a file", good[:2*512+3], tarutil.ErrTruncated},
		{"cut in a header", good[:512+7], tarutil.ErrTruncated},
		{"random text", bytes.Repeat([]byte("random text "), 100), tarutil.ErrMalformed},
		{"no bytes", nil, tarutil.ErrEmpty},
		{"wrong checksum of the second header", badSum, tarutil.ErrMalformed},
		{"type flag Z", unknown, tarutil.ErrMalformed},
		{"size of 2^62", huge, tarutil.ErrTruncated},
		{"uid of 2^32, which would wrap to root", owner(1<<32, 0), tarutil.ErrMalformed},
		{"uid that means none", owner(math.MaxUint32, 0), tarutil.ErrMalformed},
		{"gid that means none", owner(0, math.MaxUint32), tarutil.ErrMalformed},
	} {
		if _, err := Apply(t.Context(), []Layer{bytesLayer("0", test.data)}, Options{}); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	for name, data := range map[string][]byte{
		"no end marker":                good[:len(good)-2*512],
		"another tar behind the first": append(bytes.Clone(good), layerTar(t, entries("evil x"))...),
	} {
		got, err := short(t, []Layer{bytesLayer("0", data)})
		if err != nil || strings.Join(got, "; ") != "a/; a/b hello" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	broken := errors.New("broken")
	for _, fail := range []Layer{
		{Name: "x", Open: func() (io.ReadCloser, error) { return nil, broken }},
		{Name: "x", Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(good), errReader{broken})), nil
		}},
	} {
		if _, err := Apply(t.Context(), []Layer{bytesLayer("0", good), fail, bytesLayer("2", good)}, Options{Workers: 1}); !errors.Is(err, broken) {
			t.Errorf("broken layer: %v", err)
		}
	}
	_, err := Apply(t.Context(), layersOf(t, []string{"a x", "b x", "c x"}), Options{MaxEntries: 2})
	if _, isEntry := errors.AsType[*EntryError](err); !errors.Is(err, tarutil.ErrTooMany) || isEntry {
		t.Errorf("over the limit: %v, of one entry: %t", err, isEntry)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Apply(ctx, []Layer{bytesLayer("0", good)}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// TestApplyBase flattens what is above a base, and compares with all layers.
func TestApplyBase(t *testing.T) {
	for _, test := range []struct {
		name   string
		layers [][]string
		want   string // the layer above the first
	}{
		{"nothing changes", [][]string{{"a x"}, {}}, ""},
		{"whiteout stays one", [][]string{{"a x", "b y"}, {".wh.a"}}, ".wh.a"},
		{"replaced, then deleted", [][]string{{"a x"}, {"a y"}, {".wh.a"}}, ".wh.a"},
		{"added, then deleted", [][]string{{"a x"}, {"b y"}, {".wh.b"}}, ""},
		{"deleted, then added", [][]string{{"a x"}, {".wh.a"}, {"a y"}}, "a y"},
		{"directory deleted, then added", [][]string{{"d/", "d/a x"}, {".wh.d"}, {"d/", "d/b y"}}, "d/; d/.wh..wh..opq; d/b y"},
		{"directory, file, directory", [][]string{{"d/", "d/a x"}, {"d y"}, {"d/"}}, "d/; d/.wh..wh..opq"},
		{"opaque", [][]string{{"d/", "d/a x", "d/b y"}, {"d/.wh..wh..opq", "d/c z"}}, "d/; d/.wh.a; d/.wh.b; d/c z"},
		{"directory of the base is not repeated, but leads there", [][]string{{"d/", "d/e/", "d/a x"}, {"d/e/n y"}}, "d/; d/e/; d/e/n y"},
		{"hard link to a file of the base", [][]string{{"a x"}, {"b = a"}}, "a x; b = a"},
		{"hard link to a file of the base that is deleted", [][]string{{"a x"}, {"b = a"}, {".wh.a"}}, ".wh.a; b x"},
		{"through a link of the base", [][]string{{"e/", "e/x 1", "d -> e"}, {"d/.wh.x", "d/y 2"}}, "e/; e/.wh.x; e/y 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			layers := layersOf(t, test.layers...)
			stack, err := Apply(t.Context(), layers, Options{Base: 1})
			if err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			if err := stack.WriteTar(t.Context(), &buf); err != nil {
				t.Fatal(err)
			}
			got := tartest.List(t, buf.Bytes())
			slices.Sort(got)
			if strings.Join(got, "; ") != test.want {
				t.Errorf("layer %q, want %q", strings.Join(got, "; "), test.want)
			}
			sameStack(t, layers, []Layer{layers[0], bytesLayer("flat", buf.Bytes())})
		})
	}
}

// sameStack compares what two stacks make up.
func sameStack(t testing.TB, a, b []Layer) {
	t.Helper()
	var lists [2][]string
	for i, layers := range [][]Layer{a, b} {
		stack, err := Apply(t.Context(), layers, Options{})
		if err != nil {
			t.Fatal(err)
		}
		lists[i] = describeTree(t, stack)
	}
	if !slices.Equal(lists[0], lists[1]) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lists[1], "\n"), strings.Join(lists[0], "\n"))
	}
}

func TestSelect(t *testing.T) {
	layers := layersOf(t, []string{"usr/", "usr/bin/", "usr/bin/dash #!", "usr/bin/sh -> dash", "bin -> usr/bin", "usr/bin/rbash = usr/bin/dash", "etc/", "etc/a 1", "etc/l -> /etc/a", "dangling -> no"})
	stack, err := Apply(t.Context(), layers, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ paths, want string }{
		{"etc", "etc/; etc/a 1; etc/l -> /etc/a"},
		{"/etc/", "etc/; etc/a 1; etc/l -> /etc/a"},
		{"etc/l", "etc/; etc/l 1"},
		{"etc/a etc", "etc/; etc/a 1; etc/l -> /etc/a"},
		{"bin/sh", "bin/; bin/sh #!"},
		{"bin", "bin/; bin/dash #!; bin/rbash = bin/dash; bin/sh -> dash"},
		{"usr/bin/rbash", "usr/; usr/bin/; usr/bin/rbash #!"},
		{"bin/dash usr/bin/dash", "bin/; bin/dash #!; usr/; usr/bin/; usr/bin/dash = bin/dash"},
	} {
		sel, err := stack.Select(strings.Fields(test.paths)...)
		if err != nil {
			t.Errorf("Select(%s): %v", test.paths, err)
			continue
		}
		var buf bytes.Buffer
		if err := sel.WriteTar(t.Context(), &buf); err != nil {
			t.Fatal(err)
		}
		got := tartest.List(t, buf.Bytes())
		slices.Sort(got)
		if strings.Join(got, "; ") != test.want {
			t.Errorf("Select(%s) has %q, want %q", test.paths, strings.Join(got, "; "), test.want)
		}
	}
	for _, path := range []string{"nowhere", "etc/a/b", "dangling", "bin/nothing"} {
		if _, err := stack.Select(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Select(%s): %v", path, err)
		}
	}
	if _, err := stack.Select("../x"); !errors.Is(err, tarutil.ErrBadPath) {
		t.Errorf("Select(../x): %v", err)
	}
	for name, want := range map[string]string{"bin/sh": "usr/bin/dash", "/bin/../bin/sh": "usr/bin/dash", "/": "", "etc/l": "etc/a", "../etc/a": "etc/a"} {
		if got, err := stack.Resolve(name); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
}

// TestOpenAfterError has layers that nobody waits for any more: they are not opened.
func TestOpenAfterError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	var opened atomic.Int32
	layer := layerTar(t, entries("a x"))
	layers := make([]Layer, 20)
	for i := range layers {
		layers[i] = Layer{Name: fmt.Sprint(i), Open: func() (io.ReadCloser, error) {
			if opened.Add(1) == 1 {
				cancel()
			}
			return io.NopCloser(bytes.NewReader(layer)), nil
		}}
	}

	_, err := Apply(ctx, layers, Options{Workers: 1})
	if n := opened.Load(); !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("%d of %d layers were opened, %v", n, len(layers), err)
	}
}

// TestWalkTwice reads a stack whose layer is another one the second time.
func TestWalkTwice(t *testing.T) {
	first, second := layerTar(t, entries("a x", "b y")), layerTar(t, entries("a/"))
	opened := 0
	layer := Layer{Name: "0", Open: func() (io.ReadCloser, error) {
		if opened++; opened > 1 {
			return io.NopCloser(bytes.NewReader(second)), nil
		}
		return io.NopCloser(bytes.NewReader(first)), nil
	}}
	stack, err := Apply(t.Context(), []Layer{layer}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := stack.WriteTar(t.Context(), io.Discard); !errors.Is(err, tarutil.ErrChanged) {
		t.Errorf("got %v, want %v", err, tarutil.ErrChanged)
	}
}
