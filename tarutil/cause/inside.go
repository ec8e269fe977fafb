package cause

import (
	"archive/zip"
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"ocikit/tarutil/gunzip"
)

// An Inside says what differs inside two files of a known format. Its zero value says that nothing is
// known.
type Inside struct {
	What        InsideKind
	Name        string // of the first member that differs, in an archive
	Here, There string // what the first and the second file have there
}

// An InsideKind is a way in which two such files differ.
type InsideKind string

// The kinds of [Inside].
const (
	GzipTime        InsideKind = "gzip-time"        // in the header, and nothing else
	GzipName        InsideKind = "gzip-name"        // likewise
	GzipForm        InsideKind = "gzip-form"        // other fields of the header
	GzipCompression InsideKind = "gzip-compression" // of the same content
	GzipContent     InsideKind = "gzip-content"
	ZipTimes        InsideKind = "zip-times" // of members, and nothing else
	ZipOrder        InsideKind = "zip-order"
	ZipContent      InsideKind = "zip-content" // of a member
	ZipForm         InsideKind = "zip-form"    // compression, or fields of headers
	ArTimes         InsideKind = "ar-times"
	ArOwners        InsideKind = "ar-owners"  // and modes
	ArContent       InsideKind = "ar-content" // of a member, or a member of one alone
	PycTime         InsideKind = "pyc-time"
	BuildID         InsideKind = "build-id"  // of ELF programs, and nothing else
	BuildIDs        InsideKind = "build-ids" // and more
)

// insideLimit is the size above which a file is not looked into.
const insideLimit = 8 << 20

// hasInside reports whether a file, by its beginning and name, is of a kind that is looked into.
func hasInside(name string, head []byte) bool {
	return bytes.HasPrefix(head, []byte("\x1f\x8b")) || bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte(arMagic)) ||
		bytes.HasPrefix(head, []byte(elf.ELFMAG)) || isPyc(name, head)
}

// lookInside says what differs inside two files, which are named name.
func lookInside(name string, a, b []byte) Inside {
	if len(a) > insideLimit || len(b) > insideLimit || !hasInside(name, a) || !hasInside(name, b) {
		return Inside{}
	}

	// All magic bytes differ in their first, so that one decides.
	switch {
	case a[0] != b[0]:
	case a[0] == 0x1f:
		return insideGzip(a, b)
	case a[0] == 'P':
		return insideZip(a, b)
	case a[0] == arMagic[0]:
		return insideAr(a, b)
	case a[0] == elf.ELFMAG[0]:
		return insideELF(a, b)
	case isPyc(name, a):
		return insidePyc(a, b)
	}

	return Inside{}
}

// insideGzip compares two gzip files.
func insideGzip(a, b []byte) Inside {
	ha, restA, okA := ParseGzipHeader(a)
	hb, restB, okB := ParseGzipHeader(b)
	if !okA || !okB {
		return Inside{}
	}

	if bytes.Equal(restA, restB) {
		switch {
		case ha.Name != hb.Name:
			return Inside{What: GzipName, Here: ha.Name, There: hb.Name}
		case ha.TimeText() != hb.TimeText():
			return Inside{What: GzipTime, Here: ha.TimeText(), There: hb.TimeText()}
		}
		return Inside{What: GzipForm} // such as the system, or a comment
	}

	// The compressed bytes differ. Now it is of interest whether the contents do.
	plainA, err := gunzip.NewReader(bytes.NewReader(a))
	if err != nil {
		return Inside{}
	}

	plainB, err := gunzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return Inside{}
	}

	const most = 256 << 20 // what a few bytes can become
	d, err := Bytes(io.LimitReader(plainA, most), io.LimitReader(plainB, most))
	switch {
	case err != nil:
		return Inside{}
	case d.Same:
		return Inside{What: GzipCompression}
	}

	return Inside{What: GzipContent, Here: fmt.Sprint(d.Offset)}
}

// A GzipHeader is what the header of a gzip file says.
type GzipHeader struct {
	Time  uint32 // seconds since 1970, or 0
	Name  string
	Flags byte
	Extra byte // XFL
	OS    byte
}

// hasTime reports whether the header has a time. If there was none, old encoders of Go wrote the
// low bits of the time of year 1. That counts as no time.
func (h GzipHeader) hasTime() bool {
	const year1 = -62135596800 & 0xffffffff
	return h.Time != 0 && h.Time != year1
}

// TimeText returns the time as RFC 3339 has it, or "none".
func (h GzipHeader) TimeText() string {
	if !h.hasTime() {
		return "none"
	}
	return time.Unix(int64(h.Time), 0).UTC().Format(time.RFC3339)
}

// ParseGzipHeader reads the header of a gzip file (RFC 1952, section 2.3). rest is what follows it in
// p, and ok is false if p does not begin with a whole header.
func ParseGzipHeader(p []byte) (h GzipHeader, rest []byte, ok bool) {
	if len(p) < 10 || p[0] != 0x1f || p[1] != 0x8b {
		return h, nil, false
	}

	h = GzipHeader{Time: binary.LittleEndian.Uint32(p[4:]), Flags: p[3], Extra: p[8], OS: p[9]}
	p = p[10:]
	if h.Flags&4 != 0 {
		if len(p) < 2 || len(p) < 2+int(binary.LittleEndian.Uint16(p)) {
			return h, nil, false
		}
		p = p[2+int(binary.LittleEndian.Uint16(p)):]
	}

	// Behind the extra field come the name and the comment, each up to a zero byte, and then a
	// checksum of the header.
	for _, bit := range []byte{8, 16} {
		if h.Flags&bit == 0 {
			continue
		}
		i := bytes.IndexByte(p, 0)
		if i < 0 {
			return h, nil, false
		}
		if bit == 8 {
			h.Name = string(p[:i])
		}
		p = p[i+1:]
	}

	if h.Flags&2 != 0 {
		if len(p) < 2 {
			return h, nil, false
		}
		p = p[2:]
	}

	return h, p, true
}

// insideZip compares two zip files, jars among them.
func insideZip(a, b []byte) Inside {
	x, err := zip.NewReader(bytes.NewReader(a), int64(len(a)))
	if err != nil {
		return Inside{}
	}

	y, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return Inside{}
	}

	// The checksums of the members are in the directory, so nothing is uncompressed.
	known := map[string]*zip.File{}
	for _, f := range y.File {
		known[f.Name] = f
	}

	var times Inside
	sameOrder := len(x.File) == len(y.File)
	for i, f := range x.File {
		g := known[f.Name]
		if g == nil || f.CRC32 != g.CRC32 || f.UncompressedSize64 != g.UncompressedSize64 {
			return Inside{What: ZipContent, Name: f.Name}
		}
		sameOrder = sameOrder && y.File[i].Name == f.Name
		if times.What == "" && !f.Modified.Equal(g.Modified) {
			times = Inside{ZipTimes, f.Name, f.Modified.UTC().Format(time.RFC3339), g.Modified.UTC().Format(time.RFC3339)}
		}
	}

	switch {
	case len(x.File) != len(y.File):
		return Inside{What: ZipContent}
	case !sameOrder:
		return Inside{What: ZipOrder}
	case times.What != "":
		return times
	}

	return Inside{What: ZipForm}
}

const arMagic = "!<arch>\n"

// insideAr compares two archives of ar, as static libraries and Debian packages are. A member has a
// header of 60 bytes: name, time, owner, group, mode, size.
func insideAr(a, b []byte) Inside {
	const header = 60
	var times, owners Inside
	a, b = a[len(arMagic):], b[len(arMagic):]
	for len(a) >= header && len(b) >= header {
		x, y := string(a[:header]), string(b[:header])
		if x[:16] != y[:16] || x[48:] != y[48:] {
			return Inside{What: ArContent, Name: arName(x)}
		}
		if times.What == "" && x[16:28] != y[16:28] {
			times = Inside{ArTimes, arName(x), arTime(x), arTime(y)}
		}
		if owners.What == "" && x[28:48] != y[28:48] {
			owners = Inside{ArOwners, arName(x), arOwner(x), arOwner(y)}
		}

		var size int
		a, b = a[header:], b[header:]
		if _, err := fmt.Sscan(x[48:58], &size); err != nil || size < 0 || size > len(a) || size > len(b) {
			return Inside{}
		}
		if !bytes.Equal(a[:size], b[:size]) {
			return Inside{What: ArContent, Name: arName(x)}
		}

		// Members begin at even places, but the last need not be filled up.
		size += size & 1
		a, b = a[min(size, len(a)):], b[min(size, len(b)):]
	}

	// The rest is in one of them alone.
	rest := a
	if len(b) > len(a) {
		rest = b
	}

	switch {
	case len(rest) >= header:
		return Inside{What: ArContent, Name: arName(string(rest))}
	case !bytes.Equal(a, b):
		return Inside{}
	case owners.What != "":
		return owners
	}

	return times
}

// arName returns the name in the header of a member. GNU ar ends it with a slash; "/" and "//" alone
// are tables of the archive.
func arName(header string) string {
	name := strings.TrimSpace(header[:16])
	return cmp.Or(strings.TrimRight(name, "/"), name)
}

// arOwner returns the owner, group and mode in the header of a member.
func arOwner(header string) string {
	field := func(from, to int) string { return strings.TrimSpace(header[from:to]) }
	return field(28, 34) + ":" + field(34, 40) + " " + field(40, 48)
}

// arTime returns the time in the header of a member.
func arTime(header string) string {
	var sec int64
	if _, err := fmt.Sscan(header[16:28], &sec); err != nil {
		return "none"
	}
	return time.Unix(sec, 0).UTC().Format(time.RFC3339)
}

// isPyc reports whether a file is bytecode of Python that holds the time of its source (PEP 552).
func isPyc(name string, head []byte) bool {
	return strings.HasSuffix(name, ".pyc") && len(head) >= 16 && head[2] == '\r' && head[3] == '\n'
}

// insidePyc compares two files of bytecode. If they differ in the time of the source alone, that
// is told. Files with flags hold a hash in place of the time.
func insidePyc(a, b []byte) Inside {
	const flags, mtime, size = 4, 8, 12
	if binary.LittleEndian.Uint32(a[flags:]) != 0 || !bytes.Equal(a[:mtime], b[:mtime]) || !bytes.Equal(a[size:], b[size:]) {
		return Inside{}
	}
	at := func(p []byte) string {
		return time.Unix(int64(binary.LittleEndian.Uint32(p[mtime:])), 0).UTC().Format(time.RFC3339)
	}
	return Inside{What: PycTime, Here: at(a), There: at(b)}
}

// insideELF compares two programs by their build IDs.
func insideELF(a, b []byte) Inside {
	idA, fromA, toA := buildID(a)
	idB, fromB, toB := buildID(b)
	if idA == idB || len(a) != len(b) && (idA == "" || idB == "") {
		return Inside{}
	}

	// The build ID is a hash of the rest, so a program that differs in more has another one too.
	in := Inside{What: BuildIDs, Here: idA, There: idB}
	if fromA == fromB && toA == toB && bytes.Equal(a[:fromA], b[:fromB]) && bytes.Equal(a[toA:], b[toB:]) {
		in.What = BuildID
	}
	return in
}

// buildID returns the build ID of an ELF file and where its section stands, or "" if there is none.
func buildID(p []byte) (id string, from, to int) {
	f, err := elf.NewFile(bytes.NewReader(p))
	if err != nil {
		return "", 0, 0
	}

	for _, name := range []string{".note.gnu.build-id", ".note.go.buildid"} {
		s := f.Section(name)
		const most = 4 << 10
		if s == nil || s.Type != elf.SHT_NOTE || s.Size > most || s.Size < 16 || s.Offset+s.Size > uint64(len(p)) {
			continue
		}

		// A note is three numbers, its name and the ID, each filled up to four bytes.
		note := p[s.Offset : s.Offset+s.Size]
		nameSize := (f.ByteOrder.Uint32(note) + 3) &^ 3
		if uint64(nameSize)+12 > s.Size {
			continue
		}
		id := note[12+nameSize:]
		id = id[:min(uint32(len(id)), f.ByteOrder.Uint32(note[4:]))]
		if name == ".note.gnu.build-id" {
			return hex.EncodeToString(id), int(s.Offset), int(s.Offset + s.Size)
		}
		return string(id), int(s.Offset), int(s.Offset + s.Size)
	}

	return "", 0, 0
}
