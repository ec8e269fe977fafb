package tarutil_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"

	"ocikit/tarutil"
)

// The bytes of a tar depend on its headers and contents alone.
func ExampleWriter() {
	var buf bytes.Buffer
	tw := tarutil.NewWriter(&buf)
	err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/motd", Mode: 0o644, Size: 6})
	if err == nil {
		_, err = io.WriteString(tw, "hello\n")
	}

	// Close writes the end of the tar, so it is called only if all went well.
	if err == nil {
		err = tw.Close()
	}
	fmt.Println(buf.Len(), err)
	// Output: 2048 <nil>
}

// A Checker says whether the tar that flowed past was whole.
func ExampleChecker() {
	var buf bytes.Buffer
	tw := tarutil.NewWriter(&buf)
	tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "etc", Mode: 0o755})

	c := &tarutil.Checker{}
	io.Copy(c, &buf) // the two zero blocks of Close are missing
	err := c.Close()
	fmt.Println(c.Entries(), errors.Is(err, tarutil.ErrTruncated))
	// Output: 1 true
}

// A stream is sniffed and decompressed, whatever its name says.
func ExampleDecompress() {
	zeros := bytes.NewReader(make([]byte, 1024)) // a tar without entries
	r, format, err := tarutil.Decompress(zeros)
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := io.Copy(io.Discard, r)
	fmt.Println(format, n, err)
	// Output: tar 1024 <nil>
}

// Patterns mean what they mean in a .dockerignore file.
func ExampleNewMatcher() {
	m, err := tarutil.NewMatcher([]string{"**/*.log", "!keep.log"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"a/b.log", "keep.log", "a/b.txt"} {
		fmt.Println(name, m.Match(name))
	}
	// Output:
	// a/b.log true
	// keep.log false
	// a/b.txt false
}
