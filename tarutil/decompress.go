package tarutil

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"ocikit/tarutil/gunzip"
	"ocikit/tarutil/zstd"
)

// A Format is what a stream is, by its first bytes.
type Format int

// The formats that [Sniff] knows. Not all of them can be read; see [Decompress].
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

// Sniff tells a format by the first bytes of a stream: [SniffLen] of them, or all if there are fewer.
// A tar is known by a header with a right checksum or a block of zeros. That counts more than the magic
// of another format, which the name of a tar's first entry may look like.
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
		return FormatZstd // a skippable frame stands first (RFC 8878, section 3.1.2)
	}

	if isTarBlock(prefix) {
		return FormatTar
	}

	return FormatUnknown
}

// isTarBlock reports whether b begins with a header or a zero block.
func isTarBlock(b []byte) bool {
	if len(b) < blockSize {
		return false
	}
	block := (*[blockSize]byte)(b)
	return validSum(block) || *block == [blockSize]byte{}
}

// Decompress finds out the format of r, and returns a reader of the uncompressed bytes. A stream that
// is not compressed is passed on as it is, also if its format is [FormatUnknown]: whether that is an
// error is for the caller to say. The reader returns io.EOF only if the stream was complete and all
// checksums were right. It may read ahead of what it needs by a buffer. Nothing closes r.
//
// All members of a gzip stream are read. Zero bytes behind the last, which some programs write as
// padding, are dropped, and other bytes there are an error. All frames of a zstd stream are read; one
// that needs a dictionary or a window over [zstd.MaxWindow] is an error. A stream without bytes is an
// error wrapping [ErrEmpty]. xz, lz4 and zip are errors wrapping [ErrUnsupported], which tell the user
// what to do.
func Decompress(r io.Reader) (io.Reader, Format, error) {
	// All that was looked at stays in this reader, for the one that decompresses.
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

// IsUnsupported reports whether a stream was refused for what it needs and is not here: its compression,
// a window that large, a dictionary.
func IsUnsupported(err error) bool {
	return errors.Is(err, ErrUnsupported) || errors.Is(err, zstd.ErrUnsupported)
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
