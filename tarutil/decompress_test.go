package tarutil

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"ocikit/tarutil/internal/tartest"
)

// zstdRaw returns data as a frame of zstd that is not compressed.
func zstdRaw(data []byte) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0} // a window of 1 KiB
	for len(data) > 1000 {
		out = append(append(out, 0x40, 0x1f, 0), data[:1000]...)
		data = data[1000:]
	}
	return append(append(out, byte(len(data)<<3|1), byte(len(data)>>5), 0), data...)
}

// bzip2Hello is "hello\n" as bzip2 has it.
const bzip2Hello = "QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi"

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestDecompress(t *testing.T) {
	data, _ := sampleTar(t)
	gz := tartest.Gzipped(t, data)
	bz, err := base64.StdEncoding.DecodeString(bzip2Hello)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := data[:700], data[700:701], data[701:]
	badSum := bytes.Clone(gz)
	badSum[len(badSum)-5] ^= 1
	tests := []struct {
		name   string
		data   []byte
		format Format
		want   []byte
		fails  bool
	}{
		{"tar", data, FormatTar, data, false},
		{"end marker only", zeros[:], FormatTar, zeros[:], false},
		{"text", []byte("hello"), FormatUnknown, []byte("hello"), false},
		{"gzip", gz, FormatGzip, data, false},
		{"three members, split within entries", join(tartest.Gzipped(t, a), tartest.Gzipped(t, b), tartest.Gzipped(t, c)), FormatGzip, data, false},
		{"empty member", join(tartest.Gzipped(t, nil), gz), FormatGzip, data, false},
		{"zeros behind gzip", join(gz, zeros[:512]), FormatGzip, data, false},
		{"junk behind gzip", join(gz, []byte("junk")), FormatGzip, data, true},
		{"junk behind zeros", join(gz, zeros[:9], gz), FormatGzip, data, true},
		{"wrong CRC", badSum, FormatGzip, data, true},
		{"cut gzip", gz[:len(gz)/2], FormatGzip, nil, true},
		{"cut in the trailer", gz[:len(gz)-1], FormatGzip, data, true},
		{"cut in the second header", join(gz, gz[:5]), FormatGzip, data, true},
		{"zstd", zstdRaw(data), FormatZstd, data, false},
		{"two frames of zstd", join(zstdRaw(a), zstdRaw(b), zstdRaw(c)), FormatZstd, data, false},
		{"zeros behind zstd", join(zstdRaw(data), zeros[:512]), FormatZstd, data, true},
		{"cut zstd", zstdRaw(data)[:600], FormatZstd, nil, true},
		{"bzip2", bz, FormatBzip2, []byte("hello\n"), false},
		{"cut bzip2", bz[:len(bz)-3], FormatBzip2, nil, true},
	}
	for _, tt := range tests {
		for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
			r, format, err := Decompress(wrap(bytes.NewReader(tt.data)))
			if err != nil || format != tt.format {
				t.Fatalf("%s: %v, %v, want %v", tt.name, format, err, tt.format)
			}
			got, err := io.ReadAll(r)
			if (err != nil) != tt.fails || tt.want != nil && !bytes.Equal(got, tt.want) {
				t.Errorf("%s: %d bytes, %v, want %d bytes, fails=%v", tt.name, len(got), err, len(tt.want), tt.fails)
			}
		}
	}
	r, _, _ := Decompress(bytes.NewReader(gz))
	if err := iotest.TestReader(r, data); err != nil {
		t.Error(err)
	}
}

func TestDecompressRefuses(t *testing.T) {
	for format, magic := range map[Format]string{
		FormatXz: "\xfd7zXZ\x00..", FormatLz4: "\x04\x22\x4d\x18", FormatZip: "PK\x03\x04",
	} {
		_, got, err := Decompress(strings.NewReader(magic))
		if got != format || !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), format.String()) {
			t.Errorf("%v: got %v, %v", format, got, err)
		}
	}
	if got := Sniff([]byte("\x5a\x2a\x4d\x18....")); got != FormatZstd {
		t.Errorf("skippable frame: %v", got)
	}
	if _, _, err := Decompress(strings.NewReader("")); !errors.Is(err, ErrEmpty) {
		t.Errorf("no bytes: %v", err)
	}
	if _, _, err := Decompress(iotest.ErrReader(tartest.ErrFault)); !errors.Is(err, tartest.ErrFault) {
		t.Errorf("broken reader: %v", err)
	}
	if _, _, err := Decompress(strings.NewReader("\x1f\x8b")); err == nil {
		t.Error("two bytes of gzip: no error")
	}
}
