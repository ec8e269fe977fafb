package tarutil

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A rawHeader is what a Checker needs to know of a header block.
type rawHeader struct {
	flag   byte
	format rawFormat
	size   int64
}

type rawFormat byte

const (
	formatV7 rawFormat = iota + 1
	formatUSTAR
	formatSTAR
	formatGNU
)

// parseRaw verifies the checksum and the numbers of a header, as strictly as archive/tar does.
func parseRaw(b *[blockSize]byte) (rawHeader, error) {
	if !validSum(b) {
		return rawHeader{}, fmt.Errorf("%w: header checksum mismatch", ErrMalformed)
	}

	h := rawHeader{flag: b[atType], format: formatOf(b)}
	var err error
	number := func(field string, at, n int) int64 {
		v, e := parseNumber(b[at : at+n])
		if e != nil && err == nil {
			err = fmt.Errorf("%w: %s %q in its header: %w", ErrMalformed, field, b[at:at+n], e)
		}
		return v
	}

	// Only the size is of use, but a number that cannot be read makes archive/tar refuse the
	// header.
	h.size = number("size", atSize, 12)
	number("mode", atMode, 8)
	number("uid", atUID, 8)
	number("gid", atGID, 8)
	number("mtime", atMTime, 12)

	if h.format > formatV7 {
		number("devmajor", atDevmajor, 8)
		number("devminor", atDevminor, 8)
	}

	if h.format == formatSTAR {
		number("atime", atPrefix+131, 12)
		number("ctime", atPrefix+143, 12)
	}

	return h, err
}

// validSum reports whether the checksum is the sum of the bytes of the header, where it counts as blanks
// itself. Some old programs took the bytes as signed.
func validSum(b *[blockSize]byte) bool {
	want, err := parseNumber(b[atSum : atSum+8])
	if err != nil || b[atSum]&0x80 != 0 {
		return false
	}
	var unsigned, signed int64
	for _, c := range b {
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	for _, c := range b[atSum : atSum+8] { // counts as spaces
		unsigned += ' ' - int64(c)
		signed += ' ' - int64(int8(c))
	}
	return want == unsigned || want == signed
}

// formatOf tells the format by the magic, and star by its trailer too.
func formatOf(b *[blockSize]byte) rawFormat {
	switch string(b[atMagic : atMagic+8]) {
	case "ustar  \x00":
		return formatGNU
	default:
		if string(b[atMagic:atMagic+6]) != "ustar\x00" {
			return formatV7
		}
		if string(b[blockSize-4:]) == "tar\x00" {
			return formatSTAR
		}
		return formatUSTAR
	}
}

// rawName returns the name that stands in a header, with the prefix that some formats have.
func rawName(b *[blockSize]byte) string {
	name := cString(b[atName : atName+lenName])
	prefix := ""
	switch formatOf(b) {
	case formatUSTAR:
		prefix = cString(b[atPrefix : atPrefix+lenPrefix])
	case formatSTAR:
		prefix = cString(b[atPrefix : atPrefix+131])
	}
	if prefix != "" {
		name = prefix + "/" + name
	}
	return name
}

// cString returns b up to its first NUL byte.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

var errRange = errors.New("out of range")

// parseNumber reads a number field: octal digits, or, if its first bit is set, a big-endian number in
// two's complement as GNU tar writes it.
func parseNumber(b []byte) (int64, error) {
	if b[0]&0x80 == 0 {
		for len(b) > 0 && (b[0] == ' ' || b[0] == 0) {
			b = b[1:]
		}
		for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == 0) {
			b = b[:len(b)-1]
		}
		var v uint64
		for _, c := range b {
			if c == 0 { // the number ends here
				break
			}
			if c < '0' || c > '7' {
				return 0, errors.New("not octal")
			}
			if v>>60 != 0 {
				return 0, errRange
			}
			v = v<<3 | uint64(c-'0')
		}
		return int64(v), nil
	}

	// The second bit is the sign. A negative number is read with all bits inverted, and inverted
	// again at the end.
	var flip byte
	if b[0]&0x40 != 0 {
		flip = 0xff
	}

	var v uint64
	for i, c := range b {
		c ^= flip
		if i == 0 {
			c &= 0x7f
		}
		if v>>55 != 0 {
			return 0, errRange
		}
		v = v<<8 | uint64(c)
	}

	if flip != 0 {
		return ^int64(v), nil
	}

	return int64(v), nil
}

// overrides is what extended headers and GNU long names say about the next entry, as far as a Checker
// needs it.
type overrides struct {
	any     bool
	gnuName bool // name is from a GNU long name, which counts more
	name    string
	size    int64
	hasSize bool
}

// add takes in the content of a header with the given type flag.
func (o *overrides) add(flag byte, content []byte) error {
	o.any = true
	switch flag {
	case tar.TypeGNULongName:
		if name := cString(content); name != "" {
			o.name, o.gnuName = name, true
		}
		return nil
	case tar.TypeGNULongLink:
		return nil
	}

	if !o.gnuName {
		o.name = ""
	}

	o.size, o.hasSize = 0, false // a second extended header replaces the first
	return o.addPAX(content)
}

// addPAX takes in the records of an extended header, and verifies those that archive/tar reads. An empty
// value takes back what a global header said, and so means nothing here.
func (o *overrides) addPAX(content []byte) error {
	rest := string(content)
	for rest != "" {
		key, value, after, err := parseRecord(rest)
		if err != nil {
			return fmt.Errorf("%w: extended header: %w", ErrMalformed, err)
		}

		rest = after
		if value == "" {
			continue
		}

		// A number or time that no reader could take is an error, even if it is of no use here.
		switch key {
		case keyPath:
			if !o.gnuName {
				o.name = value
			}
		case keySize:
			o.size, err = strconv.ParseInt(value, 10, 64)
			o.hasSize = true
		case keyUID, keyGID:
			_, err = strconv.ParseInt(value, 10, 64)
		case keyMTime, "atime", "ctime":
			err = checkTime(value)
		}
		if err != nil {
			return fmt.Errorf("%w: extended header: %s %q is not a number", ErrMalformed, key, value)
		}
	}

	return nil
}

// parseRecord takes the first record, "length key=value\n", off s.
func parseRecord(s string) (key, value, rest string, err error) {
	length, _, ok := strings.Cut(s, " ")
	n, convErr := strconv.ParseUint(length, 10, 31)
	if !ok || convErr != nil || n < uint64(len(length))+uint64(len(" k=\n")) || n > uint64(len(s)) {
		return "", "", "", fmt.Errorf("record of length %.20q", length)
	}

	record := s[len(length)+1 : n]
	key, value, ok = strings.Cut(strings.TrimSuffix(record, "\n"), "=")
	if !ok || key == "" || !strings.HasSuffix(record, "\n") {
		return "", "", "", fmt.Errorf("record %.80q", record)
	}

	// archive/tar refuses a NUL byte in the values of these records, and in the keys of the
	// others.
	switch key {
	case keyPath, keyLink, keyUname, keyGname:
		ok = !strings.Contains(value, "\x00")
	default:
		ok = !strings.Contains(key, "\x00")
	}

	if !ok {
		return "", "", "", fmt.Errorf("NUL byte in record %.80q", key)
	}

	return key, value, s[n:], nil
}

// checkTime verifies a decimal number with an optional fraction.
func checkTime(s string) error {
	whole, fraction, _ := strings.Cut(s, ".")
	if _, err := strconv.ParseInt(whole, 10, 64); err != nil {
		return err
	}
	if strings.Trim(fraction, "0123456789") != "" {
		return errors.New("not digits")
	}
	return nil
}
