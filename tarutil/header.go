package tarutil

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// XattrPrefix begins the key of a PAX record that holds an extended attribute; the name follows.
	XattrPrefix = "SCHILY.xattr."
	paxName     = "././@PaxHeader"

	maxOctal7  = 1<<21 - 1
	maxOctal11 = 1<<33 - 1
)

// Positions and lengths of the fields of a ustar header.
const (
	atName, lenName         = 0, 100
	atMode                  = 100
	atUID                   = 108
	atGID                   = 116
	atSize                  = 124
	atMTime                 = 136
	atSum                   = 148
	atType                  = 156
	atLink, lenLink         = 157, 100
	atMagic                 = 257
	atUname, lenUname       = 265, 32
	atGname                 = 297
	atDevmajor, atDevminor  = 329, 337
	atPrefix, lenPrefix     = 345, 155
	ustarMagic              = "ustar\x0000"
	keyPath, keyLink        = "path", "linkpath"
	keyUname, keyGname      = "uname", "gname"
	keyUID, keyGID, keySize = "uid", "gid", "size"
	keyMTime, keyCharset    = "mtime", "hdrcharset"
)

// A paxRecord is one line of an extended header.
type paxRecord struct{ key, value string }

// An encoder builds one ustar header, and gathers what does not fit it.
type encoder struct {
	block  [blockSize]byte
	pax    []paxRecord
	binary bool // a text is not UTF-8
}

// AppendHeader appends to dst the blocks of the header of hdr, with an extended header before it if need
// be, by the rule that [Writer.WriteHeader] states. It returns dst unchanged, and an error that names the
// entry, if the header cannot be written.
func AppendHeader(dst []byte, hdr *tar.Header) ([]byte, error) {
	name, flag, err := checkHeader(hdr)
	if err != nil {
		return dst, fmt.Errorf("entry %q: %w", hdr.Name, err)
	}

	// Each field is written at its place. One that does not fit becomes a record, whose key is
	// the last argument.
	var e encoder
	e.name(name)
	e.number(atMode, 7, hdr.Mode&0o7777, "")
	e.number(atUID, 7, int64(hdr.Uid), keyUID)
	e.number(atGID, 7, int64(hdr.Gid), keyGID)
	e.number(atSize, 11, hdr.Size, keySize)
	e.time(hdr.ModTime)
	e.block[atType] = flag
	if flag == tar.TypeLink || flag == tar.TypeSymlink {
		e.text(atLink, lenLink, hdr.Linkname, keyLink)
	}

	e.text(atUname, lenUname-1, hdr.Uname, keyUname)
	e.text(atGname, lenUname-1, hdr.Gname, keyGname)
	var major, minor int64
	if flag == tar.TypeChar || flag == tar.TypeBlock {
		major, minor = hdr.Devmajor, hdr.Devminor
	}

	e.number(atDevmajor, 7, major, "")
	e.number(atDevminor, 7, minor, "")
	for key, value := range hdr.PAXRecords {
		if keepRecord(key) {
			e.pax = append(e.pax, paxRecord{key, value})
		}
	}

	// The extended header stands before the entry that it is about.
	if len(e.pax) > 0 {
		dst = e.appendPAX(dst)
	}

	e.seal()
	return append(dst, e.block[:]...), nil
}

// checkHeader refuses what cannot be written, and returns name and type flag as they are written.
// [Writer.WriteHeader] lists what is refused.
func checkHeader(hdr *tar.Header) (name string, flag byte, err error) {
	name, flag = hdr.Name, hdr.Typeflag
	switch flag {
	case 0, tar.TypeCont, tar.TypeGNUSparse:
		flag = tar.TypeReg
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
	default:
		return "", 0, fmt.Errorf("type flag %q cannot be written", flag)
	}

	if flag == tar.TypeDir && !strings.HasSuffix(name, "/") && name != "" {
		name += "/"
	}

	// The first rule that is broken gives the error. Device numbers are looked at last, since
	// only devices have any.
	switch {
	case name == "":
		err = errors.New("empty name")
	case strings.Contains(name, "\x00"):
		err = errors.New("NUL byte in the name")
	case flag != tar.TypeDir && strings.HasSuffix(name, "/"):
		err = errors.New("slash at the end of a name that is not a directory")
	case strings.Contains(hdr.Linkname, "\x00"):
		err = errors.New("NUL byte in the link target")
	case (flag == tar.TypeLink || flag == tar.TypeSymlink) && hdr.Linkname == "":
		err = errors.New("empty link target")
	case strings.Contains(hdr.Uname, "\x00") || strings.Contains(hdr.Gname, "\x00"):
		err = errors.New("NUL byte in an owner name")
	case hdr.Size < 0 || hdr.Size > math.MaxInt64-2*blockSize:
		err = fmt.Errorf("size %d", hdr.Size)
	case hdr.Size > 0 && flag != tar.TypeReg:
		err = fmt.Errorf("size %d in an entry of type %q", hdr.Size, flag)
	case hdr.Uid < 0 || hdr.Gid < 0 || int64(hdr.Uid) > math.MaxUint32 || int64(hdr.Gid) > math.MaxUint32:
		err = fmt.Errorf("owner %d:%d", hdr.Uid, hdr.Gid)
	case flag != tar.TypeChar && flag != tar.TypeBlock:
	case hdr.Devmajor < 0 || hdr.Devmajor > maxOctal7 || hdr.Devminor < 0 || hdr.Devminor > maxOctal7:
		err = fmt.Errorf("device number %d:%d", hdr.Devmajor, hdr.Devminor)
	}
	if err != nil {
		return "", 0, err
	}

	// A record is "key=value" on a line of its own, so its key can hold neither sign.
	for key := range hdr.PAXRecords {
		if keepRecord(key) && strings.ContainsAny(key, "=\x00\n") {
			return "", 0, fmt.Errorf("record %q cannot be written", key)
		}
	}

	return name, flag, nil
}

// keepRecord reports whether a PAX record given by the caller is written.
func keepRecord(key string) bool {
	return strings.HasPrefix(key, XattrPrefix) && len(key) > len(XattrPrefix) ||
		strings.HasPrefix(key, "MSWINDOWS.") || key == "LIBARCHIVE.creationtime"
}

// name writes the name, split into name and prefix if that makes it fit.
func (e *encoder) name(name string) {
	if len(name) > lenName && isASCII(name) {
		if i := splitName(name); i > 0 {
			copy(e.block[atPrefix:], name[:i])
			copy(e.block[atName:], name[i+1:])
			return
		}
	}
	e.text(atName, lenName, name, keyPath)
}

// splitName returns the position of the last slash that splits name into parts that
// fit, or 0.
func splitName(name string) int {
	i := strings.LastIndexByte(name[:min(len(name)-1, lenPrefix+1)], '/')
	if i <= 0 || len(name)-i-1 > lenName {
		return 0
	}
	return i
}

// text writes s into a field of n bytes, and as a record if it does not fit.
func (e *encoder) text(at, n int, s, key string) {
	field := e.block[at : at+n]
	if copy(field, s) == len(s) && isASCII(s) {
		return
	}

	// A reader that does not know PAX sees the field alone. There a slash at the end would mean a
	// directory, and bytes that are not ASCII have no defined meaning.
	if len(s) > n {
		clear(field[len(bytes.TrimRight(field, "/")):])
	}

	for i, c := range field {
		if c >= utf8.RuneSelf {
			field[i] = '_'
		}
	}

	if !utf8.ValidString(s) {
		e.binary = true
	}

	e.pax = append(e.pax, paxRecord{key, s})
}

// number writes v as octal digits, and as a record, with zeros in the field, if it does
// not fit.
func (e *encoder) number(at, digits int, v int64, key string) {
	if v < 0 || v>>(3*digits) != 0 {
		e.pax = append(e.pax, paxRecord{key, strconv.FormatInt(v, 10)})
		v = 0
	}
	for i := at + digits - 1; i >= at; i-- {
		e.block[i] = byte('0' + v&7)
		v >>= 3
	}
}

// time writes t, and as a record if it is not in whole seconds that fit.
func (e *encoder) time(t time.Time) {
	var sec, nano int64
	if !t.IsZero() {
		sec, nano = t.Unix(), int64(t.Nanosecond())
	}
	if nano != 0 || sec < 0 || sec > maxOctal11 {
		e.pax = append(e.pax, paxRecord{keyMTime, formatTime(sec, nano)})
		if sec < 0 || sec > maxOctal11 {
			sec = 0
		}
	}
	e.number(atMTime, 11, sec, "")
}

// formatTime returns a time as PAX has it: a decimal number with no more digits than needed.
func formatTime(sec, nano int64) string {
	if nano == 0 {
		return strconv.FormatInt(sec, 10)
	}

	// PAX has -1.25 where a Time has -2 seconds and 750,000,000 nanoseconds.
	sign := ""
	if sec < 0 {
		sign, sec, nano = "-", -(sec + 1), 1e9-nano
	}
	return strings.TrimRight(fmt.Sprintf("%s%d.%09d", sign, sec, nano), "0")
}

// appendPAX appends the extended header with all records, and its own header.
func (e *encoder) appendPAX(dst []byte) []byte {
	if e.binary {
		e.pax = append(e.pax, paxRecord{keyCharset, "BINARY"})
	}

	slices.SortFunc(e.pax, func(a, b paxRecord) int { return strings.Compare(a.key, b.key) })
	var body []byte
	for _, r := range e.pax {
		body = appendRecord(body, r.key, r.value)
	}

	// Its own header says nothing but its size, so that the bytes depend on the records alone.
	x := encoder{}
	copy(x.block[atName:], paxName)
	for _, at := range []int{atMode, atUID, atGID, atDevmajor, atDevminor} {
		x.number(at, 7, 0, "")
	}

	x.number(atSize, 11, int64(len(body)), "")
	x.number(atMTime, 11, 0, "")
	x.block[atType] = tar.TypeXHeader
	x.seal()
	dst = append(dst, x.block[:]...)
	dst = append(dst, body...)
	return append(dst, zeros[:Padding(int64(len(body)))]...)
}

// appendRecord appends "length key=value\n", where length counts its own digits too.
func appendRecord(dst []byte, key, value string) []byte {
	n := len(key) + len(value) + len(" =\n")

	// Adding the digits can make the length one digit longer.
	size := n + len(strconv.Itoa(n))
	if k := n + len(strconv.Itoa(size)); k > size {
		size = k
	}
	dst = strconv.AppendInt(dst, int64(size), 10)
	dst = append(dst, ' ')
	dst = append(dst, key...)
	dst = append(dst, '=')
	dst = append(dst, value...)
	return append(dst, '\n')
}

// seal writes magic and checksum.
func (e *encoder) seal() {
	copy(e.block[atMagic:], ustarMagic)

	// The checksum counts as blanks in itself. It ends with a zero byte and a blank, as old
	// readers expect.
	copy(e.block[atSum:], "        ")
	var sum int64
	for _, c := range e.block {
		sum += int64(c)
	}
	e.number(atSum, 6, sum, "")
	e.block[atSum+6] = 0
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// HardLink returns the header of a hard link to target that has the name, owner, permissions and time of
// hdr. hdr itself stays as it is.
func HardLink(hdr tar.Header, target string) *tar.Header {
	hdr.Typeflag, hdr.Linkname, hdr.Size, hdr.PAXRecords = tar.TypeLink, target, 0, nil
	return &hdr
}
