package estargz

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/tarutil"
	"ocikit/tarutil/internal/tartest"
)

// content returns n bytes that compress a little, others for each seed.
func content(n int, seed uint32) []byte {
	b := make([]byte, n)
	x := seed*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x>>24) & 0x3f
	}
	return b
}

// bigTar returns a tar with every kind of entry, also files of more than one chunk.
func bigTar(t testing.TB) []byte {
	return makeTar(t, []int{0, 1, 511, 512, 513, 70000, chunkSize, 2*chunkSize + 12345})
}

// sampleTar returns one with small files only. The files named in extra are added.
func sampleTar(t testing.TB, extra ...string) []byte {
	return makeTar(t, []int{0, 1, 512, 70000}, extra...)
}

func makeTar(t testing.TB, sizes []int, extra ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(data)
	}
	when := time.Unix(1700000000, 0)
	add(tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, nil)
	add(tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755, ModTime: when, Uname: "root"}, nil)
	for i, n := range sizes {
		add(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("etc/file-%d", n), ModTime: when, Uid: 7, Uname: "u"},
			content(n, uint32(i)))
	}
	long := strings.Repeat("long name with \"quotes\" and ü ", 10)
	add(tar.Header{Typeflag: tar.TypeReg, Name: long}, []byte("x"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "ping", Mode: 0o4755,
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}}, []byte("elf"))
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "etc/file-1"}, nil)
	add(tar.Header{Typeflag: tar.TypeLink, Name: "hard", Linkname: "etc/file-512"}, nil)
	add(tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}, nil)
	add(tar.Header{Typeflag: tar.TypeFifo, Name: "pipe"}, nil)
	add(tar.Header{Typeflag: tar.TypeCont, Name: "contiguous"}, content(600, 3))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/.wh.gone"}, nil)
	for _, name := range extra {
		add(tar.Header{Typeflag: tar.TypeReg, Name: name}, content(700, 9))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(buf.Bytes(), make([]byte, 4096)...) // as GNU tar fills its last record
}

// convert writes data in pieces of size.
func convert(data []byte, level, workers, size int) ([]byte, Info, error) {
	var out bytes.Buffer
	z, err := NewWriter(&out, level, workers)
	if err != nil {
		return nil, Info{}, err
	}
	for p := data; len(p) > 0; {
		n := min(size, len(p))
		if _, err := z.Write(p[:n]); err != nil {
			break // Close says it again
		}
		p = p[n:]
	}
	info, err := z.Close()
	return out.Bytes(), info, err
}

// table is what a reader of the blob learns from footer and table of contents.
type table struct {
	offset int64 // of the table's member
	json   []byte
	toc    struct {
		Version int
		Entries []tocEntry
	}
}

type tocEntry struct {
	Name, Type, ModTime, LinkName, UserName, Digest, ChunkDigest string
	Size, Mode, Offset, ChunkOffset, ChunkSize, DevMajor         int64
	Xattrs                                                       map[string][]byte
}

func readTable(blob []byte) (tb table, err error) {
	if len(blob) < 51 {
		return tb, io.ErrUnexpectedEOF
	}
	r, err := gzip.NewReader(bytes.NewReader(blob[len(blob)-51:]))
	if err != nil {
		return tb, err
	}
	field, ok := strings.CutPrefix(string(r.Extra), "SG\x16\x00")
	hex, ok2 := strings.CutSuffix(field, "STARGZ")
	if !ok || !ok2 {
		return tb, fmt.Errorf("extra field %q", r.Extra)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return tb, err
	}
	if tb.offset, err = strconv.ParseInt(hex, 16, 64); err != nil {
		return tb, err
	}
	if r, err = gzip.NewReader(bytes.NewReader(blob[tb.offset : len(blob)-51])); err != nil {
		return tb, err
	}
	tr := tar.NewReader(r)
	h, err := tr.Next()
	if err != nil || h.Name != tocName {
		return tb, fmt.Errorf("header %v: %w", h, err)
	}
	if tb.json, err = io.ReadAll(tr); err != nil {
		return tb, err
	}
	return tb, json.Unmarshal(tb.json, &tb.toc)
}

// files returns the entries of a tar with their contents; it insists on one end.
func files(t *testing.T, r io.Reader) (hs []*tar.Header, data [][]byte) {
	t.Helper()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return hs, data
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		hs, data = append(hs, h), append(data, b)
	}
}

func expand(t *testing.T, blob []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOrdinaryLayer(t *testing.T) {
	in := bigTar(t)
	blob, info, err := convert(in, 6, 2, 1000)
	if err != nil {
		t.Fatal(err)
	}
	plain := expand(t, blob)
	if got := digest.FromBytes(plain); got != info.DiffID || int64(len(plain)) != info.UncompressedSize {
		t.Errorf("%s, %d bytes; Info says %s, %d bytes", got, len(plain), info.DiffID, info.UncompressedSize)
	}
	// A landmark, the input as it was, the table.
	end := len(in) - 4096 - 2*tarBlock
	if !bytes.Equal(plain[2*tarBlock:2*tarBlock+end], in[:end]) {
		t.Error("the entries are not what was written")
	}
	hs, data := files(t, bytes.NewReader(plain))
	last := len(hs) - 1
	if hs[0].Name != noLandmark || string(data[0]) != landmarkContent {
		t.Errorf("begins with %q of %q", hs[0].Name, data[0])
	}
	if hs[last].Name != tocName || digest.FromBytes(data[last]) != info.TOCDigest {
		t.Errorf("ends with %q of %s, Info says %s", hs[last].Name, digest.FromBytes(data[last]), info.TOCDigest)
	}
}

func TestTableOfContents(t *testing.T) {
	in := bigTar(t)
	blob, info, err := convert(in, 1, 3, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	tb, err := readTable(blob)
	if err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(tb.json) != info.TOCDigest || tb.toc.Version != 1 {
		t.Errorf("version %d, digest %s, Info says %s", tb.toc.Version, digest.FromBytes(tb.json), info.TOCDigest)
	}
	hs, data := files(t, bytes.NewReader(in))
	es := tb.toc.Entries
	if es[0].Name != noLandmark {
		t.Errorf("the first entry is %q", es[0].Name)
	}
	es = es[1:]
	for i, h := range hs {
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		e := es[0]
		if e.Name != h.Name || e.Mode != h.Mode || e.LinkName != h.Linkname || e.Size != h.Size || e.DevMajor != h.Devmajor ||
			string(e.Xattrs["security.capability"]) != h.PAXRecords["SCHILY.xattr.security.capability"] {
			t.Errorf("entry %+v for header %+v", e, h)
		}
		if h.Typeflag == tar.TypeReg && e.Digest != digest.FromBytes(data[i]).String() {
			t.Errorf("%s: digest %s", e.Name, e.Digest)
		}
		var got []byte
		for len(got) < len(data[i]) {
			got = append(got, chunk(t, blob, es[0], int64(len(data[i])), int64(len(got)))...)
			es = es[1:]
		}
		if len(data[i]) == 0 {
			es = es[1:]
		}
		if !bytes.Equal(got, data[i]) {
			t.Errorf("%s: the chunks are not the file", h.Name)
		}
	}
	if len(es) > 0 {
		t.Errorf("%d more entries", len(es))
	}
}

// chunk reads what e describes as a reader with random access does.
func chunk(t *testing.T, blob []byte, e tocEntry, size, off int64) []byte {
	t.Helper()
	if e.ChunkOffset != off || off > 0 && e.Type != "chunk" {
		t.Fatalf("%+v at %d", e, off)
	}
	n := e.ChunkSize
	if n == 0 {
		n = size - off
	}
	r, err := gzip.NewReader(bytes.NewReader(blob[e.Offset:]))
	if err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	if got := digest.FromBytes(b).String(); got != e.ChunkDigest {
		t.Errorf("%+v: the digest is %s", e, got)
	}
	return b
}

func TestSameBytesHoweverWritten(t *testing.T) {
	in := sampleTar(t)
	want, _, err := convert(in, 6, 1, len(in))
	if err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 2, 8} {
		for _, size := range []int{333, 1 << 16} {
			if got, _, err := convert(in, 6, workers, size); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d workers, writes of %d: other bytes, or %v", workers, size, err)
			}
		}
	}
}

// The digest must change only with a decision to change the format, here or in package gzip.
func TestGolden(t *testing.T) {
	var in []byte
	for i, n := range []int{0, 1, 1000, chunkSize + 5} {
		in = append(in, tarHeader(fmt.Sprintf("file-%d", n), n)...)
		in = append(in, content(n, uint32(i))...)
		in = append(in, zeros(tarutil.Padding(int64(n)))...)
	}
	blob, _, err := convert(append(in, zeros(2*tarBlock)...), 6, 2, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "sha256:9cc8c6d3659daea3cd88bab6ab3cb4ae7555df9f21b41838383fe6a740943b20"
	if got := digest.FromBytes(blob).String(); got != golden {
		t.Errorf("got %s, want %s", got, golden)
	}
}

// A second conversion drops what the first one added.
func TestConvertedAgain(t *testing.T) {
	first, info, err := convert(sampleTar(t), 6, 2, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	second, info2, err := convert(expand(t, first), 6, 2, 1<<16)
	if err != nil || !bytes.Equal(first, second) || info != info2 {
		t.Errorf("other bytes, or %v", err)
	}
	in := sampleTar(t, "./"+landmark, "/"+noLandmark, "last")
	blob, _, err := convert(in, 6, 2, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	hs, _ := files(t, bytes.NewReader(expand(t, blob)))
	for _, h := range hs {
		count[cleanName(h.Name)]++
	}
	if count[landmark] != 0 || count[noLandmark] != 1 || count["last"] != 1 {
		t.Errorf("landmarks %d and %d, last file %d", count[landmark], count[noLandmark], count["last"])
	}
}

// Whatever sizes the headers give, an entry that is dropped takes nothing of its neighbours along.
func TestDroppedBehind(t *testing.T) {
	one := func(h tar.Header, size string) []byte {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		if err := errors.Join(w.WriteHeader(&h), w.Flush()); err != nil {
			t.Fatal(err)
		}
		if size != "" {
			return tartest.Patch(buf.Bytes(), 0, 124, size)
		}
		return buf.Bytes()
	}
	file := func(name string, n int) []byte {
		return append(append(tarHeader(name, n), content(n, 3)...), zeros(tarutil.Padding(int64(n)))...)
	}
	end := zeros(2 * tarBlock)

	// A sparse file of 1000 bytes, one of which is stored.
	sparse := append(append(tarHeader(landmark, 1), 'x'), zeros(tarBlock-1)...)
	sparse[156] = tar.TypeGNUSparse
	copy(sparse[257:], "ustar  \x00")
	copy(sparse[386:], "00000001747\x0000000000001\x00")
	copy(sparse[483:], "00000001750\x00")
	sparse = tartest.Patch(sparse, 0, 124, "00000000001\x00")

	for name, first := range map[string][]byte{
		"global header": one(tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""),
		"hard link":     append(file("a", 600), one(tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "a"}, "00000001130")...),
		"directory":     one(tar.Header{Typeflag: tar.TypeDir, Name: "d/"}, "00000000001"),
		"symlink":       one(tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "a"}, "00000000777"),
		"device":        one(tar.Header{Typeflag: tar.TypeChar, Name: "null"}, "00000000003"),
		"file":          file("f", 1),
		"nothing":       nil,
	} {
		for what, dropped := range map[string][]byte{"nothing": nil, "landmark": file(landmark, 1), "table": file(tocName, 700), "sparse landmark": sparse} {
			for _, last := range [][]byte{nil, file("last", 513)} {
				blob, info, err := convert(bytes.Join([][]byte{first, dropped, last, end}, nil), 1, 1, 1<<16)
				if err != nil {
					t.Errorf("%s, then %s: %v", name, what, err)
					continue
				}
				want := append(bytes.Clone(first), last...)
				plain := expand(t, blob)
				if got := plain[2*tarBlock:]; !bytes.HasPrefix(got, want) || !bytes.HasPrefix(got[len(want):], []byte(tocName)) || digest.FromBytes(plain) != info.DiffID {
					t.Errorf("%s, then %s: other bytes than what was kept", name, what)
				}
			}
		}
	}
}

func TestHostileInput(t *testing.T) {
	whole := sampleTar(t)
	end := len(whole) - 4096 - 2*tarBlock
	sum := bytes.Clone(whole)
	copy(sum[bytes.Index(sum, []byte("etc/file-0")):], "etc/file-9")
	cases := []struct {
		name string
		in   []byte
		want error
	}{
		{"empty", nil, io.ErrUnexpectedEOF},
		{"not a tar", content(5000, 1), tar.ErrHeader},
		{"bad checksum", sum, tar.ErrHeader},
		{"no end", whole[:end], io.ErrUnexpectedEOF},
		{"half an end", whole[:end+tarBlock], io.ErrUnexpectedEOF},
		{"cut in the end", whole[:end+tarBlock+100], io.ErrUnexpectedEOF},
		{"cut in a payload", whole[:end/2+33], io.ErrUnexpectedEOF},
		{"same file twice", sampleTar(t, "./etc/file-1"), errUnsupported},
		{"not UTF-8", sampleTar(t, "\xff\xfe"), errUnsupported},
	}
	for _, c := range cases {
		blob, _, err := convert(c.in, 1, 2, 1<<16)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if _, err := readTable(blob); err == nil {
			t.Errorf("%s: the blob is taken for eStargz", c.name)
		}
	}
}

// A long table is written as it grows: with every entry, in order, and the place of every chunk.
func TestManyEntries(t *testing.T) {
	const count = maxWaiting + 100
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range count {
		size := bit(i%1000 == 0 || i > maxWaiting-5)
		w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/%d", i), Mode: 0o644, Size: size})
		w.Write(make([]byte, size))
	}
	w.Close()

	blob, _, err := convert(b.Bytes(), 1, 2, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	tb, err := readTable(blob)
	if err != nil || len(tb.toc.Entries) != count+1 {
		t.Fatalf("%d entries, %v, want %d", len(tb.toc.Entries), err, count+1)
	}
	for i, e := range tb.toc.Entries[1:] {
		if e.Name != fmt.Sprintf("d/%d", i) || e.Size > 0 && e.Offset == 0 {
			t.Fatalf("entry %d is %+v", i, e)
		}
	}

	// What is held is bounded, whichever part of it grows.
	for what, e := range map[string]entry{
		"entries": {Name: "a"},
		"names":   {Name: strings.Repeat("a", 1000)},
		"users":   {UserName: strings.Repeat("a", 1000)},
		"xattrs":  {Xattrs: map[string]string{"user.a": strings.Repeat("a", 1000)}},
	} {
		table, err := toc{budget: tarutil.NewBudget(3 << 20)}, error(nil)
		for range 100_000 {
			if _, err = table.add(e); err == nil && len(table.waiting) == 100 {
				err = table.settle()
			}
			if err != nil {
				break
			}
		}
		if !errors.Is(err, tarutil.ErrTooMany) {
			t.Errorf("%s: %v, want %v", what, err, tarutil.ErrTooMany)
		}
	}
}

func bit(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// Cut at each edge of a block, a tar is never taken for whole.
func TestCutEverywhere(t *testing.T) {
	var files []tartest.Entry
	for _, n := range []int{0, 1, 600, 1024} { // the last two names need more headers
		hdr := tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 90+n/10) + fmt.Sprint(n), Mode: 0o644}
		files = append(files, tartest.Entry{Header: hdr, Content: string(content(n, 1))})
	}
	data := tartest.Tar(t, files...)
	for n := 0; n < len(data); n += tarBlock {
		blob, _, err := convert(data[:n], 1, 1, 1<<16)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
		if _, err := readTable(blob); err == nil {
			t.Errorf("cut at %d: the blob is taken for eStargz", n)
		}
	}
}

func TestAbort(t *testing.T) {
	in := sampleTar(t)
	var out bytes.Buffer
	z, _ := NewWriter(&out, 1, 2)
	if _, err := z.Write(in[:len(in)-4096]); err != nil { // with the end mark, but not ended
		t.Fatal(err)
	}
	z.Abort()
	z.Abort()
	if _, err := z.Close(); !errors.Is(err, errAborted) {
		t.Errorf("Close after Abort = %v", err)
	}
	if _, err := z.Write(in); err == nil {
		t.Error("Write after Abort gives no error")
	}
	if _, err := readTable(out.Bytes()); err == nil {
		t.Error("the blob is taken for eStargz")
	}
}

func TestWriteErrors(t *testing.T) {
	in := append(tarHeader("a", 1000), content(1024, 1)...)
	in = append(in, tarHeader("b", chunkSize+1)...)
	in = append(append(in, content(chunkSize+512, 2)...), zeros(2*tarBlock)...)
	for k := 1; ; k++ {
		w := &tartest.FaultWriter{At: k}
		z, _ := NewWriter(w, 1, 2)
		_, err := z.Write(in)
		info, err2 := z.Close()
		if w.Calls < k {
			if err2 != nil || info.DiffID.IsZero() {
				t.Errorf("untouched: %v, %v", info, err2)
			}
			return
		}
		if !errors.Is(errors.Join(err, err2), tartest.ErrFault) || !errors.Is(err2, tartest.ErrFault) {
			t.Fatalf("write %d broken: Write %v, Close %v", k, err, err2)
		}
		if _, err := readTable(w.Buf.Bytes()); err == nil {
			t.Fatalf("write %d broken: the blob is taken for eStargz", k)
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	in := bigTar(b)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		z, _ := NewWriter(io.Discard, 6, 2)
		z.Write(in)
		if _, err := z.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzConvert(f *testing.F) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Name: "a/b", Size: 3, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}})
	io.WriteString(w, "abc")
	w.WriteHeader(&tar.Header{Name: tocName, Size: 2})
	io.WriteString(w, "{}")
	w.Close()
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		blob, info, err := convert(in, 1, 1, 1<<16)
		if err != nil {
			return
		}
		tb, err := readTable(blob)
		if err != nil || digest.FromBytes(tb.json) != info.TOCDigest || digest.FromBytes(expand(t, blob)) != info.DiffID {
			t.Errorf("table of contents: %v", err)
		}
	})
}
