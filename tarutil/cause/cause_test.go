package cause

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
)

// base is a small tree.
func base() []tartest.Entry {
	at := time.Unix(1700000000, 0)
	entry := func(name string, flag byte, content string) tartest.Entry {
		h := tar.Header{Name: name, Typeflag: flag, Mode: 0o755, Uid: 1, Gid: 2, Uname: "u", Gname: "g", ModTime: at}
		return tartest.Entry{Header: h, Content: content}
	}
	link := entry("d/l", tar.TypeSymlink, "")
	link.Linkname = "b"
	device := entry("d/null", tar.TypeChar, "")
	device.Devmajor, device.Devminor = 1, 3
	return []tartest.Entry{entry("d/", tar.TypeDir, ""), entry("d/b", tar.TypeReg, "bb"), entry("d/c", tar.TypeReg, strings.Repeat("c", 3000)), link, device, entry("e", tar.TypeReg, "e")}
}

// words says causes as the tests want them.
func words(causes []Cause) (list []string) {
	for _, c := range causes {
		s := fmt.Sprintf("%s %d %s", c.Kind, c.Count, c.Path)
		if c.Detail != "" {
			s += " " + c.Detail
		}
		if c.Inside.What != "" {
			s += " " + string(c.Inside.What)
		}
		list = append(list, s)
	}
	return list
}

func compare(t testing.TB, a, b []byte) []Cause {
	t.Helper()
	causes, err := Tars(t.Context(), iotest.HalfReader(bytes.NewReader(a)), bytes.NewReader(b), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return causes
}

// Each pair differs in one way, or in two that are both told. The other way round it is the same.
func TestTars(t *testing.T) {
	plain := tartest.TarIn(t, tar.FormatUSTAR, base()...)
	edit := func(change func(list []tartest.Entry) []tartest.Entry) []byte {
		return tartest.TarIn(t, tar.FormatUnknown, change(base())...)
	}
	each := func(change func(h *tar.Header)) []byte {
		return edit(func(list []tartest.Entry) []tartest.Entry {
			for i := range list {
				change(&list[i].Header)
			}
			return list
		})
	}
	one := func(i int, change func(e *tartest.Entry)) []byte {
		return edit(func(list []tartest.Entry) []tartest.Entry { change(&list[i]); return list })
	}
	for _, tt := range []struct {
		name  string
		other []byte
		want  []string
	}{
		{"the same", bytes.Clone(plain), nil},
		{"a file more", edit(func(l []tartest.Entry) []tartest.Entry {
			l[1].Name = "d/a"
			return append(base()[:1], append(l[1:2], base()[1:]...)...)
		}), []string{"only-there 1 d/a"}},
		{"reversed", edit(func(l []tartest.Entry) []tartest.Entry { slices.Reverse(l); return l }), []string{"order 6 d"}},
		{"two swapped", edit(func(l []tartest.Entry) []tartest.Entry { l[1], l[2] = l[2], l[1]; return l }), []string{"order 2 d/b"}},
		{"a file is a fifo", one(5, func(e *tartest.Entry) { e.Typeflag, e.Content = tar.TypeFifo, "" }), []string{"type 1 e"}},
		{"content", one(1, func(e *tartest.Entry) { e.Content = "bB" }), []string{"content 1 d/b"}},
		{"longer content", one(1, func(e *tartest.Entry) { e.Content = "bbb" }), []string{"content 1 d/b"}},
		{"no content", one(5, func(e *tartest.Entry) { e.Content = "" }), []string{"content 1 e"}},
		{"target", one(3, func(e *tartest.Entry) { e.Linkname = "c" }), []string{"link 1 d/l"}},
		{"device", one(4, func(e *tartest.Entry) { e.Devminor = 5 }), []string{"device 1 d/null"}},
		{"umask", each(func(h *tar.Header) { h.Mode |= 0o020 }), []string{"mode 6 d umask"}},
		{"setuid", one(2, func(e *tartest.Entry) { e.Mode = 0o4755 }), []string{"mode 1 d/c"}},
		{"owner", each(func(h *tar.Header) { h.Uid, h.Uname = 1000, "app" }), []string{"owner 6 d"}},
		{"large owner, which needs a record", each(func(h *tar.Header) { h.Uid = 1 << 30 }), []string{"owner 6 d"}},
		{"names of owners", each(func(h *tar.Header) { h.Uname, h.Gname = "", "" }), []string{"owner-names 6 d"}},
		{"time", one(0, func(e *tartest.Entry) { e.ModTime = e.ModTime.Add(1e9) }), []string{"times 1 d"}},
		{"name with ./", each(func(h *tar.Header) { h.Name = "./" + h.Name }), []string{"names 6 d"}},
		{"xattr", one(1, func(e *tartest.Entry) { e.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1"} }), []string{"xattrs 1 d/b user.a"}},
		{"GNU", tartest.TarIn(t, tar.FormatGNU, base()...), []string{"form 6 d"}},
		{"PAX with times of access", func() []byte {
			list := base()
			for i := range list {
				list[i].AccessTime = time.Unix(5, 0)
			}
			return tartest.Tar(t, list...)
		}(), []string{"form 6 d"}},
		{"a number with a blank behind it", tartest.Patch(plain, 0, 100, "000755 \x00"), []string{"form 1 d mode"}},
		{"more zeros behind it", append(bytes.Clone(plain), make([]byte, 512)...), []string{"end 1 "}},
		{"no end", plain[:len(plain)-1024], []string{"end 1 "}},
		{"other bytes behind it", append(bytes.Clone(plain), "x"...), []string{"end 1 "}},
		{"padding", func() []byte { p := bytes.Clone(plain); p[1024+100] = 1; return p }(), []string{"padding 1 d/c"}},
		{"times and owners", each(func(h *tar.Header) { h.Uid = 7; h.ModTime = time.Unix(0, 0) }), []string{"owner 6 d", "times 6 d"}},
		{"content and order", edit(func(l []tartest.Entry) []tartest.Entry { l[5].Content = "E"; slices.Reverse(l); return l }), []string{"order 6 d", "content 1 e"}},
	} {
		if got := words(compare(t, plain, tt.other)); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, got, tt.want)
		}
		back := words(compare(t, tt.other, plain))
		for i := range back {
			back[i] = strings.Replace(strings.Replace(back[i], "only-here", "only-there", 1), "order 6 e", "order 6 d", 1)
			back[i] = strings.Replace(back[i], "order 2 d/c", "order 2 d/b", 1)
		}
		if !slices.Equal(back, tt.want) {
			t.Errorf("%s, the other way round:\ngot  %q\nwant %q", tt.name, back, tt.want)
		}
	}
}

// What a cause says of its entries.
func TestCauses(t *testing.T) {
	a := tartest.Tar(t, base()...)
	shifted := base()
	for i := range shifted {
		shifted[i].ModTime = shifted[i].ModTime.Add(time.Hour)
	}
	c := compare(t, a, tartest.Tar(t, shifted...))[0]
	if c.Shift != time.Hour || !c.SameHere || !c.SameThere {
		t.Errorf("shifted by an hour: %+v", c)
	}
	fractions := base()
	for i := range fractions {
		fractions[i].ModTime = fractions[i].ModTime.Add(5e8)
	}
	if c := compare(t, a, tartest.Tar(t, fractions...)); len(c) != 1 || c[0].Detail != "fraction" {
		t.Errorf("fractions: %q", words(c))
	}
	content := base()
	content[2].Content = strings.Repeat("c", 2000) + "d" + strings.Repeat("c", 999)
	if c := compare(t, a, tartest.Tar(t, content...)); len(c) != 1 || c[0].Offset != 2000 || c[0].Here != "3000" {
		t.Errorf("content: %+v", c)
	}
	slices.Reverse(content)
	if c := compare(t, a, tartest.Tar(t, content...)); len(c) != 2 || c[1].Offset != 2000 || !c[0].SameHere || c[0].SameThere {
		t.Errorf("content in another order: %+v", c)
	}
}

func zipped(t *testing.T, at time.Time, names ...string) string {
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for _, n := range names {
		w, err := zw.CreateHeader(&zip.FileHeader{Name: n, Modified: at})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, n)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func gzipped(content string, level int, at time.Time, name string) string {
	var buf bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&buf, level)
	zw.ModTime, zw.Name = at, name
	io.WriteString(zw, content)
	zw.Close()
	return buf.String()
}

// member returns a member of an ar archive.
func member(name, at string, owner int, content string) string {
	return fmt.Sprintf("%-16s%-12s%-6d%-6d%-8s%-10d`\n%s", name, at, owner, 0, "100644", len(content), content)
}

func ar(at string, content string) string { return arMagic + member("a.o/", at, 0, content) }

func TestInside(t *testing.T) {
	early, late := time.Unix(1e9, 0), time.Unix(1.1e9, 0)
	text := strings.Repeat("some words that can be compressed, ", 99)
	system := func(file string, os byte) string { return file[:9] + string(os) + file[10:] } // in the header
	pyc := func(at string) string { return "\xcb\r\r\n\x00\x00\x00\x00" + at + "\x05\x00\x00\x00code" }
	for _, tt := range []struct {
		name, a, b string
		want       InsideKind
	}{
		{"a.gz", gzipped(text, 6, early, ""), gzipped(text, 6, late, ""), GzipTime},
		{"a.gz", gzipped(text, 6, early, "x"), gzipped(text, 6, early, "y"), GzipName},
		{"a.gz", gzipped(text, 6, early, "x"), system(gzipped(text, 6, early, "x"), 3), GzipForm},
		{"a.gz", gzipped(text, 6, early, ""), system(gzipped(text, 6, late, ""), 3), GzipTime},
		{"a.gz", gzipped(text, 1, early, ""), gzipped(text, 0, early, ""), GzipCompression},
		{"a.gz", gzipped(text, 6, early, ""), gzipped(text+"!", 6, early, ""), GzipContent},
		{"a.jar", zipped(t, early, "x", "y"), zipped(t, late, "x", "y"), ZipTimes},
		{"a.jar", zipped(t, early, "x", "y"), zipped(t, early, "y", "x"), ZipOrder},
		{"a.jar", zipped(t, early, "x"), zipped(t, early, "x", "y"), ZipContent},
		{"a.a", ar("1", "object"), ar("2", "object"), ArTimes},
		{"a.a", ar("1", "object"), ar("1", "Object"), ArContent},
		{"x.pyc", pyc("\x01\x00\x00\x00"), pyc("\x02\x00\x00\x00"), PycTime},
		{"x.pyc", pyc("\x01\x00\x00\x00"), pyc("\x01\x00\x00\x00") + "x", ""},
		{"a.gz", "\x1f\x8bgarbage", "\x1f\x8bother", ""},
		{"a.jar", "PK\x03\x04 garbage", "PK\x03\x04 other", ""},
		{"a.a", ar("1", "object"), ar("1", "object") + member("b.o/", "1", 0, "more"), ArContent},
		{"a.a", ar("1", "object"), ar("2", "object") + member("b.o/", "1", 0, "more"), ArContent},
		{"a.a", ar("1", "object"), ar("1", "object") + "tail", ""},
		{"a.a", ar("1", "object"), arMagic + member("a.o/", "1", 7, "object"), ArOwners},
		{"a.a", ar("1", "object"), arMagic + member("a.o/", "2", 7, "object"), ArOwners},
		{"a.a", ar("1", "odd") + "\n" + member("b.o/", "1", 0, "x"), ar("1", "odd") + "\n" + member("b.o/", "2", 0, "x"), ArTimes},
		{"a.a", ar("1", "object"), arMagic + member("a.o/", "1", 7, "Object"), ArContent},
		{"a.a", arMagic + "short", arMagic + "other", ""},
		{"a.a", ar("1", "object")[:70], ar("2", "object")[:70], ""},
		{"prog", "\x7fELF garbage", "\x7fELF other", ""},
		{"mixed", "\x1f\x8bgarbage", "\x7fELF other", ""},
	} {
		for _, both := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			file := func(content string) []byte {
				e := tartest.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: tt.name}, Content: content}
				return tartest.TarIn(t, tar.FormatUSTAR, e)
			}
			c := compare(t, file(both[0]), file(both[1]))
			if len(c) != 1 || c[0].Inside.What != tt.want {
				t.Errorf("%s: %q, want %s", tt.name, words(c), tt.want)
			}
		}
	}
}

// A member that one archive has alone is named, and tables of the archive too.
func TestInsideArNames(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{ar("1", "object"), ar("1", "object") + member("b.o/", "1", 0, "more"), "b.o"},
		{arMagic + member("/", "1", 0, "symbols!"), arMagic + member("/", "1", 0, "symbols?"), "/"},
	} {
		if got := lookInside("a.a", []byte(tt.a), []byte(tt.b)); got.Name != tt.want {
			t.Errorf("got %+v, want the member %q", got, tt.want)
		}
	}

	in := lookInside("a.a", []byte(ar("1", "x")), []byte(arMagic+member("a.o/", "1", 7, "x")))
	if in.Here != "0:0 100644" || in.There != "7:0 100644" {
		t.Errorf("owners %q and %q", in.Here, in.There)
	}
}

// Tars in any order of any headers: equal bytes give no cause, other bytes always one, and each of
// the changes that was made is among them.
func TestRandomTars(t *testing.T) {
	for seed := range uint64(tartest.Reps(400, 60)) {
		r := rand.New(rand.NewPCG(seed, 7))
		format := []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU}[r.IntN(3)]
		var list []tartest.Entry
		for i := range 1 + r.IntN(20) {
			e := base()[r.IntN(6)]
			e.Name = fmt.Sprintf("%s%d", strings.Repeat("x", r.IntN(90)+1), i)
			list = append(list, e)
		}
		a := tartest.TarIn(t, format, list...)
		other := slices.Clone(list)
		want := map[Kind]bool{}
		for range r.IntN(4) {
			i := r.IntN(len(other))
			switch r.IntN(4) {
			case 0:
				if other[i].Mode == list[0].Mode {
					other[i].Mode = 0o600
				}
				want[Modes] = true
			case 1:
				other[i].ModTime = time.Unix(1, 0)
				want[Times] = true
			case 2:
				other[i].Uid = 77
				want[Owners] = true
			case 3:
				r.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
			}
		}
		b := tartest.TarIn(t, format, other...)
		got := compare(t, a, b)
		if (len(got) == 0) != bytes.Equal(a, b) {
			t.Fatalf("seed %d: %q, and the bytes are equal: %t", seed, words(got), bytes.Equal(a, b))
		}
		for kind := range want {
			if !slices.ContainsFunc(got, func(c Cause) bool { return c.Kind == kind }) {
				t.Errorf("seed %d: %q, want %s among them", seed, words(got), kind)
			}
		}
	}
}

func TestTarsRefuses(t *testing.T) {
	good := tartest.TarIn(t, tar.FormatUSTAR, base()...)
	for name, bad := range map[string][]byte{"cut": good[:700], "no tar": []byte(strings.Repeat("x", 600)), "flipped": tartest.Patch(good, 0, 124, "xxx")} {
		for _, there := range []bool{false, true} {
			a, b := bad, good
			if there {
				a, b = good, bad
			}
			_, err := Tars(t.Context(), bytes.NewReader(a), bytes.NewReader(b), Options{})
			var side *SideError
			if !errors.As(err, &side) || side.There != there || !errors.Is(err, tarutil.ErrMalformed) && !errors.Is(err, tarutil.ErrTruncated) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	_, err := Tars(t.Context(), bytes.NewReader(good), iotest.ErrReader(io.ErrClosedPipe), Options{})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("reader that fails: %v", err)
	}
}

// Orders that lie apart are bounded in memory, and that is said.
func TestTarsApart(t *testing.T) {
	var list []tartest.Entry
	for i := range 200 {
		list = append(list, tartest.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("f%03d", i)}, Content: "x"})
	}
	a := tartest.TarIn(t, tar.FormatUSTAR, list...)
	slices.Reverse(list)
	b := tartest.TarIn(t, tar.FormatUSTAR, list...)
	causes, err := Tars(t.Context(), bytes.NewReader(a), bytes.NewReader(b), Options{MaxMemory: 20 << 10})
	if err != nil || !slices.Equal(words(causes[len(causes)-1:]), []string{fmt.Sprintf("apart %d ", causes[len(causes)-1].Count)}) {
		t.Errorf("%q, %v", words(causes), err)
	}
	if causes := compare(t, a, b); !slices.Equal(words(causes), []string{"order 200 f000"}) {
		t.Errorf("%q", words(causes))
	}
}

// FuzzTars holds that no input panics, and that the answer agrees with the bytes.
func FuzzTars(f *testing.F) {
	f.Add(tartest.Layer(f, "d/", "d/a 1", "l -> d/a"), tartest.Layer(f, "d/", "l -> d/a", "d/a 2"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		causes, err := Tars(t.Context(), bytes.NewReader(a), bytes.NewReader(b), Options{})
		if err == nil && len(causes) == 0 && !bytes.Equal(a, b) {
			t.Errorf("no cause, and the bytes differ")
		}
		if err == nil && len(causes) > 0 && bytes.Equal(a, b) {
			t.Errorf("%q, and the bytes are equal", words(causes))
		}
	})
}
