package estargz

import "fmt"

// zeros returns n zero bytes.
func zeros(n int) []byte { return make([]byte, n) }

// tarHeader returns the ustar header of a regular file without permissions, owner 0:0 and
// time 0: what the reference writer puts before a landmark and the table of contents.
func tarHeader(name string, size int) []byte {
	h := zeros(tarBlock)
	copy(h[0:100], name)
	for _, field := range [][]byte{h[100:107], h[108:115], h[116:123]} { // mode, owner, group
		copy(field, "0000000")
	}

	copy(h[124:135], fmt.Sprintf("%011o", size))
	copy(h[136:147], "00000000000") // time
	copy(h[148:156], "        ")    // the checksum counts as blanks in itself
	h[156] = '0'
	copy(h[257:265], "ustar\x0000")

	// The checksum is six digits, a zero byte and a blank.
	sum := 0
	for _, c := range h {
		sum += int(c)
	}

	copy(h[148:155], fmt.Sprintf("%06o\x00", sum))
	return h
}

// footer returns the last member of the blob: an empty one, whose extra field (RFC 1952,
// section 2.3.1.1) has the offset of the member with the table of contents.
func footer(toc int64) []byte {
	const (
		header = "\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff" // with an extra field
		extra  = "\x1a\x00SG\x16\x00"                       // 26 bytes; one subfield, of 22
		empty  = "\x01\x00\x00\xff\xff"                     // a stored block, the last
	)
	return fmt.Appendf(nil, "%s%s%016xSTARGZ%s%s", header, extra, toc, empty, zeros(8))
}
