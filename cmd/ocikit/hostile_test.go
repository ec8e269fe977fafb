package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"ocikit/digest/digesttest"
)

// rawHeader returns one header block, with a right checksum unless edit spoils it.
func rawHeader(name string, typeflag byte, size string, edit func(block []byte)) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], size)
	copy(b[136:], "00000000000\x00")
	b[156] = typeflag
	copy(b[257:], "ustar\x0000")
	if edit != nil {
		edit(b)
	}
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func octal(n int) string { return fmt.Sprintf("%011o\x00", n) }

func pad(s string) string { return s + strings.Repeat("\x00", (512-len(s)%512)%512) }

// pax returns an extended header with records as they are.
func pax(records string) string {
	return string(rawHeader("pax", 'x', octal(len(records)), nil)) + pad(records)
}

func record(key, value string) string {
	for n := len(key) + len(value) + 3; ; n++ {
		if r := fmt.Sprintf("%d %s=%s\n", n, key, value); len(r) == n {
			return r
		}
	}
}

var endMark = strings.Repeat("\x00", 1024)

// global returns a global extended header.
func global(records string) string {
	return string(rawHeader("pax_global_header", 'g', octal(len(records)), nil)) + pad(records)
}

func dir(name string) string {
	return string(rawHeader(name+"/", '5', octal(0), func(b []byte) { copy(b[100:], "0000755") }))
}

func file(name, content string) string {
	return string(rawHeader(name, '0', octal(len(content)), nil)) + pad(content)
}

const (
	accept = 1 << iota
	reject
)

// hostileTars are the inputs that commands which read tars must stand: each is taken
// faithfully or refused with status 1, by all of them alike.
func hostileTars() []struct {
	name, data string
	want       int
} {
	type c = struct {
		name, data string
		want       int
	}
	link := func(name, target string) string {
		return string(rawHeader(name, '1', octal(0), func(b []byte) { copy(b[157:], target) }))
	}
	badSum := []byte(file("b", "x"))
	badSum[148] ^= 1
	big := func(n uint64) string {
		b := make([]byte, 12)
		b[0] = 0x80
		for i := range 8 {
			b[11-i] = byte(n >> (8 * i))
		}
		return string(b)
	}
	sparse := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "s") + record("GNU.sparse.realsize", "1152921504606846976")
	return []c{
		{"control", file("a", "x") + endMark, accept},
		{"nothing but the end", endMark, accept},
		{"global header as of git archive", global(record("comment", "abc")) + file("a", "x") + endMark, accept},
		{"second tar behind the end", file("a", "x") + endMark + file("evil", "y") + endMark, accept},
		{"second header has a wrong checksum", file("a", "x") + string(badSum) + endMark, reject},
		{"type Z", string(rawHeader("z", 'Z', octal(0), nil)) + endMark, reject},
		{"size of 2^62", string(rawHeader("a", '0', big(1<<62), nil)) + endMark, reject},
		{"size that is negative", string(rawHeader("a", '0', "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", nil)) + endMark, reject},
		{"size that is not a number", string(rawHeader("a", '0', "xyz\x00", nil)) + endMark, reject},
		{"PAX size beyond the stream", pax(record("size", "4611686018427387904")) + file("a", "x") + endMark, reject},
		{"PAX size that is negative", pax(record("size", "-1")) + file("a", "x") + endMark, reject},
		{"PAX record that lies about its length", pax("99 path=x\n") + file("a", "x") + endMark, reject},
		{"PAX records of megabytes", pax(record("comment", strings.Repeat("c", 4<<20))) + file("a", "x") + endMark, reject},
		{"PAX header at the end", pax(record("path", "x")) + endMark, reject},
		{"sparse file of 1 EiB", pax(sparse) + file("s", "0\n") + endMark, reject},
		{"climbing name", file("../../etc/passwd", "x") + endMark, reject},
		{"absolute name", file("/etc/passwd", "x") + endMark, accept},
		{"hard link to a climbing path", link("l", "../../etc/passwd") + endMark, reject},
		{"hard link to what comes later", link("l", "a") + file("a", "x") + endMark, accept | reject},
		{"symlink named .", string(rawHeader(".", '2', octal(0), func(b []byte) { copy(b[157:], "/etc") })) + endMark, accept | reject},
		{"name with newline and escape", file("a\n\x1b[2Jb", "x") + endMark, accept},
		{"name that is not UTF-8", file("\xff\xfe", "x") + endMark, accept},
		{"NUL in a PAX path", pax(record("path", "a\x00b")) + file("a", "x") + endMark, reject},
		{"path of 4,000 bytes", pax(record("path", strings.Repeat("d/", 2000)+"f")) + file("a", "x") + endMark, accept},
		{"path of 100,000 bytes", pax(record("path", strings.Repeat("d/", 50_000)+"f")) + file("a", "x") + endMark, reject},
		{"component of 256 bytes", pax(record("path", strings.Repeat("n", 256))) + file("a", "x") + endMark, reject},
		{"attribute of 64 KiB and a byte", pax(record("SCHILY.xattr.user.a", strings.Repeat("v", 64<<10+1))) + file("a", "x") + endMark, reject},
		{"mtimes that are absurd", pax(record("mtime", "1000000000000000000")) + file("a", "x") + pax(record("mtime", "-1.5")) + file("b", "x") + endMark, accept},
		{"the same path twice", file("a", "x") + file("a", "y") + endMark, accept | reject},
		{"a directory and a file in it twice, as tar -r writes", dir("d") + file("d/a", "x") + file("d/a", "y") + endMark, reject},
		{"a directory twice", dir("d") + dir("d") + endMark, reject},
		{"hard link to itself", file("a", "x") + link("b", "b") + endMark, reject},
		{"hard link to a directory", dir("d") + link("b", "d") + endMark, reject},
		{"hard link named /", file("a", "x") + link("/", "a") + endMark, reject},
		{"symlink to nothing", string(rawHeader("l", '2', octal(0), nil)) + endMark, reject},
		{"file below a file", file("a", "x") + file("a/b", "x") + endMark, reject},
		{"name that climbs inside", file("a/../b", "x") + endMark, accept},
		{"name that climbs further than it went", file("a/../../b", "x") + endMark, reject},
		{"global header with a time and an owner", global(record("mtime", "12.5")+record("uid", "7")) + file("a", "x") + endMark, accept},
		{"global header with a path", global(record("path", "b")+record("linkpath", "c")) + file("a", "x") + endMark, reject},
		{"owner of 2^32-1", string(rawHeader("a", '0', octal(0), func(b []byte) { copy(b[108:], "\x80\x00\x00\x00\xff\xff\xff\xff") })) + endMark, reject},
		{"no end mark", file("a", "x"), reject},
		{"one zero block", file("a", "x") + endMark[:512], reject},
		{"cut in a file", file("a", strings.Repeat("x", 5000))[:2000], reject},
		{"cut in a header", file("a", "x")[:300], reject},
		{"random text", "this is not a tar\n" + strings.Repeat("nor this\n", 200), reject},
		{"gzip: three members, split in an entry", digesttest.Gzipped(file("a", "x")[:100]) + digesttest.Gzipped(file("a", "x")[100:700]) + digesttest.Gzipped(file("a", "x")[700:]+endMark), accept},
		{"gzip: zeros behind", digesttest.Gzipped(file("a", "x")+endMark) + endMark[:512], accept | reject},
		{"gzip: junk behind", digesttest.Gzipped(file("a", "x")+endMark) + "junk", reject},
		{"gzip: cut", digesttest.Gzipped(file("a", "x") + endMark)[:60], reject},
		{"gzip of gzip", digesttest.Gzipped(digesttest.Gzipped(file("a", "x") + endMark)), reject},
		{"gzip bomb", digesttest.Gzipped(string(rawHeader("z", '0', octal(64<<20), nil)) + strings.Repeat("\x00", 64<<20) + endMark), accept},
		{"xz", "\xfd7zXZ\x00" + strings.Repeat("x", 100), reject},
		{"zip", "PK\x03\x04" + strings.Repeat("x", 100), reject},
		{"empty", "", reject},
	}
}

// mended are the hostile tars that an order makes right.
var mended = map[string]bool{
	"the same path twice": true, "a directory twice": true, "a directory and a file in it twice, as tar -r writes": true,
	"hard link to what comes later": true,
}

// tarCommands take a tar from standard input.
var tarCommands = []string{
	"layer app --level 1",
	"layer app --compress estargz --level 1",
	"layer app --compress keep",
	"diffid",
	"config --layer -",
	"config app --layer -",
	"append app:base --level 1 -q",
	"retar -o out.tar",
	"retar --sort -o out.tar",
	"diff empty -",
	"diff empty - --layer -o out.tar",
}

// hostilePlace goes to a new directory with a layout, app, whose base is an image, and a directory
// that is empty.
func hostilePlace(t *testing.T) {
	t.Helper()
	before := ""
	t.Chdir(t.TempDir())
	os.Mkdir("empty", 0o755)
	if status, _, errs := runOcikit(t.Context(), strings.NewReader(""), "init", "app"); status != 0 {
		t.Fatal(errs)
	}
	os.WriteFile("base", []byte(file("etc/base", "x")+endMark), 0o644)
	for _, line := range []string{"layer app base", "config app", "manifest app", "tag app:base"} {
		status, out, errs := runOcikit(t.Context(), strings.NewReader(before), strings.Fields(line)...)
		if before = out; status != 0 {
			t.Fatal(errs)
		}
	}
}

// TestHostileTars is the table of commands and tars: what one of them refuses, all do.
func TestHostileTars(t *testing.T) {
	hostilePlace(t)
	for i, c := range hostileTars() {
		for j, args := range tarCommands {
			if (i+j)%digesttest.Reps(1, 11) != 0 { // -short: each tar meets one of the commands
				continue
			}
			want := c.want
			if strings.Contains(args, "--sort") && mended[c.name] {
				want = accept
			}
			if strings.Contains(args, "estargz") && c.name == "name that is not UTF-8" {
				want = reject // its table of contents is JSON
			}
			t.Run(c.name+"/"+args, func(t *testing.T) { checkHostile(t, c.data, strings.Fields(args), want) })
		}
	}
	if status, out, errs := runOcikit(t.Context(), strings.NewReader(""), "verify", "app"); status != 0 {
		t.Errorf("verify: status %d\n%s%s", status, out, errs)
	}
}

// An endless is a device of zeros, which is an empty tar at first sight. A reader that has taken more
// than any command should is told that it breaks.
type endless struct{ left int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.left -= int64(len(p)); e.left < 0 {
		return 0, errors.New("read on for ever")
	}
	clear(p)
	return len(p), nil
}

// TestEndlessTars is the table of commands for a tar whose end never comes: all of them give it up, and
// none keeps what it read.
func TestEndlessTars(t *testing.T) {
	hostilePlace(t)
	for i, line := range append([]string{"load app", "unbundle app", "inspect -", "files -", "copy - app:new", "extract - new", "inventory -"}, tarCommands...) {
		if i%digesttest.Reps(1, 4) != 0 {
			continue
		}
		status, _, errs := runOcikit(t.Context(), &endless{100 << 20}, strings.Fields(line)...)
		if status != 1 || !strings.Contains(errs, "67108864 bytes behind its end") {
			t.Errorf("%s: status %d, %q", line, status, errs)
		}
		for _, left := range []string{"out.tar", "new"} {
			if _, err := os.Lstat(left); err == nil {
				t.Errorf("%s: %s was left behind", line, left)
			}
		}
	}
}

// TestHostileTarsWhy compares each tar with a good one, and with itself: names that no image may have
// are no matter there.
func TestHostileTarsWhy(t *testing.T) {
	hostilePlace(t)
	for _, c := range hostileTars() {
		t.Run(c.name, func(t *testing.T) {
			checkHostile(t, c.data, []string{"why", "base", "-"}, accept|reject)
			if err := os.WriteFile("hostile", []byte(c.data), 0o644); err != nil {
				t.Fatal(err)
			}
			checkHostile(t, c.data, []string{"why", "hostile", "-"}, accept|reject)
			os.Remove("hostile")
		})
	}
}

// checkHostile runs one command on hostile input: it must end, in bounded memory, with
// an expected status, one line if it fails, and nothing left behind. It reports whether the command
// took the input.
func checkHostile(t *testing.T, input string, args []string, want int) (ok bool) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	status, out, errs := runOcikit(t.Context(), strings.NewReader(input), args...)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
		t.Errorf("it allocated %d MiB", grown>>20)
	}
	compares := args[0] == "diff" && len(args) == 3 || args[0] == "why"
	ok = status == 0 || compares && status == 1 && errs == ""
	if ok && want&accept == 0 || !ok && want&reject == 0 || !ok && status != 1 {
		t.Errorf("status %d, %q", status, errs)
	}
	if !ok && (strings.Count(errs, "\n") > 2 || errs == "" || out != "" && !compares) {
		t.Errorf("stdout %q, stderr %q: want nothing and one line", out, errs)
	}
	if strings.ContainsAny(out+errs, "\x1b\x00") {
		t.Errorf("a control character was printed: %q %q", out, errs)
	}
	if _, err := os.Stat("out.tar"); err == nil {
		if !ok {
			t.Error("out.tar was left behind")
		} else if err := readableTar("out.tar"); err != nil {
			t.Errorf("out.tar: %v", err)
		}
		os.Remove("out.tar")
	}
	if left, _ := filepath.Glob("app/.ocikit*"); len(left) > 0 {
		t.Errorf("%q were left behind", left)
	}
	return ok
}

func readableTar(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
