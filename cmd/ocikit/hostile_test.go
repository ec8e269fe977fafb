package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
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

func file(name, content string) string {
	return string(rawHeader(name, '0', octal(len(content)), nil)) + pad(content)
}

func gzipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return b.String()
}

const (
	accept = 1 << iota
	reject
)

// hostileTars are the inputs that commands which read tars must stand: each is taken
// faithfully or refused with status 1.
func hostileTars() []struct {
	name, data string
	want       int // of layer and diffid
	rewrite    int // of retar and diff
} {
	type c = struct {
		name, data string
		want       int
		rewrite    int
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
		{"control", file("a", "x") + endMark, accept, accept},
		{"nothing but the end", endMark, accept, accept},
		{"global header as of git archive", string(rawHeader("pax_global_header", 'g', octal(len(record("comment", "abc"))), nil)) + pad(record("comment", "abc")) + file("a", "x") + endMark, accept, accept},
		{"second tar behind the end", file("a", "x") + endMark + file("evil", "y") + endMark, accept, accept},
		{"second header has a wrong checksum", file("a", "x") + string(badSum) + endMark, reject, reject},
		{"type Z", string(rawHeader("z", 'Z', octal(0), nil)) + endMark, accept | reject, accept | reject},
		{"size of 2^62", string(rawHeader("a", '0', big(1<<62), nil)) + endMark, reject, reject},
		{"size that is negative", string(rawHeader("a", '0', "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", nil)) + endMark, reject, reject},
		{"size that is no number", string(rawHeader("a", '0', "xyz\x00", nil)) + endMark, reject, reject},
		{"PAX size beyond the stream", pax(record("size", "4611686018427387904")) + file("a", "x") + endMark, reject, reject},
		{"PAX size that is negative", pax(record("size", "-1")) + file("a", "x") + endMark, reject, reject},
		{"PAX record that lies about its length", pax("99 path=x\n") + file("a", "x") + endMark, reject, reject},
		{"PAX records of megabytes", pax(record("comment", strings.Repeat("c", 4<<20))) + file("a", "x") + endMark, reject, reject},
		{"PAX header at the end", pax(record("path", "x")) + endMark, reject, reject},
		{"sparse file of 1 EiB", pax(sparse) + file("s", "0\n") + endMark, accept | reject, reject},
		{"climbing name", file("../../etc/passwd", "x") + endMark, accept, reject},
		{"absolute name", file("/etc/passwd", "x") + endMark, accept, accept},
		{"hard link to a climbing path", string(rawHeader("l", '1', octal(0), func(b []byte) { copy(b[157:], "../../etc/passwd") })) + endMark, accept, reject},
		{"hard link to what comes later", string(rawHeader("l", '1', octal(0), func(b []byte) { copy(b[157:], "a") })) + file("a", "x") + endMark, accept, accept | reject},
		{"symlink named .", string(rawHeader(".", '2', octal(0), func(b []byte) { copy(b[157:], "/etc") })) + endMark, accept, accept | reject},
		{"name with newline and escape", file("a\n\x1b[2Jb", "x") + endMark, accept, accept},
		{"name that is not UTF-8", file("\xff\xfe", "x") + endMark, accept, accept},
		{"NUL in a PAX path", pax(record("path", "a\x00b")) + file("a", "x") + endMark, accept | reject, reject},
		{"path of 4,000 bytes", pax(record("path", strings.Repeat("d/", 2000)+"f")) + file("a", "x") + endMark, accept, accept},
		{"path of 100,000 bytes", pax(record("path", strings.Repeat("d/", 50_000)+"f")) + file("a", "x") + endMark, accept, reject},
		{"component of 256 bytes", pax(record("path", strings.Repeat("n", 256))) + file("a", "x") + endMark, accept, reject},
		{"attribute of 64 KiB and a byte", pax(record("SCHILY.xattr.user.a", strings.Repeat("v", 64<<10+1))) + file("a", "x") + endMark, accept, reject},
		{"mtimes that are absurd", pax(record("mtime", "1000000000000000000")) + file("a", "x") + pax(record("mtime", "-1.5")) + file("b", "x") + endMark, accept, accept},
		{"the same path twice", file("a", "x") + file("a", "y") + endMark, accept, accept | reject},
		{"no end mark", file("a", "x"), reject, reject},
		{"one zero block", file("a", "x") + endMark[:512], reject, reject},
		{"cut in a file", file("a", strings.Repeat("x", 5000))[:2000], reject, reject},
		{"cut in a header", file("a", "x")[:300], reject, reject},
		{"random text", "this is not a tar\n" + strings.Repeat("nor this\n", 200), reject, reject},
		{"gzip: three members, split in an entry", gzipped(file("a", "x")[:100]) + gzipped(file("a", "x")[100:700]) + gzipped(file("a", "x")[700:]+endMark), accept, accept},
		{"gzip: zeros behind", gzipped(file("a", "x")+endMark) + endMark[:512], accept | reject, accept | reject},
		{"gzip: junk behind", gzipped(file("a", "x")+endMark) + "junk", reject, reject},
		{"gzip: cut", gzipped(file("a", "x") + endMark)[:60], reject, reject},
		{"gzip of gzip", gzipped(gzipped(file("a", "x") + endMark)), reject, reject},
		{"gzip bomb", gzipped(string(rawHeader("z", '0', octal(64<<20), nil)) + strings.Repeat("\x00", 64<<20) + endMark), accept, accept},
		{"xz", "\xfd7zXZ\x00" + strings.Repeat("x", 100), reject, reject},
		{"zip", "PK\x03\x04" + strings.Repeat("x", 100), reject, reject},
		{"empty", "", reject, reject},
	}
}

func TestHostileTars(t *testing.T) {
	work := t.TempDir()
	t.Chdir(work)
	os.Mkdir("empty", 0o755)
	if status, _, errs := runOcikit(t.Context(), strings.NewReader(""), "init", "app"); status != 0 {
		t.Fatal(errs)
	}
	for i, c := range hostileTars() {
		for j, cmd := range []struct {
			args []string
			want int
		}{
			{[]string{"layer", "app", "--level", "1"}, c.want},
			{[]string{"layer", "app", "--compress", "estargz", "--level", "1"}, accept | reject},
			{[]string{"diffid"}, c.want},
			{[]string{"retar", "-o", "out.tar"}, c.rewrite},
			{[]string{"diff", "empty", "-"}, c.rewrite},
			{[]string{"diff", "empty", "-", "--layer", "-o", "out.tar"}, c.rewrite},
		} {
			if (i+j)%reps(1, 6) != 0 { // -short: each tar meets one of the commands
				continue
			}
			name := c.name + "/" + strings.Join(cmd.args, " ")
			t.Run(name, func(t *testing.T) {
				want := cmd.want
				if cmd.args[0] == "diffid" && (c.name == "no end mark" || c.name == "one zero block") {
					want = accept // as layers by old versions of Docker are
				}
				checkHostile(t, c.data, cmd.args, want)
			})
		}
	}
	if status, out, errs := runOcikit(t.Context(), strings.NewReader(""), "verify", "app"); status != 0 {
		t.Errorf("verify: status %d\n%s%s", status, out, errs)
	}
}

// checkHostile runs one command on hostile input: it must end soon, in bounded memory, with
// an expected status, one line if it fails, and nothing left behind.
func checkHostile(t *testing.T, input string, args []string, want int) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	status, out, errs := runOcikit(t.Context(), strings.NewReader(input), args...)
	runtime.ReadMemStats(&after)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
		t.Errorf("it allocated %d MiB", grown>>20)
	}
	ok := status == 0 || args[0] == "diff" && len(args) == 3 && status == 1 && errs == ""
	if ok && want&accept == 0 || !ok && want&reject == 0 || !ok && status != 1 {
		t.Errorf("status %d, %q", status, errs)
	}
	if !ok && (strings.Count(errs, "\n") > 2 || errs == "" || out != "" && args[0] != "diff") {
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
