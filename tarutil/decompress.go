package tarutil

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"ocikit/tarutil/gunzip"
	"ocikit/tarutil/zstd"
)

// A Format is what a stream is, by its first bytes.
type Format int

const (
	FormatUnknown Format = iota
	FormatTar            // not compressed
	FormatGzip
	FormatBzip2
	FormatZstd
	FormatXz
	FormatLz4
	FormatZip
)

// String returns the name of the format in lower case.
func (f Format) String() string {
	return [...]string{"unknown", "tar", "gzip", "bzip2", "zstd", "xz", "lz4", "zip"}[f]
}

// SniffLen is how many bytes [Sniff] wants to see.
const SniffLen = blockSize

// Sniff tells a format by the first bytes of a stream, [SniffLen] of them or all there
// are. A tar is known by a header with a right checksum, or a block of zeros.
func Sniff(prefix []byte) Format {
	for _, m := range []struct {
		magic  string
		format Format
	}{
		{"\x1f\x8b", FormatGzip},
		{"BZh", FormatBzip2},
		{"\x28\xb5\x2f\xfd", FormatZstd},
		{"\xfd7zXZ\x00", FormatXz},
		{"\x04\x22\x4d\x18", FormatLz4},
		{"PK\x03\x04", FormatZip},
	} {
		if bytes.HasPrefix(prefix, []byte(m.magic)) && !isTarBlock(prefix) {
			return m.format
		}
	}
	if len(prefix) >= 4 && prefix[0]&0xf0 == 0x50 && string(prefix[1:4]) == "\x2a\x4d\x18" {
		return FormatZstd // a frame to be skipped stands first
	}
	if isTarBlock(prefix) {
		return FormatTar
	}
	return FormatUnknown
}

// isTarBlock says whether b begins with a header or a zero block.
func isTarBlock(b []byte) bool {
	if len(b) < blockSize {
		return false
	}
	block := (*[blockSize]byte)(b)
	return validSum(block) || *block == [blockSize]byte{}
}

// Decompress finds out the format of r, and returns a reader of the uncompressed bytes.
// A stream that is not compressed is passed on as it is, also if its format is
// [FormatUnknown]: whether that is an error is for the caller to say. The reader's errors
// take the place of io.EOF, so a stream that ends with io.EOF had right checksums and was
// complete. Decompress never reads ahead of what it needs by more than a buffer; it does not
// close r.
//
// Of gzip all members are read; zero bytes behind the last, which some programs write as
// padding, are dropped, other bytes are an error. Of zstd all frames are read; those that
// need a dictionary or a window over [zstd.MaxWindow] are errors. A stream without bytes is an
// error wrapping [ErrEmpty]; xz, lz4 and zip are errors wrapping [ErrUnsupported] that say
// what to do.
func Decompress(r io.Reader) (io.Reader, Format, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	prefix, err := br.Peek(SniffLen)
	if err != nil && err != io.EOF {
		return nil, FormatUnknown, err
	}
	if len(prefix) == 0 {
		return nil, FormatUnknown, ErrEmpty
	}
	format := Sniff(prefix)
	switch format {
	case FormatGzip:
		zr, err := gunzip.NewReader(br)
		if err != nil {
			return nil, format, fmt.Errorf("gzip: %w", err)
		}
		return &errorReader{zr, "gzip"}, format, nil
	case FormatBzip2:
		return &errorReader{bzip2.NewReader(br), "bzip2"}, format, nil
	case FormatZstd:
		return &errorReader{zstd.NewReader(br), "zstd"}, format, nil
	case FormatXz, FormatLz4: // decoders would go here
		return nil, format, fmt.Errorf("%s %w: decompress it first, as with `%s -dc`", format, ErrUnsupported, format)
	case FormatZip:
		return nil, format, fmt.Errorf("zip %w: unpack it, and use the directory", ErrUnsupported)
	}
	return br, format, nil
}

// An errorReader says which format an error is about.
type errorReader struct {
	r    io.Reader
	what string
}

func (e *errorReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", e.what, err)
	}
	return n, err
}
